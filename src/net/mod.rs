//! The world: sockets, clocks, signals and the system's files.

mod certificate;
pub mod clock;
mod connection;
mod control;
pub mod dial;
mod downstream;
mod entrance;
mod event_loop;
pub mod fetch;
pub mod hosts;
mod https;
mod lines;
mod listener;
pub mod log_lines;
mod network;
pub mod on_link;
pub mod privileges;
pub mod probe;
pub mod resolver;
mod secret;
mod socket_file;
mod tls;
mod tokens;
mod upstream;
mod users;
mod wire;

use std::io::{Error, ErrorKind};
use std::path::PathBuf;

use crate::config::Listen;
use crate::sender::SecretFault;
use crate::spool::OpenError;

pub use downstream::{Shown, shown};
pub use event_loop::{EventLoop, Running};
pub use tls::{KeyPairFault, Presented, TrustError};

/// Why the relay can't start, as one line for the administrator.
#[derive(Debug)]
pub enum StartError {
    /// The spool can't be used.
    Spool {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: OpenError,
    },
    /// A listener can't be opened.
    Listen {
        /// Which.
        listen: Listen,
        /// Why.
        error: Error,
    },
    /// A socket for programs of this machine can't be opened where it was asked for.
    Socket {
        /// The key that names it.
        key: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why.
        error: Error,
    },
    /// A user's password can't be had.
    User {
        /// Whose.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is nothing to judge the smarthost's certificate by.
    Trust(TrustError),
    /// A listener has no certificate to show.
    KeyPair {
        /// The key of the configuration.
        key: &'static str,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        fault: KeyPairFault,
    },
    /// There is no secret to log in with.
    Secret {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        fault: SecretFault,
    },
    /// There is no such user to become, or no way to.
    RunAs(&'static str),
    /// The kernel refuses something that nothing can be done without.
    System(Error),
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Spool { path, error } => write!(f, "spool.path: {}: {error}", path.display()),
            Self::Listen { listen, error } => {
                match listen {
                    Listen::Address(address) => write!(f, "listen: {address}: ")?,
                    Listen::Interface { name, port } => write!(f, "listen: {name}:{port}: ")?,
                }
                let hint = [
                    (ErrorKind::AddrInUse, "in use by another program; set another port"),
                    (ErrorKind::PermissionDenied, "not permitted; start as root, or set a port from 1024 on"),
                    (ErrorKind::AddrNotAvailable, "not an address of this machine; set one that is"),
                ];
                match hint.iter().find(|(kind, _)| *kind == error.kind()) {
                    Some((_, hint)) => f.write_str(hint),
                    None => write!(f, "{error}"),
                }
            }
            Self::Socket { key, path, error } => {
                write!(f, "{key}: {}: ", path.display())?;
                let hint = [
                    (ErrorKind::AddrInUse, "in use by another process; stop that one, or set another path"),
                    (ErrorKind::AlreadyExists, "not a socket, and left alone; set another path"),
                    (ErrorKind::NotFound, "its folder can't be made; make it, or set another path"),
                    (ErrorKind::PermissionDenied, "not permitted; start as root, or set another path"),
                ];
                match hint.iter().find(|(kind, _)| *kind == error.kind()) {
                    Some((_, hint)) => f.write_str(hint),
                    None => write!(f, "{error}"),
                }
            }
            Self::User { name, path, what } => write!(f, "users.{name}: {}: {what}", path.display()),
            Self::KeyPair { key, path, fault } => {
                write!(f, "listener_tls.{key}: {}: {fault}", path.display())
            }
            Self::RunAs(what) => write!(f, "run_as: {what}"),
            Self::Trust(error) => write!(f, "{error}"),
            Self::Secret { path, fault } => write!(f, "smarthost: {}: {fault}", path.display()),
            Self::System(error) => write!(f, "{error}"),
        }
    }
}

impl StartError {
    /// The exit status of sysexits(3): 78 (EX_CONFIG) for what the configuration must change, 74 (EX_IOERR)
    /// else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Spool { error: OpenError::NotAFile | OpenError::Volatile, .. } => 78,
            Self::Spool { error: OpenError::Io(error), .. } if error.kind() == ErrorKind::NotFound => 78,
            Self::Listen { .. }
            | Self::Socket { .. }
            | Self::User { .. }
            | Self::KeyPair { .. }
            | Self::RunAs(_)
            | Self::Trust(_)
            | Self::Secret { .. } => 78,
            Self::Spool { .. } | Self::System(_) => 74,
        }
    }
}
