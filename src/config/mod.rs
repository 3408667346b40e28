//! The run-time configuration: a TOML file -> a valid [`Config`], or one line that names file, line, key and
//! what is allowed.
//!
//! Nothing is read here but the text: the caller reads the file, the system's name and the environment. A
//! `Config` that exists is whole and consistent: no open relay, no capacity above the board's, no smarthost
//! that is this relay itself. A key that this version doesn't act on is refused, never passed over (`keys`
//! has them all).

mod file;
mod folders;
mod keys;
mod listener;
mod oauth2;
mod run_as;
mod smarthost;
mod values;

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::smtp::path::is_domain;
use crate::smtp::quirk::Quirk;
use crate::time::Duration;
use crate::{limits, smtp};
use file::{File, Table};

pub use folders::{Folder, Folders};
pub use listener::{Auth, KeyPair, Listen, Listener, ListenerTls};
pub use oauth2::{Granted, Oauth2};
pub use run_as::RunAs;
pub use smarthost::{Login, Mechanism, SecretFile, Smarthost, TlsPolicy, USER_OCTETS_MAX};

/// The file that is read when none is named.
pub const PATH_DEFAULT: &str = "/etc/postern.toml";
/// Octets of the largest file that is read; README's example with every key has about 1,500.
pub const FILE_OCTETS_MAX: u64 = 64 * 1024;
/// Entries of `listen`.
pub const LISTEN_COUNT_MAX: usize = 8;
/// Entries of `allow`.
pub const ALLOW_COUNT_MAX: usize = 32;
/// Entries of `relay_to`.
pub const RELAY_TO_COUNT_MAX: usize = 64;
/// Entries of `aliases`.
pub const ALIASES_COUNT_MAX: usize = 64;
/// Entries of `users`.
pub const USERS_COUNT_MAX: usize = 16;
/// Octets of the smallest share: a message of [`MESSAGE_OCTETS_MIN`], and what the spool keeps back.
const SHARE_OCTETS_MIN: u64 = MESSAGE_OCTETS_MIN + 32 * 1024;
/// Hundredths of the spool that one client's mail may hold, when nothing else is set.
const SPOOL_SHARE_PERCENT_DEFAULT: u8 = 50;
/// Octets of the smallest spool: one message of the smallest size that RFC 5321 4.5.3.1.7 asks for, and room
/// to move.
pub const SPOOL_OCTETS_MIN: u64 = 256 * 1024;
/// Octets of the smallest message limit (RFC 5321 4.5.3.1.7).
pub const MESSAGE_OCTETS_MIN: u64 = 64 * 1024;
/// Octets of a block of the spool, of which its size is a multiple.
const BLOCK_OCTETS: u64 = limits::BLOCK_OCTETS as u64;

/// Where the sockets for programs of this machine are.
const SOCKETS_FOLDER: &str = "/run/postern";
const CONTROL_NAME: &str = "control.sock";
const SUBMIT_NAME: &str = "submit.sock";
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
    /// What unqualified addresses of our own devices are completed with.
    pub domain: Option<String>,
    /// Whom to become once the ports are bound.
    pub run_as: Option<RunAs>,
    /// What the receiver listens on, and what it offers there.
    pub listen: Vec<Listener>,
    /// Who may relay.
    pub allow: Vec<Network>,
    /// What may be relayed to; empty: everything.
    pub relay_to: Vec<RelayTo>,
    /// Who gets the mail of local names, before `admin`.
    pub aliases: Vec<Alias>,
    /// Who we are where a listener has TLS.
    pub listener_tls: Option<KeyPair>,
    /// Who may log in where AUTH is offered.
    pub users: Vec<User>,
    /// The reverse-path that mail leaves with instead of its own, unless that is null.
    pub sender_envelope: Option<String>,
    /// The address that stands in From when mail leaves.
    pub sender_header_from: Option<String>,
    /// The names of our own network are kept out of Received (seed 7.5).
    pub hide_received: bool,
    /// Where the mail goes, the preferred one first; at least one, at most [`limits::SMARTHOSTS`].
    pub smarthosts: Vec<Smarthost>,
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
    /// Where the administrator's tools ask.
    pub control: SocketPath,
    /// Where programs of this machine hand their mail in.
    pub submit: SocketPath,
}

/// A socket for programs of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketPath {
    /// Its path.
    pub path: PathBuf,
    /// The file names it; else a relay that can't have it goes without.
    pub is_given: bool,
}

/// Why a file is no configuration. Displays as one line: `FILE:LINE: KEY: what is wrong; what is allowed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    path: PathBuf,
    line: usize,
    key: String,
    what: String,
}

/// One entry of `relay_to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayTo {
    /// Exactly this domain.
    Domain(String),
    /// Every domain below; with its first dot.
    Below(String),
    /// This mailbox.
    Mailbox(String),
}

/// One entry of `aliases`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// A local-part, compared without case.
    pub name: String,
    /// `local-part@domain`.
    pub address: String,
}

/// One entry of `users`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// At most [`crate::smtp::login::USER_OCTETS_MAX`] octets.
    pub name: String,
    /// Where the password is.
    pub password_file: PathBuf,
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Messages that one client may begin in a minute; none: any number.
    pub messages_per_minute: Option<u32>,
    /// Hundredths of the spool's blocks that one client's mail may hold.
    pub spool_share_percent: u8,
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
    /// The others, those that are taken.
    pub tolerated: smtp::quirk::Quirks,
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
        Self::parse_in(text, path, system_name, &Folders::default())
    }

    /// The same, with a supervisor's `folders`.
    ///
    /// # Errors
    /// As above.
    pub fn parse_in(
        text: &str,
        path: &Path,
        system_name: &str,
        folders: &Folders,
    ) -> Result<Self, ConfigError> {
        let file = File { path, text, folders };
        let root = file.parse()?;
        let root = root.get_ref();
        file.check_keys(root)?;
        let top = file.table(root, "");

        let hostname = hostname(&top, system_name)?;
        top.read("log_to", |value| match values::choice(value, &["stderr", "syslog"])? {
            0 => Ok(()),
            _ => Err("this version logs to stderr only; set log_to = \"stderr\" or leave it out".to_owned()),
        })?;
        let listen = top.read_list("listen", LISTEN_COUNT_MAX, listener::entry)?;
        let listen = listen.unwrap_or_else(|| {
            let listen = Listen::Address(SocketAddr::from(([127, 0, 0, 1], 25)));
            vec![Listener { listen, tls: ListenerTls::None, auth: Auth::Absent }]
        });
        if listen.is_empty() {
            return Err(top.refuse("listen", "is empty; name one \"address:port\" at least".to_owned()));
        }
        let allow = top.read_list("allow", ALLOW_COUNT_MAX, values::network)?;
        if !root.contains_key("smarthost") {
            let what = "is missing; write [smarthost] on a line, and host, user and password_file below";
            return Err(top.refuse("smarthost", what.to_owned()));
        }
        let smarthosts = smarthost::read_all(&file.tables(root, "smarthost"), &hostname, &listen)?;
        let users = file
            .table(root, "users")
            .read_all(USERS_COUNT_MAX, |name, value| values::user(name, value, &folders.credentials))?;
        listener::check_logins(&top, &listen, &users)?;
        let tls = file.table(root, "listener_tls");
        let listener_tls = listener::key_pair(&tls, &top, &listen, smarthost::tls_connections(&smarthosts))?;
        let spool = spool(&file.table(root, "spool"))?;
        let limits = limits(&file.table(root, "limits"), spool.octets)?;
        let control = control(&file.table(root, "control"))?;
        let sender = file.table(root, "sender");
        let clock = file.table(root, "clock");
        let clock = clock.read("untrusted", |value| values::choice(value, &["wait", "ignore-dates"]))?;
        Ok(Self {
            admin: top.read("admin", values::mailbox)?,
            domain: top.read("domain", values::domain)?,
            run_as: top.read("run_as", run_as::run_as)?,
            relay_to: top.read_list("relay_to", RELAY_TO_COUNT_MAX, values::relay_to)?.unwrap_or_default(),
            aliases: file.table(root, "aliases").read_all(ALIASES_COUNT_MAX, values::alias)?,
            listener_tls,
            users,
            sender_envelope: sender.read("envelope", values::mailbox)?,
            sender_header_from: sender.read("header_from", values::mailbox)?,
            hide_received: sender.read("hide_received", values::truth)?.unwrap_or(false),
            allow: allow.unwrap_or_else(|| vec![Network::Loopback, Network::OnLink]),
            announce: top.read("announce", values::truth)?.unwrap_or(true),
            log: top.read("log", values::log_filter)?.unwrap_or_else(|| "info".to_owned()),
            spool,
            retry: retry(&file.table(root, "retry"))?,
            limits,
            quirks: quirks(&file.table(root, "quirks"))?,
            clock: if clock == Some(1) { UntrustedClock::IgnoreDates } else { UntrustedClock::Wait },
            submit: submit(&file.table(root, "submit"), &control.path)?,
            control,
            hostname,
            listen,
            smarthosts,
        })
    }

    /// Clients that may speak TLS at once: what the smarthosts' connections leave of the board's capacity.
    pub fn tls_clients_max(&self) -> usize {
        limits::TLS_CONNECTIONS.saturating_sub(smarthost::tls_connections(&self.smarthosts))
    }

    /// True when any interface's neighbours may relay although nobody named one: worth a warning at start.
    pub fn is_on_link_everywhere(&self) -> bool {
        let is_everywhere = |listener: &Listener| match listener.listen {
            Listen::Address(address) => address.ip().is_unspecified(),
            Listen::Interface { .. } => false,
        };
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

fn hostname(top: &Table<'_>, system_name: &str) -> Result<String, ConfigError> {
    match top.read("hostname", values::domain)? {
        Some(name) => Ok(name),
        None if is_domain(system_name.as_bytes()) => Ok(system_name.to_owned()),
        None => {
            let what = format!("the system's name {system_name:?} is no domain name; set hostname");
            Err(top.refuse("hostname", what))
        }
    }
}

fn spool(table: &Table<'_>) -> Result<Spool, ConfigError> {
    let octets_board = limits::SPOOL_BLOCKS as u64 * BLOCK_OCTETS;
    let octets = table.read("size", |value| values::size(value, SPOOL_OCTETS_MIN, octets_board))?;
    let octets = octets.unwrap_or(SPOOL_OCTETS_DEFAULT.min(octets_board));
    let path = table.read("path", |value| values::path_in(value, &table.folders().state))?;
    Ok(Spool {
        path: path.unwrap_or_else(|| SPOOL_PATH_DEFAULT.into()),
        octets: octets - octets % BLOCK_OCTETS,
        volatile: table.read("volatile", values::truth)?.unwrap_or(false),
    })
}

fn control(table: &Table<'_>) -> Result<SocketPath, ConfigError> {
    let given = table.read("path", values::socket_path)?;
    let is_given = given.is_some();
    Ok(SocketPath { path: given.unwrap_or_else(|| Path::new(SOCKETS_FOLDER).join(CONTROL_NAME)), is_given })
}

/// Beside the control socket, when nothing else is set.
fn submit(table: &Table<'_>, control_path: &Path) -> Result<SocketPath, ConfigError> {
    let given = table.read("path", values::socket_path)?;
    let is_given = given.is_some();
    Ok(SocketPath { path: given.unwrap_or_else(|| control_path.with_file_name(SUBMIT_NAME)), is_given })
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

fn limits(table: &Table<'_>, spool_octets: u64) -> Result<Limits, ConfigError> {
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
    let spool_share_percent = table.read("spool_share", values::percent)?;
    let spool_share_percent = spool_share_percent.unwrap_or(SPOOL_SHARE_PERCENT_DEFAULT);
    let share = spool_octets * u64::from(spool_share_percent) / 100;
    if share < SHARE_OCTETS_MIN {
        let what = format!(
            "leaves one client {share} octets of the spool; {SHARE_OCTETS_MIN} or more are allowed, \
             with a larger share or a larger spool.size"
        );
        return Err(table.refuse("spool_share", what));
    }
    Ok(Limits {
        message_octets: octets.unwrap_or(octets_max),
        sessions,
        sessions_per_client: of_client.unwrap_or(sessions),
        messages_per_minute: table
            .read("messages_per_minute", |value| values::count(value, 1..=100_000, "messages"))?
            .map(|count| count as u32),
        spool_share_percent,
        command_timeout: timeout("command_timeout")?,
        data_timeout: timeout("data_timeout")?,
    })
}

fn quirks(table: &Table<'_>) -> Result<Quirks, ConfigError> {
    let bare_lf = table.read("bare_lf", |value| values::choice(value, &["repair", "refuse"]))?;
    let mut tolerated = smtp::quirk::Quirks::ALL;
    for quirk in [
        Quirk::MissingBrackets,
        Quirk::SpaceAfterColon,
        Quirk::HeloJunk,
        Quirk::LongLines,
        Quirk::AuthLogin,
        Quirk::MissingFields,
    ] {
        if table.read(quirk.name(), values::truth)? == Some(false) {
            tolerated.remove(quirk);
        }
    }
    Ok(Quirks { bare_lf: if bare_lf == Some(1) { BareLf::Refuse } else { BareLf::Repair }, tolerated })
}
