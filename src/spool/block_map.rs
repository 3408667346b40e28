//! Which blocks are free, and in what order those of a message follow one another. Lives in memory only;
//! recovery makes it anew from the disk.

use super::layout::SUPERBLOCK_SLOTS;

/// One bit a block.
#[derive(Debug)]
pub(super) struct Bits {
    words: Box<[u64]>,
    count: u32,
}

impl Bits {
    pub(super) fn new(blocks: usize) -> Self {
        Self { words: vec![0; blocks.div_ceil(64)].into_boxed_slice(), count: 0 }
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn contains(&self, block: u32) -> bool {
        self.words[block as usize / 64] >> (block % 64) & 1 == 1
    }

    pub(super) fn insert(&mut self, block: u32) {
        let word = &mut self.words[block as usize / 64];
        self.count += u32::from(*word >> (block % 64) & 1 == 0);
        *word |= 1 << (block % 64);
    }

    pub(super) fn remove(&mut self, block: u32) {
        let word = &mut self.words[block as usize / 64];
        self.count -= u32::from(*word >> (block % 64) & 1 == 1);
        *word &= !(1 << (block % 64));
    }

    pub(super) fn clear(&mut self) {
        if self.count > 0 {
            self.words.fill(0);
            self.count = 0;
        }
    }

    /// The lowest member at or above `from`.
    pub(super) fn lowest(&self, from: u32) -> Option<u32> {
        let first = from as usize / 64;
        let mut mask = !0u64 << (from % 64);
        for (at, word) in self.words.iter().enumerate().skip(first) {
            let rest = word & mask;
            if rest != 0 {
                return Some(at as u32 * 64 + rest.trailing_zeros());
            }
            mask = !0;
        }
        None
    }

    /// Moves all members of `other` into this set.
    fn absorb(&mut self, other: &mut Self) {
        if other.count == 0 {
            return;
        }
        for (word, more) in self.words.iter_mut().zip(&mut other.words) {
            debug_assert!(*word & *more == 0);
            *word |= core::mem::take(more);
        }
        self.count += core::mem::take(&mut other.count);
    }
}

/// The state of all blocks behind the superblock's slots: free, in limbo, or used.
#[derive(Debug)]
pub(super) struct BlockMap {
    /// May be written to.
    free: Bits,
    /// Freed by a write that is not durable yet.
    limbo: Bits,
    /// Written since the last good sync.
    pub(super) dirty: Bits,
    /// What follows a used block in its message.
    next: Box<[u32]>,
    /// No free block lies below.
    lowest: u32,
}

impl BlockMap {
    /// A map for at most `blocks_max` blocks, none of them free.
    pub(super) fn new(blocks_max: usize) -> Self {
        Self {
            free: Bits::new(blocks_max),
            limbo: Bits::new(blocks_max),
            dirty: Bits::new(blocks_max),
            next: vec![0; blocks_max].into_boxed_slice(),
            lowest: SUPERBLOCK_SLOTS,
        }
    }

    pub(super) fn free_count(&self) -> u32 {
        self.free.count()
    }

    pub(super) fn limbo_count(&self) -> u32 {
        self.limbo.count()
    }

    pub(super) fn lowest_free(&mut self) -> Option<u32> {
        let found = self.free.lowest(self.lowest)?;
        self.lowest = found;
        Some(found)
    }

    pub(super) fn is_free(&self, block: u32) -> bool {
        self.free.contains(block)
    }

    pub(super) fn is_in_limbo(&self, block: u32) -> bool {
        self.limbo.contains(block)
    }

    /// A free block is used from now on.
    pub(super) fn take(&mut self, block: u32) {
        assert!(self.free.contains(block));
        self.free.remove(block);
        self.next[block as usize] = 0;
    }

    /// A used block is free at once: nothing on the disk refers to it, durable or not.
    pub(super) fn release(&mut self, block: u32) {
        assert!(!self.free.contains(block) && !self.limbo.contains(block));
        self.free.insert(block);
        self.lowest = self.lowest.min(block);
    }

    /// A used block is free after the next good sync.
    pub(super) fn release_later(&mut self, block: u32) {
        assert!(!self.free.contains(block));
        self.limbo.insert(block);
    }

    /// What was written is durable, the frees too.
    pub(super) fn synced(&mut self) {
        if let Some(lowest) = self.limbo.lowest(0) {
            self.lowest = self.lowest.min(lowest);
        }
        self.free.absorb(&mut self.limbo);
        self.dirty.clear();
    }

    /// Free blocks at or above `from` are no longer there.
    pub(super) fn cut(&mut self, from: u32) {
        while let Some(block) = self.free.lowest(from) {
            self.free.remove(block);
        }
    }

    pub(super) fn next(&self, block: u32) -> u32 {
        self.next[block as usize]
    }

    pub(super) fn link(&mut self, block: u32, next: u32) {
        self.next[block as usize] = next;
    }

    /// True when no block at or above `from` is in use.
    pub(super) fn is_unused_from(&self, from: u32, end: u32) -> bool {
        (from..end).all(|block| self.free.contains(block))
    }
}
