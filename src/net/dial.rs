//! From a host's name and port to a connection, without waiting: its addresses are tried in order (RFC 5321
//! 5.1).
//!
//! The next address is tried at once when one fails, and beside it when it has not answered within
//! [`NEXT_ADDRESS_AFTER`]: an IPv6 that leads nowhere costs seconds (RFC 8305 5, with its delay made longer,
//! since nobody watches). The first connection that stands is taken; its address comes first next time. A
//! name whose addresses all fail is asked for anew.

use std::io::{Error, ErrorKind};
use std::mem;
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::hosts::Addresses;
use super::resolver::{Lookup, NameIndex, Resolver};
use crate::sender::Fault;
use crate::time::{Duration, Instant};

/// How long an address may take before the next one is tried beside it.
pub const NEXT_ADDRESS_AFTER: Duration = Duration(2500);
/// How long the last address may take to answer; the others have at least as long as the tries after them.
const CONNECT_TIMEOUT: Duration = Duration::from_s(30);
/// Addresses tried at once; the oldest try makes way.
const TRIES_MAX: usize = 4;

/// A connection that stands, and its near end's address.
pub type Connected = (TcpStream, IpAddr);

/// All connections on their way, by their places.
#[derive(Debug)]
pub struct Dials {
    resolver: Resolver,
    dials: Box<[Dial]>,
}

#[derive(Debug)]
struct Dial {
    port: u16,
    /// The token of all its sockets.
    token: Token,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Vacant,
    Resolving(NameIndex),
    Connecting(Connecting),
    Done(Result<Connected, Fault>),
}

/// Addresses being tried.
#[derive(Debug)]
struct Connecting {
    name: Option<NameIndex>,
    /// The last one first.
    untried: Addresses,
    /// The oldest first.
    tries: heapless::Vec<(TcpStream, IpAddr), TRIES_MAX>,
    /// When the next address is tried, if there is one.
    next_at: Instant,
    /// When no try has any more time.
    give_up_at: Instant,
}

impl Dials {
    /// Room for `count` of them.
    pub fn new(resolver: Resolver, count: usize) -> Self {
        let dial = |_| Dial { port: 0, token: Token(0), stage: Stage::Vacant };
        Self { resolver, dials: (0..count).map(dial).collect() }
    }

    /// Begins to connect to `host`; the sockets have `token`, for which [`Dials::told`] is to be called.
    pub fn start(
        &mut self,
        now: Instant,
        registry: &Registry,
        at: usize,
        (host, port): (&str, u16),
        token: Token,
    ) {
        let lookup = self.resolver.look_up(now, registry, host);
        self.dials[at] = Dial { port, token, stage: Stage::Vacant };
        self.dials[at].resolved(now, registry, &mut self.resolver, lookup);
    }

    /// Which connection was made or has failed, one a call.
    pub fn next_done(&mut self) -> Option<(usize, Result<Connected, Fault>)> {
        let at = self.dials.iter().position(|dial| matches!(dial.stage, Stage::Done(_)))?;
        match mem::replace(&mut self.dials[at].stage, Stage::Vacant) {
            Stage::Done(result) => Some((at, result)),
            Stage::Vacant | Stage::Resolving(_) | Stage::Connecting(_) => None,
        }
    }

    /// A socket of the one at `at` is ready.
    pub fn told(&mut self, now: Instant, registry: &Registry, at: usize) {
        self.dials[at].advance(now, registry, &mut self.resolver);
    }

    /// A name server's socket is ready.
    pub fn told_resolver(&mut self, now: Instant, registry: &Registry, name: NameIndex) {
        self.resolver.told(now, registry, name);
        self.resume(now, registry);
    }

    /// Judges all deadlines by `now`.
    pub fn expire(&mut self, now: Instant, registry: &Registry) {
        self.resolver.expire(now, registry);
        self.resume(now, registry);
        for dial in &mut self.dials {
            if let Stage::Connecting(connecting) = &dial.stage
                && connecting.deadline() <= now
            {
                dial.advance(now, registry, &mut self.resolver);
            }
        }
    }

    /// When something is due although nothing comes; `None`: never.
    pub fn deadline(&self) -> Option<Instant> {
        let connecting = self.dials.iter().filter_map(|dial| match &dial.stage {
            Stage::Connecting(connecting) => Some(connecting.deadline()),
            Stage::Vacant | Stage::Resolving(_) | Stage::Done(_) => None,
        });
        connecting.chain(self.resolver.deadline()).min()
    }

    /// The network may be another one: names are resolved anew.
    pub fn forget_names(&mut self) {
        self.resolver.forget_all();
    }

    /// The name may have led to another host: it is resolved anew.
    pub fn forget_name(&mut self, host: &str) {
        self.resolver.forget_name(host);
    }

    /// Goes on with those whose name is resolved.
    fn resume(&mut self, now: Instant, registry: &Registry) {
        for dial in &mut self.dials {
            if let Stage::Resolving(name) = dial.stage {
                let lookup = self.resolver.outcome(name);
                dial.resolved(now, registry, &mut self.resolver, lookup);
            }
        }
    }
}

impl Dial {
    fn resolved(&mut self, now: Instant, registry: &Registry, resolver: &mut Resolver, lookup: Lookup) {
        self.stage = match lookup {
            Lookup::Asking(name) => Stage::Resolving(name),
            Lookup::Failed(why) => Stage::Done(Err(Fault::Resolve(why))),
            Lookup::Known(mut addresses, name) => {
                addresses.reverse();
                let tries = heapless::Vec::new();
                Stage::Connecting(Connecting {
                    name,
                    untried: addresses,
                    tries,
                    next_at: now,
                    give_up_at: now,
                })
            }
        };
        self.advance(now, registry, resolver);
    }

    /// Sees what became of the tries, and begins the next one when it is time.
    fn advance(&mut self, now: Instant, registry: &Registry, resolver: &mut Resolver) {
        let Stage::Connecting(connecting) = &mut self.stage else { return };
        let result = match connecting.stands() {
            Some((address, connected)) => {
                if let Some(name) = connecting.name {
                    resolver.worked(name, address);
                }
                Ok(connected)
            }
            None => {
                connecting.try_next(now, registry, self.port, self.token);
                if !connecting.tries.is_empty() {
                    return;
                }
                if let Some(name) = connecting.name {
                    resolver.forget(name);
                }
                Err(Fault::Connect)
            }
        };
        self.stage = Stage::Done(result);
    }
}

impl Connecting {
    /// Drops the tries that have failed, and takes the first connection that stands.
    fn stands(&mut self) -> Option<(IpAddr, Connected)> {
        let mut standing = None;
        let mut at = 0;
        while at < self.tries.len() && standing.is_none() {
            let (stream, address) = &self.tries[at];
            match near_end(stream) {
                Ok(Some(local)) => standing = Some((at, local)),
                Ok(None) => at += 1,
                Err(error) => {
                    log::debug!("can't connect to {address}: {error}");
                    drop(self.tries.remove(at));
                    // A failure makes way for the next address at once.
                    self.next_at = Instant(0);
                }
            }
        }
        let (at, local) = standing?;
        let (stream, address) = self.tries.remove(at);
        Some((address, (stream, local)))
    }

    /// Begins to connect to the next address, if it is its turn; gives all up when the last one's time is
    /// over.
    fn try_next(&mut self, now: Instant, registry: &Registry, port: u16, token: Token) {
        while self.next_at <= now
            && let Some(address) = self.untried.pop()
        {
            match connect(registry, SocketAddr::new(address, port), token) {
                Ok(stream) => {
                    if self.tries.is_full() {
                        self.tries.remove(0);
                    }
                    self.tries.push((stream, address)).expect("there is room, as was just seen to");
                    self.next_at = now + NEXT_ADDRESS_AFTER;
                    self.give_up_at = now + CONNECT_TIMEOUT;
                }
                Err(error) => log::debug!("can't connect to {address}: {error}"),
            }
        }
        if self.untried.is_empty() && self.give_up_at <= now {
            self.tries.clear();
        }
    }

    fn deadline(&self) -> Instant {
        if self.untried.is_empty() { self.give_up_at } else { self.next_at }
    }
}

fn connect(registry: &Registry, address: SocketAddr, token: Token) -> Result<TcpStream, Error> {
    let mut stream = TcpStream::connect(address)?;
    registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(stream)
}

/// The near end's address of a connection that stands; `None` while it is on its way.
fn near_end(stream: &TcpStream) -> Result<Option<IpAddr>, Error> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => stream.local_addr().map(|local| Some(local.ip())),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(None),
        Err(error) => Err(error),
    }
}
