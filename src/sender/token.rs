//! Why there is no access token to log in with (RFC 6749), as far as the route is concerned.
//!
//! Where somebody has to put something right it is a fault of the login, which is tried seldom; else one of
//! the way to the token endpoint, which is tried again like any way.
use core::fmt;

use super::auth::SecretFault;
use super::fault::Fault;
use super::tls::TlsFault;
use super::unresolved::Unresolved;
use crate::oauth2::Denial;

/// Why there is no access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// The endpoint's name has no address.
    Resolve(Unresolved),
    /// The endpoint takes no connection.
    Connect,
    /// There is no TLS to it, or none to be trusted.
    Tls(TlsFault),
    /// It didn't answer in time.
    Timeout,
    /// The connection ended before its time.
    Lost,
    /// It gave none.
    Denied(Denial),
    /// There is no refresh token to ask with.
    NoRefreshToken(SecretFault),
    /// There is no secret of the client's to ask with.
    NoClientSecret(SecretFault),
}

impl TokenFault {
    /// True when another try needs another secret or another setting.
    pub(super) const fn is_lasting(self) -> bool {
        match self {
            Self::Denied(denial) => denial.is_lasting(),
            Self::NoRefreshToken(_) | Self::NoClientSecret(_) => true,
            Self::Resolve(_) | Self::Connect | Self::Tls(_) | Self::Timeout | Self::Lost => false,
        }
    }

    /// True when it may be gone as soon as the network is another one.
    pub(super) const fn is_about_network(self) -> bool {
        match self {
            Self::Resolve(_) | Self::Connect | Self::Timeout | Self::Lost => true,
            Self::Tls(fault) => !Fault::Tls(fault).is_about_clock(),
            Self::Denied(_) | Self::NoRefreshToken(_) | Self::NoClientSecret(_) => false,
        }
    }
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(why) => write!(f, "its name can't be resolved: {why}"),
            Self::Connect => f.write_str("no connection"),
            Self::Tls(fault) => fault.fmt(f),
            Self::Timeout => f.write_str("it doesn't answer"),
            Self::Lost => f.write_str("the connection was lost"),
            Self::Denied(denial) => denial.fmt(f),
            Self::NoRefreshToken(fault) => write!(f, "there is no refresh token: {fault}"),
            Self::NoClientSecret(fault) => write!(f, "there is no client secret: {fault}"),
        }
    }
}
