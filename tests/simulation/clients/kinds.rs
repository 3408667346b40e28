//! The kinds of clients: what a device, or somebody who plays one, makes of the protocol.

/// What a client is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One command at a time, tries again.
    Honest,
    /// MAIL, RCPT and DATA at once; the next message right behind the dot.
    Pipelining,
    /// A few octets at a time.
    Slow,
    /// All at once, whatever the replies.
    Flooding,
    /// Stops in the middle of something, and stays.
    Stalling,
    /// QUIT behind the dot, and gone.
    Leaving,
    /// Never reads.
    Deaf,
    /// Ends its half of the connection behind the dot, and reads on.
    HalfClosing,
    /// Breaks off anywhere.
    Breaking,
}

/// All kinds, in the order of their weights.
pub(crate) const KINDS: [Kind; 9] = [
    Kind::Honest,
    Kind::Pipelining,
    Kind::Slow,
    Kind::Flooding,
    Kind::Stalling,
    Kind::Leaving,
    Kind::Deaf,
    Kind::HalfClosing,
    Kind::Breaking,
];
