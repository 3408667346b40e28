//! Tells when the network comes up or becomes another one: links, addresses and routes, as the kernel tells
//! them (rtnetlink(7)).
//!
//! While mail waits for a network, news is acted on once things have been quiet for [`SETTLED_AFTER`]. Each
//! time that doesn't end the waiting it rests longer until the next, up to [`REST_MAX`], so that a link that
//! flaps for days costs next to nothing. Without news nothing wakes up.
//!
//! Absent on purpose: where what came up leads to. That is for a try to find out.

mod news;

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::{Errno, read};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use self::news::Standing;
use crate::time::{Duration, Instant};

/// How long nothing must change until news is acted on.
const SETTLED_AFTER: Duration = Duration::from_s(2);
/// How long it rests then at first, and how long news is put off at most while more comes.
const REST_MIN: Duration = Duration::from_s(10);
/// How long it rests at last: as long as a route does by itself.
const REST_MAX: Duration = Duration::from_min(5);
/// Datagrams read in one turn: more than a socket's buffer holds.
const READS_MAX: usize = 256;
/// Of a datagram, which is one message as a rule; what decides stands at its start.
const DATAGRAM_OCTETS_MAX: usize = 1024;

/// RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR and _IPV6_ROUTE.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// The kernel's news.
#[derive(Debug)]
pub(super) struct Network {
    socket: Option<OwnedFd>,
    standing: Standing,
    pace: Pace,
}

impl Network {
    /// Has `token` told of what changes; of nothing where the kernel doesn't tell us.
    pub(super) fn watch(registry: &Registry, token: Token) -> Self {
        let socket = open(registry, token).inspect_err(|error| {
            log::debug!("can't watch the network: {error}");
        });
        Self { socket: socket.ok(), standing: Standing::default(), pace: Pace::default() }
    }

    /// Something changed; it is read. True when it is news.
    pub(super) fn told(&mut self) -> bool {
        let Some(socket) = &self.socket else { return false };
        let mut octets = [0; DATAGRAM_OCTETS_MAX];
        let mut is_news = false;
        for _ in 0..READS_MAX {
            match read(socket, &mut octets[..]) {
                Ok(count) => is_news |= self.standing.learns_from(&octets[..count]),
                Err(Errno::INTR) => {}
                // Something was dropped.
                Err(Errno::NOBUFS) => {
                    self.standing.forget();
                    is_news = true;
                }
                Err(_) => return is_news,
            }
        }
        // What is left is read when more comes.
        true
    }

    /// There is news that somebody waits for.
    pub(super) fn changed(&mut self, now: Instant) {
        self.pace.changed(now);
    }

    /// True once when news is to be acted on.
    pub(super) fn has_turn(&mut self, now: Instant) -> bool {
        self.pace.has_turn(now)
    }

    /// When [`Network::has_turn`] wants to be asked; `None`: not before there is news.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pace.due
    }
}

fn open(registry: &Registry, token: Token) -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    // The protocol of number 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    registry.register(&mut SourceFd(&socket.as_fd().as_raw_fd()), token, Interest::READABLE)?;
    Ok(socket)
}

/// When news is acted on.
#[derive(Debug, Default)]
struct Pace {
    /// Of the news that waits.
    due: Option<Instant>,
    /// The latest for that, however things go on.
    latest: Instant,
    /// Nothing is due before.
    rests_until: Instant,
    /// How long that was.
    rest: Duration,
}

impl Pace {
    fn changed(&mut self, now: Instant) {
        if self.due.is_none() {
            self.latest = now + REST_MIN;
        }
        self.due = Some((now + SETTLED_AFTER).min(self.latest).max(self.rests_until));
    }

    fn has_turn(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            let was_quiet = now.since(self.rests_until) >= self.rest;
            self.rest = if was_quiet { REST_MIN } else { Duration(self.rest.0 * 2).min(REST_MAX) };
            self.rests_until = now + self.rest;
            self.due = None;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1000)
    }

    /// The seconds in which `pace` has a turn when there is news every `step` from `start` to `end`.
    fn turns(pace: &mut Pace, (start, end): (u64, u64), step: usize) -> Vec<u64> {
        let mut turns = Vec::new();
        for second in start..end {
            if (second - start).is_multiple_of(step as u64) {
                pace.changed(at(second));
            }
            if pace.has_turn(at(second)) {
                turns.push(second);
            }
        }
        turns
    }

    #[test]
    fn news_is_acted_on_once_when_things_are_quiet() {
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
    fn a_link_that_flaps_on_costs_less_and_less() {
        let mut pace = Pace::default();
        let day = 24 * 60 * 60;
        let first = turns(&mut pace, (100, day), 1);
        assert_eq!(first[..5], [110, 121, 141, 181, 261]);
        assert!(first.len() < day as usize / 300 + 10, "{}", first.len());
        // And is as quick as ever after a quiet time.
        assert!(pace.has_turn(at(day + 300)));
        assert_eq!(turns(&mut pace, (day + 900, day + 920), 60), [day + 902]);
    }

    #[test]
    fn news_now_and_then_is_acted_on_each_time() {
        assert_eq!(turns(&mut Pace::default(), (100, 400), 100), [102, 202, 302]);
    }
}
