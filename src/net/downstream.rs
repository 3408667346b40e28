//! What connections of clients need beside their sockets: the certificate that we show them.
//!
//! Both files are looked at before each handshake, so that a renewed certificate counts at once. One that
//! can't be used is told once, and the one before it stays.

use std::path::Path;

use super::secret::{Readers, Stamp, read_file};
use super::tls::{KeyPairFault, Server, Stream};
use super::{StartError, clock};
use crate::config::{Config, KeyPair};
use crate::sender::{SecretFault, TlsFault};

/// Octets of a file of certificates, or of a key.
const FILE_OCTETS_MAX: usize = 64 * 1024;

/// Of all clients.
#[derive(Debug)]
pub(super) struct Downstream {
    tls: Option<Tls>,
}

#[derive(Debug)]
struct Tls {
    files: KeyPair,
    /// Of both files when they were read last.
    stamps: [Stamp; 2],
    server: Server,
}

/// What is wrong, with which key of the configuration.
type Fault = (&'static str, KeyPairFault);

/// The certificate that clients are shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// The last second of its validity, since 1970; none: it can't be told.
    pub not_after_unix_s: Option<i64>,
}

/// Reads the certificate that `config` has for its listeners, and its key, as a start does.
///
/// # Errors
/// They can't be used.
pub fn shown(config: &Config) -> Result<Option<Shown>, StartError> {
    let tls = Downstream::new(config)?.tls;
    Ok(tls.map(|tls| Shown { not_after_unix_s: tls.server.not_after() }))
}

impl Downstream {
    /// By the configuration.
    ///
    /// # Errors
    /// A listener has TLS, and its certificate can't be used.
    pub(super) fn new(config: &Config) -> Result<Self, StartError> {
        let Some(files) = config.listener_tls.clone() else { return Ok(Self { tls: None }) };
        let stamps = stamps_of(&files);
        match read(&files) {
            Ok(server) => Ok(Self { tls: Some(Tls { files, stamps, server }) }),
            Err((key, fault)) => {
                Err(StartError::KeyPair { key, path: path_of(&files, key).to_path_buf(), fault })
            }
        }
    }

    /// TLS for one more client.
    ///
    /// # Errors
    /// As [`Server::accept`] has it.
    pub(super) fn start_tls(&mut self) -> Result<Stream, TlsFault> {
        let tls = self.tls.as_mut().expect("a listener with TLS has a certificate");
        tls.renew();
        tls.server.accept()
    }
}

impl Tls {
    /// Takes another certificate, if there is one.
    fn renew(&mut self) {
        let stamps = stamps_of(&self.files);
        if stamps == self.stamps {
            return;
        }
        self.stamps = stamps;
        match read(&self.files) {
            Ok(server) => {
                log::info!("renewed certificate={}", self.files.certificate.display());
                self.server = server;
            }
            Err((key, fault)) => log::warn!(
                "listener_tls.{key}: {}: {fault}; the one before it stays",
                path_of(&self.files, key).display()
            ),
        }
    }
}

fn stamps_of(files: &KeyPair) -> [Stamp; 2] {
    [Stamp::of(&files.certificate), Stamp::of(&files.key)]
}

fn path_of<'a>(files: &'a KeyPair, key: &str) -> &'a Path {
    if key == "certificate" { &files.certificate } else { &files.key }
}

fn read(files: &KeyPair) -> Result<Server, Fault> {
    let content = |key, readers| {
        let octets = read_file(path_of(files, key), readers, FILE_OCTETS_MAX).0;
        let octets = octets.map_err(|fault| (key, fault_of(fault)))?;
        if octets.len() > FILE_OCTETS_MAX { Err((key, KeyPairFault::TooLong)) } else { Ok(octets) }
    };
    let certificate = content("certificate", Readers::All)?;
    let key = content("key", Readers::Few)?;
    let server = Server::new(&certificate, &key)
        .map_err(|fault| (if fault == KeyPairFault::NoCertificate { "certificate" } else { "key" }, fault))?;
    let wall = clock::now().wall;
    if wall.is_trusted && server.has_expired(wall.unix_s) {
        log::warn!("listener_tls.certificate: {}: has expired", files.certificate.display());
    }
    Ok(server)
}

fn fault_of(fault: SecretFault) -> KeyPairFault {
    match fault {
        SecretFault::Missing => KeyPairFault::Missing,
        SecretFault::Exposed => KeyPairFault::Exposed,
        SecretFault::Unreadable | SecretFault::Empty | SecretFault::Malformed => KeyPairFault::Unreadable,
    }
}
