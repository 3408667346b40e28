//! Lines of the log that nobody took: their number, for whoever looks at the relay from outside.
//!
//! The one global of the program, since a log is one.

use std::sync::atomic::{AtomicUsize, Ordering};

static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// One more line was dropped.
pub fn drop_one() {
    DROPPED.fetch_add(1, Ordering::Relaxed);
}

/// Lines that were dropped since the start.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed) as u64
}
