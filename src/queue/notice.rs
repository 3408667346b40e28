//! Whom a notice of failure goes to, if anybody, and how many of them there may be (RFC 5321 6.1 and 6.2).
//!
//! Nobody is told about a message with a null reverse-path that says it is a notice itself: so no loop of
//! relays keeps notices going. Of any other one, and of a reverse-path that only the site's own machines
//! know, as cameras and printers make them up and the smarthost would refuse, `admin` is told. The rates keep
//! a flood of bad mail, or a smarthost that refuses everything, from becoming a flood of notices; what is
//! beyond is in the log alone.
use crate::config::Config;
use crate::smtp::path::is_local_domain;
use crate::time::{Duration, Tick};

/// Notices an hour, to whomever.
pub const NOTICES_AN_HOUR_MAX: usize = 60;
/// Notices an hour to one address.
pub const NOTICES_TO_ONE_AN_HOUR_MAX: u8 = 12;
const HOUR: Duration = Duration::from_min(60);

/// Whom a notice goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The reverse-path.
    ReversePath,
    /// `admin`, which is set.
    Admin,
    /// Nobody, for this reason.
    Nowhere(&'static str),
}

/// Whom a notice of failure about a message with this reverse-path, empty for the null one, goes to.
/// `is_notice`: the message says that it is one itself, which counts with the null reverse-path alone.
pub fn destination(reverse_path: &[u8], is_notice: bool, config: &Config) -> Destination {
    if reverse_path.is_empty() && is_notice {
        return Destination::Nowhere("it is a notice itself");
    }
    let at = reverse_path.iter().rposition(|octet| *octet == b'@');
    match (at, &config.admin) {
        (Some(at), _) if !is_local_domain(&reverse_path[at + 1..], &config.hostname) => {
            Destination::ReversePath
        }
        (_, Some(_)) => Destination::Admin,
        (_, None) => Destination::Nowhere("its reverse-path is null or local, and \"admin\" is not set"),
    }
}

/// How many notices have gone out in this hour of the queue clock.
#[derive(Debug, Default)]
pub struct Rate {
    since: Tick,
    /// A mark of each address with its count; two addresses with one mark share their count.
    counts: heapless::Vec<(u32, u8), NOTICES_AN_HOUR_MAX>,
    sent: usize,
    dropped: u64,
}

impl Rate {
    /// No notice yet.
    pub const fn new() -> Self {
        Self { since: Tick(0), counts: heapless::Vec::new(), sent: 0, dropped: 0 }
    }

    /// True when one more may go to `address` at `now`; else the one that is not sent is counted.
    pub fn allows(&mut self, now: Tick, address: &[u8]) -> bool {
        if now.since(self.since) >= HOUR {
            self.since = now;
            self.counts.clear();
            self.sent = 0;
        }
        let mark = mark(address);
        let to_one = self.counts.iter().find(|(known, _)| *known == mark).map_or(0, |(_, count)| *count);
        let may = self.sent < NOTICES_AN_HOUR_MAX && to_one < NOTICES_TO_ONE_AN_HOUR_MAX;
        self.dropped += u64::from(!may);
        may
    }

    /// One was taken by the smarthost for `address`.
    pub fn sent(&mut self, address: &[u8]) {
        let mark = mark(address);
        self.sent += 1;
        match self.counts.iter_mut().find(|(known, _)| *known == mark) {
            Some((_, count)) => *count = count.saturating_add(1),
            // A refused push: so many were sent that none is allowed.
            None => drop(self.counts.push((mark, 1))),
        }
    }

    /// Notices that were not sent since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// FNV-1a over the address in lower case.
fn mark(address: &[u8]) -> u32 {
    address.iter().fold(0x811c_9dc5, |mark, octet| {
        (mark ^ u32::from(octet.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(admin: &str) -> Config {
        let text = format!("{admin}[smarthost]\nhost = \"192.0.2.25\"\ntls = \"none\"\n");
        Config::parse(&text, Path::new("postern.toml"), "relay.site.example").unwrap()
    }

    /// B-6.1-a, B-6.1-c.
    #[test]
    fn whom_to_tell() {
        let with_admin = config("admin = \"you@example.com\"\n");
        for (path, told) in [
            ("", Destination::Admin),
            ("ups@example.com", Destination::ReversePath),
            ("ups@sub.lan.example", Destination::ReversePath),
            ("\"a@b.lan\"@example.com", Destination::ReversePath),
            ("camera@localhost", Destination::Admin),
            ("camera@nas", Destination::Admin),
            ("camera@nas.LAN", Destination::Admin),
            ("camera@lan", Destination::Admin),
            ("camera@door.local", Destination::Admin),
            ("camera@x.home.arpa", Destination::Admin),
            ("camera@[192.168.1.3]", Destination::Admin),
            ("root@Relay.Site.Example", Destination::Admin),
            ("root", Destination::Admin),
        ] {
            assert_eq!(destination(path.as_bytes(), path == "root", &with_admin), told, "{path}");
        }
        assert!(matches!(destination(b"", true, &with_admin), Destination::Nowhere(_)));
        assert!(matches!(destination(b"", false, &config("")), Destination::Nowhere(_)));
        assert!(matches!(destination(b"camera@nas", false, &config("")), Destination::Nowhere(_)));
        assert_eq!(destination(b"ups@example.com", true, &config("")), Destination::ReversePath);
    }

    /// B-6.2-a: a bound for one address and for all, hour by hour.
    #[test]
    fn rates() {
        let mut rate = Rate::new();
        let mut send = |now: u64, address: &str| {
            let may = rate.allows(Tick(now * 1000), address.as_bytes());
            if may {
                rate.sent(address.as_bytes());
            }
            may
        };
        assert_eq!((0..100).filter(|_| send(5000, "A@b.example")).count(), 12);
        assert!(!send(8599, "a@b.example"));
        assert!(send(8599, "c@d.example"));
        assert_eq!((0..100).filter(|n| send(8599, &format!("{n}@d.example"))).count(), 60 - 13);
        assert!(send(8600, "a@b.example"));
        assert_eq!(rate.dropped(), 88 + 1 + 53);
    }
}
