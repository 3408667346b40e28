//! The whole relay as one value: sessions with their buffers, the queue, the route, the spool. What the event
//! loop calls, and the simulator; there is no other way in.
//!
//! The driver moves octets: [`Relay::space`] and [`Relay::filled`], [`Relay::output`] and [`Relay::sent`].
//! Once a turn, after all that came was handed in, it calls [`Relay::turn`]: recipients' results are
//! recorded, one sync makes all messages durable that ended in the turn, their clients are told, and what may
//! leave begins to leave. Then it writes what [`Relay::next_touched`] names, and last it calls
//! [`Relay::expire`].
//!
//! Invariants: every connection has one slot, every slot at most one session. A message is in the queue, or
//! with one sender, or settled. Nothing here waits, and nothing allocates after [`Relay::new`].

use crate::buffer::{Buffer, Window};
use crate::config::Config;
use crate::jitter::Jitter;
use crate::limits::{
    INPUT_OCTETS, OUTPUT_OCTETS, RECEIVER_SESSIONS, RECEIVER_SLOT_OCTETS, RECIPIENTS, SENDER_CONNECTIONS,
    SENDER_INPUT_OCTETS, SENDER_OUTPUT_OCTETS, SENDER_SLOT_OCTETS,
};
use crate::queue::{NoticeRate, Queue};
use crate::receiver::{self, Admission};
use crate::sender::{self, Route};
use crate::smtp::Next;
use crate::spool::{DRAFT_SLOT_OCTETS, Device, RecipientState, Store};
use crate::time::{Duration, Instant, Now};

mod admin;
mod clients;
mod connection;
pub mod control;
mod counters;
mod damage;
mod holding;
mod notices;
mod relaying;
mod reload;
mod routes;
mod tls;

pub use admin::{Removal, Retrial};
pub use connection::Connection;
pub use counters::Counters;

/// How long a session that is over may take to write its last reply.
const CLOSE_WITHIN: Duration = Duration::from_s(10);

const _: () = assert!(size_of::<Option<Receiver>>() + DRAFT_SLOT_OCTETS <= RECEIVER_SLOT_OCTETS);
const _: () = assert!(size_of::<Sender>() <= SENDER_SLOT_OCTETS);

/// Whether there is a slot for one more client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is one.
    Free,
    /// There is one as soon as this connection, which was told, is closed.
    Evicted(Connection),
    /// Ask again then, or when a connection was closed.
    FreeAt(Instant),
}

/// How a slot's connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// When its output is written, or at the latest then.
    By(Instant),
}

#[derive(Debug)]
struct Receiver {
    session: receiver::Session,
    input: Window,
    output: Window,
    closing: Closing,
    is_touched: bool,
}

#[derive(Debug)]
struct Sender {
    session: sender::Session,
    input: Window,
    output: Window,
    stage: Stage,
    /// The place of the smarthost that it is for.
    smarthost: usize,
    closing: Closing,
    is_touched: bool,
}

/// How far a sender's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Vacant,
    /// Asked for; the driver opens it.
    Opening,
    Open,
}

/// The relay over its disk.
#[derive(Debug)]
pub struct Relay<D> {
    config: Config,
    spool: Store<D>,
    queue: Queue,
    /// The ways to the smarthosts, in the order of the configuration.
    routes: Box<[Route]>,
    jitter: Jitter,
    receivers: Box<[Option<Receiver>]>,
    receivers_input: Box<[u8]>,
    receivers_output: Box<[u8]>,
    receivers_open: usize,
    admission: Admission,
    counters: Counters,
    /// Sessions that were evicted since that was told.
    evictions: u32,
    evictions_told: Option<Instant>,
    senders: Box<[Sender]>,
    senders_input: Box<[u8]>,
    senders_output: Box<[u8]>,
    /// Receivers whose message ended in this turn.
    committing: heapless::Vec<usize, RECEIVER_SESSIONS>,
    touched: heapless::Vec<Connection, { RECEIVER_SESSIONS + SENDER_CONNECTIONS }>,
    /// The states of a message while they are written down.
    settling: Box<[RecipientState]>,
    notice_rate: NoticeRate,
    /// When `admin` may be told of damage again.
    damage_told_again_at: Instant,
    is_stopping: bool,
    /// No message is begun, as the settings are about to change.
    is_draining: bool,
}

impl<D: Device> Relay<D> {
    /// A relay without connections; the spool's messages are queued. `seed` spreads the waits.
    pub fn new(config: Config, mut spool: Store<D>, seed: u64) -> Self {
        let sender = |_| Sender {
            session: sender::Session::new(),
            input: Window::default(),
            output: Window::default(),
            stage: Stage::Vacant,
            smarthost: 0,
            closing: Closing::No,
            is_touched: false,
        };
        let mut admission = Admission::default();
        clients::charge(&mut spool, &mut admission);
        let mut queue = Queue::new();
        for message in spool.messages() {
            let facts = spool.facts(message);
            if facts.waiting > 0 || facts.owed > 0 {
                queue.push_recovered(message, &facts);
            }
        }
        let routes = config.smarthosts.iter().map(|_| Route::new()).collect();
        Self {
            config,
            spool,
            queue,
            routes,
            jitter: Jitter::new(seed),
            receivers: (0..RECEIVER_SESSIONS).map(|_| None).collect(),
            receivers_input: vec![0; RECEIVER_SESSIONS * INPUT_OCTETS].into_boxed_slice(),
            receivers_output: vec![0; RECEIVER_SESSIONS * OUTPUT_OCTETS].into_boxed_slice(),
            receivers_open: 0,
            admission,
            counters: Counters::default(),
            evictions: 0,
            evictions_told: None,
            senders: (0..SENDER_CONNECTIONS).map(sender).collect(),
            senders_input: vec![0; SENDER_CONNECTIONS * SENDER_INPUT_OCTETS].into_boxed_slice(),
            senders_output: vec![0; SENDER_CONNECTIONS * SENDER_OUTPUT_OCTETS].into_boxed_slice(),
            committing: heapless::Vec::new(),
            touched: heapless::Vec::new(),
            settling: vec![RecipientState::Waiting; RECIPIENTS].into_boxed_slice(),
            notice_rate: NoticeRate::new(),
            damage_told_again_at: Instant(0),
            is_stopping: false,
            is_draining: false,
        }
    }

    /// Where the driver may read into; empty: it is not to read now.
    pub fn space(&mut self, at: Connection) -> &mut [u8] {
        match at {
            Connection::Receiver(at) => {
                let Some(receiver) = &mut self.receivers[at] else { return &mut [] };
                let is_deaf = receiver.session.is_committing() || receiver.session.is_deaf();
                if is_deaf || receiver.closing != Closing::No {
                    return &mut [];
                }
                Buffer::new(slice_of(&mut self.receivers_input, at, INPUT_OCTETS), &mut receiver.input)
                    .into_space()
            }
            Connection::Sender(at) => {
                let sender = &mut self.senders[at];
                if sender.closing != Closing::No || sender.session.wants_tls() {
                    return &mut [];
                }
                Buffer::new(slice_of(&mut self.senders_input, at, SENDER_INPUT_OCTETS), &mut sender.input)
                    .into_space()
            }
        }
    }

    /// So many octets came into [`Relay::space`].
    pub fn filled(&mut self, now: &Now, at: Connection, octets: usize) {
        match at {
            Connection::Receiver(at) => {
                let Some(receiver) = &mut self.receivers[at] else { return };
                Buffer::new(slice_of(&mut self.receivers_input, at, INPUT_OCTETS), &mut receiver.input)
                    .filled(octets);
                self.advance_receiver(now, at);
            }
            Connection::Sender(at) => {
                let sender = &mut self.senders[at];
                Buffer::new(slice_of(&mut self.senders_input, at, SENDER_INPUT_OCTETS), &mut sender.input)
                    .filled(octets);
                self.advance_sender(now, at);
                self.ride_along(now, at);
            }
        }
    }

    /// What is to be written.
    pub fn output(&self, at: Connection) -> &[u8] {
        match at {
            Connection::Receiver(at) => self.receivers[at]
                .as_ref()
                .map_or(&[], |receiver| receiver.output.of(&self.receivers_output[at * OUTPUT_OCTETS..])),
            Connection::Sender(at) => {
                self.senders[at].output.of(&self.senders_output[at * SENDER_OUTPUT_OCTETS..])
            }
        }
    }

    /// So many octets of [`Relay::output`] were written.
    pub fn sent(&mut self, now: &Now, at: Connection, octets: usize) {
        match at {
            Connection::Receiver(at) => {
                let Some(receiver) = &mut self.receivers[at] else { return };
                Buffer::new(slice_of(&mut self.receivers_output, at, OUTPUT_OCTETS), &mut receiver.output)
                    .consume(octets);
                // Whole commands may lie in the input that had no room for their replies.
                if !receiver.input.is_empty() {
                    self.advance_receiver(now, at);
                }
            }
            Connection::Sender(at) => {
                let sender = &mut self.senders[at];
                Buffer::new(slice_of(&mut self.senders_output, at, SENDER_OUTPUT_OCTETS), &mut sender.output)
                    .consume(octets);
                self.advance_sender(now, at);
                self.ride_along(now, at);
            }
        }
    }

    /// True when the connection is to be closed as soon as its output is written.
    pub fn is_closing(&self, at: Connection) -> bool {
        match at {
            Connection::Receiver(at) => {
                self.receivers[at].as_ref().is_none_or(|receiver| receiver.closing != Closing::No)
            }
            Connection::Sender(at) => self.senders[at].closing != Closing::No,
        }
    }

    /// True when the connection's time to write its last output is over too.
    pub fn is_overdue(&self, now: &Now, at: Connection) -> bool {
        let closing = match at {
            Connection::Receiver(at) => {
                self.receivers[at].as_ref().map_or(Closing::No, |receiver| receiver.closing)
            }
            Connection::Sender(at) => self.senders[at].closing,
        };
        matches!(closing, Closing::By(by) if by <= now.instant)
    }

    /// True while a message of this connection waits for [`Relay::turn`].
    pub fn is_committing(&self, at: Connection) -> bool {
        match at {
            Connection::Receiver(at) => {
                self.receivers[at].as_ref().is_some_and(|receiver| receiver.session.is_committing())
            }
            Connection::Sender(_) => false,
        }
    }

    /// The connection is gone, whoever ended it; its slot is free.
    pub fn closed(&mut self, now: &Now, at: Connection) {
        self.touched.retain(|touched| *touched != at);
        match at {
            Connection::Receiver(at) => {
                self.receiver_closed(at);
                self.grant_tls(now);
            }
            Connection::Sender(at) => {
                self.senders[at].is_touched = false;
                self.sender_closed(now, at);
            }
        }
    }

    /// Ends a turn: results, one sync, receipts, and what may leave begins to.
    pub fn turn(&mut self, now: &Now) {
        self.record_results(now);
        let report = self.report_damage(now);
        self.spool.commit(now.instant);
        if let Some(report) = report {
            self.damage_reported(now, report);
        }
        // Only those whose messages this sync covers: a client that doesn't wait for replies has its next one
        // in hand right away, and that one waits for the next turn's.
        for at in core::mem::take(&mut self.committing) {
            let Some(receiver) = &mut self.receivers[at] else { continue };
            let mut output =
                Buffer::new(slice_of(&mut self.receivers_output, at, OUTPUT_OCTETS), &mut receiver.output);
            let refused = receiver.session.committed(now, &self.config, &mut output, &mut self.spool);
            let ledger = &mut self.admission.ledger;
            match refused {
                None => ledger.took(receiver.session.place(), now.instant, receiver.session.is_tls()),
                Some(reason) => ledger.refused(receiver.session.place(), now.instant, 1, reason),
            }
            self.touch(Connection::Receiver(at));
            self.advance_receiver(now, at);
        }
        while let Some(message) = self.spool.next_committed() {
            self.counters.received += 1;
            self.queue.push(message, &self.spool.facts(message));
        }
        self.begin_messages(now);
    }

    /// The connections whose output changed in [`Relay::turn`], [`Relay::expire`] or [`Relay::shut_down`],
    /// one a call.
    pub fn next_touched(&mut self) -> Option<Connection> {
        let at = self.touched.pop()?;
        match at {
            Connection::Receiver(at) => {
                if let Some(receiver) = &mut self.receivers[at] {
                    receiver.is_touched = false;
                }
            }
            Connection::Sender(at) => self.senders[at].is_touched = false,
        }
        Some(at)
    }

    /// Judges all deadlines by `now`.
    pub fn expire(&mut self, now: &Now) {
        for at in 0..RECEIVER_SESSIONS {
            let Some(receiver) = &mut self.receivers[at] else { continue };
            match receiver.closing {
                Closing::No if receiver.session.deadline() <= now.instant => {
                    self.close_receiver(now, at, receiver::Session::expired);
                }
                Closing::By(by) if by <= now.instant => self.touch(Connection::Receiver(at)),
                Closing::No | Closing::By(_) => {}
            }
        }
        self.expire_senders(now);
    }

    /// When something is due although nothing comes; `None`: never.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        if !self.committing.is_empty() {
            return Some(now);
        }
        let receivers = self.receivers.iter().flatten().map(|receiver| match receiver.closing {
            Closing::No => receiver.session.deadline(),
            Closing::By(by) => by,
        });
        let senders = self.senders.iter().filter_map(|sender| match sender.closing {
            Closing::No => sender.session.deadline(),
            Closing::By(by) => Some(by),
        });
        let due = receivers.chain(senders).chain(self.spool.deadline()).chain(self.relaying_due(now));
        due.chain(self.damage_due()).min()
    }

    /// Says 421 to all clients and ends the connections to the smarthost; messages that wait for their sync
    /// get it first.
    pub fn shut_down(&mut self, now: &Now) {
        self.is_stopping = true;
        // A client that doesn't wait for replies may have several messages in hand: each gets its verdict, as
        // none may be told 421 and be kept.
        for _ in 0..INPUT_OCTETS {
            self.turn(now);
            if self.committing.is_empty() {
                break;
            }
        }
        for at in 0..RECEIVER_SESSIONS {
            self.close_receiver(now, at, receiver::Session::shut_down);
        }
        self.quit_senders(now);
    }

    /// The last call before the process ends. A crash is as good, but a note in the spool helps to tell later
    /// damage from an interrupted draft.
    pub fn close(&mut self, now: &Now) {
        self.spool.close(now.instant);
    }

    /// Clients that have a slot.
    pub fn clients(&self) -> usize {
        self.receivers_open
    }

    /// Clients whose message is being received into the spool.
    pub fn drafts(&self) -> usize {
        self.receivers.iter().flatten().filter(|receiver| receiver.session.has_draft()).count()
    }

    /// What has happened since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The spool, for figures.
    pub fn spool(&self) -> &Store<D> {
        &self.spool
    }

    fn advance_receiver(&mut self, now: &Now, at: usize) {
        let Some(receiver) = &mut self.receivers[at] else { return };
        if receiver.closing != Closing::No || receiver.session.is_committing() {
            return;
        }
        let mut input =
            Buffer::new(slice_of(&mut self.receivers_input, at, INPUT_OCTETS), &mut receiver.input);
        let mut output =
            Buffer::new(slice_of(&mut self.receivers_output, at, OUTPUT_OCTETS), &mut receiver.output);
        let shared = (&mut self.spool, &mut self.admission);
        let next = receiver.session.advance(now, &self.config, &mut input, &mut output, shared);
        if next == Next::Close {
            receiver.closing = Closing::By(now.instant + CLOSE_WITHIN);
        }
        if receiver.session.is_committing() {
            self.committing.push(at).expect("a session is in the list once, until its commit");
        }
        if receiver.session.wants_tls_place() {
            self.grant_tls(now);
        }
    }

    /// Ends a client's session with a last reply.
    fn close_receiver(
        &mut self,
        now: &Now,
        at: usize,
        end: impl FnOnce(&mut receiver::Session, &Config, &mut Buffer, &mut Store<D>) -> Next,
    ) {
        let Some(receiver) = &mut self.receivers[at] else { return };
        if receiver.closing != Closing::No {
            return;
        }
        let mut output =
            Buffer::new(slice_of(&mut self.receivers_output, at, OUTPUT_OCTETS), &mut receiver.output);
        if end(&mut receiver.session, &self.config, &mut output, &mut self.spool) == Next::Close {
            receiver.closing = Closing::By(now.instant + CLOSE_WITHIN);
        }
        self.committing.retain(|committing| *committing != at);
        self.touch(Connection::Receiver(at));
    }

    fn touch(&mut self, at: Connection) {
        let is_touched = match at {
            Connection::Receiver(at) => match &mut self.receivers[at] {
                Some(receiver) => &mut receiver.is_touched,
                None => return,
            },
            Connection::Sender(at) => &mut self.senders[at].is_touched,
        };
        if !core::mem::replace(is_touched, true) {
            self.touched.push(at).expect("a connection is in the list once");
        }
    }
}

/// The octets of slot `at` in a table of all slots' buffers.
fn slice_of(table: &mut [u8], at: usize, octets: usize) -> &mut [u8] {
    &mut table[at * octets..(at + 1) * octets]
}
