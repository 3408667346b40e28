//! The books of the blocks: who holds each of them. For tests and figures; nothing depends on it.

use super::layout::SUPERBLOCK_SLOTS;
use super::table::State;
use super::{Device, Store};

/// How many blocks are where. Without damage the parts add up to the whole: [`Balance::is_even`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Blocks behind the superblock's slots.
    pub blocks: u32,
    /// May be written to.
    pub free: u32,
    /// Free after the next good sync.
    pub limbo: u32,
    /// In messages, whatever their state.
    pub in_messages: u32,
    /// Old heads that wait for the sync which covers their successors.
    pub superseded: u32,
    /// In drafts.
    pub in_drafts: u32,
    /// Drafts.
    pub drafts: u32,
    /// Free blocks that are kept for drafts.
    pub promised: u32,
}

impl Balance {
    /// True when each block is in one place.
    pub fn is_even(&self) -> bool {
        self.blocks == self.free + self.limbo + self.in_messages + self.superseded + self.in_drafts
    }
}

impl<D: Device> Store<D> {
    /// Counts the blocks; looks at all messages and drafts.
    pub fn balance(&self) -> Balance {
        let held = self.table.iter().filter(|(_, entry)| entry.state != State::Reserved && entry.head != 0);
        let drafts = self.drafts.iter().filter(|draft| draft.is_used);
        Balance {
            blocks: self.superblock.blocks - SUPERBLOCK_SLOTS,
            free: self.map.free_count(),
            limbo: self.map.limbo_count(),
            in_messages: held.map(|(_, entry)| 1 + entry.bodies).sum(),
            superseded: self.superseded.len() as u32,
            in_drafts: drafts.clone().map(|draft| draft.blocks()).sum(),
            drafts: drafts.count() as u32,
            promised: self.promised,
        }
    }
}
