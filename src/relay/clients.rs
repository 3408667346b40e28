//! The clients: who gets a slot, who must leave for another, what is remembered of each.

use super::{Closing, Connection, Receiver, Relay, Room, slice_of};
use crate::buffer::{Buffer, Window};
use crate::limits::{OUTPUT_OCTETS, QUEUED_MESSAGES, RECEIVER_SESSIONS};
use crate::receiver::{self, Admission, EVICT_AFTER, Peer, Users};
use crate::smtp::quirk::{Quirk, Quirks};
use crate::spool::{Device, MessageIndex, Reader, Store};
use crate::time::{Duration, Instant, Now};

/// How often evictions are told at most: under a flood of clients the log must not be one.
const EVICTIONS_TOLD_EVERY: Duration = Duration::from_s(10);

const LOST_QUIT: Quirks = {
    let mut quirks = Quirks::NONE;
    quirks.insert(Quirk::LostQuit);
    quirks
};

impl<D: Device> Relay<D> {
    /// Who may log in, from now on.
    pub fn set_users(&mut self, users: Users) {
        self.admission.users = users;
    }

    /// What is remembered of clients.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Makes room for one more client: a free slot, or that of the session which is without progress for
    /// longest.
    pub fn make_room(&mut self, now: &Now) -> Room {
        if self.receivers_open < self.config.limits.sessions.min(RECEIVER_SESSIONS) {
            return Room::Free;
        }
        let waits = |receiver: &Receiver| !receiver.session.is_committing();
        let worst = self
            .receivers
            .iter()
            .enumerate()
            .filter_map(|(at, receiver)| Some((at, receiver.as_ref().filter(|receiver| waits(receiver))?)))
            .map(|(at, receiver)| (at, receiver.session.evictable_at()))
            .min_by_key(|(_, evictable)| *evictable);
        match worst {
            Some((at, evictable)) if evictable <= now.instant => {
                self.tell_eviction(now);
                self.close_receiver(now, at, receiver::Session::evict);
                Room::Evicted(Connection::Receiver(at))
            }
            Some((_, evictable)) => Room::FreeAt(evictable),
            None => Room::FreeAt(now.instant + EVICT_AFTER),
        }
    }

    /// Gives a client a slot, with the greeting in its output; [`Relay::make_room`] must have said that there
    /// is one.
    ///
    /// # Errors
    /// The line to send to a client that has too many sessions already.
    pub fn admit(&mut self, now: &Now, peer: Peer) -> Result<Connection, &'static [u8]> {
        let of_peer =
            self.receivers.iter().flatten().filter(|receiver| receiver.session.is_of(&peer)).count();
        if of_peer >= self.config.limits.sessions_per_client {
            return Err(b"421 4.7.0 too many connections from your address\r\n");
        }
        let at = self.receivers.iter().position(Option::is_none).expect("room was made for the client");
        let mut window = Window::default();
        let mut output = Buffer::new(slice_of(&mut self.receivers_output, at, OUTPUT_OCTETS), &mut window);
        let spool = &self.spool;
        let ledger = &mut self.admission.ledger;
        let place = ledger.place_of(peer.origin, now.instant, |place| spool.held(place.number()) > 0);
        ledger.came(place);
        let session = receiver::Session::new(peer, place, now, &self.config, &mut output);
        self.receivers[at] = Some(Receiver {
            session,
            input: Window::default(),
            output: window,
            closing: Closing::No,
            is_touched: false,
        });
        self.receivers_open += 1;
        self.counters.sessions += 1;
        // Where TLS comes first, it needs a place.
        self.grant_tls(now);
        Ok(Connection::Receiver(at))
    }

    /// A client is gone.
    pub(super) fn receiver_closed(&mut self, at: usize) {
        if let Some(mut receiver) = self.receivers[at].take() {
            let ledger = &mut self.admission.ledger;
            if receiver.session.lacks_quit() && receiver.closing == Closing::No {
                ledger.met(receiver.session.place(), LOST_QUIT);
            }
            ledger.left(receiver.session.place());
            receiver.session.lost(&mut self.spool);
            self.receivers_open -= 1;
            self.committing.retain(|committing| *committing != at);
        }
    }

    pub(super) fn tell_eviction(&mut self, now: &Now) {
        self.evictions += 1;
        self.counters.evicted += 1;
        if self.evictions_told.is_none_or(|told| told + EVICTIONS_TOLD_EVERY <= now.instant) {
            log::info!("evicted sessions={} reason=\"no progress, and a new client waits\"", self.evictions);
            self.evictions = 0;
            self.evictions_told = Some(now.instant);
        }
    }
}

/// Counts the mail of an earlier run to the shares of those who sent it.
pub(super) fn charge<D: Device>(spool: &mut Store<D>, admission: &mut Admission) {
    let mut reader = Reader::new();
    for at in 0..QUEUED_MESSAGES as u32 {
        let message = MessageIndex(at);
        if !spool.is_live(message) {
            continue;
        }
        // A message that can't be read is set aside when its turn comes.
        let Ok(envelope) = reader.open(spool, message) else { continue };
        let store = &*spool;
        let has_mail = |place: receiver::Place| store.held(place.number()) > 0;
        let place = admission.ledger.place_of(envelope.client, Instant(0), has_mail);
        spool.charge(message, place.number());
    }
}
