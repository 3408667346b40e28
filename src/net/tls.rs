//! TLS 1.2 and 1.3 (RFC 8996), by rustls: nothing else names it.
//!
//! A [`Client`] is what one smarthost's connections have in common, a [`Server`] what those of our own
//! clients have; a [`Stream`] is one of them, between the socket's octets and the session's. The certificate
//! is judged against the authorities in a file, which is read at each full handshake, so that none of its
//! hundred certificates stays in memory and a newer file counts at once; or against pins. The wall clock is
//! the loop's own.
//!
//! Absent on purpose: a way to go without a check, the common name as a host's name (RFC 6125 6.4.4),
//! revocation lists, 0-RTT data.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring as provider, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::time_provider::TimeProvider;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct,
    Error, PeerIncompatible, RootCertStore, SignatureScheme,
};

mod server;

pub use server::KeyPairFault;
pub(super) use server::Server;

use super::certificate::Validity;
use super::clock;
use crate::config::{Smarthost, UntrustedClock};
use crate::sender::TlsFault;

/// Where systems keep the authorities that they trust; the first that exists counts.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt"];
/// Octets of such a file that are read.
const AUTHORITIES_OCTETS_MAX: u64 = 4 * 1024 * 1024;
/// Octets of the session's that are encrypted and not sent, at most.
const UNSENT_OCTETS_MAX: usize = 16 * 1024;
/// Sessions that are kept for resumption: the last tickets of one smarthost.
const RESUMABLE_SESSIONS: usize = 8;

/// Why certificates can't be judged.
#[derive(Debug)]
pub enum TrustError {
    /// There is none of the files in which systems keep their authorities.
    NoAuthorities,
    /// The file can't be read.
    Unreadable(PathBuf, io::Error),
    /// The file has no certificate in it.
    Empty(PathBuf),
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAuthorities => {
                write!(f, "smarthost.ca_file: this system has none of ")?;
                f.write_str(&AUTHORITIES.join(", "))?;
                f.write_str("; install its CA certificates, or set ca_file or pins")
            }
            Self::Unreadable(path, error) => write!(f, "smarthost.ca_file: {}: {error}", path.display()),
            Self::Empty(path) => {
                write!(f, "smarthost.ca_file: {}: has no certificate in PEM", path.display())
            }
        }
    }
}

/// What the connections to one smarthost have in common.
pub(super) struct Client {
    config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
    name: ServerName<'static>,
}

impl Client {
    /// For a smarthost with TLS, by what its settings trust.
    ///
    /// # Errors
    /// There is nothing to judge certificates by.
    pub(super) fn new(smarthost: &Smarthost, clock: UntrustedClock) -> Result<Self, TrustError> {
        if smarthost.pins.is_empty() {
            Self::for_host(&smarthost.host, smarthost.ca_file.as_deref(), clock)
        } else {
            Ok(Self::with(&smarthost.host, Trust::Pins(smarthost.pins.clone())))
        }
    }

    /// For any host, by the certificates in `ca_file`, else the system's.
    ///
    /// # Errors
    /// There is nothing to judge certificates by.
    pub(super) fn for_host(
        host: &str,
        ca_file: Option<&Path>,
        clock: UntrustedClock,
    ) -> Result<Self, TrustError> {
        let path = match ca_file {
            Some(path) => path.to_path_buf(),
            None => {
                let found = AUTHORITIES.iter().map(Path::new).find(|path| path.exists());
                found.ok_or(TrustError::NoAuthorities)?.to_path_buf()
            }
        };
        let mut is_empty = true;
        read_authorities(&path, |_| {
            is_empty = false;
            false
        })
        .map_err(|error| TrustError::Unreadable(path.clone(), error))?;
        if is_empty {
            return Err(TrustError::Empty(path));
        }
        let ignores_dates = clock == UntrustedClock::IgnoreDates;
        Ok(Self::with(host, Trust::Authorities { path, ignores_dates }))
    }

    fn with(host: &str, trust: Trust) -> Self {
        let provider = provider::default_provider();
        let algorithms = provider.signature_verification_algorithms;
        let verifier = Arc::new(Verifier { trust, algorithms, presented: Mutex::new(None) });
        let mut config = ClientConfig::builder_with_details(Arc::new(provider), Arc::new(WallClock))
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for both versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Verifier>::clone(&verifier))
            .with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(RESUMABLE_SESSIONS);
        let name = ServerName::try_from(host).expect("a valid host is a domain or an address").to_owned();
        Self { config: Arc::new(config), verifier, name }
    }

    /// What the smarthost has shown of itself in the last full handshake, trusted or not.
    pub(super) fn presented(&self) -> Option<Presented> {
        self.verifier.presented.lock().ok()?.clone()
    }

    /// One more connection; its first flight is to be sent.
    ///
    /// # Errors
    /// [`TlsFault::Handshake`], when there is no randomness.
    pub(super) fn connect(&self) -> Result<Stream, TlsFault> {
        if !clock::has_randomness() {
            return Err(TlsFault::Randomness);
        }
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let mut connection = Connection::from(connection.map_err(|error| fault_of(&error))?);
        connection.set_buffer_limit(Some(UNSENT_OCTETS_MAX));
        Ok(Stream { connection })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What came out of a [`Stream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plaintext {
    /// So many octets.
    Octets(usize),
    /// None now: receive more.
    None,
    /// None any more.
    End,
}

/// One connection's TLS.
pub(super) struct Stream {
    connection: Connection,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

impl Stream {
    /// True until the peer is verified.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// True while there is something for [`Stream::send`].
    pub(super) fn has_unsent(&self) -> bool {
        self.connection.wants_write()
    }

    /// Encrypts as much of `octets` as may wait to be sent: so many.
    pub(super) fn write(&mut self, octets: &[u8]) -> usize {
        self.connection.writer().write(octets).expect("a buffer in memory takes what it has room for")
    }

    /// Sends some of what waits.
    pub(super) fn send(&mut self, socket: &mut impl Write) -> io::Result<usize> {
        self.connection.write_tls(socket)
    }

    /// Receives once: so many octets, none at the end. Call it only when [`Stream::read`] has none left.
    pub(super) fn receive(&mut self, socket: &mut impl Read) -> io::Result<usize> {
        self.connection.read_tls(socket)
    }

    /// Works on what was received. An error ends the connection; the peer is told by what is unsent then.
    pub(super) fn advance(&mut self) -> Result<(), TlsFault> {
        match self.connection.process_new_packets() {
            Ok(_) => Ok(()),
            Err(error) => {
                log::debug!("tls error=\"{}\"", error.to_string().escape_debug());
                Err(fault_of(&error))
            }
        }
    }

    /// Takes octets for the session.
    pub(super) fn read(&mut self, space: &mut [u8]) -> Plaintext {
        match self.connection.reader().read(space) {
            Ok(0) => Plaintext::End,
            Ok(count) => Plaintext::Octets(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Plaintext::None,
            // The socket's end came without the peer's word for it; what is under way is lost either way.
            Err(_) => Plaintext::End,
        }
    }

    /// Says that nothing more comes; to be sent.
    pub(super) fn close(&mut self) {
        self.connection.send_close_notify();
    }
}

/// The wall clock for rustls.
#[derive(Debug)]
struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(clock::now().wall.unix_s))
    }
}

fn unix_time(unix_s: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(unix_s))
}

/// What a certificate says, whether it is to be trusted or not.
#[derive(Clone, Debug)]
pub struct Presented {
    /// SHA-256 of its public key (SubjectPublicKeyInfo): what `pins` takes.
    pub pin: [u8; 32],
    /// The last second of its validity, since 1970; none: it can't be told.
    pub not_after_unix_s: Option<i64>,
}

/// What a certificate must show.
#[derive(Debug)]
enum Trust {
    /// One of these keys, and nothing else.
    Pins(Vec<[u8; 32]>),
    /// A chain to a certificate in the file, the host's name, and valid dates.
    Authorities {
        path: PathBuf,
        /// While the clock is not to be trusted.
        ignores_dates: bool,
    },
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
    /// Of the last handshake, for whoever wants to see it.
    presented: Mutex<Option<Presented>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let pin = digest(&SHA256, &certificate.subject_public_key_info());
        if let (Ok(mut presented), Ok(pin)) = (self.presented.lock(), pin.as_ref().try_into()) {
            let not_after_unix_s = Validity::of(end_entity).map(|dates| dates.not_after);
            *presented = Some(Presented { pin, not_after_unix_s });
        }
        match &self.trust {
            Trust::Pins(pins) => {
                if !pins.iter().any(|wanted| wanted == pin.as_ref()) {
                    return Err(CertificateError::ApplicationVerificationFailure.into());
                }
            }
            Trust::Authorities { path, ignores_dates } => {
                let now = if *ignores_dates && !clock::now().wall.is_trusted {
                    moment_of_validity(end_entity, intermediates)?
                } else {
                    now
                };
                let (roots, is_anchor) = anchors(path, end_entity, intermediates)?;
                if is_anchor {
                    verify_dates(end_entity, now)?;
                } else if roots.is_empty() {
                    return Err(CertificateError::UnknownIssuer.into());
                } else {
                    let algorithms = self.algorithms.all;
                    verify_server_cert_signed_by_trust_anchor(
                        &certificate,
                        &roots,
                        intermediates,
                        now,
                        algorithms,
                    )?;
                }
                verify_server_name(&certificate, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The authorities of `path` that the certificates name as an issuer, and whether the first certificate is
/// itself one of that file: a self-signed certificate that is trusted as such.
fn anchors(
    path: &Path,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(RootCertStore, bool), Error> {
    let mut roots = RootCertStore::empty();
    let mut is_anchor = false;
    read_authorities(path, |authority| {
        is_anchor |= authority == *end_entity;
        roots.add_parsable_certificates([authority]);
        let is_named = roots.roots.last().is_none_or(|root| {
            let subject: &[u8] = &root.subject;
            let names = |certificate: &CertificateDer<'_>| {
                !subject.is_empty() && certificate.windows(subject.len()).any(|octets| octets == subject)
            };
            names(end_entity) || intermediates.iter().any(names)
        });
        if !is_named {
            roots.roots.pop();
        }
        true
    })
    .map_err(|error| Error::General(error.to_string()))?;
    Ok((roots, is_anchor))
}

/// Calls `visit` with each certificate in the PEM file `path`, as long as it returns true; what is damaged is
/// passed over.
fn read_authorities(path: &Path, mut visit: impl FnMut(CertificateDer<'static>) -> bool) -> io::Result<()> {
    let file = BufReader::new(File::open(path)?.take(AUTHORITIES_OCTETS_MAX));
    for certificate in CertificateDer::pem_reader_iter(file) {
        match certificate {
            Ok(certificate) => {
                if !visit(certificate) {
                    break;
                }
            }
            Err(PemError::Io(error)) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(())
}

/// When all of these certificates were valid, if there was such a time: at the start of the youngest one.
fn moment_of_validity(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<UnixTime, Error> {
    let start = |certificate: &CertificateDer<'_>| Validity::of(certificate).map(|dates| dates.not_before);
    let youngest = intermediates.iter().chain([end_entity]).filter_map(start).max();
    let youngest = youngest.and_then(|unix_s| u64::try_from(unix_s).ok());
    youngest.map(unix_time).ok_or(CertificateError::BadEncoding.into())
}

fn verify_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let dates = Validity::of(certificate).ok_or(CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < dates.not_before {
        Err(CertificateError::NotValidYet.into())
    } else if now > dates.not_after {
        Err(CertificateError::Expired.into())
    } else {
        Ok(())
    }
}

/// What an error of the library means for the route.
fn fault_of(error: &Error) -> TlsFault {
    if let Error::InvalidCertificate(error) = error {
        return fault_of_certificate(error);
    }
    let is_about_version = matches!(
        error,
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                // What clients before TLS 1.2 lack, and none since.
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired
        ) | Error::AlertReceived(AlertDescription::ProtocolVersion)
    );
    if is_about_version {
        TlsFault::Version
    } else if matches!(error, Error::General(_)) {
        TlsFault::AuthoritiesUnreadable
    } else {
        TlsFault::Handshake
    }
}

fn fault_of_certificate(error: &CertificateError) -> TlsFault {
    use CertificateError as Bad;
    if matches!(error, Bad::Expired | Bad::ExpiredContext { .. }) {
        TlsFault::Expired
    } else if matches!(error, Bad::NotValidYet | Bad::NotValidYetContext { .. }) {
        TlsFault::NotYetValid
    } else if matches!(error, Bad::NotValidForName | Bad::NotValidForNameContext { .. }) {
        TlsFault::WrongName
    } else if matches!(error, Bad::UnknownIssuer) {
        TlsFault::UnknownAuthority
    } else if matches!(error, Bad::ApplicationVerificationFailure) {
        TlsFault::Pin
    } else {
        TlsFault::Certificate
    }
}
