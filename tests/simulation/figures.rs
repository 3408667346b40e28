//! What the runs have seen, as numbers.

use std::fmt;

/// What a run has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) seeds: u64,
    pub(crate) steps: u64,
    pub(crate) crashes: u64,
    pub(crate) faults: u64,
    pub(crate) submitted: u64,
    pub(crate) accepted: u64,
    /// Of these, over TLS.
    pub(crate) accepted_in_tls: u64,
    pub(crate) delivered: u64,
    pub(crate) duplicates: u64,
    pub(crate) noticed: u64,
    pub(crate) noticed_of_success: u64,
    /// Reports of damage.
    pub(crate) reports: u64,
    pub(crate) refused: u64,
    pub(crate) reloads: u64,
    pub(crate) removed: u64,
    /// Of these, while a sender had them.
    pub(crate) removed_on_way: u64,
    /// And while the smarthost had taken them, its reply not yet read.
    pub(crate) removed_behind_dot: u64,
    pub(crate) drained_steps: u64,
}

impl Figures {
    pub(crate) fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.faults += other.faults;
        self.submitted += other.submitted;
        self.accepted += other.accepted;
        self.accepted_in_tls += other.accepted_in_tls;
        self.delivered += other.delivered;
        self.duplicates += other.duplicates;
        self.noticed += other.noticed;
        self.noticed_of_success += other.noticed_of_success;
        self.reports += other.reports;
        self.refused += other.refused;
        self.reloads += other.reloads;
        self.removed += other.removed;
        self.removed_on_way += other.removed_on_way;
        self.removed_behind_dot += other.removed_behind_dot;
        self.drained_steps += other.drained_steps;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seeds {}, steps {} and {} to drain", self.seeds, self.steps, self.drained_steps)?;
        writeln!(f, "crashes {}, other faults {}, reloads {}", self.crashes, self.faults, self.reloads)?;
        writeln!(
            f,
            "messages submitted {}, accepted {}, of them over TLS {}, refused {}",
            self.submitted, self.accepted, self.accepted_in_tls, self.refused
        )?;
        writeln!(
            f,
            "removed {}, of them on their way {}, and taken without the relay's knowing {}",
            self.removed, self.removed_on_way, self.removed_behind_dot
        )?;
        writeln!(
            f,
            "notices {}, recipients told of a success {}, reports of damage {}",
            self.noticed, self.noticed_of_success, self.reports
        )?;
        write!(
            f,
            "recipients delivered {}, of them again, for a known reason, {}",
            self.delivered, self.duplicates
        )
    }
}
