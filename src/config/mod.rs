//! The run-time configuration: a TOML file -> a valid [`Config`], or one line that names file, line, key and
//! what is allowed.
//!
//! Nothing is read here but the text: the caller reads the file and the system's name. A `Config` that exists
//! is whole and consistent: no open relay, no capacity above the board's, no smarthost that is this relay
//! itself. A key that this version doesn't act on is refused, never passed over (`keys` has them all).

mod file;
mod keys;
mod smarthost;
mod values;

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::limits;
use crate::smtp::path::is_domain;
use crate::time::Duration;
use file::{File, Table};

pub use smarthost::{Login, Mechanism, SecretFile, Smarthost, TlsPolicy, USER_OCTETS_MAX};

/// The file that is read when none is named.
pub const PATH_DEFAULT: &str = "/etc/postern.toml";
/// Octets of the largest file that is read; README's example with every key has about 1,500.
pub const FILE_OCTETS_MAX: u64 = 64 * 1024;
/// Entries of `listen`.
pub const LISTEN_COUNT_MAX: usize = 8;
/// Entries of `allow`.
pub const ALLOW_COUNT_MAX: usize = 32;
/// Octets of the smallest spool: one message of the smallest size that RFC 5321 4.5.3.1.7 asks for, and room
/// to move.
pub const SPOOL_OCTETS_MIN: u64 = 256 * 1024;
/// Octets of the smallest message limit (RFC 5321 4.5.3.1.7).
pub const MESSAGE_OCTETS_MIN: u64 = 64 * 1024;
/// Octets of a block of the spool, of which its size is a multiple.
const BLOCK_OCTETS: u64 = limits::BLOCK_OCTETS as u64;

const SPOOL_PATH_DEFAULT: &str = "/var/spool/postern/spool";
const SPOOL_OCTETS_DEFAULT: u64 = 4 * 1024 * 1024;
const DAY_S: u64 = 86_400;

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our name in greeting, EHLO and Received.
    pub hostname: String,
    /// Where mail for unqualified names goes; none: they are refused.
    pub admin: Option<String>,
    /// What the receiver listens on.
    pub listen: Vec<Listen>,
    /// Who may relay.
    pub allow: Vec<Network>,
    /// Where the mail goes.
    pub smarthost: Smarthost,
    /// The spool file.
    pub spool: Spool,
    /// When to try again.
    pub retry: Retry,
    /// What the board's capacities are lowered to.
    pub limits: Limits,
    /// Tolerance of old devices.
    pub quirks: Quirks,
    /// Name and version in the greeting.
    pub announce: bool,
    /// The log filter in env_logger's syntax.
    pub log: String,
    /// What a clock that nobody has set yet holds up.
    pub clock: UntrustedClock,
}

/// Why a file is no configuration. Displays as one line: `FILE:LINE: KEY: what is wrong; what is allowed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    path: PathBuf,
    line: usize,
    key: String,
    what: String,
}

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

/// One entry of `allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// 127.0.0.0/8 and ::1.
    Loopback,
    /// The connected prefixes of the address that accepted.
    OnLink,
    /// A prefix; IPv4-mapped IPv6 addresses are taken as IPv4.
    Prefix {
        /// Its address, host bits zero.
        address: IpAddr,
        /// Its length in bits.
        bits: u8,
    },
}

/// The spool file.
#[derive(Clone, Debug)]
pub struct Spool {
    /// Its path; the folder must exist or be creatable in an existing one.
    pub path: PathBuf,
    /// Its size in octets.
    pub octets: u64,
    /// Allow a file system in memory.
    pub volatile: bool,
}

/// When to try again; all queue time.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// The first wait of a message.
    pub first: Duration,
    /// Its longest wait.
    pub longest: Duration,
    /// The longest wait of a route.
    pub route_longest: Duration,
    /// The first wait after a refused login; it doubles to an hour.
    pub auth: Duration,
    /// The age at which a message is given up, over a working route.
    pub give_up: Duration,
    /// The age at which it is given up over a dead one.
    pub hold: Duration,
}

/// Lowered capacities.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Octets of one message.
    pub message_octets: u64,
    /// Receiver sessions at once.
    pub sessions: usize,
    /// Receiver sessions of one client at once.
    pub sessions_per_client: usize,
    /// How long we wait for a command.
    pub command_timeout: Duration,
    /// How long we wait for a piece of mail data.
    pub data_timeout: Duration,
}

/// Each tolerated habit of old devices.
#[derive(Clone, Copy, Debug)]
pub struct Quirks {
    /// What becomes of a bare LF in mail data.
    pub bare_lf: BareLf,
}

/// What becomes of a bare LF in mail data. It never ends the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BareLf {
    /// Stored and sent as CRLF, dots stuffed.
    Repair,
    /// 554 5.6.0 at the end of the data.
    Refuse,
}

/// What a clock that nobody has set yet holds up. Relaying over plain TCP never waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UntrustedClock {
    /// Relaying over verified TLS waits until the clock is set.
    Wait,
    /// The dates of certificates are not looked at.
    IgnoreDates,
}

impl Config {
    /// Reads `text`, the content of the file `path`; `system_name` is the host name that stands in for
    /// `hostname`.
    pub fn parse(text: &str, path: &Path, system_name: &str) -> Result<Self, ConfigError> {
        let file = File { path, text };
        let root = file.parse()?;
        let root = root.get_ref();
        file.check_keys(root)?;
        let top = file.table(root, "");

        let hostname = match top.read("hostname", values::domain)? {
            Some(name) => name,
            None if is_domain(system_name.as_bytes()) => system_name.to_owned(),
            None => {
                let what = format!("the system's name {system_name:?} is no domain name; set hostname");
                return Err(top.refuse("hostname", what));
            }
        };
        top.read("log_to", |value| match values::choice(value, &["stderr", "syslog"])? {
            0 => Ok(()),
            _ => Err("this version logs to stderr only; set log_to = \"stderr\" or leave it out".to_owned()),
        })?;
        let listen = top.read_list("listen", LISTEN_COUNT_MAX, values::listen)?;
        let listen = listen.unwrap_or_else(|| vec![Listen::Address(SocketAddr::from(([127, 0, 0, 1], 25)))]);
        if listen.is_empty() {
            return Err(top.refuse("listen", "is empty; name one \"address:port\" at least".to_owned()));
        }
        let allow = top.read_list("allow", ALLOW_COUNT_MAX, values::network)?;
        if !root.contains_key("smarthost") {
            let what = "is missing; write [smarthost] on a line, and host, user and password_file below";
            return Err(top.refuse("smarthost", what.to_owned()));
        }
        let smarthost = smarthost::read(&file.table(root, "smarthost"), &hostname, &listen)?;
        let clock = file.table(root, "clock");
        let clock = clock.read("untrusted", |value| values::choice(value, &["wait", "ignore-dates"]))?;
        Ok(Self {
            admin: top.read("admin", values::mailbox)?,
            allow: allow.unwrap_or_else(|| vec![Network::Loopback, Network::OnLink]),
            announce: top.read("announce", values::truth)?.unwrap_or(true),
            log: top.read("log", values::log_filter)?.unwrap_or_else(|| "info".to_owned()),
            spool: spool(&file.table(root, "spool"))?,
            retry: retry(&file.table(root, "retry"))?,
            limits: limits(&file.table(root, "limits"))?,
            quirks: quirks(&file.table(root, "quirks"))?,
            clock: if clock == Some(1) { UntrustedClock::IgnoreDates } else { UntrustedClock::Wait },
            hostname,
            listen,
            smarthost,
        })
    }

    /// True when any interface's neighbours may relay although nobody named one: worth a warning at start.
    pub fn is_on_link_everywhere(&self) -> bool {
        let is_everywhere =
            |listen: &Listen| matches!(listen, Listen::Address(address) if address.ip().is_unspecified());
        self.allow.contains(&Network::OnLink) && self.listen.iter().any(is_everywhere)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.path.display(), self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for ConfigError {}

fn spool(table: &Table<'_>) -> Result<Spool, ConfigError> {
    let octets_board = limits::SPOOL_BLOCKS as u64 * BLOCK_OCTETS;
    let octets = table.read("size", |value| values::size(value, SPOOL_OCTETS_MIN, octets_board))?;
    let octets = octets.unwrap_or(SPOOL_OCTETS_DEFAULT.min(octets_board));
    Ok(Spool {
        path: table.read("path", values::path)?.unwrap_or_else(|| SPOOL_PATH_DEFAULT.into()),
        octets: octets - octets % BLOCK_OCTETS,
        volatile: table.read("volatile", values::truth)?.unwrap_or(false),
    })
}

fn retry(table: &Table<'_>) -> Result<Retry, ConfigError> {
    let span = |key, s_max, default| {
        table.read(key, |value| values::duration(value, s_max)).map(|given| given.unwrap_or(default))
    };
    let first = span("first", DAY_S, Duration::from_min(1))?;
    let retry = Retry {
        first,
        longest: span("longest", DAY_S, Duration::from_min(120).max(first))?,
        route_longest: span("route_longest", DAY_S, Duration::from_min(5))?,
        auth: span("auth", DAY_S, Duration::from_min(15))?,
        give_up: span("give_up", 30 * DAY_S, Duration::from_s(5 * DAY_S))?,
        hold: span("hold", 365 * DAY_S, Duration::from_s(30 * DAY_S))?,
    };
    if retry.longest < retry.first {
        return Err(
            table.refuse("longest", "is shorter than retry.first; as long or longer is allowed".to_owned())
        );
    }
    if retry.give_up < retry.first {
        return Err(
            table.refuse("give_up", "is shorter than retry.first; as long or longer is allowed".to_owned())
        );
    }
    if retry.hold < retry.give_up {
        return Err(
            table.refuse("hold", "is shorter than retry.give_up; as long or longer is allowed".to_owned())
        );
    }
    Ok(retry)
}

fn limits(table: &Table<'_>) -> Result<Limits, ConfigError> {
    let octets_max = limits::MESSAGE_OCTETS;
    let octets = table.read("message_size", |value| values::size(value, MESSAGE_OCTETS_MIN, octets_max))?;
    let sessions = table.read("sessions", |value| values::capacity(value, limits::RECEIVER_SESSIONS))?;
    let sessions = sessions.unwrap_or(limits::RECEIVER_SESSIONS);
    let of_client = table
        .read("sessions_per_client", |value| values::count(value, 1..=sessions, "within limits.sessions"))?;
    let timeout = |key| {
        let given = table.read(key, |value| values::duration(value, DAY_S));
        given.map(|given| given.unwrap_or(Duration::from_min(5)))
    };
    Ok(Limits {
        message_octets: octets.unwrap_or(octets_max),
        sessions,
        sessions_per_client: of_client.unwrap_or(sessions),
        command_timeout: timeout("command_timeout")?,
        data_timeout: timeout("data_timeout")?,
    })
}

fn quirks(table: &Table<'_>) -> Result<Quirks, ConfigError> {
    let bare_lf = table.read("bare_lf", |value| values::choice(value, &["repair", "refuse"]))?;
    Ok(Quirks { bare_lf: if bare_lf == Some(1) { BareLf::Refuse } else { BareLf::Repair } })
}
