//! A smarthost that says anything: whatever it does, the mail is there until it has left or its people are
//! told; a good one that comes after it gets all that waits.

use postern::receiver::Peer;
use postern::relay::{Connection, Relay};
use postern::sender::Secret;
use postern::spool::Memory;
use postern::time::{Duration, Now};

use super::Input;
use super::memory::{assert_even, at, relay};

const EVENT: u8 = 0xff;
const EVENTS_MAX: usize = 200;
/// Connections that a good smarthost may need.
const CONNECTIONS_MAX: usize = 400;

/// The first octet chooses settings, the second the pieces; the rest is what the smarthost sends, with events
/// in it.
pub(super) fn sender(octets: &[u8]) {
    let mut input = Input(octets);
    let settings = input.octet();
    let piece = 1 + usize::from(input.octet());
    let mut now = at(1000);
    let mut relay = spooled(settings, &now);
    let mut line = None;
    for _ in 0..EVENTS_MAX {
        line = line.or_else(|| connect(&mut relay, &now));
        if let Some(at) = line {
            say(&mut relay, &now, at, input.until(EVENT), piece);
        } else {
            input.until(EVENT);
        }
        if input.0.is_empty() {
            break;
        }
        match input.octet() % 4 {
            0 => now.instant = now.instant + Duration::from_s(u64::from(input.octet()) * 30),
            1 => {
                relay.expire(&now);
                relay.turn(&now);
            }
            2 => lose(&mut relay, &now, &mut line),
            _ => now.instant = now.instant + Duration::from_min(u64::from(input.octet())),
        }
        if line.is_some_and(|at| relay.is_closing(at)) {
            lose(&mut relay, &now, &mut line);
        }
    }
    lose(&mut relay, &now, &mut line);
    drain(&mut relay, &mut now);
    assert_even(&mut relay, &mut now);
    assert_eq!(relay.spool().balance().in_messages, 0, "all has left");
}

/// A relay with two messages in its spool.
fn spooled(settings: u8, now: &Now) -> Relay<Memory> {
    let mut smarthost = String::new();
    if settings & 1 > 0 {
        smarthost.push_str("user = \"u\"\npassword_file = \"/etc/p\"\nallow_plaintext_auth = true\n");
    }
    let discard = ["[]", "[\"pipelining\"]", "[\"chunking\"]", "[\"pipelining\", \"chunking\"]"];
    smarthost.push_str(&format!("discard = {}\n", discard[usize::from(settings >> 1) % discard.len()]));
    let mut relay = relay("limits.spool_share = \"100%\"\n", &smarthost);
    let client = relay.admit(now, Peer::new([127, 0, 0, 1].into(), true)).expect("one client has room");
    let mail = if settings & 8 > 0 { "<>" } else { "<camera@example.org>" };
    let said = format!(
        "EHLO camera\r\nMAIL FROM:{mail}\r\nRCPT TO:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n\
         Subject: one\r\n\r\n..x\r\n.\r\nMAIL FROM:{mail} BODY=8BITMIME\r\nRCPT TO:<c@example.com>\r\n\
         DATA\r\nSubject: two\r\n\r\n{}.\r\nQUIT\r\n",
        "\u{e9}tage\r\n".repeat(if settings & 16 > 0 { 900 } else { 1 })
    );
    let mut octets = said.as_bytes();
    for _ in 0..100_000 {
        let space = relay.space(client);
        let count = space.len().min(octets.len());
        space[..count].copy_from_slice(&octets[..count]);
        octets = &octets[count..];
        if count > 0 {
            relay.filled(now, client, count);
        }
        relay.turn(now);
        let output = relay.output(client).len();
        relay.sent(now, client, output);
        if relay.is_closing(client) {
            break;
        }
    }
    relay.closed(now, client);
    assert_eq!(relay.spool().messages().count(), 2, "both are kept");
    relay
}

fn connect(relay: &mut Relay<Memory>, now: &Now) -> Option<Connection> {
    relay.turn(now);
    let at = relay.wants_connection(now)?;
    relay.connected(now, at, [192, 0, 2, 1].into());
    Some(at)
}

fn lose(relay: &mut Relay<Memory>, now: &Now, line: &mut Option<Connection>) {
    if let Some(at) = line.take() {
        relay.closed(now, at);
        relay.turn(now);
    }
}

/// Sends `octets` in pieces as far as the relay reads, and takes all that it writes.
fn say(relay: &mut Relay<Memory>, now: &Now, at: Connection, mut octets: &[u8], piece: usize) -> Vec<u8> {
    let mut written = Vec::new();
    for _ in 0..1_000_000 {
        let space = relay.space(at);
        let count = space.len().min(octets.len()).min(piece);
        space[..count].copy_from_slice(&octets[..count]);
        octets = &octets[count..];
        if count > 0 {
            relay.filled(now, at, count);
        }
        if relay.wants_secret(at) {
            let secret = Secret::new(b"p".to_vec().into()).expect("a secret");
            relay.secret(now, at, Ok(secret));
        }
        relay.turn(now);
        while relay.next_touched().is_some() {}
        let output = relay.output(at).to_vec();
        relay.sent(now, at, output.len());
        let is_idle = count == 0 && output.is_empty();
        written.extend(output);
        if is_idle || relay.is_closing(at) {
            return written;
        }
    }
    panic!("it never ends");
}

/// A smarthost that takes everything, until nothing waits.
fn drain(relay: &mut Relay<Memory>, now: &mut Now) {
    for _ in 0..CONNECTIONS_MAX {
        relay.expire(now);
        relay.turn(now);
        if relay.spool().messages().next().is_none() {
            return;
        }
        now.instant = now.instant + Duration::from_min(30);
        if let Some(at) = connect(relay, now) {
            serve(relay, now, at);
            relay.closed(now, at);
        }
    }
    panic!("mail waits for ever: {:?}", relay.spool().balance());
}

fn serve(relay: &mut Relay<Memory>, now: &mut Now, at: Connection) {
    let mut heard = say(relay, now, at, b"220 good\r\n", usize::MAX);
    let mut is_data = false;
    for _ in 0..10_000 {
        let Some(end) = heard.windows(2).position(|pair| pair == b"\r\n") else {
            now.instant = now.instant + Duration::from_s(60);
            relay.expire(now);
            heard.extend(say(relay, now, at, b"", usize::MAX));
            if relay.is_closing(at) {
                return;
            }
            continue;
        };
        let line: Vec<u8> = heard.drain(..end + 2).collect();
        let reply: &[u8] = match &line[..line.len().min(4)] {
            b".\r\n" if is_data => {
                is_data = false;
                b"250 kept\r\n"
            }
            _ if is_data => continue,
            b"EHLO" => b"250-good\r\n250-AUTH PLAIN\r\n250 8BITMIME\r\n",
            b"AUTH" => b"235 in\r\n",
            b"DATA" => {
                is_data = true;
                b"354 go\r\n"
            }
            b"QUIT" => b"221 bye\r\n",
            _ => b"250 ok\r\n",
        };
        heard.extend(say(relay, now, at, reply, usize::MAX));
        if relay.is_closing(at) {
            return;
        }
    }
    panic!("the good smarthost is never left");
}
