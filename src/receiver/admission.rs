//! Who may relay, and where mail for local names goes.
//!
//! A client is judged by its address alone; a recipient by the domain behind the last `@`, so that no trick
//! with `%`, `!`, quotes or source routes in the local-part changes the verdict (the path's grammar has
//! settled that before).

use core::net::IpAddr;

use super::ledger::Ledger;
use super::users::Users;
use crate::config::{self, Config, Network, RelayTo};
use crate::limits::PATH_OCTETS_MAX;
use crate::smtp::path::{ForwardPath, Mailbox, ReversePath, is_postmaster};
use crate::smtp::trace::Origin;

/// What all sessions share: who may log in, and what is remembered of clients.
#[derive(Debug, Default)]
pub struct Admission {
    /// Who may log in.
    pub users: Users,
    /// What each client did.
    pub ledger: Ledger,
}

/// The client at the other end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub origin: Origin,
    /// It is in a connected prefix of the address that accepted it.
    pub is_on_link: bool,
    /// The entry of `listen` that it came in by, or [`NO_LISTENER`].
    pub listener: u8,
}

/// Where a client came in by none of `listen`.
pub const NO_LISTENER: u8 = u8::MAX;
const _: () = assert!(config::LISTEN_COUNT_MAX <= NO_LISTENER as usize);

/// Why a recipient is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientRefusal {
    /// The client is in no network of `allow`, and hasn't logged in: 550 5.7.1, or 530 5.7.0 where it could.
    MayNotRelay,
    /// The name is local and `admin` is not set: 550 5.1.1.
    NoAdmin,
    /// The recipient is not in `relay_to`: 550 5.7.1.
    NotRelayedTo,
    /// The recipient has no domain, and with `domain` it would be too long: 501.
    TooLong,
}

impl Peer {
    /// The client at `address`, IPv4-mapped or not, which came in by the first entry of `listen`.
    pub fn new(address: IpAddr, is_on_link: bool) -> Self {
        Self { origin: address.into(), is_on_link, listener: 0 }
    }

    /// A user of this machine, who came by the submission socket.
    pub fn local(uid: u32) -> Self {
        Self { origin: Origin::User(uid), is_on_link: false, listener: NO_LISTENER }
    }

    /// True for a user of this machine.
    pub fn is_local(&self) -> bool {
        matches!(self.origin, Origin::User(_))
    }

    /// The same, come in by that entry of `listen`.
    #[must_use]
    pub fn by(self, listener: u8) -> Self {
        Self { listener, ..self }
    }

    /// True when one of the networks in `allow` has the client, and for our own users.
    pub fn may_relay(&self, allow: &[Network]) -> bool {
        let Origin::Address(client) = self.origin else { return true };
        allow.iter().any(|network| match *network {
            Network::Loopback => client.is_loopback(),
            Network::OnLink => self.is_on_link,
            Network::Prefix { address, bits } => is_within(client, address, bits),
        })
    }
}

type Path = heapless::Vec<u8, PATH_OCTETS_MAX>;

/// The forward-path that a recipient's mail is relayed to, without angle brackets. `may_relay` says that the
/// client is one of ours.
///
/// Mail for local names goes where `aliases` says, else to `admin`; postmaster is one for everybody (RFC 5321
/// 4.5.1), the others for clients that may relay. A name without a domain that is neither an alias nor
/// postmaster gets `domain`.
pub fn relayed_path(
    forward_path: ForwardPath,
    may_relay: bool,
    config: &Config,
) -> Result<Path, RecipientRefusal> {
    let mailbox = match forward_path {
        ForwardPath::Postmaster => return local(b"postmaster", config),
        _ if !may_relay && !is_our_postmaster(&forward_path, config) => {
            return Err(RecipientRefusal::MayNotRelay);
        }
        ForwardPath::Mailbox(mailbox) => mailbox,
        ForwardPath::Unqualified(name) => match &config.domain {
            Some(domain) if alias(name.octets(), config).is_none() => {
                name.at(domain).ok_or(RecipientRefusal::TooLong)?
            }
            _ => return local(name.octets(), config),
        },
    };
    if is_ours(&mailbox, config) {
        return local(mailbox.local_part(), config);
    }
    if !is_relayed_to(&mailbox, &config.relay_to) {
        return Err(RecipientRefusal::NotRelayedTo);
    }
    Ok(mailbox.into_octets())
}

/// The reverse-path of a message, without angle brackets; `None` when it has no domain and gets none. A user
/// of this machine has it here, where nothing else is set.
pub fn completed(reverse_path: &ReversePath, peer: &Peer, may_relay: bool, config: &Config) -> Option<Path> {
    match reverse_path {
        ReversePath::Null => Some(Path::new()),
        ReversePath::Mailbox(mailbox) => Some(mailbox.clone().into_octets()),
        ReversePath::Unqualified(name) => {
            let here = peer.is_local().then_some(config.hostname.as_str());
            let domain = config.domain.as_deref().filter(|_| may_relay).or(here)?;
            name.at(domain).map(Mailbox::into_octets)
        }
    }
}

fn is_our_postmaster(forward_path: &ForwardPath, config: &Config) -> bool {
    match forward_path {
        ForwardPath::Postmaster => true,
        ForwardPath::Unqualified(_) => false,
        ForwardPath::Mailbox(mailbox) => is_ours(mailbox, config) && is_postmaster(mailbox.local_part()),
    }
}

/// `localhost` is what cron on an unconfigured board makes of its own name.
fn is_ours(mailbox: &Mailbox, config: &Config) -> bool {
    let is = |name: &str| mailbox.domain().eq_ignore_ascii_case(name.as_bytes());
    is(&config.hostname) || is("localhost")
}

/// Judged by what stands behind the last `@` alone, or by the whole address.
fn is_relayed_to(mailbox: &Mailbox, relay_to: &[RelayTo]) -> bool {
    let domain = mailbox.domain();
    let is_same = |entry: &RelayTo| match entry {
        RelayTo::Domain(name) => domain.eq_ignore_ascii_case(name.as_bytes()),
        RelayTo::Below(suffix) => domain
            .len()
            .checked_sub(suffix.len())
            .is_some_and(|at| at > 0 && domain[at..].eq_ignore_ascii_case(suffix.as_bytes())),
        RelayTo::Mailbox(address) => address.rsplit_once('@').is_some_and(|(name, of)| {
            mailbox.local_part() == name.as_bytes() && domain.eq_ignore_ascii_case(of.as_bytes())
        }),
    };
    relay_to.is_empty() || relay_to.iter().any(is_same)
}

/// Where the mail of a local name goes.
fn local(name: &[u8], config: &Config) -> Result<Path, RecipientRefusal> {
    let address = alias(name, config).or(config.admin.as_deref()).ok_or(RecipientRefusal::NoAdmin)?;
    Path::from_slice(address.as_bytes()).map_err(|_| RecipientRefusal::NoAdmin)
}

fn alias<'a>(name: &[u8], config: &'a Config) -> Option<&'a str> {
    let found = config.aliases.iter().find(|alias| alias.name.as_bytes().eq_ignore_ascii_case(name));
    found.map(|alias| alias.address.as_str())
}

/// True when the first `bits` of both addresses, of one family, are the same.
fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (address.to_bits().into(), network.to_bits().into(), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let host_bits = u32::saturating_sub(width, bits.into());
    let differing: u128 = address ^ network;
    differing.checked_shr(host_bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str, is_on_link: bool) -> Peer {
        Peer::new(address.parse().unwrap(), is_on_link)
    }

    fn prefix(address: &str, bits: u8) -> Network {
        Network::Prefix { address: address.parse().unwrap(), bits }
    }

    #[test]
    fn networks() {
        let may = |peer: Peer, network| peer.may_relay(&[network]);
        assert!(may(peer("::ffff:127.0.0.1", false), Network::Loopback));
        assert!(may(peer("::1", false), Network::Loopback));
        assert!(!may(peer("192.0.2.1", false), Network::Loopback));
        assert!(may(peer("192.0.2.1", true), Network::OnLink));
        assert!(!may(peer("192.0.2.1", false), Network::OnLink));
        assert!(may(peer("::ffff:192.0.2.255", false), prefix("192.0.2.0", 24)));
        assert!(!may(peer("192.0.3.0", true), prefix("192.0.2.0", 24)));
        assert!(may(peer("192.0.2.1", false), prefix("192.0.2.1", 32)));
        assert!(!may(peer("192.0.2.0", false), prefix("192.0.2.1", 32)));
        assert!(may(peer("8.8.8.8", false), prefix("0.0.0.0", 0)));
        assert!(!may(peer("2001:db8::1", false), prefix("0.0.0.0", 0)));
        assert!(may(peer("2001:db8::1", false), prefix("2001:db8::", 32)));
        assert!(may(peer("2001:db8::1", false), prefix("::", 0)));
        assert!(!may(peer("2001:db9::1", false), prefix("2001:db8::", 32)));
        assert!(!peer("127.0.0.1", true).may_relay(&[]));
        assert!(Peer::local(65_534).may_relay(&[]));
    }
}
