//! Notices about recipients that failed, or that were relayed to a smarthost which can't tell of their
//! delivery (RFC 5321 6.1, RFC 3461 5, RFC 3464, RFC 6522, RFC 3834 5).
//!
//! A notice is no message of the spool: it is rendered from the original and what its head keeps of its
//! recipients, piece by piece as the output has room. The reverse-path is null; where the smarthost refuses
//! that, it is `sender.envelope`, else `admin`. From MAIL to the last reply a notice takes the same way as a
//! message; how it is laid out stands in `report.rs`.
use super::attempt::Fate;
use super::report::{HeaderSection, MessageIdField, PIECE_OCTETS_MAX, Report, Step};
use super::session::{Session, Stop};
use super::transaction::is_sendable;
use super::{Ending, reason};
use crate::buffer::Buffer;
use crate::config::Config;
use crate::limits::SENDER_OUTPUT_OCTETS;
use crate::smtp::automatic::Automatic;
use crate::spool::{Damage, Device, MessageIndex, Recipient, RecipientState, Store};
use crate::time::Now;

const _: () = assert!(SENDER_OUTPUT_OCTETS >= PIECE_OCTETS_MAX);

/// Whom a notice goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressee {
    /// The reverse-path of the message.
    ReversePath,
    /// `admin` of the configuration, which must be there.
    Admin,
}

/// What a notice would be about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The reverse-path of the message; empty for the null one.
    pub reverse_path: &'a [u8],
    /// Recipients whose fate is to be told; 0: nobody wants a notice.
    pub recipients: u16,
    /// One of them failed.
    pub is_of_failure: bool,
    /// The reverse-path is null, and the message says that it is a notice itself.
    pub is_notice: bool,
}

/// The notice that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notice {
    to: Addressee,
    /// The null reverse-path was refused.
    has_reverse_path: bool,
    /// There is another reverse-path than the null one.
    may_have_reverse_path: bool,
    /// When it was begun.
    unix_s: u64,
    /// One of the recipients failed; else all were relayed.
    is_of_failure: bool,
    /// One of the recipients has an address beyond ASCII.
    has_utf8: bool,
}

impl Notice {
    pub(super) const NONE: Self = Self {
        to: Addressee::ReversePath,
        has_reverse_path: false,
        may_have_reverse_path: false,
        unix_s: 0,
        is_of_failure: false,
        has_utf8: false,
    };
}

impl Session {
    /// Opens `message` for a notice about it and says what there is to tell. Go on with
    /// [`Session::begin_notice`] or [`Session::drop_notice`]. Damage leaves the session ready.
    pub fn open_notice<D: Device>(
        &mut self,
        message: MessageIndex,
        now: &Now,
        spool: &mut Store<D>,
    ) -> Result<Subject<'_>, Damage> {
        self.make_place();
        self.envelope = self.mail.open(spool, message)?;
        self.date_arrival(message, now, spool);
        self.record.begin(message, &spool.facts(message), Some(Fate::Waiting), spool)?;
        self.notice = Notice::NONE;
        let mut recipients = 0;
        let mut index = 0;
        loop {
            match self.mail.next_recipient(spool) {
                Ok(None) => break,
                Ok(Some(recipient)) => {
                    let is_told = self.is_told(index, &recipient);
                    recipients += u16::from(is_told);
                    let (state, _) = self.record.fate_of(index);
                    self.notice.is_of_failure |= is_told && state != RecipientState::Relayed;
                    self.notice.has_utf8 |= is_told && !recipient.forward_path.is_ascii();
                    index += 1;
                }
                Err(damage) => {
                    self.record.forget();
                    return Err(damage);
                }
            }
        }
        let mut is_notice = false;
        if self.envelope.reverse_path.is_empty() && recipients > 0 {
            is_notice = self.is_automatic(spool).inspect_err(|_| self.record.forget())?;
        }
        let is_of_failure = self.notice.is_of_failure;
        Ok(Subject { reverse_path: &self.envelope.reverse_path, recipients, is_of_failure, is_notice })
    }

    /// True when the header section of the message, whose recipients were all read, is a notice's.
    fn is_automatic<D: Device>(&mut self, spool: &mut Store<D>) -> Result<bool, Damage> {
        let mut automatic = Automatic::new();
        loop {
            let octets = self.mail.mail_data(spool)?;
            if let Some(is_automatic) = automatic.next(octets) {
                return Ok(is_automatic);
            }
            let count = octets.len();
            self.mail.consume(count);
        }
    }

    /// Begins to send the notice that was opened; go on with [`Session::advance`].
    pub fn begin_notice(&mut self, to: Addressee, now: &Now, config: &Config) {
        self.notice.to = to;
        self.notice.may_have_reverse_path = !reverse_path(config).is_empty();
        self.notice.unix_s = now.wall.unix_s;
        self.recipients_max = 1;
        let has_smtputf8 = self.extensions.smtputf8;
        if !is_sendable(self.addressee(config), has_smtputf8) && config.admin.is_some() {
            self.notice.to = Addressee::Admin;
        }
        if !is_sendable(self.addressee(config), has_smtputf8) {
            let (code, text) = reason::FORWARD_PATH;
            self.record.fail_rest(code, text);
            self.record.finish(Ending::Tried);
            return;
        }
        self.start(now);
    }

    /// The notice that was opened is not to be sent.
    pub fn drop_notice(&mut self) {
        self.record.drop_notice();
    }

    /// Whom the notice under way, or the last one, goes to.
    pub fn addressee<'a>(&'a self, config: &'a Config) -> &'a [u8] {
        match self.notice.to {
            Addressee::ReversePath => &self.envelope.reverse_path,
            Addressee::Admin => admin(config),
        }
    }

    /// True when the fate of the recipient at `index` is to be told (RFC 3461 4.1).
    fn is_told(&self, index: usize, recipient: &Recipient) -> bool {
        match self.record.fate_of(index).0 {
            RecipientState::Failed { .. } => recipient.notify.wants_failure(),
            RecipientState::Relayed => true,
            RecipientState::Waiting | RecipientState::Delivered | RecipientState::Noticed => false,
        }
    }

    /// MAIL for the notice.
    pub(super) fn write_notice_mail(&self, config: &Config, output: &mut Buffer<'_>) {
        output.append(b"MAIL FROM:<");
        if self.notice.has_reverse_path {
            output.append(reverse_path(config));
        }
        output.append(b">");
        if self.extensions.eight_bit_mime {
            output.append(b" BODY=8BITMIME");
        }
        if !self.addressee(config).is_ascii() {
            output.append(b" SMTPUTF8");
        }
        output.append(b"\r\n");
    }

    /// RCPT for the notice. One that has a reverse-path asks for no notice about itself.
    pub(super) fn write_notice_recipient(&mut self, config: &Config, output: &mut Buffer<'_>) {
        output.append(b"RCPT TO:<");
        output.append(self.addressee(config));
        let is_told_to_be_quiet = self.notice.has_reverse_path && self.extensions.dsn;
        output.append(if is_told_to_be_quiet { b"> NOTIFY=NEVER\r\n" } else { b">\r\n" });
        self.record.ask(0, false);
    }

    /// MAIL with the null reverse-path was refused for good: true when the notice is to be tried once more,
    /// from another one.
    pub(super) fn falls_back(&mut self) -> bool {
        let may =
            self.record.is_notice() && self.notice.may_have_reverse_path && !self.notice.has_reverse_path;
        if may {
            self.notice.has_reverse_path = true;
            self.record.try_again();
        }
        may
    }

    /// Writes the notice as far as the output has room; gives the step that comes next.
    pub(super) fn write_notice<D: Device>(
        &mut self,
        mut step: Step,
        config: &Config,
        output: &mut Buffer<'_>,
        spool: &mut Store<D>,
    ) -> Result<Step, Stop> {
        while step != Step::Done && output.room() >= PIECE_OCTETS_MAX {
            step = self.write_piece(step, config, output, spool)?;
        }
        Ok(step)
    }

    fn write_piece<D: Device>(
        &mut self,
        step: Step,
        config: &Config,
        output: &mut Buffer<'_>,
        spool: &mut Store<D>,
    ) -> Result<Step, Stop> {
        match step {
            Step::Header => {
                self.record.has_sent_mail_data = true;
                self.mail.open(spool, self.record.message)?;
                while self.mail.next_recipient(spool)?.is_some() {}
                let original = MessageIdField::of(self.mail.mail_data(spool)?);
                self.report(config).write_header(&original, output);
                Ok(Step::Introduction)
            }
            Step::Introduction => {
                self.report(config).write_introduction(output);
                self.mail.open(spool, self.record.message)?;
                Ok(Step::Text { next: 0 })
            }
            Step::Text { next } => {
                let Some(recipient) = self.mail.next_recipient(spool)? else {
                    self.report(config).write_status_start(output);
                    self.mail.open(spool, self.record.message)?;
                    return Ok(Step::Status { next: 0 });
                };
                if self.is_told(next, &recipient) {
                    self.report(config).write_text(&recipient, self.record.fate_of(next).1, output);
                }
                Ok(Step::Text { next: next + 1 })
            }
            Step::Status { next } => {
                let Some(recipient) = self.mail.next_recipient(spool)? else {
                    self.report(config).write_header_section_start(output);
                    return Ok(Step::HeaderSection(HeaderSection::START));
                };
                if self.is_told(next, &recipient) {
                    self.report(config).write_status(&recipient, self.record.fate_of(next).1, output);
                }
                Ok(Step::Status { next: next + 1 })
            }
            Step::HeaderSection(mut section) => {
                let octets = self.mail.mail_data(spool)?;
                let is_end = octets.is_empty();
                let taken = section.write(octets, self.extensions.eight_bit_mime, output);
                if is_end || section.is_over() {
                    // There may be no room left for the end.
                    return Ok(Step::End(section));
                }
                self.mail.consume(taken);
                Ok(Step::HeaderSection(section))
            }
            Step::End(section) => {
                section.end(output);
                self.report(config).write_end(output);
                Ok(Step::Done)
            }
            Step::Done => Ok(Step::Done),
        }
    }

    fn report<'a>(&'a self, config: &'a Config) -> Report<'a> {
        Report {
            config,
            smarthost: (config.smarthosts.len() == 1).then_some(&self.smarthost(config).host),
            envelope: &self.envelope,
            id: self.record.id,
            to: self.addressee(config),
            unix_s: self.notice.unix_s,
            is_8bit: self.extensions.eight_bit_mime,
            has_utf8: self.notice.has_utf8,
            is_of_failure: self.notice.is_of_failure,
        }
    }
}

fn admin(config: &Config) -> &[u8] {
    config.admin.as_deref().map_or(b"", str::as_bytes)
}

/// What a notice leaves with where the null reverse-path is refused; empty: there is none.
fn reverse_path(config: &Config) -> &[u8] {
    config.sender_envelope.as_deref().map_or_else(|| admin(config), str::as_bytes)
}
