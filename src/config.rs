//! The run-time configuration: a TOML file -> a valid [`Config`], or a message that names file, line, key and what is allowed.
use core::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::time::Duration;

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

/// The next hop.
#[derive(Clone, Debug)]
pub struct Smarthost {
    /// A name or an address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Connections at once, at most the board's.
    pub connections: usize,
    /// Extensions to overlook though they are offered, in upper case.
    pub discard: Vec<String>,
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
