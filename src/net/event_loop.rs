//! The one loop: sockets, timers, signals. The only caller of [`Relay`] beside the simulator, and the only
//! place that waits.
//!
//! A turn: events, pump, results and one sync, receipts, deadlines last. After a slow sync the sockets are
//! read before any deadline is judged: deadlines are compared with the time at the turn's start.
//!
//! Absent on purpose: a thread, reverse DNS, a wake-up without a reason.

mod connecting;

use std::io::{Error, ErrorKind, Write};
use std::net::SocketAddr;

use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;

use super::connection::{Pumped, Socket};
use super::control::{self, Controls};
use super::dial::Dials;
use super::downstream::Downstream;
use super::entrance::{ENTRANCES_MAX, Entrance};
use super::network::Network;
use super::resolver::{NAMES_MAX, NameIndex, Resolver, Source};
use super::upstream::Upstream;
use super::wire::Wire;
use super::{StartError, clock, privileges, users};
use crate::config::{self, Config};
use crate::limits::{RECEIVER_SESSIONS, SENDER_CONNECTIONS, SMARTHOSTS};
use crate::receiver::Peer;
use crate::relay::{Connection, Relay, Room};
use crate::spool::{BLOCK_OCTETS, OpenError, Recovery, SpoolFile, Start, Store, start_at};
use crate::time::{Duration, Instant, Now};

mod reload;

const EVENTS_MAX: usize = 256;
/// Clients accepted in one turn.
const ACCEPTED_MAX: usize = 64;
/// How long open sessions have to take their 421 when we stop.
const STOP_WITHIN: Duration = Duration::from_s(1);

/// How often a spool that another process has is tried at the start.
const SPOOL_TRIES_MAX: u32 = 20;
/// How long is waited in between.
const SPOOL_TRY_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

const SIGNALS: Token = Token(0);
const CLOCK: Token = Token(1);
const NETWORK: Token = Token(2);
const ENTRANCES: usize = 3;
const SLOTS: usize = ENTRANCES + ENTRANCES_MAX;
const SLOTS_COUNT: usize = Connection::COUNT;
const NAMES: usize = SLOTS + SLOTS_COUNT;
const CONTROLS: usize = NAMES + NAMES_MAX;
/// A token is a place and the generation of its socket: events of a socket that is gone find nobody.
const PLACE_BITS: u32 = 12;
/// Of the sockets over which access tokens come, one a smarthost.
const TOKENS: usize = CONTROLS + control::PLACES;
/// The bits of a generation.
pub(super) const GENERATIONS: usize = usize::MAX >> PLACE_BITS;
const _: () = assert!(TOKENS + SMARTHOSTS <= 1 << PLACE_BITS);

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// Call [`EventLoop::turn`] again.
    Yes,
    /// It was told to stop, and has.
    No,
}

/// The relay at work.
pub struct EventLoop {
    events: Events,
    driver: Driver,
}

#[derive(Debug)]
struct Slot {
    link: Link,
    generation: usize,
    is_runnable: bool,
}

/// What a slot is connected to.
#[derive(Debug)]
enum Link {
    None,
    /// On its way, in the place of the same number among the [`Dials`].
    Dialling,
    Open(Socket),
}

struct Driver {
    poll: Poll,
    signals: Signals,
    relay: Relay<SpoolFile>,
    /// Host and port of each, in the order of the configuration.
    smarthosts: Vec<(String, u16)>,
    upstream: Upstream,
    downstream: Downstream,
    entrance: Entrance,
    addresses: Vec<SocketAddr>,
    slots: Box<[Slot]>,
    controls: Controls,
    dials: Dials,
    network: Network,
    stop_at: Option<Instant>,
    wants_reload: bool,
    /// Settings that wait for their moment.
    prepared: Option<Box<reload::Prepared>>,
}

impl EventLoop {
    /// Opens the spool and the listeners.
    ///
    /// # Errors
    /// What of the configuration can't be had from the system.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let identity = privileges::identity(config.run_as.as_ref())?;
        let poll = Poll::new().map_err(StartError::System)?;
        let entrance = Entrance::open(&config, poll.registry(), ENTRANCES)?;
        let controls = Controls::open(&config, poll.registry(), CONTROLS)?;
        if let Some(identity) = identity.as_ref().filter(|_| privileges::is_root()) {
            entrance.hand_over(identity);
            controls.hand_over(identity);
        }
        // All else is opened as the one who will have to open it again.
        privileges::give_up(identity.as_ref(), &config.spool.path)?;
        let now = clock::now();
        let upstream = Upstream::new(&config)?;
        let downstream = Downstream::new(&config)?;
        let users = users::read(&config.users)?;
        let blocks = u32::try_from(config.spool.octets / BLOCK_OCTETS as u64).unwrap_or(u32::MAX);
        let start = Start { blocks, seed: clock::seed(), now: now.instant };
        let (spool, recovery) = start_spool(&config.spool, start)
            .map_err(|error| StartError::Spool { path: config.spool.path.clone(), error })?;
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1]).map_err(StartError::System)?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE).map_err(StartError::System)?;
        upstream.watch_clock(poll.registry(), CLOCK).map_err(StartError::System)?;
        let addresses = entrance.addresses().map_err(StartError::System)?;
        // Told only now, so that a start that is refused says one line, its reason.
        log::info!(
            "started version={} spool={} blocks={} messages={} interrupted={} set-aside={}",
            env!("CARGO_PKG_VERSION"),
            config.spool.path.display(),
            spool.blocks(),
            recovery.messages,
            recovery.interrupted,
            recovery.set_aside
        );
        for address in &addresses {
            log::info!("listening address={address}");
        }
        if let Some(error) = entrance.no_submission() {
            let path = config.submit.path.display();
            log::warn!("no submission socket at {path}, sendmail doesn't reach this relay: {error}");
        }
        if let Some(error) = controls.no_socket() {
            let path = config.control.path.display();
            log::warn!("no control socket at {path}, queue and status don't reach this relay: {error}");
        }
        let slot = |_| Slot { link: Link::None, generation: 0, is_runnable: false };
        let smarthosts = config.smarthosts.iter();
        let smarthosts = smarthosts.map(|smarthost| (smarthost.host.clone(), smarthost.port)).collect();
        let mut relay = Relay::new(config, spool, clock::seed());
        relay.set_users(users);
        let network = Network::watch(poll.registry(), NETWORK);
        let driver = Driver {
            poll,
            signals,
            relay,
            smarthosts,
            upstream,
            downstream,
            entrance,
            addresses,
            controls,
            slots: (0..SLOTS_COUNT).map(slot).collect(),
            dials: Dials::new(Resolver::new(Source::System, NAMES), SENDER_CONNECTIONS + SMARTHOSTS),
            network,
            stop_at: None,
            wants_reload: false,
            prepared: None,
        };
        Ok(Self { events: Events::with_capacity(EVENTS_MAX), driver })
    }

    /// The addresses that are listened on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.driver.addresses
    }

    /// Waits for something to do, at most `wait_max`, and does it.
    ///
    /// # Errors
    /// The kernel refuses to wait: nothing can go on.
    pub fn turn(&mut self, wait_max: Option<std::time::Duration>) -> Result<Running, Error> {
        let driver = &mut self.driver;
        let wait = driver.wait(clock::now().instant);
        let wait = wait.into_iter().chain(wait_max).min();
        match driver.poll.poll(&mut self.events, wait) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            Err(error) => return Err(error),
        }
        let now = clock::now();
        for event in &self.events {
            driver.told(&now, event);
        }
        driver.accept(&now);
        driver.pump_runnable(&now);
        driver.controls.turn(&now, driver.poll.registry(), &mut driver.relay, token_at);
        driver.relay.turn(&now);
        driver.controls.turned(&now, &mut driver.relay);
        driver.pump_touched(&now);
        driver.expire(&now);
        driver.take_prepared(&now);
        driver.connect(&now);
        Ok(driver.running(&now))
    }
}

impl Driver {
    /// How long nothing is to be done when no event comes.
    fn wait(&self, now: Instant) -> Option<std::time::Duration> {
        if self.slots.iter().any(|slot| slot.is_runnable)
            || self.entrance.may_accept()
            || self.controls.is_runnable()
        {
            return Some(std::time::Duration::ZERO);
        }
        let upstream = [self.upstream.watch_at(), self.upstream.token_deadline(), self.network.deadline()];
        let due = [self.relay.deadline(now), self.dials.deadline(), self.stop_at];
        let more = [self.entrance.rests_until(), self.controls.deadline()];
        let due = due.into_iter().chain(more).chain(upstream).flatten().min()?;
        Some(std::time::Duration::from_millis(due.since(now).0))
    }

    fn told(&mut self, now: &Now, event: &mio::event::Event) {
        let token = event.token();
        if token == SIGNALS {
            self.signalled(now);
            return;
        }
        if token == CLOCK {
            self.upstream.take_clock_step();
            self.relay.clock_stepped(now);
            return;
        }
        if token == NETWORK {
            self.network_told(now.instant);
            return;
        }
        let place = token.0 & ((1 << PLACE_BITS) - 1);
        if place < SLOTS {
            self.entrance.told(place - ENTRANCES);
            return;
        }
        let registry = self.poll.registry();
        if place >= TOKENS {
            let smarthost = place - TOKENS;
            if !self.upstream.token_told(smarthost, event) {
                self.dials.told(now.instant, registry, SENDER_CONNECTIONS + smarthost);
            }
            return;
        }
        if place >= CONTROLS {
            self.controls.told(place - CONTROLS, token.0 >> PLACE_BITS, event);
            return;
        }
        if place >= NAMES {
            self.dials.told_resolver(now.instant, registry, NameIndex(place - NAMES));
            return;
        }
        let index = place - SLOTS;
        if self.slots[index].generation != token.0 >> PLACE_BITS {
            return;
        }
        match &mut self.slots[index].link {
            Link::None => {}
            Link::Dialling => self.dials.told(now.instant, registry, index - RECEIVER_SESSIONS),
            Link::Open(socket) => {
                socket.told(event);
                self.pump(now, index);
            }
        }
    }

    fn network_told(&mut self, now: Instant) {
        if self.network.told() {
            // What they lead to may be another one's by now.
            self.dials.forget_names();
            if self.relay.awaits_network() {
                self.network.changed(now);
            }
        }
    }

    fn signalled(&mut self, now: &Now) {
        for signal in self.signals.pending() {
            match signal {
                SIGUSR1 => {
                    self.dials.forget_names();
                    self.relay.retry_all(now);
                }
                SIGHUP => self.wants_reload = true,
                _ if self.stop_at.is_none() => {
                    log::info!("stopping signal={signal}");
                    self.stop_at = Some(now.instant + STOP_WITHIN);
                    self.entrance.close();
                    self.controls.close();
                    self.relay.shut_down(now);
                }
                _ => {}
            }
        }
    }

    /// Takes clients in as long as there are any, and room.
    fn accept(&mut self, now: &Now) {
        for _ in 0..ACCEPTED_MAX {
            let Some((wire, peer)) = self.entrance.next(now.instant) else { return };
            match self.relay.make_room(now) {
                Room::Free => {}
                Room::Evicted(worst) => self.let_go(now, worst),
                Room::FreeAt(at) => {
                    self.entrance.put_back((wire, peer), at);
                    return;
                }
            }
            self.admit(now, wire, peer);
        }
    }

    fn admit(&mut self, now: &Now, mut wire: Wire, peer: Peer) {
        match self.relay.admit(now, peer) {
            Ok(at) => self.open(now, at, wire),
            Err(reply) => {
                log::warn!("refused client={} reason=\"too many connections\"", peer.origin);
                // A new socket's buffer is empty: the line fits, or the client is gone.
                let _ = wire.write(reply);
            }
        }
    }

    /// Gives a connected socket to its slot.
    fn open(&mut self, now: &Now, at: Connection, mut stream: Wire) {
        let index = at.index();
        stream.set_nodelay();
        let slot = &mut self.slots[index];
        let token = token_of(index, slot.generation);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, token, interest) {
            log::warn!("can't watch a socket: {error}");
            self.relay.closed(now, at);
            return;
        }
        slot.link = Link::Open(Socket::new(stream));
        self.pump(now, index);
    }

    fn pump(&mut self, now: &Now, index: usize) {
        let slot = &mut self.slots[index];
        let Link::Open(socket) = &mut slot.link else { return };
        let sides = (&mut self.upstream, &mut self.downstream);
        match socket.pump(now, Connection::at(index), &mut self.relay, sides) {
            Pumped::Idle => slot.is_runnable = false,
            Pumped::Runnable => slot.is_runnable = true,
            Pumped::Over => self.drop_socket(now, index),
        }
    }

    fn drop_socket(&mut self, now: &Now, index: usize) {
        self.vacate(index);
        self.relay.closed(now, Connection::at(index));
    }

    /// The slot's socket, if any, is closed; late events of it find another generation.
    fn vacate(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.link = Link::None;
        slot.generation = (slot.generation + 1) & GENERATIONS;
        slot.is_runnable = false;
    }

    /// Sends what can be sent at once, and closes.
    fn let_go(&mut self, now: &Now, at: Connection) {
        let index = at.index();
        self.pump(now, index);
        if !matches!(self.slots[index].link, Link::None) {
            self.drop_socket(now, index);
        }
    }

    fn pump_runnable(&mut self, now: &Now) {
        for index in 0..SLOTS_COUNT {
            if self.slots[index].is_runnable {
                self.pump(now, index);
            }
        }
    }

    fn pump_touched(&mut self, now: &Now) {
        while let Some(at) = self.relay.next_touched() {
            self.pump(now, at.index());
        }
    }

    fn expire(&mut self, now: &Now) {
        if self.controls.takes_fresh_names() {
            self.dials.forget_names();
        }
        if self.network.has_turn(now.instant) {
            self.relay.network_changed(now);
        }
        self.relay.expire(now);
        self.pump_touched(now);
        for smarthost in 0..self.smarthosts.len() {
            let is_refused = self.relay.rests_for_login(smarthost);
            if self.upstream.has_new_secret(smarthost, is_refused, now.instant) {
                self.relay.secret_changed(now, smarthost);
            }
        }
        self.dials.expire(now.instant, self.poll.registry());
    }

    fn running(&mut self, now: &Now) -> Running {
        let Some(stop_at) = self.stop_at else { return Running::Yes };
        let is_idle = self.slots.iter().all(|slot| matches!(slot.link, Link::None | Link::Dialling));
        if !is_idle && now.instant < stop_at {
            return Running::Yes;
        }
        self.relay.close(now);
        Running::No
    }
}

/// Starts the spool; waits a little for a `sendmail` that has it just now.
fn start_spool(spool: &config::Spool, start: Start) -> Result<(Store<SpoolFile>, Recovery), OpenError> {
    for _ in 0..SPOOL_TRIES_MAX {
        match start_at(&spool.path, spool.volatile, start) {
            Err(OpenError::InUse) => std::thread::sleep(SPOOL_TRY_EVERY),
            started => return started,
        }
    }
    Err(OpenError::InUse)
}

fn token_of(index: usize, generation: usize) -> Token {
    token_at(SLOTS + index, generation)
}

fn token_at(place: usize, generation: usize) -> Token {
    Token(place | generation << PLACE_BITS)
}
