//! One name on its way to its addresses: whom to ask next, and what the replies come to. Pure: sockets, the
//! clock and randomness are its driver's.
//!
//! AAAA and A are asked for at once, each under an id of its own. A server that is silent, unreachable, or
//! says that it can't tell makes way for the next; after the last one it begins anew, up to the number of
//! attempts. That a name does not exist, or has no address, is final.
//!
//! Some servers never reply to one of the two questions: when the other one has brought addresses, what is
//! missing is waited for only [`SETTLE_WITHIN`]. All ends within [`GIVE_UP_AFTER`].

use core::net::SocketAddr;

use super::packet::{self, Family, Name, Query, Reply};
use super::servers::Servers;
use crate::net::hosts::{ADDRESSES_MAX, Addresses};
use crate::sender::Unresolved;
use crate::time::{Duration, Instant};

/// How long all servers together may take.
pub const GIVE_UP_AFTER: Duration = Duration::from_s(30);
/// How long the second family may take when the first one is known.
pub const SETTLE_WITHIN: Duration = Duration(500);
/// The shortest time for which addresses are kept.
pub const KEPT_MIN: Duration = Duration::from_s(5);
/// The longest: an address that a hijacked network gave out doesn't stay for days.
pub const KEPT_MAX: Duration = Duration::from_min(60);
/// Aliases that are asked for in turn, where a server doesn't follow them itself.
const ALIASES_MAX: u8 = 8;
/// The questions, by their places.
pub const FAMILIES: [Family; 2] = [Family::V6, Family::V4];

/// How a question is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram each way.
    Udp,
    /// A connection, each message behind its length in two octets (RFC 1035 4.2.2).
    Tcp,
}

/// A question to be asked now.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which of the two.
    pub family: Family,
    /// Whom.
    pub server: SocketAddr,
    /// How.
    pub transport: Transport,
    /// What.
    pub query: Query,
}

/// The addresses of a name, at least one, in the order in which they are to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The addresses: of both families by turns, IPv6 first (RFC 8305 4), each family in its server's order.
    pub addresses: Addresses,
    /// How long they hold.
    pub kept: Duration,
}

/// A name on its way.
#[derive(Debug)]
pub struct Resolution {
    servers: Servers,
    questions: [Question; 2],
    /// Which suffix stands behind the name, counted in `servers.search`.
    suffix: usize,
    give_up_at: Instant,
    /// When what is still missing is waited for no longer.
    settle_at: Option<Instant>,
}

#[derive(Debug)]
struct Question {
    family: Family,
    name: Name,
    id: u16,
    aliases: u8,
    /// Seconds that the aliases up to `name` hold.
    holds_s: u32,
    /// Servers asked so far.
    turns: u32,
    /// Why the last server was no help.
    failure: Unresolved,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Due(Transport),
    Asked {
        transport: Transport,
        until: Instant,
    },
    Known(Addresses),
    NoSuchName,
    /// No server was any help.
    Unanswered,
}

impl Resolution {
    /// Begins to resolve `host`. Fails when it is no name.
    pub fn new(host: &str, servers: Servers, now: Instant) -> Result<Self, Unresolved> {
        let first = if host.contains('.') { suffixes(&servers) } else { 0 };
        let (suffix, name) = next_name(host, &servers, first).ok_or(Unresolved::NoName)?;
        let questions = FAMILIES.map(|family| Question::new(family, name.clone()));
        Ok(Self { servers, questions, suffix, give_up_at: now + GIVE_UP_AFTER, settle_at: None })
    }

    /// The next question to ask, under `id`, which nobody can guess; `None` when there is none for now. Its
    /// outcome is told by [`Resolution::received`] or [`Resolution::unreachable`].
    pub fn next_ask(&mut self, now: Instant, id: u16) -> Option<Ask> {
        let question = self.questions.iter_mut().find(|question| matches!(question.phase, Phase::Due(_)))?;
        let Phase::Due(transport) = question.phase else { return None };
        let count = self.servers.addresses.len();
        if question.turns as usize >= count * usize::from(self.servers.attempts) {
            question.phase = Phase::Unanswered;
            return self.next_ask(now, id);
        }
        question.id = id;
        question.phase = Phase::Asked { transport, until: now + self.servers.timeout };
        Some(Ask {
            family: question.family,
            server: self.servers.addresses[question.turns as usize % count],
            transport,
            query: packet::query(id, &question.name, question.family),
        })
    }

    /// Whether a reply to the question for `family` is still of use.
    pub fn is_asked(&self, family: Family) -> bool {
        matches!(self.questions[family as usize].phase, Phase::Asked { .. })
    }

    /// The server that was asked for `family` can't be reached, or breaks its connection.
    pub fn unreachable(&mut self, family: Family) {
        let question = &mut self.questions[family as usize];
        if matches!(question.phase, Phase::Asked { .. }) {
            question.next_server(Unresolved::Unreachable);
        }
    }

    /// `octets` came from `from` where a reply to the question for `family` is waited for.
    pub fn received(&mut self, now: Instant, family: Family, from: SocketAddr, octets: &[u8]) {
        let count = self.servers.addresses.len();
        let question = &mut self.questions[family as usize];
        let Phase::Asked { transport, .. } = question.phase else { return };
        let server = self.servers.addresses[question.turns as usize % count];
        if (from.ip(), from.port()) != (server.ip(), server.port()) {
            return;
        }
        match packet::reply(octets, question.id, &question.name, family) {
            None => {}
            Some(Reply::Truncated) if transport == Transport::Udp => {
                question.phase = Phase::Due(Transport::Tcp);
            }
            Some(Reply::Truncated) => question.next_server(Unresolved::ServerFailed),
            Some(Reply::Failed(why)) => question.next_server(why),
            Some(Reply::NoSuchName) => question.phase = Phase::NoSuchName,
            Some(Reply::Addresses(addresses, seconds)) => {
                question.holds_s = question.holds_s.min(seconds);
                question.phase = Phase::Known(addresses);
            }
            Some(Reply::Alias(name, seconds)) => question.follow(name, seconds),
        }
        let is_known = matches!(&question.phase, Phase::Known(addresses) if !addresses.is_empty());
        if is_known && self.settle_at.is_none() {
            self.settle_at = Some(now + SETTLE_WITHIN);
        }
    }

    /// Judges the deadlines by `now`: a silent server makes way.
    pub fn expired(&mut self, now: Instant) {
        let is_over = self.settle_at.is_some_and(|at| at <= now) || self.give_up_at <= now;
        for question in &mut self.questions {
            match question.phase {
                Phase::Due(_) | Phase::Asked { .. } if is_over => question.phase = Phase::Unanswered,
                Phase::Asked { until, .. } if until <= now => question.next_server(Unresolved::Silent),
                Phase::Due(_)
                | Phase::Asked { .. }
                | Phase::Known(_)
                | Phase::NoSuchName
                | Phase::Unanswered => {}
            }
        }
    }

    /// When [`Resolution::expired`] is to be called.
    pub fn deadline(&self) -> Instant {
        let asked = self.questions.iter().filter_map(|question| match question.phase {
            Phase::Asked { until, .. } => Some(until),
            Phase::Due(_) | Phase::Known(_) | Phase::NoSuchName | Phase::Unanswered => None,
        });
        asked.chain(self.settle_at).fold(self.give_up_at, Instant::min)
    }

    /// What came of it, when that is clear. Where `host` may still be a name with another suffix behind it,
    /// that is what is asked for next.
    pub fn outcome(&mut self, host: &str) -> Option<Result<Found, Unresolved>> {
        let is_open = |question: &Question| matches!(question.phase, Phase::Due(_) | Phase::Asked { .. });
        if self.questions.iter().any(is_open) {
            return None;
        }
        let found = self.found();
        if !found.addresses.is_empty() {
            return Some(Ok(found));
        }
        let why = self.why();
        if !matches!(why, Unresolved::NoSuchName | Unresolved::NoAddress) {
            return Some(Err(why));
        }
        let next = next_name(host, &self.servers, self.suffix + 1);
        let Some((suffix, name)) = next else { return Some(Err(why)) };
        self.suffix = suffix;
        self.settle_at = None;
        self.questions = FAMILIES.map(|family| Question::new(family, name.clone()));
        None
    }

    fn found(&self) -> Found {
        let known = self.questions.each_ref().map(|question| match &question.phase {
            Phase::Known(addresses) => &addresses[..],
            Phase::Due(_) | Phase::Asked { .. } | Phase::NoSuchName | Phase::Unanswered => &[],
        });
        let by_turns = (0..ADDRESSES_MAX).flat_map(|place| known.map(|addresses| addresses.get(place)));
        let seconds = self.questions.iter().zip(known).filter(|(_, addresses)| !addresses.is_empty());
        let seconds = seconds.map(|(question, _)| question.holds_s).min().unwrap_or(0);
        Found {
            addresses: by_turns.flatten().copied().take(ADDRESSES_MAX).collect(),
            kept: Duration::from_s(seconds.into()).clamp(KEPT_MIN, KEPT_MAX),
        }
    }

    /// Why there is no address: what was said counts more than what was not.
    fn why(&self) -> Unresolved {
        let is_unanswered = |question: &&Question| matches!(question.phase, Phase::Unanswered);
        if self.questions.iter().any(|question| matches!(question.phase, Phase::NoSuchName)) {
            return Unresolved::NoSuchName;
        }
        self.questions.iter().find(is_unanswered).map_or(Unresolved::NoAddress, |question| question.failure)
    }
}

impl Question {
    fn new(family: Family, name: Name) -> Self {
        Self {
            family,
            name,
            id: 0,
            aliases: 0,
            holds_s: u32::MAX,
            turns: 0,
            failure: Unresolved::Silent,
            phase: Phase::Due(Transport::Udp),
        }
    }

    fn next_server(&mut self, why: Unresolved) {
        self.failure = why;
        self.turns += 1;
        self.phase = Phase::Due(Transport::Udp);
    }

    fn follow(&mut self, name: Name, seconds: u32) {
        self.aliases += 1;
        if self.aliases > ALIASES_MAX {
            self.phase = Phase::Known(Addresses::new());
            return;
        }
        self.name = name;
        self.holds_s = self.holds_s.min(seconds);
        self.phase = Phase::Due(Transport::Udp);
    }
}

fn suffixes(servers: &Servers) -> usize {
    servers.search.split_ascii_whitespace().count()
}

/// The next name to ask for from suffix `place` on: past the last suffix `host` stands alone. Suffixes that
/// make no name are passed over.
fn next_name(host: &str, servers: &Servers, place: usize) -> Option<(usize, Name)> {
    (place..=suffixes(servers)).find_map(|place| {
        let suffix = servers.search.split_ascii_whitespace().nth(place).unwrap_or_default();
        packet::name(host, suffix).map(|name| (place, name))
    })
}
