//! A mail transaction up to the reply to DATA (RFC 5321 3.3, 4.1.1.2 to 4.1.1.4), in one flight where the
//! smarthost offers PIPELINING (RFC 2920), else command by command. Where it offers CHUNKING (RFC 3030), too,
//! that flight ends with BDAT and all of the message, so that a message costs one round trip.
//!
//! RCPT commands are written as the output has room, while replies are read: with any number of recipients
//! neither side waits for the other for ever. Each transaction settles or postpones its recipients one by
//! one; 452 or 552 behind an accepted recipient means "too many" and opens a further transaction (RFC 5321
//! 4.5.3.1.8 and 4.5.3.1.10). Each transaction decides on one recipient at least, so that their number is
//! bounded.
use super::Fault;
use super::faults::Stage;
use super::mail_data::MailData;
use super::reason::{FORWARD_PATH, NO_8BITMIME, NO_SMTPUTF8, REVERSE_PATH, TOO_LARGE};
use super::session::{COMMAND_OCTETS_MAX, Session, State, Stop};
use crate::buffer::Buffer;
use crate::config::Config;
use crate::limits::PATH_OCTETS_MAX;
use crate::smtp::dsn;
use crate::smtp::reply_reader::Severity;
use crate::spool::{Device, Recipient, Store};
use crate::time::Duration;

/// What is to be written next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing yet: the message is to be opened again.
    Open,
    Rset,
    Mail,
    Recipients,
    Data,
    /// Nothing more: replies are awaited.
    Wait,
}

/// A transaction between its first command and the reply to DATA. Replies come in the order of the fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transaction {
    pub(super) step: Step,
    is_rset_awaited: bool,
    is_mail_awaited: bool,
    /// RCPT commands without a reply.
    recipients_awaited: u16,
    /// DATA or BDAT was written and not answered.
    pub(super) is_data_awaited: bool,
    /// It is BDAT.
    pub(super) is_chunk: bool,
    /// What is still to be written behind BDAT.
    pub(super) chunk: Option<MailData>,
    /// MAIL was accepted.
    is_open: bool,
    /// MAIL was refused.
    is_refused: bool,
    /// The smarthost takes no more recipients.
    is_full: bool,
    /// Recipients read from the spool.
    read: u16,
    /// RCPT commands written.
    asked: u16,
    pub(super) accepted: u16,
    /// What a refusal of a recipient tells of the route, if none is accepted.
    fault: Option<Fault>,
}

impl Transaction {
    /// Recipients of one transaction; each server takes so many (RFC 5321 4.5.3.1.8).
    pub(super) const RECIPIENTS_MAX: u16 = 100;

    const NEW: Self = Self {
        step: Step::Open,
        is_rset_awaited: false,
        is_mail_awaited: false,
        recipients_awaited: 0,
        is_data_awaited: false,
        is_chunk: false,
        chunk: None,
        is_open: false,
        is_refused: false,
        is_full: false,
        read: 0,
        asked: 0,
        accepted: 0,
        fault: None,
    };

    /// The first one of a message, which has just been opened.
    pub(super) const fn first(is_reset_owed: bool) -> Self {
        Self { step: if is_reset_owed { Step::Rset } else { Step::Mail }, ..Self::NEW }
    }

    /// A further one of the same message.
    pub(super) const fn next() -> Self {
        Self::NEW
    }

    /// RFC 5321 4.5.3.2.2 to 4.5.3.2.5.
    pub(super) fn timeout(&self) -> Duration {
        if self.chunk.is_some() {
            return MailData::TIMEOUT;
        }
        Duration::from_min(if self.is_data_next() && !self.is_chunk { 2 } else { 5 })
    }

    /// DATA was written and not answered.
    pub(super) const fn is_data_awaited(&self) -> bool {
        self.is_data_awaited && !self.is_chunk
    }

    /// BDAT was written and not answered.
    pub(super) const fn is_chunk_awaited(&self) -> bool {
        self.is_data_awaited && self.is_chunk
    }

    /// Octets are still to be written behind BDAT.
    pub(super) const fn is_in_chunk(&self) -> bool {
        self.chunk.is_some()
    }

    /// The reply to DATA or BDAT is the next one.
    const fn is_data_next(&self) -> bool {
        let is_another = self.is_rset_awaited || self.is_mail_awaited || self.recipients_awaited > 0;
        self.is_data_awaited && !is_another
    }

    const fn is_awaiting(&self) -> bool {
        self.is_rset_awaited || self.is_mail_awaited || self.recipients_awaited > 0 || self.is_data_awaited
    }
}

impl Session {
    /// Fails what can't be sent to this smarthost at all, before a command is written.
    pub(super) fn refuse_unsendable(&mut self, config: &Config) {
        let offered = &self.extensions;
        let reason = if self.envelope.utf8 && !offered.smtputf8 {
            NO_SMTPUTF8
        } else if !is_sendable(self.reverse_path(config), self.envelope.utf8) {
            REVERSE_PATH
        } else if self.envelope.body_is_8bit && !offered.eight_bit_mime {
            NO_8BITMIME
        } else if offered.size_max != 0 && self.octets > offered.size_max {
            TOO_LARGE
        } else {
            return;
        };
        self.record.fail_rest(reason.0, reason.1);
    }

    /// Writes the next commands, as far as the output has room and, without PIPELINING, no reply is awaited.
    pub(super) fn write_transaction<D: Device>(
        &mut self,
        mut transaction: Transaction,
        config: &Config,
        output: &mut Buffer<'_>,
        spool: &mut Store<D>,
    ) -> Result<bool, Stop> {
        let mut has_written = false;
        while output.room() >= COMMAND_OCTETS_MAX
            && (!transaction.is_awaiting() || self.may_go_on(&transaction))
            && transaction.step != Step::Wait
        {
            has_written = true;
            match transaction.step {
                Step::Open => {
                    self.envelope = self.mail.open(spool, self.record.message)?;
                    self.envelope.arrival = self.arrival;
                    self.record.begin_transaction();
                    transaction.step = Transaction::first(self.is_reset_owed).step;
                }
                Step::Rset => {
                    output.append(b"RSET\r\n");
                    self.replies_awaited += 1;
                    transaction.is_rset_awaited = true;
                    transaction.step = Step::Mail;
                }
                Step::Mail => {
                    if self.record.is_notice() {
                        self.write_notice_mail(config, output);
                    } else {
                        self.write_mail(config, output);
                    }
                    self.replies_awaited += 1;
                    transaction.is_mail_awaited = true;
                    transaction.step = Step::Recipients;
                }
                Step::Recipients if self.record.is_notice() => {
                    if !transaction.is_refused {
                        self.write_notice_recipient(config, output);
                        self.replies_awaited += 1;
                        transaction.asked = 1;
                        transaction.recipients_awaited = 1;
                    }
                    transaction.step = Step::Data;
                }
                Step::Recipients => self.write_recipient(&mut transaction, output, spool)?,
                Step::Data => {
                    if transaction.asked == 0 && !transaction.is_refused && self.record.has_more() {
                        // Fewer recipients stand in the message than its head says.
                        return Err(Stop::Damaged);
                    }
                    let is_for_nobody = transaction.accepted == 0 && !transaction.is_awaiting();
                    if !transaction.is_refused && transaction.asked > 0 && !is_for_nobody {
                        self.write_data(&mut transaction, output);
                    }
                    transaction.step = Step::Wait;
                }
                Step::Wait => unreachable!("the loop ends there"),
            }
        }
        has_written |= self.write_chunk(&mut transaction, config, output, spool)?;
        self.go_on(transaction)?;
        Ok(has_written)
    }

    /// The reverse-path that the message leaves with: of `sender.envelope`, but a null one stays null.
    fn reverse_path<'a>(&'a self, config: &'a Config) -> &'a [u8] {
        match &config.sender_envelope {
            Some(address) if !self.envelope.reverse_path.is_empty() => address.as_bytes(),
            Some(_) | None => &self.envelope.reverse_path,
        }
    }

    fn write_mail(&self, config: &Config, output: &mut Buffer<'_>) {
        output.append(b"MAIL FROM:<");
        output.append(self.reverse_path(config));
        output.append(b">");
        if self.extensions.size {
            core::fmt::write(output, format_args!(" SIZE={}", self.octets))
                .expect("the room of a command was there");
        }
        if self.envelope.body_is_8bit {
            output.append(b" BODY=8BITMIME");
        }
        if self.envelope.utf8 {
            output.append(b" SMTPUTF8");
        }
        if self.extensions.dsn {
            if let Some(word) = dsn::ret_word(self.envelope.ret) {
                output.append(b" RET=");
                output.append(word.as_bytes());
            }
            if !self.envelope.envid.is_empty() {
                output.append(b" ENVID=");
                output.append(&self.envelope.envid);
            }
        }
        output.append(b"\r\n");
    }

    /// Writes RCPT for the next recipient of the spool, when it is one to be tried.
    fn write_recipient<D: Device>(
        &mut self,
        transaction: &mut Transaction,
        output: &mut Buffer<'_>,
        spool: &mut Store<D>,
    ) -> Result<(), Stop> {
        let is_enough =
            transaction.is_refused || transaction.is_full || transaction.asked >= self.recipients_max;
        let next = if is_enough { None } else { self.mail.next_recipient(spool)? };
        let Some(recipient) = next else {
            transaction.step = Step::Data;
            return Ok(());
        };
        let index = usize::from(transaction.read);
        transaction.read += 1;
        if !self.record.is_to_try(index) {
            return Ok(());
        }
        if !is_sendable(&recipient.forward_path, self.envelope.utf8) {
            self.record.fail(index, FORWARD_PATH.0, FORWARD_PATH.1);
            return Ok(());
        }
        output.append(b"RCPT TO:<");
        output.append(&recipient.forward_path);
        output.append(b">");
        if self.extensions.dsn {
            write_notification(&recipient, output);
        }
        output.append(b"\r\n");
        // Of a success a smarthost that doesn't know DSN tells nobody, and nobody is there behind a null
        // reverse-path.
        let is_to_tell = recipient.notify.wants_success() && !self.extensions.dsn;
        self.record.ask(index, is_to_tell && !self.envelope.reverse_path.is_empty());
        self.replies_awaited += 1;
        transaction.asked += 1;
        transaction.recipients_awaited += 1;
        Ok(())
    }

    /// Takes the reply to the first command that awaits one.
    pub(super) fn transaction_reply(
        &mut self,
        mut transaction: Transaction,
        code: u16,
        severity: Severity,
    ) -> Result<(), Stop> {
        if transaction.is_rset_awaited {
            transaction.is_rset_awaited = false;
            if severity != Severity::Completion {
                return Err(Stop::Fault(Fault::Protocol));
            }
            self.is_reset_owed = false;
        } else if transaction.is_mail_awaited {
            transaction.is_mail_awaited = false;
            self.mail_reply(&mut transaction, code, severity)?;
        } else if transaction.recipients_awaited > 0 {
            transaction.recipients_awaited -= 1;
            if !transaction.is_refused {
                self.recipient_reply(&mut transaction, code, severity)?;
            }
        } else if transaction.is_data_awaited {
            if transaction.is_chunk {
                return self.early_chunk_reply(transaction, code, severity);
            }
            transaction.is_data_awaited = false;
            return self.data_reply(transaction, code, severity);
        } else {
            return Err(Stop::Fault(Fault::Protocol));
        }
        self.go_on(transaction)
    }

    fn mail_reply(
        &mut self,
        transaction: &mut Transaction,
        code: u16,
        severity: Severity,
    ) -> Result<(), Stop> {
        // A notice's null reverse-path may be the very sender that it means.
        let is_about_us = matches!(self.told(Stage::Mail), None | Some(Fault::Sender));
        if severity == Severity::Permanent && is_about_us && self.falls_back() {
            transaction.is_refused = true;
            return Ok(());
        }
        match self.judged(Stage::Mail, severity).map_err(Stop::Fault)? {
            Severity::Completion => transaction.is_open = true,
            Severity::Intermediate => return Err(Stop::Fault(Fault::Protocol)),
            Severity::Transient => self.record.defer_rest(code, self.replies.text()),
            Severity::Permanent => self.record.fail_rest(code, self.replies.text()),
        }
        transaction.is_refused = !transaction.is_open;
        Ok(())
    }

    fn recipient_reply(
        &mut self,
        transaction: &mut Transaction,
        code: u16,
        severity: Severity,
    ) -> Result<(), Stop> {
        if matches!(code, 452 | 552) && transaction.accepted > 0 {
            transaction.is_full = true;
            self.recipients_max = transaction.accepted;
            self.record.postpone_asked();
            return Ok(());
        }
        // With one recipient taken the route is well: then another one's refusal is its own.
        let severity = match self.judged(Stage::Recipient, severity) {
            Ok(severity) => severity,
            Err(Fault::Unauthenticated) => return Err(Stop::Fault(Fault::Unauthenticated)),
            Err(fault) => {
                transaction.fault = Some(fault);
                Severity::Transient
            }
        };
        match severity {
            Severity::Completion => {
                transaction.accepted += 1;
                self.record.accept_asked();
            }
            Severity::Intermediate => return Err(Stop::Fault(Fault::Protocol)),
            Severity::Transient => self.record.defer_asked(code, self.replies.text()),
            Severity::Permanent => self.record.fail_asked(code, self.replies.text()),
        }
        Ok(())
    }

    fn data_reply(&mut self, transaction: Transaction, code: u16, severity: Severity) -> Result<(), Stop> {
        let is_void = transaction.accepted == 0;
        match severity {
            // RFC 5321 3.3: data is sent behind 354 only.
            Severity::Completion => return Err(Stop::Fault(Fault::Protocol)),
            Severity::Intermediate => {
                self.state = State::MailData(match (is_void, self.record.is_notice()) {
                    (true, _) => MailData::void(),
                    (false, true) => MailData::notice(),
                    (false, false) => MailData::new(),
                });
                return Ok(());
            }
            Severity::Transient | Severity::Permanent if is_void => {}
            Severity::Transient | Severity::Permanent => self.refuse_accepted(code, severity)?,
        }
        self.is_reset_owed = transaction.is_open;
        self.conclude();
        Ok(())
    }

    /// DATA or the mail data was refused, for all accepted recipients.
    pub(super) fn refuse_accepted(&mut self, code: u16, severity: Severity) -> Result<(), Stop> {
        if self.judged(Stage::Data, severity).map_err(Stop::Fault)? == Severity::Transient {
            self.record.defer_rest(code, self.replies.text());
        } else {
            self.record.fail_accepted(code, self.replies.text());
        }
        Ok(())
    }

    /// Keeps the transaction going, or concludes it when there is neither a command nor a reply to come.
    pub(super) fn go_on(&mut self, transaction: Transaction) -> Result<(), Stop> {
        self.state = State::Transaction(transaction);
        let is_asked_out = matches!(transaction.step, Step::Data | Step::Wait)
            && !transaction.is_mail_awaited
            && transaction.recipients_awaited == 0;
        if let Some(fault) = transaction.fault
            && is_asked_out
            && transaction.accepted == 0
        {
            return Err(Stop::Fault(fault));
        }
        if transaction.step != Step::Wait || transaction.is_in_chunk() {
            return Ok(());
        }
        if transaction.is_data_next() && transaction.is_chunk {
            self.state = State::Verdict { is_void: transaction.accepted == 0, is_chunk: true };
        } else if !transaction.is_awaiting() {
            self.is_reset_owed |= transaction.is_open;
            self.conclude();
        }
        Ok(())
    }
}

/// The parameters of DSN as they came (RFC 3461 5.2.1).
fn write_notification(recipient: &Recipient, output: &mut Buffer<'_>) {
    if recipient.notify.is_given() {
        core::fmt::write(output, format_args!(" NOTIFY={}", recipient.notify))
            .expect("the room of a command was there");
    }
    if !recipient.orcpt.is_empty() {
        output.append(b" ORCPT=");
        output.append(&recipient.orcpt);
    }
}

/// True when `path` can stand in a command: no control octet that could end it, no octet beyond ASCII without
/// SMTPUTF8, not too long (RFC 5321 2.4, 4.1.2, 4.5.3.1.3). The receiver lets no other path in; this is the
/// second lock.
pub(super) fn is_sendable(path: &[u8], utf8: bool) -> bool {
    path.len() + "<>".len() <= PATH_OCTETS_MAX
        && path.iter().all(|octet| !octet.is_ascii_control() && (octet.is_ascii() || utf8))
}
