//! The mail transaction: MAIL, RCPT, and its mail data by DATA or BDAT (RFC 5321 3.3, 4.1.1.2 to 4.1.1.4; RFC
//! 3030 2).

use core::mem;

use super::admission::{self, RecipientRefusal, relayed_path};
use super::commands::{Drops, unchanged};
use super::data::{Data, Sink, Subject, message_refusal};
use super::session::{Committing, Session, State, Turn};
use super::submission::FIELDS_OCTETS_MAX;
use crate::buffer::Buffer;
use crate::config::Config;
use crate::limits::{PATH_OCTETS_MAX, RECIPIENTS};
use crate::smtp::command::{AuthTerms, Bdat, Body, Mail, Rcpt, Service};
use crate::smtp::quirk::Quirk;
use crate::smtp::reply::{self, Farewell};
use crate::spool::{Device, Draft, Envelope, Protocol, Recipient, Refusal};
use crate::time::Wall;

/// An open transaction.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) draft: Draft,
    /// Recipients accepted, at most [`RECIPIENTS`].
    recipients: u16,
    /// SMTPUTF8 was said.
    utf8: bool,
    arrival: Wall,
    reverse_path: heapless::Vec<u8, PATH_OCTETS_MAX>,
}

/// The chunk that is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    /// Octets of it that are still to come.
    left: u64,
    is_last: bool,
}

const _: () = assert!(RECIPIENTS <= u16::MAX as usize);

impl Session {
    /// RFC 5321 4.1.1.2; a refused MAIL leaves no transaction.
    pub(super) fn mail<D: Device>(&mut self, mail: Mail, turn: &mut Turn<D>) -> State {
        if turn.spool.is_failing() {
            return self.leave(State::Ready, Farewell::SpoolFailing, turn);
        }
        let may_relay = self.may_relay(turn.config);
        let Some(reverse_path) = admission::completed(&mail.reverse_path, &self.peer, may_relay, turn.config)
        else {
            return unchanged(State::Ready, reply::C501_REVERSE_PATH_UNQUALIFIED, turn);
        };
        if mail.size.is_some_and(|octets| octets > turn.message_octets_max(self.place)) {
            return unchanged(State::Ready, reply::C552_TOO_LARGE, turn);
        }
        let per_minute = turn.config.limits.messages_per_minute;
        if !turn.admission.ledger.may_begin(self.place, turn.now.instant, per_minute) {
            return unchanged(State::Ready, reply::C451_TOO_MANY_MESSAGES, turn);
        }
        let envelope = Envelope {
            client: self.peer.origin,
            client_name: self.client_name.to_octets(),
            protocol: self.protocol(mail.utf8),
            arrival: turn.now.wall,
            reverse_path,
            body_is_8bit: mail.body == Some(Body::EightBitMime),
            utf8: mail.utf8,
            is_submission: self.is_completed(turn.config),
            ret: mail.ret.unwrap_or_default(),
            envid: mail.envid.unwrap_or_default(),
        };
        // What is added to the message needs room too; a message at the limit fills the spool as it came.
        let octets_max = turn.message_octets_max(self.place);
        let declared =
            mail.size.map(|octets| (octets + FIELDS_OCTETS_MAX as u64).min(octets.max(octets_max)));
        match turn.spool.begin_within(&envelope, declared, turn.share(self.place)) {
            Ok(draft) => {
                turn.say(reply::C250_REVERSE_PATH);
                State::Transaction(Transaction {
                    draft,
                    recipients: 0,
                    utf8: mail.utf8,
                    arrival: envelope.arrival,
                    reverse_path: envelope.reverse_path,
                })
            }
            Err(refusal) => unchanged(State::Ready, message_refusal(refusal), turn),
        }
    }

    /// RFC 3848, RFC 6531 4.3.
    fn protocol(&self, utf8: bool) -> Protocol {
        if self.service == Service::Basic {
            return Protocol::Smtp;
        }
        match (utf8, self.is_tls, self.is_logged_in) {
            (false, false, false) => Protocol::Esmtp,
            (false, true, false) => Protocol::Esmtps,
            (false, false, true) => Protocol::Esmtpa,
            (false, true, true) => Protocol::Esmtpsa,
            (true, false, false) => Protocol::Utf8Smtp,
            (true, true, false) => Protocol::Utf8Smtps,
            (true, false, true) => Protocol::Utf8Smtpa,
            (true, true, true) => Protocol::Utf8Smtpsa,
        }
    }

    /// RFC 5321 4.1.1.3; a refused RCPT leaves the others as they are.
    pub(super) fn rcpt<D: Device>(
        &mut self,
        mut transaction: Transaction,
        rcpt: Rcpt,
        turn: &mut Turn<D>,
    ) -> State {
        if !transaction.utf8 && !rcpt.forward_path.is_ascii() {
            return unchanged(State::Transaction(transaction), reply::C501_NOT_ASCII, turn);
        }
        match relayed_path(rcpt.forward_path, self.may_relay(turn.config), turn.config) {
            Err(RecipientRefusal::MayNotRelay) => self.refuse_to_relay(turn),
            Err(RecipientRefusal::NoAdmin) => turn.say(reply::C550_NO_ADMIN),
            Err(RecipientRefusal::NotRelayedTo) => turn.say(reply::C550_NOT_RELAYED_TO),
            Err(RecipientRefusal::TooLong) => turn.say(reply::C501_PATH_TOO_LONG),
            Ok(_) if usize::from(transaction.recipients) >= RECIPIENTS => {
                turn.say(reply::C452_TOO_MANY_RECIPIENTS);
            }
            Ok(forward_path) => {
                let recipient = Recipient {
                    forward_path,
                    notify: rcpt.notify.unwrap_or_default(),
                    orcpt: rcpt.orcpt.unwrap_or_default(),
                };
                let reply = match turn.spool.add_recipient(&mut transaction.draft, &recipient) {
                    Ok(()) => {
                        transaction.recipients += 1;
                        reply::C250_FORWARD_PATH
                    }
                    Err(Refusal::TooManyRecipients) => reply::C452_TOO_MANY_RECIPIENTS,
                    // For a recipient 552 would be read as "too many" (RFC 5321 4.5.3.1.10).
                    Err(Refusal::Full | Refusal::NeverFits) => reply::C452_STORAGE_FULL,
                    Err(Refusal::ShareFull) => reply::C452_SHARE_FULL,
                    Err(Refusal::Failing) => reply::C451_SPOOL_FAILING,
                };
                turn.say(reply);
            }
        }
        State::Transaction(transaction)
    }

    fn refuse_to_relay<D: Device>(&mut self, turn: &mut Turn<D>) {
        let auth = self.auth_terms(turn.config);
        let needs_login = auth != AuthTerms::Absent;
        if !mem::replace(&mut self.is_refusal_logged, true) {
            let code = if needs_login { 530 } else { 550 };
            log::info!("refused client={} reply={code} reason=\"may not relay\"", self.peer.origin);
        }
        turn.refuse(if needs_login { reply::LOGIN_NEEDED } else { reply::MAY_NOT_RELAY });
        if needs_login {
            reply::write_login_needed(turn.output, self.peer.origin, auth == AuthTerms::NeedsTls);
        } else {
            reply::write_may_not_relay(turn.output, self.peer.origin);
        }
    }

    /// RFC 5321 4.1.1.4.
    pub(super) fn data<D: Device>(&mut self, transaction: Transaction, turn: &mut Turn<D>) -> State {
        if transaction.recipients == 0 {
            return unchanged(State::Transaction(transaction), reply::C503_RCPT_FIRST, turn);
        }
        turn.say(reply::C354_MAIL_DATA);
        self.await_mail_data(turn.now, turn.config);
        State::Data(self.mail_data(transaction, turn))
    }

    /// RFC 3030 2. A refused BDAT changes nothing, and its octets are no commands.
    pub(super) fn bdat<D: Device>(&mut self, state: State, bdat: Bdat, turn: &mut Turn<D>) -> State {
        self.await_mail_data(turn.now, turn.config);
        if !bdat.is_legal || self.service == Service::Basic {
            let reply = if bdat.is_legal { reply::C503_EHLO_NEEDED } else { reply::C501_BDAT_SYNTAX };
            self.drops = Drops::chunk(bdat.octets);
            return unchanged(state, reply, turn);
        }
        let (data, reply) = match state {
            State::Transaction(transaction) if transaction.recipients == 0 => {
                (Err(State::Transaction(transaction)), reply::C503_RCPT_FIRST)
            }
            State::Transaction(transaction) => (Ok(self.mail_data(transaction, turn)), reply::C250_CHUNK),
            State::Chunks(data) => (Ok(data), reply::C250_CHUNK),
            state @ (State::Greeted
            | State::Ready
            | State::Login(_)
            | State::TlsAsked(_)
            | State::Handshake(_)
            | State::Data(_)
            | State::Chunk(..)
            | State::Committing(_)
            | State::Closing) => (Err(state), reply::C503_MAIL_FIRST),
        };
        match data {
            Ok(data) => {
                let chunk = Chunk { left: bdat.octets, is_last: bdat.is_last };
                if chunk.left > 0 {
                    return State::Chunk(data, chunk);
                }
                self.state = State::Chunk(data, chunk);
                self.end_of_chunk(turn);
                mem::replace(&mut self.state, State::Closing)
            }
            Err(state) => {
                self.drops = Drops::chunk(bdat.octets);
                unchanged(state, reply, turn)
            }
        }
    }

    /// What a message of this client lacks is added (SUB-b).
    fn is_completed(&self, config: &Config) -> bool {
        self.peer.is_local()
            || config.quirks.tolerated.contains(Quirk::MissingFields) && self.may_relay(config)
    }

    fn mail_data<D>(&self, transaction: Transaction, turn: &Turn<D>) -> Data {
        let subject = Subject {
            draft: transaction.draft,
            recipients: transaction.recipients,
            reverse_path: transaction.reverse_path,
            arrival: transaction.arrival,
            is_completed: self.is_completed(turn.config),
        };
        Data::new(subject, turn.now.instant, turn.config)
    }

    /// Takes what there is of the mail data; false when there is nothing more to take.
    pub(super) fn read_mail_data<D: Device>(&mut self, input: &mut Buffer, turn: &mut Turn<D>) -> bool {
        let octets_max = turn.message_octets_max(self.place);
        let (data, heard) = match &mut self.state {
            State::Data(data) => {
                let heard = data.read(input, turn.spool, turn.config, octets_max);
                (data, heard)
            }
            State::Chunk(data, chunk) => {
                let heard = data.read_chunk(input, turn.spool, turn.config, (octets_max, chunk.left));
                chunk.left -= heard.octets as u64;
                (data, heard)
            }
            State::Greeted
            | State::Ready
            | State::Login(_)
            | State::TlsAsked(_)
            | State::Handshake(_)
            | State::Transaction(_)
            | State::Chunks(_)
            | State::Committing(_)
            | State::Closing => unreachable!("mail data is read in Data and Chunk only"),
        };
        if heard.octets > 0 {
            self.deadline = data.deadline().min(turn.now.instant + turn.config.limits.data_timeout);
        }
        if heard.progress {
            self.last_progress = turn.now.instant;
        }
        if heard.end {
            self.is_early = self.service == Service::Basic && !input.is_empty();
            if matches!(self.state, State::Chunk(..)) {
                self.end_of_chunk(turn);
            } else {
                self.end_of_mail_data(turn);
            }
        }
        heard.end
    }

    /// The chunk is read whole.
    fn end_of_chunk<D: Device>(&mut self, turn: &mut Turn<D>) {
        let State::Chunk(mut data, chunk) = mem::replace(&mut self.state, State::Ready) else {
            unreachable!("a chunk ends in Chunk only")
        };
        if chunk.is_last {
            data.end_of_chunks(turn.spool, turn.config);
            self.state = State::Data(data);
            self.end_of_mail_data(turn);
            return;
        }
        self.await_command(turn.now, turn.config);
        turn.say(data.refusal().unwrap_or(reply::C250_CHUNK));
        self.state = State::Chunks(data);
    }

    fn end_of_mail_data<D: Device>(&mut self, turn: &mut Turn<D>) {
        let State::Data(data) = mem::replace(&mut self.state, State::Ready) else {
            unreachable!("mail data ends in Data only")
        };
        self.make_progress(turn.now, turn.config);
        self.bad_commands = 0;
        let mut quirks = data.quirks();
        if self.peer.is_local() {
            // Programs leave to us what sendmail has always added.
            quirks.remove(Quirk::MissingFields);
        }
        self.met(quirks, turn);
        let (octets, recipients) = (data.octets(), data.recipients());
        let accepted = turn.spool.tick(turn.now.instant);
        let ended = match data.into_sink() {
            Sink::Draft(draft) => turn.spool.end(draft, accepted).map_err(message_refusal),
            Sink::Refused(reply) => Err(reply),
        };
        match ended {
            Ok(ended) => self.state = State::Committing(Committing { ended, octets, recipients }),
            Err(reply) => {
                log::info!("refused client={} octets={octets} reply={}", self.peer.origin, reply.code());
                turn.say(reply);
            }
        }
    }
}
