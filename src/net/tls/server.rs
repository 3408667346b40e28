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

    /// The last second of the certificate's validity, since 1970.
    pub(in crate::net) fn not_after(&self) -> Option<i64> {
        self.not_after
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Client, Plaintext};
    use super::*;
    use crate::config::{Config, UntrustedClock};
    use crate::limits::TLS_CLIENT_OCTETS_MAX;

    const EC: (&[u8], &[u8], &str) = (
        include_bytes!("../../../tests/tls/ec.pem"),
        include_bytes!("../../../tests/tls/ec.key"),
        "UwMlBEywN9PsJMRBl6It8ruvH2oUkcWJMqxt8n+INv4=",
    );
    const RSA: (&[u8], &[u8], &str) = (
        include_bytes!("../../../tests/tls/rsa.pem"),
        include_bytes!("../../../tests/tls/rsa.key"),
        "C7XXdd7GFynyM17RfgRuSrFmW+/3mu0pJZLobVoMm+k=",
    );

    /// The server's end, and the most octets that it has had from the heap.
    struct End {
        server: Server,
        stream: Option<Box<Stream>>,
        octets: i64,
        octets_max: i64,
    }

    impl End {
        fn of(pair: (&[u8], &[u8], &str)) -> Self {
            let server = Server::new(pair.0, pair.1).unwrap();
            let mut end = Self { server, stream: None, octets: 0, octets_max: 0 };
            end.measured(|server, stream| *stream = Some(Box::new(server.accept().unwrap())));
            end
        }

        fn measured<T>(&mut self, work: impl FnOnce(&Server, &mut Option<Box<Stream>>) -> T) -> T {
            let (stream, mut result) = (&mut self.stream, None);
            let counted = allocation_counter::measure(|| result = Some(work(&self.server, stream)));
            self.octets_max = self.octets_max.max(self.octets + counted.bytes_max as i64);
            self.octets += counted.bytes_current;
            result.unwrap()
        }

        /// Takes all of `octets`, or as much as until an error.
        fn take(&mut self, mut octets: &[u8]) -> Result<(), TlsFault> {
            self.measured(|_, stream| {
                let stream = stream.as_mut().unwrap();
                while !octets.is_empty() {
                    // A buffer that is full ends the connection too.
                    stream.receive(&mut octets).map_err(|_| TlsFault::Handshake)?;
                    stream.advance()?;
                    if !stream.is_handshaking() {
                        while let Plaintext::Octets(_) = stream.read(&mut [0; 512]) {}
                    }
                }
                Ok(())
            })
        }

        fn give(&mut self) -> Vec<u8> {
            let mut octets = Vec::with_capacity(256 * 1024);
            self.measured(|_, stream| while stream.as_mut().unwrap().send(&mut octets).unwrap_or(0) > 0 {});
            octets
        }
    }

    fn client(pin: &str) -> Stream {
        let text = format!("[smarthost]\nhost = \"relay.example\"\npins = [\"{pin}\"]\n");
        let config = Config::parse(&text, Path::new("test"), "board").unwrap();
        Client::new(&config.smarthosts[0], UntrustedClock::Wait).unwrap().connect().unwrap()
    }

    #[test]
    fn a_client_with_tls_costs_what_limits_say() {
        for pair in [EC, RSA] {
            let (mut end, mut client) = (End::of(pair), client(pair.2));
            for _ in 0..4 {
                let mut octets = Vec::new();
                while client.send(&mut octets).unwrap_or(0) > 0 {}
                end.take(&octets).unwrap();
                let octets = end.give();
                let mut octets = &octets[..];
                while !octets.is_empty() {
                    client.receive(&mut octets).unwrap();
                    client.advance().unwrap();
                }
            }
            assert!(!client.is_handshaking() && !end.stream.as_ref().unwrap().is_handshaking());
            let idle = end.octets;
            // A client that doesn't read, and one that sends in records as large as there are.
            end.measured(|_, stream| while stream.as_mut().unwrap().write(&[b'x'; 1000]) > 0 {});
            let mut sent = vec![0; 16 * 1024];
            for _ in 0..20 {
                assert!(client.write(&sent) > 0);
                sent.clear();
                while client.send(&mut sent).unwrap_or(0) > 0 {}
                end.take(&sent).unwrap();
                sent.resize(16 * 1024, 0);
            }
            assert!((0..16 * 1024).contains(&idle), "{idle} octets when idle");
            assert!(end.octets_max <= TLS_CLIENT_OCTETS_MAX as i64, "{} octets at most", end.octets_max);
            println!("idle {idle}, at most {}", end.octets_max);
        }
    }

    /// SEC-dos-a: a hello that never ends, and octets that are none.
    #[test]
    fn a_hostile_hello_costs_no_more() {
        let mut endless = b"\x16\x03\x01\x40\x00\x01\x00\xff\xff".to_vec();
        endless.resize(5 + 0x4000, 0);
        for _ in 0..5 {
            endless.extend_from_slice(b"\x16\x03\x01\x40\x00");
            endless.resize(endless.len() + 0x4000, 0);
        }
        for octets in [&endless, &b"\x16\x03\x01\xff\xff".repeat(20_000), &b"EHLO x\r\n".to_vec()] {
            let mut end = End::of(EC);
            assert_eq!(end.take(octets), Err(TlsFault::Handshake));
            assert!(end.octets_max <= TLS_CLIENT_OCTETS_MAX as i64, "{} octets at most", end.octets_max);
            println!("at most {}", end.octets_max);
        }
    }

    #[test]
    fn a_pair_must_fit_together() {
        let fault = |certificate, key| Server::new(certificate, key).unwrap_err();
        assert_eq!(fault(EC.0, RSA.1), KeyPairFault::Mismatch);
        assert_eq!(fault(EC.1, EC.1), KeyPairFault::NoCertificate);
        assert_eq!(fault(b"", EC.1), KeyPairFault::NoCertificate);
        assert_eq!(fault(EC.0, EC.0), KeyPairFault::NoKey);
        assert_eq!(
            fault(EC.0, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            KeyPairFault::Unusable
        );
        assert!(Server::new(EC.0, EC.1).unwrap().has_expired(9_000_000_000));
        assert!(!Server::new(EC.0, EC.1).unwrap().has_expired(1_800_000_000));
    }
}
