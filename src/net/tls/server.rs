//! TLS towards our clients: what their connections have in common.
//!
//! Absent on purpose: certificates of clients (they log in by AUTH), and sessions to resume: a device that
//! sends an alert a day gains nothing, and nothing has to be kept.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring as provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{Connection, Error, InconsistentKeys, ServerConfig, ServerConnection};

use super::super::certificate::Validity;
use super::super::clock;
use super::{Stream, UNSENT_OCTETS_MAX, WallClock, fault_of};
use crate::sender::TlsFault;

/// Why a certificate and its key can't be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPairFault {
    /// There is no such file.
    Missing,
    /// It can't be read.
    Unreadable,
    /// Others may read the key.
    Exposed,
    /// It is longer than any chain of certificates.
    TooLong,
    /// There is no certificate in it.
    NoCertificate,
    /// There is no private key in it.
    NoKey,
    /// The key belongs to another certificate.
    Mismatch,
    /// The library can't use the pair.
    Unusable,
}

impl fmt::Display for KeyPairFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "does not exist",
            Self::Unreadable => "can't be read",
            Self::Exposed => "may be read by others; set its mode to 0600 or 0640",
            Self::TooLong => "is longer than 64 KiB; only the certificate, its chain and its key are needed",
            Self::NoCertificate => "has no certificate in PEM",
            Self::NoKey => "has no private key in PEM; one with a passphrase can't be used",
            Self::Mismatch => "is not the key of the certificate",
            Self::Unusable => {
                "can't be used; allowed are ECDSA (P-256, P-384), Ed25519, and RSA from 2048 bits on"
            }
        })
    }
}

/// What all clients' connections have in common.
pub(in crate::net) struct Server {
    config: Arc<ServerConfig>,
    not_after: Option<i64>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// With the chain in `certificate`, and the private key of its first one in `key`; both in PEM.
    ///
    /// # Errors
    /// What is wrong with them; [`KeyPairFault::NoCertificate`] is about the first, all else about the
    /// second.
    pub(in crate::net) fn new(certificate: &[u8], key: &[u8]) -> Result<Self, KeyPairFault> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(KeyPairFault::NoCertificate)?;
        let not_after = Validity::of(&chain[0]).map(|dates| dates.not_after);
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| KeyPairFault::NoKey)?;
        let builder =
            ServerConfig::builder_with_details(Arc::new(provider::default_provider()), Arc::new(WallClock));
        let mut config = builder
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for both versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| {
                if error == Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
                    KeyPairFault::Mismatch
                } else if matches!(error, Error::InvalidCertificate(_)) {
                    KeyPairFault::NoCertificate
                } else {
                    KeyPairFault::Unusable
                }
            })?;
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), not_after })
    }

    /// True when the certificate has expired at `unix_s`.
    pub(in crate::net) fn has_expired(&self, unix_s: u64) -> bool {
        self.not_after.is_some_and(|not_after| i64::try_from(unix_s).is_ok_and(|now| now > not_after))
    }

    /// One more connection, whose first flight is the client's.
    ///
    /// # Errors
    /// There is no randomness.
    pub(in crate::net) fn accept(&self) -> Result<Stream, TlsFault> {
        if !clock::has_randomness() {
            return Err(TlsFault::Randomness);
        }
        let connection = ServerConnection::new(Arc::clone(&self.config)).map_err(|error| fault_of(&error))?;
        let mut connection = Connection::from(connection);
        connection.set_buffer_limit(Some(UNSENT_OCTETS_MAX));
        Ok(Stream { connection })
    }
}
