//! What an administrator may do to the queue: try a message now, have it removed.
//!
//! A removal never meets a message that a sender holds: it is put off until that attempt's result is written
//! down. So a message is relayed or removed, and what was relayed before is not undone. A removal is a
//! tombstone, and done when that is durable: [`Relay::has_durable_removals`].

use super::Relay;
use crate::queue::Standing;
use crate::spool::{Device, Listed, MessageId, MessageIndex};
use crate::time::Now;

/// What becomes of a message that is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is out of the queue, and gone for good once [`Relay::has_durable_removals`].
    Removed,
    /// A sender holds it: what is left of it after the attempt is removed then.
    OnItsWay,
    /// The disk fails: it stays.
    Refused,
    /// There is no such message, or no longer.
    Unknown,
}

/// What becomes of a message that is to be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retrial {
    /// It is due now.
    Due,
    /// It is being tried already.
    OnItsWay,
    /// It is damaged and can't be tried.
    Damaged,
    /// There is no such message, or no longer.
    Unknown,
}

impl<D: Device> Relay<D> {
    /// Tries the message `id` as soon as may be, and the routes with it.
    pub fn retry(&mut self, now: &Now, id: MessageId) -> Retrial {
        let Some(listed) = self.spool.find(id).min_by_key(|listed| listed.is_aside) else {
            return Retrial::Unknown;
        };
        if listed.is_aside {
            return Retrial::Damaged;
        }
        if matches!(self.queue.standing(listed.message), Standing::Taken { .. }) {
            return Retrial::OnItsWay;
        }
        log::info!("retrying id={id}");
        self.queue.retry(listed.message, self.spool.tick(now.instant));
        self.retry_routes(now);
        Retrial::Due
    }

    /// Removes the message `id`, with all damaged ones of that name.
    pub fn remove(&mut self, id: MessageId) -> Removal {
        let mut removal = Removal::Unknown;
        while let Some(listed) = self.spool.find(id).max_by_key(|listed| listed.is_aside) {
            removal = self.remove_listed(listed);
            if removal != Removal::Removed {
                break;
            }
        }
        removal
    }

    /// Removes what a listing shows.
    pub fn remove_listed(&mut self, listed: Listed) -> Removal {
        if !self.spool.is_there(listed) {
            return Removal::Unknown;
        }
        if self.spool.is_failing() {
            return Removal::Refused;
        }
        let Listed { message, id, is_aside } = listed;
        if is_aside {
            return match self.spool.remove_aside(message) {
                Ok(()) => {
                    self.counters.removed += 1;
                    log::warn!("removed id={id} reason=\"asked for\" damaged=true");
                    Removal::Removed
                }
                Err(_) => Removal::Refused,
            };
        }
        match self.queue.standing(message) {
            Standing::Taken { .. } => {
                self.queue.remove_later(message);
                return Removal::OnItsWay;
            }
            Standing::Ready | Standing::Deferred(_) => self.queue.remove(message),
            Standing::Absent => {}
        }
        self.spool.remove(message);
        self.counters.removed += 1;
        log::warn!("removed id={id} reason=\"asked for\"");
        Removal::Removed
    }

    /// True when every removal so far is durable. Ask after [`Relay::turn`].
    pub fn has_durable_removals(&self) -> bool {
        self.spool.has_durable_frees()
    }

    /// How it stands with a message of the spool.
    pub fn standing(&self, message: MessageIndex) -> Standing {
        self.queue.standing(message)
    }

    /// The message is back from an attempt; removes what is left of it if that was asked for meanwhile.
    pub(super) fn remove_as_asked(&mut self, message: MessageIndex) {
        if !self.queue.is_to_be_removed(message) {
            return;
        }
        let id = self.spool.facts(message).id;
        self.queue.remove(message);
        self.spool.remove(message);
        self.counters.removed += 1;
        log::warn!("removed id={id} reason=\"asked for\"");
    }
}
