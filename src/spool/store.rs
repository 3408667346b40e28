//! From draft to receipt to the final free: the rules of order that make an acknowledged message safe.
//!
//! 1. All drafts that ended in one turn become durable by one sync; only then are there receipts.
//! 2. What replaces something is durable before what it replaces is destroyed: an old head is blanked
//!    after the sync that covers the new one.
//! 3. The final free is a tombstone that outranks every head of its id; no block of an id is used again
//!    before a sync that covers the frees of all its heads.
//! 4. A free that could not be written is owed: the message is never relayed again, and the free is
//!    written later.
//!
//! The file `mend.rs` has the rule for a failed sync, `recovery.rs` the one for the start. No rule here may
//! be changed without the exhaustive check of `tests/power_cut.rs`.

use super::block_map::BlockMap;
use super::device::{Block, BlockIndex, DeviceError};
use super::draft::Slot;
use super::layout::{SUPERBLOCK_SLOTS, Superblock, seal_freed};
use super::listing::Unreadable;
use super::mend::Failing;
use super::table::{State, Table};
use super::{Device, MessageId};
use crate::limits::SPOOL_BLOCKS_RESERVED;
use crate::time::{Duration, Instant, Tick};

/// Blocks that drafts leave free, so that results can be written down when the spool is full.
pub(super) const HEADS_RESERVE: u32 = 8;
/// Old heads that may wait for the sync that covers their successors.
const SUPERSEDED_MAX: usize = 32;
/// How long frees may wait for a sync when no commit comes by: bounds the duplicates after a power cut.
const FLUSH_AFTER: Duration = Duration::from_s(2);
/// How often the queue clock is written down while mail waits.
const CLOCK_EVERY: Duration = Duration::from_min(60);

/// A message that is being received. It must end in [`Store::end`] or [`Store::discard`].
#[must_use]
#[derive(Debug)]
pub struct Draft {
    pub(super) slot: u8,
}

/// A message that was written whole and waits for the turn's sync. Ask [`Store::receipt`] after
/// [`Store::commit`].
#[must_use]
#[derive(Debug)]
pub struct Ended {
    pub(super) message: MessageIndex,
}

/// The proof that a message is durable: the only thing that a `250` after mail data can be made from.
#[must_use]
#[derive(Debug)]
pub struct Receipt {
    id: MessageId,
}

impl Receipt {
    /// The durable message's id.
    pub fn id(&self) -> MessageId {
        self.id
    }
}

/// A message of the spool, as long as it is there. Below [`crate::limits::QUEUED_MESSAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageIndex(pub u32);

/// Why the spool does not take something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No room for it now: 452 4.3.1.
    Full,
    /// The client's mail holds its share of the spool: 452 4.3.1.
    ShareFull,
    /// It would not fit into an empty spool, or into the client's share of one: 552 5.3.4.
    NeverFits,
    /// The format's or board's count of recipients is reached: 452 4.5.3.
    TooManyRecipients,
    /// The disk failed and has not come back yet: 451 4.3.0 (421 4.3.0 to a new transaction).
    Failing,
}

/// What the queue needs to know of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its name.
    pub id: MessageId,
    /// When it was accepted.
    pub accepted: Tick,
    /// Octets of its mail data.
    pub octets: u64,
    /// Its recipients.
    pub recipients: u16,
    /// Those of them that are still to be relayed.
    pub waiting: u16,
    /// Those of them about whom a notice is owed.
    pub owed: u16,
}

/// An old head whose successor is written but not durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Superseded {
    pub message: MessageIndex,
    pub block: u32,
    pub generation: u32,
}

/// The spool over its disk.
#[derive(Debug)]
pub struct Store<D> {
    pub(super) device: D,
    pub(super) superblock: Superblock,
    pub(super) map: BlockMap,
    pub(super) table: Table,
    pub(super) drafts: Box<[Slot]>,
    pub(super) draft_blocks: Box<[u8]>,
    pub(super) superseded: heapless::Vec<Superseded, SUPERSEDED_MAX>,
    /// One block for reading and rewriting.
    pub(super) scratch: Box<Block>,
    /// Blocks kept free for declared drafts.
    pub(super) promised: u32,
    /// The counter of the next id.
    pub(super) ids: u32,
    /// The number of the group commit that is being gathered.
    pub(super) commit: u64,
    /// Messages whose free could not be written.
    pub(super) frees_owed: u32,
    pub(super) failing: Option<Failing>,
    pub(super) now: Instant,
    pub(super) started: Instant,
    pub(super) clock_at_start: Tick,
    pub(super) flush_at: Option<Instant>,
    pub(super) clock_written: Instant,
    pub(super) syncs: u64,
    pub(super) unreadable: Unreadable,
    /// Messages of the table that are set aside.
    pub(super) aside: u32,
}

impl<D: Device> Store<D> {
    /// One sync for all drafts that ended since the last; none when nothing waits for one. Also mends a disk
    /// that failed, and makes frees durable that have waited long enough; see [`Store::deadline`].
    pub fn commit(&mut self, now: Instant) {
        self.now = now;
        self.mend();
        if self.is_failing() {
            return;
        }
        // Behind a mending too: no turn that leaves the disk at work leaves the clock's note too old.
        if self.frees_owed > 0 {
            let _ = self.write_owed_frees();
        }
        if self.clock_due().is_some_and(|due| due <= now) && self.write_superblock().is_err() {
            self.fail();
            return;
        }
        let is_flush_due = self.flush_at.is_some_and(|due| due <= now);
        if self.table.has_ended() || is_flush_due || self.superseded.is_full() {
            self.sync();
        }
        if self.frees_owed > 0 {
            self.flush_soon();
        }
    }

    /// The verdict on an ended draft, after [`Store::commit`]. `Err` means: it is not and will not be
    /// delivered.
    pub fn receipt(&mut self, ended: Ended) -> Result<Receipt, Refusal> {
        let entry = self.table.entry(ended.message);
        let is_live = match entry.state {
            State::Live => true,
            State::Refused => false,
            State::Ended
            | State::Vacant
            | State::Reserved
            | State::FreeOwed
            | State::Freed
            | State::Aside => {
                unreachable!("an owned entry is asked for between its commit and anything else")
            }
        };
        self.abandon(ended);
        if is_live { Ok(Receipt { id: entry.id }) } else { Err(Refusal::Failing) }
    }

    /// The peer left before it could read the verdict: the message stands all the same, if it is durable.
    pub fn abandon(&mut self, ended: Ended) {
        let entry = self.table.change(ended.message, |entry| {
            assert!(entry.is_owned);
            entry.is_owned = false;
        });
        self.vacate_refused(ended.message, entry.state, entry.head);
    }

    /// A refused message's place is free when no session asks for it and its tombstone is durable.
    pub(super) fn vacate_refused(&mut self, message: MessageIndex, state: State, head: u32) {
        if state == State::Refused && head == 0 && !self.table.entry(message).is_owned {
            self.table.vacate(message);
        }
    }

    /// The messages that became durable since the last call, one a call; each goes to the queue.
    pub fn next_committed(&mut self) -> Option<MessageIndex> {
        self.table.pop_committed()
    }

    /// Makes all durable that was written, and draws what follows from it.
    pub(super) fn sync(&mut self) -> bool {
        // After a failed sync the next one says yes to pages that are lost: only `mend`, which writes them
        // again, may believe it.
        if self.is_failing() {
            return false;
        }
        self.syncs += 1;
        if let Err(error) = self.device.sync() {
            log::error!("spool: fdatasync failed: {error}; nothing is accepted until it succeeds");
            self.fail();
            return false;
        }
        self.synced();
        true
    }

    /// After a good sync: drafts that ended are messages, freed blocks may be used, old heads may be blanked.
    pub(super) fn synced(&mut self) {
        self.map.synced();
        self.flush_at = None;
        self.commit += 1;
        self.table.vacate_freed();
        while let Some(message) = self.table.pop_ended() {
            self.table.change(message, |entry| entry.state = State::Live);
            self.table.push_committed(message);
        }
        for superseded in core::mem::take(&mut self.superseded) {
            self.blank(superseded);
        }
    }

    /// Blanks an old head; its block is free after the next sync. One that can't be blanked stays superseded.
    fn blank(&mut self, superseded: Superseded) {
        match self.write_freed(superseded.block, None) {
            Ok(()) => self.map.release_later(superseded.block),
            Err(error) => {
                log::error!("spool: blanking a head failed: {error}");
                let _ = self.superseded.push(superseded);
            }
        }
        self.flush_soon();
    }

    /// Turns a block into a tombstone or a free block by a write of its first sector alone.
    pub(super) fn write_freed(
        &mut self,
        block: u32,
        tombstone_of: Option<MessageId>,
    ) -> Result<(), DeviceError> {
        if self.device.read(BlockIndex(block), &mut self.scratch).is_err() {
            self.scratch.fill(0);
        }
        self.write_scratch_freed(block, tombstone_of)
    }

    /// The same for the block that the scratch block was read from.
    pub(super) fn write_scratch_freed(
        &mut self,
        block: u32,
        tombstone_of: Option<MessageId>,
    ) -> Result<(), DeviceError> {
        seal_freed(&mut self.scratch, tombstone_of);
        self.map.dirty.insert(block);
        self.device.write(BlockIndex(block), &self.scratch)
    }

    pub(super) fn flush_soon(&mut self) {
        self.flush_at.get_or_insert(self.now + FLUSH_AFTER);
    }

    /// The blocks of a chain are free after the next good sync.
    pub(super) fn release_chain_later(&mut self, first: u32, count: u32) {
        let mut block = first;
        for _ in 0..count {
            let next = self.map.next(block);
            self.map.release_later(block);
            block = next;
        }
        self.flush_soon();
    }

    /// Makes blocks free that only wait for a sync; false when there are none.
    pub(super) fn reclaim(&mut self) -> bool {
        if self.map.limbo_count() == 0 && self.superseded.is_empty() {
            return false;
        }
        self.sync() && (self.map.limbo_count() == 0 || self.sync())
    }

    /// A free block for writing, the lowest there is.
    pub(super) fn take_block(&mut self) -> Option<u32> {
        let block = self.map.lowest_free()?;
        if block >= self.superblock.high_water {
            // Durable before the first use above it: else a later start would not look there, and a start
            // after that would find what this run left.
            let step = (self.superblock.blocks / 8).max(64);
            self.superblock.high_water = block.saturating_add(step).min(self.superblock.blocks);
            if self.write_superblock().is_err() {
                self.fail();
                return None;
            }
            if !self.sync() {
                return None;
            }
        }
        self.map.take(block);
        Some(block)
    }

    /// Writes the superblock to the slot whose turn it is; durable with the next sync.
    pub(super) fn write_superblock(&mut self) -> Result<(), DeviceError> {
        // A slot is overwritten only while the other one is durable.
        let is_unsynced = self.map.dirty.contains(self.superblock.slot());
        self.superblock.sequence += if is_unsynced { 2 } else { 1 };
        self.superblock.clock = self.tick(self.now);
        self.superblock.commit = self.commit - 1;
        self.clock_written = self.now;
        self.superblock.write(&mut self.scratch);
        let slot = self.superblock.slot();
        self.map.dirty.insert(slot);
        self.flush_soon();
        self.device.write(BlockIndex(slot), &self.scratch)
    }

    /// Notes that all commits were durable, so that what is found broken later is told from an interrupted
    /// draft. Nothing depends on it: a crash is as good an end.
    pub fn close(&mut self, now: Instant) {
        self.now = now;
        if !self.is_failing() && self.write_superblock().is_ok() {
            self.sync();
        }
    }
}

/// What it knows without the disk.
impl<D: Device> Store<D> {
    /// The messages to be relayed, those of earlier ids first after a start.
    pub fn messages(&self) -> impl Iterator<Item = MessageIndex> + '_ {
        self.table.iter().filter(|(_, entry)| entry.state == State::Live).map(|(message, _)| message)
    }

    /// True when `message` is there, durable and not damaged.
    pub fn is_live(&self, message: MessageIndex) -> bool {
        message.0 < self.table.touched() && self.table.entry(message).state == State::Live
    }

    /// What the queue needs to know of `message`.
    pub fn facts(&self, message: MessageIndex) -> Facts {
        self.table.entry(message).facts()
    }

    /// The queue clock at `now`.
    pub fn tick(&self, now: Instant) -> Tick {
        self.clock_at_start + now.since(self.started)
    }

    /// True while the disk has failed: nothing is accepted and nothing is to be relayed.
    pub fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// When [`Store::commit`] is to be called again though nobody waits for it: frees that are not durable
    /// yet, a disk that failed, the hourly advance of the clock.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.failing {
            Some(failing) => Some(failing.retry_at),
            None => [self.flush_at, self.clock_due()].into_iter().flatten().min(),
        }
    }

    fn clock_due(&self) -> Option<Instant> {
        (self.table.count() > 0).then(|| self.clock_written + CLOCK_EVERY)
    }

    /// Blocks that could be written to now.
    pub fn blocks_free(&self) -> u32 {
        self.map.free_count()
    }

    /// Blocks of the file, the superblock's included.
    pub fn blocks(&self) -> u32 {
        self.superblock.blocks
    }

    /// Syncs since the start.
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The disk.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Takes the disk back out, as a crash would: nothing is written.
    pub fn into_device(self) -> D {
        self.device
    }
}

/// Octets that a draft costs in memory beside its session and its block.
pub const DRAFT_SLOT_OCTETS: usize = size_of::<Slot>();
const _: () = assert!((SUPERBLOCK_SLOTS + HEADS_RESERVE) as usize == SPOOL_BLOCKS_RESERVED);
