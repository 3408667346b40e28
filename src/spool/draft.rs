//! Receiving into the spool: from MAIL to the head that makes the draft a message.
//!
//! A draft has one block of memory. When that is full and more comes, it goes to the disk as a body, once;
//! its end goes into the head. What a draft was promised (SIZE) is kept free for it; what it needs beyond is
//! drawn from blocks that nobody was promised.

use super::device::{BLOCK_OCTETS, Block, BlockIndex, DeviceError};
use super::envelope::RECORD_OCTETS_MAX;
use super::layout::{
    BODY_CONTENT_AT, BODY_CONTENT_OCTETS, Head, SUPERBLOCK_SLOTS, chain_crc, head_content_at, seal_body,
    seal_freed, seal_head,
};
use super::store::HEADS_RESERVE;
use super::table::{Entry, State};
use super::{Device, Draft, Ended, Envelope, MessageId, MessageIndex, Recipient, Refusal, Store};
use crate::limits::{RECEIVER_SESSIONS, RECIPIENTS};
use crate::time::Tick;

/// Drafts at once: each receiver session has at most one.
pub(super) const DRAFTS: usize = RECEIVER_SESSIONS;
const _: () = assert!(DRAFTS <= u8::MAX as usize + 1);

/// The draft of one slot. All zero when there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    pub is_used: bool,
    /// Blocks of it that were written may not be on the disk: it can't become a message.
    pub is_poisoned: bool,
    /// The mail data has begun: no recipient may follow.
    has_data: bool,
    /// The mail data so far has octets beyond ASCII.
    has_8bit: bool,
    recipients: u16,
    /// Octets of content in the slot's block of memory.
    filled: u16,
    id: MessageId,
    /// The place in the table that is kept for it.
    entry: Option<MessageIndex>,
    /// The first block of the chain.
    first: u32,
    /// The block that what is in memory will be written to.
    block: u32,
    pub bodies: u32,
    chain_crc: u32,
    /// Blocks that are kept free for it still.
    promised: u32,
    content_octets: u64,
    envelope_octets: u32,
    share: Share,
}

/// Whose a draft is, and how many blocks that client's mail may hold in all, so that one client can't fill
/// the spool. The default is nobody's and without a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// The client; 0 is nobody.
    pub client: u8,
    /// Blocks of its drafts and messages together.
    pub blocks_max: u32,
}

impl Slot {
    /// Blocks that the draft holds.
    pub(super) fn blocks(&self) -> u32 {
        if self.first < SUPERBLOCK_SLOTS { 0 } else { self.bodies + 1 }
    }
}

/// Blocks of a message with so many octets of content to so many recipients.
fn blocks_of(content_octets: u64, recipients: usize) -> u64 {
    let pieces = content_octets.div_ceil(BODY_CONTENT_OCTETS as u64).max(1);
    let last = content_octets - (pieces - 1) * BODY_CONTENT_OCTETS as u64;
    let head_room = (BLOCK_OCTETS - head_content_at(recipients)) as u64;
    pieces + u64::from(last > head_room)
}

impl<D: Device> Store<D> {
    /// Begins a draft. With `declared` octets (SIZE of RFC 1870) the blocks they need are reserved, so that a
    /// message of that size never meets a full disk; what its recipients need beyond one is not foreseen.
    pub fn begin(&mut self, envelope: &Envelope, declared: Option<u64>) -> Result<Draft, Refusal> {
        self.begin_within(envelope, declared, Share::default())
    }

    /// The same for a client that has a share of the spool.
    pub fn begin_within(
        &mut self,
        envelope: &Envelope,
        declared: Option<u64>,
        share: Share,
    ) -> Result<Draft, Refusal> {
        if self.is_failing() {
            return Err(Refusal::Failing);
        }
        let records = envelope.records();
        let foreseen = declared.map_or(0, |octets| octets.saturating_add(RECORD_OCTETS_MAX as u64));
        let blocks = blocks_of(foreseen.saturating_add(records.len() as u64), 1);
        if blocks > u64::from(self.blocks_for_messages()) {
            return Err(Refusal::NeverFits);
        }
        let blocks = blocks as u32;
        if share.client != 0 && blocks > share.blocks_max {
            return Err(Refusal::NeverFits);
        }
        if share.client != 0 && self.held(share.client) + blocks > share.blocks_max {
            return Err(Refusal::ShareFull);
        }
        let slot = self.drafts.iter().position(|slot| !slot.is_used).ok_or(Refusal::Full)?;
        if self.blocks_unpromised() < blocks && !(self.reclaim() && self.blocks_unpromised() >= blocks) {
            return Err(if self.is_failing() { Refusal::Failing } else { Refusal::Full });
        }
        let entry = match self.table.reserve() {
            None if self.table.has_freed() && self.reclaim() => self.table.reserve(),
            entry => entry,
        };
        let entry = entry.ok_or(Refusal::Full)?;
        let id = MessageId { epoch: self.superblock.epoch, counter: self.ids };
        self.ids = self.ids.checked_add(1).expect("4,294,967,295 messages in one run");
        self.drafts[slot] =
            Slot { is_used: true, id, entry: Some(entry), promised: blocks, share, ..Slot::default() };
        self.promised += blocks;
        let draft = Draft { slot: slot as u8 };
        let begun = self.draw(slot).and_then(|block| {
            self.drafts[slot].first = block;
            self.drafts[slot].block = block;
            self.append_content(slot, &records)
        });
        match begun {
            Ok(()) => Ok(draft),
            Err(refusal) => {
                self.discard(draft);
                Err(refusal)
            }
        }
    }

    /// The share of `client` when each may hold `percent` hundredths of an empty spool.
    pub fn share(&self, client: u8, percent: u8) -> Share {
        let blocks = u64::from(self.blocks_for_messages()) * u64::from(percent) / 100;
        Share { client, blocks_max: blocks.max(1) as u32 }
    }

    /// Counts a message that was found at the start to the share of `client`.
    pub fn charge(&mut self, message: MessageIndex, client: u8) {
        self.table.charge(message, client);
    }

    /// Blocks of all drafts and messages of `client`.
    pub fn held(&self, client: u8) -> u32 {
        let drafts = self.drafts.iter().filter(|slot| slot.is_used && slot.share.client == client);
        let blocks = |slot: &Slot| slot.promised + slot.bodies + u32::from(slot.first >= SUPERBLOCK_SLOTS);
        self.table.held(client) + drafts.map(blocks).sum::<u32>()
    }

    /// The id of the message that the draft will be.
    pub fn id_of(&self, draft: &Draft) -> MessageId {
        self.drafts[usize::from(draft.slot)].id
    }

    /// Adds one recipient, or leaves the draft as it was.
    pub fn add_recipient(&mut self, draft: &mut Draft, recipient: &Recipient) -> Result<(), Refusal> {
        let slot = usize::from(draft.slot);
        assert!(!self.drafts[slot].has_data, "recipients come before the mail data");
        if usize::from(self.drafts[slot].recipients) >= RECIPIENTS {
            return Err(Refusal::TooManyRecipients);
        }
        self.append_content(slot, &recipient.record())?;
        self.drafts[slot].recipients += 1;
        Ok(())
    }

    /// Appends mail data as it is to be relayed (transparency undone). After a refusal only `discard` is
    /// left.
    pub fn append(&mut self, draft: &mut Draft, mail_data: &[u8]) -> Result<(), Refusal> {
        let slot = usize::from(draft.slot);
        self.end_envelope(slot);
        self.drafts[slot].has_8bit |= !mail_data.is_ascii();
        self.append_content(slot, mail_data)
    }

    /// Gives the draft and its blocks up.
    pub fn discard(&mut self, draft: Draft) {
        let slot = core::mem::take(&mut self.drafts[usize::from(draft.slot)]);
        assert!(slot.is_used);
        self.promised -= slot.promised;
        if let Some(entry) = slot.entry {
            self.table.vacate(entry);
        }
        self.release_draft(&slot);
    }

    /// Writes what is left of the draft. It is durable only when [`Store::receipt`] says so. A refusal has
    /// given its blocks back.
    pub fn end(&mut self, draft: Draft, accepted: Tick) -> Result<Ended, Refusal> {
        let at = usize::from(draft.slot);
        self.end_envelope(at);
        assert!(self.drafts[at].recipients > 0, "DATA needs a recipient (RFC 5321 3.3)");
        let ended = self.end_slot(at, accepted);
        match ended {
            Ok(message) => {
                let slot = core::mem::take(&mut self.drafts[at]);
                self.promised -= slot.promised;
                Ok(Ended { message })
            }
            Err(refusal) => {
                self.discard(draft);
                Err(refusal)
            }
        }
    }

    fn end_envelope(&mut self, slot: usize) {
        let slot = &mut self.drafts[slot];
        if !slot.has_data {
            slot.has_data = true;
            slot.envelope_octets =
                u32::try_from(slot.content_octets).expect("1,000 recipients are below 1 MiB");
        }
    }

    fn end_slot(&mut self, at: usize, accepted: Tick) -> Result<MessageIndex, Refusal> {
        if self.is_failing() || self.drafts[at].is_poisoned {
            return Err(Refusal::Failing);
        }
        let head_room = BLOCK_OCTETS - head_content_at(usize::from(self.drafts[at].recipients));
        if usize::from(self.drafts[at].filled) > head_room {
            let next = self.draw(at)?;
            self.write_body(at, next)?;
        }
        // A sync in `draw` may have failed and poisoned the draft.
        if self.is_failing() || self.drafts[at].is_poisoned {
            return Err(Refusal::Failing);
        }
        let slot = self.drafts[at];
        let head = Head {
            generation: 1,
            commit: self.commit,
            accepted,
            content_octets: slot.content_octets,
            envelope_octets: slot.envelope_octets,
            recipients: slot.recipients,
            has_8bit: slot.has_8bit,
            chain_crc: slot.chain_crc,
        };
        let first = if slot.bodies > 0 { slot.first } else { 0 };
        let (device, block) = self.draft_block(at);
        seal_head(block, &head, usize::from(slot.filled), slot.id, slot.bodies, first);
        let written = device.write(BlockIndex(slot.block), block);
        self.map.dirty.insert(slot.block);
        if let Err(error) = written {
            self.undo_head(at, error);
            return Err(refusal_of(error));
        }
        let message = slot.entry.expect("a draft keeps its place until it ends");
        let entry = Entry {
            state: State::Ended,
            is_owned: true,
            client: 0,
            id: slot.id,
            head: slot.block,
            first,
            bodies: slot.bodies,
            generation: 1,
            accepted,
            data_octets: u32::try_from(slot.content_octets - u64::from(slot.envelope_octets))
                .expect("a spool is below 4 GiB"),
            recipients: slot.recipients,
            waiting: slot.recipients,
            owed: 0,
            link: 0,
        };
        self.table.put(message, &entry);
        self.table.charge(message, slot.share.client);
        self.table.push_ended(message);
        Ok(message)
    }

    /// The head was refused, but part of it may be on its way to the disk: a tombstone takes its place, so
    /// that the message that gets an error now is not found by the next start. Its blocks wait for a sync of
    /// that.
    fn undo_head(&mut self, at: usize, error: DeviceError) {
        let slot = self.drafts[at];
        log::error!("spool: writing a head failed: {error}");
        let (device, block) = self.draft_block(at);
        seal_freed(block, Some(slot.id));
        if device.write(BlockIndex(slot.block), block).is_ok() {
            self.release_chain_later(slot.first, slot.bodies + 1);
            if let Some(message) = self.drafts[at].entry.take() {
                self.table.vacate_later(message);
            }
        } else if let Some(message) = self.drafts[at].entry.take() {
            let entry = Entry {
                state: State::Refused,
                id: slot.id,
                head: slot.block,
                first: slot.first,
                bodies: slot.bodies,
                ..Entry::VACANT
            };
            self.table.put(message, &entry);
            self.fail();
        }
        self.drafts[at].first = 0;
    }

    fn append_content(&mut self, at: usize, mut octets: &[u8]) -> Result<(), Refusal> {
        loop {
            let slot = &mut self.drafts[at];
            if slot.is_poisoned {
                return Err(Refusal::Failing);
            }
            let filled = usize::from(slot.filled);
            let room = BODY_CONTENT_OCTETS - filled;
            let is_last = octets.len() <= room;
            // The next block is drawn before anything is copied: a refusal leaves a short record out whole.
            let next = if is_last { None } else { Some(self.draw(at)?) };
            let (now, later) = octets.split_at(octets.len().min(room));
            let (_, block) = self.draft_block(at);
            let start = BODY_CONTENT_AT + filled;
            block[start..start + now.len()].copy_from_slice(now);
            let slot = &mut self.drafts[at];
            slot.filled += now.len() as u16;
            slot.content_octets += now.len() as u64;
            let Some(next) = next else { return Ok(()) };
            self.write_body(at, next)?;
            octets = later;
        }
    }

    /// Writes what is in memory as a body; what comes next will go to `next`.
    fn write_body(&mut self, at: usize, next: u32) -> Result<(), Refusal> {
        let slot = self.drafts[at];
        let (device, block) = self.draft_block(at);
        let crc = seal_body(block, usize::from(slot.filled), slot.id, slot.bodies, next);
        let written = device.write(BlockIndex(slot.block), block);
        self.map.dirty.insert(slot.block);
        self.map.link(slot.block, next);
        let slot = &mut self.drafts[at];
        slot.chain_crc = chain_crc(slot.chain_crc, crc);
        slot.bodies += 1;
        slot.block = next;
        slot.filled = 0;
        written.map_err(|error| {
            log::error!("spool: writing a block failed: {error}");
            self.drafts[at].is_poisoned = true;
            refusal_of(error)
        })
    }

    /// One more block for a draft: from its promise, else from what nobody was promised.
    fn draw(&mut self, at: usize) -> Result<u32, Refusal> {
        if self.is_failing() {
            return Err(Refusal::Failing);
        }
        let share = self.drafts[at].share;
        if self.drafts[at].promised == 0 && share.client != 0 && self.held(share.client) >= share.blocks_max {
            let is_alone = self.drafts[at].bodies + 1 >= share.blocks_max;
            return Err(if is_alone { Refusal::NeverFits } else { Refusal::ShareFull });
        }
        if self.drafts[at].promised == 0
            && self.blocks_unpromised() == 0
            && !(self.reclaim() && self.blocks_unpromised() > 0)
        {
            return Err(if self.is_failing() { Refusal::Failing } else { Refusal::Full });
        }
        let block = self.take_block().ok_or(Refusal::Failing)?;
        if self.drafts[at].promised > 0 {
            self.drafts[at].promised -= 1;
            self.promised -= 1;
        }
        Ok(block)
    }

    /// Gives back the blocks of a draft that has no head on the disk: nothing refers to them.
    fn release_draft(&mut self, slot: &Slot) {
        let mut block = slot.first;
        for _ in 0..=slot.bodies {
            if block < SUPERBLOCK_SLOTS {
                break;
            }
            let next = self.map.next(block);
            self.map.release(block);
            block = next;
        }
    }

    fn draft_block(&mut self, at: usize) -> (&mut D, &mut Block) {
        let (blocks, _) = self.draft_blocks.as_chunks_mut::<BLOCK_OCTETS>();
        (&mut self.device, &mut blocks[at])
    }

    /// Free blocks that no draft was promised and no head may need.
    fn blocks_unpromised(&self) -> u32 {
        self.map.free_count().saturating_sub(self.promised + HEADS_RESERVE)
    }

    /// Blocks of an empty spool that messages may take.
    fn blocks_for_messages(&self) -> u32 {
        self.superblock.blocks.saturating_sub(SUPERBLOCK_SLOTS + HEADS_RESERVE)
    }

    /// Octets of mail data that an empty spool holds in one message.
    pub fn message_octets_max(&self) -> u64 {
        mail_data_of(self.blocks_for_messages())
    }

    /// The same for a client with a share of it.
    pub fn message_octets_max_within(&self, share: Share) -> u64 {
        let blocks = self.blocks_for_messages();
        mail_data_of(if share.client == 0 { blocks } else { blocks.min(share.blocks_max) })
    }
}

/// Octets of mail data that fit into `blocks` beside an envelope and the record of one recipient.
fn mail_data_of(blocks: u32) -> u64 {
    let pieces = u64::from(blocks.saturating_sub(1));
    (pieces * BODY_CONTENT_OCTETS as u64).saturating_sub(2 * RECORD_OCTETS_MAX as u64)
}

fn refusal_of(error: DeviceError) -> Refusal {
    match error {
        DeviceError::NoSpace => Refusal::Full,
        DeviceError::Io => Refusal::Failing,
    }
}
