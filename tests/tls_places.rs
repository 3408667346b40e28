//! The places for clients with TLS, over the whole relay: never more than there are, and none for those who
//! only hold them (SEC-dos-a, SEC-dos-e).

mod disk;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use disk::Disk;
use postern::config::Config;
use postern::limits::{RECEIVER_SESSIONS, TLS_CONNECTIONS};
use postern::receiver::{EVICT_AFTER, HANDSHAKE_TIMEOUT, Peer};
use postern::relay::{Connection, Relay};
use postern::sender::TlsFault;
use postern::spool::{Start, Store};
use postern::time::{Instant, Now, Wall};

const CONFIG: &str = "hostname = \"relay.example\"\n\
                      listen = [{ address = \"127.0.0.1:25\", tls = \"starttls\" },\n\
                      { address = \"127.0.0.1:465\", tls = \"implicit\" }]\n\
                      [listener_tls]\ncertificate = \"/etc/postern.pem\"\nkey = \"/etc/postern.key\"\n\
                      [smarthost]\nhost = \"192.0.2.25\"\ntls = \"none\"\n";
const STARTTLS: u8 = 0;
const IMPLICIT: u8 = 1;

struct World {
    relay: Relay<Disk>,
    now: Now,
}

impl World {
    fn new() -> Self {
        let now = Now { instant: Instant(1000), wall: Wall { unix_s: 1_795_510_800, is_trusted: true } };
        let config = Config::parse(CONFIG, Path::new("postern.toml"), "relay").expect("the file is valid");
        assert_eq!(config.tls_clients_max(), TLS_CONNECTIONS);
        let start = Start { blocks: 256, seed: 1, now: now.instant };
        let (spool, _) = Store::start(Disk::new(0), start).expect("an empty disk becomes a spool");
        Self { relay: Relay::new(config, spool, 1), now }
    }

    fn admit(&mut self, listener: u8) -> Connection {
        let peer = Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST), true).by(listener);
        self.relay.admit(&self.now, peer).expect("there is room")
    }

    /// What the relay says by now, all read.
    fn hear(&mut self, at: Connection) -> String {
        let mut heard = String::new();
        while !self.relay.output(at).is_empty() {
            let output = self.relay.output(at).to_vec();
            heard += &String::from_utf8(output.clone()).expect("replies are ASCII");
            self.relay.sent(&self.now, at, output.len());
        }
        heard
    }

    fn say(&mut self, at: Connection, octets: &[u8]) -> String {
        self.hear(at);
        self.relay.space(at)[..octets.len()].copy_from_slice(octets);
        self.relay.filled(&self.now, at, octets.len());
        self.hear(at)
    }

    fn shake_hands(&mut self, at: Connection) {
        assert!(self.relay.wants_tls(at) && self.relay.space(at).is_empty());
        self.relay.tls_started(&self.now, at);
    }

    /// As many clients with TLS as there are places, of both kinds.
    fn crowd(&mut self) -> Vec<Connection> {
        let mut clients = Vec::new();
        for number in 0..TLS_CONNECTIONS {
            let at = self.admit(number as u8 % 2);
            if number % 2 == 0 {
                assert!(self.say(at, b"EHLO x\r\nSTARTTLS\r\n").ends_with("220 2.0.0 Begin with TLS\r\n"));
            }
            self.shake_hands(at);
            assert_eq!(self.hear(at).starts_with("220 relay.example ESMTP"), number % 2 == 1);
            clients.push(at);
        }
        assert_eq!(self.relay.tls_clients(), TLS_CONNECTIONS);
        clients
    }

    /// What the driver does with connections that are over.
    fn drop_closing(&mut self) -> Vec<Connection> {
        let mut dropped = Vec::new();
        while let Some(at) = self.relay.next_touched() {
            if self.relay.is_closing(at) {
                dropped.push(at);
                self.relay.closed(&self.now, at);
            }
        }
        dropped
    }
}

#[test]
fn one_more_than_there_are_places_is_refused_while_all_go_on() {
    let mut world = World::new();
    let clients = world.crowd();
    if RECEIVER_SESSIONS < TLS_CONNECTIONS + 2 {
        return;
    }
    let late = world.admit(STARTTLS);
    let heard = world.say(late, b"EHLO x\r\nSTARTTLS\r\nNOOP\r\n");
    assert!(
        heard.ends_with("454 4.7.0 Too many clients speak TLS now, try later\r\n250 2.0.0 OK\r\n"),
        "{heard}"
    );
    let implicit = world.admit(IMPLICIT);
    assert!(world.relay.is_closing(implicit));
    assert_eq!(world.hear(implicit), "421 4.7.0 relay.example too many clients speak TLS now, try later\r\n");
    world.relay.closed(&world.now, implicit);
    assert!(world.say(clients[0], b"QUIT\r\n").starts_with("221"));
    world.relay.closed(&world.now, clients[0]);
    assert!(world.say(late, b"STARTTLS\r\n").starts_with("220"));
    assert_eq!(world.relay.tls_clients(), TLS_CONNECTIONS);
}

#[test]
fn the_one_without_progress_for_longest_leaves_and_its_place_is_free_when_it_is_gone() {
    let mut world = World::new();
    let clients = world.crowd();
    world.now.instant = world.now.instant + EVICT_AFTER;
    for client in &clients[1..] {
        world.say(*client, b"EHLO y\r\n");
    }
    world.drop_closing();
    let late = world.admit(STARTTLS);
    // Nothing is said yet, and there are not more than there may be.
    assert!(world.say(late, b"EHLO x\r\nSTARTTLS\r\nNOOP\r\n").ends_with("250 HELP\r\n"));
    assert_eq!(world.relay.tls_clients(), TLS_CONNECTIONS);
    assert!(
        world.relay.is_overdue(&world.now, clients[0]) && world.hear(clients[0]).starts_with("421 4.3.2")
    );
    assert_eq!(world.drop_closing(), [clients[0]]);
    assert_eq!(world.hear(late), "220 2.0.0 Begin with TLS\r\n");
    world.shake_hands(late);
    assert_eq!(world.relay.tls_clients(), TLS_CONNECTIONS);
    // What was said in plain is gone.
    assert_eq!(world.say(late, b"NOOP\r\n"), "250 2.0.0 OK\r\n");
}

#[test]
fn a_handshake_that_stalls_or_fails_gives_its_place_back() {
    let mut world = World::new();
    let stalled = world.admit(IMPLICIT);
    assert!(world.relay.wants_tls(stalled) && world.relay.deadline(world.now.instant).is_some());
    world.now.instant = world.now.instant + HANDSHAKE_TIMEOUT;
    world.relay.expire(&world.now);
    assert_eq!(world.drop_closing(), [stalled]);
    let failed = world.admit(IMPLICIT);
    world.relay.tls_failed(&world.now, failed, TlsFault::Handshake);
    assert!(world.relay.is_closing(failed) && world.relay.output(failed).is_empty());
    world.relay.closed(&world.now, failed);
    assert_eq!(world.relay.tls_clients(), 0);
}
