//! The one trait for the disk.

pub use crate::limits::BLOCK_OCTETS;

/// One block.
pub type Block = [u8; BLOCK_OCTETS];

/// The position of a block in the file, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockIndex(pub u32);

/// The disk did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// An I/O error: the octets can't be read or written.
    Io,
    /// No space left beneath the file (a compressing or thin file system).
    NoSpace,
}

impl core::fmt::Display for DeviceError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Io => "I/O error",
            Self::NoSpace => "no space left on the device",
        })
    }
}

/// A file of blocks, as the spool sees it.
///
/// Nothing is durable before [`Device::sync`] has returned `Ok`; until then each written block may, after a
/// power cut, be as before, as written, or torn between the two at a boundary of 512 octets.
pub trait Device {
    /// Blocks in the file.
    fn blocks(&self) -> u32;
    /// Reads one block whole.
    fn read(&mut self, at: BlockIndex, into: &mut Block) -> Result<(), DeviceError>;
    /// Writes one block whole.
    fn write(&mut self, at: BlockIndex, from: &Block) -> Result<(), DeviceError>;
    /// Makes all that was written durable. After an error any of it may be lost, even what can still be read.
    fn sync(&mut self) -> Result<(), DeviceError>;
    /// Makes the following reads see the disk and not a cache above it.
    fn drop_cache(&mut self);
    /// Makes the file longer or shorter; new blocks read as anything until written.
    fn resize(&mut self, blocks: u32) -> Result<(), DeviceError>;
}
