//! From addresses to a connection: the next one at once when one fails, and soon when one is silent
//! (C-5.1-a).

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use mio::{Events, Poll, Token};
use postern::net::clock;
use postern::net::dial::{Connected, Dials, NEXT_ADDRESS_AFTER};
use postern::net::resolver::servers::Servers;
use postern::net::resolver::{NAMES_MAX, NameIndex, Resolver, Source};
use postern::sender::{Fault, Unresolved};
use postern::time::Duration;
use socket2::{Domain, Socket, Type};

use crate::servers::{Server, silent};
use crate::wire::{Record, address};

const HOST: &str = "smtp.example.com";
const DIAL: Token = Token(NAMES_MAX);

/// Long enough for a name server on a busy machine.
const TIMEOUT: Duration = Duration::from_s(10);

struct World {
    poll: Poll,
    dials: Dials,
}

impl World {
    fn new(server: &Server) -> Self {
        Self::patient(server, TIMEOUT)
    }

    fn patient(server: &Server, timeout: Duration) -> Self {
        let servers = Servers {
            addresses: [server.address].into_iter().collect(),
            timeout,
            attempts: 1,
            ..Servers::default()
        };
        let resolver = Resolver::new(Source::Fixed(servers), 0);
        Self { poll: Poll::new().expect("there are descriptors"), dials: Dials::new(resolver, 1) }
    }

    /// Connects to `host` as the event loop does; and how long that took.
    fn dial(&mut self, host: &str, port: u16) -> (Result<Connected, Fault>, Duration) {
        let start = clock::now().instant;
        self.dials.start(start, self.poll.registry(), 0, (host, port), DIAL);
        let mut events = Events::with_capacity(16);
        loop {
            if let Some((at, result)) = self.dials.next_done() {
                assert_eq!((at, self.dials.deadline()), (0, None));
                return (result, clock::now().instant.since(start));
            }
            let now = clock::now().instant;
            assert!(now.since(start) < Duration::from_s(60), "no end");
            let due = self.dials.deadline().expect("what is on its way has a deadline").since(now);
            let due = std::time::Duration::from_millis(due.0);
            self.poll.poll(&mut events, Some(due)).expect("the kernel lets us wait");
            let now = clock::now().instant;
            for event in &events {
                match event.token() {
                    DIAL => self.dials.told(now, self.poll.registry(), 0),
                    Token(name) => self.dials.told_resolver(now, self.poll.registry(), NameIndex(name)),
                }
            }
            self.dials.expire(now, self.poll.registry());
        }
    }

    /// The address that the connection to `host` is made to.
    fn reached(&mut self, host: &str, port: u16) -> (IpAddr, Duration) {
        let (result, took) = self.dial(host, port);
        let (stream, local) = result.expect("an address answers");
        assert!(local.is_loopback());
        (stream.peer_addr().expect("it is connected").ip(), took)
    }
}

fn loopback(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

fn records(addresses: &[u8]) -> Vec<Record> {
    addresses.iter().map(|last| address(HOST, 60, &loopback(*last).to_string())).collect()
}

/// A listener on 127.0.0.9, and its port, which is free on the other addresses.
fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((loopback(9), 0)).expect("loopback has room");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}

/// A port that is open, but never answers: its backlog is full, and the kernel drops what comes.
fn black_hole(last: u8, port: u16) -> (Socket, Vec<TcpStream>) {
    let address = SocketAddr::new(loopback(last), port);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there are descriptors");
    socket.bind(&address.into()).expect("the port is free there");
    socket.listen(0).expect("it is bound");
    let timeout = std::time::Duration::from_millis(100);
    let fillers = (0..8).map_while(|_| TcpStream::connect_timeout(&address, timeout).ok()).collect();
    (socket, fillers)
}

#[test]
fn an_address_that_refuses_makes_way_at_once() {
    let (_listener, port) = listener();
    let server = Server::answering(&records(&[1, 2, 3, 4, 5, 9]));
    let mut world = World::new(&server);
    let (reached, took) = world.reached(HOST, port);
    assert_eq!(reached, loopback(9));
    // Five wait for their time otherwise.
    assert!(took < Duration(4 * NEXT_ADDRESS_AFTER.0), "{took:?}");
}

/// An IPv6 that leads nowhere costs seconds, once; then the address that works comes first.
#[test]
fn a_silent_address_is_left_for_the_next_one() {
    let (_listener, port) = listener();
    let _hole = black_hole(8, port);
    let server = Server::answering(&records(&[8, 9]));
    let mut world = World::new(&server);
    let (reached, took) = world.reached(HOST, port);
    assert_eq!(reached, loopback(9));
    assert!(took >= NEXT_ADDRESS_AFTER && took < Duration(4 * NEXT_ADDRESS_AFTER.0), "{took:?}");
    // The machine may be busy, but not each time.
    let is_quick = (0..5).any(|_| {
        let (reached, took) = world.reached(HOST, port);
        assert_eq!(reached, loopback(9));
        took < NEXT_ADDRESS_AFTER
    });
    assert!(is_quick, "what worked comes first");
    assert_eq!(server.asked(), 2, "within its time a name is asked for once");
}

/// The name may have moved, or the network: it is asked for again.
#[test]
fn a_name_that_leads_nowhere_is_asked_for_anew() {
    let (listener, port) = listener();
    drop(listener);
    let server = Server::answering(&records(&[8, 9]));
    let mut world = World::new(&server);
    let mut is_quick = false;
    for round in 1..=3 {
        let (result, took) = world.dial(HOST, port);
        assert_eq!(result.err(), Some(Fault::Connect));
        // The machine may be busy, but not each time.
        is_quick |= took < NEXT_ADDRESS_AFTER;
        assert_eq!(server.asked(), 2 * round);
    }
    assert!(is_quick, "a refusal makes way at once");
}

/// Who answers at its address may be another one: the name, or with another network all of them, is asked for
/// again, and no other name is.
#[test]
fn a_name_is_asked_for_anew_when_it_may_lead_elsewhere() {
    let (_listener, port) = listener();
    let server = Server::answering(&records(&[9]));
    let mut world = World::new(&server);
    world.reached(HOST, port);
    assert_eq!(server.asked(), 2);
    world.dials.forget_name("other.example.com");
    world.reached(HOST, port);
    assert_eq!(server.asked(), 2);
    world.dials.forget_name("SMTP.example.com");
    world.reached(HOST, port);
    assert_eq!(server.asked(), 4);
    world.dials.forget_names();
    world.reached(HOST, port);
    assert_eq!(server.asked(), 6);
}

#[test]
fn what_can_not_be_resolved_is_said() {
    let mut world = World::patient(&silent(), Duration(200));
    let (result, took) = world.dial(HOST, 25);
    assert_eq!(result.err(), Some(Fault::Resolve(Unresolved::Silent)));
    assert!(took >= Duration(200) && took < Duration(20_000), "{took:?}");
    let (result, _) = world.dial("127.0.0.1", 1);
    assert_eq!(result.err(), Some(Fault::Connect));
}
