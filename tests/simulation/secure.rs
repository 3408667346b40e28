//! What stands between a connection and the first mail: TLS and the login, as the simulator has them.
//!
//! TLS is an octet each way and a veil over all that comes behind it, so that what is said in plain, or
//! within TLS where plain is awaited, is rubbish to the other end. Certificates are a draw. The account is
//! one secret that all smarthosts know and the relay's file should hold.

use std::cell::Cell;
use std::rc::Rc;

use postern::oauth2::Denial;
use postern::receiver::Users;
use postern::sender::{Secret, SecretFault, TlsFault, TokenFault, Unresolved};
use zeroize::Zeroizing;

use crate::disk::Random;
use crate::swarm::Draw;

/// What both ends begin TLS with.
pub(crate) const HELLO: u8 = 0x16;
/// What a smarthost says that wants no TLS.
pub(crate) const ALERT: u8 = 0x15;

/// Who logs in among the clients.
pub(crate) const USER_OF_CLIENTS: &str = "camera";
/// And with which password.
pub(crate) const PASSWORD: &str = "open";

/// Those who may log in.
pub(crate) fn users() -> Users {
    let mut users = Users::new();
    assert!(users.add(USER_OF_CLIENTS.as_bytes(), PASSWORD.as_bytes()), "one user finds a place");
    users
}

/// How far TLS is on the relay's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    None,
    Handshaking { is_said: bool },
    Up,
}

/// Puts the veil on, or takes it off.
pub(crate) fn veil(octets: &mut [u8]) {
    for octet in octets {
        *octet ^= 0xff;
    }
}

/// What is wrong before a handshake begins.
pub(crate) fn local_fault(random: &mut Random) -> TlsFault {
    random.pick(&[TlsFault::AuthoritiesUnreadable, TlsFault::Randomness])
}

/// What is wrong with the smarthost's end of TLS.
pub(crate) fn handshake_fault(random: &mut Random) -> TlsFault {
    random.pick(&[
        TlsFault::Handshake,
        TlsFault::Version,
        TlsFault::UnknownAuthority,
        TlsFault::WrongName,
        TlsFault::Expired,
        TlsFault::NotYetValid,
        TlsFault::Pin,
        TlsFault::Certificate,
    ])
}

/// Why a name has no address.
pub(crate) fn name_fault(random: &mut Random) -> Unresolved {
    random.pick(&[
        Unresolved::NoSuchName,
        Unresolved::NoAddress,
        Unresolved::ServerFailed,
        Unresolved::Refused,
        Unresolved::Unreachable,
        Unresolved::Silent,
        Unresolved::NoName,
        Unresolved::Busy,
    ])
}

/// Why there is no access token.
pub(crate) fn token_fault(random: &mut Random) -> TokenFault {
    let name_fault = name_fault(random);
    random.pick(&[
        TokenFault::Resolve(name_fault),
        TokenFault::Connect,
        TokenFault::Tls(TlsFault::UnknownAuthority),
        TokenFault::Timeout,
        TokenFault::Lost,
        TokenFault::Denied(Denial::Grant),
        TokenFault::Denied(Denial::Unavailable),
        TokenFault::Denied(Denial::Malformed),
        TokenFault::NoRefreshToken(SecretFault::Missing),
        TokenFault::NoClientSecret(SecretFault::Exposed),
    ])
}

/// The account at the smarthosts, by the number of its secret.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account(Rc<Cell<u64>>);

impl Account {
    /// The secret that is right now.
    pub(crate) fn secret(&self) -> String {
        format!("secret-{}", self.0.get())
    }
}

/// The relay's file of the secret, and the account that it is for.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) account: Account,
    file: Result<String, SecretFault>,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let account = Account::default();
        Self { file: Ok(account.secret()), account }
    }

    /// What the relay reads.
    pub(crate) fn secret(&self) -> Result<Secret, SecretFault> {
        Secret::new(Zeroizing::new(self.file.clone()?.into_bytes()))
    }

    /// Somebody changes the secret at the smarthosts, or the file: true when it was the file.
    pub(crate) fn change(&mut self, random: &mut Random) -> bool {
        match random.below(4) {
            0 => self.account.0.set(self.account.0.get() + 1),
            1 => self.file = Ok("wrong".to_string()),
            2 => {
                self.file = Err(random.pick(&[
                    SecretFault::Missing,
                    SecretFault::Unreadable,
                    SecretFault::Exposed,
                    SecretFault::Empty,
                    SecretFault::Malformed,
                ]));
            }
            _ => {
                self.mend();
                return true;
            }
        }
        true
    }

    /// The file holds the right secret.
    pub(crate) fn mend(&mut self) {
        self.file = Ok(self.account.secret());
    }
}
