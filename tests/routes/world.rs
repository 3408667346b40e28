//! The relay, scripted smarthosts, and a clock that jumps from deadline to deadline.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use postern::config::Config;
use postern::receiver::Peer;
use postern::relay::{Connection, Relay};
use postern::sender::Fault;
use postern::spool::{MessageId, Start, Store};
use postern::time::{Duration, Instant, Now, Wall};

use crate::disk::Disk;

pub(crate) const SECOND: Duration = Duration::from_s(1);
pub(crate) const MINUTE: Duration = Duration::from_min(1);
pub(crate) const HOUR: Duration = Duration::from_min(60);
pub(crate) const DAY: Duration = Duration::from_min(24 * 60);

/// What a smarthost knows of a message when it replies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mail {
    pub(crate) reverse_path: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) data: String,
}

/// The reply to a line, `.` for the end of mail data; without its CRLF, empty: the connection is closed.
pub(crate) type Policy = Box<dyn FnMut(&str, &Mail, Instant) -> String>;

/// A smarthost.
pub(crate) struct Host {
    pub(crate) is_reachable: bool,
    pub(crate) policy: Policy,
    /// When it was connected to, or would have been.
    pub(crate) dialled: Vec<Instant>,
    /// When MAIL came, and from whom.
    pub(crate) tried: Vec<(Instant, String)>,
    pub(crate) taken: Vec<(Instant, Mail)>,
}

/// The answers of a smarthost that takes everything.
pub(crate) fn yes(line: &str) -> String {
    match line.get(..4).unwrap_or(line) {
        "EHLO" => "250-smarthost.example\r\n250-PIPELINING\r\n250 8BITMIME",
        "DATA" => "354 go on",
        "QUIT" => "221 bye",
        _ => "250 2.0.0 ok",
    }
    .to_owned()
}

/// Says `reply` to lines that start with `start`.
pub(crate) fn saying(start: &'static str, reply: &'static str) -> Policy {
    Box::new(move |line, _, _| if line.starts_with(start) { reply.to_owned() } else { yes(line) })
}

pub(crate) fn willing() -> Policy {
    Box::new(|line, _, _| yes(line))
}

struct Link {
    at: Connection,
    host: usize,
    heard: Vec<u8>,
    is_in_data: bool,
    mail: Mail,
}

pub(crate) struct World {
    pub(crate) relay: Relay<Disk>,
    pub(crate) now: Now,
    pub(crate) hosts: Vec<Host>,
    config: Config,
    disk: Disk,
    links: Vec<Link>,
    blocks: u32,
    starts: u64,
}

impl World {
    /// With `keys` on top, and a smarthost for each policy.
    pub(crate) fn new(keys: &str, policies: Vec<Policy>) -> Self {
        let mut text = keys.to_owned();
        for place in 0..policies.len() {
            text += &format!("[[smarthost]]\nhost = \"192.0.2.{place}\"\ntls = \"none\"\n");
        }
        Self::with(&text, policies)
    }

    /// With the whole configuration.
    pub(crate) fn with(text: &str, policies: Vec<Policy>) -> Self {
        let config = Config::parse(text, Path::new("postern.toml"), "relay.example.org").expect("valid");
        let wall = Wall { unix_s: 1_795_000_000, is_trusted: true };
        let now = Now { instant: Instant(1_000_000), wall };
        let disk = Disk::new(0);
        let host = |policy| Host {
            is_reachable: true,
            policy,
            dialled: Vec::new(),
            tried: Vec::new(),
            taken: Vec::new(),
        };
        let blocks = 700;
        let hosts = policies.into_iter().map(host).collect();
        let relay = start(&config, &disk, &now, blocks, 1);
        Self { relay, now, hosts, config, disk, links: Vec::new(), blocks, starts: 1 }
    }

    /// A crash and a new start; the board was off and its boot clock begins anew at `instant`.
    pub(crate) fn restart(&mut self, instant: Instant) {
        self.disk.power_cut(crate::disk::Choice::Oldest);
        self.now.instant = instant;
        self.links.clear();
        self.starts += 1;
        self.relay = start(&self.config, &self.disk, &self.now, self.blocks, self.starts);
    }

    /// Takes a message from a client.
    pub(crate) fn submit(&mut self, from: &str, to: &[&str]) {
        let peer = Peer::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77)), true);
        let at = self.relay.admit(&self.now, peer).expect("there is room");
        let recipients: String = to.iter().map(|to| format!("RCPT TO:<{to}>\r\n")).collect();
        for octets in [
            format!("EHLO camera\r\nMAIL FROM:<{from}>\r\n{recipients}DATA\r\n"),
            format!("Subject: door\r\nFrom: {from}\r\n\r\nopen\r\n.\r\nQUIT\r\n"),
        ] {
            let mut octets = octets.as_bytes();
            while !octets.is_empty() {
                let space = self.relay.space(at);
                let count = octets.len().min(space.len());
                space[..count].copy_from_slice(&octets[..count]);
                self.relay.filled(&self.now, at, count);
                octets = &octets[count..];
                let written = self.relay.output(at).len();
                self.relay.sent(&self.now, at, written);
            }
        }
        self.relay.turn(&self.now);
        while self.relay.next_touched().is_some() {}
        let replies = String::from_utf8_lossy(self.relay.output(at)).into_owned();
        assert!(replies.contains("Queued as"), "{replies}");
        self.relay.closed(&self.now, at);
    }

    pub(crate) fn submit_all(&mut self, count: usize) {
        for _ in 0..count {
            self.submit("camera@example.org", &["a@example.net"]);
        }
    }

    /// Messages in the spool.
    pub(crate) fn waiting(&self) -> usize {
        self.relay.spool().messages().count()
    }

    pub(crate) fn ids(&self) -> Vec<MessageId> {
        let spool = self.relay.spool();
        spool.messages().map(|message| spool.facts(message).id).collect()
    }

    /// How many messages each smarthost has taken.
    pub(crate) fn taken(&self) -> Vec<usize> {
        self.hosts.iter().map(|host| host.taken.len()).collect()
    }

    /// Time goes by, from deadline to deadline.
    pub(crate) fn pass(&mut self, span: Duration) {
        let until = self.now.instant + span;
        for _ in 0..2_000_000 {
            for moves in 0.. {
                assert!(moves < 100_000, "the relay is never idle");
                if !self.turn() {
                    break;
                }
            }
            match self.relay.deadline(self.now.instant).filter(|due| *due <= until) {
                Some(due) => {
                    let next = due.max(self.now.instant + Duration(1));
                    self.now.wall.unix_s += next.since(self.now.instant).0 / 1000;
                    self.now.instant = next;
                }
                None => {
                    self.now.wall.unix_s += until.since(self.now.instant).0 / 1000;
                    self.now.instant = until;
                    return;
                }
            }
        }
        panic!("the relay wakes up without end");
    }

    /// One turn, as the event loop makes it; false when nothing moved.
    fn turn(&mut self) -> bool {
        self.relay.turn(&self.now);
        while self.relay.next_touched().is_some() {}
        self.relay.expire(&self.now);
        while self.relay.next_touched().is_some() {}
        let mut has_moved = false;
        while let Some(at) = self.relay.wants_connection(&self.now) {
            has_moved = true;
            let host = self.relay.smarthost_of(at);
            self.hosts[host].dialled.push(self.now.instant);
            if !self.hosts[host].is_reachable {
                self.relay.not_connected(&self.now, at, Fault::Connect);
                continue;
            }
            self.relay.connected(&self.now, at, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200)));
            let link = Link { at, host, heard: Vec::new(), is_in_data: false, mail: Mail::default() };
            let greeting = (self.hosts[host].policy)("", &link.mail, self.now.instant);
            let greeting =
                if greeting.starts_with("250") { "220 smarthost.example".to_owned() } else { greeting };
            self.links.push(link);
            self.say(at, &greeting);
        }
        for place in (0..self.links.len()).rev() {
            has_moved |= self.serve(place);
        }
        has_moved
    }

    fn say(&mut self, at: Connection, line: &str) {
        for octets in format!("{line}\r\n").as_bytes().chunks(256) {
            let space = self.relay.space(at);
            if space.len() < octets.len() {
                return;
            }
            space[..octets.len()].copy_from_slice(octets);
            self.relay.filled(&self.now, at, octets.len());
        }
    }

    fn serve(&mut self, place: usize) -> bool {
        let at = self.links[place].at;
        let output = self.relay.output(at).to_vec();
        self.relay.sent(&self.now, at, output.len());
        self.links[place].heard.extend_from_slice(&output);
        let mut has_moved = !output.is_empty();
        while let Some(reply) = self.next_reply(place) {
            has_moved = true;
            let is_over = reply.is_empty() || reply.starts_with("221") || reply.starts_with("421");
            if !reply.is_empty() {
                self.say(at, &reply);
            }
            if is_over || self.relay.is_closing(at) {
                self.relay.closed(&self.now, at);
                self.links.remove(place);
                return true;
            }
        }
        if !has_moved && self.relay.is_closing(at) {
            self.relay.closed(&self.now, at);
            self.links.remove(place);
            return true;
        }
        has_moved
    }

    fn next_reply(&mut self, place: usize) -> Option<String> {
        let link = &mut self.links[place];
        let host = &mut self.hosts[link.host];
        let end: &[u8] = if link.is_in_data { b"\r\n.\r\n" } else { b"\r\n" };
        let length = link.heard.windows(end.len()).position(|octets| octets == end)? + end.len();
        let octets: Vec<u8> = link.heard.drain(..length).collect();
        let text = String::from_utf8_lossy(&octets).into_owned();
        let now = self.now.instant;
        if std::mem::take(&mut link.is_in_data) {
            link.mail.data = text;
            let reply = (host.policy)(".", &link.mail, now);
            if reply.starts_with('2') {
                host.taken.push((now, link.mail.clone()));
            }
            return Some(reply);
        }
        let line = text.trim_end();
        let address = || line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        if line.starts_with("MAIL") {
            link.mail = Mail { reverse_path: address(), ..Mail::default() };
            host.tried.push((now, address()));
        }
        let is_void = line == "DATA" && link.mail.recipients.is_empty();
        let reply =
            if is_void { "503 5.5.1 RCPT first".to_owned() } else { (host.policy)(line, &link.mail, now) };
        if line.starts_with("RCPT") && reply.starts_with('2') {
            link.mail.recipients.push(address());
        }
        link.is_in_data = reply.starts_with('3');
        Some(reply)
    }
}

fn start(config: &Config, disk: &Disk, now: &Now, blocks: u32, seed: u64) -> Relay<Disk> {
    let start = Start { blocks, seed, now: now.instant };
    let (spool, _) = Store::start(disk.clone(), start).expect("the disk works");
    Relay::new(config.clone(), spool, seed)
}
