//! What breaks: the disk, the clocks, the power, the process.

use postern::limits::BLOCK_OCTETS;
use postern::spool::{BlockIndex, DeviceError};

use super::{RELEASED_UNIX_S, World};
use crate::disk::{Call, Choice, Effect, Fault};
use crate::driver::Link;
use crate::net::End;
use crate::swarm::Draw;
use crate::trace;

/// Steps out of a thousand in which a wall clock is set that nobody has set before.
const NTP: u32 = 15;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    PowerCut,
    Kill,
    Stop,
}

impl World {
    pub(super) fn break_something(&mut self) {
        if self.disk_heals_at.is_some_and(|at| at <= self.now) {
            trace!("the disk heals");
            self.disk.heal();
            self.disk_heals_at = None;
        }
        let faults = self.swarm.faults;
        if self.random.chance(faults.wall_jumps) {
            let unix_s = self.random.pick(&[0, 1_700_000_000, RELEASED_UNIX_S + 90_000, 2_085_978_496]);
            trace!("the wall clock shows {unix_s}");
            self.set_wall(unix_s);
            self.figures.faults += 1;
        }
        if self.clocks().wall.unix_s < RELEASED_UNIX_S && self.random.chance(NTP) {
            trace!("the wall clock is set");
            self.set_wall(RELEASED_UNIX_S + 90_000);
        }
        if self.random.chance(faults.writes) {
            let effect = self.random.pick(&[Effect::Nothing, Effect::Half, Effect::Whole]);
            self.plan(Call::Write, DeviceError::Io, effect);
        }
        if self.random.chance(faults.syncs) {
            self.plan(Call::Sync, DeviceError::Io, Effect::Nothing);
        }
        if self.random.chance(faults.no_space) {
            self.plan(Call::Write, DeviceError::NoSpace, Effect::Nothing);
        }
        if self.random.chance(faults.rot) {
            self.rot();
        }
        if self.random.chance(faults.freezes) {
            self.freezes_as = self.random.pick(&[Crash::PowerCut, Crash::Kill]);
            self.disk.freeze_after(self.random.between(0, 12));
        }
        if self.relay.is_none() {
            return;
        }
        if self.random.chance(faults.secrets) && self.keys.change(&mut self.random) {
            trace!("the secret's file has changed: {:?}", self.keys);
            self.tell_of_secret();
        }
        if self.random.chance(faults.network_changes) {
            self.change_network();
        }
        if self.random.chance(faults.reloads) {
            self.reload();
        }
        if self.random.chance(faults.retries) {
            self.retry();
        }
        if self.random.chance(faults.removals) {
            self.remove();
        }
        for (per_mille, crash) in
            [(faults.power_cuts, Crash::PowerCut), (faults.kills, Crash::Kill), (faults.stops, Crash::Stop)]
        {
            if self.random.chance(per_mille) {
                self.crash(crash);
                return;
            }
        }
    }

    pub(super) fn plan(&mut self, call: Call, error: DeviceError, effect: Effect) {
        let skip = self.random.between(0, 8);
        let times = self.random.pick(&[1, 1, 2, 30]);
        trace!("{call:?} is going to fail, {times} times after {skip}: {error}");
        self.disk.fail(Fault { call, skip, times, error, effect });
        let heals_at = self.now + self.random.pick(&[100, 5000, 200_000]);
        self.disk_heals_at = Some(self.disk_heals_at.unwrap_or(heals_at).max(heals_at));
        self.figures.faults += 1;
    }

    pub(super) fn rot(&mut self) {
        let Some(relay) = &self.relay else { return };
        self.oracle.is_weak = true;
        self.figures.faults += 1;
        let at = BlockIndex(2 + self.random.below(relay.spool().blocks() as usize - 2) as u32);
        trace!("{at:?} rots");
        if self.random.chance(300) {
            self.disk.make_unreadable(at);
            let heals_at = self.now + 5000;
            self.disk_heals_at = Some(self.disk_heals_at.unwrap_or(heals_at).max(heals_at));
        } else {
            let (place, bit) = (self.random.below(BLOCK_OCTETS), self.random.below(8));
            self.disk.spoil(at, |block| block[place] ^= 1 << bit);
        }
    }

    /// The process ends, one way or the other.
    pub(super) fn crash(&mut self, crash: Crash) {
        trace!("crash: {crash:?}");
        self.figures.crashes += 1;
        if crash == Crash::Stop
            && let Some(mut relay) = self.relay.take()
        {
            let now = self.clocks();
            let mut turn = turn!(self, &mut relay, now);
            turn.relay.shut_down(&now);
            self.driver.pump_touched(&mut turn);
            if !self.disk.is_frozen() {
                relay.close(&now);
            }
        }
        self.tell();
        if let Some(relay) = &self.relay {
            let has_mail = relay.spool().messages().count() > 0;
            let tick = relay.spool().tick(self.clocks().instant);
            self.tick = has_mail.then(|| (tick, self.clock_note.lost_max(self.now)));
        }
        self.relay = None;
        self.run += 1;
        for link in self.driver.links.iter().chain(&[]) {
            if let Link::Open { wire, .. } = link {
                let wire = self.wires.get_mut(wire).expect("an open connection has a wire");
                if crash == Crash::PowerCut {
                    wire.to_relay.abandon();
                    wire.from_relay.finish(self.now, End::Reset, &mut self.random);
                } else {
                    wire.closed_by_relay(self.now, &mut self.random);
                }
            }
        }
        for (wire, _) in self.driver.backlog.drain(..) {
            let wire = self.wires.get_mut(&wire).expect("a waiting client has a wire");
            wire.closed_by_relay(self.now, &mut self.random);
        }
        self.driver.forget();
        self.disk_heals_at = None;
        if let Some(prepared) = self.prepared.take() {
            self.reloaded(prepared);
        }
        if crash == Crash::PowerCut {
            let choice = match self.random.below(4) {
                0 => Choice::Oldest,
                1 => Choice::Newest,
                _ => Choice::Seeded(self.random.next()),
            };
            self.disk.power_cut(choice);
        } else {
            self.disk.kill();
        }
        self.oracle.crashed();
        self.starts_at = self.now + self.random.pick(&[0, 100, 10_000, 1_000_000]);
        if crash == Crash::PowerCut {
            self.booted = self.starts_at.saturating_sub(self.random.between(0, 20_000));
            if self.random.chance(300) {
                self.wall = (0, self.starts_at);
            }
        }
    }
}
