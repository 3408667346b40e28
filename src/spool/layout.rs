//! How a block looks on disk: the format, and nothing else. Little-endian throughout.
//!
//! A message is a chain of *body* blocks that are written as its octets come, and one *head*, written last,
//! that makes it a message: the head holds the end of the content, the counts, a CRC over the bodies' CRCs
//! and the state of each recipient. So a draft needs one block of memory whatever it carries, and an ordinary
//! alert is one block in all. The content is the envelope's records followed by the mail data.
//!
//! | octets | field |
//! | --- | --- |
//! | 0..4 | magic |
//! | 4 | kind |
//! | 6..8 | octets of content in this block |
//! | 8..16 | message id: epoch, counter |
//! | 16..20 | position of a body, count of bodies in a head |
//! | 20..24 | the next block (of a head: the first body) |
//! | 24..28 | CRC-32 of the block without this field |
//! | 28.. | body: content; head: its further fields, states, replies, content |
//!
//! A free block and a tombstone are covered by their CRC in the first 512 octets alone, and writing one
//! changes those only: a write torn at a sector's boundary leaves the block as it was or freed, never
//! something else.

use super::device::{BLOCK_OCTETS, Block};
use super::{KeptReply, MessageId, REPLIES_KEPT, RecipientState};
use crate::limits::{BLOCK_MAIL_DATA_OCTETS_MIN, RECIPIENTS_FORMAT_MAX, REPLY_TEXT_OCTETS_MAX};
use crate::time::Tick;

/// The format's version; another one is refused, never overwritten.
pub(super) const FORMAT_VERSION: u16 = 1;
/// Counts of writes, commits and milliseconds stay below it, by centuries.
const COUNTS_END: u64 = 1 << 62;
/// Heads of one message stay below it: each of its recipients brings two at most.
const GENERATIONS_END: u32 = 1 << 31;
/// The blocks 0 and 1 are the superblock's slots.
pub(super) const SUPERBLOCK_SLOTS: u32 = 2;

const MAGIC: u32 = u32::from_le_bytes(*b"pstn");
const SECTOR_OCTETS: usize = 512;
const KIND_AT: usize = 4;
const CRC_AT: usize = 24;
/// Where the content of a body starts.
pub(super) const BODY_CONTENT_AT: usize = 28;
/// Octets of content in a full body.
pub(super) const BODY_CONTENT_OCTETS: usize = BLOCK_OCTETS - BODY_CONTENT_AT;
const HEAD_FLAG_8BIT: u8 = 1;
const HEAD_STATES_AT: usize = 72;
/// Octets of one kept reply: code, length, text.
const REPLY_SLOT_OCTETS: usize = 2 + 1 + REPLY_TEXT_OCTETS_MAX;

const _: () = assert!(REPLY_TEXT_OCTETS_MAX <= u8::MAX as usize);
const _: () = assert!(head_content_at(RECIPIENTS_FORMAT_MAX) <= BLOCK_OCTETS);
const _: () = assert!(BODY_CONTENT_OCTETS >= BLOCK_MAIL_DATA_OCTETS_MIN);

/// Where the content of the head of a message to `recipients` starts: behind their states and the kept
/// replies.
pub(super) const fn head_content_at(recipients: usize) -> usize {
    let replies = if recipients < REPLIES_KEPT { recipients } else { REPLIES_KEPT };
    HEAD_STATES_AT + recipients + replies * REPLY_SLOT_OCTETS
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Free,
    Body,
    Head,
    Tombstone,
    Superblock,
}

impl Kind {
    const fn octet(self) -> u8 {
        match self {
            Self::Free => 1,
            Self::Body => 2,
            Self::Head => 3,
            Self::Tombstone => 4,
            Self::Superblock => 5,
        }
    }

    const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(Self::Free),
            2 => Some(Self::Body),
            3 => Some(Self::Head),
            4 => Some(Self::Tombstone),
            5 => Some(Self::Superblock),
            _ => None,
        }
    }
}

fn u16_at(block: &Block, at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

fn u32_at(block: &Block, at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

fn u64_at(block: &Block, at: usize) -> u64 {
    u64::from(u32_at(block, at)) | u64::from(u32_at(block, at + 4)) << 32
}

fn put<const N: usize>(block: &mut Block, at: usize, octets: [u8; N]) {
    block[at..at + N].copy_from_slice(&octets);
}

fn crc(block: &Block, kind: Kind) -> u32 {
    let end = if matches!(kind, Kind::Free | Kind::Tombstone) { SECTOR_OCTETS } else { BLOCK_OCTETS };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..KIND_AT]);
    hasher.update(&[kind.octet()]);
    hasher.update(&block[KIND_AT + 1..CRC_AT]);
    hasher.update(&block[CRC_AT + 4..end]);
    hasher.finalize()
}

/// True for a broken block that was written as a head: nothing but its kind is damaged.
pub(super) fn was_head(block: &Block) -> bool {
    u32_at(block, CRC_AT) == crc(block, Kind::Head)
}

/// The CRC over the CRCs of a message's bodies, one body further.
pub(super) fn chain_crc(so_far: u32, body_crc: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(so_far);
    hasher.update(&body_crc.to_le_bytes());
    hasher.finalize()
}

/// The fields that all kinds have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: Kind,
    pub content_octets: u16,
    pub id: MessageId,
    pub position: u32,
    pub next: u32,
    pub crc: u32,
}

/// What reading a block tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// As it was written.
    Sound(Header),
    /// Torn or damaged; what its header seems to say.
    Broken(Header),
    /// Not a block of ours at all.
    Unknown,
}

/// Looks at a block and checks its CRC.
pub(super) fn read(block: &Block) -> Read {
    let Some(kind) = Kind::from_octet(block[KIND_AT]).filter(|_| u32_at(block, 0) == MAGIC) else {
        return Read::Unknown;
    };
    let header = Header {
        kind,
        content_octets: u16_at(block, 6),
        id: MessageId { epoch: u32_at(block, 8), counter: u32_at(block, 12) },
        position: u32_at(block, 16),
        next: u32_at(block, 20),
        crc: u32_at(block, CRC_AT),
    };
    let fits = match kind {
        Kind::Body => usize::from(header.content_octets) <= BODY_CONTENT_OCTETS,
        Kind::Head => {
            let recipients = usize::from(u16_at(block, 60));
            recipients <= RECIPIENTS_FORMAT_MAX
                && head_content_at(recipients) + usize::from(header.content_octets) <= BLOCK_OCTETS
                && Head::read(block).is_possible()
        }
        Kind::Free | Kind::Tombstone | Kind::Superblock => true,
    };
    if fits && header.crc == crc(block, kind) { Read::Sound(header) } else { Read::Broken(header) }
}

fn seal(
    block: &mut Block,
    kind: Kind,
    content_octets: usize,
    id: MessageId,
    position: u32,
    next: u32,
) -> u32 {
    put(block, 0, MAGIC.to_le_bytes());
    block[KIND_AT] = kind.octet();
    block[5] = 0;
    let content_octets = u16::try_from(content_octets).expect("content of one block is below 4,096 octets");
    put(block, 6, content_octets.to_le_bytes());
    put(block, 8, id.epoch.to_le_bytes());
    put(block, 12, id.counter.to_le_bytes());
    put(block, 16, position.to_le_bytes());
    put(block, 20, next.to_le_bytes());
    let crc = crc(block, kind);
    put(block, CRC_AT, crc.to_le_bytes());
    crc
}

/// Makes a body of the content that stands in `block` already; gives its CRC.
pub(super) fn seal_body(
    block: &mut Block,
    content_octets: usize,
    id: MessageId,
    position: u32,
    next: u32,
) -> u32 {
    block[BODY_CONTENT_AT + content_octets..].fill(0);
    seal(block, Kind::Body, content_octets, id, position, next)
}

/// Turns the first sector of `block` into a tombstone of `id`, or into a free block; the rest stays as it is.
pub(super) fn seal_freed(block: &mut Block, tombstone_of: Option<MessageId>) {
    block[BODY_CONTENT_AT..SECTOR_OCTETS].fill(0);
    let kind = if tombstone_of.is_some() { Kind::Tombstone } else { Kind::Free };
    seal(block, kind, 0, tombstone_of.unwrap_or_default(), 0, 0);
}

/// A free block full of octets that don't compress, so that the space it takes on the medium is really there.
pub(super) fn fill(block: &mut Block, seed: u64, index: u32) {
    let mut x = (seed ^ (u64::from(index) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1;
    for octets in block.chunks_exact_mut(8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        octets.copy_from_slice(&x.to_le_bytes());
    }
    seal(block, Kind::Free, 0, MessageId::default(), 0, 0);
}

/// The further fields of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Counts up with each rewriting of the message's head.
    pub generation: u32,
    /// The group commit that this head was written in.
    pub commit: u64,
    /// The queue clock when the message was accepted.
    pub accepted: Tick,
    /// Envelope and mail data together.
    pub content_octets: u64,
    /// The envelope's part of it.
    pub envelope_octets: u32,
    pub recipients: u16,
    /// The mail data has octets beyond ASCII.
    pub has_8bit: bool,
    /// CRC over the CRCs of the bodies.
    pub chain_crc: u32,
}

impl Head {
    /// Reads the fields of a head; its CRC says whether they are to be believed.
    pub(super) fn read(block: &Block) -> Self {
        Self {
            generation: u32_at(block, 28),
            commit: u64_at(block, 32),
            accepted: Tick(u64_at(block, 40)),
            content_octets: u64_at(block, 48),
            envelope_octets: u32_at(block, 56),
            recipients: u16_at(block, 60),
            has_8bit: block[62] & HEAD_FLAG_8BIT != 0,
            chain_crc: u32_at(block, 64),
        }
    }

    /// False for values that no relay has written, however long it ran: nothing can be computed from them.
    const fn is_possible(&self) -> bool {
        self.generation < GENERATIONS_END && self.commit < COUNTS_END && self.accepted.0 < COUNTS_END
    }

    fn write(&self, block: &mut Block) {
        put(block, 28, self.generation.to_le_bytes());
        put(block, 32, self.commit.to_le_bytes());
        put(block, 40, self.accepted.0.to_le_bytes());
        put(block, 48, self.content_octets.to_le_bytes());
        put(block, 56, self.envelope_octets.to_le_bytes());
        put(block, 60, self.recipients.to_le_bytes());
        put(block, 62, [if self.has_8bit { HEAD_FLAG_8BIT } else { 0 }, 0]);
        put(block, 64, self.chain_crc.to_le_bytes());
        put(block, 68, [0; 4]);
    }
}

/// Makes a head of the draft's last content, which stands at [`BODY_CONTENT_AT`]; all recipients wait.
pub(super) fn seal_head(
    block: &mut Block,
    head: &Head,
    content_octets: usize,
    id: MessageId,
    bodies: u32,
    first: u32,
) {
    let content_at = head_content_at(usize::from(head.recipients));
    block.copy_within(BODY_CONTENT_AT..BODY_CONTENT_AT + content_octets, content_at);
    block[HEAD_STATES_AT..content_at].fill(0);
    block[content_at + content_octets..].fill(0);
    head.write(block);
    seal(block, Kind::Head, content_octets, id, bodies, first);
}

/// Makes the next generation of the head in `block`, with new states and replies.
pub(super) fn reseal_head(
    block: &mut Block,
    header: &Header,
    commit: u64,
    states: &[RecipientState],
    replies: &[KeptReply],
) {
    let mut head = Head::read(block);
    head.generation += 1;
    head.commit = commit;
    head.write(block);
    for (at, state) in states.iter().enumerate() {
        block[HEAD_STATES_AT + at] = match *state {
            RecipientState::Waiting => 0,
            RecipientState::Delivered => 1,
            RecipientState::Failed { reply } => 2 | reply << 4,
            RecipientState::Noticed => 3,
            RecipientState::Relayed => 4,
        };
    }
    for (reply, at) in replies.iter().zip(reply_places(states.len())) {
        put(block, at, reply.code.to_le_bytes());
        block[at + 2] = u8::try_from(reply.text.len()).expect("a kept text is at most 250 octets");
        block[at + 3..at + 3 + reply.text.len()].copy_from_slice(&reply.text);
    }
    seal(block, Kind::Head, usize::from(header.content_octets), header.id, header.position, header.next);
}

fn reply_places(recipients: usize) -> impl Iterator<Item = usize> {
    (0..recipients.min(REPLIES_KEPT))
        .map(move |place| HEAD_STATES_AT + recipients + place * REPLY_SLOT_OCTETS)
}

/// What a sound head says of each recipient. A value that no writer makes counts as waiting: better twice
/// than never.
pub(super) fn states(block: &Block, recipients: usize) -> impl Iterator<Item = RecipientState> + '_ {
    block[HEAD_STATES_AT..HEAD_STATES_AT + recipients].iter().map(|octet| match octet & 0x0f {
        1 => RecipientState::Delivered,
        2 => RecipientState::Failed { reply: (octet >> 4).min(REPLIES_KEPT as u8 - 1) },
        3 => RecipientState::Noticed,
        4 => RecipientState::Relayed,
        _ => RecipientState::Waiting,
    })
}

/// How many of the recipients of a sound head wait, and for how many a notice is owed.
pub(super) fn counts(block: &Block, recipients: usize) -> (u16, u16) {
    states(block, recipients).fold((0, 0), |(waiting, owed), state| {
        let waits = state == RecipientState::Waiting;
        (waiting + u16::from(waits), owed + u16::from(state.owes_notice()))
    })
}

/// The replies that a sound head keeps, up to the first empty place.
pub(super) fn replies(block: &Block, recipients: usize) -> heapless::Vec<KeptReply, REPLIES_KEPT> {
    reply_places(recipients)
        .map(|at| {
            (
                u16_at(block, at),
                &block[at + 3..at + 3 + usize::from(block[at + 2]).min(REPLY_TEXT_OCTETS_MAX)],
            )
        })
        .take_while(|(code, _)| *code != 0)
        .map(|(code, text)| KeptReply { code, text: text.iter().copied().collect() })
        .collect()
}

/// The state of a file that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its blocks are being filled: nothing is in it yet.
    Filling,
    /// In use.
    Ready,
}

/// What the spool must know before it reads any other block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub version: u16,
    pub stage: Stage,
    /// Counts up with each writing; its parity is the slot.
    pub sequence: u64,
    pub blocks: u32,
    /// No block at or above this one has been used since the file was filled.
    pub high_water: u32,
    /// The start that the next messages' ids belong to.
    pub epoch: u32,
    /// The queue clock at this writing.
    pub clock: Tick,
    /// All group commits up to this one were durable at this writing.
    pub commit: u64,
    /// Where the filler comes from.
    pub seed: u64,
    /// Damaged messages and unreadable blocks that `admin` has been told of.
    pub damage_told: u32,
}

impl Superblock {
    /// The superblock in `block`, if it is one and sound. Only the version is read of another version's.
    pub(super) fn read(block: &Block) -> Option<Self> {
        let Read::Sound(Header { kind: Kind::Superblock, id, .. }) = read(block) else { return None };
        let superblock = Self {
            version: u16_at(block, 28),
            stage: if block[30] == 1 { Stage::Filling } else { Stage::Ready },
            sequence: u64_at(block, 32),
            blocks: u32_at(block, 40),
            high_water: u32_at(block, 44),
            epoch: id.epoch,
            clock: Tick(u64_at(block, 48)),
            commit: u64_at(block, 56),
            seed: u64_at(block, 64),
            damage_told: u32_at(block, 72),
        };
        (superblock.version != FORMAT_VERSION || superblock.is_possible()).then_some(superblock)
    }

    /// False for values that no relay has written, however long it ran: nothing can be computed from them.
    const fn is_possible(&self) -> bool {
        let are_counts_possible =
            self.sequence < COUNTS_END && self.commit < COUNTS_END && self.clock.0 < COUNTS_END;
        are_counts_possible && SUPERBLOCK_SLOTS < self.blocks && SUPERBLOCK_SLOTS <= self.high_water
    }

    /// The slot that this writing goes to.
    pub(super) const fn slot(&self) -> u32 {
        (self.sequence % SUPERBLOCK_SLOTS as u64) as u32
    }

    pub(super) fn write(&self, block: &mut Block) {
        block.fill(0);
        put(block, 28, self.version.to_le_bytes());
        block[30] = if self.stage == Stage::Filling { 1 } else { 2 };
        put(block, 32, self.sequence.to_le_bytes());
        put(block, 40, self.blocks.to_le_bytes());
        put(block, 44, self.high_water.to_le_bytes());
        put(block, 48, self.clock.0.to_le_bytes());
        put(block, 56, self.commit.to_le_bytes());
        put(block, 64, self.seed.to_le_bytes());
        put(block, 72, self.damage_told.to_le_bytes());
        seal(block, Kind::Superblock, 0, MessageId { epoch: self.epoch, counter: 0 }, 0, 0);
    }
}
