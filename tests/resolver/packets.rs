//! What counts as a reply, and what it says.

use std::net::IpAddr;

use postern::jitter::Jitter;
use postern::net::resolver::packet::{self, Family, Reply as Read};
use postern::sender::Unresolved;

use crate::wire::{self, A, AAAA, Record, Reply, address, alias};

const HOST: &str = "smtp.example.com";

fn host() -> packet::Name {
    packet::name(HOST, "").expect("it is a name")
}

fn query(family: Family) -> Vec<u8> {
    packet::query(0x1234, &host(), family).as_slice().to_vec()
}

fn read(octets: &[u8], family: Family) -> Option<Read> {
    packet::reply(octets, 0x1234, &host(), family)
}

/// The addresses and seconds in a reply of `records`.
fn found(family: Family, records: &[Record]) -> (Vec<String>, u32) {
    let reply = Reply::to(&query(family), wire::NOERROR, records);
    match read(&reply.octets(), family) {
        Some(Read::Addresses(addresses, seconds)) => {
            (addresses.iter().map(IpAddr::to_string).collect(), seconds)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_question_is_what_rfc_1035_says() {
    let expected =
        [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &wire::name(HOST), &[0, 28, 0, 1]].concat();
    assert_eq!(query(Family::V6), expected);
    assert_eq!(wire::question(&query(Family::V4)), (0x1234, HOST.to_owned(), A));
}

#[test]
fn names_have_their_bounds() {
    let label = "x".repeat(63);
    let longest = [&label[..], &label, &label, &label[..61]].join(".");
    for good in ["a", "a.", "a_b.example", &label, &longest] {
        assert!(packet::name(good, "").is_some(), "{good}");
    }
    for bad in ["a..b", ".a", "a..", &format!("{label}x"), &format!("{longest}x"), &format!("a.{longest}")] {
        assert!(packet::name(bad, "").is_none(), "{bad}");
    }
    let octets = packet::query(1, &packet::name(&longest, "").unwrap(), Family::V4);
    assert_eq!(wire::question(octets.as_slice()).1, longest);
    assert!(packet::name(&longest, "lan").is_none());
    assert_eq!(packet::name("nas", "home.arpa."), packet::name("nas.home.arpa", ""));
}

#[test]
fn addresses_keep_their_order_and_the_shortest_time() {
    let records = [
        address(HOST, 300, "192.0.2.2"),
        address(HOST, 60, "192.0.2.1"),
        address(HOST, 300, "192.0.2.2"),
        address("other.example.com", 1, "192.0.2.9"),
        address(HOST, 10, "2001:db8::1"),
    ];
    assert_eq!(found(Family::V4, &records), (vec!["192.0.2.2".to_owned(), "192.0.2.1".to_owned()], 60));
    assert_eq!(found(Family::V6, &records), (vec!["2001:db8::1".to_owned()], 10));
    assert_eq!(found(Family::V4, &[address(HOST, 0x8000_0000, "192.0.2.1")]).1, 0, "RFC 2181 8");
    let many: Vec<Record> = (0..30).map(|n| address(HOST, 60, &format!("192.0.2.{n}"))).collect();
    assert_eq!(found(Family::V4, &many).0.len(), 8);
}

/// A filter's 0.0.0.0 would lead the mail back to this relay.
#[test]
fn what_is_no_hosts_address_is_passed_over() {
    let records = ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1", "::ffff:192.0.2.1"];
    let records = records.map(|text| address(HOST, 60, text));
    assert_eq!(found(Family::V4, &records).0, [""; 0]);
    assert_eq!(found(Family::V6, &records).0, [""; 0]);
}

/// C-5.1-b: a CNAME is followed, whatever the order of the records.
#[test]
fn aliases_are_followed_within_a_reply() {
    let records = [
        address("c.example.net", 300, "192.0.2.1"),
        alias("b.example.net", 20, "c.example.net"),
        alias(HOST, 60, "B.example.net"),
    ];
    assert_eq!(found(Family::V4, &records), (vec!["192.0.2.1".to_owned()], 20));
    let circle = [alias(HOST, 60, "b.example.net"), alias("b.example.net", 60, HOST)];
    assert_eq!(found(Family::V4, &circle).0, [""; 0]);
    let reply = Reply::to(&query(Family::V4), wire::NOERROR, &[alias(HOST, 60, "b.example.net")]);
    match read(&reply.octets(), Family::V4) {
        Some(Read::Alias(name, 60)) => assert_eq!(Some(name), packet::name("b.example.net", "")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_reply_to_the_question_is_none() {
    let good = Reply::to(&query(Family::V4), wire::NOERROR, &[address(HOST, 60, "192.0.2.1")]);
    assert!(read(&good.octets(), Family::V4).is_some());
    assert!(read(&Reply { name: HOST.to_uppercase(), ..good.clone() }.octets(), Family::V4).is_some());
    let bad = [
        Reply { id: 0x1235, ..good.clone() },
        Reply { name: "smtp.example.org".to_owned(), ..good.clone() },
        Reply { kind: AAAA, ..good.clone() },
        Reply { flags: good.flags & 0x7fff, ..good.clone() },
        Reply { flags: good.flags | 0x0800, ..good.clone() },
    ];
    for reply in bad {
        assert!(read(&reply.octets(), Family::V4).is_none(), "{reply:?}");
    }
    let octets = good.octets();
    for length in 0..octets.len() {
        assert!(read(&octets[..length], Family::V4).is_none(), "cut at {length}");
    }
    assert!(read(&query(Family::V4), Family::V4).is_none(), "the question come back");
}

#[test]
fn the_code_says_whether_another_server_may_know() {
    let read = |flags| {
        let reply = Reply::to(&query(Family::V4), flags, &[]);
        read(&reply.octets(), Family::V4)
    };
    assert!(matches!(read(wire::NXDOMAIN), Some(Read::NoSuchName)));
    assert!(matches!(read(wire::REFUSED), Some(Read::Failed(Unresolved::Refused))));
    for code in [wire::FORMERR, wire::SERVFAIL, 4, 6, 15] {
        assert!(matches!(read(code), Some(Read::Failed(Unresolved::ServerFailed))), "{code}");
    }
    assert!(matches!(read(0x0200), Some(Read::Truncated)));
}

/// Octets from the network never panic, and never become addresses that nobody sent.
#[test]
fn garbage_is_never_more_than_garbage() {
    let mut random = Jitter::new(5);
    let records = [
        alias(HOST, 60, "b.example.net"),
        address("b.example.net", 60, "192.0.2.1"),
        address(HOST, 1, "192.0.2.2"),
    ];
    let good = Reply::to(&query(Family::V4), wire::NOERROR, &records).octets();
    let mut read_count = 0;
    for _ in 0..200_000 {
        let mut octets = good.clone();
        for _ in 0..=random.next() % 4 {
            let at = random.next() as usize % octets.len();
            // Pointers and lengths are what parsers stumble over.
            octets[at] = [random.next() as u8, 0xc0, 0xff, 0, 12, at as u8][random.next() as usize % 6];
        }
        octets.truncate(octets.len() - (random.next() % 3) as usize * (random.next() % 20) as usize);
        read_count += usize::from(read(&octets, Family::V4).is_some());
    }
    assert!((1_000..199_000).contains(&read_count), "{read_count}");
    for _ in 0..50_000 {
        let mut octets: Vec<u8> = (0..random.next() % 300).map(|_| random.next() as u8).collect();
        let header = &good[..12 + wire::name(HOST).len() + 4];
        let count = header.len().min(octets.len());
        octets[..count].copy_from_slice(&header[..count]);
        let _ = read(&octets, Family::V4);
    }
}
