//! The mail data on its way out: the trace field on top (RFC 5321 4.4), the message with transparency
//! (4.5.2), its end, and the reply to it (4.1.1.4, 4.2.5).
//!
//! A message in a chunk (RFC 3030) leaves as it is, its octets counted before.
//!
//! The output is filled whenever half of it is free, in one go with the end of a small message. The octets
//! come from the spool block by block; a block that can't be read ends the connection without the end of mail
//! data, so that the smarthost throws away what it got.
use core::fmt::{self, Write as _};

use super::chunks::{Chunks, is_of_the_command};
use super::rewriting::{GIVEN_OCTETS_MAX, Rewriting, TAKEN_OCTETS_MAX, Wanted};
use super::session::{Session, State, Stop};
use super::{Fault, report};
use crate::buffer::Buffer;
use crate::config::Config;
use crate::limits::SENDER_OUTPUT_OCTETS;
use crate::smtp::reply_reader::Severity;
use crate::smtp::stuffing::Stuffing;
use crate::smtp::trace::{RECEIVED_OCTETS_MAX, Received};
use crate::spool::{Damage, Device, Envelope, MessageId, MessageIndex, Store};
use crate::time::{Duration, Now, Wall};

/// Room that a step through a header section needs: each octet that was taken may be a dot, to be doubled.
const HEADER_ROOM: usize = GIVEN_OCTETS_MAX + TAKEN_OCTETS_MAX;
const _: () = assert!(SENDER_OUTPUT_OCTETS >= HEADER_ROOM);

/// What is to be written next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Trace,
    /// The message is a notice.
    Notice(report::Step),
    /// A header section that changes.
    Header,
    Message,
    End,
}

/// Mail data that is being sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct MailData {
    step: Step,
    form: Form,
    is_void: bool,
}

/// How the octets leave.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// Behind DATA: in lines, with transparency and an end.
    Lines(Stuffing),
    /// In a chunk (RFC 3030): as they are, so many more.
    Octets { left: u64 },
}

impl MailData {
    /// RFC 5321 4.5.3.2.5: between two moves of a transfer, however long it takes as a whole.
    pub(super) const TIMEOUT: Duration = Duration::from_min(3);

    /// The message is to be sent.
    pub(super) const fn new() -> Self {
        Self { step: Step::Trace, form: Form::LINES, is_void: false }
    }

    /// The message is to be sent in one chunk of so many octets.
    pub(super) const fn chunk(octets: u64) -> Self {
        Self { step: Step::Trace, form: Form::Octets { left: octets }, is_void: false }
    }

    /// A notice is to be sent.
    pub(super) const fn notice() -> Self {
        Self { step: Step::Notice(report::Step::Header), form: Form::LINES, is_void: false }
    }

    /// The smarthost waits for mail data though it accepted no recipient: it gets an end and nothing more
    /// (RFC 2920 3.1).
    pub(super) const fn void() -> Self {
        Self { step: Step::End, form: Form::LINES, is_void: true }
    }
}

impl Form {
    const LINES: Self = Self::Lines(Stuffing::new());

    /// Appends `octets` as far as there is room; returns how many. Damage: more than the chunk has left.
    fn append(&mut self, octets: &[u8], output: &mut Buffer<'_>) -> Result<usize, Damage> {
        match self {
            Self::Lines(stuffing) => Ok(stuffing.append(octets, output)),
            Self::Octets { left } => {
                *left = left.checked_sub(octets.len() as u64).ok_or(Damage)?;
                let taken = octets.len().min(output.room());
                *left += (octets.len() - taken) as u64;
                output.append(&octets[..taken]);
                Ok(taken)
            }
        }
    }

    /// Ends the mail data; false when there is no room for that. Damage: the chunk is not full.
    fn end(&mut self, output: &mut Buffer<'_>) -> Result<bool, Damage> {
        match self {
            Self::Lines(stuffing) => Ok(stuffing.end(output)),
            Self::Octets { left: 0 } => Ok(true),
            Self::Octets { .. } => Err(Damage),
        }
    }
}

impl Session {
    /// Writes mail data as far as the output has room.
    pub(super) fn write_mail_data<D: Device>(
        &mut self,
        mut mail_data: MailData,
        config: &Config,
        output: &mut Buffer<'_>,
        spool: &mut Store<D>,
    ) -> Result<bool, Stop> {
        let had = output.len();
        let has_ended = self.write_octets(&mut mail_data, config, output, spool)?;
        self.replies_awaited += u16::from(has_ended);
        self.state = if has_ended {
            State::Verdict { is_void: mail_data.is_void, is_chunk: false }
        } else {
            State::MailData(mail_data)
        };
        Ok(output.len() > had)
    }

    /// The same, behind DATA or in a chunk; true when all is written.
    pub(super) fn write_octets<D: Device>(
        &mut self,
        mail_data: &mut MailData,
        config: &Config,
        output: &mut Buffer<'_>,
        spool: &mut Store<D>,
    ) -> Result<bool, Stop> {
        if mail_data.step == Step::Trace && output.room() >= RECEIVED_OCTETS_MAX {
            self.record.has_sent_mail_data = true;
            // Recipients that are not of this transaction stand between the reader and the mail data.
            while self.mail.next_recipient(spool)?.is_some() {}
            let mut field = heapless::String::<RECEIVED_OCTETS_MAX>::new();
            write!(field, "{}", trace(&self.envelope, config, self.record.id))
                .expect("no trace field is longer");
            let appended = mail_data.form.append(field.as_bytes(), output)?;
            assert_eq!(appended, field.len(), "the room of the longest trace field was there");
            self.rewriting = Rewriting::new();
            mail_data.step = if self.is_rewritten { Step::Header } else { Step::Message };
        }
        if let Step::Notice(step) = mail_data.step {
            // Each of its lines is whole, and no dot leads one that is not doubled: what is left is the end.
            let step = self.write_notice(step, config, output, spool)?;
            mail_data.step = if step == report::Step::Done { Step::End } else { Step::Notice(step) };
        }
        while mail_data.step == Step::Header && output.room() >= HEADER_ROOM {
            let wanted = Wanted::of(&self.envelope, self.date_unix_s, config);
            let octets = self.mail.mail_data(spool)?;
            let mut outcome = Ok(());
            let taken = self.rewriting.next(&wanted, octets, &mut |given| match mail_data
                .form
                .append(given, output)
            {
                Ok(appended) => assert_eq!(appended, given.len(), "the room of it was there"),
                Err(damage) => outcome = Err(damage),
            });
            outcome?;
            self.mail.consume(taken);
            if self.rewriting.is_over() {
                mail_data.step = Step::Message;
            }
        }
        if mail_data.step == Step::Message && output.room() > output.len() {
            loop {
                let octets = self.mail.mail_data(spool)?;
                if octets.is_empty() {
                    mail_data.step = Step::End;
                    break;
                }
                let (there, taken) = (octets.len(), mail_data.form.append(octets, output)?);
                self.mail.consume(taken);
                if taken < there {
                    break;
                }
            }
        }
        Ok(mail_data.step == Step::End && mail_data.form.end(output)?)
    }

    /// The reply to the end of mail data, or to the chunk that was all of it; it alone makes a recipient
    /// delivered.
    pub(super) fn verdict(
        &mut self,
        is_void: bool,
        is_chunk: bool,
        code: u16,
        severity: Severity,
    ) -> Result<(), Stop> {
        self.judge(is_void, is_chunk, code, severity)?;
        self.is_reset_owed = is_chunk && severity != Severity::Completion;
        self.conclude();
        Ok(())
    }

    /// Settles the accepted recipients. (What becomes of a transaction whose chunk was refused is not said,
    /// RFC 3030 2: RSET is owed then.)
    pub(super) fn judge(
        &mut self,
        is_void: bool,
        is_chunk: bool,
        code: u16,
        severity: Severity,
    ) -> Result<(), Stop> {
        match severity {
            Severity::Intermediate => return Err(Stop::Fault(Fault::Protocol)),
            // Whatever the smarthost makes of no message to nobody: the recipients were refused before.
            Severity::Completion | Severity::Transient | Severity::Permanent if is_void => {}
            Severity::Permanent if is_chunk && is_of_the_command(code) => return Err(Stop::NoChunks),
            Severity::Completion => self.record.deliver_accepted(code, self.replies.text()),
            Severity::Transient | Severity::Permanent => self.refuse_accepted(code, severity)?,
        }
        if is_chunk && !is_void {
            self.chunks[self.smarthost] = Chunks::Judged;
        }
        Ok(())
    }

    /// A reply before the end of mail data. A refusal is taken for the verdict, so that a message which is
    /// dropped in the middle is not sent again and again; there is nothing else that may be said there.
    pub(super) fn early_reply(
        &mut self,
        mail_data: MailData,
        code: u16,
        severity: Severity,
    ) -> Result<(), Stop> {
        if mail_data.is_void || matches!(severity, Severity::Completion | Severity::Intermediate) {
            return Err(Stop::Fault(Fault::Protocol));
        }
        self.refuse_accepted(code, severity)?;
        Err(Stop::RefusedEarly)
    }
}

impl Session {
    /// Finds out when the message that was just opened came. While nobody had set the clock it has a place in
    /// the queue's time only, which the wall time of now puts right.
    pub(super) fn date_arrival<D: Device>(&mut self, message: MessageIndex, now: &Now, spool: &Store<D>) {
        let arrival = &mut self.envelope.arrival;
        self.date_unix_s = None;
        if !arrival.is_trusted && now.wall.is_trusted {
            let age = spool.tick(now.instant).since(spool.facts(message).accepted);
            let unix_s = now.wall.unix_s.saturating_sub(age.0 / 1000);
            *arrival = Wall { unix_s, is_trusted: true };
            self.date_unix_s = self.envelope.is_submission.then_some(unix_s);
        }
        self.arrival = self.envelope.arrival;
    }
}

/// The Received field of a message that leaves.
pub(super) fn trace<'a>(
    envelope: &'a Envelope,
    config: &'a Config,
    id: MessageId,
) -> Received<'a, MessageId> {
    Received {
        client: envelope.client,
        client_name: &envelope.client_name,
        hostname: &config.hostname,
        protocol: envelope.protocol.word(),
        id,
        is_client_hidden: config.hide_received,
        arrival_unix_s: envelope.arrival.unix_s,
    }
}

/// How many octets `value` is when written.
pub(super) fn octets(value: &impl fmt::Display) -> u64 {
    struct Count(u64);
    impl fmt::Write for Count {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 += text.len() as u64;
            Ok(())
        }
    }
    let mut count = Count(0);
    write!(count, "{value}").expect("counting can't fail");
    count.0
}
