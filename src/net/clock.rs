//! The only reader of the clocks, and of randomness.

use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};

use crate::time::{Instant, Now, Wall};

/// A wall clock that shows an earlier time than this version was released at has not been set yet.
const RELEASED_UNIX_S: u64 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => decimal(text),
    None => 1_795_478_400,
};

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
