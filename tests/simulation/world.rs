//! One run: the clocks, the disk's fate, who comes and goes, and the order of a step.
//!
//! A step is a turn of the relay's loop at the next time at which anybody has something to do. First the
//! peers act, then the loop turns, then the oracle looks. When the steps are over the faults stop, time runs,
//! and everything must come to rest: [`World::drain`].

/// What a turn of the world works with: the world, its relay, and what its clocks say.
macro_rules! turn {
    ($world:ident, $relay:expr, $now:expr) => {
        $crate::driver::Turn {
            relay: $relay,
            disk: &$world.disk,
            wires: &mut $world.wires,
            random: &mut $world.random,
            keys: &$world.keys,
            prepared: &mut $world.prepared,
            reloaded: None,
            clients: &$world.swarm.clients,
            smarthosts: &$world.swarm.smarthosts,
            ms: $world.now,
            since: $world.oracle.since($world.now),
            now: $now,
        }
    };
}

mod admin;
mod faults;
mod peers;

use std::collections::BTreeMap;

use postern::config::Config;
use postern::limits::SPOOL_BLOCKS;
use postern::relay::Relay;
use postern::spool::{Start, StartError, Store};
use postern::time::{Duration, Instant, Now, Tick, Wall};

use crate::clients::Client;
use crate::clock::ClockNote;
use crate::configuration;
use crate::disk::{Disk, Random};
use crate::driver::{Driver, Prepared};
use crate::figures::Figures;
use crate::net::{Ms, Wire};
use crate::oracle::{self, Live, Oracle};
use crate::secure::{self, Keys};
use crate::smarthosts::Smarthost;
use crate::swarm::{Draw, Faults, Network, SMARTHOSTS_MAX, Smarthosts, Swarm};
use crate::trace;
use faults::Crash;

/// Turns without progress at one time after which the loop is called busy.
const IDLE_TURNS_MAX: u32 = 20;
/// Steps in which all must come to rest when the faults have stopped.
const DRAIN_STEPS_MAX: u64 = 60_000;
/// And the time: the longest waits of a message, of a route and of a login, and a few more of a notice.
const DRAIN_MS_MAX: Ms = 6 * 3_600_000;
/// A wall clock that nobody has set shows less.
const RELEASED_UNIX_S: u64 = 1_795_478_400;

/// The world of one seed.
pub(crate) struct World {
    random: Random,
    swarm: Swarm,
    now: Ms,
    /// The time at which the board booted.
    booted: Ms,
    /// What the wall clock showed, and when.
    wall: (u64, Ms),
    disk: Disk,
    disk_heals_at: Option<Ms>,
    keys: Keys,
    /// How the process ends when the disk freezes.
    freezes_as: Crash,
    config: Config,
    /// Another one, which the relay is to go by.
    prepared: Option<Prepared>,
    relay: Option<Relay<Disk>>,
    starts_at: Ms,
    run: u32,
    clock_note: ClockNote,
    /// The queue clock when the process ended, and what it may have lost; nothing when no mail was there.
    tick: Option<(Tick, Duration)>,
    wires: BTreeMap<usize, Wire>,
    wires_made: usize,
    clients: Vec<Client>,
    smarthosts: Vec<Smarthost>,
    /// Smarthosts that have left, with replies that the relay may still read.
    gone: Vec<Smarthost>,
    driver: Driver,
    oracle: Oracle,
    idle_turns: u32,
    figures: Figures,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        // Hashed once, so that near seeds have nothing in common.
        let mut random = Random(Random(seed).next());
        let mut swarm = Swarm::new(&mut random);
        swarm.draw_later_additions(&mut Random(Random(seed ^ 0x7_1500).next()));
        trace!("{swarm:#?}");
        let now = 1_000_000_000;
        let disk = Disk::new(0);
        disk.seed(random.next());
        let mut world = Self {
            now,
            booted: now - random.between(0, 30_000),
            wall: (RELEASED_UNIX_S + 86_400, now),
            disk,
            disk_heals_at: None,
            keys: Keys::new(),
            freezes_as: Crash::Kill,
            config: configuration::of(&swarm),
            prepared: None,
            relay: None,
            starts_at: now,
            run: 0,
            clock_note: ClockNote::default(),
            tick: None,
            wires: BTreeMap::new(),
            wires_made: 0,
            clients: Vec::new(),
            smarthosts: Vec::new(),
            gone: Vec::new(),
            driver: Driver::new(),
            oracle: Oracle::default(),
            idle_turns: 0,
            figures: Figures::default(),
            random,
            swarm,
        };
        world.oracle.give_up_ms = swarm.give_up_s * 1000;
        world.oracle.refuses_bare_lf = swarm.refuses_bare_lf;
        world.oracle.envelope = swarm.configured.envelope;
        world.oracle.header_from = swarm.configured.header_from;
        world.oracle.may_lack_8bit = swarm.smarthosts.iter().any(|habits| habits.no_8bit + habits.hello > 0);
        world.start();
        world
    }

    /// The clocks.
    fn clocks(&self) -> Now {
        let unix_s = self.wall.0 + self.now.saturating_sub(self.wall.1) / 1000;
        Now {
            instant: Instant(self.now.saturating_sub(self.booted)),
            wall: Wall { unix_s, is_trusted: unix_s >= RELEASED_UNIX_S },
        }
    }

    /// One turn of the loop, and what leads up to it.
    pub(crate) fn step(&mut self) {
        self.figures.steps += 1;
        let before = (self.now, self.driver.moved);
        self.pass_time();
        self.break_something();
        self.arrive();
        self.act();
        self.turn();
        self.look();
        let is_idle = before == (self.now, self.driver.moved);
        self.idle_turns = if is_idle { self.idle_turns + 1 } else { 0 };
        assert!(self.idle_turns < IDLE_TURNS_MAX, "BUSY: turns without progress or waiting");
    }

    /// The faults stop, time runs, and everything comes to rest.
    pub(crate) fn drain(mut self) -> Figures {
        trace!("the faults stop");
        self.swarm.faults = Faults::NONE;
        self.swarm.network = Network::GOOD;
        self.swarm.smarthosts = [Smarthosts::GOOD; SMARTHOSTS_MAX];
        self.swarm.clients.arrivals = 0;
        self.swarm.clients.handshakes = 0;
        self.disk.heal();
        self.disk_heals_at = None;
        self.mend_secrets();
        let now = self.now;
        self.clients.iter_mut().for_each(Client::mend);
        self.smarthosts.iter_mut().for_each(|smarthost| smarthost.mend(now));
        for wire in self.wires.values_mut() {
            wire.to_relay.mend(now);
            wire.from_relay.mend(now);
        }
        let steps = self.figures.steps;
        while !self.is_at_rest() {
            self.step();
            if self.figures.steps - steps > DRAIN_STEPS_MAX || self.now - now > DRAIN_MS_MAX {
                let balance = self.relay.as_ref().map(|relay| relay.spool().balance());
                panic!(
                    "STUCK: {} clients, {} smarthosts, live {:?}, {balance:?}",
                    self.clients.len(),
                    self.smarthosts.len(),
                    self.live()
                );
            }
        }
        self.oracle.finish(&self.live());
        let balance = self.relay.as_ref().map(|relay| relay.spool().balance()).unwrap_or_default();
        let is_returned =
            balance.promised == 0 && (balance.in_messages > 0 || balance.free == balance.blocks);
        assert!(is_returned || self.oracle.is_weak, "BLOCKS: not all came back: {balance:?}");
        assert!(
            balance.in_messages == 0 || !self.live().is_empty() || self.oracle.is_weak,
            "BLOCKS: {balance:?}"
        );
        // What is there must be there after one more start. What had rotted may be back.
        for crash in [Crash::PowerCut, Crash::Kill] {
            self.crash(crash);
            self.now = self.starts_at;
            self.step();
            self.look();
        }
        if !self.oracle.is_weak {
            self.oracle.finish(&self.live());
        }
        let of_oracle: oracle::Figures = self.oracle.figures;
        Figures {
            seeds: 1,
            steps,
            drained_steps: self.figures.steps - steps,
            submitted: of_oracle.submitted,
            accepted: of_oracle.accepted,
            accepted_in_tls: of_oracle.accepted_in_tls,
            delivered: of_oracle.delivered,
            duplicates: of_oracle.duplicates,
            noticed: of_oracle.noticed,
            noticed_of_success: of_oracle.noticed_of_success,
            reports: of_oracle.reports,
            refused: of_oracle.refused,
            ..self.figures
        }
    }

    fn is_at_rest(&self) -> bool {
        let Some(relay) = &self.relay else { return false };
        let balance = relay.spool().balance();
        // A free that could not be written is owed, and written when the disk works again. What had rotted
        // may be set aside for good.
        let is_blank = !relay.spool().is_failing()
            && (balance.in_messages == 0 || self.oracle.is_weak)
            && balance.limbo == 0
            && balance.superseded == 0
            && balance.drafts == 0;
        self.clients.is_empty() && self.smarthosts.is_empty() && is_blank && self.live().is_empty()
    }

    fn live(&self) -> BTreeMap<(u32, u32), Live> {
        let Some(relay) = &self.relay else { return BTreeMap::new() };
        let spool = relay.spool();
        let facts = spool.messages().map(|message| spool.facts(message));
        facts
            .map(|facts| {
                let (recipients, waiting) = (usize::from(facts.recipients), usize::from(facts.waiting));
                ((facts.id.epoch, facts.id.counter), Live { recipients, waiting })
            })
            .collect()
    }

    /// Goes to the next time at which anybody has something to do.
    fn pass_time(&mut self) {
        let mut wakes: Vec<Ms> = Vec::new();
        wakes.extend(self.clients.iter().filter_map(|client| client.wakes_at(&self.wires[&client.wire])));
        let of_smarthost = |smarthost: &Smarthost| smarthost.wakes_at(&self.wires[&smarthost.wire]);
        let of_peers = wakes.len();
        wakes.extend(self.smarthosts.iter().filter_map(of_smarthost));
        if self.idle_turns > 3 {
            trace!("at {}: clients {:?}, smarthosts {:?}", self.now, &wakes[..of_peers], &wakes[of_peers..]);
        }
        wakes.extend(self.disk_heals_at);
        let (now, booted) = (self.clocks(), self.booted);
        match &mut self.relay {
            Some(relay) => {
                let mut turn = turn!(self, relay, now);
                wakes.extend(self.driver.wakes_at(&mut turn, |instant| instant.0.saturating_add(booted)));
            }
            None => wakes.push(self.starts_at),
        }
        if self.idle_turns > 3 {
            let due = self.relay.as_ref().and_then(|relay| relay.deadline(now.instant));
            trace!("all {wakes:?}, relay {due:?} at {:?}", now.instant);
        }
        let next = wakes.into_iter().min().unwrap_or(self.now + 1000).max(self.now);
        // Clients come while nothing else happens, too.
        let is_long = next > self.now + 1000 && self.swarm.clients.arrivals > 0;
        self.now =
            if is_long && self.random.chance(500) { self.now + self.random.between(1, 1000) } else { next };
        if self.random.chance(self.swarm.faults.sleeps) {
            self.figures.faults += 1;
            self.now += self.random.pick(&[100, 3000, 400_000, 4_000_000]);
            trace!("the board slept");
        }
    }

    fn start(&mut self) {
        let blocks = if self.random.chance(50) && self.swarm.faults.stops > 0 {
            self.random.pick(&[40, 80, 160, 320])
        } else {
            self.swarm.blocks
        };
        let start = Start {
            blocks: blocks.min(SPOOL_BLOCKS as u32),
            seed: self.random.next(),
            now: self.clocks().instant,
        };
        self.driver.moved += 1;
        match Store::start(self.disk.clone(), start) {
            Ok((store, recovery)) => {
                trace!("started: {recovery:?}");
                assert!(recovery.set_aside == 0 || self.oracle.is_weak, "ASIDE: {recovery:?}");
                if let Some((before, lost_max)) = self.tick {
                    let lost = before.since(store.tick(self.clocks().instant));
                    assert!(lost <= lost_max, "AGE: the clock went back by {lost:?}, more than {lost_max:?}");
                }
                let mut relay = Relay::new(self.config.clone(), store, self.random.next());
                relay.set_users(secure::users());
                self.relay = Some(relay);
                if self.disk.is_frozen() {
                    self.crash(self.freezes_as);
                } else {
                    self.clock_note.started(self.now);
                }
            }
            Err(error) if self.disk.is_frozen() || self.disk_heals_at.is_some() => {
                trace!("can't start: {error:?}");
                self.crash(self.freezes_as);
            }
            Err(StartError::NotASpool) if self.oracle.figures.accepted == 0 => {
                trace!("a crash left a file that is no spool yet: it is made anew");
                self.disk = Disk::new(0);
                self.disk.seed(self.random.next());
                self.starts_at = self.now + 1;
            }
            Err(error) => panic!("START: {error:?}"),
        }
    }

    fn turn(&mut self) {
        if self.relay.is_none() {
            if self.starts_at <= self.now {
                self.start();
            }
            return;
        }
        let now = self.clocks();
        let Some(relay) = &self.relay else { unreachable!("it was there above") };
        for answered in self.driver.answered(relay, now.instant) {
            self.answer(&now, answered);
        }
        let Some(relay) = &mut self.relay else { unreachable!("it was there above") };
        let mut turn = turn!(self, relay, now);
        let dialled = self.driver.turn(&mut turn);
        let reloaded = turn.reloaded.take();
        if let Some(reloaded) = reloaded {
            self.reloaded(reloaded);
        }
        for dialled in dialled {
            self.dialled(&now, dialled);
        }
        if self.disk.is_frozen() {
            self.crash(self.freezes_as);
        }
    }

    /// What must be true between two turns.
    fn look(&mut self) {
        self.tell();
        let Some(relay) = &self.relay else { return };
        let spool = relay.spool();
        if self.disk_heals_at.is_some() || spool.is_failing() {
            self.oracle.excuse();
        } else if self.disk.written_since_sync().is_empty() {
            self.oracle.is_durable();
        }
        let balance = spool.balance();
        assert_eq!(balance.drafts as usize, relay.drafts(), "SLOTS: drafts and sessions with one");
        assert_eq!(self.driver.clients(), relay.clients(), "SLOTS: connections and sessions");
        assert!(balance.is_even() || self.oracle.is_weak, "BLOCKS: {balance:?}");
        assert!(balance.promised <= balance.free, "BLOCKS: promised what is not there: {balance:?}");
        self.look_for_removed();
        let live = self.live();
        if !live.is_empty() && !spool.is_failing() {
            self.clock_note.turned(self.now);
        }
        self.oracle.check_removals(&live, self.run, relay.has_durable_removals());
        self.oracle.check(self.now, &live, self.disk.calls().syncs);
    }
}
