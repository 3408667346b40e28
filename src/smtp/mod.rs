//! The protocol as data: octets on the wire -> types that can hold legal values only, and back.
//!
//! Pure: no socket, file, clock or randomness, and no session either. What a command means in a given state
//! is the business of the sessions above.

pub mod address_list;
pub mod automatic;
pub mod command;
pub mod date;
pub mod dsn;
pub mod extension;
pub mod header;
pub mod line;
pub mod login;
pub mod mail_data;
pub mod originator;
pub mod path;
pub mod quirk;
pub mod reply;
pub mod reply_reader;
pub mod stuffing;
pub mod trace;

/// What a session asks of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Go on: write the output, read more input.
    Continue,
    /// Write the output, then start TLS.
    StartTls,
    /// Write the output, then close.
    Close,
}
