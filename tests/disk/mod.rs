//! A disk that lives in memory and can do to the spool all that a real one does.
//!
//! What it knows of a block: what the medium holds, and each version written since the last good sync.
//! After a power cut the block is any of these, or torn between two at 512 octets; after SIGKILL the page
//! cache survives, unsynced writes too; after a failed sync the cache still shows the newest version and
//! calls it clean, so that a later good sync covers it no more (what Linux does). What the medium holds
//! then stays open until a power cut, [`Disk::evict`] or
//! `drop_cache` asks.
//!
//! A [`Disk`] is a handle: clones see the same disk, so that a test can look at it and break it while the
//! store owns it. [`Disk::fork`] makes a copy for a pointer a block. Left out on purpose: time, and
//! reordering of syncs (the spool has one thread). The tests in `rules` state all this and use every
//! method, so that none is dead code in any test crate.
mod rules;

use std::cell::RefCell;
use std::rc::Rc;

use postern::spool::{BLOCK_OCTETS, Block, BlockIndex, Device, DeviceError};

/// What tears no further.
const SECTOR_OCTETS: usize = 512;
const SECTORS: usize = BLOCK_OCTETS / SECTOR_OCTETS;

/// Small, quick and the same everywhere: splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// One of `choices`.
    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// The calls of [`Device`] that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// `read`
    Read,
    /// `write`
    Write,
    /// `sync`
    Sync,
    /// `resize`
    Resize,
    /// Whichever comes.
    Any,
}

/// What a failed write leaves in the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing of it.
    Nothing,
    /// Its first sectors.
    Half,
    /// All of it.
    Whole,
}

/// Calls that are going to fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// Which.
    pub(crate) call: Call,
    /// So many of them still work.
    pub(crate) skip: u64,
    /// So many fail then.
    pub(crate) times: u64,
    /// With this.
    pub(crate) error: DeviceError,
    /// What a write leaves.
    pub(crate) effect: Effect,
}

/// What becomes of each unsynced block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice<'a> {
    /// As at the last good sync.
    Oldest,
    /// As last written.
    Newest,
    /// Each block for itself: any version, or torn at any sectors.
    Seeded(u64),
    /// For each entry of [`Disk::fates`] the fate at this place.
    Exactly(&'a [usize]),
}

/// How many calls there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    /// `read`
    pub(crate) reads: u64,
    /// `write`
    pub(crate) writes: u64,
    /// `sync`
    pub(crate) syncs: u64,
    /// `resize`
    pub(crate) resizes: u64,
    /// Syncs that worked.
    pub(crate) good_syncs: u64,
    /// Calls that failed as planned.
    pub(crate) failed: u64,
}

impl Calls {
    /// All of them.
    pub(crate) fn all(self) -> u64 {
        self.reads + self.writes + self.syncs + self.resizes
    }
}

/// One block's octets with their sum, so that a whole disk is compared in no time.
#[derive(Clone)]
struct Version {
    octets: Rc<Block>,
    sum: u32,
}

impl Version {
    fn new(octets: Block) -> Self {
        Self { sum: crc32fast::hash(&octets), octets: Rc::new(octets) }
    }
}

#[derive(Clone)]
struct Slot {
    /// On the medium since the last sync that covers it.
    medium: Version,
    /// Written since, in order; any of them may be on the medium by now.
    unsynced: Vec<Version>,
    /// A sync failed over `unsynced`: the cache calls it clean.
    is_lost: bool,
}

impl Slot {
    fn new(version: Version) -> Self {
        Self { medium: version, unsynced: Vec::new(), is_lost: false }
    }

    fn cached(&self) -> &Version {
        self.unsynced.last().unwrap_or(&self.medium)
    }

    fn versions(&self) -> impl Iterator<Item = &Version> {
        std::iter::once(&self.medium).chain(&self.unsynced)
    }

    /// What the medium may hold: each version, and the tears that tell a reader most (only the first
    /// sector new, all but the first, all but the last).
    fn fates(&self) -> Vec<Version> {
        let mut fates: Vec<Version> = Vec::new();
        let mut add = |version: Version| {
            if !fates.iter().any(|known| known.octets == version.octets) {
                fates.push(version);
            }
        };
        self.versions().cloned().for_each(&mut add);
        for (old, new) in self.versions().zip(self.unsynced.iter()) {
            for sectors in [0b0000_0001, 0b1111_1110, 0b0111_1111] {
                add(torn(old, new, sectors));
            }
        }
        fates
    }
}

/// `old` with those sectors of `new` whose bit is set.
fn torn(old: &Version, new: &Version, sectors: u8) -> Version {
    let mut octets = *old.octets;
    for sector in (0..SECTORS).filter(|sector| sectors >> sector & 1 == 1) {
        let range = sector * SECTOR_OCTETS..(sector + 1) * SECTOR_OCTETS;
        octets[range.clone()].copy_from_slice(&new.octets[range]);
    }
    Version::new(octets)
}

#[derive(Clone)]
struct State {
    slots: Vec<Slot>,
    /// Sizes that the file may have after a power cut, the durable one first.
    sizes: Vec<usize>,
    /// What stood in blocks that were cut off, from the last size on; growing may bring it back.
    cut_off: Vec<Version>,
    written: Vec<BlockIndex>,
    faults: Vec<Fault>,
    unreadable: Vec<BlockIndex>,
    calls: Calls,
    freeze_at: Option<u64>,
    random: Random,
}

/// A handle to a disk in memory.
#[derive(Clone)]
pub(crate) struct Disk(Rc<RefCell<State>>);

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.0.borrow();
        write!(f, "Disk {{ blocks: {}, calls: {:?} }}", state.slots.len(), state.calls)
    }
}

/// What a block of a file reads as that was never written.
fn never_written() -> Version {
    Version::new([0; BLOCK_OCTETS])
}

impl Disk {
    /// A disk of so many blocks that were never written; none for a file that is to be made.
    pub(crate) fn new(blocks: u32) -> Self {
        let blocks = blocks as usize;
        Self(Rc::new(RefCell::new(State {
            slots: vec![Slot::new(never_written()); blocks],
            sizes: vec![blocks],
            cut_off: Vec::new(),
            written: Vec::new(),
            faults: Vec::new(),
            unreadable: Vec::new(),
            calls: Calls::default(),
            freeze_at: None,
            random: Random(1),
        })))
    }

    /// A disk of its own with the same state, cache, faults and counts included.
    pub(crate) fn fork(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// The seed of what is left to chance (half writes, evictions).
    pub(crate) fn seed(&self, seed: u64) {
        self.0.borrow_mut().random = Random(seed);
    }

    /// Plans a fault; several may be planned.
    pub(crate) fn fail(&self, fault: Fault) {
        self.0.borrow_mut().faults.push(fault);
    }

    /// Forgets all planned faults, unreadable blocks and the freeze.
    pub(crate) fn heal(&self) {
        let mut state = self.0.borrow_mut();
        state.faults.clear();
        state.unreadable.clear();
        state.freeze_at = None;
    }

    /// Each read of this block fails from now on, until it is written.
    pub(crate) fn make_unreadable(&self, at: BlockIndex) {
        self.0.borrow_mut().unreadable.push(at);
    }

    /// After `calls` more calls each call fails and nothing changes any more: the moment of a power cut
    /// or SIGKILL.
    pub(crate) fn freeze_after(&self, calls: u64) {
        let mut state = self.0.borrow_mut();
        state.freeze_at = Some(state.calls.all() + calls);
    }

    /// True once the freeze has refused a call.
    pub(crate) fn is_frozen(&self) -> bool {
        let state = self.0.borrow();
        state.freeze_at.is_some_and(|at| state.calls.all() > at)
    }

    /// The calls so far, failed ones included.
    pub(crate) fn calls(&self) -> Calls {
        self.0.borrow().calls
    }

    /// The blocks written since the last good sync, in order, doubles included.
    pub(crate) fn written_since_sync(&self) -> Vec<BlockIndex> {
        self.0.borrow().written.clone()
    }

    /// The blocks of which it isn't certain what the medium holds, each with all that it may hold.
    pub(crate) fn fates(&self) -> Vec<(BlockIndex, Vec<Block>)> {
        let state = self.0.borrow();
        let unsynced = state.slots.iter().enumerate().filter(|(_, slot)| !slot.unsynced.is_empty());
        unsynced
            .map(|(at, slot)| (BlockIndex(at as u32), slot.fates().iter().map(|fate| *fate.octets).collect()))
            .collect()
    }

    /// The power fails and comes back.
    pub(crate) fn power_cut(&self, choice: Choice<'_>) {
        self.heal();
        let mut state = self.0.borrow_mut();
        let mut random = Random(if let Choice::Seeded(seed) = choice { seed } else { 0 });
        let mut place = 0;
        for slot in &mut state.slots {
            if !slot.unsynced.is_empty() {
                slot.medium = match choice {
                    Choice::Oldest => slot.medium.clone(),
                    Choice::Newest => slot.cached().clone(),
                    Choice::Seeded(_) => any_fate(slot, &mut random),
                    Choice::Exactly(fates) => slot.fates().swap_remove(fates[place]),
                };
                place += 1;
            }
            slot.unsynced.clear();
            slot.is_lost = false;
        }
        let sizes = state.sizes.clone();
        let size = match choice {
            Choice::Oldest => sizes[0],
            Choice::Newest => sizes[sizes.len() - 1],
            Choice::Seeded(_) => sizes[random.below(sizes.len())],
            Choice::Exactly(fates) => sizes[fates.get(place).copied().unwrap_or(sizes.len() - 1)],
        };
        state.resize(size);
        state.sizes = vec![size];
        state.written.clear();
    }

    /// The disks that a power cut now may leave: all of them if there are at most `most`, else the
    /// oldest, the newest and seeded ones, `most` in all.
    pub(crate) fn power_cuts(&self, most: usize, seed: u64) -> Vec<Self> {
        let mut radices: Vec<usize> = self.fates().iter().map(|(_, fates)| fates.len()).collect();
        radices.push(self.0.borrow().sizes.len());
        let all = radices.iter().try_fold(1_usize, |all, radix| all.checked_mul(*radix));
        let cut = |choice: Choice<'_>| {
            let disk = self.fork();
            disk.power_cut(choice);
            disk
        };
        if all.is_some_and(|all| all <= most) {
            let mut places = vec![0; radices.len()];
            let mut disks = Vec::new();
            loop {
                disks.push(cut(Choice::Exactly(&places)));
                let Some(next) = (0..places.len()).find(|place| places[*place] + 1 < radices[*place]) else {
                    return disks;
                };
                places[..next].fill(0);
                places[next] += 1;
            }
        }
        let seeded =
            (2..most as u64).map(|n| cut(Choice::Seeded(seed.wrapping_mul(0x1_0001).wrapping_add(n))));
        [cut(Choice::Oldest), cut(Choice::Newest)].into_iter().chain(seeded).collect()
    }

    /// The process dies and the system lives: the cache stays, dirty stays dirty, lost stays lost.
    pub(crate) fn kill(&self) {
        self.heal();
    }

    /// The cache forgets what it calls clean; where a sync had failed, what the medium really holds comes
    /// to light.
    pub(crate) fn evict(&self, choice: Choice<'_>) {
        let mut state = self.0.borrow_mut();
        let mut random = Random(if let Choice::Seeded(seed) = choice { seed } else { 0 });
        for (place, slot) in state.slots.iter_mut().filter(|slot| slot.is_lost).enumerate() {
            slot.medium = match choice {
                Choice::Oldest => slot.medium.clone(),
                Choice::Newest => slot.cached().clone(),
                Choice::Seeded(_) => any_fate(slot, &mut random),
                Choice::Exactly(fates) => slot.fates().swap_remove(fates[place]),
            };
            slot.unsynced.clear();
            slot.is_lost = false;
        }
    }

    /// Changes octets on the medium and in the cache, as rot or another program would.
    pub(crate) fn spoil(&self, at: BlockIndex, spoil: impl FnOnce(&mut Block)) {
        let mut state = self.0.borrow_mut();
        let slot = &mut state.slots[at.0 as usize];
        let mut octets = *slot.cached().octets;
        spoil(&mut octets);
        *slot = Slot::new(Version::new(octets));
    }

    /// What a read would give, without counting as one.
    pub(crate) fn peek(&self, at: BlockIndex) -> Block {
        *self.0.borrow().slots[at.0 as usize].cached().octets
    }

    /// Somebody else makes the file longer or shorter, for good.
    pub(crate) fn set_blocks(&self, blocks: u32) {
        let mut state = self.0.borrow_mut();
        state.slots.resize_with(blocks as usize, || Slot::new(never_written()));
        state.sizes = vec![blocks as usize];
    }

    /// A number that two disks share only when all that they may hold is the same.
    pub(crate) fn fingerprint(&self) -> u64 {
        let state = self.0.borrow();
        let mut sum = Random(state.sizes.len() as u64);
        for slot in &state.slots {
            let lost = u64::from(slot.is_lost) << 32;
            for version in slot.versions() {
                sum.0 ^= u64::from(version.sum) | lost;
                sum.next();
            }
            sum.next();
        }
        sum.next()
    }
}

/// Any version of a block, or any two of them torn at any sectors.
fn any_fate(slot: &Slot, random: &mut Random) -> Version {
    let count = slot.unsynced.len() + 1;
    let pick =
        |random: &mut Random| slot.versions().nth(random.below(count)).expect("below the count").clone();
    let (one, other) = (pick(random), pick(random));
    match random.below(3) {
        0 => torn(&one, &other, random.next() as u8),
        1 => torn(&one, &other, !(0xff_u8 << random.below(SECTORS))),
        _ => one,
    }
}

impl State {
    /// Counts the call; `Err` when it is to fail.
    fn enter(&mut self, call: Call) -> Result<(), Option<Fault>> {
        match call {
            Call::Read => self.calls.reads += 1,
            Call::Write => self.calls.writes += 1,
            Call::Sync => self.calls.syncs += 1,
            Call::Resize => self.calls.resizes += 1,
            Call::Any => unreachable!("a call is one of the four"),
        }
        if self.freeze_at.is_some_and(|at| self.calls.all() > at) {
            return Err(None);
        }
        let mut hit = None;
        for fault in self
            .faults
            .iter_mut()
            .filter(|fault| fault.times > 0 && (fault.call == call || fault.call == Call::Any))
        {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if hit.is_none() {
                fault.times -= 1;
                self.calls.failed += 1;
                hit = Some(*fault);
            }
        }
        hit.map_or(Ok(()), |fault| Err(Some(fault)))
    }

    /// What is cut off comes back when the file grows again: new blocks may read as anything.
    fn resize(&mut self, blocks: usize) {
        while self.slots.len() > blocks {
            let slot = self.slots.pop().expect("longer than wanted");
            self.cut_off.push(slot.cached().clone());
        }
        while self.slots.len() < blocks {
            let version = self.cut_off.pop().unwrap_or_else(never_written);
            self.slots.push(Slot::new(version));
        }
    }

    fn write(&mut self, at: BlockIndex, octets: Block) {
        self.written.push(at);
        self.unreadable.retain(|bad| *bad != at);
        let slot = &mut self.slots[at.0 as usize];
        slot.is_lost = false;
        slot.unsynced.push(Version::new(octets));
    }
}

fn error(fault: Option<Fault>) -> DeviceError {
    fault.map_or(DeviceError::Io, |fault| fault.error)
}

impl Device for Disk {
    fn blocks(&self) -> u32 {
        self.0.borrow().slots.len() as u32
    }

    fn read(&mut self, at: BlockIndex, into: &mut Block) -> Result<(), DeviceError> {
        let mut state = self.0.borrow_mut();
        assert!((at.0 as usize) < state.slots.len(), "read of block {} beyond the end", at.0);
        state.enter(Call::Read).map_err(error)?;
        if state.unreadable.contains(&at) {
            state.calls.failed += 1;
            return Err(DeviceError::Io);
        }
        *into = *state.slots[at.0 as usize].cached().octets;
        Ok(())
    }

    fn write(&mut self, at: BlockIndex, from: &Block) -> Result<(), DeviceError> {
        let mut state = self.0.borrow_mut();
        assert!((at.0 as usize) < state.slots.len(), "write of block {} beyond the end", at.0);
        match state.enter(Call::Write) {
            Ok(()) => {
                state.write(at, *from);
                Ok(())
            }
            Err(fault) => {
                match fault.map_or(Effect::Nothing, |fault| fault.effect) {
                    Effect::Nothing => {}
                    Effect::Half => {
                        let sectors = !(0xff_u8 << (1 + state.random.below(SECTORS - 1)));
                        let half = torn(state.slots[at.0 as usize].cached(), &Version::new(*from), sectors);
                        state.write(at, *half.octets);
                    }
                    Effect::Whole => state.write(at, *from),
                }
                Err(error(fault))
            }
        }
    }

    fn sync(&mut self) -> Result<(), DeviceError> {
        let mut state = self.0.borrow_mut();
        match state.enter(Call::Sync) {
            Ok(()) => {
                for slot in state.slots.iter_mut().filter(|slot| !slot.is_lost) {
                    if let Some(newest) = slot.unsynced.pop() {
                        slot.medium = newest;
                        slot.unsynced.clear();
                    }
                }
                state.sizes = vec![state.slots.len()];
                state.written.clear();
                state.calls.good_syncs += 1;
                Ok(())
            }
            Err(None) => Err(DeviceError::Io),
            Err(Some(fault)) => {
                for slot in state.slots.iter_mut().filter(|slot| !slot.unsynced.is_empty()) {
                    slot.is_lost = true;
                }
                Err(fault.error)
            }
        }
    }

    fn drop_cache(&mut self) {
        let seed = self.0.borrow_mut().random.next();
        if !self.is_frozen() {
            self.evict(Choice::Seeded(seed));
        }
    }

    fn resize(&mut self, blocks: u32) -> Result<(), DeviceError> {
        let mut state = self.0.borrow_mut();
        state.enter(Call::Resize).map_err(error)?;
        state.resize(blocks as usize);
        state.sizes.push(blocks as usize);
        Ok(())
    }
}
