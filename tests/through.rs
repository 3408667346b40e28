//! Mail through the whole relay, from a client's octets to the smarthost's: the trace field, the seed's
//! scenario of a relay, and clients side by side.

mod disk;

use std::net::IpAddr;
use std::path::Path;

use disk::Disk;
use postern::config::Config;
use postern::limits::RECEIVER_SESSIONS;
use postern::receiver::Peer;
use postern::relay::{Connection, Relay, Room};
use postern::spool::{Start, Store};
use postern::time::{Duration, Instant, Now, Wall};

struct World {
    relay: Relay<Disk>,
    disk: Disk,
    config: Config,
    now: Now,
}

const TRUSTED: Wall = Wall { unix_s: 1_795_510_800, is_trusted: true };
const BLOCKS: u32 = 256;

fn relay(disk: &Disk, config: &Config, now: &Now) -> Relay<Disk> {
    let start = Start { blocks: BLOCKS, seed: 1, now: now.instant };
    let (spool, _) = Store::start(disk.clone(), start).expect("the disk works");
    Relay::new(config.clone(), spool, 1)
}

impl World {
    fn new(config: &str) -> Self {
        Self::at(TRUSTED, &format!("quirks.missing_fields = false\n{config}"))
    }

    /// The same while the wall clock says this.
    fn at(wall: Wall, config: &str) -> Self {
        let smarthost = "[smarthost]\nhost = \"192.0.2.25\"\ntls = \"none\"\n";
        let toml = format!("hostname = \"relay.example\"\n{config}\n{smarthost}");
        let config = Config::parse(&toml, Path::new("postern.toml"), "relay").expect("the file is valid");
        let now = Now { instant: Instant(1000), wall };
        let disk = Disk::new(0);
        Self { relay: relay(&disk, &config, &now), disk, config, now }
    }

    /// The board stops and starts: its clocks begin again.
    fn restart(&mut self, wall: Wall) {
        self.relay.close(&self.now);
        self.now = Now { instant: Instant(500), wall };
        self.relay = relay(&self.disk, &self.config, &self.now);
    }

    /// So much time goes by, with a turn a minute.
    fn pass(&mut self, span: Duration) {
        for _ in 0..span.0 / 60_000 {
            self.now.instant = self.now.instant + Duration::from_min(1);
            self.now.wall.unix_s += 60;
            self.relay.turn(&self.now);
            self.relay.expire(&self.now);
        }
    }

    fn admit(&mut self, address: &str) -> Connection {
        let address: IpAddr = address.parse().expect("an address");
        self.relay.admit(&self.now, Peer::new(address, true)).expect("there is room")
    }

    /// Puts `octets` in, turns until nothing moves, and gives what the relay says.
    fn say(&mut self, at: Connection, mut octets: &[u8]) -> String {
        let mut heard = Vec::new();
        for _ in 0..10_000 {
            let space = self.relay.space(at);
            let count = space.len().min(octets.len());
            space[..count].copy_from_slice(&octets[..count]);
            octets = &octets[count..];
            if count > 0 {
                self.relay.filled(&self.now, at, count);
            }
            self.relay.turn(&self.now);
            while self.relay.next_touched().is_some() {}
            let output = self.relay.output(at).to_vec();
            if output.is_empty() && octets.is_empty() {
                return String::from_utf8(heard).expect("mail of the tests is UTF-8");
            }
            heard.extend_from_slice(&output);
            self.relay.sent(&self.now, at, output.len());
        }
        panic!("it never ends");
    }

    /// One message by a client that waits for nothing.
    fn submit(&mut self, at: Connection, paths: &str, data: &str) {
        let said = format!("{paths}DATA\r\n{data}.\r\n");
        let heard = self.say(at, said.as_bytes());
        assert!(heard.lines().last().is_some_and(|line| line.starts_with("250 2.0.0 Queued")), "{heard}");
    }

    /// What the smarthost hears of all waiting mail: commands, and mail data as it is on the wire.
    fn deliver(&mut self) -> String {
        let at = self.relay.wants_connection(&self.now).expect("mail waits");
        self.relay.connected(&self.now, at, "192.0.2.1".parse().expect("an address"));
        let mut heard = self.say(at, b"220 smarthost.example.net\r\n");
        heard += &self
            .say(at, b"250-smarthost.example.net\r\n250-PIPELINING\r\n250-SIZE 9999999\r\n250 8BITMIME\r\n");
        let recipients = heard.matches("RCPT TO:").count();
        heard += &self.say(
            at,
            ["250 fine\r\n".repeat(1 + recipients).as_bytes(), b"354 go on\r\n"].concat().as_slice(),
        );
        heard += &self.say(at, b"250 taken\r\n");
        heard
    }
}

/// SEED-D.3: step 1 in gives step 2 out, the trace field on top, and the path as RFC 5321 has it
/// (S-4.1.1.3-a, S-4.1.1.3-b, C-3.6.1-a, SEED-C-b). S-4.4-a, S-4.4-b, S-4.4-c, S-4.4-d, S-4.4-e, S-4.4-f,
/// SEED-F.5-a, SEED-7.2-a, S-7.2-a, S-3.6.3-a, S-4.2.5-b.
#[test]
fn the_relay_scenario() {
    let mut world = World::new("");
    let client = world.admit("192.0.2.7");
    world.say(client, b"EHLO bar.example\r\n");
    let paths = "MAIL FROM:<JQP@bar.example>\r\nRCPT TO:<@relay.example:Jones@XYZ.example>\r\nRCPT TO:<b@c.example>\r\n";
    let data = "Received: from x by y; z\r\nDate: Thu, 21 May 1998 05:33:29 -0700\r\nFrom: John Q. Public <JQP@bar.example>\r\n\
                To: Jones@xyz.example\r\n\r\nGetting together\r\n..a\r\n";
    world.submit(client, paths, data);
    let heard = world.deliver();
    let (commands, mail) = heard.split_once("DATA\r\n").expect("mail data");
    assert!(commands.contains("MAIL FROM:<JQP@bar.example> SIZE="), "{commands}");
    assert!(commands.contains("RCPT TO:<Jones@XYZ.example>\r\nRCPT TO:<b@c.example>\r\n"), "{commands}");
    let field = "Received: from bar.example ([192.0.2.7])\r\n\tby relay.example with ESMTP id ";
    let rest = mail.strip_prefix(field).expect("the trace field on top");
    let (id, rest) = rest.split_once(";\r\n\tTue, 24 Nov 2026 09:00:00 +0000\r\n").expect("id and date");
    assert!(id.bytes().all(|octet| octet.is_ascii_hexdigit() || octet == b'-'), "{id}");
    assert_eq!(rest, format!("{data}.\r\n"));
    assert!(!mail[..field.len() + 80].to_ascii_lowercase().contains(" for "), "{mail}");
}

/// S-4.4-c, S-4.4-j: long names are folded, IPv6 clients have a tag.
#[test]
fn the_trace_field_is_folded() {
    let mut world = World::new("");
    let client = world.admit("2001:db8::1");
    let name = ["a".repeat(50).as_str(), ".example"].concat();
    world.say(client, format!("HELO {name}\r\n").as_bytes());
    world.submit(client, "MAIL FROM:<>\r\nRCPT TO:<b@c.example>\r\n", "x: y\r\n");
    let heard = world.deliver();
    let field = format!(
        "DATA\r\nReceived: from {name}\r\n\t([IPv6:2001:db8::1])\r\n\tby relay.example with SMTP id "
    );
    assert!(heard.contains(&field), "{heard}");
    assert!(heard.contains("MAIL FROM:<>"), "{heard}");
    let lines = heard.lines().skip_while(|line| !line.starts_with("Received"));
    assert!(lines.take(4).all(|line| line.len() <= 78), "{heard}");
}

/// C-4.5.4.1-g, HDR-a, HDR-c, SUB-a: the clock jumps from 1970 to 2026, and to 2036, with mail in the queue,
/// before and after a restart: nothing expires or bounces, and the dates that are added are right: those of
/// the reception.
#[test]
fn the_clock_jumps_with_mail_in_the_queue() {
    const UNSET: Wall = Wall { unix_s: 1000, is_trusted: false };
    const LATER: Wall = Wall { unix_s: 2_088_000_000, is_trusted: true };
    for (before, restarts_at, after, date) in [
        (UNSET, None, TRUSTED, "Tue, 24 Nov 2026 08:50:00"),
        (UNSET, Some(UNSET), TRUSTED, "Tue, 24 Nov 2026 08:45:00"),
        (UNSET, Some(TRUSTED), TRUSTED, "Tue, 24 Nov 2026 08:45:00"),
        (UNSET, None, LATER, "Sat, 01 Mar 2036 15:50:00"),
        (UNSET, Some(LATER), LATER, "Sat, 01 Mar 2036 15:45:00"),
        (TRUSTED, None, LATER, "Tue, 24 Nov 2026 09:00:00"),
        (TRUSTED, Some(LATER), LATER, "Tue, 24 Nov 2026 09:00:00"),
        (LATER, Some(UNSET), TRUSTED, "Sat, 01 Mar 2036 16:00:00"),
        (UNSET, None, UNSET, ""),
    ] {
        let mut world = World::at(before, "admin = \"admin@b.example\"\nretry.give_up = \"1h\"");
        let client = world.admit("192.0.2.7");
        world.say(client, b"EHLO ups\r\n");
        let paths = "MAIL FROM:<a@b.example>\r\nRCPT TO:<b@c.example>\r\n";
        world.submit(client, paths, "From: a@b.example\r\n\r\nx\r\n");
        world.pass(Duration::from_min(10));
        if let Some(wall) = restarts_at {
            world.restart(wall);
            world.pass(Duration::from_min(5));
        }
        world.now.wall = after;
        let heard = world.deliver();
        let (_, mail) = heard.split_once("DATA\r\n").expect("mail data");
        let case = format!("{before:?}, {restarts_at:?}, {after:?}: {mail}");
        let dated = format!("\r\n\t{date} +0000\r\nFrom: a@b.example\r\n");
        assert!(mail.contains(&dated) || date.is_empty(), "{case}");
        assert_eq!(
            mail.matches(&format!("\r\nDate: {date} +0000\r\n")).count(),
            usize::from(!date.is_empty())
        );
        assert_eq!(mail.contains("Date:"), !date.is_empty(), "{case}");
        assert_eq!(mail.matches("\r\n\r\nx\r\n").count(), 1, "{case}");
        assert_eq!(heard.matches("MAIL FROM:").count(), 1, "{case}");
        assert_eq!(world.relay.spool().messages().count(), 0, "{case}");
    }
}

/// SEED-7.5-a: names and addresses of the local net can be kept out.
#[test]
fn hidden_clients() {
    let mut world = World::new("sender.hide_received = true");
    let client = world.admit("192.0.2.7");
    world.say(client, b"EHLO secret.lan\r\n");
    world.submit(client, "MAIL FROM:<a@b.example>\r\nRCPT TO:<b@c.example>\r\n", "x: y\r\n");
    let heard = world.deliver();
    assert!(
        heard.contains("DATA\r\nReceived: from hidden.invalid\r\n\tby relay.example with ESMTP id "),
        "{heard}"
    );
    assert!(!heard.contains("secret.lan") && !heard.contains("192.0.2.7"), "{heard}");
}

/// SEC-smug-b, SEC-smug-a, C-2.3.8-b: what was no end of mail data for us is none for the smarthost.
#[test]
fn nothing_leaves_that_another_server_could_take_for_an_end() {
    for inner in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r\n\0.\r\n", "\n.\nMAIL FROM:<x@y>\n"] {
        let mut world = World::new("");
        let client = world.admit("192.0.2.7");
        world.say(client, b"EHLO a.example\r\n");
        let data = format!("x: y\r\n\r\na{inner}b\r\n");
        world.submit(client, "MAIL FROM:<a@b.example>\r\nRCPT TO:<b@c.example>\r\n", &data);
        let heard = world.deliver();
        let (_, mail) = heard.split_once("DATA\r\n").expect("mail data");
        let body = mail.strip_suffix("\r\n.\r\n").expect("the end");
        assert!(!body.contains("\r\n.\r\n") && !body.replace("\r\n", "").contains(['\r', '\n']), "{mail:?}");
    }
}

/// S-4.5.4.2-a, S-6.1-a: a client that stops in its mail data stops nobody, nor does a smarthost that is
/// away.
#[test]
fn one_slow_session_does_not_stop_another() {
    let mut world = World::new("");
    let slow = world.admit("192.0.2.7");
    world.say(slow, b"EHLO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<b@c.example>\r\nDATA\r\nhalf");
    let quick = world.admit("192.0.2.8");
    world.say(quick, b"EHLO a.example\r\n");
    world.submit(quick, "MAIL FROM:<a@b.example>\r\nRCPT TO:<b@c.example>\r\n", "x\r\n");
    let heard = world.say(slow, b"\r\n.\r\n");
    assert!(heard.starts_with("250 2.0.0 Queued"), "{heard}");
}

/// S-3.1-b, SEC-dos-a: too many sessions of one client are refused in the greeting; a full table makes room.
#[test]
fn a_full_table() {
    let mut world = World::new("limits.sessions_per_client = 1");
    world.admit("192.0.2.7");
    let refused = world.relay.admit(&world.now, Peer::new("192.0.2.7".parse().unwrap(), true)).unwrap_err();
    assert!(refused.starts_with(b"421 4.7.0 "), "{}", refused.escape_ascii());

    let mut world = World::new("");
    for number in 0..RECEIVER_SESSIONS {
        assert_eq!(world.relay.make_room(&world.now), Room::Free);
        let at = world.admit(&format!("192.0.2.{number}"));
        world.say(at, b"");
        // One of them has something to do, and the others say half a command.
        world.say(at, if number == 0 { b"EHLO a.example\r\n" } else { b"EHL" });
    }
    let Room::FreeAt(at) = world.relay.make_room(&world.now) else { panic!("nobody has had his time") };
    assert_eq!(at.since(world.now.instant), Duration(100));
    world.now.instant = at;
    for _ in 1..RECEIVER_SESSIONS {
        let Room::Evicted(worst) = world.relay.make_room(&world.now) else { panic!("all others are stuck") };
        assert_ne!(worst, Connection::Receiver(0));
        assert!(String::from_utf8_lossy(world.relay.output(worst)).starts_with("421 4.3.2 "));
        world.relay.closed(&world.now, worst);
        world.admit("198.51.100.7");
    }
}
