//! Mail whose routes have been dead for too long: past `retry.hold` it is given up without a try, as there is
//! nothing to try it over (RFC 5321 4.5.4.1). Its notice waits for a route in its place, with as long again.
//!
//! Judged only when a fault leaves no route that isn't resting, so never while mail could leave. A smarthost
//! that answers to a message is a matter of `relaying.rs`.

use super::Relay;
use super::relaying::fail_waiting;
use crate::queue::{self, Standing};
use crate::sender;
use crate::spool::{Damage, Device, MessageIndex, RecipientState, Refusal, Settled};
use crate::time::{Now, Tick};

/// Messages given up after one fault: each costs the disk a block, and the next fault is never far.
const GIVEN_UP_MAX: usize = 16;

impl<D: Device> Relay<D> {
    /// A fault has ended a connection, or the try to make one: gives up what has waited for a route for too
    /// long, if there is none now.
    pub(super) fn give_up_held(&mut self, now: &Now) {
        if self.routes.iter().any(|route| route.rests_for().is_none()) {
            return;
        }
        let tick = self.spool.tick(now.instant);
        for _ in 0..GIVEN_UP_MAX {
            let Some(message) = self.held_too_long(tick) else { return };
            // What the disk doesn't take now is judged again after the next fault.
            if self.give_up(message, tick).is_err() {
                return;
            }
        }
    }

    /// A message that stands in the queue and has been there for too long, or whose notice has.
    fn held_too_long(&self, tick: Tick) -> Option<MessageIndex> {
        let retry = &self.config.retry;
        let is_over = |message: &MessageIndex| {
            let facts = self.spool.facts(*message);
            if facts.waiting > 0 {
                queue::is_expired(facts.accepted, tick, false, retry)
            } else {
                queue::is_notice_expired(facts.accepted, tick, false, retry)
            }
        };
        let stands = |message: &MessageIndex| {
            matches!(self.queue.standing(*message), Standing::Ready | Standing::Deferred(_))
        };
        self.spool.messages().filter(stands).find(is_over)
    }

    fn give_up(&mut self, message: MessageIndex, tick: Tick) -> Result<(), Refusal> {
        let facts = self.spool.facts(message);
        let reason = self.queue.last_reply(message).cloned().unwrap_or_else(sender::expired);
        let read = match self.settling.get_mut(..usize::from(facts.recipients)) {
            Some(states) => self.spool.states(message, states).and_then(|()| self.spool.replies(message)),
            // Of a larger board's spool: kept, as when it can't be begun.
            None => Err(Damage),
        };
        let Ok(mut replies) = read else {
            self.counters.damaged += 1;
            self.spool.set_aside(message);
            self.queue.remove(message);
            return Ok(());
        };
        let states = &mut self.settling[..usize::from(facts.recipients)];
        if facts.waiting > 0 {
            fail_waiting(states, &mut replies, reason);
        } else {
            states
                .iter_mut()
                .filter(|state| state.owes_notice())
                .for_each(|state| *state = RecipientState::Noticed);
        }
        let settled = self.spool.settle(message, states, &replies)?;
        let age_s = tick.since(facts.accepted).0 / 1000;
        if facts.waiting > 0 {
            self.counters.failed += 1;
            self.counters.expired += 1;
            log::warn!("expired id={} age={age_s}s", facts.id);
        } else {
            log::warn!("bounce-failed id={} reason=\"its time is over\"", facts.id);
        }
        match settled {
            Settled::Removed | Settled::SetAside => self.queue.remove(message),
            Settled::Failed | Settled::Waiting => self.queue.wait_for_notice(message),
        }
        Ok(())
    }
}
