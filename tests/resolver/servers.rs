//! The resolver over sockets, with servers on loopback that misbehave.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use mio::{Events, Poll};
use postern::net::clock;
use postern::net::resolver::servers::Servers;
use postern::net::resolver::{Lookup, NAMES_MAX, NameIndex, Resolver, Source};
use postern::sender::Unresolved;
use postern::time::{Duration, Instant};

use crate::wire::{self, Record, Reply, address, alias};

const HOST: &str = "smtp.example.com";
const FIRST_TOKEN: usize = 7;
/// Long enough for a good server on a busy machine.
const TIMEOUT: Duration = Duration::from_s(5);
/// Short enough to wait out dead ones.
const TIMEOUT_OF_DEAD: Duration = Duration(500);

/// What a server sends back to a question, which came from that address over UDP, or over TCP: all of it, one
/// datagram each, or one message behind the other.
type Script = Box<dyn Fn(&[u8], Option<SocketAddr>) -> Vec<Vec<u8>> + Send + Sync>;

/// The same over TCP alone.
type StreamScript = fn(&[u8]) -> Vec<Vec<u8>>;

/// A name server on loopback, for the time of the test process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
    /// From where it was asked.
    clients: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Server {
    pub(crate) fn new(
        script: impl Fn(&[u8], Option<SocketAddr>) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let (udp, tcp) = sockets();
        let address = udp.local_addr().expect("it is bound");
        let (asked, clients) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let server = Self { address, asked: asked.clone(), clients: clients.clone() };
        let script: Arc<Script> = Arc::new(Box::new(script));
        let udp_script = script.clone();
        thread::spawn(move || {
            let mut octets = [0; 1024];
            while let Ok((count, from)) = udp.recv_from(&mut octets) {
                asked.fetch_add(1, Ordering::SeqCst);
                clients.lock().expect("no test fails while it holds it").push(from);
                for reply in udp_script(&octets[..count], Some(from)) {
                    // The client may be gone, which is its right.
                    let _ = udp.send_to(&reply, from);
                }
            }
        });
        thread::spawn(move || {
            for client in tcp.incoming() {
                serve_stream(client.expect("loopback has room"), &script);
            }
        });
        server
    }

    /// One that answers with `records`.
    pub(crate) fn answering(records: &[Record]) -> Self {
        let records = records.to_vec();
        Self::new(move |query, _| vec![Reply::to(query, wire::NOERROR, &records).octets()])
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A UDP and a TCP socket on the same port.
fn sockets() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("loopback has room");
        if let Ok(tcp) = udp.local_addr().and_then(TcpListener::bind) {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both");
}

/// Octets of a reply that are sent one by one; what comes behind them comes in one piece.
const SINGLE_OCTETS: usize = 40;

/// Reads a question and sends the replies, their first octets one by one.
fn serve_stream(mut client: TcpStream, script: &Script) {
    let mut length = [0; 2];
    let Ok(()) = client.read_exact(&mut length) else { return };
    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
    client.read_exact(&mut query).expect("a question is sent whole");
    client.set_nodelay(true).expect("it is connected");
    for reply in script(&query, None) {
        let message = [&(reply.len() as u16).to_be_bytes()[..], &reply].concat();
        let (singles, rest) = message.split_at(message.len().min(SINGLE_OCTETS));
        for piece in singles.chunks(1).chain([rest]) {
            if client.write_all(piece).is_err() {
                return;
            }
        }
    }
}

struct World {
    poll: Poll,
    resolver: Resolver,
}

impl World {
    fn new(servers: &[SocketAddr]) -> Self {
        Self::patient(servers, TIMEOUT)
    }

    fn patient(servers: &[SocketAddr], timeout: Duration) -> Self {
        let servers = Servers {
            addresses: servers.iter().copied().collect(),
            timeout,
            attempts: 2,
            ..Servers::default()
        };
        let resolver = Resolver::new(Source::Fixed(servers), FIRST_TOKEN);
        Self { poll: Poll::new().expect("there are descriptors"), resolver }
    }

    fn look_up(&mut self, now: Instant, host: &str) -> Lookup {
        self.resolver.look_up(now, self.poll.registry(), host)
    }

    /// Looks `host` up and waits for the outcome, as the event loop does; and how long that took.
    fn resolve(&mut self, host: &str) -> (Result<Vec<String>, Unresolved>, Duration) {
        let start = clock::now().instant;
        let mut lookup = self.look_up(start, host);
        let mut events = Events::with_capacity(16);
        while let Lookup::Asking(at) = lookup {
            let now = clock::now().instant;
            assert!(now.since(start) < Duration::from_s(60), "no outcome");
            let due = self.resolver.deadline().expect("what is asked for has a deadline").since(now);
            let due = std::time::Duration::from_millis(due.0);
            match self.poll.poll(&mut events, Some(due)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled.expect("the kernel lets us wait"),
            }
            let now = clock::now().instant;
            for event in &events {
                let name = NameIndex(event.token().0 - FIRST_TOKEN);
                assert!(name.0 < NAMES_MAX);
                self.resolver.told(now, self.poll.registry(), name);
            }
            self.resolver.expire(now, self.poll.registry());
            lookup = self.resolver.outcome(at);
        }
        assert_eq!(self.resolver.deadline(), None, "nothing wakes an idle resolver");
        let outcome = match lookup {
            Lookup::Known(addresses, _) => Ok(addresses.iter().map(IpAddr::to_string).collect()),
            Lookup::Failed(why) => Err(why),
            Lookup::Asking(_) => unreachable!("that was waited for"),
        };
        (outcome, clock::now().instant.since(start))
    }
}

pub(crate) fn silent() -> Server {
    Server::new(|_, _| Vec::new())
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("loopback has room")
}

#[test]
fn literals_and_the_hosts_file_ask_nobody() {
    let server = silent();
    let mut world = World::new(&[server.address]);
    assert_eq!(world.resolve("192.0.2.7").0.unwrap(), ["192.0.2.7"]);
    assert_eq!(world.resolve("2001:db8::7").0.unwrap(), ["2001:db8::7"]);
    assert!(world.resolve("localhost").0.unwrap().contains(&"127.0.0.1".to_owned()));
    assert_eq!(server.asked(), 0);
}

/// C-5.1-a, C-5.1-b
#[test]
fn a_name_has_its_addresses_through_an_alias() {
    let records = [
        alias(HOST, 60, "mx.example.net"),
        address("mx.example.net", 60, "192.0.2.1"),
        address("mx.example.net", 60, "2001:db8::1"),
    ];
    let server = Server::answering(&records);
    let mut world = World::new(&[server.address]);
    let (outcome, took) = world.resolve(HOST);
    assert_eq!(outcome.unwrap(), ["2001:db8::1", "192.0.2.1"]);
    assert!(took < TIMEOUT);
    let clients = server.clients.lock().unwrap();
    assert_eq!(clients.len(), 2);
    assert_ne!(clients[0].port(), clients[1].port(), "each question comes from a port of its own");
}

#[test]
fn answers_are_kept_for_their_time_and_until_they_lead_nowhere() {
    let server = Server::answering(&[address(HOST, 60, "192.0.2.1"), address(HOST, 60, "192.0.2.2")]);
    let mut world = World::new(&[server.address]);
    world.resolve(HOST).0.unwrap();
    let now = clock::now().instant;
    let Lookup::Known(_, Some(at)) = world.look_up(now + Duration::from_s(55), HOST) else { panic!() };
    world.resolver.worked(at, "192.0.2.2".parse().unwrap());
    let Lookup::Known(addresses, _) = world.look_up(now, "SMTP.example.com") else { panic!() };
    assert_eq!(addresses[0].to_string(), "192.0.2.2", "what worked comes first");
    assert_eq!(addresses.len(), 2);
    assert_eq!(server.asked(), 2);
    world.resolver.forget(at);
    assert_eq!(world.resolve(HOST).0.unwrap(), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(server.asked(), 4);
    world.resolver.forget_all();
    world.resolve(HOST).0.unwrap();
    assert_eq!(server.asked(), 6);
    let after = clock::now().instant + Duration::from_s(61);
    assert!(matches!(world.look_up(after, HOST), Lookup::Asking(_)), "its time is over");
}

#[test]
fn a_dead_first_server_costs_its_timeout_and_one_that_is_not_there_nothing() {
    let good = Server::answering(&[address(HOST, 60, "192.0.2.1")]);
    let (outcome, took) = World::new(&[silent().address, good.address]).resolve(HOST);
    assert_eq!(outcome.unwrap(), ["192.0.2.1"]);
    assert!(took >= TIMEOUT && took < Duration(4 * TIMEOUT.0), "{took:?}");
    let (outcome, took) = World::new(&[nobody(), good.address]).resolve(HOST);
    assert_eq!(outcome.unwrap(), ["192.0.2.1"]);
    assert!(took < TIMEOUT, "{took:?}");
}

#[test]
fn every_failure_has_its_reason() {
    let code = |code| Server::new(move |query, _| vec![Reply::to(query, code, &[]).octets()]).address;
    for (servers, why) in [
        (vec![silent().address, silent().address], Unresolved::Silent),
        (vec![nobody()], Unresolved::Unreachable),
        (vec![code(wire::SERVFAIL)], Unresolved::ServerFailed),
        (vec![code(wire::REFUSED), code(wire::REFUSED)], Unresolved::Refused),
        (vec![code(wire::NXDOMAIN)], Unresolved::NoSuchName),
        (vec![code(wire::NOERROR)], Unresolved::NoAddress),
        (vec![Server::new(|_, _| vec![vec![0xff; 600], Vec::new()]).address], Unresolved::Silent),
    ] {
        let timeout = if why == Unresolved::Silent { TIMEOUT_OF_DEAD } else { TIMEOUT };
        assert_eq!(World::patient(&servers, timeout).resolve(HOST).0, Err(why));
    }
}

/// Whoever answers before the server does, from the server's place even, does not know the id.
#[test]
fn forged_replies_ahead_of_the_true_one_change_nothing() {
    let server = Server::new(|query, _| {
        let evil = Reply::to(query, wire::NOERROR, &[address(HOST, 60, "203.0.113.66")]);
        let good = Reply::to(query, wire::NOERROR, &[address(HOST, 60, "192.0.2.1")]);
        let other_id = Reply { id: evil.id.wrapping_add(1), ..evil.clone() };
        let other_name = Reply { name: "smtp.example.org".to_owned(), ..evil.clone() };
        let garbage = vec![0xc0; 512];
        vec![other_id.octets(), other_name.octets(), garbage, evil.octets()[..30].to_vec(), good.octets()]
    });
    assert_eq!(World::new(&[server.address]).resolve(HOST).0.unwrap(), ["192.0.2.1"]);
}

/// One who has seen the question, and answers faster, but from another place.
#[test]
fn replies_from_elsewhere_change_nothing() {
    let spy = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = Server::new(move |query, from| {
        let evil = Reply::to(query, wire::NOERROR, &[address(HOST, 60, "203.0.113.66")]);
        spy.send_to(&evil.octets(), from.expect("nothing is truncated")).unwrap();
        thread::sleep(std::time::Duration::from_millis(30));
        vec![Reply::to(query, wire::NOERROR, &[address(HOST, 60, "192.0.2.1")]).octets()]
    });
    assert_eq!(World::new(&[server.address]).resolve(HOST).0.unwrap(), ["192.0.2.1"]);
}

fn many(count: u8) -> Vec<Record> {
    (1..=count).map(|n| address(HOST, 60, &format!("192.0.2.{n}"))).collect()
}

#[test]
fn a_reply_that_does_not_fit_comes_over_tcp() {
    let server = Server::new(|query, from| match from {
        Some(_) => vec![Reply::to(query, 0x0200, &[]).octets()],
        None => vec![Reply::to(query, wire::NOERROR, &many(100)).octets()],
    });
    let (outcome, _) = World::new(&[server.address]).resolve(HOST);
    assert_eq!(outcome.unwrap().len(), 8);
}

/// Over TCP too a server can be no help: it closes, says nothing, too much, or something else.
#[test]
fn trouble_over_tcp_makes_way_for_the_next_server() {
    let good = Server::answering(&[address(HOST, 60, "192.0.2.1")]);
    let scripts: [StreamScript; 5] = [
        |_| Vec::new(),
        |_| vec![Vec::new()],
        |_| vec![vec![0; 5000]],
        |_| vec![vec![0xc0; 100]],
        |query| vec![Reply::to(query, 0x0200, &[]).octets()],
    ];
    for (place, script) in scripts.into_iter().enumerate() {
        let server = Server::new(move |query, from| match from {
            Some(_) => vec![Reply::to(query, 0x0200, &[]).octets()],
            None => script(query),
        });
        let (outcome, took) = World::new(&[server.address, good.address]).resolve(HOST);
        assert_eq!(outcome.unwrap(), ["192.0.2.1"], "{place}");
        assert!(took < TIMEOUT, "{place}: {took:?}");
    }
}

#[test]
fn names_have_a_bounded_number_of_places() {
    let good = Server::answering(&[]);
    let dead = silent();
    let mut world = World::new(&[good.address]);
    for number in 0..NAMES_MAX * 3 {
        assert_eq!(world.resolve(&format!("n{number}.example.com")).0, Err(Unresolved::NoAddress));
    }
    let mut world = World::new(&[dead.address]);
    let now = clock::now().instant;
    for number in 0..NAMES_MAX {
        let lookup = world.look_up(now, &format!("n{number}.example.com"));
        assert_eq!(lookup, Lookup::Asking(NameIndex(number)));
    }
    assert_eq!(world.look_up(now, "one-more.example.com"), Lookup::Failed(Unresolved::Busy));
    assert_eq!(world.look_up(now, "n1.example.com"), Lookup::Asking(NameIndex(1)), "asked for already");
}
