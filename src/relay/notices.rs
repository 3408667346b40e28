//! Notices of failure: a state of the message that they are about, so that a full spool can't hold them up
//! and a crash can't lose them. One that a crash interrupts between the smarthost's reply and the record of
//! it is sent twice.
//!
//! A message with recipients whose failure is not told takes its turn in the queue for that first. What
//! becomes of the notice is recorded like any result: those recipients are then done with, and the message is
//! gone when nobody waits either.

use super::Relay;
use crate::queue::{self, Destination};
use crate::sender::{Addressee, Ending, Fate};
use crate::spool::{Damage, Device, MessageIndex, RecipientState, Refusal, Settled};
use crate::time::Now;

impl<D: Device> Relay<D> {
    /// True when a notice is what is to be tried next of `message`, and not the message itself.
    pub(super) fn is_notice_next(&self, message: MessageIndex) -> bool {
        let facts = self.spool.facts(message);
        facts.owed > 0 && (facts.waiting == 0 || !self.queue.was_notice_deferred(message))
    }

    /// Begins the notice about `message` with the ready session at `at`, or decides that there is none.
    pub(super) fn begin_notice(&mut self, now: &Now, at: usize, message: MessageIndex) -> Result<(), Damage> {
        let id = self.spool.facts(message).id;
        let session = &mut self.senders[at].session;
        let subject = session.open_notice(message, now, &mut self.spool)?;
        let destination = match subject.recipients {
            0 => Destination::Nowhere("nobody asked for it"),
            _ if subject.reverse_path.is_empty() && !subject.is_of_failure => {
                Destination::Nowhere("nothing failed, and its reverse-path is null")
            }
            _ => queue::destination(subject.reverse_path, subject.is_notice, &self.config),
        };
        let (to, address) = match destination {
            Destination::ReversePath => (Addressee::ReversePath, subject.reverse_path),
            Destination::Admin => {
                (Addressee::Admin, self.config.admin.as_deref().map_or(&b""[..], str::as_bytes))
            }
            Destination::Nowhere(reason) => {
                log::warn!("no-bounce id={id} reason=\"{reason}\"");
                session.drop_notice();
                return Ok(());
            }
        };
        if self.notice_rate.allows(self.spool.tick(now.instant), address) {
            session.begin_notice(to, now, &self.config);
        } else {
            log::warn!(
                "no-bounce id={id} to={} reason=\"too many in this hour\" dropped={}",
                address.escape_ascii(),
                self.notice_rate.dropped()
            );
            session.drop_notice();
        }
        Ok(())
    }

    /// Writes down what became of the notice that the session at `at` has tried.
    pub(super) fn record_notice(&mut self, now: &Now, at: usize, fate: Fate) -> Result<(), Refusal> {
        let session = &self.senders[at].session;
        let Some(attempt) = session.attempt() else { return Ok(()) };
        let message = attempt.message;
        let facts = self.spool.facts(message);
        let tick = self.spool.tick(now.instant);
        let is_tried = attempt.ending == Ending::Tried;
        let is_judged = is_tried && !attempt.is_blamed;
        let retry = &self.config.retry;
        let is_over =
            fate != Fate::Waiting || queue::is_notice_expired(facts.accepted, tick, is_judged, retry);
        let told = session.addressee(&self.config).escape_ascii();
        let id = facts.id;
        if !is_over {
            if let Some(reply) = attempt.deferral {
                self.queue.keep_reply(message, reply);
            }
            if matches!(attempt.ending, Ending::Held(_)) {
                self.queue.put_notice_behind(message, facts.waiting > 0);
            } else if is_tried || attempt.has_sent_mail_data {
                let due = self.queue.defer_notice(message, facts.accepted, tick, retry, &mut self.jitter);
                let next_try_s = due.since(tick).0 / 1000;
                match attempt.deferral {
                    Some(reply) => log::warn!(
                        "bounce-deferred id={id} to={told} reply=\"{} {}\" next-try={next_try_s}s",
                        reply.code,
                        reply.text.escape_ascii()
                    ),
                    None => log::warn!("bounce-deferred id={id} to={told} next-try={next_try_s}s"),
                }
            } else {
                self.queue.put_back_notice(message, facts.waiting > 0);
            }
            return Ok(());
        }
        let states = &mut self.settling[..attempt.states.len()];
        for (state, before) in states.iter_mut().zip(attempt.states) {
            *state = if before.owes_notice() { RecipientState::Noticed } else { *before };
        }
        let settled = self.spool.settle(message, states, attempt.replies)?;
        match (fate, attempt.delivery, attempt.deferral) {
            (Fate::Taken, Some(reply), _) => {
                self.notice_rate.sent(session.addressee(&self.config));
                self.counters.bounced += 1;
                log::info!(
                    "bounced id={id} to={told} reply=\"{} {}\"",
                    reply.code,
                    reply.text.escape_ascii()
                );
            }
            (Fate::Refused | Fate::Waiting, _, Some(reply)) => log::warn!(
                "bounce-failed id={id} to={told} reply=\"{} {}\"",
                reply.code,
                reply.text.escape_ascii()
            ),
            (Fate::Waiting, _, None) => {
                log::warn!("bounce-failed id={id} to={told} reason=\"its time is over\"")
            }
            (Fate::Refused | Fate::Taken | Fate::Dropped, _, _) => {}
        }
        match settled {
            Settled::Removed | Settled::SetAside => self.queue.remove(message),
            Settled::Waiting | Settled::Failed => {
                let due = self.queue.resume(message);
                log::info!("waiting id={id} next-try={}s", due.since(tick).0 / 1000);
            }
        }
        Ok(())
    }
}
