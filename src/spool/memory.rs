//! A disk in memory that never fails: for a spool that nobody is to rely on, as a tool's that only looks at a
//! smarthost, or a fuzzer's. The relay's own is a [`SpoolFile`](super::SpoolFile).

use super::{BLOCK_OCTETS, Block, BlockIndex, Device, DeviceError};

/// So many blocks at most; none at first.
#[derive(Clone, Debug)]
pub struct Memory {
    blocks: Vec<Block>,
    blocks_max: u32,
}

impl Memory {
    /// A disk without blocks that grows to `blocks_max` of them.
    pub const fn new(blocks_max: u32) -> Self {
        Self { blocks: Vec::new(), blocks_max }
    }

    /// What stands on it, to be changed behind the spool's back.
    pub fn blocks_mut(&mut self) -> &mut [Block] {
        &mut self.blocks
    }
}

impl Device for Memory {
    fn blocks(&self) -> u32 {
        self.blocks.len() as u32
    }

    fn read(&mut self, at: BlockIndex, into: &mut Block) -> Result<(), DeviceError> {
        *into = *self.blocks.get(at.0 as usize).ok_or(DeviceError::Io)?;
        Ok(())
    }

    fn write(&mut self, at: BlockIndex, from: &Block) -> Result<(), DeviceError> {
        *self.blocks.get_mut(at.0 as usize).ok_or(DeviceError::Io)? = *from;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn drop_cache(&mut self) {}

    fn resize(&mut self, blocks: u32) -> Result<(), DeviceError> {
        if blocks > self.blocks_max {
            return Err(DeviceError::NoSpace);
        }
        self.blocks.resize(blocks as usize, [0; BLOCK_OCTETS]);
        Ok(())
    }
}
