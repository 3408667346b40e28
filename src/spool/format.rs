//! The file as a whole: made and filled once, grown and shrunk at a start.
//!
//! It is filled with octets that don't compress, so that its space is really taken; each step is synced
//! before the superblock tells of it. What is no spool, or one of another version, is left as it is.

use super::device::{BLOCK_OCTETS, Block, BlockIndex};
use super::layout::{self, FORMAT_VERSION, SUPERBLOCK_SLOTS, Stage, Superblock};
use super::store::HEADS_RESERVE;
use super::{Device, DeviceError, Start, StartError, Store};
use crate::time::Tick;

/// What the superblock's slots hold.
pub(super) enum Found {
    /// No file, or one of zeros: a crash right after it was made.
    Nothing,
    Superblock {
        superblock: Superblock,
        /// The other slot holds none.
        is_alone: bool,
    },
}

impl<D: Device> Store<D> {
    /// Grows the file to the size wanted, or shrinks it when nothing lies beyond and the reserve for new
    /// heads is left: without that no result could be written down, and nothing would ever leave.
    pub(super) fn resize(&mut self, wanted: u32) -> Result<(), StartError> {
        let present = self.superblock.blocks;
        if wanted > present {
            if let Err(error) = self.grow(wanted) {
                log::warn!("spool: can't grow from {present} to {wanted} blocks: {error}");
                self.superblock.blocks = present;
                self.device.resize(present)?;
            }
        } else if wanted < present && wanted > SUPERBLOCK_SLOTS {
            let has_reserve = self.map.free_count() >= present - wanted + HEADS_RESERVE;
            if !has_reserve || !self.map.is_unused_from(wanted, present) {
                log::warn!("spool: shrinks to {wanted} blocks when there is room for its messages in them");
                return Ok(());
            }
            self.map.cut(wanted);
            self.superblock.blocks = wanted;
            self.superblock.high_water = self.superblock.high_water.min(wanted);
            self.write_superblock()?;
            self.device.sync()?;
            self.map.synced();
            self.device.resize(wanted)?;
        }
        self.flush_at = None;
        Ok(())
    }

    fn grow(&mut self, wanted: u32) -> Result<(), DeviceError> {
        let present = self.superblock.blocks;
        self.device.resize(wanted)?;
        fill(&mut self.device, self.superblock.seed, present, wanted)?;
        self.device.sync()?;
        self.superblock.blocks = wanted;
        self.write_superblock()?;
        self.device.sync()?;
        self.map.synced();
        for block in present..wanted {
            self.map.release(block);
        }
        Ok(())
    }
}

/// The newest sound superblock.
pub(super) fn find_superblock<D: Device>(device: &mut D) -> Result<Found, StartError> {
    let mut block: Box<Block> = Box::new([0; BLOCK_OCTETS]);
    let mut newest: Option<Superblock> = None;
    let mut count = 0;
    for slot in 0..SUPERBLOCK_SLOTS.min(device.blocks()) {
        if device.read(BlockIndex(slot), &mut block).is_err() {
            continue;
        }
        if let Some(superblock) = Superblock::read(&block) {
            if superblock.version != FORMAT_VERSION {
                return Err(StartError::OtherVersion(superblock.version));
            }
            count += 1;
            if newest.is_none_or(|newest| newest.sequence < superblock.sequence) {
                newest = Some(superblock);
            }
        }
    }
    if let Some(superblock) = newest {
        return Ok(Found::Superblock { superblock, is_alone: count < SUPERBLOCK_SLOTS });
    }
    for at in 0..device.blocks() {
        device.read(BlockIndex(at), &mut block)?;
        if block.iter().any(|octet| *octet != 0) {
            return Err(StartError::NotASpool);
        }
    }
    Ok(Found::Nothing)
}

/// Makes a new spool: filling, filled, ready; at each point a crash leaves a file that is filled anew or
/// ready.
pub(super) fn format<D: Device>(device: &mut D, start: &Start) -> Result<Superblock, StartError> {
    let mut superblock = Superblock {
        version: FORMAT_VERSION,
        stage: Stage::Filling,
        sequence: 0,
        blocks: start.blocks,
        high_water: SUPERBLOCK_SLOTS,
        epoch: (start.seed >> 40) as u32,
        clock: Tick(0),
        commit: 0,
        seed: start.seed,
        damage_told: 0,
    };
    let mut block: Box<Block> = Box::new([0; BLOCK_OCTETS]);
    device.resize(start.blocks)?;
    // Once a slot says ready, none must say filling: a start that finds only that one would fill over mail.
    for (sequence, stage) in [(0, Stage::Filling), (1, Stage::Ready), (2, Stage::Ready)] {
        superblock.sequence = sequence;
        superblock.stage = stage;
        superblock.write(&mut block);
        device.write(BlockIndex(superblock.slot()), &block)?;
        device.sync()?;
        if stage == Stage::Filling {
            fill(device, start.seed, SUPERBLOCK_SLOTS, start.blocks)?;
            device.sync()?;
        }
    }
    Ok(superblock)
}

/// Fills the blocks from `from` up to `to`.
pub(super) fn fill<D: Device>(device: &mut D, seed: u64, from: u32, to: u32) -> Result<(), DeviceError> {
    let mut block: Box<Block> = Box::new([0; BLOCK_OCTETS]);
    for at in from..to {
        layout::fill(&mut block, seed, at);
        device.write(BlockIndex(at), &block)?;
    }
    Ok(())
}
