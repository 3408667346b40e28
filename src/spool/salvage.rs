//! What is left of a damaged message, block by block, for somebody to look at. Nothing of it is relayed.

use super::layout::{self, BODY_CONTENT_AT, Head, Header, Kind, Read, head_content_at};
use super::{BLOCK_OCTETS, BlockIndex, Device, MessageId, Reader, Store};

/// What was found of it.
#[derive(Debug)]
pub enum Salvaged<'a> {
    /// One of its blocks.
    Block {
        /// Which.
        block: u32,
        /// It is as it was written.
        is_sound: bool,
        /// Its content: of the envelope, then of the mail data.
        octets: &'a [u8],
    },
    /// Nothing yet: go on from there.
    Nothing {
        /// The next block to look at.
        from: u32,
    },
    /// There is no more.
    End,
}

impl Reader {
    /// The first block from `from` on, of at most `count`, that seems to be of the message `id`.
    pub fn salvage<D: Device>(
        &mut self,
        store: &mut Store<D>,
        id: MessageId,
        from: u32,
        count: u32,
    ) -> Salvaged<'_> {
        let end = store.superblock.blocks;
        let from = from.max(layout::SUPERBLOCK_SLOTS);
        if from >= end {
            return Salvaged::End;
        }
        let until = from.saturating_add(count).min(end);
        for block in from..until {
            if store.device.read(BlockIndex(block), &mut self.block).is_err() {
                continue;
            }
            let (header, is_sound) = match layout::read(&self.block) {
                Read::Sound(header) => (header, true),
                Read::Broken(header) => (header, false),
                Read::Unknown => continue,
            };
            if header.id == id && matches!(header.kind, Kind::Head | Kind::Body) {
                let (start, end) = self.content_of(&header);
                return Salvaged::Block { block, is_sound, octets: &self.block[start..end] };
            }
        }
        Salvaged::Nothing { from: until }
    }

    /// Where the content stands in the block, as far as a broken header is to be believed.
    fn content_of(&self, header: &Header) -> (usize, usize) {
        let start = match header.kind {
            Kind::Head => head_content_at(usize::from(Head::read(&self.block).recipients)),
            Kind::Body | Kind::Free | Kind::Tombstone | Kind::Superblock => BODY_CONTENT_AT,
        };
        let start = start.min(BLOCK_OCTETS);
        (start, (start + usize::from(header.content_octets)).min(BLOCK_OCTETS))
    }
}
