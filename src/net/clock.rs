//! The only reader of the clocks, and of randomness.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

use crate::time::{Instant, Now, Wall};

/// A wall clock that shows an earlier time than this version was released at has not been set yet.
const RELEASED_UNIX_S: u64 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => decimal(text),
    None => 1_795_478_400,
};

/// A time of the wall clock that the kernel can count to, in the year 2255.
const NEVER_UNIX_S: i64 = 9_000_000_000;

const fn decimal(text: &str) -> u64 {
    let mut value = 0;
    let mut at = 0;
    while at < text.len() {
        let digit = text.as_bytes()[at];
        assert!(digit.is_ascii_digit(), "SOURCE_DATE_EPOCH is to be a number of seconds");
        value = value * 10 + (digit - b'0') as u64;
        at += 1;
    }
    value
}

/// What the clocks say now.
pub fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let wall = clock_gettime(ClockId::Realtime);
    let unix_s = u64::try_from(wall.tv_sec).unwrap_or(0);
    Now {
        instant: Instant(boot.tv_sec as u64 * 1000 + boot.tv_nsec as u64 / 1_000_000),
        wall: Wall { unix_s, is_trusted: unix_s >= RELEASED_UNIX_S },
    }
}

/// Tells when somebody sets the wall clock: readable from then on, until [`Steps::take`].
#[derive(Debug)]
pub(super) struct Steps(OwnedFd);

impl Steps {
    /// A timer that never runs off, but is cancelled by a step; `None` on kernels without (before Linux 3.0).
    pub(super) fn watch() -> Option<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags).ok()?;
        let never = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: NEVER_UNIX_S, tv_nsec: 0 },
        };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &never)
            .ok()?;
        Some(Self(timer))
    }

    /// For the poll.
    pub(super) fn raw(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }

    /// Takes the news; the next step makes the next.
    pub(super) fn take(&self) {
        // ECANCELED is the news itself.
        let _ = rustix::io::read(self, &mut [0; 8][..]);
    }
}

impl AsFd for Steps {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// True when the kernel has randomness for keys: asking it for some would wait until then.
pub fn has_randomness() -> bool {
    getrandom(&mut [0; 1][..], GetRandomFlags::NONBLOCK) == Ok(1)
}

/// A number that differs from start to start; from the clocks where the kernel has no randomness yet.
pub fn seed() -> u64 {
    let mut octets = [0; 8];
    match getrandom(&mut octets[..], GetRandomFlags::NONBLOCK) {
        Ok(8) => u64::from_le_bytes(octets),
        _ => {
            let boot = clock_gettime(ClockId::Boottime);
            let wall = clock_gettime(ClockId::Realtime);
            (boot.tv_nsec as u64) << 32 ^ wall.tv_nsec as u64 ^ (wall.tv_sec as u64) << 20
        }
    }
}
