//! What has happened since the start, in figures.

/// So often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that became durable.
    pub received: u64,
    /// Messages of which a smarthost took the mail data, each time it did.
    pub relayed: u64,
    /// Messages that were tried and have to wait, each time.
    pub deferred: u64,
    /// Messages that failed for recipients, each time.
    pub failed: u64,
    /// Notices that went out.
    pub bounced: u64,
    /// Messages that were given up for their age.
    pub expired: u64,
    /// Messages that the administrator removed.
    pub removed: u64,
    /// Messages that were found damaged.
    pub damaged: u64,
    /// Sessions of clients.
    pub sessions: u64,
    /// Sessions that had to make room for another client.
    pub evicted: u64,
    /// Connections to smarthosts.
    pub connections: u64,
}
