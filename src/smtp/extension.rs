//! The service extensions that the receiver offers in its reply to EHLO, each of which works (RFC 5321 2.2,
//! 4.1.1.1).

/// A service extension that the receiver offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// RFC 1870; its parameter is the largest message taken.
    Size,
    /// RFC 6152.
    EightBitMime,
    /// RFC 2920.
    Pipelining,
    /// RFC 2034.
    EnhancedStatusCodes,
    /// RFC 3461.
    Dsn,
    /// RFC 5321 4.1.1.8.
    Help,
}

impl Extension {
    /// What is offered, in the order of the reply.
    pub const OFFERED: [Self; 6] =
        [Self::Size, Self::EightBitMime, Self::Pipelining, Self::EnhancedStatusCodes, Self::Dsn, Self::Help];

    /// The keyword as IANA has it.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Size => "SIZE",
            Self::EightBitMime => "8BITMIME",
            Self::Pipelining => "PIPELINING",
            Self::EnhancedStatusCodes => "ENHANCEDSTATUSCODES",
            Self::Dsn => "DSN",
            Self::Help => "HELP",
        }
    }
}
