//! The server side of SMTP: sessions that take messages from clients into the spool (RFC 5321 3, 4).
//!
//! Pure: a session names no socket, file or clock. The disk answers at once and is a parameter; the network
//! takes time and is two buffers.

pub mod admission;
mod commands;
mod data;
mod ledger;
mod login;
mod session;
mod submission;
mod tls;
mod transaction;
mod users;

pub use admission::{Admission, Peer};
pub use data::{DATA_GRACE, DATA_OCTETS_A_S_MIN, PROGRESS_OCTETS};
pub use ledger::{Client, FAILED_LOGINS_MAX, LOGINS_REST, Ledger, Place};
pub use login::SESSION_FAILED_LOGINS_MAX;
pub use session::{BAD_COMMANDS_MAX, CLOSING_TIMEOUT, EVICT_AFTER, EVICT_FRESH_AFTER, Session};
pub use tls::HANDSHAKE_TIMEOUT;
pub use users::Users;
