//! What can be wrong with the route to a smarthost, and what each such fault is about.
//!
//! A fault of the route is not a fault of the message (RFC 5321 4.5.4.1). How long the route rests for it is
//! not said here.
use core::fmt;

use super::auth::LoginFault;
use super::faults::Class;
use super::tls::TlsFault;
use super::token::TokenFault;
use super::unresolved::Unresolved;

/// What is wrong with the route. None of these says anything about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The smarthost's name has no address, or none that can be found out.
    Resolve(Unresolved),
    /// No connection to its address.
    Connect,
    /// It greeted with another reply than 2yz.
    Greeting,
    /// It took neither EHLO nor HELO.
    Hello,
    /// TLS failed, or the certificate.
    Tls(TlsFault),
    /// The login failed.
    Login(LoginFault),
    /// It wants us to log in (530).
    Unauthenticated,
    /// It doesn't let us send as whom we do.
    Sender,
    /// It wants mail to come slower.
    Rate,
    /// What it takes from us in a day, or the like, is used up.
    Quota,
    /// It takes no mail from us now, or not from here.
    Unwilling,
    /// It is about to close the connection (421).
    TooBusy,
    /// It doesn't speak SMTP, or a reply came that answers nothing.
    Protocol,
    /// It was silent for longer than RFC 5321 4.5.3.2 allows.
    Timeout,
    /// The connection ended before its time.
    Lost,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve(why) => return write!(f, "its name can't be resolved: {why}"),
            Self::Connect => "no connection",
            Self::Greeting => "it refused the connection",
            Self::Hello => "it refused EHLO and HELO",
            Self::Tls(fault) => return fault.fmt(f),
            Self::Login(fault) => return fault.fmt(f),
            Self::Unauthenticated => "it wants a login",
            Self::Sender => "it doesn't let us send as this sender",
            Self::Rate => "it wants mail to come slower",
            Self::Quota => "its allowance for us is used up",
            Self::Unwilling => "it takes no mail from us now",
            Self::TooBusy => "it closes the connection for now",
            Self::Protocol => "it doesn't speak SMTP",
            Self::Timeout => "it doesn't answer",
            Self::Lost => "the connection was lost",
        })
    }
}

impl Fault {
    /// The fault that a reply of this class and code tells; `None`: it is not about the route.
    pub(super) const fn of_reply(class: Class, code: u16) -> Option<Self> {
        match class {
            Class::Route if code == 421 => Some(Self::TooBusy),
            Class::Route => Some(Self::Unwilling),
            Class::Login => Some(Self::Unauthenticated),
            Class::Sender => Some(Self::Sender),
            Class::Rate => Some(Self::Rate),
            Class::Quota => Some(Self::Quota),
            Class::Message | Class::Recipient => None,
        }
    }

    /// True when the login is to be put right by somebody: it is tried seldom (see `retry.auth`), since many
    /// tries may lock the account.
    pub const fn is_about_login(self) -> bool {
        match self {
            Self::Login(fault) => fault.is_lasting(),
            Self::Unauthenticated => true,
            Self::Resolve(_)
            | Self::Connect
            | Self::Tls(_)
            | Self::Greeting
            | Self::Hello
            | Self::TooBusy
            | Self::Sender
            | Self::Rate
            | Self::Quota
            | Self::Unwilling
            | Self::Protocol
            | Self::Timeout
            | Self::Lost => false,
        }
    }

    /// True when the wall clock may be the reason.
    pub const fn is_about_clock(self) -> bool {
        let (Self::Tls(fault) | Self::Login(LoginFault::Token(TokenFault::Tls(fault)))) = self else {
            return false;
        };
        matches!(fault, TlsFault::ClockUntrusted | TlsFault::Expired | TlsFault::NotYetValid)
    }

    /// True when it may be gone as soon as the network is another one: no way to it, somebody else at its
    /// address, or mail from ours that it doesn't take.
    pub const fn is_about_network(self) -> bool {
        match self {
            Self::Resolve(_)
            | Self::Connect
            | Self::Greeting
            | Self::Hello
            | Self::Unwilling
            | Self::Protocol
            | Self::Timeout
            | Self::Lost => true,
            Self::Tls(_) => !self.is_about_clock(),
            Self::Login(LoginFault::Token(fault)) => fault.is_about_network(),
            Self::Login(_)
            | Self::Unauthenticated
            | Self::Sender
            | Self::Rate
            | Self::Quota
            | Self::TooBusy => false,
        }
    }

    /// True when the reply read last is what told it.
    pub(super) const fn is_told_by_reply(self) -> bool {
        matches!(
            self,
            Self::Greeting
                | Self::Hello
                | Self::Tls(TlsFault::Refused)
                | Self::Login(LoginFault::Refused | LoginFault::Unavailable | LoginFault::TooMany)
                | Self::Unauthenticated
                | Self::Sender
                | Self::Rate
                | Self::Quota
                | Self::Unwilling
                | Self::TooBusy
        )
    }
}
