//! What a crash leaves, and the starts from it: whole, dying, failing, on a damaged disk.
use postern::spool::{BlockIndex, Device, Recovery, Start, Store};
use postern::time::Instant;

use super::{Remains, World};
use crate::disk::{Disk, Fault};
use std::hash::{DefaultHasher, Hash, Hasher};

impl Remains {
    /// A number that two remains share only when they will behave alike.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.disk.fingerprint(), &self.known, self.in_flight).hash(&mut hasher);
        hasher.finish()
    }

    /// What `later` knows, as it was found on this disk.
    pub(crate) fn judged_as(&self, later: &Self) -> Self {
        Self { disk: self.disk.clone(), now: self.now, ..later.clone() }
    }

    /// The same, to be started with another size.
    pub(crate) fn resized(&self, blocks: u32) -> Self {
        Self { blocks, ..self.clone() }
    }

    /// A copy of what is left, and the copy's disk.
    pub(crate) fn fork(&self) -> (Self, Disk) {
        let disk = self.disk.fork();
        (Self { disk: disk.clone(), ..self.clone() }, disk)
    }

    fn start(&self, disk: &Disk) -> Result<(Store<Disk>, Recovery), String> {
        let start = Start { blocks: self.blocks, seed: 7, now: self.now };
        Store::start(disk.clone(), start).map_err(|error| format!("START: {error:?}"))
    }

    /// Starts on a copy of the disk and judges what is there.
    pub(crate) fn restart(&self) -> Result<World, String> {
        let disk = self.disk.fork();
        let (store, recovery) = self.start(&disk)?;
        let mut world = self.world(disk, store);
        if self.may_be_aside {
            world.aside = recovery.set_aside;
        }
        world.judge(&recovery)?;
        Ok(world)
    }

    /// Starts on a copy of the disk, which may be damaged; gives the accepted messages that are not
    /// there, and what the start says of it.
    pub(crate) fn restart_damaged(&self) -> Result<(Vec<u32>, Recovery), String> {
        let disk = self.disk.fork();
        let (store, recovery) = self.start(&disk)?;
        let mut world = self.world(disk, store);
        Ok((world.judge_damaged()?, recovery))
    }

    /// Starts on a copy of the disk, of which `judged` is known to be what it holds.
    pub(crate) fn restart_as(&self, judged: &Self) -> World {
        let disk = self.disk.fork();
        let (store, _) = self.start(&disk).expect("it started before");
        judged.world(disk, store)
    }

    /// All that a start that dies after `calls` calls may leave; `None` when it needs no more than these.
    pub(crate) fn dying_start(&self, calls: u64, most: usize, seed: u64) -> Option<Vec<Self>> {
        let disk = self.disk.fork();
        disk.freeze_after(calls);
        let is_started = self.start(&disk).is_ok();
        if is_started {
            return None;
        }
        let cuts = disk.power_cuts(most, seed).into_iter();
        disk.kill();
        disk.seed(seed);
        let cuts = cuts.map(|disk| Self { disk, now: Instant(1000), ..self.clone() });
        Some(cuts.chain([Self { disk, ..self.clone() }]).collect())
    }

    /// What is left on the disk by a start during which `fault` came; it may have refused to start.
    pub(crate) fn failing_start(&self, fault: Fault) -> Self {
        let disk = self.disk.fork();
        disk.fail(fault);
        drop(self.start(&disk));
        disk.heal();
        Self { disk, may_be_aside: true, ..self.clone() }
    }

    pub(super) fn world(&self, disk: Disk, store: Store<Disk>) -> World {
        World {
            failed_calls: disk.calls().failed,
            disk,
            store,
            known: self.known.clone(),
            ids: self.ids.clone(),
            drafts: Vec::new(),
            ended: Vec::new(),
            now: self.now,
            in_flight: self.in_flight,
            blocks: self.blocks,
            aside: 0,
            was_evicted: false,
        }
    }
}

impl std::fmt::Debug for Remains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let blocks = (0..Device::blocks(&self.disk)).map(|at| {
            let block = self.disk.peek(BlockIndex(at));
            (block[4], block[8], block[12], block[28])
        });
        f.debug_list().entries(blocks).finish()
    }
}
