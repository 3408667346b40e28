//! What was asked of the relay beside mail: retries, removals; and the logins, which a changed secret has
//! tried again.

use std::collections::BTreeMap;

use super::{Live, Oracle};
use crate::net::Ms;

/// How long a refused login is not tried again at least: 15 minutes, less a quarter.
const LOGIN_WAIT_MS_MIN: Ms = 675_000;

/// Whether somebody wants a message removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    No,
    /// The relay of this run was asked: it may go, and come back after a crash.
    Asked(u32),
    /// Who asked was told that it is gone.
    Confirmed,
}

/// When a connection was dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Since {
    at: Ms,
    /// Of the oracle's.
    asks: u64,
}

impl Oracle {
    /// What a connection that is dialled now is marked with.
    pub(crate) fn since(&self, now: Ms) -> Since {
        Since { at: now, asks: self.asks }
    }

    /// The relay has read that a smarthost refuses the login. Over a connection from before somebody asked,
    /// or the secret changed, that says nothing of the login that is then to be tried at once: two
    /// connections may have been logging in, and the first refusal has begun the rest that was ended.
    pub(super) fn login_refused(&mut self, smarthost: usize, since: Since, now: Ms) {
        if since.asks == self.asks {
            self.login_refused.insert(smarthost, now);
        }
    }

    /// The relay begins to log in at a smarthost, over a connection that it dialled at `since`.
    pub(crate) fn login_tried(&self, smarthost: usize, since: Since, now: Ms) {
        let refused = self.login_refused.get(&smarthost).filter(|at| **at < since.at);
        let waited = refused.map(|at| now - at);
        assert!(waited.is_none_or(|ms| ms >= LOGIN_WAIT_MS_MIN), "LOGIN: tried again after {waited:?} ms");
    }

    /// The relay knows that the secret may be another now.
    pub(crate) fn secret_changed(&mut self) {
        self.asks += 1;
        self.login_refused.clear();
    }

    /// Somebody asked for all to be tried, or for one message.
    pub(crate) fn retried(&mut self, id: Option<(u32, u32)>) {
        match id {
            Some(id) => drop(self.ids.get(&id).and_then(|at| self.deferred.remove(at))),
            None => self.deferred.clear(),
        }
        self.asks += 1;
        self.login_refused.clear();
    }

    /// True when a client, or a smarthost, has told the id.
    pub(crate) fn knows(&self, id: (u32, u32)) -> bool {
        self.ids.contains_key(&id)
    }

    /// The submission that the id was told of.
    pub(crate) fn submission_of(&self, id: (u32, u32)) -> Option<usize> {
        self.ids.get(&id).copied()
    }

    /// What the relay of this run was asked to remove, as far as nobody was told that it is gone.
    pub(crate) fn removals_asked(&self, run: u32) -> impl Iterator<Item = (u32, u32)> {
        let asked = self.removing.iter().map(|at| &self.submissions[*at]);
        let asked = asked.filter(move |submission| submission.removal == Removal::Asked(run));
        asked.filter_map(|submission| submission.id)
    }

    /// The relay of this run was asked to remove a message.
    pub(crate) fn removal_asked(&mut self, id: (u32, u32), run: u32) {
        if let Some(at) = self.ids.get(&id) {
            self.submissions[*at].removal = Removal::Asked(run);
            self.removing.push(*at);
        }
    }

    /// A step is over: what of the removals stands.
    pub(crate) fn check_removals(&mut self, live: &BTreeMap<(u32, u32), Live>, run: u32, are_durable: bool) {
        let submissions = &mut self.submissions;
        self.removing.retain(|at| {
            let submission = &mut submissions[*at];
            let is_live = submission.id.is_some_and(|id| live.contains_key(&id));
            let Removal::Asked(of_run) = submission.removal else { return false };
            match (of_run == run, is_live) {
                (true, false) if are_durable => submission.removal = Removal::Confirmed,
                (true, _) => return true,
                // The crash was faster.
                (false, true) => submission.removal = Removal::No,
                (false, false) => {}
            }
            false
        });
    }
}
