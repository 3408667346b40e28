//! Time as a value. No clock is read here: the event loop and the simulator make each [`Now`] and hand it
//! down.
//!
//! Two times are told apart. The boot clock never jumps and drives every deadline; the wall clock is for what
//! people and certificates read (Date, Received), and may be wrong on a board without a battery.

use core::ops::{Add, Sub};

/// An instant of the boot clock, in milliseconds since the board booted, sleep included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub u64);

/// A span of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub u64);

/// An instant of the queue clock in milliseconds: boot time carried on over restarts (kept in the spool). It
/// stands still while the board is off and never jumps, so that the age of a message doesn't depend on the
/// wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u64);

/// Wall time: seconds since 1970-01-01 00:00 UTC, and whether it is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wall {
    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub unix_s: u64,
    /// False while the clock stands before this program's release: nobody has set it yet.
    pub is_trusted: bool,
}

/// What the clocks said at the start of this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The boot clock.
    pub instant: Instant,
    /// The wall clock.
    pub wall: Wall,
}

impl Duration {
    /// So many seconds.
    pub const fn from_s(s: u64) -> Self {
        Self(s * 1000)
    }
    /// So many minutes.
    pub const fn from_min(min: u64) -> Self {
        Self(min * 60_000)
    }
}

impl Instant {
    /// The time from `earlier` to this instant; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl Tick {
    /// The time from `earlier` to this tick; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Add<Duration> for Tick {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}
