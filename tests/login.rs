//! A login that is refused while much mail waits, over a day of simulated time: nothing is charged to a
//! message, the account is not hammered, and all leaves over one login when the secret is right (AUTH-c-h).
//! And a clock that nobody has set: relaying over TLS waits for it (TLS-c-f).

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use postern::config::Config;
use postern::limits::QUEUED_MESSAGES;
use postern::relay::{Connection, Relay};
use postern::sender::Secret;
use postern::spool::{Envelope, Protocol, Recipient, Start, Store};
use postern::time::{Duration, Instant, Now, Tick, Wall};
use zeroize::Zeroizing;

mod disk;

use disk::Disk;

const CONFIG: &str =
    "[smarthost]\nhost = \"smtp.example.com\"\nuser = \"me\"\npassword_file = \"/etc/secret\"\n";
const MESSAGES: usize = if QUEUED_MESSAGES < 500 { QUEUED_MESSAGES } else { 500 };
const DAY: Duration = Duration::from_s(24 * 3600);
const RIGHT: &[u8] = b"right";

/// The relay, its smarthost, and a clock that jumps from deadline to deadline.
struct World {
    relay: Relay<Disk>,
    now: Now,
    secret: &'static [u8],
    /// The connection, and what of its commands came so far.
    smarthost: Option<(Connection, Vec<u8>)>,
    wants_login: bool,
    is_logged_in: bool,
    is_in_data: bool,
    connections: usize,
    logins: Vec<Instant>,
    relayed: usize,
}

impl World {
    fn new(config: &str, is_trusted: bool) -> Self {
        let wants_login = config.contains("user");
        let config = Config::parse(config, Path::new("postern.toml"), "relay.example.org").expect("valid");
        let now = Now { instant: Instant(1_000_000), wall: Wall { unix_s: 1_800_000_000, is_trusted } };
        let blocks = MESSAGES as u32 + 64;
        let start = Start { blocks, seed: 1, now: now.instant };
        let (mut spool, _) = Store::start(Disk::new(0), start).expect("the disk works");
        let envelope = Envelope {
            client: IpAddr::V4(Ipv4Addr::LOCALHOST).into(),
            client_name: heapless::Vec::new(),
            protocol: Protocol::Esmtp,
            arrival: now.wall,
            reverse_path: heapless::Vec::from_slice(b"camera@example.org").expect("short"),
            body_is_8bit: false,
            utf8: false,
            is_submission: false,
            ret: 0,
            envid: heapless::Vec::new(),
        };
        let forward_path = heapless::Vec::from_slice(b"a@example.net").expect("short");
        let recipient = Recipient { forward_path, ..Recipient::default() };
        for _ in 0..MESSAGES {
            let mut draft = spool.begin(&envelope, None).expect("there is room");
            spool.add_recipient(&mut draft, &recipient).expect("there is room");
            spool.append(&mut draft, b"Subject: door\r\n\r\nopen\r\n").expect("there is room");
            let ended = spool.end(draft, Tick(0)).expect("there is room");
            spool.commit(now.instant);
            let _ = spool.receipt(ended).expect("the disk works");
            while spool.next_committed().is_some() {}
        }
        Self {
            relay: Relay::new(config, spool, 7),
            now,
            secret: b"wrong",
            smarthost: None,
            wants_login,
            is_logged_in: false,
            is_in_data: false,
            connections: 0,
            logins: Vec::new(),
            relayed: 0,
        }
    }

    /// One turn, as the event loop makes it; false when nothing moved.
    fn turn(&mut self) -> bool {
        self.relay.turn(&self.now);
        while self.relay.next_touched().is_some() {}
        self.relay.expire(&self.now);
        if self.smarthost.is_none() {
            let Some(at) = self.relay.wants_connection(&self.now) else { return false };
            self.relay.connected(&self.now, at, IpAddr::V4(Ipv4Addr::LOCALHOST));
            self.smarthost = Some((at, Vec::new()));
            self.is_logged_in = !self.wants_login;
            self.is_in_data = false;
            self.connections += 1;
            self.say(at, b"220 smtp.example.com\r\n");
        }
        let mut has_moved = false;
        while let Some((at, mut commands)) = self.smarthost.take() {
            if self.relay.wants_tls(at) {
                self.relay.tls_started(&self.now, at);
            }
            if self.relay.wants_secret(at) {
                let secret = Secret::new(Zeroizing::new(self.secret.to_vec()));
                self.relay.secret(&self.now, at, secret);
            }
            let output = self.relay.output(at).to_vec();
            if output.is_empty() {
                if self.relay.is_closing(at) {
                    self.relay.closed(&self.now, at);
                    return true;
                }
                self.smarthost = Some((at, commands));
                break;
            }
            has_moved = true;
            commands.extend_from_slice(&output);
            self.relay.sent(&self.now, at, output.len());
            self.smarthost = Some((at, Vec::new()));
            let rest = self.serve(at, commands);
            if let Some((_, commands)) = &mut self.smarthost {
                *commands = rest;
            }
        }
        has_moved
    }

    fn say(&mut self, at: Connection, octets: &[u8]) {
        let space = self.relay.space(at);
        space[..octets.len()].copy_from_slice(octets);
        self.relay.filled(&self.now, at, octets.len());
    }

    /// Answers all whole commands; what is left of the last one.
    fn serve(&mut self, at: Connection, mut commands: Vec<u8>) -> Vec<u8> {
        loop {
            let end: &[u8] = if self.is_in_data { b"\r\n.\r\n" } else { b"\r\n" };
            let Some(place) = commands.windows(end.len()).position(|octets| octets == end) else {
                return commands;
            };
            let command: Vec<u8> = commands.drain(..place + end.len()).collect();
            if std::mem::take(&mut self.is_in_data) {
                self.relayed += 1;
                self.say(at, b"250 taken\r\n");
                continue;
            }
            match &command[..4] {
                b"EHLO" => self.say(at, b"250-a\r\n250-PIPELINING\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n"),
                b"STAR" => self.say(at, b"220 go\r\n"),
                b"AUTH" => {
                    self.logins.push(self.now.instant);
                    self.is_logged_in = self.secret == RIGHT;
                    self.say(at, if self.is_logged_in { b"235 welcome\r\n" } else { b"535 5.7.8 no\r\n" });
                }
                b"QUIT" => {
                    self.relay.closed(&self.now, at);
                    self.smarthost = None;
                    return Vec::new();
                }
                b"DATA" => {
                    self.is_in_data = true;
                    self.say(at, b"354 go on\r\n");
                }
                _ if self.is_logged_in => self.say(at, b"250 fine\r\n"),
                _ => panic!("before the login: {}", command.escape_ascii()),
            }
        }
    }

    /// Time goes by until `until`, from deadline to deadline. How often the relay woke up.
    fn run(&mut self, until: Instant) -> usize {
        let mut turns = 0;
        loop {
            while self.turn() {}
            turns += 1;
            assert!(turns < 1_000_000, "the relay is never idle");
            let due = self.relay.deadline(self.now.instant);
            match due.filter(|due| *due <= until) {
                Some(due) => self.now.instant = due.max(self.now.instant + Duration(1)),
                None => {
                    self.now.instant = until;
                    return turns;
                }
            }
        }
    }
}

#[test]
fn a_wrong_password_costs_no_message_anything() {
    let mut world = World::new(CONFIG, true);
    let start = world.now.instant;
    world.run(start + DAY);
    let logins = world.logins.len();
    println!("{MESSAGES} messages, {logins} logins in a day");
    assert!((20..=30).contains(&logins), "{logins} logins");
    assert_eq!(world.connections, logins, "one connection for each");
    let gaps: Vec<u64> = world.logins.windows(2).map(|pair| pair[1].since(pair[0]).0 / 60_000).collect();
    assert!((11..=19).contains(&gaps[0]) && (22..=38).contains(&gaps[1]), "{gaps:?}");
    assert!(gaps[2..].iter().all(|minutes| (44..=61).contains(minutes)), "{gaps:?}");
    assert!(world.relay.rests_for_login(0));
    assert_eq!(world.relayed, 0);

    // The password is put right. What was charged would wait on; nothing was.
    world.secret = RIGHT;
    world.relay.secret_changed(&world.now, 0);
    let fixed = world.now.instant;
    world.run(fixed + Duration::from_s(1));
    assert_eq!((world.relayed, world.logins.len()), (MESSAGES, logins + 1));
    assert!(!world.relay.rests_for_login(0));
}

#[test]
fn somebody_who_asks_is_obeyed_at_once() {
    let mut world = World::new(CONFIG, true);
    for asked in 1..=5 {
        let soon = world.now.instant + Duration::from_s(1);
        world.run(soon);
        assert_eq!(world.logins.len(), asked);
        world.relay.retry_all(&world.now);
    }
    // A change of the file that nobody waits for is no reason for anything.
    world.secret = RIGHT;
    let later = world.now.instant + Duration::from_s(60);
    world.run(later);
    let logins = world.logins.len();
    world.relay.secret_changed(&world.now, 0);
    let later = world.now.instant + DAY;
    world.run(later);
    assert_eq!((world.relayed, world.logins.len()), (MESSAGES, logins));
}

/// TLS-c-f: no connection is made while certificates can't be judged, and mail leaves as soon as the clock is
/// set.
#[test]
fn an_unset_clock_holds_verified_tls_up() {
    let without_login = "[smarthost]\nhost = \"smtp.example.com\"\n";
    let mut world = World::new(without_login, false);
    let hour = world.now.instant + Duration::from_min(60);
    let turns = world.run(hour);
    assert_eq!((world.connections, world.relayed), (0, 0));
    assert!(turns < 100, "{turns} turns in an hour without anything to do");
    world.now.wall.is_trusted = true;
    world.relay.clock_stepped(&world.now);
    world.turn();
    assert_eq!(world.connections, 1);

    let pinned = "pins = [\"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"]";
    for keys in [pinned, "[clock]\nuntrusted = \"ignore-dates\""] {
        let mut world = World::new(&format!("{without_login}{keys}\n"), false);
        world.turn();
        assert_eq!(world.connections, 1, "{keys}");
    }
}
