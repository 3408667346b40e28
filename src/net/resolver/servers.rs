//! Whom to ask: the name servers of resolv.conf(5), and how patiently.
//!
//! The file is read at each resolution, so that what DHCP or an administrator changes counts at once. What of
//! it makes no sense is passed over: half a file is better than no mail.
//!
//! `search` (and `domain`) serve a host's name without dots, as `nas`. A name with a dot is taken as it
//! stands, whatever `ndots` says: a suffix behind it could lead the mail to another host. Other options, and
//! `sortlist`, mean nothing here.

use core::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::net::lines::visit_lines;
use crate::time::Duration;

/// Servers that are asked; further ones are passed over, as resolv.conf(5) has it.
pub const SERVERS_MAX: usize = 3;
/// Octets of all search suffixes.
pub const SEARCH_OCTETS_MAX: usize = 256;
/// Where the system says whom to ask.
pub const PATH: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
const TIMEOUT: Duration = Duration::from_s(5);
const TIMEOUT_S_MAX: u64 = 10;
const ATTEMPTS: u8 = 2;
const ATTEMPTS_MAX: u8 = 5;

/// The servers in their order, and how they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// Where they listen.
    pub addresses: heapless::Vec<SocketAddr, SERVERS_MAX>,
    /// How long one may take before the next is asked, at least a second from a file.
    pub timeout: Duration,
    /// How often each is asked, at least once.
    pub attempts: u8,
    /// What may stand behind a name without dots, in order, divided by spaces.
    pub search: heapless::String<SEARCH_OCTETS_MAX>,
}

impl Default for Servers {
    /// Without a file, the server on this machine.
    fn default() -> Self {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        Self {
            addresses: heapless::Vec::from_iter([here]),
            timeout: TIMEOUT,
            attempts: ATTEMPTS,
            search: heapless::String::new(),
        }
    }
}

impl Servers {
    /// The servers of the system; the one on this machine where the file names none, is missing, or can't be
    /// read.
    pub fn of_system() -> Self {
        File::open(PATH).and_then(Self::read).unwrap_or_default()
    }

    /// The servers of `source`, a text in the form of resolv.conf(5). Fails when it can't be read.
    pub fn read(source: impl Read) -> io::Result<Self> {
        let mut servers = Self { addresses: heapless::Vec::new(), ..Self::default() };
        visit_lines(source, |line| {
            if let Ok(line) = core::str::from_utf8(line) {
                servers.take(line);
            }
            true
        })?;
        if servers.addresses.is_empty() {
            servers.addresses = Self::default().addresses;
        }
        Ok(servers)
    }

    fn take(&mut self, line: &str) {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                if let Some(address) = words.next().and_then(server) {
                    // Past the third they are passed over.
                    let _ = self.addresses.push(address);
                }
            }
            // The last line of the two counts.
            Some("search" | "domain") => {
                self.search.clear();
                for suffix in words {
                    let suffix = suffix.trim_matches('.');
                    let is_too_long = self.search.len() + suffix.len() + 1 > SEARCH_OCTETS_MAX;
                    if !suffix.is_empty() && !is_too_long {
                        // Both fit, as was just seen.
                        let _ = self.search.push_str(suffix);
                        let _ = self.search.push(' ');
                    }
                }
            }
            Some("options") => words.for_each(|word| self.take_option(word)),
            _ => {}
        }
    }

    fn take_option(&mut self, word: &str) {
        let Some((key, value)) = word.split_once(':') else { return };
        let Ok(value) = value.parse::<u64>() else { return };
        match key {
            "timeout" => self.timeout = Duration::from_s(value.clamp(1, TIMEOUT_S_MAX)),
            "attempts" => self.attempts = value.clamp(1, ATTEMPTS_MAX.into()) as u8,
            _ => {}
        }
    }
}

/// The server at `text`: an address, for a link-local one with its interface behind `%`.
fn server(text: &str) -> Option<SocketAddr> {
    let Some((address, zone)) = text.split_once('%') else {
        return text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, PORT));
    };
    let scope = zone.parse().ok().or_else(|| interface_index(zone))?;
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, scope).into())
}

/// The number that the kernel gave to an interface.
fn interface_index(name: &str) -> Option<u32> {
    if name.contains('/') {
        return None;
    }
    let path = Path::new("/sys/class/net").join(name).join("ifindex");
    fs::read_to_string(path).ok()?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Servers {
        Servers::read(text.as_bytes()).unwrap()
    }

    fn addresses(text: &str) -> Vec<String> {
        read(text).addresses.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn servers_stand_in_the_order_of_the_file_up_to_three() {
        let text = "# nameserver 192.0.2.9\n; nameserver 192.0.2.8\n\
                    nameserver 192.0.2.1 # the router\nnameserver\t2001:db8::1\r\nnameserver nonsense\n\
                    nameserver fe80::1%7\nnameserver 192.0.2.4\n";
        assert_eq!(addresses(text), ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%7]:53"]);
        assert!(addresses("nameserver fe80::1%lo\n")[0].starts_with("[fe80::1%1]"));
        for text in ["", "search lan\n", "nameserver\n", "nameserver fe80::1%nowhere0\n"] {
            assert_eq!(addresses(text), ["127.0.0.1:53"], "{text}");
        }
    }

    #[test]
    fn patience_is_bounded() {
        let patience = |text| {
            let servers = read(text);
            (servers.timeout.0 / 1000, servers.attempts)
        };
        assert_eq!(patience(""), (5, 2));
        assert_eq!(patience("options timeout:1 rotate attempts:3\n"), (1, 3));
        assert_eq!(patience("options timeout:0 attempts:0\n"), (1, 1));
        assert_eq!(patience("options timeout:99999 attempts:99999\n"), (10, 5));
        assert_eq!(patience("options timeout:x attempts: ndots:-1 :\n"), (5, 2));
    }

    #[test]
    fn the_last_search_counts() {
        assert_eq!(read("domain example.org\nsearch lan. .home.arpa .\n").search, "lan home.arpa ");
        let long = format!("search {0} {0} {0}x short\n", "x".repeat(100));
        assert_eq!(read(&long).search.split(' ').map(str::len).collect::<Vec<_>>(), [100, 100, 5, 0]);
    }
}
