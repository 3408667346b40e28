//! TLS of connections of both kinds, and how many clients may have it at once.
//!
//! The smarthost's connections always find a place among the board's; the clients share the others. When all
//! are taken, the client with TLS that is without progress for longest leaves for a new one, if it is so for
//! long enough; else the new one is refused. A place is free when its connection is closed, so that there are
//! never more.

use super::{CLOSE_WITHIN, Closing, Connection, Receiver, Relay, Stage, slice_of};
use crate::buffer::Buffer;
use crate::limits::{INPUT_OCTETS, OUTPUT_OCTETS, RECEIVER_SESSIONS};
use crate::receiver;
use crate::sender::TlsFault;
use crate::smtp::Next;
use crate::spool::Device;
use crate::time::Now;

impl<D: Device> Relay<D> {
    /// True when the driver is to set up TLS on this connection: all that was to go before it is written, and
    /// nothing is read. Call [`Relay::tls_started`] or [`Relay::tls_failed`].
    pub fn wants_tls(&self, at: Connection) -> bool {
        match at {
            Connection::Receiver(at) => self.receivers[at].as_ref().is_some_and(|receiver| {
                receiver.closing == Closing::No && receiver.session.wants_tls() && receiver.output.is_empty()
            }),
            Connection::Sender(at) => {
                let sender = &self.senders[at];
                sender.stage == Stage::Open
                    && sender.closing == Closing::No
                    && sender.session.wants_tls()
                    && sender.output.is_empty()
            }
        }
    }

    /// TLS stands; [`Relay::output`] and [`Relay::space`] are for what it carries from now on.
    pub fn tls_started(&mut self, now: &Now, at: Connection) {
        match at {
            Connection::Receiver(at) => {
                let Some(receiver) = &mut self.receivers[at] else { return };
                if receiver.closing != Closing::No {
                    return;
                }
                let mut input =
                    Buffer::new(slice_of(&mut self.receivers_input, at, INPUT_OCTETS), &mut receiver.input);
                let mut output = Buffer::new(
                    slice_of(&mut self.receivers_output, at, OUTPUT_OCTETS),
                    &mut receiver.output,
                );
                receiver.session.tls_started(now, &self.config, &mut input, &mut output);
            }
            Connection::Sender(at) => {
                self.senders[at].session.tls_started(now);
                self.advance_sender(now, at);
            }
        }
    }

    /// There is no TLS, and the connection is to be closed.
    pub fn tls_failed(&mut self, now: &Now, at: Connection, fault: TlsFault) {
        let by = Closing::By(now.instant + CLOSE_WITHIN);
        match at {
            Connection::Receiver(at) => {
                let Some(receiver) = &mut self.receivers[at] else { return };
                if receiver.closing != Closing::No {
                    return;
                }
                log::info!("closed client={} reason=\"{fault}\"", receiver.session.client());
                receiver.session.tls_failed();
                receiver.closing = by;
            }
            Connection::Sender(at) => {
                self.senders[at].session.tls_failed(fault);
                self.senders[at].closing = by;
            }
        }
    }

    /// Clients that have TLS, or are about to.
    pub fn tls_clients(&self) -> usize {
        self.receivers.iter().flatten().filter(|receiver| receiver.session.holds_tls_place()).count()
    }

    /// Tells those who wait for a place with TLS what becomes of them, as far as that is known.
    pub(super) fn grant_tls(&mut self, now: &Now) {
        let holds = |receiver: &&Receiver| receiver.session.holds_tls_place();
        let is_leaving = |receiver: &&Receiver| receiver.closing != Closing::No;
        // Each of these places is free soon, for one who waits.
        let mut vacated = self.receivers.iter().flatten().filter(holds).filter(is_leaving).count();
        for at in 0..RECEIVER_SESSIONS {
            let waits =
                |receiver: &Receiver| receiver.closing == Closing::No && receiver.session.wants_tls_place();
            if !self.receivers[at].as_ref().is_some_and(waits) {
                continue;
            }
            if self.tls_clients() < self.config.tls_clients_max() {
                self.tell_tls(now, at, true);
            } else if vacated > 0 {
                vacated -= 1;
            } else if !self.evict_tls(now) {
                self.tell_tls(now, at, false);
            }
        }
    }

    fn tell_tls(&mut self, now: &Now, at: usize, is_granted: bool) {
        let Some(receiver) = &mut self.receivers[at] else { return };
        let mut input =
            Buffer::new(slice_of(&mut self.receivers_input, at, INPUT_OCTETS), &mut receiver.input);
        let mut output =
            Buffer::new(slice_of(&mut self.receivers_output, at, OUTPUT_OCTETS), &mut receiver.output);
        let buffers = (&mut input, &mut output);
        // Commands behind a refused one go on when its reply is written.
        if receiver.session.grant_tls(is_granted, now, &self.config, buffers) == Next::Close {
            receiver.closing = Closing::By(now.instant + CLOSE_WITHIN);
        }
        self.touch(Connection::Receiver(at));
    }

    /// Ends the session with TLS that is without progress for longest, at once; false when each goes on.
    fn evict_tls(&mut self, now: &Now) -> bool {
        let may_leave = |receiver: &Receiver| {
            receiver.session.holds_tls_place()
                && !receiver.session.is_committing()
                && receiver.session.evictable_at() <= now.instant
        };
        let worst = self
            .receivers
            .iter()
            .enumerate()
            .filter_map(|(at, receiver)| {
                Some((at, receiver.as_ref().filter(|receiver| may_leave(receiver))?))
            })
            .min_by_key(|(_, receiver)| receiver.session.evictable_at());
        let Some((at, _)) = worst else { return false };
        self.tell_eviction(now);
        self.close_receiver(now, at, receiver::Session::evict);
        if let Some(receiver) = &mut self.receivers[at] {
            // The place is waited for: its last reply is tried once.
            receiver.closing = Closing::By(now.instant);
        }
        true
    }
}
