//! Who may relay, and where mail for local names goes.
//!
//! A client is judged by its address alone; a recipient by the domain behind the last `@`, so that no trick
//! with `%`, `!`, quotes or source routes in the local-part changes the verdict (the path's grammar has
//! settled that before).

use core::net::IpAddr;

use crate::config::{Config, Network};
use crate::limits::PATH_OCTETS_MAX;
use crate::smtp::path::{ForwardPath, Mailbox, is_postmaster};

/// The client at the other end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address; an IPv4-mapped one is held as IPv4.
    pub address: IpAddr,
    /// It is in a connected prefix of the address that accepted it.
    pub is_on_link: bool,
}

/// Why a recipient is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientRefusal {
    /// The client is in no network of `allow`: 550 5.7.1.
    MayNotRelay,
    /// The name is local and `admin` is not set: 550 5.1.1.
    NoAdmin,
}

impl Peer {
    /// The client at `address`, IPv4-mapped or not.
    pub fn new(address: IpAddr, is_on_link: bool) -> Self {
        Self { address: address.to_canonical(), is_on_link }
    }

    /// True when one of the networks in `allow` has the client.
    pub fn may_relay(&self, allow: &[Network]) -> bool {
        allow.iter().any(|network| match *network {
            Network::Loopback => self.address.is_loopback(),
            Network::OnLink => self.is_on_link,
            Network::Prefix { address, bits } => is_within(self.address, address, bits),
        })
    }
}

/// The forward-path that a recipient's mail is relayed to, without angle brackets.
///
/// Mail for local names goes to `admin`; postmaster is one for everybody (RFC 5321 4.5.1), the others for
/// clients that may relay.
pub fn relayed_path(
    forward_path: ForwardPath,
    peer: &Peer,
    config: &Config,
) -> Result<heapless::Vec<u8, PATH_OCTETS_MAX>, RecipientRefusal> {
    let is_local = match &forward_path {
        ForwardPath::Postmaster => return admin(config),
        ForwardPath::Unqualified(_) => true,
        ForwardPath::Mailbox(mailbox) => is_local(mailbox, config),
    };
    match forward_path {
        ForwardPath::Mailbox(mailbox) if is_local && is_postmaster(mailbox.local_part()) => admin(config),
        _ if !peer.may_relay(&config.allow) => Err(RecipientRefusal::MayNotRelay),
        ForwardPath::Mailbox(mailbox) if !is_local => Ok(mailbox.into_octets()),
        ForwardPath::Mailbox(_) | ForwardPath::Unqualified(_) | ForwardPath::Postmaster => admin(config),
    }
}

/// `localhost` is what cron on an unconfigured board makes of its own name.
fn is_local(mailbox: &Mailbox, config: &Config) -> bool {
    let is = |name: &str| mailbox.domain().eq_ignore_ascii_case(name.as_bytes());
    is(&config.hostname) || is("localhost")
}

fn admin(config: &Config) -> Result<heapless::Vec<u8, PATH_OCTETS_MAX>, RecipientRefusal> {
    let admin = config.admin.as_deref().ok_or(RecipientRefusal::NoAdmin)?;
    heapless::Vec::from_slice(admin.as_bytes()).map_err(|_| RecipientRefusal::NoAdmin)
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
    }
}
