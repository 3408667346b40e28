//! The spool: one flat file of blocks that holds every message from its `250` until it has left.
//!
//! ```text
//! begin ─▶ Draft ─ add_recipient, append ─▶ end ─▶ Ended ─ commit (one sync) ─▶ Receipt ─▶ 250
//!            └─ discard                                        │
//!                                                              ▼
//!                            states, Reader ─▶ relayed ─▶ settle ─▶ new head, or tombstone and free
//! ```
//!
//! Invariants: a [`Receipt`] is made only after a sync that covers the whole message. What a message is
//! replaced by is durable before it is destroyed. A block is used again only when everything that pointed to
//! it is durably gone. Every start is a recovery.
//!
//! Absent on purpose: files a message, directories, a journal, in-place changes, compression, a shutdown.
mod balance;
mod block_map;
mod device;
mod draft;
mod envelope;
mod file;
mod format;
mod layout;
mod listing;
mod memory;
mod mend;
mod reader;
mod recovery;
mod salvage;
mod settle;
mod store;
mod table;

pub use crate::smtp::dsn::Notify;
pub use balance::Balance;
pub use device::{BLOCK_OCTETS, Block, BlockIndex, Device, DeviceError};
pub use draft::Share;
pub use envelope::{Envelope, KeptReply, MessageId, Protocol, REPLIES_KEPT, Recipient, RecipientState};
pub use file::{OpenError, SpoolFile, hand_over, start_at, start_existing};
pub use listing::{Batch, Listed, UNREADABLE_KEPT, Unreadable};
pub use memory::Memory;
pub use reader::{Damage, Reader};
pub use recovery::{Recovery, Start, StartError};
pub use salvage::Salvaged;
pub use settle::Settled;
pub use store::{DRAFT_SLOT_OCTETS, Draft, Ended, Facts, MessageIndex, Receipt, Refusal, Store};
