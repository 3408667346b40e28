//! Why a smarthost's name leads nowhere.
use core::fmt;

/// Why a name has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// There is no such name (NXDOMAIN).
    NoSuchName,
    /// There is such a name, but it has no address.
    NoAddress,
    /// The name servers say that they can't tell (SERVFAIL and its like).
    ServerFailed,
    /// They don't want to (REFUSED).
    Refused,
    /// There is no way to them.
    Unreachable,
    /// They don't reply.
    Silent,
    /// It is not in the form of a name.
    NoName,
    /// Too many other names are being resolved.
    Busy,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchName => "there is no such name (NXDOMAIN)",
            Self::NoAddress => "it has no address",
            Self::ServerFailed => "the name servers fail (SERVFAIL)",
            Self::Refused => "the name servers refuse (REFUSED)",
            Self::Unreachable => "the name servers can't be reached",
            Self::Silent => "the name servers don't reply",
            Self::NoName => "it is no name",
            Self::Busy => "too many names at once",
        })
    }
}
