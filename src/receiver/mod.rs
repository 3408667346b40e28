//! The server side of SMTP: sessions that take messages from clients into the spool (RFC 5321 3, 4).
//!
//! Pure: a session names no socket, file or clock. The disk answers at once and is a parameter; the network
//! takes time and is two buffers.

pub mod admission;
mod data;
mod session;
mod transaction;

pub use admission::Peer;
pub use data::{DATA_GRACE, DATA_OCTETS_A_S_MIN, PROGRESS_OCTETS};
pub use session::{BAD_COMMANDS_MAX, CLOSING_TIMEOUT, Session};
