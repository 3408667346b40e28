//! What the event loop is to the relay: moves octets, takes clients in, opens connections, ends turns. It
//! calls the relay in the order in which `net/event_loop.rs` and `net/connection.rs` do, over pipes instead
//! of sockets.
//!
//! What is wrong with a certificate, or a name, is drawn here as the smarthost's habits have it.
//!
//! Left out: sockets' edge-triggered readiness. Here a connection is pumped in each turn in which something
//! could move. Once the disk is frozen the process is as good as dead: nothing leaves any more.

mod secure;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use postern::config::Config;
use postern::limits::{OUTPUT_OCTETS, RECEIVER_SESSIONS, SENDER_CONNECTIONS};
use postern::receiver::Peer;
use postern::relay::{Connection, Relay, Room};
use postern::sender::Fault;
use postern::smtp::reply::REPLY_OCTETS_MAX;
use postern::time::{Duration, Instant, Now};

use crate::disk::{Disk, Random};
use crate::net::{End, Got, Ms, Wire};
use crate::oracle::Since;
use crate::secure::{self as secrets, HELLO, Keys, Tls};
use crate::swarm::{Clients, Smarthosts, Swarm};
use crate::trace;

const ROUNDS_MAX: usize = 16;
const ACCEPTED_MAX: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_s(30);
const LINKS: usize = RECEIVER_SESSIONS + SENDER_CONNECTIONS;

/// What a slot is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    None,
    Connecting {
        /// When it is known, and what is wrong; none: never.
        answer: Option<(Instant, Option<Fault>)>,
        until: Instant,
        since: Since,
    },
    Open {
        wire: usize,
        tls: Tls,
        /// When an access token is there that was asked for.
        token_at: Option<Ms>,
        is_at_end: bool,
        is_runnable: bool,
    },
}

/// What a pump leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pumped {
    Idle,
    Runnable,
    Over,
}

/// The connection is gone.
struct Broken;

/// A new connection to a smarthost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialled {
    pub(crate) slot: usize,
    /// Its place among the configured ones.
    pub(crate) smarthost: usize,
}

/// What has become of a connection to a smarthost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) dialled: Dialled,
    pub(crate) fault: Option<Fault>,
    /// When it was dialled.
    pub(crate) since: Since,
}

/// A configuration that was read again.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// What is in it.
    pub(crate) swarm: Swarm,
    pub(crate) config: Config,
}

/// The driver's side of the world.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) links: Vec<Link>,
    /// Clients that wait to be accepted: their connection, and who they are.
    pub(crate) backlog: VecDeque<(usize, Peer)>,
    accept_at: Option<Instant>,
    /// Octets moved and calls made: what counts as progress.
    pub(crate) moved: u64,
}

/// What a turn works with.
pub(crate) struct Turn<'a> {
    pub(crate) relay: &'a mut Relay<Disk>,
    pub(crate) disk: &'a Disk,
    pub(crate) wires: &'a mut BTreeMap<usize, Wire>,
    pub(crate) random: &'a mut Random,
    pub(crate) keys: &'a Keys,
    /// The configuration that the relay is to go by as soon as it can.
    pub(crate) prepared: &'a mut Option<Prepared>,
    /// It goes by this one since this turn.
    pub(crate) reloaded: Option<Prepared>,
    /// What clients do.
    pub(crate) clients: &'a Clients,
    /// What each smarthost does.
    pub(crate) smarthosts: &'a [Smarthosts],
    pub(crate) ms: Ms,
    /// The same, of what is dialled in it.
    pub(crate) since: Since,
    pub(crate) now: Now,
}

impl Driver {
    pub(crate) fn new() -> Self {
        Self { links: vec![Link::None; LINKS], backlog: VecDeque::new(), accept_at: None, moved: 0 }
    }

    /// The process is gone, and all its connections.
    pub(crate) fn forget(&mut self) {
        *self = Self { moved: self.moved + 1, ..Self::new() };
    }

    /// A turn of the loop. Returns early where the disk was frozen.
    pub(crate) fn turn(&mut self, turn: &mut Turn<'_>) -> Vec<Dialled> {
        let start = turn.random.below(LINKS);
        for index in (start..LINKS).chain(0..start) {
            if self.is_ready(turn, index) {
                self.pump(turn, index);
            }
        }
        self.accept(turn);
        if turn.disk.is_frozen() {
            return Vec::new();
        }
        turn.relay.turn(&turn.now);
        self.pump_touched(turn);
        turn.relay.expire(&turn.now);
        self.pump_touched(turn);
        for index in RECEIVER_SESSIONS..LINKS {
            if matches!(self.links[index], Link::Connecting { until, .. } if until <= turn.now.instant) {
                self.not_connected(turn, index, Fault::Connect);
            }
        }
        if turn.disk.is_frozen() {
            return Vec::new();
        }
        self.take_prepared(turn);
        let mut dialled = Vec::new();
        while let Some(at) = turn.relay.wants_connection(&turn.now) {
            let slot = at.index();
            assert_eq!(self.links[slot], Link::None, "SLOTS: the slot is in use");
            let until = turn.now.instant + CONNECT_TIMEOUT;
            self.links[slot] = Link::Connecting { answer: None, until, since: turn.since };
            dialled.push(Dialled { slot, smarthost: turn.relay.smarthost_of(at) });
            self.moved += 1;
        }
        dialled
    }

    /// Goes by the configuration that is prepared, if that can be now.
    fn take_prepared(&mut self, turn: &mut Turn<'_>) {
        let relay = &mut turn.relay;
        let may_take =
            |prepared: &&mut Prepared| !relay.needs_drain_for(&prepared.config) || relay.is_drained();
        if turn.prepared.as_mut().filter(may_take).is_none() {
            return;
        }
        let Some(prepared) = turn.prepared.take() else { return };
        trace!("driver: reloaded");
        relay.reload(prepared.config.clone(), secrets::users());
        relay.clock_stepped(&turn.now);
        turn.reloaded = Some(prepared);
        self.moved += 1;
    }

    /// When the loop has something to do though no peer does anything more; `instant` gives what the clock
    /// says at `ms`.
    pub(crate) fn wakes_at(&self, turn: &mut Turn<'_>, ms_of: impl Fn(Instant) -> Ms) -> Option<Ms> {
        let mut wakes: Vec<Ms> = Vec::new();
        for index in 0..LINKS {
            match self.links[index] {
                Link::None => {}
                Link::Connecting { answer, until, .. } => {
                    wakes.push(ms_of(answer.map_or(until, |(at, _)| at.min(until))));
                }
                Link::Open { wire, is_runnable, tls, token_at, .. } => {
                    wakes.extend(token_at);
                    let at = Connection::at(index);
                    let is_handshaking = matches!(tls, Tls::Handshaking { .. });
                    let reads = is_handshaking || !turn.relay.space(at).is_empty();
                    let wire = &turn.wires[&wire];
                    wakes.extend(wire.to_relay.ready_at().filter(|_| reads && !self.is_at_end(index)));
                    let has_output = has_output(turn.relay, at, tls);
                    if is_runnable
                        || has_output && (wire.from_relay.room() > 0 || wire.from_relay.is_broken())
                    {
                        wakes.push(turn.ms);
                    }
                }
            }
        }
        if !self.backlog.is_empty() {
            wakes.push(self.accept_at.map_or(turn.ms, &ms_of));
        }
        wakes.extend(turn.relay.deadline(turn.now.instant).map(ms_of));
        wakes.into_iter().min()
    }

    /// The smarthost has answered, or never will.
    pub(crate) fn answer(&mut self, slot: usize, answered: Option<(Instant, Option<Fault>)>) {
        let Link::Connecting { answer, .. } = &mut self.links[slot] else {
            unreachable!("it was just dialled")
        };
        *answer = answered;
    }

    /// The connections of which it is known by now whether they stand.
    pub(crate) fn answered(&self, relay: &Relay<Disk>, now: Instant) -> Vec<Answered> {
        let answered = |(slot, link): (usize, &Link)| match link {
            Link::Connecting { answer: Some((at, fault)), since, .. } if *at <= now => {
                let smarthost = relay.smarthost_of(Connection::at(slot));
                Some(Answered { dialled: Dialled { slot, smarthost }, fault: *fault, since: *since })
            }
            Link::None | Link::Connecting { .. } | Link::Open { .. } => None,
        };
        self.links.iter().enumerate().filter_map(answered).collect()
    }

    /// A connection to the smarthost stands.
    pub(crate) fn connected(&mut self, turn: &mut Turn<'_>, slot: usize, wire: usize) {
        self.links[slot] = Link::None;
        turn.relay.connected(&turn.now, Connection::at(slot), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254)));
        self.open(turn, slot, wire);
    }

    /// There is no connection to the smarthost.
    pub(crate) fn not_connected(&mut self, turn: &mut Turn<'_>, slot: usize, fault: Fault) {
        trace!("driver: {fault}");
        self.links[slot] = Link::None;
        self.moved += 1;
        turn.relay.not_connected(&turn.now, Connection::at(slot), fault);
    }

    /// Open connections from clients.
    pub(crate) fn clients(&self) -> usize {
        self.links[..RECEIVER_SESSIONS].iter().filter(|link| **link != Link::None).count()
    }

    /// Writes what was touched.
    pub(crate) fn pump_touched(&mut self, turn: &mut Turn<'_>) {
        while !turn.disk.is_frozen()
            && let Some(at) = turn.relay.next_touched()
        {
            self.pump(turn, at.index());
        }
    }

    fn is_at_end(&self, index: usize) -> bool {
        matches!(self.links[index], Link::Open { is_at_end: true, .. })
    }

    fn is_ready(&self, turn: &Turn<'_>, index: usize) -> bool {
        let Link::Open { wire, tls, token_at, is_at_end, is_runnable } = self.links[index] else {
            return false;
        };
        let at = Connection::at(index);
        let wire = &turn.wires[&wire];
        let has_come = wire.to_relay.ready_at().is_some_and(|at| at <= turn.ms) && !is_at_end;
        let may_write = wire.from_relay.room() > 0 || wire.from_relay.is_broken();
        let has_token = token_at.is_some_and(|at| at <= turn.ms);
        is_runnable || has_token || has_come || may_write && has_output(turn.relay, at, tls)
    }

    fn open(&mut self, turn: &mut Turn<'_>, index: usize, wire: usize) {
        self.moved += 1;
        self.links[index] =
            Link::Open { wire, tls: Tls::None, token_at: None, is_at_end: false, is_runnable: false };
        self.pump(turn, index);
    }

    fn pump(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Link::Open { wire, .. } = self.links[index] else { return };
        let pumped = self.rounds(turn, index, wire);
        if turn.disk.is_frozen() {
            return;
        }
        match pumped {
            Pumped::Over => self.drop_wire(turn, index, wire),
            Pumped::Idle | Pumped::Runnable => {
                if let Link::Open { is_runnable, .. } = &mut self.links[index] {
                    *is_runnable = pumped == Pumped::Runnable;
                }
            }
        }
    }

    fn drop_wire(&mut self, turn: &mut Turn<'_>, index: usize, wire: usize) {
        self.moved += 1;
        self.links[index] = Link::None;
        let ends = turn.wires.get_mut(&wire).expect("an open connection has a wire");
        ends.closed_by_relay(turn.ms, turn.random);
        turn.relay.closed(&turn.now, Connection::at(index));
    }

    fn rounds(&mut self, turn: &mut Turn<'_>, index: usize, wire: usize) -> Pumped {
        let at = Connection::at(index);
        for _ in 0..ROUNDS_MAX {
            self.secure(turn, at, index);
            let Ok(wrote) = self.write(turn, at, index, wire) else { return Pumped::Over };
            let has_output = !turn.relay.output(at).is_empty();
            if turn.relay.is_closing(at) && (!has_output || turn.relay.is_overdue(&turn.now, at)) {
                return Pumped::Over;
            }
            let Ok(read) = self.read(turn, at, index, wire) else { return Pumped::Over };
            if turn.disk.is_frozen() {
                return Pumped::Idle;
            }
            let is_at_end = self.is_at_end(index);
            if is_at_end && !has_output && !wrote && !read && !turn.relay.is_committing(at) {
                return Pumped::Over;
            }
            if !wrote && !read {
                return Pumped::Idle;
            }
        }
        Pumped::Runnable
    }

    fn write(
        &mut self,
        turn: &mut Turn<'_>,
        at: Connection,
        index: usize,
        wire: usize,
    ) -> Result<bool, Broken> {
        let mut has_moved = false;
        let pipe = &mut turn.wires.get_mut(&wire).expect("an open connection has a wire").from_relay;
        let tls = self.tls(index);
        if tls == (Tls::Handshaking { is_said: false }) {
            if pipe.is_broken() {
                return Err(Broken);
            }
            let is_said = pipe.write(turn.ms, &[HELLO], turn.random) > 0;
            self.moved += u64::from(is_said);
            self.set_tls(index, Tls::Handshaking { is_said });
            return Ok(is_said);
        }
        if matches!(tls, Tls::Handshaking { .. }) {
            assert!(turn.relay.output(at).is_empty(), "TLS: in plain while hands are shaken");
            return Ok(false);
        }
        while !turn.relay.output(at).is_empty() && !turn.disk.is_frozen() {
            if pipe.is_broken() {
                return Err(Broken);
            }
            let mut octets = turn.relay.output(at).to_vec();
            if tls == Tls::Up {
                secrets::veil(&mut octets);
            }
            let count = pipe.write(turn.ms, &octets, turn.random);
            if count == 0 {
                break;
            }
            self.moved += count as u64;
            turn.relay.sent(&turn.now, at, count);
            has_moved = true;
            if turn.relay.is_closing(at) && turn.relay.output(at).is_empty() {
                break;
            }
        }
        Ok(has_moved)
    }

    fn read(
        &mut self,
        turn: &mut Turn<'_>,
        at: Connection,
        index: usize,
        wire: usize,
    ) -> Result<bool, Broken> {
        if self.is_at_end(index) {
            return Ok(false);
        }
        let pipe = &mut turn.wires.get_mut(&wire).expect("an open connection has a wire").to_relay;
        let tls = self.tls(index);
        if matches!(tls, Tls::Handshaking { .. }) {
            let mut answer = [0];
            return match pipe.read(turn.ms, &mut answer) {
                Got::Nothing => Ok(false),
                Got::Octets(_) => {
                    self.shake_hands(turn, at, index, answer[0]);
                    Ok(true)
                }
                Got::End(_) => Err(Broken),
            };
        }
        let output_octets = turn.relay.output(at).len();
        let space = turn.relay.space(at);
        if space.is_empty() {
            return Ok(false);
        }
        match pipe.read(turn.ms, space) {
            Got::Nothing => Ok(false),
            Got::Octets(count) => {
                if tls == Tls::Up {
                    secrets::veil(&mut space[..count]);
                }
                self.moved += count as u64;
                turn.relay.filled(&turn.now, at, count);
                let is_full = OUTPUT_OCTETS - output_octets.min(OUTPUT_OCTETS) < REPLY_OCTETS_MAX;
                if matches!(at, Connection::Receiver(_)) && is_full {
                    let is_same = turn.relay.output(at).len() == output_octets;
                    assert!(is_same, "OUTPUT: a command was handled without room for its reply");
                }
                Ok(true)
            }
            Got::End(End::Finished) => {
                if let Link::Open { is_at_end, .. } = &mut self.links[index] {
                    *is_at_end = true;
                }
                self.moved += 1;
                Ok(true)
            }
            Got::End(End::Reset) => Err(Broken),
        }
    }

    fn accept(&mut self, turn: &mut Turn<'_>) {
        if self.accept_at.is_some_and(|at| at > turn.now.instant) {
            return;
        }
        self.accept_at = None;
        for _ in 0..ACCEPTED_MAX {
            if turn.disk.is_frozen() {
                return;
            }
            let Some((wire, peer)) = self.backlog.pop_front() else { return };
            match turn.relay.make_room(&turn.now) {
                Room::Free => {}
                Room::Evicted(worst) => {
                    trace!("driver: evicts {worst:?}");
                    let index = worst.index();
                    self.pump(turn, index);
                    if let Link::Open { wire, .. } = self.links[index] {
                        self.drop_wire(turn, index, wire);
                    }
                }
                Room::FreeAt(at) => {
                    assert!(at > turn.now.instant, "BUSY: room is promised for the past");
                    self.backlog.push_front((wire, peer));
                    self.accept_at = Some(at);
                    return;
                }
            }
            self.moved += 1;
            match turn.relay.admit(&turn.now, peer) {
                Ok(at) => self.open(turn, at.index(), wire),
                Err(line) => {
                    let ends = turn.wires.get_mut(&wire).expect("a waiting client has a wire");
                    ends.from_relay.write(turn.ms, line, turn.random);
                    ends.closed_by_relay(turn.ms, turn.random);
                }
            }
        }
    }
}

/// True when there is something to be written.
fn has_output(relay: &Relay<Disk>, at: Connection, tls: Tls) -> bool {
    tls == (Tls::Handshaking { is_said: false }) || !relay.output(at).is_empty()
}
