//! The relay's sessions with smarthosts: what to send next, and what became of it.

use super::{CLOSE_WITHIN, Closing, Connection, Relay, Stage, slice_of};
use crate::buffer::Buffer;
use crate::limits::{SENDER_CONNECTIONS, SENDER_INPUT_OCTETS, SENDER_OUTPUT_OCTETS};
use crate::queue;
use crate::sender::{self, Attempt, Ending, Fate, Secret, SecretFault, TokenFault};
use crate::smtp::Next;
use crate::spool::{Device, KeptReply, REPLIES_KEPT, RecipientState, Refusal, Settled};
use crate::time::{Duration, Now};

impl<D: Device> Relay<D> {
    /// True when the driver is to call [`Relay::secret`] for this connection.
    pub fn wants_secret(&self, at: Connection) -> bool {
        let Connection::Sender(at) = at else { return false };
        self.senders[at].closing == Closing::No && self.senders[at].session.wants_secret()
    }

    /// The secret of the configured login, or why there is none.
    pub fn secret(&mut self, now: &Now, at: Connection, secret: Result<Secret, SecretFault>) {
        let Connection::Sender(at) = at else { unreachable!("only a smarthost is logged in to") };
        let sender = &mut self.senders[at];
        let mut output =
            Buffer::new(slice_of(&mut self.senders_output, at, SENDER_OUTPUT_OCTETS), &mut sender.output);
        if sender.session.secret(now, &self.config, secret, &mut output) == Next::Close {
            sender.closing = Closing::By(now.instant + CLOSE_WITHIN);
        }
        self.advance_sender(now, at);
    }

    /// There is no access token to log in with, for this reason; `told` is what was said of it.
    pub fn no_token(&mut self, now: &Now, at: Connection, fault: TokenFault, told: Option<KeptReply>) {
        let Connection::Sender(at) = at else { unreachable!("only a smarthost is logged in to") };
        let sender = &mut self.senders[at];
        let mut output =
            Buffer::new(slice_of(&mut self.senders_output, at, SENDER_OUTPUT_OCTETS), &mut sender.output);
        if sender.session.no_token(now, fault, told, &mut output) == Next::Close {
            sender.closing = Closing::By(now.instant + CLOSE_WITHIN);
        }
        self.advance_sender(now, at);
    }

    pub(super) fn advance_sender(&mut self, now: &Now, at: usize) {
        let sender = &mut self.senders[at];
        if sender.stage != Stage::Open || sender.closing != Closing::No {
            return;
        }
        let was_ready = sender.session.is_ready();
        let mut input =
            Buffer::new(slice_of(&mut self.senders_input, at, SENDER_INPUT_OCTETS), &mut sender.input);
        let mut output =
            Buffer::new(slice_of(&mut self.senders_output, at, SENDER_OUTPUT_OCTETS), &mut sender.output);
        let next = sender.session.advance(now, &self.config, &mut input, &mut output, &mut self.spool);
        if next == Next::Close {
            sender.closing = Closing::By(now.instant + CLOSE_WITHIN);
        }
        if !was_ready && sender.session.is_ready() {
            self.routes[self.senders[at].smarthost].ready();
        }
    }

    /// Writes down what became of the messages that were tried. One that the spool can't take now stays with
    /// its sender, and is not relayed again, until it can.
    pub(super) fn record_results(&mut self, now: &Now) {
        for at in 0..SENDER_CONNECTIONS {
            self.record_results_of(now, at);
        }
    }

    /// The same for one sender, which may have two; false when the spool can't take one.
    fn record_results_of(&mut self, now: &Now, at: usize) -> bool {
        while let Some(message) = self.senders[at].session.attempt().map(|attempt| attempt.message) {
            if self.record_result(now, at).is_err() {
                return false;
            }
            self.senders[at].session.recorded();
            self.remove_as_asked(message);
        }
        true
    }

    fn record_result(&mut self, now: &Now, at: usize) -> Result<(), Refusal> {
        let Some(attempt) = self.senders[at].session.attempt() else { return Ok(()) };
        let message = attempt.message;
        let facts = self.spool.facts(message);
        let is_tried = attempt.ending == Ending::Tried;
        let is_held = matches!(attempt.ending, Ending::Held(_));
        // What only looks like its own fault is no verdict that would end its time.
        let is_judged = is_tried && !attempt.is_blamed;
        if is_tried && attempt.notice != Some(Fate::Dropped) {
            let route = &mut self.routes[self.senders[at].smarthost];
            if attempt.is_blamed { route.doubted(message) } else { route.worked() }
        }
        if attempt.ending == Ending::Damaged {
            self.counters.damaged += 1;
            self.spool.set_aside(message);
            self.queue.remove(message);
            return Ok(());
        }
        if let Some(fate) = attempt.notice {
            return self.record_notice(now, at, fate);
        }
        let tick = self.spool.tick(now.instant);
        let waits = attempt.states.contains(&RecipientState::Waiting);
        let is_given_up = waits && queue::is_expired(facts.accepted, tick, is_judged, &self.config.retry);
        let settled = if is_given_up {
            let (states, replies) = give_up(&attempt, &mut self.settling);
            self.spool.settle(message, states, &replies)?
        } else if attempt.is_changed {
            self.spool.settle(message, attempt.states, attempt.replies)?
        } else {
            Settled::Waiting
        };
        if let Some(reply) = attempt.deferral {
            self.queue.keep_reply(message, reply);
            self.counters.deferred += 1;
        }
        self.counters.relayed += u64::from(attempt.delivery.is_some());
        self.counters.failed += u64::from(self.spool.facts(message).owed > facts.owed);
        self.counters.expired += u64::from(is_given_up);
        let mut next_try = None;
        match settled {
            Settled::Removed | Settled::SetAside => self.queue.remove(message),
            Settled::Failed => self.queue.push_notice(message),
            Settled::Waiting if is_held => self.queue.put_behind(message, false),
            Settled::Waiting if is_tried || attempt.has_sent_mail_data => {
                let (accepted, retry, jitter) = (facts.accepted, &self.config.retry, &mut self.jitter);
                let due = if is_tried && self.spool.facts(message).owed > 0 {
                    self.queue.defer_behind_notice(message, accepted, tick, retry, jitter)
                } else {
                    self.queue.defer(message, accepted, tick, retry, jitter)
                };
                next_try = Some(due.since(tick));
            }
            Settled::Waiting => self.queue.put_back(message),
        }
        log_result(facts.id, &attempt, next_try);
        if is_given_up {
            log::warn!("expired id={} age={}s", facts.id, tick.since(facts.accepted).0 / 1000);
        }
        Ok(())
    }

    /// Gives each session that may begin one the next message that is due.
    pub(super) fn begin_messages(&mut self, now: &Now) {
        if self.is_draining {
            self.quit_ready_senders(now);
        }
        if self.begins_nothing() {
            return;
        }
        for at in 0..SENDER_CONNECTIONS {
            self.begin_messages_of(now, at);
        }
    }

    /// Begins the next message at once where its commands may go out in one segment with the end of the last
    /// one's mail data, which has just been put into the output.
    pub(super) fn ride_along(&mut self, now: &Now, at: usize) {
        let session = &self.senders[at].session;
        if session.may_begin() && !session.is_ready() && !self.begins_nothing() {
            self.begin_messages_of(now, at);
        }
    }

    fn begin_messages_of(&mut self, now: &Now, at: usize) {
        while self.senders[at].stage == Stage::Open
            && self.senders[at].closing == Closing::No
            && self.senders[at].session.may_begin()
        {
            let tick = self.spool.tick(now.instant);
            if self.queue.is_ready(tick) && self.makes_way(now, at) {
                return;
            }
            let route = &mut self.routes[self.senders[at].smarthost];
            if route.paced_until() > now.instant {
                return;
            }
            let Some(message) = self.queue.next(tick) else { return };
            route.begun(now.instant);
            let is_suspect = route.is_proven() && self.queue.is_suspect(message);
            let begun = if self.is_notice_next(message) {
                self.begin_notice(now, at, message)
            } else {
                self.senders[at].session.begin(message, now, &self.config, &mut self.spool)
            };
            if begun.is_err() {
                self.counters.damaged += 1;
                self.spool.set_aside(message);
                self.queue.remove(message);
                continue;
            }
            if is_suspect {
                self.senders[at].session.suspect();
            }
            self.advance_sender(now, at);
            self.touch(Connection::Sender(at));
            // It may have been decided without a word to the smarthost.
            if !self.record_results_of(now, at) {
                return;
            }
        }
    }

    pub(super) fn expire_senders(&mut self, now: &Now) {
        for at in 0..SENDER_CONNECTIONS {
            let sender = &mut self.senders[at];
            match sender.closing {
                Closing::No if sender.session.deadline().is_some_and(|deadline| deadline <= now.instant) => {
                    let mut output = Buffer::new(
                        slice_of(&mut self.senders_output, at, SENDER_OUTPUT_OCTETS),
                        &mut sender.output,
                    );
                    if sender.session.expired(now, &mut output) == Next::Close {
                        sender.closing = Closing::By(now.instant + CLOSE_WITHIN);
                    }
                    self.touch(Connection::Sender(at));
                }
                Closing::By(by) if by <= now.instant => self.touch(Connection::Sender(at)),
                Closing::No | Closing::By(_) => {}
            }
        }
    }

    pub(super) fn quit_senders(&mut self, now: &Now) {
        for at in 0..SENDER_CONNECTIONS {
            self.quit_sender(now, at);
        }
    }

    /// Ends the session at `at`, if there is one.
    pub(super) fn quit_sender(&mut self, now: &Now, at: usize) {
        let sender = &mut self.senders[at];
        if sender.stage != Stage::Open || sender.closing != Closing::No {
            return;
        }
        let mut output =
            Buffer::new(slice_of(&mut self.senders_output, at, SENDER_OUTPUT_OCTETS), &mut sender.output);
        if sender.session.quit(now, &mut output) == Next::Close {
            sender.closing = Closing::By(now.instant + CLOSE_WITHIN);
        }
        self.touch(Connection::Sender(at));
    }
}

/// The states and replies of a message whose time is over: who waited has failed, for the smarthost's last
/// reason.
fn give_up<'a>(
    attempt: &Attempt<'_>,
    settling: &'a mut [RecipientState],
) -> (&'a [RecipientState], heapless::Vec<KeptReply, REPLIES_KEPT>) {
    let mut replies: heapless::Vec<KeptReply, REPLIES_KEPT> = attempt.replies.iter().cloned().collect();
    let reason = attempt.deferral.cloned().unwrap_or_else(sender::expired);
    let states = &mut settling[..attempt.states.len()];
    states.copy_from_slice(attempt.states);
    fail_waiting(states, &mut replies, reason);
    (states, replies)
}

/// Who waits among the recipients has failed for this reason, which is kept with the others.
pub(super) fn fail_waiting(
    states: &mut [RecipientState],
    replies: &mut heapless::Vec<KeptReply, REPLIES_KEPT>,
    reason: KeptReply,
) {
    // A refused push means that all places are taken: the last one is shared.
    let _ = replies.push(reason);
    let reply = (replies.len() - 1) as u8;
    states
        .iter_mut()
        .filter(|state| **state == RecipientState::Waiting)
        .for_each(|state| *state = RecipientState::Failed { reply });
}

/// One line for each thing that happened to the message.
fn log_result(id: crate::spool::MessageId, attempt: &Attempt<'_>, next_try: Option<Duration>) {
    if let Some(delivery) = attempt.delivery {
        let delivered = attempt.states.iter().filter(|state| **state == RecipientState::Delivered).count();
        log::info!(
            "relayed id={id} recipients={delivered} reply=\"{} {}\"",
            delivery.code,
            delivery.text.escape_ascii()
        );
    }
    for (place, reply) in attempt.replies.iter().enumerate() {
        let failed = RecipientState::Failed { reply: place as u8 };
        let count = attempt.states.iter().filter(|state| **state == failed).count();
        if count > 0 {
            log::warn!(
                "failed id={id} recipients={count} reply=\"{} {}\"",
                reply.code,
                reply.text.escape_ascii()
            );
        }
    }
    let next_try_s = next_try.map_or(0, |next_try| next_try.0 / 1000);
    match (attempt.deferral, next_try) {
        (Some(reply), Some(_)) => log::warn!(
            "deferred id={id} reply=\"{} {}\" next-try={next_try_s}s",
            reply.code,
            reply.text.escape_ascii()
        ),
        // Given up, or the route failed behind it.
        (Some(reply), None) => {
            log::warn!("deferred id={id} reply=\"{} {}\"", reply.code, reply.text.escape_ascii());
        }
        (None, Some(_)) => log::warn!("deferred id={id} next-try={next_try_s}s"),
        (None, None) => {}
    }
}
