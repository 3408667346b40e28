//! What is listened on, and what is offered there: TLS (RFC 3207, RFC 8314) and AUTH (RFC 4954).
//!
//! Passwords travel in clear only where a listener says so by name. TLS needs a certificate, and a place
//! among the board's connections with TLS, of which the smarthosts take theirs first.

use core::fmt;
use core::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use toml::de::DeValue;

use super::file::Table;
use super::values::{choice, path_in, shown, truth};
use super::{ConfigError, User};
use crate::limits;

/// Octets of an interface's name (IFNAMSIZ without its final zero).
const INTERFACE_OCTETS_MAX: usize = 15;

const LISTEN_FORMS: &str = r#"write "address:port" or "interface:port", as "127.0.0.1:25" or "br-lan:25""#;

/// One listening address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and port.
    Address(SocketAddr),
    /// All addresses of an interface, bound to the device.
    Interface {
        /// As `ip link` shows it.
        name: String,
        /// TCP port.
        port: u16,
    },
}

impl fmt::Display for Listen {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Interface { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

/// One entry of `listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub listen: Listen,
    /// Whether clients may speak TLS there, or must.
    pub tls: ListenerTls,
    /// Whether they may log in there.
    pub auth: Auth,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listen.fmt(f)
    }
}

/// TLS of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerTls {
    /// There is none.
    None,
    /// It is offered (RFC 3207).
    Starttls,
    /// From the first octet (RFC 8314 3).
    Implicit,
}

/// AUTH of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// It is not offered.
    Absent,
    /// Inside TLS.
    InTls,
    /// Also in plain: passwords travel in clear.
    Anywhere,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The chain, our own certificate first.
    pub certificate: PathBuf,
    /// The private key of the first certificate.
    pub key: PathBuf,
}

/// `address:port` or `interface:port`, or a table of them and of what the listener offers.
pub(super) fn entry(value: &DeValue<'_>) -> Result<Listener, String> {
    let Some(table) = value.as_table() else {
        let listen = listen_address(value)?;
        return Ok(Listener { listen, tls: ListenerTls::None, auth: Auth::Absent });
    };
    let (mut tls, mut auth, mut is_plaintext_allowed) = (ListenerTls::None, false, false);
    for (name, value) in table {
        let value = value.get_ref();
        let of = |key, what: String| format!("{key}: {what}");
        match name.get_ref().as_ref() {
            "address" => {}
            "tls" => {
                let choices = ["none", "starttls", "implicit"];
                let chosen = choice(value, &choices).map_err(|what| of("tls", what))?;
                tls = [ListenerTls::None, ListenerTls::Starttls, ListenerTls::Implicit][chosen];
            }
            "auth" => auth = truth(value).map_err(|what| of("auth", what))?,
            "allow_plaintext_auth" => {
                is_plaintext_allowed = truth(value).map_err(|what| of("allow_plaintext_auth", what))?;
            }
            other => {
                return Err(format!(
                    "{}: is not a key of a listener; allowed here: address, tls, auth, allow_plaintext_auth",
                    other.escape_debug()
                ));
            }
        }
    }
    if auth && !is_plaintext_allowed && tls == ListenerTls::None {
        return Err("auth: sends passwords through the network in clear; set tls = \"starttls\" beside it, \
                    or allow_plaintext_auth = true if that is what you want"
            .to_owned());
    }
    if is_plaintext_allowed && !auth {
        return Err("allow_plaintext_auth: is without effect; set auth = true beside it".to_owned());
    }
    if is_plaintext_allowed && tls == ListenerTls::Implicit {
        return Err("allow_plaintext_auth: is without effect; \
                    all is inside TLS here, so leave it out"
            .to_owned());
    }
    let auth = match (auth, is_plaintext_allowed) {
        (false, _) => Auth::Absent,
        (true, false) => Auth::InTls,
        (true, true) => Auth::Anywhere,
    };
    match table.get("address") {
        Some(address) => Ok(Listener { listen: listen_address(address.get_ref())?, tls, auth }),
        None => Err(format!("has no address; {LISTEN_FORMS}")),
    }
}

fn listen_address(value: &DeValue<'_>) -> Result<Listen, String> {
    let Some(text) = value.as_str() else {
        return Err(format!("is {}; {LISTEN_FORMS}", shown(value)));
    };
    if let Ok(address) = text.parse::<SocketAddr>() {
        let plain = SocketAddr::new(address.ip().to_canonical(), address.port());
        if plain.is_ipv4() != address.is_ipv4() {
            return Err(format!("is {}; write the IPv4 address as such: \"{plain}\"", shown(value)));
        }
        return Ok(Listen::Address(address));
    }
    let Some((name, port)) = text.rsplit_once(':') else {
        return Err(format!("is {} without a port; {LISTEN_FORMS}", shown(value)));
    };
    let Ok(port) = port.parse::<u16>() else {
        return Err(format!("is {}, whose port is not 0 to 65535; {LISTEN_FORMS}", shown(value)));
    };
    if name.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("is {}; an IPv6 address stands in brackets: \"[{name}]:{port}\"", shown(value)));
    }
    if name == "localhost" || name == "*" {
        let address = if name == "*" { "0.0.0.0" } else { "127.0.0.1" };
        return Err(format!("is {}; write the address: \"{address}:{port}\"", shown(value)));
    }
    let is_name = (1..=INTERFACE_OCTETS_MAX).contains(&name.len())
        && name.bytes().all(|octet| octet.is_ascii_graphic() && !b"/:[]\"".contains(&octet))
        && !name.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.');
    if !is_name {
        return Err(format!("is {}, neither an address nor an interface; {LISTEN_FORMS}", shown(value)));
    }
    Ok(Listen::Interface { name: name.to_owned(), port })
}

/// AUTH without users, or users without AUTH, is a mistake.
pub(super) fn check_logins(top: &Table<'_>, listen: &[Listener], users: &[User]) -> Result<(), ConfigError> {
    match (listen.iter().any(|listener| listener.auth != Auth::Absent), users.is_empty()) {
        (true, true) => {
            let what = "offers AUTH, but nobody may log in; add [users], with NAME = \"/path/of/password\"";
            Err(top.refuse("listen", what.to_owned()))
        }
        (false, false) => {
            let what = "are without effect; no entry of \"listen\" has auth = true";
            Err(top.refuse("users", what.to_owned()))
        }
        (true, false) | (false, true) => Ok(()),
    }
}

/// The table `listener_tls`, which must be there where a listener has TLS, and only there. The smarthost
/// takes `connections` of the board's with TLS.
pub(super) fn key_pair(
    table: &Table<'_>,
    top: &Table<'_>,
    listen: &[Listener],
    connections: usize,
) -> Result<Option<KeyPair>, ConfigError> {
    let file = |key| table.read(key, |value| path_in(value, &table.folders().credentials));
    let (certificate, key) = (file("certificate")?, file("key")?);
    let is_given = certificate.is_some() || key.is_some();
    match (listen.iter().any(|listener| listener.tls != ListenerTls::None), is_given) {
        (false, false) => return Ok(None),
        (false, true) => {
            let what = "is without effect; no entry of \"listen\" has tls = \"starttls\" or \"implicit\"";
            return Err(top.refuse("listener_tls", what.to_owned()));
        }
        (true, _) => {}
    }
    if connections >= limits::TLS_CONNECTIONS {
        let what = format!(
            "tls: this board has room for {} connections with TLS, and the smarthost takes {connections}; \
             listeners without TLS are allowed",
            limits::TLS_CONNECTIONS
        );
        return Err(top.refuse("listen", what));
    }
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(KeyPair { certificate, key })),
        (certificate, _) => {
            let what =
                "is missing, and a listener has TLS; a file in PEM is allowed, as \"/etc/postern.pem\"";
            Err(table.refuse(if certificate.is_none() { "certificate" } else { "key" }, what.to_owned()))
        }
    }
}
