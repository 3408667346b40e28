//! One client's session: what its octets mean in each state (RFC 5321 3, 4.1.4), and when it is over.
//!
//! ```text
//! state \ input  EHLO, HELO  MAIL             RCPT         DATA      BDAT   AUTH       STARTTLS  RSET
//! Greeted        Ready       503              503          503       503    503        503       250
//! Ready          Ready       250 Transaction  503          503       503    334 Login  TlsAsked  250
//! Login          (a line is a response: 235 or 535 Ready, or 334)
//! Transaction    Ready       503              250/45x/550  354 Data  Chunk  503        503       250 Ready
//! Data           (all is mail data, up to its end: Committing, or 45x/55x Ready)
//! Chunk          (so many octets are mail data: 250 Chunks; behind the last chunk as behind Data)
//! Chunks         Ready       503              503          503       Chunk  503        503       250 Ready
//! Committing     (nothing is read until the spool's verdict: 250 or 45x, Ready)
//! TlsAsked       (nothing is read until a place is granted: 220 Handshake, or 454 Ready)
//! Handshake      (nothing is read until TLS stands: Greeted)
//! Closing        (nothing is read)
//! ```
//! What leaves Transaction or Chunks for Ready gives the draft up.
//! DATA or BDAT in a transaction without a recipient is answered 503 and changes nothing; the octets of a
//! refused BDAT are read and dropped. NOOP, HELP and VRFY are answered wherever commands are read and change
//! nothing; QUIT closes.
//!
//! A draft lives inside the state that may have one, so it can't be forgotten: whatever ends the state ends
//! the draft. A command is handled only while the output has room for the largest reply, so a client that
//! doesn't read is no longer read. The `250` after mail data is made from a [`Receipt`] only.
//!
//! Left out: a sleep before refusals, and a check of the client's name (RFC 5321 4.1.4 forbids to refuse for
//! it).

use core::mem;

use super::admission::{Admission, Peer};
use super::commands::Drops;
use super::data::{Data, message_refusal};
use super::ledger::Place;
use super::login::Exchange;
use super::tls::Begin;
use super::transaction::{Chunk, Transaction};
use crate::buffer::Buffer;
use crate::config::Config;
use crate::limits::RECEIVER_SLOT_OCTETS;
use crate::smtp::Next;
use crate::smtp::command::Service;
use crate::smtp::path::ClientName;
use crate::smtp::reply::{self, Farewell, REPLY_OCTETS_MAX, Reply};
use crate::smtp::trace::Origin;
use crate::spool::{Device, Ended, Receipt, Share, Store};
use crate::time::{Duration, Instant, Now};

/// Malformed or unknown commands since the last message, at which a session is closed. A refused recipient,
/// or a command out of order behind a refused MAIL, is none.
pub const BAD_COMMANDS_MAX: u8 = 20;
/// How long a session that is over waits for the client to read its last reply.
pub const CLOSING_TIMEOUT: Duration = Duration::from_s(10);
/// How long a session may be without progress before it can be made to leave for a new client.
pub const EVICT_AFTER: Duration = Duration::from_s(1);
/// The same for one that has not said anything of use yet: a crowd of them must not keep others waiting.
pub const EVICT_FRESH_AFTER: Duration = Duration(100);

const _: () = assert!(size_of::<Session>() <= RECEIVER_SLOT_OCTETS);

/// One client's session.
#[derive(Debug)]
pub struct Session {
    pub(super) peer: Peer,
    /// What is remembered of the client.
    pub(super) place: Place,
    pub(super) state: State,
    /// As EHLO or HELO gave it last.
    pub(super) client_name: ClientName,
    /// What was agreed on last.
    pub(super) service: Service,
    /// TLS stands.
    pub(super) is_tls: bool,
    /// The client has logged in.
    pub(super) is_logged_in: bool,
    pub(super) failed_logins: u8,
    /// What is being dropped.
    pub(super) drops: Drops,
    pub(super) bad_commands: u8,
    /// A command of use was heard.
    has_obeyed: bool,
    /// A message was accepted.
    has_sent: bool,
    /// More came with the end of the mail data, which after HELO it shouldn't.
    pub(super) is_early: bool,
    /// That the client may not relay is in the log: once a session, whatever it tries.
    pub(super) is_refusal_logged: bool,
    pub(super) deadline: Instant,
    pub(super) last_progress: Instant,
}

/// Each state carries what only it may have.
#[derive(Debug)]
pub(super) enum State {
    /// Nothing but the greeting has been said.
    Greeted,
    /// Between transactions.
    Ready,
    /// A response is waited for.
    Login(Exchange),
    /// A place for one more client with TLS is waited for.
    TlsAsked(Begin),
    /// The handshake is.
    Handshake(Begin),
    Transaction(Transaction),
    Data(Data),
    /// In a chunk.
    Chunk(Data, Chunk),
    /// Between two chunks.
    Chunks(Data),
    Committing(Committing),
    Closing,
}

/// A message that is written and waits for the turn's sync.
#[derive(Debug)]
pub(super) struct Committing {
    pub(super) ended: Ended,
    pub(super) octets: u64,
    pub(super) recipients: u16,
}

/// What a session works with while it is driven.
pub(super) struct Turn<'a, 'b, D> {
    pub(super) now: &'a Now,
    pub(super) config: &'a Config,
    pub(super) output: &'a mut Buffer<'b>,
    pub(super) spool: &'a mut Store<D>,
    pub(super) admission: &'a mut Admission,
    /// Refusals so far, and the last one.
    pub(super) refusals: u32,
    pub(super) refusal: Option<&'static str>,
}

impl<D: Device> Turn<'_, '_, D> {
    pub(super) fn say(&mut self, reply: &Reply) {
        if reply.code() >= 400 {
            self.refuse(reply.wire());
        }
        reply.write(self.output);
    }

    /// Remembers a refusal, for the ledger.
    pub(super) fn refuse(&mut self, reason: &'static str) {
        self.refusals += 1;
        self.refusal = Some(reason);
    }

    /// The part of the spool that the client's mail may hold.
    pub(super) fn share(&self, place: Place) -> Share {
        self.spool.share(place.number(), self.config.limits.spool_share_percent)
    }

    /// Octets of the largest message that is taken from the client.
    pub(super) fn message_octets_max(&self, place: Place) -> u64 {
        self.config.limits.message_octets.min(self.spool.message_octets_max_within(self.share(place)))
    }
}

impl Session {
    /// A session with `peer`, who has that `place` in the ledger; its greeting is put into the empty
    /// `output`, unless TLS comes first.
    pub fn new(peer: Peer, place: Place, now: &Now, config: &Config, output: &mut Buffer) -> Self {
        let mut session = Self {
            peer,
            place,
            state: State::Greeted,
            client_name: ClientName::default(),
            service: Service::Basic,
            is_tls: false,
            is_logged_in: false,
            failed_logins: 0,
            drops: Drops::Nothing,
            bad_commands: 0,
            has_obeyed: false,
            has_sent: false,
            is_early: false,
            is_refusal_logged: false,
            deadline: now.instant + config.limits.command_timeout,
            last_progress: now.instant,
        };
        session.state = session.first_state(config);
        if !session.is_deaf() {
            reply::write_greeting(output, &config.hostname, config.announce);
        }
        session
    }

    /// Handles what is in the input as far as there is room for replies, and until a message waits for the
    /// spool's commit. Call it when octets came, when output was written, and after [`Session::committed`].
    pub fn advance<D: Device>(
        &mut self,
        now: &Now,
        config: &Config,
        input: &mut Buffer,
        output: &mut Buffer,
        (spool, admission): (&mut Store<D>, &mut Admission),
    ) -> Next {
        let mut turn = Turn { now, config, output, spool, admission, refusals: 0, refusal: None };
        // Each pass takes octets from the input or is the last, so there are no more passes than octets.
        while turn.output.room() >= REPLY_OCTETS_MAX {
            let has_moved = match self.state {
                State::Committing(_) | State::TlsAsked(_) | State::Handshake(_) | State::Closing => false,
                _ if self.drops != Drops::Nothing => self.drop_octets(input, &mut turn),
                State::Greeted | State::Ready | State::Transaction(_) | State::Chunks(_) => {
                    self.read_command(input, &mut turn)
                }
                State::Login(_) => self.read_response(input, &mut turn),
                State::Data(_) | State::Chunk(..) => self.read_mail_data(input, &mut turn),
            };
            if !has_moved {
                break;
            }
        }
        if let Some(reason) = turn.refusal {
            turn.admission.ledger.refused(self.place, now.instant, turn.refusals, reason);
        }
        if matches!(self.state, State::Closing) {
            input.clear();
            return Next::Close;
        }
        Next::Continue
    }

    /// True while a message of this session waits for [`Store::commit`].
    pub fn is_committing(&self) -> bool {
        matches!(self.state, State::Committing(_))
    }

    /// Tells the client what has become of its message, after [`Store::commit`]; only while
    /// [`Session::is_committing`]. Then call [`Session::advance`]: more commands may lie in the input. Gives
    /// the refusal where the message was not taken.
    pub fn committed<D: Device>(
        &mut self,
        now: &Now,
        config: &Config,
        output: &mut Buffer,
        spool: &mut Store<D>,
    ) -> Option<&'static str> {
        let state = mem::replace(&mut self.state, State::Ready);
        let State::Committing(Committing { ended, octets, recipients }) = state else {
            unreachable!("only a session that is committing is told of a commit")
        };
        let refused = match spool.receipt(ended) {
            Ok(receipt) => {
                self.has_sent = true;
                accepted(receipt, &self.peer, octets, recipients, output);
                None
            }
            Err(refusal) => {
                let reply = message_refusal(refusal);
                reply.write(output);
                Some(reply.wire())
            }
        };
        self.make_progress(now, config);
        refused
    }

    /// The client's place in the ledger.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Who the client is.
    pub fn client(&self) -> Origin {
        self.peer.origin
    }

    /// True when TLS stands.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// True when the client has sent a message and not said QUIT.
    pub fn lacks_quit(&self) -> bool {
        self.has_sent && !matches!(self.state, State::Closing)
    }

    /// True while a message is being received into the spool.
    pub fn has_draft(&self) -> bool {
        match &self.state {
            State::Transaction(_) => true,
            State::Data(data) | State::Chunk(data, _) | State::Chunks(data) => data.has_draft(),
            State::Greeted
            | State::Ready
            | State::Login(_)
            | State::TlsAsked(_)
            | State::Handshake(_)
            | State::Committing(_)
            | State::Closing => false,
        }
    }

    /// True when `peer` is the same client.
    pub fn is_of(&self, peer: &Peer) -> bool {
        self.peer.origin == peer.origin
    }

    /// When to call [`Session::expired`].
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// From when on the session can be made to leave for a new client: it has done nothing of use for a
    /// while, neither a command nor a good piece of mail data.
    pub fn evictable_at(&self) -> Instant {
        // A handshake takes its time on a slow device, and holds a place that there are few of.
        let is_fresh = !self.has_obeyed && !self.wants_tls();
        self.last_progress + if is_fresh { EVICT_FRESH_AFTER } else { EVICT_AFTER }
    }

    /// The deadline has passed.
    pub fn expired<D: Device>(&mut self, config: &Config, output: &mut Buffer, spool: &mut Store<D>) -> Next {
        self.close(Farewell::TimedOut, config, output, spool)
    }

    /// The session's place is needed for a new client.
    pub fn evict<D: Device>(&mut self, config: &Config, output: &mut Buffer, spool: &mut Store<D>) -> Next {
        self.close(Farewell::Evicted, config, output, spool)
    }

    /// The relay stops.
    pub fn shut_down<D: Device>(
        &mut self,
        config: &Config,
        output: &mut Buffer,
        spool: &mut Store<D>,
    ) -> Next {
        self.close(Farewell::ShuttingDown, config, output, spool)
    }

    /// The connection is gone (RFC 5321 4.1.1.10): an open transaction is given up; a message that only waits
    /// for its commit stands, if it becomes durable.
    pub fn lost<D: Device>(&mut self, spool: &mut Store<D>) {
        mem::replace(&mut self.state, State::Closing).give_up(spool);
    }

    fn close<D: Device>(
        &mut self,
        farewell: Farewell,
        config: &Config,
        output: &mut Buffer,
        spool: &mut Store<D>,
    ) -> Next {
        if !matches!(self.state, State::Closing) {
            log::info!("closed client={} reason={farewell:?}", self.peer.origin);
            // In front of TLS the client could not read it.
            if !self.is_deaf() {
                reply::write_farewell(output, &config.hostname, farewell);
            }
        }
        self.lost(spool);
        Next::Close
    }

    /// The client has brought its session on; the next command is waited for from now.
    pub(super) fn make_progress(&mut self, now: &Now, config: &Config) {
        self.has_obeyed = true;
        self.last_progress = now.instant;
        self.await_command(now, config);
    }

    /// The next command is waited for from now.
    pub(super) fn await_command(&mut self, now: &Now, config: &Config) {
        self.deadline = now.instant + config.limits.command_timeout;
    }

    /// Mail data is waited for from now.
    pub(super) fn await_mail_data(&mut self, now: &Now, config: &Config) {
        self.deadline = now.instant + config.limits.data_timeout;
    }
}

impl State {
    /// Ends the state with all that it holds.
    pub(super) fn give_up<D: Device>(self, spool: &mut Store<D>) {
        match self {
            Self::Greeted
            | Self::Ready
            | Self::Login(_)
            | Self::TlsAsked(_)
            | Self::Handshake(_)
            | Self::Closing => {}
            Self::Transaction(transaction) => spool.discard(transaction.draft),
            Self::Data(data) | Self::Chunk(data, _) | Self::Chunks(data) => data.discard(spool),
            Self::Committing(committing) => spool.abandon(committing.ended),
        }
    }

    /// What RSET leaves: a client that never introduced itself still hasn't.
    pub(super) fn without_transaction<D: Device>(self, spool: &mut Store<D>) -> Self {
        if matches!(self, Self::Greeted) {
            return self;
        }
        self.give_up(spool);
        Self::Ready
    }
}

/// The only writer of the `250` after mail data.
fn accepted(receipt: Receipt, peer: &Peer, octets: u64, recipients: u16, output: &mut Buffer) {
    let id = receipt.id();
    log::info!("received id={id} client={} octets={octets} recipients={recipients}", peer.origin);
    reply::write_queued(output, id);
}
