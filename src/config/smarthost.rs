//! The table `[smarthost]`, or several `[[smarthost]]`: where the mail goes, over what, and with which login.
//!
//! Invariant: TLS is demanded and verified unless `tls = "none"` says otherwise, and a login that would go
//! over plain TCP needs `allow_plaintext_auth = true` beside it. No secret is read here, only its file's
//! path.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::file::Table;
use super::keys::OAUTH2;
use super::oauth2::{self, Oauth2};
use super::{ConfigError, Listen, Listener, UntrustedClock, values};
use crate::limits;

/// Entries of `pins`: the key in use, its successor, and those of a few replicas.
const PINS_COUNT_MAX: usize = 8;
/// Octets of `user`: those of the longest mailbox.
pub const USER_OCTETS_MAX: usize = 320;

/// The next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smarthost {
    /// A name or an address; what its certificate must be for.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether and how TLS begins.
    pub tls: TlsPolicy,
    /// The certificates to trust, its own and that of where its tokens come from, in PEM; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 of the public keys (SubjectPublicKeyInfo) of which the certificate must have one; where there
    /// are any, they stand for chain, name and dates.
    pub pins: Vec<[u8; 32]>,
    /// The login; none: without.
    pub login: Option<Login>,
    /// Connections at once, at most the board's.
    pub connections: usize,
    /// Extensions to overlook though they are offered, in upper case.
    pub discard: Vec<String>,
}

/// Whether and how TLS begins. There is no "if offered": an attacker would only have to take the offer away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPolicy {
    /// Behind STARTTLS (RFC 3207), or nothing goes.
    Starttls,
    /// From the first octet (RFC 8314 3.3).
    Implicit,
    /// Plain TCP.
    None,
}

/// A login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Who; without control octets.
    pub user: String,
    /// Where the secret is.
    pub secret: SecretFile,
    /// The only mechanism to use; none: the best one offered.
    pub mechanism: Option<Mechanism>,
}

/// Where the secret of a login is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretFile {
    /// A password's file, read anew at each login.
    Password(PathBuf),
    /// The file of an OAuth 2.0 access token, kept fresh by another program; read anew at each login.
    Token(PathBuf),
    /// Files of secrets with which access tokens are asked for.
    Oauth2(Oauth2),
}

/// A mechanism of AUTH (RFC 4954).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// User and password asked for one after the other; never standardised, widespread.
    Login,
    /// Google's and Microsoft's bearer token.
    Xoauth2,
    /// RFC 7628.
    Oauthbearer,
}

impl Mechanism {
    /// All, the best first.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Login, Self::Xoauth2, Self::Oauthbearer];

    /// Its name in AUTH.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::Xoauth2 => "XOAUTH2",
            Self::Oauthbearer => "OAUTHBEARER",
        }
    }

    /// True when its secret is a token.
    pub const fn takes_token(self) -> bool {
        matches!(self, Self::Xoauth2 | Self::Oauthbearer)
    }
}

impl Smarthost {
    /// True when a certificate is judged by the wall clock: its own, or that of where its tokens come from.
    pub fn is_judged_by_clock(&self) -> bool {
        self.tls != TlsPolicy::None && self.pins.is_empty() || self.oauth2().is_some()
    }

    /// True when an unset clock (see [`UntrustedClock`]) holds relaying up.
    pub fn needs_clock(&self, clock: UntrustedClock) -> bool {
        self.is_judged_by_clock() && clock == UntrustedClock::Wait
    }

    /// Where access tokens for the login come from, if we ask for them.
    pub fn oauth2(&self) -> Option<&Oauth2> {
        match &self.login.as_ref()?.secret {
            SecretFile::Oauth2(oauth2) => Some(oauth2),
            SecretFile::Password(_) | SecretFile::Token(_) => None,
        }
    }
}

impl SecretFile {
    /// All its files; the first one is what a new login puts right.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let paths = match self {
            Self::Password(path) | Self::Token(path) => [Some(path.as_path()), None],
            Self::Oauth2(oauth2) => [oauth2.refresh_token_file(), oauth2.client_secret_file.as_deref()],
        };
        paths.into_iter().flatten()
    }

    /// True when it is a token that goes to the smarthost.
    pub const fn is_token(&self) -> bool {
        matches!(self, Self::Token(_) | Self::Oauth2(_))
    }
}

/// Connections with TLS that the smarthosts may take of the board's.
pub(super) fn tls_connections(smarthosts: &[Smarthost]) -> usize {
    let with_tls = smarthosts.iter().filter(|smarthost| smarthost.tls != TlsPolicy::None);
    with_tls.map(|smarthost| smarthost.connections).sum::<usize>().min(limits::SENDER_CONNECTIONS)
}

/// All of them, in the order of the file.
pub(super) fn read_all(
    tables: &[Table<'_>],
    hostname: &str,
    listen: &[Listener],
) -> Result<Vec<Smarthost>, ConfigError> {
    let mut smarthosts: Vec<Smarthost> = Vec::new();
    for table in tables {
        let smarthost = read(table, hostname, listen)?;
        if smarthosts.len() == limits::SMARTHOSTS {
            let what = format!("is one smarthost too many; at most {} are allowed", limits::SMARTHOSTS);
            return Err(table.refuse("host", what));
        }
        let is_same = |other: &Smarthost| {
            other.host.eq_ignore_ascii_case(&smarthost.host)
                && other.port == smarthost.port
                && other.login.as_ref().map(|login| &login.user)
                    == smarthost.login.as_ref().map(|login| &login.user)
        };
        if smarthosts.iter().any(is_same) {
            let what = "is the same smarthost twice, with the same port and user; once is enough";
            return Err(table.refuse("host", what.to_owned()));
        }
        smarthosts.push(smarthost);
    }
    Ok(smarthosts)
}

fn read(table: &Table<'_>, hostname: &str, listen: &[Listener]) -> Result<Smarthost, ConfigError> {
    let Some(host) = table.read("host", values::host)? else {
        return Err(
            table.refuse("host", "is missing; set host = \"NAME or ADDRESS\" under [smarthost]".to_owned())
        );
    };
    let port = table.read("port", |value| values::count(value, 1..=65535, "a TCP port"))?;
    let tls = table.read("tls", |value| values::choice(value, &["starttls", "implicit", "none"]))?;
    let tls = match (tls, port) {
        (Some(1), _) | (None, Some(465)) => TlsPolicy::Implicit,
        (Some(2), _) => TlsPolicy::None,
        (Some(_) | None, _) => TlsPolicy::Starttls,
    };
    let port_default = match tls {
        TlsPolicy::Starttls => 587,
        TlsPolicy::Implicit => 465,
        TlsPolicy::None => 25,
    };
    let port = port.map_or(port_default, |port| port as u16);
    if let Some(own) = listen.iter().find(|own| is_own(&own.listen, &host, port, hostname)) {
        let what = format!(
            "{host} port {port} is this relay itself (it listens on {own}); \
             name the host that takes mail onward"
        );
        return Err(table.refuse("host", what));
    }
    let ca_file = table.read("ca_file", values::path)?;
    let pins = table.read_list("pins", PINS_COUNT_MAX, values::pin)?.unwrap_or_default();
    let login = login(table, tls)?;
    let has_endpoint = matches!(&login, Some(login) if matches!(login.secret, SecretFile::Oauth2(_)));
    let is_idle_ca_file = ca_file.is_some() && !has_endpoint;
    for (key, is_given) in [("ca_file", is_idle_ca_file), ("pins", !pins.is_empty())] {
        if is_given && tls == TlsPolicy::None {
            return Err(table.refuse(key, "has no use with tls = \"none\"; leave one of them out".to_owned()));
        }
    }
    if is_idle_ca_file && !pins.is_empty() {
        let what = "has no use beside pins, which stand for the whole check; leave one of them out";
        return Err(table.refuse("ca_file", what.to_owned()));
    }
    let connections =
        table.read("connections", |value| values::capacity(value, limits::SENDER_CONNECTIONS))?;
    let discard = table.read_list("discard", values::EXTENSIONS.len(), values::extension)?;
    Ok(Smarthost {
        host,
        port,
        tls,
        ca_file,
        pins,
        login,
        connections: connections.unwrap_or(1),
        discard: discard.unwrap_or_default(),
    })
}

fn login(table: &Table<'_>, tls: TlsPolicy) -> Result<Option<Login>, ConfigError> {
    let user = table.read("user", |value| values::line(value, USER_OCTETS_MAX))?;
    let password_file =
        table.read("password_file", |value| values::path_in(value, &table.folders().credentials))?;
    let token_file = table.read("token_file", values::path)?;
    let choices = ["none", "plain", "login", "xoauth2", "oauthbearer"];
    let auth = table.read("auth", |value| values::choice(value, &choices))?;
    let allows_plaintext = table.read("allow_plaintext_auth", values::truth)?.unwrap_or(false);
    let refuse = |key, what: &str| Err(table.refuse(key, what.to_owned()));
    let mechanism = auth.and_then(|auth| auth.checked_sub(1)).map(|index| Mechanism::ALL[index]);
    let oauth2 = table.table("oauth2", OAUTH2).map(|table| oauth2::read(&table)).transpose()?;
    let secrets = [
        ("password_file", password_file.map(SecretFile::Password)),
        ("token_file", token_file.map(SecretFile::Token)),
        ("oauth2", oauth2.map(SecretFile::Oauth2)),
    ];
    let mut given = secrets.into_iter().filter_map(|(key, secret)| Some((key, secret?)));
    let (key_of_secret, secret) = given.next().unzip();
    if let Some((key, _)) = given.next() {
        return refuse(
            key,
            &format!("stands beside {}; leave one of them out", key_of_secret.unwrap_or_default()),
        );
    }
    if auth == Some(0) && (user.is_some() || secret.is_some()) {
        return refuse("auth", "is \"none\" beside a user or its secret; leave one of them out");
    }
    if allows_plaintext && (tls != TlsPolicy::None || user.is_none()) {
        return refuse("allow_plaintext_auth", "has a use only for a user with tls = \"none\"; leave it out");
    }
    let (user, secret) = match (user, secret) {
        (Some(user), Some(secret)) => (user, secret),
        (Some(_), None) => return refuse("user", "has no secret; set password_file (or token_file)"),
        (None, Some(_)) => return refuse(key_of_secret.unwrap_or_default(), "has no user; set user"),
        (None, None) if mechanism.is_some() => {
            return refuse("auth", "has no user; set user and password_file (or token_file)");
        }
        (None, None) => return Ok(None),
    };
    if let Some(mechanism) = mechanism
        && mechanism.takes_token() != secret.is_token()
    {
        let what = if mechanism.takes_token() {
            "sends a token; set token_file or oauth2 instead of password_file"
        } else {
            "sends a password; set password_file instead of a token"
        };
        return refuse("auth", what);
    }
    if tls == TlsPolicy::None && !allows_plaintext {
        let what = "would log in over plain TCP, where everybody can read the secret; \
                    set tls = \"starttls\", or allow_plaintext_auth = true";
        return refuse("user", what);
    }
    Ok(Some(Login { user, secret, mechanism }))
}

/// True when mail to `host` and `port` would come back to the listener `own` (SEC-loop-a). What a name stands
/// for isn't known here; such a loop ends by its count of Received fields (RFC 5321 6.3).
fn is_own(own: &Listen, host: &str, port: u16, hostname: &str) -> bool {
    let (own_port, own_ip) = match own {
        Listen::Address(address) => (address.port(), Some(address.ip())),
        Listen::Interface { port, .. } => (*port, None),
    };
    if own_port != port {
        return false;
    }
    if host.eq_ignore_ascii_case(hostname) {
        return true;
    }
    let is_same = |ip: IpAddr| {
        let ip = ip.to_canonical();
        own_ip.is_some_and(|own| {
            own == ip || own.is_unspecified() && own.is_ipv4() == ip.is_ipv4() && ip.is_loopback()
        })
    };
    match host.parse::<IpAddr>() {
        Ok(ip) => is_same(ip),
        Err(_) => {
            host.eq_ignore_ascii_case("localhost")
                && (is_same(Ipv4Addr::LOCALHOST.into()) || is_same(Ipv6Addr::LOCALHOST.into()))
        }
    }
}
