//! What becomes of one message's recipients while it is tried: each has its own result (RFC 5321 4.3 and
//! 4.5.3.1.10).
//!
//! The result stays here until it is recorded in the spool, so that a disk which can't be written for a while
//! delays it and no more. Only what the smarthost said marks a recipient as delivered or failed.
//!
//! An attempt is at the message, or at the notice about those of its recipients whose failure is not told
//! yet. A notice has one recipient, whose result is the [`Fate`] of the notice; the message's recipients stay
//! as they are.
use super::Fault;
use crate::limits::{RECIPIENTS, REPLY_TEXT_OCTETS_MAX};
use crate::spool::{
    Damage, Device, Facts, KeptReply, MessageId, MessageIndex, REPLIES_KEPT, RecipientState, Store,
};

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The smarthost, or what it offers, decided on all recipients that had to be tried.
    Tried,
    /// The route failed: recipients that are not settled were not tried, and the message is not charged.
    RouteFault(Fault),
    /// The same, told by the smarthost's reply to the message: it may be the message that it is about.
    Held(Fault),
    /// The message can't be read from the spool any more.
    Damaged,
}

/// What has become of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Still to be sent.
    Waiting,
    /// The smarthost took it.
    Taken,
    /// The smarthost refused it for good: it dies quietly (RFC 5321 6.1).
    Refused,
    /// It is not sent: nobody wants it, or nobody may get it.
    Dropped,
}

/// A finished attempt that waits to be recorded.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Which message.
    pub message: MessageIndex,
    /// How it ended; recipients may have been settled before, however it ended.
    pub ending: Ending,
    /// What has become of the notice that was tried instead of the message; `None`: the message was tried.
    pub notice: Option<Fate>,
    /// True when a recipient was settled: `states` and `replies` are to be written down.
    pub is_changed: bool,
    /// Mail data was sent: the message may be at the smarthost without our knowing, and it may itself be what
    /// made the smarthost close. It should not be the next to be tried again after a fault.
    pub has_sent_mail_data: bool,
    /// What tells a fault of the route was taken for the message's own, see [`super::Session::suspect`].
    pub is_blamed: bool,
    /// What has become of each recipient.
    pub states: &'a [RecipientState],
    /// The replies that failed recipients refer to.
    pub replies: &'a [KeptReply],
    /// The smarthost's 4yz to a recipient that waits still, or to the message, or what told a fault of the
    /// route; of a notice any refusal.
    pub deferral: Option<&'a KeptReply>,
    /// The smarthost's 2yz to mail data that it took.
    pub delivery: Option<&'a KeptReply>,
}

/// How far it is with a recipient in this attempt; one that was settled before stays at the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mark {
    /// Its turn comes in this transaction or the next.
    #[default]
    ToTry,
    /// RCPT was written, its reply awaited.
    Asked,
    /// The same, and its success will have to be told by us (RFC 3461 5.2.2).
    AskedToTell,
    /// The smarthost took RCPT.
    Accepted,
    /// The same, and its success will have to be told by us.
    AcceptedToTell,
    /// It failed, or the smarthost said "later": nothing more comes of it in this attempt.
    Decided,
}

/// The stage of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    None,
    UnderWay,
    Finished(Ending),
}

/// The record of one message's attempt; one for each connection, its tables made at start.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) message: MessageIndex,
    pub(super) id: MessageId,
    /// Octets of its mail data.
    pub(super) octets: u64,
    pub(super) has_sent_mail_data: bool,
    /// What tells a fault of the route is taken for this message's own.
    pub(super) is_suspect: bool,
    /// That has happened.
    pub(super) is_blamed: bool,
    stage: Stage,
    notice: Option<Fate>,
    recipients: usize,
    states: Box<[RecipientState]>,
    marks: Box<[Mark]>,
    /// No recipient before this place awaits its reply.
    answered: usize,
    replies: heapless::Vec<KeptReply, REPLIES_KEPT>,
    is_changed: bool,
    /// No further transaction in this attempt.
    is_stopped: bool,
    deferral: Option<KeptReply>,
    delivery: Option<KeptReply>,
}

impl Record {
    pub(super) fn new() -> Self {
        Self {
            message: MessageIndex(0),
            id: MessageId::default(),
            octets: 0,
            has_sent_mail_data: false,
            is_suspect: false,
            is_blamed: false,
            stage: Stage::None,
            notice: None,
            recipients: 0,
            states: vec![RecipientState::default(); RECIPIENTS].into_boxed_slice(),
            marks: vec![Mark::default(); RECIPIENTS].into_boxed_slice(),
            answered: 0,
            replies: heapless::Vec::new(),
            is_changed: false,
            is_stopped: false,
            deferral: None,
            delivery: None,
        }
    }

    /// Begins with what the spool knows of `message`: an attempt at it, or at a notice about it.
    pub(super) fn begin<D: Device>(
        &mut self,
        message: MessageIndex,
        facts: &Facts,
        notice: Option<Fate>,
        spool: &mut Store<D>,
    ) -> Result<(), Damage> {
        assert_eq!(self.stage, Stage::None, "the attempt before was not recorded");
        let recipients = usize::from(facts.recipients);
        // More than this board can hold can stand in the spool of a larger one only; it is kept and not
        // relayed.
        let states = self.states.get_mut(..recipients).ok_or(Damage)?;
        spool.states(message, states)?;
        self.replies = spool.replies(message)?;
        self.marks[..recipients].fill(Mark::ToTry);
        self.message = message;
        self.id = facts.id;
        self.octets = facts.octets;
        self.notice = notice;
        self.recipients = recipients;
        self.answered = 0;
        self.has_sent_mail_data = false;
        self.is_suspect = false;
        self.is_blamed = false;
        self.is_changed = false;
        self.is_stopped = false;
        self.deferral = None;
        self.delivery = None;
        self.stage = Stage::UnderWay;
        Ok(())
    }

    /// The attempt was not begun after all.
    pub(super) fn forget(&mut self) {
        self.stage = Stage::None;
    }

    pub(super) fn finish(&mut self, ending: Ending) {
        if self.stage == Stage::UnderWay {
            self.stage = Stage::Finished(ending);
        }
    }

    /// True between the begin and the end of an attempt.
    pub(super) fn is_under_way(&self) -> bool {
        self.stage == Stage::UnderWay
    }

    pub(super) fn is_free(&self) -> bool {
        self.stage == Stage::None
    }

    pub(super) fn recorded(&mut self) {
        assert!(matches!(self.stage, Stage::Finished(_)), "no finished attempt waits to be recorded");
        self.stage = Stage::None;
    }

    pub(super) fn attempt(&self) -> Option<Attempt<'_>> {
        let Stage::Finished(ending) = self.stage else { return None };
        Some(Attempt {
            message: self.message,
            ending,
            notice: self.notice,
            is_changed: self.is_changed,
            has_sent_mail_data: self.has_sent_mail_data,
            is_blamed: self.is_blamed,
            states: &self.states[..self.recipients],
            replies: &self.replies,
            deferral: self.deferral.as_ref(),
            delivery: self.delivery.as_ref(),
        })
    }

    /// True when a recipient is left for a further transaction of this attempt.
    pub(super) fn has_more(&self) -> bool {
        !self.is_stopped && (0..self.tried()).any(|index| self.is_to_try(index))
    }

    /// True when the attempt is at a notice.
    pub(super) fn is_notice(&self) -> bool {
        self.notice.is_some()
    }

    /// The notice is not to be sent: the attempt is over.
    pub(super) fn drop_notice(&mut self) {
        self.notice = Some(Fate::Dropped);
        self.finish(Ending::Tried);
    }

    /// The notice's reverse-path was refused; its recipient is to be tried with another one.
    pub(super) fn try_again(&mut self) {
        self.marks[0] = Mark::ToTry;
    }

    /// What has become of the message's recipient at `index`, with the reason if it failed.
    pub(super) fn fate_of(&self, index: usize) -> (RecipientState, Option<&KeptReply>) {
        let state = self.states[..self.recipients].get(index).copied().unwrap_or_default();
        let reason = match state {
            RecipientState::Failed { reply } => self.replies.get(usize::from(reply)),
            RecipientState::Waiting
            | RecipientState::Delivered
            | RecipientState::Noticed
            | RecipientState::Relayed => None,
        };
        (state, reason)
    }

    /// Recipients that this attempt may try: those of the message, or the one of the notice.
    fn tried(&self) -> usize {
        if self.is_notice() { 1 } else { self.recipients }
    }

    fn waits(&self, index: usize) -> bool {
        match self.notice {
            Some(fate) => fate == Fate::Waiting,
            None => self.states[index] == RecipientState::Waiting,
        }
    }

    /// True when RCPT is to be sent for the recipient at `index`.
    pub(super) fn is_to_try(&self, index: usize) -> bool {
        index < self.tried() && self.waits(index) && self.marks[index] == Mark::ToTry
    }

    /// A new transaction begins: replies to RCPT count from the first recipient again.
    pub(super) fn begin_transaction(&mut self) {
        self.answered = 0;
    }

    /// RCPT was written for the recipient at `index`; indexes of one transaction ascend. With `is_to_tell` a
    /// success is ours to tell.
    pub(super) fn ask(&mut self, index: usize, is_to_tell: bool) {
        self.marks[index] = if is_to_tell { Mark::AskedToTell } else { Mark::Asked };
    }

    /// RCPT can't be written for the recipient at `index`.
    pub(super) fn fail(&mut self, index: usize, code: u16, text: &[u8]) {
        let verdict = self.failure(code, text);
        self.decide(index, verdict);
    }

    /// The first asked recipient was accepted.
    pub(super) fn accept_asked(&mut self) {
        let index = self.next_asked();
        let is_to_tell = self.marks[index] == Mark::AskedToTell;
        self.marks[index] = if is_to_tell { Mark::AcceptedToTell } else { Mark::Accepted };
    }

    /// The first asked recipient is one too many for this transaction.
    pub(super) fn postpone_asked(&mut self) {
        let index = self.next_asked();
        self.marks[index] = Mark::ToTry;
    }

    /// The first asked recipient was refused for now.
    pub(super) fn defer_asked(&mut self, code: u16, text: &[u8]) {
        let index = self.next_asked();
        self.marks[index] = Mark::Decided;
        self.deferral = Some(kept(code, text));
    }

    /// The first asked recipient was refused for good.
    pub(super) fn fail_asked(&mut self, code: u16, text: &[u8]) {
        let index = self.next_asked();
        self.fail(index, code, text);
    }

    /// The smarthost took the mail data for all accepted recipients.
    pub(super) fn deliver_accepted(&mut self, code: u16, text: &[u8]) {
        self.settle(&[Mark::Accepted], RecipientState::Delivered);
        self.settle(&[Mark::AcceptedToTell], RecipientState::Relayed);
        self.delivery = Some(kept(code, text));
    }

    /// DATA or the mail data was refused for good, for all accepted recipients.
    pub(super) fn fail_accepted(&mut self, code: u16, text: &[u8]) {
        let verdict = self.failure(code, text);
        self.settle(&[Mark::Accepted, Mark::AcceptedToTell], verdict);
    }

    /// The message was refused for good: all recipients that were not refused one by one have failed.
    pub(super) fn fail_rest(&mut self, code: u16, text: &[u8]) {
        let verdict = self.failure(code, text);
        self.settle(&[Mark::ToTry, Mark::Asked, Mark::AskedToTell], verdict);
    }

    /// The message was refused for now: nothing more of it is tried in this attempt.
    pub(super) fn defer_rest(&mut self, code: u16, text: &[u8]) {
        self.deferral = Some(kept(code, text));
        self.is_stopped = true;
    }

    fn next_asked(&mut self) -> usize {
        let is_asked = |mark: &Mark| matches!(mark, Mark::Asked | Mark::AskedToTell);
        let asked = self.marks[self.answered..self.tried()].iter().position(is_asked);
        let index = self.answered + asked.expect("no more replies are taken than RCPT commands were written");
        self.answered = index + 1;
        index
    }

    fn settle(&mut self, marks: &[Mark], to: RecipientState) {
        for index in 0..self.tried() {
            if self.waits(index) && marks.contains(&self.marks[index]) {
                self.decide(index, to);
            }
        }
    }

    /// The verdict on the recipient at `index`: its new state, or the fate of the notice.
    fn decide(&mut self, index: usize, verdict: RecipientState) {
        self.marks[index] = Mark::Decided;
        match &mut self.notice {
            Some(fate) => {
                let is_failure = matches!(verdict, RecipientState::Failed { .. });
                *fate = if is_failure { Fate::Refused } else { Fate::Taken };
            }
            None => {
                self.states[index] = verdict;
                self.is_changed = true;
            }
        }
    }

    /// A failure for this reason. A notice's is told to nobody: it is not kept with the message.
    fn failure(&mut self, code: u16, text: &[u8]) -> RecipientState {
        if self.is_notice() {
            self.deferral = Some(kept(code, text));
            return RecipientState::Failed { reply: 0 };
        }
        RecipientState::Failed { reply: self.keep(code, text) }
    }

    /// Keeps a reason of failure; past [`REPLIES_KEPT`] different ones the last one stands for what comes.
    fn keep(&mut self, code: u16, text: &[u8]) -> u8 {
        let is_same = |reply: &KeptReply| reply.code == code && reply.text == text;
        let place = self.replies.iter().position(is_same).unwrap_or_else(|| {
            // A refused push means that all places are taken: the last one is shared.
            let _ = self.replies.push(kept(code, text));
            self.replies.len() - 1
        });
        place as u8
    }
}

/// A reply to be kept; `text` is cut to what is kept of one.
pub(super) fn kept(code: u16, text: &[u8]) -> KeptReply {
    let text = &text[..text.len().min(REPLY_TEXT_OCTETS_MAX)];
    KeptReply { code, text: heapless::Vec::from_slice(text).expect("cut to the room there is") }
}
