//! The client side: what goes to the smarthost, and what its replies mean (RFC 5321 3.3, 4.1.4, 4.2, 4.5.4).
//!
//! A [`Session`] is one connection over which many messages go, one after the other; it is driven by whoever
//! owns the socket, and leaves each message's result as an [`Attempt`]. The [`Route`] says when to connect.
//! What is sent when is the queue's business, and what is written down the spool's. Pure: no socket, file,
//! clock or randomness.
mod attempt;
mod auth;
mod chunks;
mod closing;
mod extensions;
mod fault;
mod faults;
mod mail_data;
mod notice;
mod opening;
mod pacing;
mod reason;
mod report;
mod rewriting;
mod riding;
mod route;
mod session;
mod tls;
mod token;
mod transaction;
mod unresolved;
mod verdicts;

pub use attempt::{Attempt, Ending, Fate};
pub use auth::{LoginFault, SECRET_OCTETS_MAX, Secret, SecretFault};
pub use fault::Fault;
pub use faults::{Class, ROWS as FAULT_ROWS, Row as FaultRow, Stage};
pub use notice::{Addressee, Subject};
pub use pacing::BACK_OFF_MIN;
pub use reason::expired;
pub use route::{Route, State as RouteState};
pub use session::Session;
pub use tls::TlsFault;
pub use token::TokenFault;
pub use unresolved::Unresolved;
