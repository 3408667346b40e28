//! Who may fail, and who must be told of it.

use super::{Oracle, Recipient, Removal, Stage};
use crate::mail;
use crate::net::Ms;

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
        let lately = self.notices.iter().filter(|taken| now - **taken <= NOTICES_WITHIN_MS).count();
        let is_excused = mail::reverse_path(at).is_empty()
            || submission.is_notice_refused
            || lately >= NOTICES_MAX
            || now.saturating_sub(submission.ended_at) >= 2 * self.give_up_ms;
        let mut named = submission.recipients.iter().filter(|r| r.is_accepted == Some(true));
        let silent = named.find(|r| !r.may_be_delivered && !r.is_noticed);
        assert!(silent.is_none() || is_excused, "SILENCE: submission {at}: nobody was told of {silent:?}");
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
        for field in
            ["\r\nAuto-Submitted: auto-replied\r\n", "report-type=delivery-status;", "\r\nAction: failed\r\n"]
        {
            assert!(text.contains(field), "NOTICE: no {field:?} in {text}");
        }
        assert!(data.len() < 64 * 1024 && text.ends_with("--\r\n"), "NOTICE: {text}");
        let mut told = Vec::new();
        for line in text.lines().filter(|line| line.starts_with("Final-Recipient:")) {
            let named = line.rsplit(' ').next().and_then(mail::named);
            let recipient =
                named.filter(|(of, _)| *of == at).map(|(_, recipient)| &submission.recipients[recipient]);
            let may_have_failed = recipient.is_some_and(|r| {
                r.is_accepted != Some(false) && (r.may_be_failed || self.may_fail_unrefused(at, r, now))
            });
            assert!(may_have_failed, "NOTICE: {line} of submission {at}: {recipient:?}");
            told.extend(named);
        }
        for (_, recipient) in told {
            self.submissions[at].recipients[recipient].is_noticed = true;
        }
    }
}
