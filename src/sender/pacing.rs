//! How long a route rests after a fault, and how much time lies between two messages where the smarthost
//! wants mail to come slower.

use super::Fault;
use crate::config::Retry;
use crate::time::{Duration, Instant};

/// How long the route rests after the first fault.
pub const BACK_OFF_MIN: Duration = Duration::from_s(1);
/// How long it rests at most after a refused login, unless `retry.auth` is longer, and when its allowance for
/// us is used up.
const LONG_BACK_OFF_MAX: Duration = Duration::from_min(60);
/// How long it rests first when mail came too fast.
const RATE_BACK_OFF_MIN: Duration = Duration::from_s(10);
/// How long it rests at most, when the answer to one message told the fault, before another message may probe
/// it.
pub(super) const OTHER_BACK_OFF_MAX: Duration = Duration::from_s(30);
/// How long it rests first when its allowance for us is used up.
const QUOTA_BACK_OFF_MIN: Duration = Duration::from_min(1);

/// Faults whose rests grow together; the longer ones last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BackOff {
    Route,
    Rate,
    Quota,
    Login,
}

impl BackOff {
    pub(super) const COUNT: usize = 4;

    pub(super) const fn of(fault: Fault) -> Self {
        if matches!(fault, Fault::Rate) {
            Self::Rate
        } else if matches!(fault, Fault::Quota) {
            Self::Quota
        } else if fault.is_about_login() {
            Self::Login
        } else {
            Self::Route
        }
    }

    /// The first rest and the longest.
    pub(super) fn bounds(self, retry: &Retry) -> (Duration, Duration) {
        match self {
            Self::Route => (BACK_OFF_MIN, retry.route_longest),
            Self::Login => (retry.auth, LONG_BACK_OFF_MAX.max(retry.auth)),
            Self::Rate => (RATE_BACK_OFF_MIN, retry.route_longest),
            Self::Quota => (QUOTA_BACK_OFF_MIN, LONG_BACK_OFF_MAX),
        }
    }
}

/// How much time lies between two messages: none, until the smarthost wants mail to come slower. Then as much
/// more each time, up to [`Pace::GAP_MAX`], and half of it again whenever [`Pace::PASSED`] messages have
/// passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) gap: Duration,
    pub(super) next_at: Instant,
    passed: u8,
}

impl Pace {
    pub(super) const FREE: Self = Self { gap: Duration(0), next_at: Instant(0), passed: 0 };
    /// Thirty messages a minute, which is what Microsoft 365 takes.
    const GAP_MIN: Duration = Duration::from_s(2);
    const GAP_MAX: Duration = Duration::from_s(60);
    const PASSED: u8 = 60;

    pub(super) fn slow_down(&mut self) {
        self.gap = Duration(self.gap.0 * 2).clamp(Self::GAP_MIN, Self::GAP_MAX);
        self.passed = 0;
    }

    pub(super) fn passed(&mut self) {
        if self.gap.0 == 0 {
            return;
        }
        self.passed += 1;
        if self.passed == Self::PASSED {
            self.passed = 0;
            let half = Duration(self.gap.0 / 2);
            self.gap = if half < Self::GAP_MIN { Duration(0) } else { half };
        }
    }
}
