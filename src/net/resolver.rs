//! From a host's name to its addresses, without waiting: the hosts file at once, else the name servers over
//! the loop's own sockets (RFC 1034, RFC 1035).
//!
//! Answers are kept for their time to live, by the boot clock; one place for each name, [`NAMES_MAX`] in all.
//! Nothing is asked ahead of its use, so an idle relay asks nothing, holds no socket, and wakes up for
//! nothing.
//!
//! Against forged replies: for each question a new socket, on a port of the kernel's random choice, connected
//! to its server; a new random id; the question in the reply compared. A stranger would have to guess 32 bits
//! within the reply's time.
//!
//! Absent on purpose: MX (a smarthost is asked for by its address), DNSSEC (TLS says who the smarthost is), a
//! cache of failures (the route's back-off is one).

use core::net::IpAddr;
use std::io::Error;

use mio::{Registry, Token};

use self::line::Line;
use self::resolution::{FAMILIES, Resolution};
use self::servers::Servers;
use super::clock;
use super::hosts::{self, Addresses};
use crate::limits::{DOMAIN_OCTETS_MAX, RESOLVED_NAME_OCTETS, RESOLVED_NAMES};
use crate::sender::Unresolved;
use crate::time::Instant;

mod line;
pub mod packet;
pub mod resolution;
pub mod servers;

/// Names that are known or being resolved at once.
pub const NAMES_MAX: usize = RESOLVED_NAMES;

const _: () = assert!(size_of::<Entry>() <= RESOLVED_NAME_OCTETS);

/// Whom to ask.
#[derive(Clone, Debug)]
pub enum Source {
    /// The system's servers, read anew at each resolution.
    System,
    /// These.
    Fixed(Servers),
}

/// A name's place among those that are known or being resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameIndex(pub usize);

/// What is known of a name now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Its addresses, at least one, in the order to try them; and its place, if they came from a name server.
    Known(Addresses, Option<NameIndex>),
    /// It is being resolved: ask [`Resolver::outcome`] again after [`Resolver::told`] or
    /// [`Resolver::expire`].
    Asking(NameIndex),
    /// It has none.
    Failed(Unresolved),
}

/// The names and what is known of them.
#[derive(Debug)]
pub struct Resolver {
    source: Source,
    /// The name's place is added to it.
    first_token: usize,
    entries: Box<[Entry]>,
}

#[derive(Debug)]
struct Entry {
    host: heapless::String<DOMAIN_OCTETS_MAX>,
    /// Its way to a new answer, while it is on it.
    resolution: Option<Resolution>,
    lines: [Line; 2],
    /// The last answer.
    answer: Option<Result<Known, Unresolved>>,
}

#[derive(Debug)]
struct Known {
    addresses: Addresses,
    until: Instant,
}

impl Resolver {
    /// A resolver that knows nothing yet. Its sockets have [`NAMES_MAX`] tokens from `first_token` on.
    pub fn new(source: Source, first_token: usize) -> Self {
        let entry = |_| Entry {
            host: heapless::String::new(),
            resolution: None,
            lines: [Line::Closed, Line::Closed],
            answer: None,
        };
        Self { source, first_token, entries: (0..NAMES_MAX).map(entry).collect() }
    }

    /// The addresses of `host`, as far as they can be had at once; else begins to resolve it.
    pub fn look_up(&mut self, now: Instant, registry: &Registry, host: &str) -> Lookup {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Lookup::Known(Addresses::from_iter([address]), None);
        }
        match hosts::look_up(host) {
            Ok(addresses) if !addresses.is_empty() => return Lookup::Known(addresses, None),
            Ok(_) => {}
            Err(error) => log::debug!("can't read the hosts file: {error}"),
        }
        let at = match self.place_of(host) {
            Some(at) => at,
            None => match self.make_room(host) {
                Ok(at) => at,
                Err(why) => return Lookup::Failed(why),
            },
        };
        let entry = &mut self.entries[at];
        let is_known = matches!(&entry.answer, Some(Ok(known)) if now < known.until);
        if entry.resolution.is_none() && !is_known {
            let servers = match &self.source {
                Source::System => Servers::of_system(),
                Source::Fixed(servers) => servers.clone(),
            };
            match Resolution::new(host, servers, now) {
                Ok(resolution) => entry.resolution = Some(resolution),
                Err(why) => entry.answer = Some(Err(why)),
            }
            self.advance(now, registry, at);
        }
        self.outcome(NameIndex(at))
    }

    /// How the name at `at`, which was looked up before, stands now.
    pub fn outcome(&self, at: NameIndex) -> Lookup {
        let entry = &self.entries[at.0];
        match &entry.answer {
            _ if entry.resolution.is_some() => Lookup::Asking(at),
            Some(Ok(known)) => Lookup::Known(known.addresses.clone(), Some(at)),
            Some(Err(why)) => Lookup::Failed(*why),
            None => unreachable!("what was looked up is being resolved, or has an answer"),
        }
    }

    /// A socket of the name at `at` is ready.
    pub fn told(&mut self, now: Instant, registry: &Registry, at: NameIndex) {
        let Entry { resolution: Some(resolution), lines, .. } = &mut self.entries[at.0] else { return };
        for family in FAMILIES {
            let read = lines[family as usize].read(|from, octets| {
                resolution.received(now, family, from, octets);
                resolution.is_asked(family)
            });
            if let Err(error) = read {
                log::debug!("a name server is no help: {error}");
                resolution.unreachable(family);
            }
            if !resolution.is_asked(family) {
                lines[family as usize] = Line::Closed;
            }
        }
        self.advance(now, registry, at.0);
    }

    /// Judges all deadlines by `now`.
    pub fn expire(&mut self, now: Instant, registry: &Registry) {
        for at in 0..NAMES_MAX {
            if let Some(resolution) = &mut self.entries[at].resolution
                && resolution.deadline() <= now
            {
                resolution.expired(now);
                self.advance(now, registry, at);
            }
        }
    }

    /// When something is due although nothing comes; `None`: never.
    pub fn deadline(&self) -> Option<Instant> {
        let asking = self.entries.iter().filter_map(|entry| entry.resolution.as_ref());
        asking.map(Resolution::deadline).min()
    }

    /// The host answers at `address`: that is tried first, as long as the answer holds.
    pub fn worked(&mut self, at: NameIndex, address: IpAddr) {
        if let Some(Ok(known)) = &mut self.entries[at.0].answer
            && let Some(place) = known.addresses.iter().position(|known| *known == address)
        {
            known.addresses[..=place].rotate_right(1);
        }
    }

    /// The host answers at none of its addresses: they are asked for again at the next use.
    pub fn forget(&mut self, at: NameIndex) {
        if let Some(Ok(known)) = &mut self.entries[at.0].answer {
            known.until = Instant(0);
        }
    }

    /// The same by the name of the host, if that is known.
    pub fn forget_name(&mut self, host: &str) {
        if let Some(at) = self.place_of(host) {
            self.forget(NameIndex(at));
        }
    }

    /// The network may be another one: all is asked for again at its next use.
    pub fn forget_all(&mut self) {
        (0..NAMES_MAX).for_each(|at| self.forget(NameIndex(at)));
    }

    fn place_of(&self, host: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.host.eq_ignore_ascii_case(host))
    }

    /// The place for a new name: a free one, else that of the name whose time is over first.
    fn make_room(&mut self, host: &str) -> Result<usize, Unresolved> {
        let host = host.try_into().map_err(|_| Unresolved::NoName)?;
        let until = |entry: &Entry| match &entry.answer {
            Some(Ok(known)) => known.until,
            Some(Err(_)) | None => Instant(0),
        };
        let idle = self.entries.iter().enumerate().filter(|(_, entry)| entry.resolution.is_none());
        let (at, _) = idle.min_by_key(|(_, entry)| until(entry)).ok_or(Unresolved::Busy)?;
        self.entries[at].host = host;
        self.entries[at].answer = None;
        Ok(at)
    }

    /// Asks what is to be asked, and settles what is clear.
    fn advance(&mut self, now: Instant, registry: &Registry, at: usize) {
        let Entry { host, resolution: place, lines, answer } = &mut self.entries[at];
        let Some(resolution) = place else { return };
        let token = Token(self.first_token + at);
        // Each round asks at least one question or ends; the servers' turns bound the questions.
        let outcome = loop {
            while let Some(ask) = resolution.next_ask(now, clock::seed() as u16) {
                let line = &mut lines[ask.family as usize];
                *line = open(registry, token, &ask).unwrap_or(Line::Closed);
                if matches!(line, Line::Closed) {
                    resolution.unreachable(ask.family);
                }
            }
            if let Some(outcome) = resolution.outcome(host) {
                break outcome;
            }
            if FAMILIES.iter().any(|family| resolution.is_asked(*family)) {
                return;
            }
        };
        *lines = [Line::Closed, Line::Closed];
        *place = None;
        *answer = Some(outcome.map(|found| {
            log::debug!("resolved host={host} addresses={:?}", found.addresses);
            Known { addresses: found.addresses, until: now + found.kept }
        }));
    }
}

fn open(registry: &Registry, token: Token, ask: &resolution::Ask) -> Result<Line, Error> {
    Line::open(registry, token, ask)
        .inspect_err(|error| log::debug!("can't ask the name server {}: {error}", ask.server))
}
