//! A client that says anything: the relay answers the same however its octets are cut, and keeps exactly what
//! it said it keeps.

use postern::receiver::{Peer, Users};
use postern::relay::{Connection, Relay};
use postern::sender::TlsFault;
use postern::spool::Memory;
use postern::time::{Duration, Now};

use super::Input;
use super::memory::{assert_even, at, relay};

/// An octet that no command may hold; what follows it is something that happens.
const EVENT: u8 = 0xff;
const EVENTS_MAX: usize = 200;

/// Bits of the first octet.
const AUTH: u8 = 4;
const STARTTLS: u8 = 16;
const IMPLICIT: u8 = 32;
const BAD_HANDSHAKES: u8 = 64;

/// The first octet chooses settings, the second the pieces; the rest is what the client sends, with events in
/// it.
pub(super) fn receiver(octets: &[u8]) {
    let mut input = Input(octets);
    let settings = input.octet();
    let piece = 1 + usize::from(input.octet());
    let whole = converse(settings, usize::MAX, input.0);
    assert_eq!(converse(settings, piece, input.0), whole);
}

fn converse(settings: u8, piece: usize, octets: &[u8]) -> String {
    let mut keys = String::from("limits.spool_share = \"100%\"\n");
    if settings & 1 > 0 {
        keys.push_str("quirks.bare_lf = \"refuse\"\n");
    }
    if settings & 2 > 0 {
        keys.push_str("quirks.missing_fields = false\nquirks.missing_brackets = false\n");
    }
    keys.push_str(&listener(settings));
    if settings & 8 > 0 {
        keys.push_str("domain = \"example.com\"\nrelay_to = [\"example.com\"]\n");
    }
    let mut tables = String::new();
    if settings & AUTH > 0 {
        tables.push_str("[users]\nu = \"/etc/u\"\n");
    }
    if settings & (STARTTLS | IMPLICIT) > 0 {
        tables.push_str("[listener_tls]\ncertificate = \"/etc/c\"\nkey = \"/etc/k\"\n");
    }
    let mut relay = relay(&keys, &tables);
    let mut users = Users::default();
    assert!(users.add(b"u", b"p"), "a user");
    relay.set_users(users);
    let mut now = at(1000);
    let mut transcript = String::new();
    let mut client = admit(&mut relay, &now);
    let mut input = Input(octets);
    for _ in 0..EVENTS_MAX {
        if relay.wants_tls(client) {
            if settings & BAD_HANDSHAKES > 0 {
                relay.tls_failed(&now, client, TlsFault::Handshake);
            } else {
                relay.tls_started(&now, client);
                transcript.push_str("(in TLS)\n");
            }
        }
        say(&mut relay, &now, client, (input.until(EVENT), piece), &mut transcript);
        if input.0.is_empty() {
            break;
        }
        match input.octet() % 4 {
            0 => now.instant = now.instant + Duration::from_s(u64::from(input.octet())),
            1 => relay.expire(&now),
            2 => {
                relay.closed(&now, client);
                client = admit(&mut relay, &now);
            }
            _ => {
                relay.expire(&now);
                hear(&mut relay, &now, client, &mut transcript);
            }
        }
    }
    relay.closed(&now, client);
    assert_even(&mut relay, &mut now);
    let acknowledged = transcript.lines().filter(|line| line.starts_with("250 2.0.0 Queued as")).count();
    let kept = relay.spool().messages().count();
    assert_eq!(kept, acknowledged, "{transcript}");
    transcript
}

/// What the client comes in by.
fn listener(settings: u8) -> String {
    let has_auth = settings & AUTH > 0;
    let more = match settings & (STARTTLS | IMPLICIT) {
        0 if has_auth => ", allow_plaintext_auth = true",
        0 => "",
        STARTTLS => ", tls = \"starttls\"",
        _ => ", tls = \"implicit\"",
    };
    format!("listen = [{{ address = \"127.0.0.1:25\", auth = {has_auth}{more} }}]\n")
}

fn admit(relay: &mut Relay<Memory>, now: &Now) -> Connection {
    relay.admit(now, Peer::new([127, 0, 0, 1].into(), true)).expect("one client has room")
}

/// Sends all of `octets` in pieces, and hears what is said until nothing moves. What comes in plain behind
/// STARTTLS goes nowhere, in one piece or in many.
fn say(
    relay: &mut Relay<Memory>,
    now: &Now,
    at: Connection,
    (mut octets, piece): (&[u8], usize),
    transcript: &mut String,
) {
    for _ in 0..100_000 {
        let space = relay.space(at);
        let count = space.len().min(octets.len()).min(piece);
        space[..count].copy_from_slice(&octets[..count]);
        octets = &octets[count..];
        if count > 0 {
            relay.filled(now, at, count);
        }
        let has_heard = hear(relay, now, at, transcript);
        if relay.is_closing(at) || count == 0 && !has_heard {
            return;
        }
    }
    panic!("it never ends");
}

fn hear(relay: &mut Relay<Memory>, now: &Now, at: Connection, transcript: &mut String) -> bool {
    relay.turn(now);
    while relay.next_touched().is_some() {}
    let before = transcript.len();
    // A last reply may be made when there is room again.
    while !relay.output(at).is_empty() {
        let output = relay.output(at);
        assert!(output.is_ascii(), "{}", output.escape_ascii());
        transcript.push_str(&String::from_utf8_lossy(output));
        relay.sent(now, at, relay.output(at).len());
    }
    transcript.len() > before
}
