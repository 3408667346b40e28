//! The spool: one flat file of blocks that holds every message from its `250` until it has left.
mod device;
mod envelope;
mod reader;
mod store;

pub use device::{BLOCK_OCTETS, Block, BlockIndex, Device, DeviceError};
pub use envelope::{
    Envelope, KeptReply, MessageId, Notify, Protocol, REPLIES_KEPT, Recipient, RecipientState,
};
pub use reader::{Damage, Reader};
pub use store::{
    Draft, Ended, Facts, MessageIndex, Receipt, Recovery, Refusal, Settled, Start, StartError, Store,
};
