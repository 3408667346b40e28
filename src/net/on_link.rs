//! Whether a peer is a neighbour: in a connected prefix of the address that accepted it. That is what the
//! word `on-link` in `allow` means.
//!
//! The kernel's tables are asked at each use, since addresses come and go on a router. Whatever can't be read
//! or understood makes nobody a neighbour. A route without a gateway that is as wide as a good part of the
//! Internet (the default route over PPP, the two halves of it that VPNs set) is no prefix of neighbours: else
//! the relay would be open.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fs::File;
use std::io::{self, Read};

use super::lines::visit_lines;

/// The kernel's IPv4 routes.
const ROUTES_PATH: &str = "/proc/self/net/route";
/// The interfaces' IPv6 addresses.
const ADDRESSES_PATH: &str = "/proc/self/net/if_inet6";
/// The shortest IPv4 prefix of neighbours, as in `allow`.
const IPV4_BITS_MIN: u32 = 8;
/// The shortest IPv6 prefix of neighbours, as in `allow`.
const IPV6_BITS_MIN: u32 = 16;
/// A route that is in use (RTF_UP).
const ROUTE_UP: u32 = 0x1;
/// A route over a gateway (RTF_GATEWAY) or to nowhere (RTF_REJECT).
const ROUTE_ELSEWHERE: u32 = 0x2 | 0x200;

/// True when `peer` is in a connected prefix of `local`, the address of ours that it reached. Fails when the
/// kernel's table can't be read; then the peer is to be taken for a stranger.
pub fn is_on_link(peer: IpAddr, local: IpAddr) -> io::Result<bool> {
    match (peer.to_canonical(), local.to_canonical()) {
        (IpAddr::V4(peer), IpAddr::V4(local)) => is_on_link_v4(File::open(ROUTES_PATH)?, peer, local),
        (IpAddr::V6(peer), IpAddr::V6(_)) if peer.is_unicast_link_local() => Ok(true),
        (IpAddr::V6(peer), IpAddr::V6(local)) => is_on_link_v6(File::open(ADDRESSES_PATH)?, peer, local),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Ok(false),
    }
}

/// The same by `routes`, a text in the form of /proc/net/route.
pub fn is_on_link_v4(routes: impl Read, peer: Ipv4Addr, local: Ipv4Addr) -> io::Result<bool> {
    let mut is_found = false;
    visit_lines(routes, |line| {
        is_found = connected_prefix_v4(line).is_some_and(|(prefix, mask)| {
            peer.to_bits() & mask == prefix && local.to_bits() & mask == prefix
        });
        !is_found
    })?;
    Ok(is_found)
}

/// The same by `addresses`, a text in the form of /proc/net/if_inet6.
pub fn is_on_link_v6(addresses: impl Read, peer: Ipv6Addr, local: Ipv6Addr) -> io::Result<bool> {
    let mut is_found = false;
    visit_lines(addresses, |line| {
        is_found = connected_prefix_v6(line).is_some_and(|(address, mask)| {
            (peer.to_bits() ^ address) & mask == 0 && (local.to_bits() ^ address) & mask == 0
        });
        !is_found
    })?;
    Ok(is_found)
}

/// Prefix and mask of a route without a gateway: "Iface Destination Gateway Flags RefCnt Use Metric Mask
/// ...".
fn connected_prefix_v4(line: &[u8]) -> Option<(u32, u32)> {
    let line = core::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let prefix = address_v4(words.nth(1)?)?;
    let gateway = address_v4(words.next()?)?;
    let flags = u32::from_str_radix(words.next()?, 16).ok()?;
    let mask = address_v4(words.nth(3)?)?;
    let is_connected = gateway == 0 && flags & ROUTE_UP != 0 && flags & ROUTE_ELSEWHERE == 0;
    (is_connected && mask.leading_ones() >= IPV4_BITS_MIN).then_some((prefix, mask))
}

/// An address of /proc/net/route: its octets in memory, printed as a number of this machine's byte order.
fn address_v4(word: &str) -> Option<u32> {
    (word.len() == 8).then_some(())?;
    Some(u32::from_be_bytes(u32::from_str_radix(word, 16).ok()?.to_ne_bytes()))
}

/// Address and mask of an interface: "address ifindex bits scope flags Iface", all in hexadecimal.
fn connected_prefix_v6(line: &[u8]) -> Option<(u128, u128)> {
    let line = core::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let address = words.next().filter(|word| word.len() == 32)?;
    let address = u128::from_str_radix(address, 16).ok()?;
    let bits = u32::from_str_radix(words.nth(1)?, 16).ok()?;
    let mask = u128::MAX.checked_shl(128_u32.checked_sub(bits)?)?;
    (bits >= IPV6_BITS_MIN).then_some((address, mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address as this machine's kernel would print it.
    fn printed(address: &str) -> String {
        let octets = address.parse::<Ipv4Addr>().unwrap().octets();
        format!("{:08X}", u32::from_ne_bytes(octets))
    }

    fn route(interface: &str, prefix: &str, gateway: &str, flags: &str, mask: &str) -> String {
        let (prefix, gateway, mask) = (printed(prefix), printed(gateway), printed(mask));
        format!("{interface}\t{prefix}\t{gateway}\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0          \n")
    }

    fn routes() -> String {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        [
            head.to_owned(),
            route("ppp0", "0.0.0.0", "0.0.0.0", "0001", "0.0.0.0"),
            route("wg0", "0.0.0.0", "0.0.0.0", "0001", "128.0.0.0"),
            route("wg0", "128.0.0.0", "0.0.0.0", "0001", "128.0.0.0"),
            route("br-lan", "192.168.1.0", "0.0.0.0", "0001", "255.255.255.0"),
            route("br-lan", "172.16.0.0", "192.168.1.254", "0003", "255.240.0.0"),
            route("eth1", "198.51.100.0", "0.0.0.0", "0000", "255.255.255.0"),
            route("*", "203.0.113.0", "0.0.0.0", "0201", "255.255.255.0"),
            route("eth0.2", "10.7.0.0", "0.0.0.0", "0001", "255.255.0.0"),
        ]
        .concat()
    }

    fn is_neighbour_v4(peer: &str, local: &str) -> bool {
        is_on_link_v4(routes().as_bytes(), peer.parse().unwrap(), local.parse().unwrap()).unwrap()
    }

    #[test]
    fn ipv4_neighbours_share_a_connected_prefix_with_our_address() {
        assert!(is_neighbour_v4("192.168.1.30", "192.168.1.1"));
        assert!(is_neighbour_v4("10.7.255.255", "10.7.0.1"));
        assert!(!is_neighbour_v4("192.168.2.30", "192.168.1.1"), "another network");
        assert!(!is_neighbour_v4("192.168.1.30", "10.7.0.1"), "a neighbour of another address");
        assert!(!is_neighbour_v4("172.16.0.9", "172.16.0.1"), "behind a gateway");
        assert!(!is_neighbour_v4("198.51.100.9", "198.51.100.1"), "the interface is down");
        assert!(!is_neighbour_v4("203.0.113.9", "203.0.113.1"), "a reject route");
    }

    /// SEC-relay-a: with the default route over PPP, or a VPN's two halves of it, the Internet is no
    /// neighbour.
    #[test]
    fn a_default_route_without_gateway_makes_no_neighbours() {
        assert!(!is_neighbour_v4("8.8.8.8", "100.64.0.2"));
        assert!(!is_neighbour_v4("200.0.0.1", "198.51.100.7"));
    }

    #[test]
    fn octets_of_a_route_are_in_the_order_of_memory() {
        let text = if cfg!(target_endian = "little") { "0001A8C0" } else { "C0A80100" };
        assert_eq!(address_v4(text), Some(0xc0a8_0100));
        assert_eq!(address_v4("C0A801"), None);
        assert_eq!(address_v4("C0A8010x"), None);
    }

    const ADDRESSES: &str = "00000000000000000000000000000001 01 80 10 80       lo\n\
        fe800000000000000000000000000001 02 40 20 80   br-lan\n\
        fd0012340000000100000000000000aa 02 40 00 00   br-lan\n\
        fd0012340000000100000000000000bb 02 80 00 00   br-lan\n\
        20010db8000000000000000000000001 03 00 00 00     wan6\n\
        20010db8000000000000000000000001 03 81 00 00   broken\n\
        20010db8 03 40 00 00   broken\n";

    fn is_neighbour_v6(peer: &str, local: &str) -> bool {
        is_on_link_v6(ADDRESSES.as_bytes(), peer.parse().unwrap(), local.parse().unwrap()).unwrap()
    }

    #[test]
    fn ipv6_neighbours_share_a_prefix_of_an_interface_with_our_address() {
        assert!(is_neighbour_v6("fd00:1234:0:1::30", "fd00:1234:0:1::aa"));
        assert!(is_neighbour_v6("fd00:1234:0:1::30", "fd00:1234:0:1::bb"), "a /128 beside the /64");
        assert!(is_neighbour_v6("::1", "::1"));
        assert!(!is_neighbour_v6("fd00:1234:0:2::30", "fd00:1234:0:1::aa"));
        assert!(!is_neighbour_v6("2001:db8::30", "2001:db8::1"), "a prefix of no bits");
    }

    #[test]
    fn link_local_peers_are_neighbours_and_families_do_not_mix() {
        let (local, peer) = ("fe80::1".parse().unwrap(), "fe80::30".parse().unwrap());
        assert!(is_on_link(peer, local).unwrap());
        assert!(!is_on_link("192.0.2.1".parse().unwrap(), local).unwrap());
        assert!(!is_on_link(peer, "192.0.2.1".parse().unwrap()).unwrap());
    }

    #[test]
    fn no_text_is_misread() {
        for text in
            ["", "\n\n", "a\tb\tc", "\u{fffd}", "Iface Destination Gateway Flags RefCnt Use Metric Mask"]
        {
            let (peer, local) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
            assert!(!is_on_link_v4(text.as_bytes(), peer, local).unwrap());
            assert!(!is_on_link_v6(text.as_bytes(), Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST).unwrap());
        }
    }
}
