//! The report of damage: a message to `admin` about what the spool has set aside and can't read, as nobody
//! else would learn of it before the alarm that is missing.
//!
//! It is written into the spool like any message, in the turn in which there is something to tell, and the
//! superblock says then how much was told: nothing is told twice, but where a crash comes in between. Without
//! `admin`, or room, the log and the status tell alone. What is found within an hour of a report waits for
//! the next one.

use core::fmt::{self, Write as _};

use super::Relay;
use crate::config::Config;
use crate::smtp::date::Date;
use crate::smtp::trace::Origin;
use crate::spool::{Device, Draft, Ended, Envelope, MessageId, Protocol, Recipient, Refusal, Store};
use crate::time::{Duration, Instant, Now};

/// How long after a report the next one may follow at the earliest.
const REPORT_EVERY: Duration = Duration::from_min(60);
/// How long a report waits that the spool did not take.
const RETRY_AFTER: Duration = Duration::from_min(10);
/// Damaged messages that a report names.
const NAMED_MAX: usize = 16;

/// A report that waits for the turn's sync.
#[must_use]
pub(super) struct Report {
    ended: Ended,
    /// What has been told when it is durable.
    count: u32,
}

impl<D: Device> Relay<D> {
    /// When there is something to tell, on a disk that works.
    pub(super) fn damage_due(&self) -> Option<Instant> {
        let (count, told) = self.spool.damage();
        let may_tell = self.config.admin.is_some() && !self.spool.is_failing();
        (count > told && may_tell).then_some(self.damage_told_again_at)
    }

    /// Writes a report, where one is due.
    pub(super) fn report_damage(&mut self, now: &Now) -> Option<Report> {
        if self.damage_due().is_none_or(|due| due > now.instant) {
            return None;
        }
        let (count, _) = self.spool.damage();
        match write(&mut self.spool, &self.config, now) {
            Ok(ended) => Some(Report { ended, count }),
            Err(refusal) => {
                self.not_reported(now, refusal);
                None
            }
        }
    }

    /// The sync is over that was to make the report durable.
    pub(super) fn damage_reported(&mut self, now: &Now, report: Report) {
        match self.spool.receipt(report.ended) {
            Ok(receipt) => {
                log::warn!("damage-reported id={} damaged={}", receipt.id(), report.count);
                self.damage_told_again_at = now.instant + REPORT_EVERY;
                self.spool.note_damage_told(report.count);
            }
            Err(refusal) => self.not_reported(now, refusal),
        }
    }

    fn not_reported(&mut self, now: &Now, refusal: Refusal) {
        log::error!("spool: can't take the report of damage to \"admin\" now: {refusal:?}");
        self.damage_told_again_at = now.instant + RETRY_AFTER;
    }
}

fn write<D: Device>(spool: &mut Store<D>, config: &Config, now: &Now) -> Result<Ended, Refusal> {
    let admin = config.admin.as_deref().unwrap_or_default().as_bytes();
    let envelope = Envelope {
        client: Origin::from(core::net::IpAddr::from([127, 0, 0, 1])),
        client_name: octets(config.hostname.as_bytes()),
        protocol: Protocol::Esmtp,
        arrival: now.wall,
        // Some smarthosts take no null one. Should the report fail, its notice is the last word.
        reverse_path: octets(admin),
        body_is_8bit: false,
        utf8: false,
        // Whoever sets the clock later sets the date.
        is_submission: true,
        ret: 0,
        envid: heapless::Vec::new(),
    };
    let recipient = Recipient { forward_path: octets(admin), ..Recipient::default() };
    let mut draft = spool.begin(&envelope, None)?;
    let mut text = Text { spool, draft: &mut draft, refusal: None };
    let written = text.spool.add_recipient(text.draft, &recipient).and_then(|()| {
        let _ = text.report(config, now);
        text.refusal.map_or(Ok(()), Err)
    });
    match written {
        Ok(()) => {
            let tick = spool.tick(now.instant);
            spool.end(draft, tick)
        }
        Err(refusal) => {
            spool.discard(draft);
            Err(refusal)
        }
    }
}

fn octets<const N: usize>(text: &[u8]) -> heapless::Vec<u8, N> {
    heapless::Vec::from_slice(text).expect("the configuration takes no longer names and addresses")
}

/// The mail data of a report on its way into a draft.
struct Text<'a, D> {
    spool: &'a mut Store<D>,
    draft: &'a mut Draft,
    refusal: Option<Refusal>,
}

impl<D: Device> fmt::Write for Text<'_, D> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.spool.append(self.draft, text.as_bytes()).map_err(|refusal| {
            self.refusal = Some(refusal);
            fmt::Error
        })
    }
}

impl<D: Device> Text<'_, D> {
    fn report(&mut self, config: &Config, now: &Now) -> fmt::Result {
        let hostname = &config.hostname;
        write!(self, "From: Mail relay <")?;
        match &config.sender_header_from {
            Some(address) => write!(self, "{address}>\r\n")?,
            None => write!(self, "MAILER-DAEMON@{hostname}>\r\n")?,
        }
        write!(self, "To: <{}>\r\n", config.admin.as_deref().unwrap_or_default())?;
        write!(self, "Subject: Damaged mail in the spool of {hostname}\r\n")?;
        if now.wall.is_trusted {
            write!(self, "Date: {}\r\n", Date { unix_s: now.wall.unix_s })?;
        }
        let id = self.spool.id_of(self.draft);
        write!(self, "Message-ID: <damage.{id}@{hostname}>\r\n")?;
        write!(self, "Auto-Submitted: auto-generated\r\n\r\n")?;
        write!(self, "This is the mail relay {hostname}.\r\n")?;
        self.messages()?;
        self.blocks()?;
        write!(self, "\r\nThe disk below the spool may be failing: see \"postern status\" and the log.\r\n")
    }

    fn messages(&mut self) -> fmt::Result {
        let count = self.spool.aside_count() as usize;
        if count == 0 {
            return Ok(());
        }
        let named: heapless::Vec<MessageId, NAMED_MAX> =
            self.spool.aside().map(|(id, _)| id).take(NAMED_MAX).collect();
        let (subject, verb) = if count == 1 { ("message", "is") } else { ("messages", "are") };
        write!(self, "{count} {subject} in its spool {verb} damaged and will not be sent.\r\n")?;
        write!(self, "See what is left, then remove it:\r\n\r\n")?;
        for id in &named {
            write!(self, "    postern queue show {id}\r\n    postern queue remove {id}\r\n")?;
        }
        if count > named.len() {
            write!(self, "\r\n{} more are listed by \"postern queue\".\r\n", count - named.len())?;
        }
        Ok(())
    }

    fn blocks(&mut self) -> fmt::Result {
        match self.spool.unreadable().count {
            0 => Ok(()),
            1 => write!(self, "1 block of its spool can't be read; what it held is not known.\r\n"),
            count => {
                write!(self, "{count} blocks of its spool can't be read; what they held is not known.\r\n")
            }
        }
    }
}
