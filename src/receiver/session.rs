//! One client's session: what its octets mean in each state (RFC 5321 3, 4.1.4), and when it is over.
//!
//! ```text
//! state \ input  EHLO, HELO      MAIL             RCPT         DATA       RSET
//! Greeted        250 Ready       503              503          503        250
//! Ready          250 Ready       250 Transaction  503          503        250
//! Transaction    discard, Ready  503              250/45x/550  354 Data   discard, Ready
//! Data           (all is mail data, up to its end: Committing, or 45x/55x Ready)
//! Committing     (nothing is read until the spool's verdict: 250 or 45x, Ready)
//! Closing        (nothing is read)
//! ```
//! DATA in a transaction without a recipient is answered 503 and changes nothing.
//! NOOP, HELP and VRFY are answered in the first three and change nothing; QUIT closes.
//!
//! A draft lives inside the state that may have one, so it can't be forgotten: whatever ends the state ends
//! the draft. A command is handled only while the output has room for the largest reply, so a client that
//! doesn't read is no longer read. The `250` after mail data is made from a [`Receipt`] only.
//!
//! Left out: a sleep before refusals, and a check of the client's name (RFC 5321 4.1.4 forbids to refuse for
//! it).

use core::mem;

use super::admission::Peer;
use super::data::{Data, Sink, message_refusal};
use super::transaction::Transaction;
use crate::buffer::Buffer;
use crate::config::Config;
use crate::limits::RECEIVER_SLOT_OCTETS;
use crate::smtp::Next;
use crate::smtp::command::{self, Command, Service};
use crate::smtp::line::{self, Line};
use crate::smtp::path::ClientName;
use crate::smtp::reply::{self, Farewell, REPLY_OCTETS_MAX, Reply};
use crate::spool::{Device, Ended, Receipt, Store};
use crate::time::{Duration, Instant, Now};

/// Malformed or unknown commands since the last message, at which a session is closed. A refused recipient,
/// or a command out of order behind a refused MAIL, is none.
pub const BAD_COMMANDS_MAX: u8 = 20;
/// How long a session that is over waits for the client to read its last reply.
pub const CLOSING_TIMEOUT: Duration = Duration::from_s(10);

const _: () = assert!(size_of::<Session>() <= RECEIVER_SLOT_OCTETS);

/// One client's session.
#[derive(Debug)]
pub struct Session {
    pub(super) peer: Peer,
    pub(super) state: State,
    /// As EHLO or HELO gave it last.
    pub(super) client_name: ClientName,
    /// What was agreed on last.
    pub(super) service: Service,
    /// The rest of a refused command line is being dropped.
    drops_line: bool,
    bad_commands: u8,
    /// That the client may not relay is in the log: once a session, whatever it tries.
    pub(super) is_refusal_logged: bool,
    deadline: Instant,
    last_progress: Instant,
}

/// Each state carries what only it may have.
#[derive(Debug)]
pub(super) enum State {
    /// Nothing but the greeting has been said.
    Greeted,
    /// Between transactions.
    Ready,
    Transaction(Transaction),
    Data(Data),
    Committing(Committing),
    Closing,
}

/// A message that is written and waits for the turn's sync.
#[derive(Debug)]
pub(super) struct Committing {
    ended: Ended,
    octets: u64,
    recipients: u16,
}

/// What a session works with while it is driven.
pub(super) struct Turn<'a, 'b, D> {
    pub(super) now: &'a Now,
    pub(super) config: &'a Config,
    pub(super) output: &'a mut Buffer<'b>,
    pub(super) spool: &'a mut Store<D>,
}

impl<D: Device> Turn<'_, '_, D> {
    pub(super) fn say(&mut self, reply: &Reply) {
        reply.write(self.output);
    }

    /// Octets of the largest message that is taken.
    pub(super) fn message_octets_max(&self) -> u64 {
        self.config.limits.message_octets.min(self.spool.message_octets_max())
    }
}

impl Session {
    /// A session with `peer`, whose greeting is put into the empty `output`.
    pub fn new(peer: Peer, now: &Now, config: &Config, output: &mut Buffer) -> Self {
        reply::write_greeting(output, &config.hostname, config.announce);
        Self {
            peer,
            state: State::Greeted,
            client_name: ClientName::default(),
            service: Service::Basic,
            drops_line: false,
            bad_commands: 0,
            is_refusal_logged: false,
            deadline: now.instant + config.limits.command_timeout,
            last_progress: now.instant,
        }
    }

    /// Handles what is in the input as far as there is room for replies, and until a message waits for the
    /// spool's commit. Call it when octets came, when output was written, and after [`Session::committed`].
    pub fn advance<D: Device>(
        &mut self,
        now: &Now,
        config: &Config,
        input: &mut Buffer,
        output: &mut Buffer,
        spool: &mut Store<D>,
    ) -> Next {
        let mut turn = Turn { now, config, output, spool };
        // Each pass takes octets from the input or is the last, so there are no more passes than octets.
        while turn.output.room() >= REPLY_OCTETS_MAX {
            let has_moved = match self.state {
                State::Greeted | State::Ready | State::Transaction(_) => self.read_command(input, &mut turn),
                State::Data(_) => self.read_mail_data(input, &mut turn),
                State::Committing(_) | State::Closing => false,
            };
            if !has_moved {
                break;
            }
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
    /// [`Session::is_committing`]. Then call [`Session::advance`]: more commands may lie in the input.
    pub fn committed<D: Device>(
        &mut self,
        now: &Now,
        config: &Config,
        output: &mut Buffer,
        spool: &mut Store<D>,
    ) {
        let state = mem::replace(&mut self.state, State::Ready);
        let State::Committing(Committing { ended, octets, recipients }) = state else {
            unreachable!("only a session that is committing is told of a commit")
        };
        match spool.receipt(ended) {
            Ok(receipt) => accepted(receipt, &self.peer, octets, recipients, output),
            Err(refusal) => message_refusal(refusal).write(output),
        }
        self.make_progress(now, config);
    }

    /// True while a message is being received into the spool.
    pub fn has_draft(&self) -> bool {
        match &self.state {
            State::Transaction(_) => true,
            State::Data(data) => data.has_draft(),
            State::Greeted | State::Ready | State::Committing(_) | State::Closing => false,
        }
    }

    /// True when `peer` is the client's address.
    pub fn is_of(&self, peer: &Peer) -> bool {
        self.peer.address == peer.address
    }

    /// When to call [`Session::expired`].
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// When the client last did something that brought its session on: a command, or a good piece of mail
    /// data.
    pub fn last_progress(&self) -> Instant {
        self.last_progress
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
            log::info!("closed client={} reason={farewell:?}", self.peer.address);
            reply::write_farewell(output, &config.hostname, farewell);
        }
        self.lost(spool);
        Next::Close
    }

    /// Takes one command line, or drops what is left of a refused one; false when there is nothing to take.
    fn read_command<D: Device>(&mut self, input: &mut Buffer, turn: &mut Turn<D>) -> bool {
        if self.drops_line {
            let (octets, is_whole) = line::rest_of_line(input.octets());
            input.consume(octets);
            self.drops_line = !is_whole;
            return is_whole;
        }
        let (octets, parsed) = match line::next_line(input.octets()) {
            Line::Partial => return false,
            Line::Whole(line) => (line.len() + 2, command::parse(line, self.service)),
            Line::TooLong => (0, Err(reply::C500_LINE_TOO_LONG)),
            Line::BareLf => (0, Err(reply::C500_BARE_LF)),
        };
        input.consume(octets);
        self.drops_line = octets == 0;
        self.make_progress(turn.now, turn.config);
        match parsed {
            Ok(command) => self.obey(command, turn),
            Err(reply) => self.refuse(reply, turn),
        }
        true
    }

    /// All transitions but those of mail data, in the order of RFC 5321 4.1.1.
    fn obey<D: Device>(&mut self, command: Command, turn: &mut Turn<D>) {
        let state = mem::replace(&mut self.state, State::Closing);
        self.state = match (state, command) {
            (State::Data(_) | State::Committing(_) | State::Closing, _) => {
                unreachable!("no command is read in these states")
            }
            (state, Command::Ehlo(name)) => {
                reply::write_ehlo(turn.output, &turn.config.hostname, turn.message_octets_max());
                self.introduced(state, name, Service::Extended, turn)
            }
            (state, Command::Helo(name)) => {
                reply::write_helo(turn.output, &turn.config.hostname);
                self.introduced(state, name, Service::Basic, turn)
            }
            (State::Greeted, Command::Mail(_)) => unchanged(State::Greeted, reply::C503_EHLO_FIRST, turn),
            (State::Ready, Command::Mail(mail)) => self.mail(mail, turn),
            (state @ State::Transaction(_), Command::Mail(_)) => {
                unchanged(state, reply::C503_MAIL_ALREADY, turn)
            }
            (State::Transaction(transaction), Command::Rcpt(rcpt)) => self.rcpt(transaction, rcpt, turn),
            (State::Transaction(transaction), Command::Data) => self.data(transaction, turn),
            (state @ (State::Greeted | State::Ready), Command::Rcpt(_) | Command::Data) => {
                unchanged(state, reply::C503_MAIL_FIRST, turn)
            }
            (state, Command::Rset) => {
                turn.say(reply::C250_OK);
                state.without_transaction(turn.spool)
            }
            (state, Command::Vrfy) => unchanged(state, reply::C252_CANNOT_VERIFY, turn),
            (state, Command::Help) => unchanged(state, reply::C214_HELP, turn),
            (state, Command::Noop) => unchanged(state, reply::C250_OK, turn),
            (state, Command::Quit) => self.leave(state, Farewell::Quit, turn),
            (state, Command::Http) => self.leave(state, Farewell::NotSmtp, turn),
        };
    }

    fn refuse<D: Device>(&mut self, reply: &Reply, turn: &mut Turn<D>) {
        self.bad_commands += 1;
        if self.bad_commands < BAD_COMMANDS_MAX {
            turn.say(reply);
        } else {
            let state = mem::replace(&mut self.state, State::Closing);
            self.state = self.leave(state, Farewell::TooManyErrors, turn);
        }
    }

    fn introduced<D: Device>(
        &mut self,
        state: State,
        name: ClientName,
        service: Service,
        turn: &mut Turn<D>,
    ) -> State {
        self.client_name = name;
        self.service = service;
        state.give_up(turn.spool);
        State::Ready
    }

    fn leave<D: Device>(&mut self, state: State, farewell: Farewell, turn: &mut Turn<D>) -> State {
        if farewell != Farewell::Quit {
            log::info!("closed client={} reason={farewell:?}", self.peer.address);
        }
        reply::write_farewell(turn.output, &turn.config.hostname, farewell);
        self.deadline = turn.now.instant + CLOSING_TIMEOUT;
        state.give_up(turn.spool);
        State::Closing
    }

    /// Takes what there is of the mail data; false when there is nothing to take.
    fn read_mail_data<D: Device>(&mut self, input: &mut Buffer, turn: &mut Turn<D>) -> bool {
        let octets_max = turn.message_octets_max();
        let State::Data(data) = &mut self.state else { unreachable!("mail data is read in Data only") };
        let heard = data.read(input, turn.spool, octets_max);
        if heard.anything {
            self.deadline = data.deadline().min(turn.now.instant + turn.config.limits.data_timeout);
        }
        if heard.progress {
            self.last_progress = turn.now.instant;
        }
        if heard.end {
            self.end_of_mail_data(turn);
        }
        heard.end
    }

    fn end_of_mail_data<D: Device>(&mut self, turn: &mut Turn<D>) {
        let State::Data(data) = mem::replace(&mut self.state, State::Ready) else {
            unreachable!("mail data ends in Data only")
        };
        self.make_progress(turn.now, turn.config);
        self.bad_commands = 0;
        let (octets, recipients) = (data.octets(), data.recipients());
        let accepted = turn.spool.tick(turn.now.instant);
        let ended = match data.into_sink() {
            Sink::Draft(draft) => turn.spool.end(draft, accepted).map_err(message_refusal),
            Sink::Refused(reply) => Err(reply),
        };
        match ended {
            Ok(ended) => self.state = State::Committing(Committing { ended, octets, recipients }),
            Err(reply) => {
                log::info!("refused client={} octets={octets} reply={}", self.peer.address, reply.code());
                turn.say(reply);
            }
        }
    }

    /// The client has brought its session on; the next command is waited for from now.
    fn make_progress(&mut self, now: &Now, config: &Config) {
        self.last_progress = now.instant;
        self.deadline = now.instant + config.limits.command_timeout;
    }

    /// Mail data is waited for from now.
    pub(super) fn await_mail_data(&mut self, now: &Now, config: &Config) {
        self.deadline = now.instant + config.limits.data_timeout;
    }
}

impl State {
    /// Ends the state with all that it holds.
    fn give_up<D: Device>(self, spool: &mut Store<D>) {
        match self {
            Self::Greeted | Self::Ready | Self::Closing => {}
            Self::Transaction(transaction) => spool.discard(transaction.draft),
            Self::Data(data) => data.discard(spool),
            Self::Committing(committing) => spool.abandon(committing.ended),
        }
    }

    /// What RSET leaves: a client that never introduced itself still hasn't.
    fn without_transaction<D: Device>(self, spool: &mut Store<D>) -> Self {
        if matches!(self, Self::Greeted) {
            return self;
        }
        self.give_up(spool);
        Self::Ready
    }
}

fn unchanged<D: Device>(state: State, reply: &Reply, turn: &mut Turn<D>) -> State {
    turn.say(reply);
    state
}

/// The only writer of the `250` after mail data.
fn accepted(receipt: Receipt, peer: &Peer, octets: u64, recipients: u16, output: &mut Buffer) {
    let id = receipt.id();
    log::info!("received id={id} client={} octets={octets} recipients={recipients}", peer.address);
    reply::write_queued(output, id);
}
