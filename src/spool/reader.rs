//! Reads a committed message in order: envelope, recipients, mail data. Each block is checked as it comes.
//!
//! A block that is not what was written ends the reading with [`Damage`]: octets that were not checked are
//! never given.

use super::device::{BLOCK_OCTETS, Block, BlockIndex};
use super::envelope::{RECORD_HEAD_OCTETS, RECORD_OCTETS_MAX, Records, is_recipient};
use super::layout::{self, BODY_CONTENT_AT, Head, Kind, Read};
use super::{Device, Envelope, MessageIndex, Recipient, Store};

/// A block of the message can't be read or is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage;

/// A place in a committed message, with the one block it stands in. The message must stay unsettled while it
/// is read.
#[derive(Debug)]
pub struct Reader {
    pub(super) block: Box<Block>,
    message: MessageIndex,
    /// The piece in `block`: a body, or the head behind the last of them.
    piece: u32,
    /// The block that the next body is in.
    next: u32,
    /// The octets of `block` that are still to be read.
    start: usize,
    end: usize,
    envelope_left: u32,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// A reader that stands nowhere yet; it keeps one block of memory.
    pub fn new() -> Self {
        Self {
            block: Box::new([0; BLOCK_OCTETS]),
            message: MessageIndex(0),
            piece: 0,
            next: 0,
            start: 0,
            end: 0,
            envelope_left: 0,
        }
    }

    /// Goes to the start of `message` and reads its envelope; the recipients come next.
    pub fn open<D: Device>(
        &mut self,
        store: &mut Store<D>,
        message: MessageIndex,
    ) -> Result<Envelope, Damage> {
        self.message = message;
        let header = store.read_head(message)?;
        let head = Head::read(&store.scratch);
        self.envelope_left = head.envelope_octets;
        self.next = header.next;
        self.piece = 0;
        self.load(store)?;
        let mut envelope = Envelope::unread();
        while self.envelope_left > 0 && !is_recipient(self.peek(store)?) {
            let (kind, octets) = self.record(store)?;
            envelope.take(kind, &octets).ok_or(Damage)?;
        }
        envelope.body_is_8bit |= head.has_8bit;
        Ok(envelope)
    }

    /// The next recipient in order of acceptance; `None` after the last, where the mail data begins.
    pub fn next_recipient<D: Device>(&mut self, store: &mut Store<D>) -> Result<Option<Recipient>, Damage> {
        if self.envelope_left == 0 {
            return Ok(None);
        }
        let (kind, octets) = self.record(store)?;
        Recipient::read(kind, &octets).map(Some).ok_or(Damage)
    }

    /// The octets at this place up to the end of their block; empty at the end of the mail data.
    /// Only after `next_recipient` has returned `None`.
    pub fn mail_data<D: Device>(&mut self, store: &mut Store<D>) -> Result<&[u8], Damage> {
        assert!(self.envelope_left == 0, "the recipients come before the mail data");
        self.advance(store)?;
        Ok(&self.block[self.start..self.end])
    }

    /// Moves `octets` on; at most as many as the last `mail_data` returned.
    pub fn consume(&mut self, octets: usize) {
        assert!(octets <= self.end - self.start);
        self.start += octets;
    }

    fn peek<D: Device>(&mut self, store: &mut Store<D>) -> Result<u8, Damage> {
        self.advance(store)?;
        self.block[self.start..self.end].first().copied().ok_or(Damage)
    }

    fn record<D: Device>(&mut self, store: &mut Store<D>) -> Result<(u8, Records), Damage> {
        let mut head = [0; RECORD_HEAD_OCTETS];
        self.copy(store, &mut head)?;
        let [kind, low, high] = head;
        let length = usize::from(u16::from_le_bytes([low, high]));
        if length > RECORD_OCTETS_MAX {
            return Err(Damage);
        }
        let mut octets = Records::new();
        octets.resize(length, 0).map_err(|_| Damage)?;
        self.copy(store, &mut octets)?;
        Ok((kind, octets))
    }

    /// Copies octets of the envelope, over the bounds of blocks.
    fn copy<D: Device>(&mut self, store: &mut Store<D>, into: &mut [u8]) -> Result<(), Damage> {
        self.envelope_left = self.envelope_left.checked_sub(into.len() as u32).ok_or(Damage)?;
        let mut copied = 0;
        while copied < into.len() {
            self.advance(store)?;
            let here = &self.block[self.start..self.end];
            if here.is_empty() {
                return Err(Damage);
            }
            let count = here.len().min(into.len() - copied);
            into[copied..copied + count].copy_from_slice(&here[..count]);
            self.start += count;
            copied += count;
        }
        Ok(())
    }

    /// Loads further pieces until there are octets here, or none are left.
    fn advance<D: Device>(&mut self, store: &mut Store<D>) -> Result<(), Damage> {
        while self.start == self.end && self.piece < store.table.entry(self.message).bodies {
            self.piece += 1;
            self.load(store)?;
        }
        Ok(())
    }

    fn load<D: Device>(&mut self, store: &mut Store<D>) -> Result<(), Damage> {
        let entry = store.table.entry(self.message);
        let is_head = self.piece == entry.bodies;
        let at = if is_head { entry.head } else { self.next };
        if at >= store.superblock.blocks {
            return Err(Damage);
        }
        store.device.read(BlockIndex(at), &mut self.block).map_err(|_| Damage)?;
        let Read::Sound(header) = layout::read(&self.block) else { return Err(Damage) };
        let kind = if is_head { Kind::Head } else { Kind::Body };
        if header.kind != kind || header.id != entry.id || header.position != self.piece {
            return Err(Damage);
        }
        self.start =
            if is_head { layout::head_content_at(usize::from(entry.recipients)) } else { BODY_CONTENT_AT };
        self.end = self.start + usize::from(header.content_octets);
        self.next = header.next;
        Ok(())
    }
}
