//! What the queue clock may lose in a crash, to the second: all since the moment that the disk has for sure.
//!
//! While mail waits, a turn of the loop on a disk that works leaves a note of the clock behind that is an
//! hour old at most, and durable when a turn comes after [`DURABLE_AFTER_MS`]. So a board that sleeps for an
//! hour before such a turn, or whose disk fails in it, may lose that hour too; one that is awake may not.

use postern::time::Duration;

use crate::net::Ms;

/// How old the note may be while mail waits.
const NOTED_EVERY_MS: Ms = 3_600_000;
/// How long it may be written and not durable.
const DURABLE_AFTER_MS: Ms = 2_000;

/// What is known of the note on the disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClockNote {
    /// The disk has a note that is no older.
    durable: Ms,
    /// A turn that left a note behind, which may not be durable yet.
    turned: Option<Ms>,
}

impl ClockNote {
    /// The relay has started, which makes a note durable.
    pub(crate) fn started(&mut self, now: Ms) {
        *self = Self { durable: now, turned: None };
    }

    /// A turn is over in which mail was there and the disk worked.
    pub(crate) fn turned(&mut self, now: Ms) {
        match self.turned {
            Some(at) if now < at + DURABLE_AFTER_MS => {}
            Some(at) => {
                self.durable = self.durable.max(at.saturating_sub(NOTED_EVERY_MS));
                self.turned = Some(now);
            }
            None => self.turned = Some(now),
        }
    }

    /// What a crash may cost at `now`.
    pub(crate) fn lost_max(&self, now: Ms) -> Duration {
        Duration(now.saturating_sub(self.durable))
    }
}
