//! The next message behind the last one, whose verdict is still to come: its commands go out in one group
//! with the end of that mail data (RFC 2920 3.1), so that without CHUNKING, too, a message costs one round
//! trip.
//!
//! Invariants: two messages are under way at most, and the older one is a message whose mail data has left to
//! the last octet. Replies come in order, so that the first one is its verdict. A connection that ends leaves
//! both waiting.
use super::attempt::Ending;
use super::session::{Session, State, Stop};
use super::transaction::Transaction;
use crate::smtp::reply_reader::Severity;
use crate::time::Now;

impl Session {
    /// True when [`Session::begin`] may be called: the session is ready, or all that is awaited is the
    /// verdict on the last message, behind whose end the commands of the next one may go (RFC 2920 3.1).
    pub fn may_begin(&self) -> bool {
        let is_last = !self.record.is_notice() && !self.record.has_more();
        let has_place = if self.previous.is_under_way() {
            self.record.is_free()
        } else {
            is_last && self.previous.is_free()
        };
        let is_verdict_next = matches!(self.state, State::Verdict { is_void: false, .. });
        self.is_ready() || self.extensions.pipelining && is_verdict_next && has_place
    }

    /// The message whose verdict is awaited makes place for the next one.
    pub(super) fn make_place(&mut self) {
        assert!(self.may_begin());
        if let State::Verdict { is_chunk, .. } = self.state
            && self.previous.is_free()
        {
            core::mem::swap(&mut self.record, &mut self.previous);
            self.is_previous_chunk = is_chunk;
        }
    }

    /// The first transaction of what was begun. Behind a chunk, which may yet be refused, it starts with
    /// RSET.
    pub(super) fn start(&mut self, now: &Now) {
        let is_behind_chunk = self.previous.is_under_way() && self.is_previous_chunk;
        self.state = State::Transaction(Transaction::first(self.is_reset_owed || is_behind_chunk));
        self.arm(now);
    }

    /// The same for the message before the one that is under way.
    pub(super) fn previous_verdict(&mut self, code: u16, severity: Severity) -> Result<(), Stop> {
        core::mem::swap(&mut self.record, &mut self.previous);
        let judged = self.judge(false, self.is_previous_chunk, code, severity);
        if judged.is_ok() {
            self.record.finish(Ending::Tried);
        }
        core::mem::swap(&mut self.record, &mut self.previous);
        judged?;
        self.has_served = true;
        if matches!(self.state, State::Verdict { .. }) {
            // Nothing was begun behind it after all.
            self.is_reset_owed = self.is_previous_chunk && severity != Severity::Completion;
            self.state = State::Ready;
        }
        Ok(())
    }
}
