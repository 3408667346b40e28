//! The service extensions that the receiver offers in its reply to EHLO, each of which works (RFC 5321 2.2,
//! 4.1.1.1).

/// Octets of SIZE's parameter, at most.
const SIZE_OCTETS_MAX: usize = " 18446744073709551615".len();

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
    /// RFC 3030; without BINARYMIME.
    Chunking,
    /// RFC 6531.
    SmtpUtf8,
    /// RFC 3207.
    StartTls,
    /// RFC 4954; its parameters are the mechanisms.
    Auth,
    /// RFC 3461.
    Dsn,
    /// RFC 5321 4.1.1.8.
    Help,
}

impl Extension {
    /// What is offered, in the order of the reply; STARTTLS and AUTH only where a listener has them.
    pub const OFFERED: [Self; 10] = [
        Self::Size,
        Self::EightBitMime,
        Self::Pipelining,
        Self::EnhancedStatusCodes,
        Self::Chunking,
        Self::SmtpUtf8,
        Self::Dsn,
        Self::StartTls,
        Self::Auth,
        Self::Help,
    ];

    /// Octets of all their lines in the reply to EHLO, at most.
    pub const LINES_OCTETS_MAX: usize = {
        let (mut octets, mut at) = (SIZE_OCTETS_MAX, 0);
        while at < Self::OFFERED.len() {
            octets += "250-\r\n".len() + Self::OFFERED[at].keyword().len();
            at += 1;
        }
        octets
    };

    /// The keyword as IANA has it.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Size => "SIZE",
            Self::EightBitMime => "8BITMIME",
            Self::Pipelining => "PIPELINING",
            Self::EnhancedStatusCodes => "ENHANCEDSTATUSCODES",
            Self::Chunking => "CHUNKING",
            Self::SmtpUtf8 => "SMTPUTF8",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH PLAIN LOGIN",
            Self::Dsn => "DSN",
            Self::Help => "HELP",
        }
    }
}
