//! From a host's name to its addresses, without waiting: the hosts file at once, else the name servers over the loop's own
//! sockets (RFC 1034, RFC 1035).
//!
//! Answers are kept for their time to live, by the boot clock; one place for each name, [`NAMES_MAX`] in all. Nothing is
//! asked ahead of its use, so an idle relay asks nothing, holds no socket, and wakes up for nothing.
//!
//! Against forged replies: for each question a new socket, on a port of the kernel's random choice, connected to its server;
//! a new random id; the question in the reply compared. A stranger would have to guess 32 bits within the reply's time.
//!
//! Absent on purpose: MX (a smarthost is asked for by its address), DNSSEC (TLS says who the smarthost is), a cache of
//! failures (the route's back-off is one).

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
    /// It is being resolved: ask [`Resolver::outcome`] again after [`Resolver::told`] or [`Resolver::expire`].
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
    state: State,
    lines: [Line; 2],
}

// One is much larger than the others, and all are reserved for it: that is what a place is for.
#[derive(Debug)]
enum State {
    Free,
    Asking(Resolution),
    Known { addresses: Addresses, until: Instant },
    Failed(Unresolved),
}

impl Resolver {
    /// A resolver that knows nothing yet. Its sockets have [`NAMES_MAX`] tokens from `first_token` on.
    pub fn new(source: Source, first_token: usize) -> Self {
        let entry = |_| Entry {
            host: heapless::String::new(),
            state: State::Free,
            lines: [Line::Closed, Line::Closed],
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
        let at = match self.entries.iter().position(|entry| entry.host.eq_ignore_ascii_case(host)) {
            Some(at) => at,
            None => match self.make_room(host) {
                Ok(at) => at,
                Err(why) => return Lookup::Failed(why),
            },
        };
        match &self.entries[at].state {
            State::Asking(_) => return Lookup::Asking(NameIndex(at)),
            State::Known { addresses, until } if now < *until => {
                return Lookup::Known(addresses.clone(), Some(NameIndex(at)));
            }
            State::Free | State::Known { .. } | State::Failed(_) => {}
        }
        let servers = match &self.source {
            Source::System => Servers::of_system(),
            Source::Fixed(servers) => servers.clone(),
        };
        self.entries[at].state = match Resolution::new(host, servers, now) {
            Ok(resolution) => State::Asking(resolution),
            Err(why) => State::Failed(why),
        };
        self.advance(now, registry, at);
        self.outcome(NameIndex(at))
    }

    /// How the name at `at`, which was looked up before, stands now.
    pub fn outcome(&self, at: NameIndex) -> Lookup {
        match &self.entries[at.0].state {
            State::Asking(_) => Lookup::Asking(at),
            State::Known { addresses, .. } => Lookup::Known(addresses.clone(), Some(at)),
            State::Failed(why) => Lookup::Failed(*why),
            State::Free => Lookup::Failed(Unresolved::NoAddress),
        }
    }

    /// A socket of the name at `at` is ready.
    pub fn told(&mut self, now: Instant, registry: &Registry, at: NameIndex) {
        let Entry { state, lines, .. } = &mut self.entries[at.0];
        let State::Asking(resolution) = state else { return };
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
            if let State::Asking(resolution) = &mut self.entries[at].state
                && resolution.deadline() <= now
            {
                resolution.expired(now);
                self.advance(now, registry, at);
            }
        }
    }

    /// When something is due although nothing comes; `None`: never.
    pub fn deadline(&self) -> Option<Instant> {
        let asking = self.entries.iter().filter_map(|entry| match &entry.state {
            State::Asking(resolution) => Some(resolution.deadline()),
            State::Free | State::Known { .. } | State::Failed(_) => None,
        });
        asking.min()
    }

    /// The host answers at `address`: that is tried first, as long as the answer holds.
    pub fn worked(&mut self, at: NameIndex, address: IpAddr) {
        if let State::Known { addresses, .. } = &mut self.entries[at.0].state
            && let Some(place) = addresses.iter().position(|known| *known == address)
        {
            addresses[..=place].rotate_right(1);
        }
    }

    /// The host answers at none of its addresses: they are asked for again at the next use.
    pub fn forget(&mut self, at: NameIndex) {
        if let State::Known { until, .. } = &mut self.entries[at.0].state {
            *until = Instant(0);
        }
    }

    /// The network may be another one: all is asked for again at its next use.
    pub fn forget_all(&mut self) {
        (0..NAMES_MAX).for_each(|at| self.forget(NameIndex(at)));
    }

    /// The place for a new name: a free one, else that of the name whose time is over first.
    fn make_room(&mut self, host: &str) -> Result<usize, Unresolved> {
        let host = host.try_into().map_err(|_| Unresolved::NoName)?;
        let place = |entry: &Entry| match entry.state {
            State::Asking(_) => None,
            State::Known { until, .. } => Some(until),
            State::Free | State::Failed(_) => Some(Instant(0)),
        };
        let places = self.entries.iter().enumerate();
        let (_, at) = places
            .filter_map(|(at, entry)| place(entry).map(|until| (until, at)))
            .min()
            .ok_or(Unresolved::Busy)?;
        self.entries[at].host = host;
        self.entries[at].state = State::Free;
        Ok(at)
    }

    /// Asks what is to be asked, and settles what is clear.
    fn advance(&mut self, now: Instant, registry: &Registry, at: usize) {
        let Entry { host, state, lines } = &mut self.entries[at];
        let State::Asking(resolution) = state else { return };
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
        *state = match outcome {
            Ok(found) => {
                log::debug!("resolved host={host} addresses={:?}", found.addresses);
                State::Known { addresses: found.addresses, until: now + found.kept }
            }
            Err(why) => State::Failed(why),
        };
    }
}

fn open(registry: &Registry, token: Token, ask: &resolution::Ask) -> Result<Line, Error> {
    Line::open(registry, token, ask)
        .inspect_err(|error| log::debug!("can't ask the name server {}: {error}", ask.server))
}
