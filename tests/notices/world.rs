//! A whole relay over a disk in memory, with clients that submit and a smarthost that is a policy.
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use postern::config::Config;
use postern::receiver::Peer;
use postern::relay::{Connection, Relay};
use postern::spool::{Start, Store};
use postern::time::{Duration, Instant, Now, Wall};

use crate::disk::Disk;

/// The greeting's extensions unless told otherwise.
pub(crate) const EXTENSIONS: &[&str] = &["PIPELINING", "8BITMIME"];
const TOP: &str = "hostname = \"relay.site.example\"\nadmin = \"admin@example.com\"\n\
                   quirks.missing_fields = false\nlimits.spool_share = \"100%\"\n";
const SMARTHOST: &str = "[smarthost]\nhost = \"192.0.2.25\"\nport = 2525\ntls = \"none\"\n";
const BLOCKS: u32 = 64;

/// What reached the smarthost in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// What stands behind `MAIL FROM:`.
    pub(crate) mail: String,
    /// What stands behind each `RCPT TO:` that was accepted.
    pub(crate) recipients: Vec<String>,
    /// Transparency undone.
    pub(crate) data: Vec<u8>,
}

impl Arrived {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }
}

/// A reply to a command line, or to `.` for the mail data; empty: the connection breaks.
type Policy = Box<dyn FnMut(&str, &Arrived) -> String>;

/// Says yes to everything.
pub(crate) fn yes(line: &str) -> String {
    if line == "DATA" { "354 go on".to_string() } else { "250 2.0.0 ok".to_string() }
}

/// A policy that refuses what begins like one of these, with the reply behind it.
pub(crate) fn refusing(rules: &'static [(&'static str, &'static str)]) -> Policy {
    Box::new(|line, _| {
        let rule = rules.iter().find(|(start, _)| line.starts_with(start));
        rule.map_or_else(|| yes(line), |(_, reply)| (*reply).to_string())
    })
}

pub(crate) struct World {
    pub(crate) relay: Relay<Disk>,
    pub(crate) disk: Disk,
    pub(crate) now: Now,
    pub(crate) extensions: Vec<&'static str>,
    pub(crate) policy: Policy,
    pub(crate) arrived: Vec<Arrived>,
    /// Transactions that got as far as MAIL.
    pub(crate) tried: usize,
    config: Config,
    smarthost: Option<Connection>,
    open: Arrived,
    is_in_data: bool,
    heard: Vec<u8>,
    blocks_free: u32,
}

fn relay(config: &Config, disk: &Disk, now: &Now, blocks: u32) -> Relay<Disk> {
    let start = Start { blocks, seed: 1, now: now.instant };
    let (spool, _) = Store::start(disk.clone(), start).expect("the disk works");
    Relay::new(config.clone(), spool, 1)
}

impl World {
    pub(crate) fn new(policy: Policy) -> Self {
        Self::with(TOP, BLOCKS, policy)
    }

    /// With this in front of the smarthost's table, and so many blocks of spool.
    pub(crate) fn with(top: &str, blocks: u32, policy: Policy) -> Self {
        let text = format!("{top}{SMARTHOST}[retry]\ngive_up = \"1d\"\nhold = \"2d\"\n");
        Self::of(&text, blocks, policy)
    }

    /// With another smarthost behind the first.
    pub(crate) fn with_another(table: &str, policy: Policy) -> Self {
        Self::of(
            &format!("{TOP}[{SMARTHOST}{table}").replacen("[smarthost]", "[smarthost]]", 1),
            BLOCKS,
            policy,
        )
    }

    fn of(text: &str, blocks: u32, policy: Policy) -> Self {
        let config = Config::parse(text, Path::new("postern.toml"), "relay").expect("the file is valid");
        let now = Now { instant: Instant(1000), wall: Wall { unix_s: 1_795_510_800, is_trusted: true } };
        let disk = Disk::new(0);
        let relay = relay(&config, &disk, &now, blocks);
        Self {
            blocks_free: relay.spool().blocks_free(),
            relay,
            disk,
            now,
            extensions: EXTENSIONS.to_vec(),
            policy,
            arrived: Vec::new(),
            tried: 0,
            config,
            smarthost: None,
            open: Arrived::default(),
            is_in_data: false,
            heard: Vec::new(),
        }
    }

    /// The power fails and comes back.
    pub(crate) fn crash(&mut self) {
        self.disk.power_cut(crate::disk::Choice::Oldest);
        self.relay = relay(&self.config, &self.disk, &self.now, self.relay.spool().blocks());
        self.smarthost = None;
        self.is_in_data = false;
        self.heard.clear();
    }

    /// A client submits a message; the replies to all its commands.
    pub(crate) fn submit(&mut self, mail: &str, recipients: &[&str], data: &str) -> Vec<String> {
        let peer = Peer::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), true);
        let at = self.relay.admit(&self.now, peer).expect("there is room");
        let mut commands = vec!["EHLO camera".to_string(), format!("MAIL FROM:{mail}")];
        commands.extend(recipients.iter().map(|recipient| format!("RCPT TO:{recipient}")));
        commands.push("DATA".to_string());
        let mut replies = vec![self.hear(at)];
        for command in commands {
            self.send(at, format!("{command}\r\n").as_bytes());
            replies.push(self.hear(at));
        }
        if replies.last().expect("there is one").starts_with("354") {
            self.send(at, data.as_bytes());
            self.send(at, b".\r\n");
            self.relay.turn(&self.now);
            replies.push(self.hear(at));
        }
        self.relay.closed(&self.now, at);
        replies
    }

    /// The same, which must go well.
    pub(crate) fn alert(&mut self, mail: &str, recipients: &[&str]) {
        let data = "Subject: on battery\r\nMessage-ID: <1@ups>\r\n\r\nThe body.\r\n";
        let replies = self.submit(mail, recipients, data);
        assert!(replies.last().expect("there is one").starts_with("250 2.0.0 Queued"), "{replies:?}");
    }

    fn hear(&mut self, at: Connection) -> String {
        let output = self.relay.output(at).to_vec();
        self.relay.sent(&self.now, at, output.len());
        String::from_utf8(output).expect("replies are ASCII")
    }

    fn send(&mut self, at: Connection, mut octets: &[u8]) {
        while !octets.is_empty() {
            let space = self.relay.space(at);
            let count = space.len().min(octets.len());
            if count == 0 {
                assert!(self.relay.is_closing(at), "the relay stopped reading");
                return;
            }
            space[..count].copy_from_slice(&octets[..count]);
            self.relay.filled(&self.now, at, count);
            octets = &octets[count..];
        }
    }

    /// Turns until nothing moves, with a second between them.
    pub(crate) fn run(&mut self) {
        for _ in 0..60 {
            self.turn();
            self.now.instant = self.now.instant + Duration::from_s(1);
        }
    }

    /// So many turns, without time going by.
    pub(crate) fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.turn();
        }
    }

    /// Lets so much time go by, in steps of a quarter of an hour.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now.instant + span;
        while self.now.instant < end {
            self.run();
            self.now.instant = self.now.instant + Duration::from_min(14);
        }
    }

    fn turn(&mut self) {
        for _ in 0..100 {
            self.relay.turn(&self.now);
            while self.relay.next_touched().is_some() {}
            self.relay.expire(&self.now);
            while self.relay.next_touched().is_some() {}
            if !self.serve() {
                return;
            }
        }
        panic!("the relay doesn't come to rest");
    }

    /// The smarthost answers what it gets; false when there was nothing.
    fn serve(&mut self) -> bool {
        let mut is_busy = false;
        if self.smarthost.is_none() {
            self.smarthost = self.relay.wants_connection(&self.now);
            let Some(at) = self.smarthost else { return false };
            self.relay.connected(&self.now, at, IpAddr::V4(Ipv4Addr::LOCALHOST));
            self.is_in_data = false;
            self.heard.clear();
            self.send(at, b"220 smarthost.example.net\r\n");
            is_busy = true;
        }
        while let Some(at) = self.smarthost {
            let output = self.relay.output(at).to_vec();
            self.relay.sent(&self.now, at, output.len());
            self.heard.extend_from_slice(&output);
            let reply = self.next_reply();
            match reply {
                Some(reply) if reply.is_empty() => {
                    self.relay.closed(&self.now, at);
                    self.smarthost = None;
                }
                Some(reply) => self.send(at, format!("{reply}\r\n").as_bytes()),
                None if output.is_empty() => {
                    if self.relay.is_closing(at) {
                        self.relay.closed(&self.now, at);
                        self.smarthost = None;
                    }
                    break;
                }
                None => {}
            }
            is_busy = true;
        }
        is_busy
    }

    fn next_reply(&mut self) -> Option<String> {
        let end: &[u8] =
            if self.is_in_data && !self.heard.starts_with(b".\r\n") { b"\r\n.\r\n" } else { b"\r\n" };
        let at = self.heard.windows(end.len()).position(|octets| octets == end)? + end.len();
        let taken: Vec<u8> = self.heard.drain(..at).collect();
        if self.is_in_data {
            self.is_in_data = false;
            for line in taken[..taken.len() - 3].split_inclusive(|octet| *octet == b'\n') {
                self.open.data.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            }
            let reply = (self.policy)(".", &self.open);
            if reply.starts_with('2') {
                self.arrived.push(self.open.clone());
            }
            return Some(reply);
        }
        let line = String::from_utf8(taken).expect("commands are ASCII").trim_end().to_string();
        Some(self.command(&line))
    }

    fn command(&mut self, line: &str) -> String {
        if line.starts_with("EHLO") {
            let lines: String = self.extensions.iter().map(|name| format!("250-{name}\r\n")).collect();
            return format!("250-smarthost.example.net\r\n{lines}250 HELP");
        }
        if let Some(mail) = line.strip_prefix("MAIL FROM:") {
            self.tried += 1;
            self.open = Arrived { mail: mail.to_string(), ..Arrived::default() };
            let reply = (self.policy)(line, &self.open);
            if !reply.starts_with('2') {
                self.open.mail.clear();
            }
            return reply;
        }
        if let Some(recipient) = line.strip_prefix("RCPT TO:") {
            if self.open.mail.is_empty() {
                return "503 5.5.1 MAIL first".to_string();
            }
            let reply = (self.policy)(line, &self.open);
            if reply.starts_with('2') {
                self.open.recipients.push(recipient.to_string());
            }
            return reply;
        }
        if line == "DATA" && self.open.recipients.is_empty() {
            return "503 5.5.1 RCPT first".to_string();
        }
        let reply = if matches!(line, "QUIT" | "RSET") { yes(line) } else { (self.policy)(line, &self.open) };
        self.is_in_data = reply.starts_with('3');
        reply
    }

    /// Fails unless no message is left, and no block.
    pub(crate) fn expect_empty(&mut self) {
        assert_eq!(self.relay.spool().messages().count(), 0, "messages are left");
        self.run();
        assert_eq!(self.relay.spool().blocks_free(), self.blocks_free, "blocks are left");
    }
}

/// A notice, taken apart as RFC 6522 says.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) header: String,
    pub(crate) text: String,
    /// The fields of the whole, then of each recipient.
    pub(crate) status: Vec<Vec<(String, String)>>,
    pub(crate) returned: String,
}

impl Notice {
    pub(crate) fn of(arrived: &Arrived) -> Self {
        let text = arrived.text();
        for line in arrived.data.split_inclusive(|octet| *octet == b'\n') {
            let body = line.strip_suffix(b"\r\n").expect("every line ends in CRLF");
            assert!(body.len() <= 998 && !body.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0 | 0x1b)));
        }
        let (header, body) = text.split_once("\r\n\r\n").expect("a header section");
        let unfolded = header.replace("\r\n ", " ");
        let (_, boundary) = unfolded.split_once("boundary=\"").expect("a boundary");
        let delimiter = format!("\r\n--{}", boundary.split('"').next().expect("a closing quote"));
        let body = format!("\r\n{body}");
        let mut parts = body.split(&delimiter);
        assert_eq!(parts.next().map(str::trim), Some(""));
        let mut part = |media_type: &str| {
            let part = parts.next().expect("a part").strip_prefix("\r\n").expect("the end of a boundary");
            let (head, content) = part.split_once("\r\n\r\n").expect("a part's header section");
            assert!(head.starts_with(&format!("Content-Type: {media_type}")), "{head}");
            content.to_string()
        };
        let text = part("text/plain");
        let status = part("message/delivery-status");
        let returned = part("text/rfc822-headers");
        assert_eq!(parts.next(), Some("--\r\n"));
        assert_eq!(parts.next(), None);
        let fields = |block: &str| {
            let unfolded = block.replace("\r\n ", " ");
            let field = |line: &str| {
                let (name, value) = line.split_once(':').expect("a field");
                (name.to_string(), value.trim().to_string())
            };
            unfolded.lines().map(field).collect()
        };
        let status = status.split("\r\n\r\n").map(|block| fields(block.trim_end())).collect();
        Self { header: unfolded, text, status, returned }
    }

    /// The field `name` of the block at `at`.
    pub(crate) fn field(&self, at: usize, name: &str) -> Option<&str> {
        let mut found = self.status[at].iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} stands twice");
        value
    }
}
