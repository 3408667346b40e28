//! The protocol as data. Pure: no socket, file, clock or randomness.
pub mod reply_reader;
pub mod stuffing;

/// What a session asks of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Go on: write the output, read more input.
    Continue,
    /// Write the output, then close.
    Close,
}
