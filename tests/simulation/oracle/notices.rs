//! Who may fail, and who must be told of it.

use super::{Oracle, Recipient, Removal, Stage};
use crate::net::Ms;
use crate::{dsn, mail, names};

/// When a message is given up over a dead route: `retry.hold`.
const HOLD_MS: Ms = 30 * 86_400_000;
/// Notices in an hour, whoever gets them; two hours of ours touch any hour of the relay's.
const NOTICES_MAX: usize = 60;
const NOTICES_WITHIN_MS: Ms = 7_200_000;

impl Oracle {
    /// A smarthost says "later" to a message, or to one recipient of it.
    pub(crate) fn said_later(&mut self, at: Option<usize>, recipient: Option<usize>) {
        let Some(at) = at else {
            self.may_any_expire = true;
            return;
        };
        let recipients = self.submissions[at].recipients.iter_mut().enumerate();
        for (_, r) in recipients.filter(|(place, _)| recipient.is_none_or(|recipient| recipient == *place)) {
            r.may_expire = true;
        }
    }

    /// A smarthost refuses the notice about a submission for good.
    pub(crate) fn notice_refused(&mut self, at: usize) {
        self.submissions[at].is_notice_refused = true;
    }

    /// A message is gone: whoever failed must be in a notice, unless nobody can be told or too many were.
    pub(super) fn check_notices(&self, at: usize, now: Ms) {
        let submission = &self.submissions[at];
        let has_dsn = submission.has_dsn;
        let lately = self.notices.iter().filter(|taken| now - **taken <= NOTICES_WITHIN_MS).count();
        let is_excused = mail::reverse_path(at).is_empty()
            || submission.is_notice_refused
            || lately >= NOTICES_MAX
            || now.saturating_sub(submission.ended_at) >= 2 * self.give_up_ms;
        let mut named = submission.recipients.iter().enumerate().filter(|(_, r)| r.is_accepted == Some(true));
        let silent = named.find(|(place, r)| {
            let is_owed = if r.may_be_delivered {
                self.is_success_owed(at, *place) && !self.may_fail_unrefused(at, r, now)
            } else {
                !has_dsn || dsn::wants_failure(at, *place)
            };
            is_owed && !r.is_noticed
        });
        assert!(silent.is_none() || is_excused, "SILENCE: submission {at}: nobody was told of {silent:?}");
    }

    /// True when somebody is to be told of a success that the smarthost can't tell of.
    pub(super) fn owes_success(&self, at: usize) -> bool {
        (0..self.submissions[at].recipients.len()).any(|place| self.is_success_owed(at, place))
    }

    /// The same of one recipient. Of one that got the message over two connections, as far as the relay
    /// knows, or may have failed over another, it may be told or not.
    fn is_success_owed(&self, at: usize, place: usize) -> bool {
        let r = &self.submissions[at].recipients[place];
        let is_to_be_told = self.submissions[at].has_dsn && dsn::wants_success(at, place);
        is_to_be_told
            && !mail::reverse_path(at).is_empty()
            && r.deliveries.iter().any(|delivery| delivery.is_told)
            && !r.may_be_handed_on
            && !r.may_be_failed
    }

    /// True when a recipient may fail that no smarthost refused: it can't be sent, or its time is over. Over
    /// a route that fails that time is another, since the message is not charged with it.
    pub(super) fn may_fail_unrefused(&self, at: usize, recipient: &Recipient, now: Ms) -> bool {
        let submission = &self.submissions[at];
        let age = now.saturating_sub(submission.ended_at);
        let is_any = self.envelope.is_some() || mail::reverse_path(at).is_empty();
        let may_expire = recipient.may_expire || self.may_any_expire && is_any;
        submission.mail.is_8bit && self.may_lack_8bit
            || age >= self.give_up_ms && may_expire
            || age >= HOLD_MS
    }

    /// The smarthost takes a notice to the reverse-path of a submission.
    pub(crate) fn noticed(&mut self, at: usize, data: &[u8], now: Ms, is_late: bool) {
        self.figures.noticed += 1;
        self.notices.push_back(now);
        let submission = &self.submissions[at];
        let text = String::from_utf8_lossy(data);
        assert!(
            submission.removal != Removal::Confirmed || is_late || self.is_weak,
            "REMOVED: a notice: {text}"
        );
        assert!(
            matches!(submission.stage, Stage::Ended | Stage::Accepted | Stage::Doubtful),
            "NOTICE: {text}"
        );
        for field in ["\r\nAuto-Submitted: auto-replied\r\n", "report-type=delivery-status;"] {
            assert!(text.contains(field), "NOTICE: no {field:?} in {text}");
        }
        assert!(data.len() < 64 * 1024 && text.ends_with("--\r\n"), "NOTICE: {text}");
        let envelope_line = dsn::envelope_line(at).filter(|_| submission.has_dsn);
        let told = text.lines().find(|line| line.starts_with("Original-Envelope-Id:")).map(str::to_owned);
        assert_eq!(told, envelope_line, "NOTICE: {text}");
        let mut told = Vec::new();
        let mut original = None;
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.starts_with("Original-Recipient:") {
                original = Some(line.to_owned());
            }
            if !line.starts_with("Final-Recipient:") {
                continue;
            }
            let named = line.rsplit(' ').next().and_then(mail::named).filter(|(of, _)| *of == at);
            let (_, place) = named.unwrap_or_else(|| panic!("NOTICE: {line} of submission {at}"));
            let expected = dsn::recipient_line(place).filter(|_| submission.has_dsn);
            assert_eq!(original.take(), expected, "NOTICE: {text}");
            let action = lines.next().unwrap_or_default();
            assert!(self.may_be_told(at, place, action, now), "NOTICE: {line}: {action}");
            self.figures.noticed_of_success += u64::from(action == "Action: relayed");
            told.push(place);
        }
        assert!(!told.is_empty(), "NOTICE: about nobody: {text}");
        for place in told {
            self.submissions[at].recipients[place].is_noticed = true;
        }
    }

    /// The smarthost takes what `admin` is told: a notice with nowhere else to go, or a report of damage.
    pub(crate) fn admin_told(&mut self, reverse_path: &str, data: &[u8], now: Ms) {
        let text = String::from_utf8_lossy(data);
        // A notice, which may be about a report, is rendered while it is sent, and has no Received of ours.
        let is_report = text.starts_with("Received: from relay.example ([127.0.0.1])\r\n");
        assert!(is_report || text.contains("report-type=delivery-status;"), "NOTICE: {text}");
        let expected = if is_report { self.envelope.unwrap_or(names::ADMIN) } else { "" };
        assert_eq!(reverse_path, expected, "PATH: {text}");
        assert!(!is_report || text.contains("\r\nAuto-Submitted: auto-generated\r\n"), "NOTICE: {text}");
        assert!(!is_report || self.is_weak, "DAMAGE: reported where there is none: {text}");
        self.figures.reports += u64::from(is_report);
        if !is_report {
            self.notices.push_back(now);
        }
    }

    /// True when a notice may say so of a recipient.
    fn may_be_told(&self, at: usize, place: usize, action: &str, now: Ms) -> bool {
        let submission = &self.submissions[at];
        let r = &submission.recipients[place];
        let has_dsn = submission.has_dsn;
        r.is_accepted != Some(false)
            && match action {
                "Action: failed" => {
                    (!has_dsn || dsn::wants_failure(at, place))
                        && (r.may_be_failed || self.may_fail_unrefused(at, r, now))
                }
                "Action: relayed" => has_dsn && dsn::wants_success(at, place) && r.may_be_relayed,
                _ => false,
            }
    }
}
