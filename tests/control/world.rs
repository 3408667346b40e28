//! A relay over a disk in memory, with one client and a smarthost that the test plays.

use std::net::IpAddr;
use std::path::Path;

use postern::config::Config;
use postern::receiver::Peer;
use postern::relay::{Connection, Relay};
use postern::spool::{Listed, MessageId, Start, Store};
use postern::time::{Duration, Instant, Now, Wall};

use crate::disk::Disk;

pub(crate) const EHLO: &[u8] = b"250-smarthost.example.net\r\n250 SIZE 9999999\r\n";

pub(crate) struct World {
    pub(crate) relay: Relay<Disk>,
    pub(crate) disk: Disk,
    pub(crate) now: Now,
    client: Connection,
}

pub(crate) fn config(lines: &str) -> Config {
    let toml = format!(
        "hostname = \"relay.example\"\nquirks.missing_fields = false\n{lines}\n[smarthost]\nhost = \"192.0.2.25\"\ntls = \"none\"\n"
    );
    Config::parse(&toml, Path::new("postern.toml"), "relay").expect("the file is valid")
}

impl World {
    pub(crate) fn new() -> Self {
        Self::over(Disk::new(0), "")
    }

    pub(crate) fn over(disk: Disk, lines: &str) -> Self {
        let now = Now { instant: Instant(1000), wall: Wall { unix_s: 1_795_510_800, is_trusted: true } };
        let start = Start { blocks: 256, seed: 1, now: now.instant };
        let (spool, _) = Store::start(disk.clone(), start).expect("a spool, or an empty disk");
        let mut relay = Relay::new(config(lines), spool, 1);
        let address: IpAddr = "192.0.2.7".parse().expect("an address");
        let client = relay.admit(&now, Peer::new(address, true)).expect("there is room");
        Self { relay, disk, now, client }
    }

    /// Puts `octets` in, turns until nothing moves, and gives what the relay says.
    pub(crate) fn say(&mut self, at: Connection, mut octets: &[u8]) -> String {
        let mut heard = Vec::new();
        for _ in 0..10_000 {
            let space = self.relay.space(at);
            let count = space.len().min(octets.len());
            space[..count].copy_from_slice(&octets[..count]);
            octets = &octets[count..];
            if count > 0 {
                self.relay.filled(&self.now, at, count);
            }
            self.turn();
            let output = self.relay.output(at).to_vec();
            if output.is_empty() && octets.is_empty() {
                return String::from_utf8(heard).expect("mail of the tests is UTF-8");
            }
            heard.extend_from_slice(&output);
            self.relay.sent(&self.now, at, output.len());
        }
        panic!("it never ends");
    }

    pub(crate) fn turn(&mut self) {
        self.relay.turn(&self.now);
        while self.relay.next_touched().is_some() {}
    }

    /// What the client says, and hears.
    pub(crate) fn hear(&mut self, said: &str) -> String {
        self.say(self.client, said.as_bytes())
    }

    /// One message of the client; its id.
    pub(crate) fn submit(&mut self, paths: &str, data: &str) -> MessageId {
        let said = format!("EHLO ups.example\r\n{paths}DATA\r\n{data}.\r\n");
        let heard = self.say(self.client, said.as_bytes());
        let queued = heard.lines().last().and_then(|line| line.strip_prefix("250 2.0.0 Queued as "));
        let id = queued.unwrap_or_else(|| panic!("{heard}"));
        MessageId::parse(id.as_bytes()).expect("an id")
    }

    pub(crate) fn submit_to(&mut self, recipient: &str) -> MessageId {
        self.submit(
            &format!("MAIL FROM:<ups@site.example>\r\nRCPT TO:<{recipient}>\r\n"),
            "x: y\r\n\r\nz\r\n",
        )
    }

    /// Connects to the smarthost, up to the first MAIL.
    pub(crate) fn connect(&mut self) -> (Connection, String) {
        let at = self.relay.wants_connection(&self.now).expect("mail waits");
        self.relay.connected(&self.now, at, "192.0.2.1".parse().expect("an address"));
        self.say(at, b"220 smarthost.example.net\r\n");
        let heard = self.say(at, EHLO);
        (at, heard)
    }

    pub(crate) fn wait(&mut self, span: Duration) {
        self.now.instant = self.now.instant + span;
        self.turn();
    }

    /// All of a listing from its start.
    pub(crate) fn listed(&self) -> Vec<Listed> {
        let spool = self.relay.spool();
        let mut all: Vec<Listed> = Vec::new();
        loop {
            let batch = spool.list(all.last().copied(), spool.next_id());
            if batch.is_empty() {
                return all;
            }
            all.extend(batch);
        }
    }

    pub(crate) fn ids(&self) -> Vec<MessageId> {
        self.listed().iter().map(|listed| listed.id).collect()
    }

    /// The same disk after the power failed, with what was not durable as `newest` says.
    pub(crate) fn after_power_cut(&self, newest: bool) -> Self {
        let disk = self.disk.fork();
        disk.power_cut(if newest { crate::disk::Choice::Newest } else { crate::disk::Choice::Oldest });
        Self::over(disk, "")
    }
}
