//! From the smarthost's verdict to the final free: what has become of each recipient is written to a new
//! head, and the message is freed when all have it, or their failure was noticed.
//!
//! Rules 2 to 4 of `store.rs` are kept here: copy on write, the tombstone, the free that is owed.

use super::device::{BlockIndex, DeviceError};
use super::layout::{self, Header, Kind, Read, reseal_head};
use super::store::Superseded;
use super::table::{Entry, State};
use super::{
    Damage, Device, KeptReply, MessageId, MessageIndex, REPLIES_KEPT, RecipientState, Refusal, Store,
};

/// What is left of a message after some of its recipients were settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Nothing: there is no more to do for any recipient, the message is gone.
    Removed,
    /// Recipients wait still; a notice about others may be owed ([`super::Facts::owed`]).
    Waiting,
    /// None waits, some failed: it is kept for its notice.
    Failed,
    /// Its head can't be read any more: it was set aside.
    SetAside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rewritten {
    Anew,
    NotReadable,
}

impl<D: Device> Store<D> {
    /// Reads the newest head of a message into the scratch block.
    pub(super) fn read_head(&mut self, message: MessageIndex) -> Result<Header, Damage> {
        let entry = self.table.entry(message);
        self.device.read(BlockIndex(entry.head), &mut self.scratch).map_err(|_| Damage)?;
        match layout::read(&self.scratch) {
            Read::Sound(header)
                if header.kind == Kind::Head
                    && header.id == entry.id
                    && layout::Head::read(&self.scratch).generation == entry.generation =>
            {
                Ok(header)
            }
            Read::Sound(_) | Read::Broken(_) | Read::Unknown => Err(Damage),
        }
    }

    /// Reads what has become of each recipient into the first `facts.recipients` of `states`.
    pub fn states(&mut self, message: MessageIndex, states: &mut [RecipientState]) -> Result<(), Damage> {
        self.read_head(message)?;
        let recipients = usize::from(self.table.entry(message).recipients);
        for (state, read) in states.iter_mut().zip(layout::states(&self.scratch, recipients)) {
            *state = read;
        }
        Ok(())
    }

    /// The replies that the message's failed recipients refer to.
    pub fn replies(
        &mut self,
        message: MessageIndex,
    ) -> Result<heapless::Vec<KeptReply, { REPLIES_KEPT }>, Damage> {
        self.read_head(message)?;
        Ok(layout::replies(&self.scratch, usize::from(self.table.entry(message).recipients)))
    }

    /// Writes down what has become of the recipients. `Err` means that it could not be written now: call
    /// again later, and don't relay the message until then.
    pub fn settle(
        &mut self,
        message: MessageIndex,
        states: &[RecipientState],
        replies: &[KeptReply],
    ) -> Result<Settled, Refusal> {
        let entry = self.table.entry(message);
        assert!(
            entry.state == State::Live && !entry.is_owned && states.len() == usize::from(entry.recipients)
        );
        let waiting = states.iter().filter(|state| **state == RecipientState::Waiting).count();
        let owed = states.iter().filter(|state| state.owes_notice()).count();
        if states.iter().all(|state| state.is_settled()) {
            self.free(message);
            return Ok(Settled::Removed);
        }
        if waiting < usize::from(entry.waiting) || owed != usize::from(entry.owed) {
            if self.rewrite_head(message, states, replies)? == Rewritten::NotReadable {
                self.set_aside(message);
                return Ok(Settled::SetAside);
            }
            self.table.change(message, |entry| {
                entry.waiting = waiting as u16;
                entry.owed = owed as u16;
            });
        }
        Ok(if waiting > 0 { Settled::Waiting } else { Settled::Failed })
    }

    fn rewrite_head(
        &mut self,
        message: MessageIndex,
        states: &[RecipientState],
        replies: &[KeptReply],
    ) -> Result<Rewritten, Refusal> {
        if self.is_failing() {
            return Err(Refusal::Failing);
        }
        if self.superseded.is_full() && !self.sync() {
            return Err(Refusal::Failing);
        }
        if self.map.free_count() <= self.promised
            && !(self.reclaim() && self.map.free_count() > self.promised)
        {
            return Err(Refusal::Full);
        }
        let block = self.take_block().ok_or(Refusal::Failing)?;
        let Ok(header) = self.read_head(message) else {
            self.map.release(block);
            return Ok(Rewritten::NotReadable);
        };
        reseal_head(&mut self.scratch, &header, self.commit, states, replies);
        self.map.dirty.insert(block);
        if let Err(error) = self.device.write(BlockIndex(block), &self.scratch) {
            // What may have been written of it is of no harm: the same results, at worst.
            log::error!("spool: writing a head failed: {error}");
            let blanked = self.write_freed(block, None);
            self.map.release_later(block);
            self.flush_soon();
            if blanked.is_err() {
                self.fail();
            }
            return Err(Refusal::Failing);
        }
        let entry = self.table.entry(message);
        let superseded = Superseded { message, block: entry.head, generation: entry.generation };
        self.superseded.push(superseded).expect("a sync made room above");
        self.table.change(message, |entry| {
            entry.head = block;
            entry.generation += 1;
        });
        self.flush_soon();
        Ok(Rewritten::Anew)
    }

    /// Frees a message whole: tombstones over its newest head and over those before it that were not blanked
    /// yet, one sync for all. A blank there would destroy a durable head before the tombstone that replaces
    /// it is durable, and a head still older, whose own blank is lost with it, would live again.
    pub(super) fn free(&mut self, message: MessageIndex) {
        let entry = self.table.change(message, |entry| {
            entry.state = State::FreeOwed;
            entry.waiting = 0;
            entry.owed = 0;
        });
        self.frees_owed += 1;
        if !self.is_failing()
            && let Err(error) = self.write_free(message, &entry)
        {
            // It is tried again each turn, and told once.
            log::error!("spool: freeing {} failed: {error}; it is owed", entry.id);
        }
    }

    fn write_free(&mut self, message: MessageIndex, entry: &Entry) -> Result<(), DeviceError> {
        self.write_tombstone(entry.head, entry.id).inspect_err(|_| self.flush_soon())?;
        let mut at = 0;
        while at < self.superseded.len() {
            let superseded = self.superseded[at];
            if superseded.message != message {
                at += 1;
                continue;
            }
            self.write_tombstone(superseded.block, entry.id).inspect_err(|_| self.flush_soon())?;
            self.superseded.swap_remove(at);
            self.map.release_later(superseded.block);
        }
        self.map.release_later(entry.head);
        self.release_chain_later(entry.first, entry.bodies);
        self.frees_owed -= 1;
        self.table.vacate_later(message);
        Ok(())
    }

    /// A tombstone over one head of a message.
    fn write_tombstone(&mut self, block: u32, id: MessageId) -> Result<(), DeviceError> {
        match self.device.read(BlockIndex(block), &mut self.scratch) {
            Ok(()) => self.write_scratch_freed(block, Some(id)),
            // The rest of the block would change too, and a tear could break the head without freeing it.
            // That must not happen while blanks of older heads are not durable: one of those would live
            // again. A disk that failed comes back all the same: no sync would come before.
            Err(error) if self.map.limbo_count() > 0 && !self.is_failing() => Err(error),
            Err(_) => self.write_freed(block, Some(id)),
        }
    }

    pub(super) fn write_owed_frees(&mut self) -> Result<(), DeviceError> {
        for at in 0..self.table.touched() {
            let message = MessageIndex(at);
            let entry = self.table.entry(message);
            if entry.state == State::FreeOwed {
                self.write_free(message, &entry)?;
            }
        }
        Ok(())
    }

    /// The message can't be read any more: keeps its blocks out of use and never relays it.
    pub fn set_aside(&mut self, message: MessageIndex) {
        let entry = self.table.change(message, |entry| entry.state = State::Aside);
        self.aside += 1;
        log::error!("spool: message {} is damaged; it is set aside in block {}", entry.id, entry.head);
    }
}
