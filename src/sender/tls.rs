//! What can be wrong with TLS, as far as the route is concerned (RFC 3207 4.1, RFC 8314, RFC 6125).
//!
//! None of these is a reason to go on in plain: the connection ends, and what waits goes on waiting.
use core::fmt;

/// Why there is no TLS, or none to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// STARTTLS is not in the reply to EHLO.
    NotOffered,
    /// STARTTLS was refused.
    Refused,
    /// Octets came in plain behind the 220 to STARTTLS: somebody else's replies (RFC 3207 4.2, SEC-tls-e).
    Injected,
    /// The handshake failed, or the connection ended in it.
    Handshake,
    /// There is no version of TLS in common: neither 1.2 nor 1.3 (RFC 8996).
    Version,
    /// The certificate leads to no authority that is trusted.
    UnknownAuthority,
    /// The certificate is for another name.
    WrongName,
    /// The certificate has expired, by our clock.
    Expired,
    /// The certificate is not valid yet, by our clock.
    NotYetValid,
    /// The certificate has none of the pinned keys.
    Pin,
    /// The certificate is wrong in another way.
    Certificate,
    /// The trusted certificates can't be read.
    AuthoritiesUnreadable,
    /// The kernel has no randomness yet, right after boot.
    Randomness,
    /// Our clock has not been set, so that no certificate can be judged.
    ClockUntrusted,
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOffered => "it does not offer STARTTLS, and nothing goes in plain",
            Self::Refused => "it refused STARTTLS, and nothing goes in plain",
            Self::Injected => "octets in plain came behind its reply to STARTTLS",
            Self::Handshake => "the TLS handshake failed",
            Self::Version => "it speaks neither TLS 1.2 nor 1.3",
            Self::UnknownAuthority => "its certificate is from no trusted authority; see ca_file and pins",
            Self::WrongName => "its certificate is for another name",
            Self::Expired => "its certificate has expired, or our clock is wrong",
            Self::NotYetValid => "its certificate is not valid yet, or our clock is wrong",
            Self::Pin => "its certificate has none of the pinned keys",
            Self::Certificate => "its certificate is not usable",
            Self::AuthoritiesUnreadable => "the file of trusted certificates can't be read",
            Self::Randomness => "the kernel has no randomness yet",
            Self::ClockUntrusted => "our clock is not set, so that no certificate can be judged",
        })
    }
}
