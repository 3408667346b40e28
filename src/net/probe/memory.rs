//! A disk in memory, for a spool without a message: a session asks for one, whatever it is used for.

use crate::spool::{BLOCK_OCTETS, Block, BlockIndex, Device, DeviceError};

/// A few blocks.
#[derive(Default)]
pub(super) struct Memory(Vec<Block>);

impl Memory {
    pub(super) const BLOCKS: u32 = 16;
}

impl Device for Memory {
    fn blocks(&self) -> u32 {
        self.0.len() as u32
    }

    fn read(&mut self, at: BlockIndex, into: &mut Block) -> Result<(), DeviceError> {
        *into = *self.0.get(at.0 as usize).ok_or(DeviceError::Io)?;
        Ok(())
    }

    fn write(&mut self, at: BlockIndex, from: &Block) -> Result<(), DeviceError> {
        *self.0.get_mut(at.0 as usize).ok_or(DeviceError::Io)? = *from;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn drop_cache(&mut self) {}

    fn resize(&mut self, blocks: u32) -> Result<(), DeviceError> {
        self.0.resize(blocks as usize, [0; BLOCK_OCTETS]);
        Ok(())
    }
}
