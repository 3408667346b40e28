//! What must be true: knows what each client sent and was told, and what the smarthost took, and never looks
//! into the relay but through what the spool says of itself.
//!
//! Its verdicts, each with the word that a failure prints first (others are PROTOCOL in `smarthosts.rs`,
//! OUTPUT in `driver.rs`, NETWORK in `world/admin.rs`, and SLOTS, BLOCKS, BUSY, AGE, ASIDE, START in
//! `world.rs`):
//! - LOSS: a message answered 250 is gone, though a recipient has neither got it nor been refused.
//! - SILENCE: a message is gone of which a recipient failed, or got it as was to be told, and nobody was
//!   told.
//! - REVIVED: a message that was refused, or never ended, is delivered.
//! - TWICE: a recipient gets a message again though nothing had happened that excuses it.
//! - OCTETS: what came out is not what went in.
//! - EAGER: a message that was refused for now is tried again too soon.
//! - PATH: the wrong reverse-path or recipient, a mixture of messages, or a smuggled one.
//! - NOTICE: a notice about somebody who did not fail, that nobody asked for, or of another form than RFC
//!   3464's.
//! - NOTIFY: what a client asked to hear is not handed on as it came.
//! - REPLY: a client was told what can't be.
//! - REMOVED: a message comes out though its removal was confirmed.
//! - LOGIN: a login is tried again too soon after it was refused.

mod asked;
mod notices;
mod rewriting;

use std::collections::{BTreeMap, VecDeque};

use crate::mail::{self, Mail};
use crate::net::Ms;
use crate::trace;
use asked::Removal;
pub(crate) use asked::Since;

/// How long a message waits at least that the smarthost refused for now: a minute, less a quarter.
const WAIT_MS_MIN: Ms = 45_000;

/// How far a submission is, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its end has not been sent.
    Open,
    /// Its end was sent, and no reply read: it may be delivered or not.
    Ended,
    /// 250.
    Accepted,
    /// Any other reply: it must not be delivered.
    Refused,
    /// Refused while the disk failed, and then came a crash: it may be back (the client tries again anyway).
    Doubtful,
}

#[derive(Clone, Debug, Default)]
struct Delivery {
    /// The smarthost offered DSN, and tells of it where it was asked to.
    has_dsn: bool,
    /// The relay has read the smarthost's 250.
    is_told: bool,
    /// Something has happened since that may make the relay forget it.
    is_excused: bool,
}

#[derive(Clone, Debug, Default)]
struct Recipient {
    /// The relay's reply to RCPT was 250, or another; none when it was not read.
    is_accepted: Option<bool>,
    deliveries: Vec<Delivery>,
    /// The relay has read a 250 for it.
    may_be_delivered: bool,
    /// One of these came from a smarthost without DSN.
    may_be_relayed: bool,
    /// One of these came from a smarthost with DSN.
    may_be_handed_on: bool,
    /// The relay has read a 5yz for it.
    may_be_failed: bool,
    /// A smarthost has said "later" to it: it may fail when its time is over.
    may_expire: bool,
    /// A smarthost has taken a notice that names it.
    is_noticed: bool,
}

/// One attempt of a client to hand a message over.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) mail: Mail,
    /// It has the parameters of DSN that follow from its number.
    pub(crate) has_dsn: bool,
    recipients: Vec<Recipient>,
    pub(crate) stage: Stage,
    /// What the client sent with EHLO or HELO, its address, and the protocol's word.
    trace: String,
    id: Option<(u32, u32)>,
    ended_at: Ms,
    removal: Removal,
    /// A smarthost has said 5yz to the notice about it, which dies then.
    is_notice_refused: bool,
}

impl Submission {
    /// True when it comes from a user of this machine.
    fn is_local(&self) -> bool {
        self.trace.contains("(uid ")
    }
}

/// What the smarthost's reply says once the relay has read it.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// These deliveries are confirmed: submission, recipient, which one.
    Delivered(Vec<(usize, usize, usize)>),
    /// The message is refused for now.
    Deferred(usize),
    /// These recipients are refused for good.
    Refused(Vec<(usize, usize)>),
    /// The login at this smarthost is refused, over a connection dialled then.
    LoginRefused(usize, Since),
}

/// The envelope of a message that a smarthost takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken<'a> {
    pub(crate) reverse_path: &'a str,
    pub(crate) forward_paths: &'a [String],
    /// The smarthost offered DSN.
    pub(crate) has_dsn: bool,
}

/// What the spool says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Live {
    pub(crate) recipients: usize,
    pub(crate) waiting: usize,
}

/// Counts for the figures.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) submitted: u64,
    pub(crate) accepted: u64,
    /// Of these, over TLS.
    pub(crate) accepted_in_tls: u64,
    pub(crate) refused: u64,
    pub(crate) delivered: u64,
    pub(crate) duplicates: u64,
    pub(crate) noticed: u64,
    pub(crate) noticed_of_success: u64,
    /// Reports of damage.
    pub(crate) reports: u64,
}

/// The oracle.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    submissions: Vec<Submission>,
    /// Each id with its submission.
    ids: BTreeMap<(u32, u32), usize>,
    /// Accepted, and not yet known to be at its end.
    open: Vec<usize>,
    /// Refused because of the disk, which may still hold them.
    revivable: Vec<usize>,
    /// Messages that the relay was told to try later, and when.
    deferred: BTreeMap<usize, Ms>,
    /// Deliveries that the relay was told of, with the count of good syncs since which the spool shows them.
    settling: Vec<(usize, usize, usize, Option<u64>)>,
    /// Messages that are being removed.
    removing: Vec<usize>,
    /// When notices were taken, the last of them last.
    notices: VecDeque<Ms>,
    /// When the login at each smarthost was refused.
    login_refused: BTreeMap<usize, Ms>,
    /// How often the logins were to be tried at once: somebody asked, or the secret changed.
    asks: u64,
    /// A smarthost has said "later" to a reverse-path that any message may have.
    may_any_expire: bool,
    pub(crate) give_up_ms: Ms,
    /// Blocks have rotted: messages may be set aside.
    pub(crate) is_weak: bool,
    /// The configuration has it so.
    pub(crate) refuses_bare_lf: bool,
    /// `sender.envelope` and `sender.header_from`.
    pub(crate) envelope: Option<&'static str>,
    pub(crate) header_from: Option<&'static str>,
    /// Some smarthosts don't offer 8BITMIME: mail that needs it fails.
    pub(crate) may_lack_8bit: bool,
    pub(crate) figures: Figures,
}

impl Oracle {
    /// A client begins to hand a message over.
    pub(crate) fn submit(&mut self, mail: Mail, recipients: usize, trace: String, has_dsn: bool) -> usize {
        self.figures.submitted += 1;
        self.submissions.push(Submission {
            mail,
            has_dsn,
            recipients: vec![Recipient::default(); recipients],
            stage: Stage::Open,
            trace,
            id: None,
            ended_at: 0,
            removal: Removal::No,
            is_notice_refused: false,
        });
        self.submissions.len() - 1
    }

    /// The number of the next submission.
    pub(crate) fn next_submission(&self) -> usize {
        self.submissions.len()
    }

    pub(crate) fn submission(&self, at: usize) -> &Submission {
        &self.submissions[at]
    }

    /// How many recipients the submission names.
    pub(crate) fn recipients(&self, at: usize) -> usize {
        self.submissions[at].recipients.len()
    }

    /// The client has read the reply to RCPT.
    pub(crate) fn recipient_answered(&mut self, at: usize, recipient: usize, code: u16) {
        self.submissions[at].recipients[recipient].is_accepted = Some(code == 250);
    }

    /// The client has sent the end of the mail data.
    pub(crate) fn ended(&mut self, at: usize, now: Ms) {
        let submission = &mut self.submissions[at];
        if submission.stage == Stage::Open {
            submission.stage = Stage::Ended;
        }
        submission.ended_at = now;
    }

    /// The client has read the reply to the end of the mail data. `is_of_this_run`: the relay that gave it
    /// lives.
    pub(crate) fn answered(&mut self, at: usize, code: u16, text: &str, is_of_this_run: bool) {
        let submission = &mut self.submissions[at];
        let is_due = submission.stage == Stage::Ended || code == 421 && submission.stage == Stage::Open;
        assert!(is_due, "REPLY: {code} to submission {at}, which is {:?}", submission.stage);
        if code != 250 {
            self.figures.refused += 1;
            let is_delivered = submission.recipients.iter().any(|r| !r.deliveries.is_empty());
            assert!(!is_delivered || !is_of_this_run, "REVIVED: submission {at} was delivered, then {code}");
            // 451 and 452 may stand for a failed write, whose traces are wiped with the next syncs.
            let is_of_the_disk = matches!(code, 451 | 452);
            submission.stage = Stage::Refused;
            if is_of_the_disk && is_of_this_run {
                self.revivable.push(at);
            } else if is_of_the_disk {
                submission.stage = Stage::Doubtful;
            }
            return;
        }
        let is_bad = submission.mail.has_bare_cr || self.refuses_bare_lf && submission.mail.has_bare_lf;
        assert!(!is_bad, "REPLY: bare CR or LF was accepted (submission {at})");
        let id = text.strip_prefix("2.0.0 Queued as ").and_then(parse_id);
        let id = id.unwrap_or_else(|| panic!("REPLY: no id in {text:?}"));
        assert!(submission.id.is_none_or(|known| known == id), "REPLY: another id (submission {at})");
        submission.id = Some(id);
        assert_eq!(*self.ids.entry(id).or_insert(at), at, "REPLY: the id {id:x?} was used before");
        submission.stage = Stage::Accepted;
        let in_tls = submission.trace.contains(" with ESMTPS");
        let is_anybody = submission.recipients.iter().any(|r| r.is_accepted == Some(true));
        assert!(is_anybody, "REPLY: 250 to a message for nobody (submission {at})");
        self.figures.accepted += 1;
        self.figures.accepted_in_tls += u64::from(in_tls);
        self.open.push(at);
    }

    /// The smarthost takes a message, and says so if nothing comes between. `is_late`: the relay has given
    /// the connection up meanwhile, and may have sent the message again over another.
    pub(crate) fn delivered(&mut self, taken: &Taken<'_>, data: &[u8], is_late: bool) -> Told {
        let Taken { reverse_path, forward_paths, has_dsn } = *taken;
        let named: Vec<(usize, usize)> = forward_paths
            .iter()
            .map(|path| mail::named(path).unwrap_or_else(|| panic!("PATH: nobody sent to {path}")))
            .collect();
        let at = named[0].0;
        assert!(named.iter().all(|(other, _)| *other == at), "PATH: messages are mixed: {forward_paths:?}");
        let own = mail::reverse_path(at);
        let expected = self.envelope.filter(|_| !own.is_empty()).unwrap_or(&own);
        assert_eq!(reverse_path, expected, "PATH: the reverse-path of submission {at}");
        let submission = &mut self.submissions[at];
        let stage = submission.stage;
        assert!(
            matches!(stage, Stage::Ended | Stage::Accepted | Stage::Doubtful),
            "REVIVED: submission {at} is delivered, though {stage:?}"
        );
        let is_gone = submission.removal == Removal::Confirmed;
        assert!(!is_gone || is_late || self.is_weak, "REMOVED: submission {at} is delivered");
        let (id, rest) = split_trace(data, &submission.trace)
            .unwrap_or_else(|| panic!("OCTETS: submission {at} has no trace: {}", data.escape_ascii()));
        assert!(submission.id.is_none_or(|known| known == id), "OCTETS: another id (submission {at})");
        submission.id = Some(id);
        assert_eq!(*self.ids.entry(id).or_insert(at), at, "PATH: the id {id:x?} was used before");
        let submitted = submission.is_local().then(|| rewriting::without_added(rest, self.header_from));
        let rest = submitted.as_deref().unwrap_or(rest);
        let from = self.header_from.map(|address| rewriting::without_from(rest, address, &own));
        let rest = from.as_deref().unwrap_or(rest);
        assert!(
            rest == submission.mail.expected,
            "OCTETS: submission {at} came out as\n{}\ninstead of\n{}",
            rest.escape_ascii(),
            submission.mail.expected.escape_ascii()
        );
        let mut told = Vec::new();
        for (_, recipient) in named {
            let r = submission.recipients.get_mut(recipient).expect("PATH: a recipient that nobody named");
            assert!(r.is_accepted != Some(false), "PATH: recipient {recipient} of {at} was refused");
            let before = r.deliveries.iter().find(|before| before.is_told && !before.is_excused);
            if let Some(before) = before.filter(|_| !is_late) {
                panic!("TWICE: submission {at}, recipient {recipient}, after {before:?}");
            }
            self.figures.delivered += 1;
            self.figures.duplicates += u64::from(!r.deliveries.is_empty());
            told.push((at, recipient, r.deliveries.len()));
            r.deliveries.push(Delivery { has_dsn, ..Delivery::default() });
        }
        Told::Delivered(told)
    }

    /// The relay has read the smarthost's reply; `is_sure` when it must have understood it.
    pub(crate) fn told(&mut self, now: Ms, told: &Told, is_sure: bool) {
        trace!("oracle: told {told:?}{}", if is_sure { "" } else { ", perhaps" });
        match told {
            Told::Delivered(deliveries) => {
                for (at, recipient, delivery) in deliveries {
                    let r = &mut self.submissions[*at].recipients[*recipient];
                    r.may_be_delivered = true;
                    r.deliveries[*delivery].is_told = is_sure;
                    let has_dsn = r.deliveries[*delivery].has_dsn;
                    r.may_be_relayed |= !has_dsn;
                    r.may_be_handed_on |= has_dsn;
                    if is_sure {
                        self.settling.push((*at, *recipient, *delivery, None));
                    }
                }
            }
            Told::Deferred(at) if is_sure => {
                self.deferred.insert(*at, now);
            }
            Told::LoginRefused(smarthost, since) if is_sure => self.login_refused(*smarthost, *since, now),
            Told::Deferred(_) | Told::LoginRefused(..) => {}
            Told::Refused(recipients) => {
                for (at, recipient) in recipients {
                    if let Some(r) = self.submissions[*at].recipients.get_mut(*recipient) {
                        r.may_be_failed = true;
                    }
                }
            }
        }
    }

    /// The relay names a recipient of the message to a smarthost.
    pub(crate) fn tried(&self, at: usize, now: Ms) {
        let waited = self.deferred.get(&at).map(|since| now - since);
        assert!(waited.is_none_or(|ms| ms >= WAIT_MS_MIN), "EAGER: {at} is tried again after {waited:?} ms");
    }

    /// A crash, or the disk failed: what the spool had not made durable may be forgotten.
    pub(crate) fn excuse(&mut self) {
        for (at, recipient, delivery, _) in self.settling.drain(..) {
            self.submissions[at].recipients[recipient].deliveries[delivery].is_excused = true;
        }
    }

    /// The relay is gone with all that it knew.
    pub(crate) fn crashed(&mut self) {
        self.excuse();
        self.deferred.clear();
        self.login_refused.clear();
        for at in self.revivable.drain(..) {
            self.submissions[at].stage = Stage::Doubtful;
        }
    }

    /// All that was written is durable: what was refused can't come back.
    pub(crate) fn is_durable(&mut self) {
        self.revivable.clear();
    }

    /// A step is over: the spool's messages and its count of good syncs.
    pub(crate) fn check(&mut self, now: Ms, live: &BTreeMap<(u32, u32), Live>, good_syncs: u64) {
        if !self.is_weak {
            let mut open = std::mem::take(&mut self.open);
            open.retain(|at| self.is_open(*at, now, live));
            self.open = open;
        }
        let submissions = &self.submissions;
        self.settling.retain_mut(|(at, _, _, since)| {
            let submission = &submissions[*at];
            let known = submission.id.and_then(|id| live.get(&id));
            let settled =
                submission.recipients.iter().filter(|r| r.may_be_delivered || r.may_be_failed).count();
            let is_shown = known.is_none_or(|known| known.waiting + settled <= known.recipients);
            match since {
                Some(since) if *since < good_syncs => return false,
                Some(_) => {}
                None if is_shown => *since = Some(good_syncs),
                None => {}
            }
            true
        });
    }

    /// False when nothing is left to be watched of an accepted submission.
    fn is_open(&self, at: usize, now: Ms, live: &BTreeMap<(u32, u32), Live>) -> bool {
        let submission = &self.submissions[at];
        let accepted = || submission.recipients.iter().filter(|r| r.is_accepted != Some(false));
        let undelivered = accepted().filter(|r| !r.may_be_delivered).count();
        if undelivered == 0 && !self.owes_success(at) {
            return false;
        }
        let is_unsettled = |r: &&Recipient| !r.may_be_delivered && !r.may_be_failed;
        let unsettled = accepted().filter(is_unsettled).count();
        let id = submission.id.expect("accepted with an id");
        let may_fail = |r: &&Recipient| self.may_fail_unrefused(at, r, now);
        let unsettled = unsettled - accepted().filter(is_unsettled).filter(may_fail).count();
        let Some(known) = live.get(&id) else {
            if submission.removal == Removal::No {
                assert_eq!(unsettled, 0, "LOSS: submission {at}, {id:x?}: recipients have not got it");
                self.check_notices(at, now);
            }
            return false;
        };
        assert!(
            known.waiting >= unsettled,
            "LOSS: submission {at}, {id:x?}: {unsettled} recipients are unsettled, {} wait",
            known.waiting
        );
        true
    }

    /// The end of the run: nothing waits any more, and whoever failed was told of.
    pub(crate) fn finish(&self, live: &BTreeMap<(u32, u32), Live>) {
        assert!(live.is_empty(), "STUCK: {live:x?}");
    }
}

/// `epoch-counter` in hexadecimal digits.
fn parse_id(text: &str) -> Option<(u32, u32)> {
    let (epoch, counter) = text.split_once('-')?;
    Some((u32::from_str_radix(epoch, 16).ok()?, u32::from_str_radix(counter, 16).ok()?))
}

/// Takes the Received field off, which must begin with `trace` and an id; returns the id and the rest.
fn split_trace<'a>(data: &'a [u8], trace: &str) -> Option<((u32, u32), &'a [u8])> {
    let rest = data.strip_prefix(trace.as_bytes())?;
    let end = rest.windows(4).position(|octets| octets == b";\r\n\t")?;
    let id = parse_id(std::str::from_utf8(&rest[..end]).ok()?)?;
    let date = &rest[end + 4..];
    let date_end = date.windows(2).position(|octets| octets == b"\r\n")?;
    let is_date =
        date_end == "Thu, 01 Jan 1970 00:00:00 +0000".len() && date[..date_end].ends_with(b" +0000");
    is_date.then_some((id, &date[date_end + 2..]))
}
