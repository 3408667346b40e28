//! A host's addresses by the hosts file, which counts before any name server.
//!
//! The file is small and local, so reading it answers at once; it is read at each use, so that an edit counts
//! without a restart. What it doesn't hold is for the resolver.

use core::net::IpAddr;
use std::fs::File;
use std::io::{self, Read};

use super::lines::visit_lines;

/// Addresses of one name that are kept; further ones are passed over.
pub const ADDRESSES_MAX: usize = 8;
/// Where the system keeps its host names.
const PATH: &str = "/etc/hosts";

/// The addresses of one name, in the order of the file (RFC 5321 5.1: tried in that order).
pub type Addresses = heapless::Vec<IpAddr, ADDRESSES_MAX>;

/// The addresses of `name` in `/etc/hosts`, none if the name isn't there. Fails when the file can't be read.
pub fn look_up(name: &str) -> io::Result<Addresses> {
    look_up_in(File::open(PATH)?, name)
}

/// The addresses of `name` in `source`, a text in the form of hosts(5).
pub fn look_up_in(source: impl Read, name: &str) -> io::Result<Addresses> {
    let mut addresses = Addresses::new();
    visit_lines(source, |line| {
        if let Some(address) = address_of(line, name)
            && !addresses.contains(&address)
        {
            return addresses.push(address).is_ok();
        }
        true
    })?;
    Ok(addresses)
}

/// The address of `line` if one of the line's names is `name`.
fn address_of(line: &[u8], name: &str) -> Option<IpAddr> {
    let line = core::str::from_utf8(line.split(|&octet| octet == b'#').next()?).ok()?;
    let mut words = line.split_ascii_whitespace();
    let address = words.next()?.parse().ok()?;
    words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "127.0.0.1\tlocalhost\n\
        ::1 localhost ip6-localhost\n\
        \n\
        # 192.0.2.1 commented.example\n\
        192.0.2.25   smtp.example.com  smtp  # 192.0.2.9 behind.example\n\
        fe80::1%eth0 scoped.example\n\
        nonsense smtp\n\
        2001:db8::25 SMTP.Example.COM\r\n\
        192.0.2.25 smtp\n\
        192.0.2.26 smtp.example.com.invalid\n\
        192.0.2.27 last";

    fn found(name: &str) -> Vec<String> {
        look_up_in(TEXT.as_bytes(), name).unwrap().iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn names_have_their_addresses_in_the_order_of_the_file() {
        assert_eq!(found("smtp.example.com"), ["192.0.2.25", "2001:db8::25"]);
        assert_eq!(found("SMTP"), ["192.0.2.25"]);
        assert_eq!(found("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(found("last"), ["192.0.2.27"]);
        for name in ["commented.example", "behind.example", "scoped.example", "smtp.example", "", "#"] {
            assert_eq!(found(name), [""; 0], "{name}");
        }
    }

    #[test]
    fn addresses_beyond_the_bound_are_passed_over() {
        let text: String = (0..20).map(|host| format!("192.0.2.{host} many\n")).collect();
        let addresses = look_up_in(text.as_bytes(), "many").unwrap();
        assert_eq!(addresses.len(), ADDRESSES_MAX);
        assert_eq!(addresses[7], IpAddr::from([192, 0, 2, 7]));
    }
}
