//! A disk that failed, and how it comes back.
//!
//! After a failed fdatasync Linux calls the failed pages clean: reading shows what was written, the disk does
//! not have it, and the next fdatasync says yes. So each block written since the last good sync is written
//! again, from memory or from what can still be read, and nothing is accepted until a sync of those succeeds.
//! The drafts of the failed sync were answered with an error: their tombstones are among those blocks, so
//! that no start finds them.

use super::device::{BlockIndex, DeviceError};
use super::layout::{self, Kind, Read, SUPERBLOCK_SLOTS};
use super::table::State;
use super::{Device, MessageIndex, Store};
use crate::time::{Duration, Instant};

const RETRY_FIRST: Duration = Duration::from_s(1);
const RETRY_LONGEST: Duration = Duration::from_s(60);

/// When the disk is tried again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failing {
    pub retry_at: Instant,
    wait: Duration,
}

impl<D: Device> Store<D> {
    /// The disk did not do what it must: what waits for its sync is refused, and nothing is accepted until
    /// `mend`.
    pub(super) fn fail(&mut self) {
        while let Some(message) = self.table.pop_ended() {
            self.table.change(message, |entry| entry.state = State::Refused);
        }
        for draft in self.drafts.iter_mut().filter(|draft| draft.bodies > 0) {
            draft.is_poisoned = true;
        }
        let wait =
            self.failing.map_or(RETRY_FIRST, |failing| Duration(failing.wait.0 * 2)).min(RETRY_LONGEST);
        self.failing = Some(Failing { retry_at: self.now + wait, wait });
    }

    /// Writes again what the failed sync may have lost, and tries the next one.
    pub(super) fn mend(&mut self) {
        if self.failing.is_none_or(|failing| failing.retry_at > self.now) {
            return;
        }
        // The newest head of a message whose free is owed may be among what was lost: the free takes its
        // place.
        let mended = self
            .tombstone_refused()
            .and_then(|()| self.write_owed_frees())
            .and_then(|()| self.rewrite_dirty());
        self.syncs += 1;
        if let Err(error) = mended.and_then(|()| self.device.sync()) {
            log::error!("spool: the disk fails still: {error}");
            self.fail();
            return;
        }
        log::warn!("spool: the disk works again");
        self.failing = None;
        self.synced();
        for at in 0..self.table.touched() {
            let entry = self.table.entry(MessageIndex(at));
            self.vacate_refused(MessageIndex(at), entry.state, entry.head);
        }
    }

    fn tombstone_refused(&mut self) -> Result<(), DeviceError> {
        for at in 0..self.table.touched() {
            let message = MessageIndex(at);
            let entry = self.table.entry(message);
            if entry.state != State::Refused || entry.head == 0 {
                continue;
            }
            self.write_freed(entry.head, Some(entry.id))?;
            self.map.release_later(entry.head);
            self.release_chain_later(entry.first, entry.bodies);
            self.table.change(message, |entry| entry.head = 0);
        }
        Ok(())
    }

    fn rewrite_dirty(&mut self) -> Result<(), DeviceError> {
        let mut from = 0;
        while let Some(block) = self.map.dirty.lowest(from) {
            from = block + 1;
            if block < SUPERBLOCK_SLOTS {
                if block == self.superblock.slot() {
                    self.write_superblock()?;
                }
            } else if self.map.is_in_limbo(block) {
                self.rewrite_freed(block)?;
            } else if !self.map.is_free(block) {
                self.rewrite_head_of_live(block)?;
            }
        }
        Ok(())
    }

    /// A freed block: whatever can be read in its place, its free is written again.
    fn rewrite_freed(&mut self, block: u32) -> Result<(), DeviceError> {
        let tombstone_of = match self.read_scratch(block) {
            Read::Sound(header) | Read::Broken(header) => match header.kind {
                Kind::Body => return Ok(()),
                Kind::Tombstone => Some(header.id),
                // An old head of a living message is only blanked: a tombstone would take the message along.
                Kind::Head => (!self.table.is_live(header.id)).then_some(header.id),
                Kind::Free | Kind::Superblock => None,
            },
            Read::Unknown => None,
        };
        self.write_freed(block, tombstone_of)
    }

    /// A used block that was written since the last good sync: the newest head of a living message, or of no
    /// interest.
    fn rewrite_head_of_live(&mut self, block: u32) -> Result<(), DeviceError> {
        let Some((message, entry)) =
            self.table.iter().find(|(_, entry)| entry.state == State::Live && entry.head == block)
        else {
            return Ok(());
        };
        if self.read_head(message).is_ok() {
            return self.device.write(BlockIndex(block), &self.scratch);
        }
        // Its results are lost with it: an older head that is durable says more recipients wait, and some may
        // get the message twice.
        let older = self
            .superseded
            .iter()
            .position(|old| old.message == message && !self.map.dirty.contains(old.block));
        let Some(older) = older.map(|at| self.superseded.swap_remove(at)) else {
            self.set_aside(message);
            return Ok(());
        };
        log::error!("spool: the last results of {} are lost; recipients may get it twice", entry.id);
        self.table.change(message, |entry| {
            entry.head = older.block;
            entry.generation = older.generation;
        });
        self.write_freed(block, None)?;
        self.map.release_later(block);
        if self.read_head(message).is_err() {
            self.set_aside(message);
            return Ok(());
        }
        let (waiting, owed) = layout::counts(&self.scratch, usize::from(entry.recipients));
        self.table.change(message, |entry| {
            entry.waiting = waiting;
            entry.owed = owed;
        });
        Ok(())
    }

    pub(super) fn read_scratch(&mut self, block: u32) -> Read {
        match self.device.read(BlockIndex(block), &mut self.scratch) {
            Ok(()) => layout::read(&self.scratch),
            Err(_) => Read::Unknown,
        }
    }
}
