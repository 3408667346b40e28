//! Whom to ask, when, and what the replies come to: no socket, and time at will.

use std::net::{IpAddr, SocketAddr};

use postern::net::resolver::packet::Family;
use postern::net::resolver::resolution::{
    Ask, GIVE_UP_AFTER, KEPT_MAX, KEPT_MIN, Resolution, SETTLE_WITHIN, Transport,
};
use postern::net::resolver::servers::Servers;
use postern::sender::Unresolved;
use postern::time::{Duration, Instant};

use crate::wire::{self, Record, Reply, address, alias};

const HOST: &str = "smtp.example.com";
const START: Instant = Instant(1_000_000);

struct Asking {
    resolution: Resolution,
    host: &'static str,
    now: Instant,
    id: u16,
}

fn server(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 53))
}

fn servers(count: u8, search: &str) -> Servers {
    Servers {
        addresses: (1..=count).map(server).collect(),
        search: search.try_into().expect("the suffixes fit"),
        ..Servers::default()
    }
}

impl Asking {
    fn new(host: &'static str, servers: Servers) -> Self {
        Self {
            resolution: Resolution::new(host, servers, START).expect("it is a name"),
            host,
            now: START,
            id: 100,
        }
    }

    /// The next question, if one is due.
    fn ask(&mut self) -> Option<Ask> {
        self.id += 1;
        let ask = self.resolution.next_ask(self.now, self.id)?;
        assert_eq!(wire::question(ask.query.as_slice()).0, self.id);
        Some(ask)
    }

    /// Both questions, AAAA first.
    fn both(&mut self) -> [Ask; 2] {
        let asks = [(); 2].map(|()| self.ask().expect("both are due"));
        assert!(self.ask().is_none());
        assert_eq!([asks[0].family, asks[1].family], [Family::V6, Family::V4]);
        asks
    }

    fn reply(&mut self, ask: &Ask, code: u16, records: &[Record]) {
        let octets = Reply::to(ask.query.as_slice(), code, records).octets();
        self.resolution.received(self.now, ask.family, ask.server, &octets);
    }

    fn outcome(&mut self) -> Option<Result<(Vec<String>, Duration), Unresolved>> {
        let outcome = self.resolution.outcome(self.host)?;
        Some(outcome.map(|found| (found.addresses.iter().map(IpAddr::to_string).collect(), found.kept)))
    }

    /// Lets time go on to the next deadline.
    fn wait(&mut self) -> Duration {
        let deadline = self.resolution.deadline();
        let waited = deadline.since(self.now);
        self.now = deadline;
        self.resolution.expired(self.now);
        waited
    }
}

/// C-5.1-a: IPv6 and IPv4 by turns, each in its server's order.
#[test]
fn both_families_are_asked_for_and_their_addresses_go_by_turns() {
    let mut asking = Asking::new(HOST, servers(1, ""));
    let [v6, v4] = asking.both();
    assert!(v6.server == server(1) && v6.transport == Transport::Udp);
    let records = [
        address(HOST, 600, "192.0.2.1"),
        address(HOST, 600, "192.0.2.2"),
        address(HOST, 600, "192.0.2.3"),
        address(HOST, 90, "2001:db8::1"),
    ];
    asking.reply(&v4, wire::NOERROR, &records);
    assert_eq!(asking.outcome(), None);
    asking.reply(&v6, wire::NOERROR, &records);
    let expected = ["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"].map(str::to_owned).to_vec();
    assert_eq!(asking.outcome(), Some(Ok((expected, Duration::from_s(90)))));
}

#[test]
fn addresses_are_kept_for_their_time_within_bounds() {
    for (ttl, kept) in [(0, KEPT_MIN), (1, KEPT_MIN), (77, Duration::from_s(77)), (604_800, KEPT_MAX)] {
        let mut asking = Asking::new(HOST, servers(1, ""));
        let [v6, v4] = asking.both();
        asking.reply(&v4, wire::NOERROR, &[address(HOST, ttl, "192.0.2.1")]);
        asking.reply(&v6, wire::NOERROR, &[]);
        assert_eq!(asking.outcome().unwrap().unwrap().1, kept, "{ttl}");
    }
}

#[test]
fn a_silent_server_makes_way_and_all_silence_ends() {
    let mut asking = Asking::new(HOST, servers(3, ""));
    let mut asked = Vec::new();
    while asking.outcome().is_none() {
        let mut ids = Vec::new();
        while let Some(ask) = asking.ask() {
            asked.push(ask.server);
            ids.push(asking.id);
        }
        assert_ne!(ids.first(), ids.last(), "each question has an id of its own");
        if asking.outcome().is_none() {
            assert_eq!(asking.wait(), Duration::from_s(5));
        }
    }
    let order = [1, 2, 3, 1, 2, 3].map(|number| [server(number); 2]).concat();
    assert_eq!(asked, order);
    assert_eq!(asking.outcome(), Some(Err(Unresolved::Silent)));
    assert_eq!(asking.now.since(START), GIVE_UP_AFTER);
}

/// However patient the options, the whole has an end.
#[test]
fn all_ends_in_time() {
    let patient = Servers { timeout: Duration::from_s(10), attempts: 5, ..servers(3, "") };
    let mut asking = Asking::new(HOST, patient);
    for _ in 0..100 {
        while asking.ask().is_some() {}
        if let Some(outcome) = asking.outcome() {
            assert_eq!(outcome, Err(Unresolved::Silent));
            assert_eq!(asking.now.since(START), GIVE_UP_AFTER);
            return;
        }
        asking.wait();
    }
    panic!("no end");
}

#[test]
fn a_server_that_can_not_tell_makes_way_at_once() {
    for (code, why) in [(wire::SERVFAIL, Unresolved::ServerFailed), (wire::REFUSED, Unresolved::Refused)] {
        let mut asking = Asking::new(HOST, servers(2, ""));
        for ask in asking.both() {
            asking.reply(&ask, code, &[]);
        }
        let second = asking.both();
        assert_eq!(second[0].server, server(2));
        let records = [address(HOST, 60, "192.0.2.1")];
        second.iter().for_each(|ask| asking.reply(ask, wire::NOERROR, &records));
        assert_eq!(asking.outcome().unwrap().unwrap().0, ["192.0.2.1"]);

        let mut asking = Asking::new(HOST, servers(2, ""));
        let mut count = 0;
        while let Some(ask) = asking.ask() {
            asking.reply(&ask, code, &[]);
            count += 1;
        }
        assert_eq!((count, asking.outcome()), (8, Some(Err(why))));
        assert_eq!(asking.now, START);
    }
    let mut asking = Asking::new(HOST, servers(2, ""));
    while let Some(ask) = asking.ask() {
        asking.resolution.unreachable(ask.family);
    }
    assert_eq!(asking.outcome(), Some(Err(Unresolved::Unreachable)));
}

#[test]
fn that_there_is_nothing_is_final() {
    for (codes, why) in [
        ([wire::NXDOMAIN; 2], Unresolved::NoSuchName),
        ([wire::NOERROR; 2], Unresolved::NoAddress),
        ([wire::NXDOMAIN, wire::NOERROR], Unresolved::NoSuchName),
    ] {
        let mut asking = Asking::new(HOST, servers(3, "lan"));
        let asks = asking.both();
        asks.iter().zip(codes).for_each(|(ask, code)| asking.reply(ask, code, &[]));
        assert_eq!(asking.outcome(), Some(Err(why)));
    }
}

/// RFC 4074: some servers never reply for AAAA, or say that the name does not exist.
#[test]
fn one_family_is_enough() {
    let mut asking = Asking::new(HOST, servers(1, ""));
    let [_, v4] = asking.both();
    asking.reply(&v4, wire::NOERROR, &[address(HOST, 60, "192.0.2.1")]);
    assert_eq!(asking.outcome(), None);
    assert_eq!(asking.wait(), SETTLE_WITHIN);
    assert_eq!(asking.outcome().unwrap().unwrap().0, ["192.0.2.1"]);

    let mut asking = Asking::new(HOST, servers(1, ""));
    let [v6, v4] = asking.both();
    asking.reply(&v6, wire::NXDOMAIN, &[]);
    assert_eq!(asking.outcome(), None);
    asking.reply(&v4, wire::NOERROR, &[address(HOST, 60, "192.0.2.1")]);
    assert_eq!(asking.outcome().unwrap().unwrap().0, ["192.0.2.1"]);
}

/// What is forged or broken is passed over: the true reply still counts, and no wait is cut short.
#[test]
fn forged_and_broken_packets_change_nothing() {
    let mut asking = Asking::new(HOST, servers(1, ""));
    let [v6, v4] = asking.both();
    let evil = Reply::to(v4.query.as_slice(), wire::NOERROR, &[address(HOST, 60, "203.0.113.66")]);
    let forged = [
        (server(2), evil.octets()),
        (SocketAddr::new(server(1).ip(), 54), evil.octets()),
        (server(1), Reply { id: evil.id ^ 1, ..evil.clone() }.octets()),
        (server(1), Reply { name: "smtp.example.org".to_owned(), ..evil.clone() }.octets()),
        (server(1), Reply { kind: wire::AAAA, ..evil.clone() }.octets()),
        (server(1), evil.octets()[..40].to_vec()),
        (server(1), Vec::new()),
        (server(1), vec![0xc0; 512]),
    ];
    let deadline = asking.resolution.deadline();
    for (from, octets) in forged {
        asking.resolution.received(asking.now, Family::V4, from, &octets);
        assert!(asking.resolution.is_asked(Family::V4));
    }
    // The other question's reply, where this one's is waited for.
    let octets = Reply::to(v6.query.as_slice(), wire::NOERROR, &[]).octets();
    asking.resolution.received(asking.now, Family::V4, v6.server, &octets);
    assert_eq!(asking.resolution.deadline(), deadline);
    let records = [address(HOST, 60, "192.0.2.1")];
    asking.reply(&v4, wire::NOERROR, &records);
    asking.reply(&v6, wire::NOERROR, &records);
    assert_eq!(asking.outcome().unwrap().unwrap().0, ["192.0.2.1"]);
}

#[test]
fn what_does_not_fit_is_asked_for_again_over_tcp() {
    let mut asking = Asking::new(HOST, servers(2, ""));
    let [v6, v4] = asking.both();
    asking.reply(&v6, wire::NOERROR, &[]);
    asking.reply(&v4, 0x0200, &[]);
    let again = asking.ask().unwrap();
    assert_eq!((again.family, again.transport, again.server), (Family::V4, Transport::Tcp, server(1)));
    asking.reply(&v4, wire::NOERROR, &[address(HOST, 60, "203.0.113.66")]);
    assert!(asking.resolution.is_asked(Family::V4), "the first question's id counts no more");
    asking.reply(&again, 0x0200, &[]);
    let third = asking.ask().unwrap();
    assert_eq!((third.transport, third.server), (Transport::Udp, server(2)), "cut over TCP too: no help");
    asking.reply(&third, wire::NOERROR, &[address(HOST, 60, "192.0.2.1")]);
    assert_eq!(asking.outcome().unwrap().unwrap().0, ["192.0.2.1"]);
}

/// C-5.1-b, where the server leaves following an alias to us.
#[test]
fn aliases_are_followed_from_reply_to_reply() {
    let mut asking = Asking::new(HOST, servers(1, ""));
    let [v6, v4] = asking.both();
    asking.reply(&v6, wire::NOERROR, &[]);
    asking.reply(&v4, wire::NOERROR, &[alias(HOST, 30, "mx.example.net")]);
    let next = asking.ask().unwrap();
    assert_eq!(wire::question(next.query.as_slice()).1, "mx.example.net");
    asking.reply(&next, wire::NOERROR, &[address("mx.example.net", 600, "192.0.2.1")]);
    let expected = (vec!["192.0.2.1".to_owned()], Duration::from_s(30));
    assert_eq!(asking.outcome(), Some(Ok(expected)));

    let mut asking = Asking::new(HOST, servers(1, ""));
    for count in 0.. {
        let Some(ask) = asking.ask() else { break };
        let (_, name, _) = wire::question(ask.query.as_slice());
        asking.reply(&ask, wire::NOERROR, &[alias(&name, 30, &format!("x{count}.example.net"))]);
        assert!(count < 30, "a chain without an end");
    }
    assert_eq!(asking.outcome(), Some(Err(Unresolved::NoAddress)));
}

#[test]
fn suffixes_stand_behind_names_without_dots_only() {
    let mut asking = Asking::new("nas", servers(1, "lan bad..suffix home.arpa"));
    let mut names = Vec::new();
    while let Some(ask) = asking.ask() {
        names.push(wire::question(ask.query.as_slice()).1);
        asking.reply(&ask, wire::NXDOMAIN, &[]);
        if names.len() == 6 {
            assert_eq!(asking.outcome(), Some(Err(Unresolved::NoSuchName)));
            break;
        }
        assert_eq!(asking.outcome(), None);
    }
    assert_eq!(names, ["nas.lan", "nas.lan", "nas.home.arpa", "nas.home.arpa", "nas", "nas"]);

    let mut asking = Asking::new(HOST, servers(1, "lan"));
    assert_eq!(wire::question(asking.ask().unwrap().query.as_slice()).1, HOST);
    assert_eq!(Resolution::new("a..b", servers(1, ""), START).err(), Some(Unresolved::NoName));
}
