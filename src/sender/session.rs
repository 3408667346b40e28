//! One connection to the smarthost, from its greeting to QUIT (RFC 5321 3.1, 3.2, 3.8, 4.1.1.1, 4.1.1.10,
//! 4.5.3.2).
//!
//! ```text
//! Closed -> [Handshake] -> Greeting -> Hello [-> StartTls -> Handshake -> Hello]
//! Hello [-> Secret -> Auth] -> Ready
//! Ready <-> Transaction -> MailData -> Verdict -> Ready or the next Transaction
//!           Transaction with its mail data in a chunk -> Verdict
//!           Verdict -> Transaction of the next message, the verdict still awaited
//! Ready -> Quit -> Closed
//! ```
//! Replies are counted against commands; one that answers nothing ends the session, and so do 421, a reply
//! that is none, silence, and a closed connection: each is a [`Fault`] of the route, and the message that was
//! under way is not charged. A result stays in the session, past the connection's end, until
//! [`Session::recorded`].
//!
//! The driver writes the output and reads input whenever it can, calls [`Session::advance`] after either, and
//! calls [`Session::lost`] only when all that was read before has been handed over. What to do within a mail
//! transaction stands in `transaction.rs`, the mail data in `mail_data.rs`, all up to Ready in `opening.rs`,
//! the ends in `closing.rs`.
use core::net::IpAddr;

use super::attempt::{Attempt, Ending, Record};
use super::auth::{self, Exchange};
use super::chunks::Chunks;
use super::extensions::Extensions;
use super::faults::{Hits, Stage};
use super::mail_data::MailData;
use super::notice::Notice;
use super::rewriting::Rewriting;
use super::transaction::Transaction;
use super::{Fault, TlsFault};
use crate::buffer::Buffer;
use crate::config::{Config, Mechanism, Smarthost, TlsPolicy};
use crate::limits::{DOMAIN_OCTETS_MAX, SENDER_OUTPUT_OCTETS, SENDER_SLOT_OCTETS, SMARTHOSTS};
use crate::smtp::Next;
use crate::smtp::reply_reader::{ReplyLine, ReplyReader, Severity};
use crate::smtp::trace::RECEIVED_OCTETS_MAX;
use crate::spool::{Damage, Device, Envelope, KeptReply, MessageIndex, Reader, Store};
use crate::time::{Duration, Instant, Now, Wall};

/// Room that must be in the output before a command is written; no command is longer: RFC 5321 4.5.3.1.4, and
/// what RFC 3461 4 adds to RCPT.
pub(super) const COMMAND_OCTETS_MAX: usize = 512 + 500;
const _: () = assert!(COMMAND_OCTETS_MAX >= "EHLO \r\n".len() + DOMAIN_OCTETS_MAX);
const _: () =
    assert!(SENDER_OUTPUT_OCTETS >= COMMAND_OCTETS_MAX && SENDER_OUTPUT_OCTETS >= RECEIVED_OCTETS_MAX);
const _: () = assert!(size_of::<Session>() <= SENDER_SLOT_OCTETS);

/// RFC 5321 4.5.3.2.1, and what we allow EHLO.
const GREETING_TIMEOUT: Duration = Duration::from_min(5);
/// A handshake takes a few round trips, and a slow board's arithmetic.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_min(1);
/// RFC 5321 4.5.3.2.6.
const VERDICT_TIMEOUT: Duration = Duration::from_min(10);
/// How long the reply to QUIT is waited for.
const QUIT_TIMEOUT: Duration = Duration::from_s(5);
/// How long a connection without a message is kept.
const IDLE_TIMEOUT: Duration = Duration::from_s(10);

/// Where the session stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// No connection.
    Closed,
    /// TLS is being set up by the driver, which calls [`Session::tls_started`].
    Handshake {
        /// From the first octet: the greeting comes behind it.
        is_implicit: bool,
    },
    /// The greeting is awaited.
    Greeting,
    /// EHLO, or after its refusal HELO, is to be written, or its reply awaited.
    Hello { is_helo: bool, is_written: bool },
    /// STARTTLS is to be written, or its reply awaited.
    StartTls { is_written: bool },
    /// The driver is asked for the secret, see [`Session::secret`].
    Secret(Mechanism),
    /// The login is under way.
    Auth,
    /// A message may be begun.
    Ready,
    /// From MAIL to the reply to DATA.
    Transaction(Transaction),
    /// Behind 354.
    MailData(MailData),
    /// The reply to the end of mail data is awaited.
    Verdict {
        /// No recipient was accepted: the end of mail data was all that was sent, or the chunk is dropped.
        is_void: bool,
        /// It came in a chunk.
        is_chunk: bool,
    },
    /// The reply to QUIT is awaited.
    Quit,
}

/// Why the session ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The route failed.
    Fault(Fault),
    /// The message can't be read.
    Damaged,
    /// The mail data was refused before its end; there is no way on in this connection but to send it all.
    RefusedEarly,
    /// The smarthost knows no BDAT though it offers it: what it makes of the chunk is not to be trusted.
    NoChunks,
    /// The smarthost doesn't want to wait for more messages.
    Farewell,
}

impl From<Damage> for Stop {
    fn from(Damage: Damage) -> Self {
        Self::Damaged
    }
}

/// The client side of one connection. Its tables are made once.
#[derive(Debug)]
pub struct Session {
    pub(super) state: State,
    pub(super) deadline: Instant,
    /// Octets in the output after the last call: fewer now means that the smarthost has taken some.
    unsent: usize,
    /// Replies that are still to come, the greeting among them: one for each command, and for the end of mail
    /// data.
    pub(super) replies_awaited: u16,
    pub(super) local: IpAddr,
    /// Which of the configured smarthosts the connection goes, or went, to.
    pub(super) smarthost: usize,
    pub(super) chunks: [Chunks; SMARTHOSTS],
    pub(super) replies: ReplyReader,
    /// What the lines of the reply read last fit.
    pub(super) hits: Hits,
    pub(super) extensions: Extensions,
    /// What goes over the wire is encrypted.
    pub(super) is_tls: bool,
    /// The login, while it is under way.
    pub(super) login: Option<Exchange>,
    /// A login has left its lines in the output's memory.
    pub(super) is_wipe_owed: bool,
    /// A transaction is open at the smarthost that was not brought to its end (RFC 5321 4.1.4).
    pub(super) is_reset_owed: bool,
    /// The smarthost judged a message on this connection.
    pub(super) has_served: bool,
    pub(super) fault: Option<Fault>,
    pub(super) fault_reply: Option<KeptReply>,
    /// The fault was the answer to a message.
    pub(super) is_answer: bool,
    pub(super) record: Record,
    /// The message whose verdict is awaited ahead of all other replies, while the next one is on its way.
    pub(super) previous: Record,
    /// It went in a chunk.
    pub(super) is_previous_chunk: bool,
    pub(super) envelope: Envelope,
    pub(super) mail: Reader,
    /// Octets of the mail data as it leaves, before transparency (RFC 1870 5).
    pub(super) octets: u64,
    /// When the message under way came, as far as that is known now.
    pub(super) arrival: Wall,
    /// Of a Date that it may lack.
    pub(super) date_unix_s: Option<u64>,
    /// Its header section changes on its way out.
    pub(super) is_rewritten: bool,
    pub(super) rewriting: Rewriting,
    /// Recipients that the smarthost takes in one transaction, as far as this message has shown.
    pub(super) recipients_max: u16,
    pub(super) notice: Notice,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// A session without a connection.
    pub fn new() -> Self {
        let nowhere = IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED);
        Self {
            state: State::Closed,
            deadline: Instant::default(),
            unsent: 0,
            replies_awaited: 0,
            local: nowhere,
            smarthost: 0,
            chunks: [Chunks::Untried; SMARTHOSTS],
            replies: ReplyReader::new(),
            hits: Hits::NONE,
            extensions: Extensions::default(),
            is_tls: false,
            login: None,
            is_wipe_owed: false,
            is_reset_owed: false,
            has_served: false,
            fault: None,
            fault_reply: None,
            is_answer: false,
            record: Record::new(),
            previous: Record::new(),
            is_previous_chunk: false,
            envelope: Envelope::unread(),
            mail: Reader::new(),
            octets: 0,
            arrival: Wall { unix_s: 0, is_trusted: false },
            date_unix_s: None,
            is_rewritten: false,
            rewriting: Rewriting::new(),
            recipients_max: 0,
            notice: Notice::NONE,
        }
    }

    /// The connection to the configured `smarthost` of that place stands, with empty buffers; `local` is our
    /// end's address. The greeting comes first, or TLS.
    pub fn connected(&mut self, now: &Now, smarthost: usize, local: IpAddr, config: &Config) {
        assert!(matches!(self.state, State::Closed), "the connection before has not ended");
        self.local = local.to_canonical();
        self.smarthost = smarthost;
        self.unsent = 0;
        self.replies_awaited = 1;
        self.replies.reset();
        self.extensions = Extensions::default();
        self.is_tls = false;
        self.login = None;
        self.is_reset_owed = false;
        self.has_served = false;
        self.fault = None;
        self.fault_reply = None;
        self.is_answer = false;
        self.state = match self.smarthost(config).tls {
            TlsPolicy::Implicit => State::Handshake { is_implicit: true },
            TlsPolicy::Starttls | TlsPolicy::None => State::Greeting,
        };
        self.arm(now);
    }

    /// Takes replies off `input` and writes what comes next to `output`, as far as both go. Call it after
    /// each read and after each write.
    pub fn advance<D: Device>(
        &mut self,
        now: &Now,
        config: &Config,
        input: &mut Buffer<'_>,
        output: &mut Buffer<'_>,
        spool: &mut Store<D>,
    ) -> Next {
        if output.len() < self.unsent {
            self.arm(now);
        }
        let next = self.move_on(now, config, input, output, spool);
        if self.is_wipe_owed && self.login.is_none() && output.is_empty() {
            auth::wipe(output);
            self.is_wipe_owed = false;
        }
        self.unsent = output.len();
        next
    }

    fn move_on<D: Device>(
        &mut self,
        now: &Now,
        config: &Config,
        input: &mut Buffer<'_>,
        output: &mut Buffer<'_>,
        spool: &mut Store<D>,
    ) -> Next {
        loop {
            let read = self.read(config, input);
            let moved = read.and_then(|has_read| Ok(self.write(config, output, spool)? || has_read));
            match moved {
                Ok(false) if matches!(self.state, State::Closed) => return Next::Close,
                Ok(false) if matches!(self.state, State::Handshake { .. }) => return Next::StartTls,
                Ok(false) => return Next::Continue,
                Ok(true) => self.arm(now),
                Err(stop) => return self.stop(stop, now, output),
            }
        }
    }

    /// The settings of the smarthost that the connection goes, or went, to.
    pub(super) fn smarthost<'a>(&self, config: &'a Config) -> &'a Smarthost {
        &config.smarthosts[self.smarthost]
    }

    /// When [`Session::expired`] is to be called; `None` without a connection.
    pub fn deadline(&self) -> Option<Instant> {
        (!matches!(self.state, State::Closed)).then_some(self.deadline)
    }

    /// True when no message is under way, and one may be begun.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready) && !self.is_at_work()
    }

    /// True while a message is under way, or its result waits to be recorded.
    pub fn is_at_work(&self) -> bool {
        !self.record.is_free() || !self.previous.is_free()
    }

    /// True when the smarthost has judged a message on this connection.
    pub fn has_served(&self) -> bool {
        self.has_served
    }

    /// True while there is a connection.
    pub fn is_connected(&self) -> bool {
        !matches!(self.state, State::Closed)
    }

    /// Begins to relay `message`; go on with [`Session::advance`]. Damage leaves the session ready.
    pub fn begin<D: Device>(
        &mut self,
        message: MessageIndex,
        now: &Now,
        config: &Config,
        spool: &mut Store<D>,
    ) -> Result<(), Damage> {
        self.make_place();
        self.envelope = self.mail.open(spool, message)?;
        self.date_arrival(message, now, spool);
        self.record.begin(message, &spool.facts(message), None, spool)?;
        self.recipients_max = Transaction::RECIPIENTS_MAX;
        if let Err(damage) = self.measure(config, spool) {
            self.record.forget();
            return Err(damage);
        }
        self.refuse_unsendable(config);
        if self.record.has_more() {
            self.start(now);
        } else {
            self.record.finish(Ending::Tried);
        }
        Ok(())
    }

    /// A finished attempt that waits to be recorded; there may be two, one after the other.
    pub fn attempt(&self) -> Option<Attempt<'_>> {
        self.previous.attempt().or_else(|| self.record.attempt())
    }

    /// The finished attempt was recorded; its place is free.
    pub fn recorded(&mut self) {
        let has_previous = self.previous.attempt().is_some();
        if has_previous { self.previous.recorded() } else { self.record.recorded() }
    }

    /// What went wrong with the route on this connection, until the next one is made.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The reply that told the fault, if one did.
    pub fn fault_reply(&self) -> Option<&KeptReply> {
        self.fault_reply.as_ref()
    }

    fn read(&mut self, config: &Config, input: &mut Buffer<'_>) -> Result<bool, Stop> {
        let mut has_read = false;
        while let Some(line) = self.next_line(input)? {
            if matches!(self.state, State::Hello { is_helo: false, .. })
                && matches!(line, ReplyLine::Middle | ReplyLine::Last)
            {
                self.extensions.take(self.replies.text(), &config.smarthosts[self.smarthost].discard);
            }
            if line.is_end() {
                has_read = true;
                self.reply(config)?;
            }
            if matches!(self.state, State::Handshake { .. }) && !input.is_empty() {
                return Err(Stop::Fault(Fault::Tls(TlsFault::Injected)));
            }
        }
        Ok(has_read)
    }

    fn next_line(&mut self, input: &mut Buffer<'_>) -> Result<Option<ReplyLine>, Stop> {
        if matches!(self.state, State::Closed) {
            // Whatever comes behind the last reply that is of interest.
            input.clear();
        }
        let line = self.replies.read(input).map_err(|_malformed| Stop::Fault(Fault::Protocol))?;
        if let Some(line) = line {
            if matches!(line, ReplyLine::First | ReplyLine::Only) {
                self.hits = Hits::NONE;
            }
            self.hits.add(self.replies.code(), self.replies.text());
        }
        Ok(line)
    }

    fn reply(&mut self, config: &Config) -> Result<(), Stop> {
        let code = self.replies.code();
        let severity = self.replies.severity();
        // 421 and the refusal of mail data that is under way come unasked too.
        self.replies_awaited = self.replies_awaited.saturating_sub(1);
        if code == 421 {
            return Err(self.closed_by_reply());
        }
        if self.previous.is_under_way() {
            return self.previous_verdict(code, severity);
        }
        match (self.state, severity) {
            (State::Closed | State::Quit, _) => {
                self.state = State::Closed;
                Ok(())
            }
            (State::Greeting, Severity::Completion) => {
                self.state = State::Hello { is_helo: false, is_written: false };
                Ok(())
            }
            (State::Greeting, _) => Err(Stop::Fault(self.told(Stage::Greeting).unwrap_or(Fault::Greeting))),
            (
                State::Handshake { .. }
                | State::Hello { is_written: false, .. }
                | State::StartTls { is_written: false }
                | State::Secret(_)
                | State::Ready,
                _,
            ) => Err(Stop::Fault(Fault::Protocol)),
            (State::Hello { .. }, Severity::Completion) => self.greeted(config),
            (State::Hello { is_helo: false, .. }, Severity::Permanent) => {
                self.extensions = Extensions::default();
                self.state = State::Hello { is_helo: true, is_written: false };
                Ok(())
            }
            (State::Hello { .. }, _) => Err(Stop::Fault(Fault::Hello)),
            (State::StartTls { .. }, _) => self.starttls_reply(severity),
            (State::Auth, _) => self.login_reply(severity),
            (State::Transaction(transaction), _) => self.transaction_reply(transaction, code, severity),
            (State::MailData(mail_data), _) => self.early_reply(mail_data, code, severity),
            (State::Verdict { is_void, is_chunk }, _) => self.verdict(is_void, is_chunk, code, severity),
        }
    }

    fn write<D: Device>(
        &mut self,
        config: &Config,
        output: &mut Buffer<'_>,
        spool: &mut Store<D>,
    ) -> Result<bool, Stop> {
        match self.state {
            State::Hello { is_helo, is_written: false } => Ok(self.write_hello(is_helo, config, output)),
            State::StartTls { is_written: false } => Ok(self.write_starttls(output)),
            State::Auth => Ok(self.write_login(output)),
            State::Transaction(transaction) => self.write_transaction(transaction, config, output, spool),
            State::MailData(mail_data) => self.write_mail_data(mail_data, config, output, spool),
            State::Closed
            | State::Handshake { .. }
            | State::Greeting
            | State::Hello { is_written: true, .. }
            | State::StartTls { is_written: true }
            | State::Secret(_)
            | State::Ready
            | State::Verdict { .. }
            | State::Quit => Ok(false),
        }
    }

    /// The mail transaction has come to its end, whatever the smarthost said: the next group of recipients,
    /// or the message is done.
    pub(super) fn conclude(&mut self) {
        self.has_served = true;
        if self.record.has_more() {
            self.state = State::Transaction(Transaction::next());
        } else {
            self.record.finish(Ending::Tried);
            self.state = State::Ready;
        }
    }

    pub(super) fn arm(&mut self, now: &Now) {
        let timeout = match &self.state {
            State::Closed | State::Quit => QUIT_TIMEOUT,
            State::Handshake { .. } | State::Secret(_) => HANDSHAKE_TIMEOUT,
            State::Greeting | State::Hello { .. } | State::StartTls { .. } | State::Auth => GREETING_TIMEOUT,
            State::Ready => IDLE_TIMEOUT,
            State::Transaction(_) if self.previous.is_under_way() => VERDICT_TIMEOUT,
            State::Transaction(transaction) => transaction.timeout(),
            State::MailData(_) => MailData::TIMEOUT,
            State::Verdict { .. } => VERDICT_TIMEOUT,
        };
        self.deadline = now.instant + timeout;
    }
}
