//! What the spool holds, one message after the other, what of it is damaged, and how one leaves on the
//! administrator's word.
//!
//! A listing goes by ids, which only ever rise: it shows what it shows once, oldest first, whatever comes and
//! goes meanwhile, and what came after its start is left out, so that it ends.

use super::layout::Read;
use super::table::State;
use super::{Device, MessageId, MessageIndex, Refusal, Store};

/// Messages that a listing looks ahead.
const LISTED_AT_ONCE: usize = 16;

/// The next messages of a listing.
pub type Batch = heapless::Vec<Listed, LISTED_AT_ONCE>;

/// A message of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its place.
    pub message: MessageIndex,
    /// Its name. A damaged one may have another message's.
    pub id: MessageId,
    /// It was set aside: nothing else is known of it.
    pub is_aside: bool,
}

/// Blocks whose numbers are kept when they can't be read.
pub const UNREADABLE_KEPT: usize = 8;

/// Blocks that could not be read at the start, or hold what nobody wrote. Nobody knows whose they are; they
/// are kept out of use until a start that can read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// How many there are.
    pub count: u32,
    /// The first of them.
    pub blocks: heapless::Vec<u32, UNREADABLE_KEPT>,
}

impl Unreadable {
    pub(super) fn add(&mut self, block: u32) {
        self.count += 1;
        // What doesn't fit is counted.
        let _ = self.blocks.push(block);
    }
}

impl<D: Device> Store<D> {
    /// The messages that were set aside as damaged, in no order, each with the block of its head.
    pub fn aside(&self) -> impl Iterator<Item = (MessageId, u32)> + '_ {
        let aside = self.table.iter().filter(|(_, entry)| entry.state == State::Aside);
        aside.map(|(_, entry)| (entry.id, entry.head))
    }

    /// What could not be read at the start.
    pub fn unreadable(&self) -> &Unreadable {
        &self.unreadable
    }

    /// The first durable or damaged messages behind `after`, or of all, with an id below `before`, in order.
    /// Looks at all messages once.
    pub fn list(&self, after: Option<Listed>, before: MessageId) -> Batch {
        let key = |listed: &Listed| (listed.id, listed.message);
        let after = after.as_ref().map(key);
        let mut batch = Batch::new();
        for (message, entry) in self.table.iter() {
            let listed = Listed { message, id: entry.id, is_aside: entry.state == State::Aside };
            if !matches!(entry.state, State::Live | State::Aside)
                || after.is_some_and(|after| key(&listed) <= after)
                || listed.id >= before
                || batch.is_full() && batch.last().is_some_and(|last| key(last) < key(&listed))
            {
                continue;
            }
            if batch.is_full() {
                batch.pop();
            }
            let place = batch.partition_point(|before| key(before) < key(&listed));
            batch.insert(place, listed).expect("room was made for it");
        }
        batch
    }

    /// The durable or damaged messages of this id: one, but for damage.
    pub fn find(&self, id: MessageId) -> impl Iterator<Item = Listed> + '_ {
        self.table
            .iter()
            .filter(move |(_, entry)| entry.id == id && matches!(entry.state, State::Live | State::Aside))
            .map(move |(message, entry)| Listed { message, id, is_aside: entry.state == State::Aside })
    }

    /// True while `listed` is as it was.
    pub fn is_there(&self, listed: Listed) -> bool {
        let entry = self.table.entry(listed.message);
        let state = if listed.is_aside { State::Aside } else { State::Live };
        entry.id == listed.id && entry.state == state
    }

    /// The id of the next draft: all that are there are below it.
    pub fn next_id(&self) -> MessageId {
        MessageId { epoch: self.superblock.epoch, counter: self.ids }
    }

    /// How many messages are set aside, as far as the table knows.
    pub fn aside_count(&self) -> u32 {
        self.aside
    }

    /// Damaged messages and unreadable blocks, and how many of them `admin` has been told of: never more.
    pub fn damage(&self) -> (u32, u32) {
        let count = self.aside.saturating_add(self.unreadable.count);
        (count, self.superblock.damage_told.min(count))
    }

    /// `admin` has been told of so many. Durable at once, so that a relay that a supervisor starts again and
    /// again doesn't tell as often.
    pub fn note_damage_told(&mut self, count: u32) {
        self.superblock.damage_told = count;
        if self.is_failing() {
            return;
        }
        match self.write_superblock() {
            Ok(()) => {
                self.sync();
            }
            Err(_) => self.fail(),
        }
    }

    /// Messages in any state, of [`crate::limits::QUEUED_MESSAGES`].
    pub fn message_count(&self) -> u32 {
        self.table.count()
    }

    /// The message leaves although recipients wait: its tombstone is written now, or owed. It is gone for
    /// good when [`Store::has_durable_frees`] says so after the next [`Store::commit`].
    pub fn remove(&mut self, message: MessageIndex) {
        let entry = self.table.entry(message);
        assert!(entry.state == State::Live && !entry.is_owned);
        self.free(message);
        self.flush_at = Some(self.now);
    }

    /// True when no free waits for its write or for a sync.
    pub fn has_durable_frees(&self) -> bool {
        self.frees_owed == 0 && !self.table.has_freed()
    }

    /// A damaged message leaves, durably. Its blocks are free after the next start: what else is left of it
    /// is found then.
    ///
    /// # Errors
    /// The disk did not do it; the message stays.
    pub fn remove_aside(&mut self, message: MessageIndex) -> Result<(), Refusal> {
        let entry = self.table.entry(message);
        assert!(entry.state == State::Aside);
        if self.is_failing() {
            return Err(Refusal::Failing);
        }
        // A tombstone frees all that has its id. That of a broken head may be a living message's: only the
        // block is blanked then.
        let is_sound = matches!(self.read_scratch(entry.head), Read::Sound(header) if header.id == entry.id);
        let tombstone_of = (is_sound && !self.table.is_live(entry.id)).then_some(entry.id);
        if let Err(error) = self.write_freed(entry.head, tombstone_of) {
            log::error!("spool: removing damaged {} failed: {error}", entry.id);
            return Err(Refusal::Failing);
        }
        if !self.sync() {
            return Err(Refusal::Failing);
        }
        // An older head that could not be blanked is dead all the same; its place in the table is another's
        // soon.
        self.superseded.retain(|superseded| superseded.message != message);
        self.table.vacate(message);
        self.aside -= 1;
        // What is found damaged later is another one.
        self.superblock.damage_told = self.damage().1;
        Ok(())
    }
}
