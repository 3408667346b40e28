//! Tells when the network comes up or becomes another one: links, addresses and routes, as the kernel tells
//! them (rtnetlink).
//!
//! A change is told once things have been quiet for [`SETTLED_AFTER`], and at most each [`TOLD_EVERY`], so
//! that a link that flaps costs next to nothing. Without a change nothing wakes up.
//!
//! Absent on purpose: what the change was. Whatever came up may lead to a smarthost; that is for a try to
//! find out.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::{Errno, Result, read};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use crate::time::{Duration, Instant};

/// How long nothing must change until a change is told.
const SETTLED_AFTER: Duration = Duration::from_s(2);
/// How long it is not told again then; and how long it is put off while changes go on.
const TOLD_EVERY: Duration = Duration::from_s(10);
/// Datagrams read in one turn; what is left is read when the change is told.
const READS_MAX: usize = 64;
/// Of a datagram, one message as a rule; what decides stands at its start.
const DATAGRAM_OCTETS_MAX: usize = 1024;

/// RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR and _IPV6_ROUTE.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// The length of the head of a message, `struct nlmsghdr`.
const HEAD_OCTETS: usize = 16;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;

/// The kernel's news.
#[derive(Debug)]
pub(super) struct Network {
    socket: Option<OwnedFd>,
    pace: Pace,
}

impl Network {
    /// Has `token` told of news; without any where the kernel has none for us.
    pub(super) fn watch(registry: &Registry, token: Token) -> Self {
        let socket = open(registry, token).inspect_err(|error| {
            log::debug!("can't watch the network: {error}");
        });
        Self { socket: socket.ok(), pace: Pace::default() }
    }

    /// There is news; it is read, up to a bound.
    pub(super) fn told(&mut self, now: Instant) {
        let Some(socket) = &self.socket else { return };
        let mut octets = [0; DATAGRAM_OCTETS_MAX];
        for _ in 0..READS_MAX {
            match read(socket, &mut octets[..]) {
                Ok(count) if !tells_change(&octets[..count]) => {}
                Err(Errno::INTR) => {}
                // ENOBUFS: news was lost, so that it may have been one of ours.
                Ok(_) | Err(Errno::NOBUFS) => self.pace.changed(now),
                Err(_) => return,
            }
        }
        // The poll doesn't tell again what is left, so it is read when the pace has its turn.
        self.pace.changed(now);
    }

    /// True once when a change is to be acted on.
    pub(super) fn has_changed(&mut self, now: Instant) -> bool {
        let has_changed = self.pace.has_turn(now);
        if has_changed {
            self.told(now);
        }
        has_changed
    }

    /// When [`Network::has_changed`] wants to be asked; `None`: not before the next news.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pace.due
    }
}

fn open(registry: &Registry, token: Token) -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = subscribed(flags)?;
    registry.register(&mut SourceFd(&socket.as_fd().as_raw_fd()), token, Interest::READABLE)?;
    Ok(socket)
}

fn subscribed(flags: SocketFlags) -> Result<OwnedFd> {
    // The protocol of number 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    Ok(socket)
}

/// True when a message of `datagram` tells of something that came up or became another. A message that was
/// cut counts as what its head says.
fn tells_change(datagram: &[u8]) -> bool {
    let mut rest = datagram;
    while let Some((head, _)) = rest.split_first_chunk::<HEAD_OCTETS>() {
        let kind = u16::from_ne_bytes([head[4], head[5]]);
        if matches!(kind, RTM_NEWLINK | RTM_NEWADDR | RTM_NEWROUTE) {
            return true;
        }
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        // Each message begins at a multiple of four; one shorter than its head is none.
        let next = length.checked_next_multiple_of(4).filter(|next| *next >= HEAD_OCTETS);
        rest = next.and_then(|next| rest.get(next..)).unwrap_or_default();
    }
    false
}

/// When a change is told.
#[derive(Debug, Default)]
struct Pace {
    /// Of the change that waits.
    due: Option<Instant>,
    /// The latest for that, however things go on.
    latest: Instant,
    /// Nothing is told before.
    rests_until: Instant,
}

impl Pace {
    fn changed(&mut self, now: Instant) {
        if self.due.is_none() {
            self.latest = now + TOLD_EVERY;
        }
        self.due = Some((now + SETTLED_AFTER).min(self.latest).max(self.rests_until));
    }

    fn has_turn(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = None;
            self.rests_until = now + TOLD_EVERY;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTM_DELLINK: u16 = 17;
    const RTM_DELADDR: u16 = 21;
    const RTM_DELROUTE: u16 = 25;

    /// A message of this kind with a body of so many octets.
    fn message(kind: u16, body_octets: usize) -> Vec<u8> {
        let length = (HEAD_OCTETS + body_octets) as u32;
        let mut octets = length.to_ne_bytes().to_vec();
        octets.extend(kind.to_ne_bytes());
        octets.resize((HEAD_OCTETS + body_octets).next_multiple_of(4), 0xff);
        octets
    }

    #[test]
    fn what_comes_up_is_a_change_and_what_goes_is_none() {
        for kind in [RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE] {
            assert!(tells_change(&message(kind, 60)), "{kind}");
            assert!(tells_change(&message(kind, 60)[..HEAD_OCTETS]), "{kind}, cut behind its head");
            assert!(!tells_change(&message(kind, 60)[..HEAD_OCTETS - 1]), "{kind}, cut in its head");
        }
        // NLMSG_NOOP, NLMSG_ERROR and NLMSG_DONE among them.
        for kind in [0, 1, 2, 3, RTM_DELLINK, RTM_DELADDR, RTM_DELROUTE, 18, 22, u16::MAX] {
            assert!(!tells_change(&message(kind, 60)), "{kind}");
        }
    }

    #[test]
    fn each_message_of_a_datagram_counts() {
        let gone = [message(RTM_DELROUTE, 61), message(RTM_DELADDR, 0), message(RTM_DELLINK, 3)].concat();
        assert!(!tells_change(&gone));
        assert!(tells_change(&[gone.clone(), message(RTM_NEWADDR, 20)].concat()));
        assert!(tells_change(&[gone, message(RTM_NEWADDR, 20), message(RTM_DELADDR, 20)].concat()));
    }

    #[test]
    fn garbage_ends_the_datagram() {
        for length in [0, 1, 4, 15, 61, 1 << 20, u32::MAX - 1, u32::MAX] {
            let mut octets = message(RTM_DELLINK, 44);
            octets[..4].copy_from_slice(&u32::to_ne_bytes(length));
            octets.extend(message(RTM_NEWLINK, 0));
            assert!(!tells_change(&octets), "{length}");
        }
        for octet in 0..=u8::MAX {
            for length in 0..64 {
                tells_change(&vec![octet; length]);
            }
        }
        assert!(!tells_change(&[]));
    }

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1000)
    }

    #[test]
    fn a_change_is_told_once_when_things_are_quiet() {
        let mut pace = Pace::default();
        assert!(pace.due.is_none() && !pace.has_turn(at(100)));
        pace.changed(at(100));
        pace.changed(at(101));
        assert_eq!(pace.due, Some(at(103)));
        assert!(!pace.has_turn(at(102)));
        assert!(pace.has_turn(at(103)));
        assert!(pace.due.is_none() && !pace.has_turn(at(200)), "nothing wakes up for nothing");
    }

    #[test]
    fn a_flapping_link_is_told_of_at_most_each_ten_seconds() {
        let mut pace = Pace::default();
        let mut told = Vec::new();
        for second in 100..161 {
            pace.changed(at(second));
            if pace.has_turn(at(second)) {
                told.push(second);
            }
        }
        assert_eq!(told, [110, 121, 132, 143, 154]);
    }
}
