//! What the kernel tells of links, addresses and routes (rtnetlink(7)), and which of it is news: something
//! came up that did not stand before.
//!
//! A link is told of again whenever its radio has something to say, an address whenever a router advertises
//! it. So what stands is remembered, by its CRC-32; where that is too much, or two things have the same, it
//! costs a try too many or one too few.

use crc32fast::Hasher;
use heapless::Vec;

/// Links and addresses that are remembered, the last ones.
const STANDING_MAX: usize = 32;
/// Attributes read of an address.
const ATTRIBUTES_MAX: usize = 16;

/// The length of the head of a message, `struct nlmsghdr`.
const HEAD_OCTETS: usize = 16;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;

/// Up, and something at the other end.
const IFF_RUNNING: u32 = 0x40;
/// Nobody knows yet whether another one has the address.
const IFA_F_TENTATIVE: u8 = 0x40;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTN_UNICAST: u8 = 1;
/// A note of the kernel's about one destination: old ones make it for each connection, ours too.
const RTM_F_CLONED: u32 = 0x200;

/// The links and addresses that stand, as far as they were told of.
#[derive(Debug, Default)]
pub(super) struct Standing {
    digests: Vec<u32, STANDING_MAX>,
}

impl Standing {
    /// True when a message of `datagram` is news. What was cut off counts for nothing.
    pub(super) fn learns_from(&mut self, datagram: &[u8]) -> bool {
        let (mut rest, mut is_news) = (datagram, false);
        while let Some((head, behind)) = rest.split_first_chunk::<HEAD_OCTETS>() {
            let kind = u16::from_ne_bytes([head[4], head[5]]);
            let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
            // One that is shorter than its head is none.
            let Some(body_octets) = length.checked_sub(HEAD_OCTETS) else { break };
            is_news |= self.learns(kind, &behind[..body_octets.min(behind.len())]).unwrap_or(false);
            // Each message begins at a multiple of four.
            let next = body_octets.checked_next_multiple_of(4);
            rest = next.and_then(|next| behind.get(next..)).unwrap_or_default();
        }
        is_news
    }

    /// Something was told that we don't know: all may be news again.
    pub(super) fn forget(&mut self) {
        self.digests.clear();
    }

    fn learns(&mut self, kind: u16, body: &[u8]) -> Option<bool> {
        match kind {
            RTM_NEWLINK | RTM_DELLINK => {
                let is_running = number(body, 8)? & IFF_RUNNING != 0;
                // Those of a family are about a port of a bridge or the like.
                let is_link = body[0] == 0;
                Some(is_link && self.stands(digest(&[&[0], &body[4..8]]), kind == RTM_NEWLINK && is_running))
            }
            RTM_NEWADDR | RTM_DELADDR => {
                let (head, attributes) = body.split_first_chunk::<8>()?;
                let is_usable = kind == RTM_NEWADDR && head[2] & IFA_F_TENTATIVE == 0;
                Some(self.stands(digest_of_address(head, attributes), is_usable))
            }
            RTM_NEWROUTE => Some(number(body, 8)? & RTM_F_CLONED == 0 && body[7] == RTN_UNICAST),
            _ => None,
        }
    }

    /// True when it stands now and did not before.
    fn stands(&mut self, digest: u32, is_up: bool) -> bool {
        let at = self.digests.iter().position(|known| *known == digest);
        if let Some(at) = at
            && !is_up
        {
            self.digests.remove(at);
        }
        if at.is_some() || !is_up {
            return false;
        }
        if self.digests.is_full() {
            self.digests.remove(0);
        }
        self.digests.push(digest).expect("room was made");
        true
    }
}

/// By family, prefix, interface and address, and by nothing that a router's advertisement changes.
fn digest_of_address(head: &[u8; 8], attributes: &[u8]) -> u32 {
    let (mut rest, mut found) = (attributes, [&[][..]; 2]);
    for _ in 0..ATTRIBUTES_MAX {
        let Some(([length_0, length_1, kind_0, kind_1], _)) = rest.split_first_chunk::<4>() else { break };
        let length = usize::from(u16::from_ne_bytes([*length_0, *length_1]));
        let Some(value) = rest.get(4..length) else { break };
        match u16::from_ne_bytes([*kind_0, *kind_1]) {
            IFA_ADDRESS => found[0] = value,
            IFA_LOCAL => found[1] = value,
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    digest(&[&[1], &head[..2], &head[4..], found[0], found[1]])
}

fn digest(parts: &[&[u8]]) -> u32 {
    let mut hasher = Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

fn number(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..)?.first_chunk().map(|octets| u32::from_ne_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTM_DELROUTE: u16 = 25;
    const IFF_UP: u32 = 1;

    /// A message of this kind, as it stands in a datagram.
    fn message(kind: u16, body: &[u8]) -> std::vec::Vec<u8> {
        let mut octets = ((HEAD_OCTETS + body.len()) as u32).to_ne_bytes().to_vec();
        octets.extend(kind.to_ne_bytes());
        octets.resize(HEAD_OCTETS, 0xff);
        octets.extend(body);
        octets.resize(octets.len().next_multiple_of(4), 0xff);
        octets
    }

    fn link(kind: u16, index: u32, flags: u32, more: &[u8]) -> std::vec::Vec<u8> {
        let fixed = [&[0, 0, 1, 0][..], &index.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 4]];
        message(kind, &[&fixed.concat(), more].concat())
    }

    /// With IFA_CACHEINFO first, which is `seconds` this time.
    fn address(kind: u16, index: u32, flags: u8, address: [u8; 4], seconds: u32) -> std::vec::Vec<u8> {
        let attribute = |kind: u16, value: &[u8]| {
            let length = u16::try_from(4 + value.len()).unwrap();
            [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
        };
        let fixed = [&[2, 24, flags, 0][..], &index.to_ne_bytes()].concat();
        let attributes = [attribute(6, &seconds.to_ne_bytes()), attribute(IFA_LOCAL, &address)].concat();
        message(kind, &[fixed, attributes].concat())
    }

    fn route(kind: u16, what: u8, flags: u32) -> std::vec::Vec<u8> {
        message(kind, &[&[2, 0, 0, 0, 254, 3, 0, what][..], &flags.to_ne_bytes()].concat())
    }

    #[test]
    fn a_link_is_news_when_it_begins_to_run() {
        let mut standing = Standing::default();
        assert!(!standing.learns_from(&link(RTM_NEWLINK, 3, IFF_UP, &[])));
        assert!(standing.learns_from(&link(RTM_NEWLINK, 3, IFF_UP | IFF_RUNNING, &[])));
        for second in 0..1000_u32 {
            let radio = link(RTM_NEWLINK, 3, IFF_UP | IFF_RUNNING, &second.to_ne_bytes());
            assert!(!standing.learns_from(&radio), "a wireless event is no news");
        }
        assert!(standing.learns_from(&link(RTM_NEWLINK, 4, IFF_RUNNING, &[])), "another one");
        for gone in [link(RTM_NEWLINK, 3, IFF_UP, &[]), link(RTM_DELLINK, 3, IFF_RUNNING, &[])] {
            assert!(!standing.learns_from(&gone));
            assert!(standing.learns_from(&link(RTM_NEWLINK, 3, IFF_UP | IFF_RUNNING, &[])));
        }
        let port = message(RTM_NEWLINK, &[7, 0, 0, 0, 9, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        assert!(!standing.learns_from(&port));
    }

    #[test]
    fn an_address_is_news_when_it_becomes_usable() {
        let mut standing = Standing::default();
        let here = [192, 0, 2, 1];
        assert!(!standing.learns_from(&address(RTM_NEWADDR, 3, IFA_F_TENTATIVE, here, 1)));
        assert!(standing.learns_from(&address(RTM_NEWADDR, 3, 0, here, 1)));
        assert!(!standing.learns_from(&address(RTM_NEWADDR, 3, 0x80, here, 2)), "advertised again");
        assert!(standing.learns_from(&address(RTM_NEWADDR, 3, 0, [192, 0, 2, 2], 2)), "another one");
        assert!(standing.learns_from(&address(RTM_NEWADDR, 4, 0, here, 2)), "at another interface");
        assert!(!standing.learns_from(&address(RTM_DELADDR, 3, 0, here, 2)));
        assert!(standing.learns_from(&address(RTM_NEWADDR, 3, 0, here, 3)));
        standing.forget();
        assert!(standing.learns_from(&address(RTM_NEWADDR, 3, 0, here, 3)));
    }

    #[test]
    fn a_route_is_news_unless_the_kernel_made_it_for_itself() {
        let mut standing = Standing::default();
        assert!(standing.learns_from(&route(RTM_NEWROUTE, RTN_UNICAST, 0)));
        assert!(standing.learns_from(&route(RTM_NEWROUTE, RTN_UNICAST, 0)));
        assert!(!standing.learns_from(&route(RTM_NEWROUTE, RTN_UNICAST, RTM_F_CLONED)));
        assert!(!standing.learns_from(&route(RTM_NEWROUTE, 2, 0)), "a local one");
        assert!(!standing.learns_from(&route(RTM_DELROUTE, RTN_UNICAST, 0)));
    }

    #[test]
    fn each_message_of_a_datagram_counts() {
        let gone = [route(RTM_DELROUTE, 1, 0), message(3, &[1, 2, 3]), link(RTM_DELLINK, 1, 0, &[])].concat();
        assert!(!Standing::default().learns_from(&gone));
        let came = route(RTM_NEWROUTE, RTN_UNICAST, 0);
        assert!(Standing::default().learns_from(&[gone.clone(), came.clone()].concat()));
        assert!(Standing::default().learns_from(&[came, gone].concat()));
    }

    #[test]
    fn more_links_than_are_remembered_are_news_again() {
        let mut standing = Standing::default();
        for _ in 0..2 {
            for index in 0..=STANDING_MAX as u32 {
                assert!(standing.learns_from(&link(RTM_NEWLINK, index, IFF_RUNNING, &[])));
            }
        }
    }

    #[test]
    fn garbage_is_no_news_and_no_panic() {
        for length in [0, 1, 4, 15, 61, 1 << 20, u32::MAX - 1, u32::MAX] {
            let mut octets = link(RTM_DELLINK, 1, 0, &[0; 28]);
            octets[..4].copy_from_slice(&u32::to_ne_bytes(length));
            octets.extend(route(RTM_NEWROUTE, RTN_UNICAST, 0));
            assert!(!Standing::default().learns_from(&octets), "{length}");
        }
        for whole in [
            link(RTM_NEWLINK, 1, IFF_RUNNING, &[]),
            address(RTM_NEWADDR, 1, 0, [192, 0, 2, 1], 1),
            route(RTM_NEWROUTE, RTN_UNICAST, 0),
        ] {
            for cut in 0..whole.len() {
                Standing::default().learns_from(&whole[..cut]);
                for octet in [0, 1, 3, 0x7f, 0xff] {
                    let mut changed = whole.clone();
                    changed[cut] = octet;
                    Standing::default().learns_from(&changed);
                }
            }
        }
    }
}
