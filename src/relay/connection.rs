//! What the relay and its driver call a connection.

use crate::limits::{RECEIVER_SESSIONS, SENDER_CONNECTIONS};

/// A connection of either kind, by its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// From a client; below [`RECEIVER_SESSIONS`].
    Receiver(usize),
    /// To the smarthost; below [`SENDER_CONNECTIONS`].
    Sender(usize),
}

impl Connection {
    /// Connections of both kinds.
    pub const COUNT: usize = RECEIVER_SESSIONS + SENDER_CONNECTIONS;

    /// Its place among those of both kinds, below [`Connection::COUNT`].
    pub const fn index(self) -> usize {
        match self {
            Self::Receiver(at) => at,
            Self::Sender(at) => RECEIVER_SESSIONS + at,
        }
    }

    /// The connection at the place `index`.
    pub const fn at(index: usize) -> Self {
        if index < RECEIVER_SESSIONS {
            Self::Receiver(index)
        } else {
            Self::Sender(index - RECEIVER_SESSIONS)
        }
    }
}
