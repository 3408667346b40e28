//! What to relay when: fresh messages in the order of their coming, deferred ones when they are due (RFC 5321
//! 4.5.4.1).
//!
//! A message is fresh, deferred, or taken: [`Queue::next`] takes it, and whoever took it says what became of
//! it by [`Queue::defer`], [`Queue::put_back`] or [`Queue::remove`]. Messages put back by a fault of the
//! route come first again; then fresh ones, small before large, but no more than [`SMALLS_BEFORE_LARGE_MAX`]
//! in front of a waiting large one; then deferred ones. At every fourth turn a deferred message that is due
//! comes before all, so that neither a stream of fresh mail nor a heap of deferred mail keeps the other
//! waiting for ever. Messages whose answer told a fault of the route come last of all, but for that turn.
//!
//! A message whose recipients failed takes its turn for the notice of that; `notice.rs` says whom to tell.
//! Recipients of it that wait keep their time, whatever becomes of the notice.
//!
//! Back-off is a function of a message's age on the queue clock; nothing of it is kept, and after a restart
//! everything is due. A fault of the route is no matter of the queue. All memory is taken at start.
mod heap;
mod last_replies;
mod lines;
mod notice;

use heap::Heap;
use last_replies::LastReplies;
use lines::{Line, Lines};
pub use notice::{
    Destination, NOTICES_AN_HOUR_MAX, NOTICES_TO_ONE_AN_HOUR_MAX, Rate as NoticeRate, destination,
};

use crate::config::Retry;
use crate::jitter::Jitter;
use crate::limits::QUEUED_MESSAGES;
use crate::spool::{Facts, KeptReply, MessageIndex};
use crate::time::{Duration, Tick};

/// Octets of mail data up to which a message is small.
pub const SMALL_OCTETS_MAX: u64 = 64 * 1024;
/// Fresh small messages that may pass a waiting large one.
pub const SMALLS_BEFORE_LARGE_MAX: u8 = 8;
/// At every such turn a due deferred message comes first.
const DEFERRED_FIRST_EVERY: u8 = 4;
/// The shortest back-off whatever is configured: keeps a message that is refused at once from spinning.
const BACK_OFF_MIN: Duration = Duration::from_s(1);

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Absent,
    In(Line),
    Deferred,
    Taken,
}

/// How it stands with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not in the queue.
    Absent,
    /// It is tried as soon as the route is there.
    Ready,
    /// It waits until then.
    Deferred(Tick),
    /// It is being tried.
    Taken {
        /// It is to be removed when that is over.
        is_to_be_removed: bool,
    },
}

/// The queue of all messages that wait to be relayed.
#[derive(Debug)]
pub struct Queue {
    lines: Lines,
    heap: Heap,
    /// For each message its [`Place`] and marks; zero: absent.
    notes: Box<[u8]>,
    replies: LastReplies,
    len: usize,
    /// Turns since a deferred message could come first.
    turns: u8,
    /// Smalls that have passed the large one at the head of its line.
    smalls_passed: u8,
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

/// The bits of a note that hold the place.
const PLACE: u8 = 0b0111;
/// The message is large.
const LARGE: u8 = 0b1000;
/// The message was put back and has not been deferred since.
const WAS_PUT_BACK: u8 = 0b1_0000;
/// The notice about the message was tried in vain: the message is tried before that again.
const NOTICE_DEFERRED: u8 = 0b10_0000;
/// The smarthost's answer to the message told a fault of the route: the message may be the reason.
const SUSPECT: u8 = 0b1000_0000;
/// Somebody wants the taken message removed.
const TO_BE_REMOVED: u8 = 0b100_0000;

impl Queue {
    /// An empty queue with room for all messages of the spool.
    pub fn new() -> Self {
        Self {
            lines: Lines::new(),
            heap: Heap::new(),
            notes: vec![0; QUEUED_MESSAGES].into_boxed_slice(),
            replies: LastReplies::new(),
            len: 0,
            turns: 0,
            smalls_passed: 0,
        }
    }

    /// Messages in the queue, taken ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when no message is in the queue.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True when [`Queue::next`] has a message at `now`.
    pub fn is_ready(&self, now: Tick) -> bool {
        self.has_unsuspected(now) || self.lines.first(Line::Behind).is_some() || self.first_due(now).is_some()
    }

    /// True when there is one at `now` that was not put behind others.
    pub fn has_unsuspected(&self, now: Tick) -> bool {
        [Line::Again, Line::Small, Line::Large].iter().any(|line| self.lines.first(*line).is_some())
            || self.first_due(now).is_some_and(|message| !self.is_suspect(message))
    }

    /// When the first of the deferred messages is due; past when it is due already. Fresh messages don't
    /// count.
    pub fn due(&self) -> Option<Tick> {
        self.heap.first().map(|(_, due)| due)
    }

    /// When `message` is due; `None` when it isn't deferred.
    pub fn due_of(&self, message: MessageIndex) -> Option<Tick> {
        self.heap.due(message)
    }

    /// Adds a message that has just become durable, behind all of its size.
    pub fn push(&mut self, message: MessageIndex, facts: &Facts) {
        let line = self.admit(message, facts);
        self.heap.note(message, facts.accepted);
        self.stand(message, line);
    }

    /// Adds a message that was found at start: due at once, the oldest first.
    pub fn push_recovered(&mut self, message: MessageIndex, facts: &Facts) {
        self.admit(message, facts);
        self.wait(message, facts.accepted);
    }

    /// Takes the message that is to be relayed next, if there is one at `now`.
    pub fn next(&mut self, now: Tick) -> Option<MessageIndex> {
        self.turns = (self.turns + 1) % DEFERRED_FIRST_EVERY;
        let due = self.first_due(now);
        let behind = self.lines.first(Line::Behind);
        let deferred_first = if self.turns == 0 { due.or(behind) } else { None };
        let message = deferred_first.or_else(|| self.next_fresh()).or(due).or(behind)?;
        self.take_out(message);
        self.set_place(message, Place::Taken);
        Some(message)
    }

    /// The smarthost said "later", or not everything could be done: the taken `message` waits for as long as
    /// it has been here, within the bounds of `retry`. Returns when it is due.
    pub fn defer(
        &mut self,
        message: MessageIndex,
        accepted: Tick,
        now: Tick,
        retry: &Retry,
        jitter: &mut Jitter,
    ) -> Tick {
        assert_eq!(self.place(message), Place::Taken);
        self.notes[message.0 as usize] &= !WAS_PUT_BACK;
        let due = now + back_off(now.since(accepted), retry, jitter);
        self.wait(message, due);
        due
    }

    /// All recipients of the taken `message` are settled, and some have failed: it comes again at once, for
    /// its notice.
    pub fn push_notice(&mut self, message: MessageIndex) {
        assert_eq!(self.place(message), Place::Taken);
        self.notes[message.0 as usize] &= !(NOTICE_DEFERRED | WAS_PUT_BACK | SUSPECT);
        self.stand(message, Line::Small);
    }

    /// The same for a message that stands in the queue and was given up without a try.
    pub fn wait_for_notice(&mut self, message: MessageIndex) {
        self.take_out(message);
        self.set_place(message, Place::Taken);
        self.push_notice(message);
    }

    /// Recipients of the taken `message` have failed, and others wait as with [`Queue::defer`]: it comes
    /// again at once, for its notice, and they wait until the tick returned.
    pub fn defer_behind_notice(
        &mut self,
        message: MessageIndex,
        accepted: Tick,
        now: Tick,
        retry: &Retry,
        jitter: &mut Jitter,
    ) -> Tick {
        let due = now + back_off(now.since(accepted), retry, jitter);
        self.heap.note(message, due);
        self.push_notice(message);
        due
    }

    /// The notice about the taken `message` is done with: it waits for the time of its recipients, which is
    /// returned.
    pub fn resume(&mut self, message: MessageIndex) -> Tick {
        assert_eq!(self.place(message), Place::Taken);
        self.notes[message.0 as usize] &= !WAS_PUT_BACK;
        let due = self.heap.noted(message);
        self.wait(message, due);
        due
    }

    /// The smarthost said "later" to the notice about the taken `message`. Returns when it is due.
    pub fn defer_notice(
        &mut self,
        message: MessageIndex,
        accepted: Tick,
        now: Tick,
        retry: &Retry,
        jitter: &mut Jitter,
    ) -> Tick {
        self.notes[message.0 as usize] |= NOTICE_DEFERRED;
        self.defer(message, accepted, now, retry, jitter)
    }

    /// A fault of the route met the notice about the taken `message`, which comes first again as with
    /// [`Queue::put_back`]. The notice may itself be what the route doesn't bear: with recipients that wait
    /// it comes behind them, when it is their time.
    pub fn put_back_notice(&mut self, message: MessageIndex, has_waiting: bool) {
        self.notes[message.0 as usize] |= NOTICE_DEFERRED;
        if has_waiting {
            self.resume(message);
        } else {
            self.put_back(message);
        }
    }

    /// True when the notice about `message` was tried in vain since the message itself was tried.
    pub fn was_notice_deferred(&self, message: MessageIndex) -> bool {
        self.notes[message.0 as usize] & NOTICE_DEFERRED != 0
    }

    /// A fault of the route: the taken `message` was not tried and comes first again. When that happens to it
    /// twice, others come first, in case that it is the message that breaks the route.
    pub fn put_back(&mut self, message: MessageIndex) {
        assert_eq!(self.place(message), Place::Taken);
        let note = &mut self.notes[message.0 as usize];
        let was_put_back = *note & WAS_PUT_BACK != 0;
        *note ^= WAS_PUT_BACK;
        let is_suspect = *note & SUSPECT != 0;
        let line = match (is_suspect, was_put_back) {
            (true, _) => Line::Behind,
            (false, true) => self.line_of(message),
            (false, false) => Line::Again,
        };
        self.stand(message, line);
    }

    /// The answer to the taken `message`, or to the notice about it, told a fault of the route. It waits
    /// behind the others, so that another message probes the route.
    pub fn put_behind(&mut self, message: MessageIndex, is_notice: bool) {
        assert_eq!(self.place(message), Place::Taken);
        let note = &mut self.notes[message.0 as usize];
        *note = *note & !WAS_PUT_BACK | SUSPECT | if is_notice { NOTICE_DEFERRED } else { 0 };
        self.stand(message, Line::Behind);
    }

    /// The same of the notice about it. With recipients that wait it comes when it is their time: standing
    /// behind the others they would be tried before.
    pub fn put_notice_behind(&mut self, message: MessageIndex, has_waiting: bool) {
        if has_waiting {
            self.put_back_notice(message, true);
        } else {
            self.put_behind(message, true);
        }
    }

    /// True when `message` was put behind others because of what it was answered.
    pub fn is_suspect(&self, message: MessageIndex) -> bool {
        self.notes[message.0 as usize] & SUSPECT != 0
    }

    /// The message is relayed, failed, set aside or removed: it leaves the queue, wherever it is.
    pub fn remove(&mut self, message: MessageIndex) {
        self.take_out(message);
        self.replies.forget(message);
        self.notes[message.0 as usize] = 0;
        self.len -= 1;
    }

    /// The smarthost said why `message` has to wait; kept as long as there is room.
    pub fn keep_reply(&mut self, message: MessageIndex, reply: &KeptReply) {
        self.replies.keep(message, reply);
    }

    /// What the smarthost said last to `message`, if that is still known.
    pub fn last_reply(&self, message: MessageIndex) -> Option<&KeptReply> {
        self.replies.of(message)
    }

    /// How it stands with `message`.
    pub fn standing(&self, message: MessageIndex) -> Standing {
        match self.place(message) {
            Place::Absent => Standing::Absent,
            Place::In(_) => Standing::Ready,
            Place::Deferred => Standing::Deferred(self.heap.due(message).expect("it stands in the heap")),
            Place::Taken => {
                Standing::Taken { is_to_be_removed: self.notes[message.0 as usize] & TO_BE_REMOVED != 0 }
            }
        }
    }

    /// Makes `message` due at `now`, if it is deferred or will be behind its notice: somebody asked for it.
    pub fn retry(&mut self, message: MessageIndex, now: Tick) {
        if self.place(message) == Place::Deferred {
            self.heap.make_due(message, now);
        } else {
            self.heap.note(message, self.heap.noted(message).min(now));
        }
    }

    /// The taken `message` is to be removed when the attempt is over, if anything is left of it then.
    pub fn remove_later(&mut self, message: MessageIndex) {
        assert_eq!(self.place(message), Place::Taken);
        self.notes[message.0 as usize] |= TO_BE_REMOVED;
    }

    /// True when `message` is back from an attempt and is to be removed.
    pub fn is_to_be_removed(&self, message: MessageIndex) -> bool {
        let note = self.notes[message.0 as usize];
        note & TO_BE_REMOVED != 0 && self.place(message) != Place::Taken
    }

    /// Makes all deferred messages due at `now`: somebody asked for it, or the network came up.
    pub fn retry_all(&mut self, now: Tick) {
        self.heap.all_due(now);
    }

    fn admit(&mut self, message: MessageIndex, facts: &Facts) -> Line {
        assert_eq!(self.place(message), Place::Absent, "the message is in the queue already");
        self.len += 1;
        if facts.octets > SMALL_OCTETS_MAX {
            self.notes[message.0 as usize] = LARGE;
        }
        self.line_of(message)
    }

    fn first_due(&self, now: Tick) -> Option<MessageIndex> {
        self.heap.first().filter(|(_, due)| *due <= now).map(|(message, _)| message)
    }

    fn next_fresh(&mut self) -> Option<MessageIndex> {
        if let Some(again) = self.lines.first(Line::Again) {
            return Some(again);
        }
        match (self.lines.first(Line::Small), self.lines.first(Line::Large)) {
            (Some(small), Some(_)) if self.smalls_passed < SMALLS_BEFORE_LARGE_MAX => {
                self.smalls_passed += 1;
                Some(small)
            }
            (small, None) => small,
            (_, large) => {
                self.smalls_passed = 0;
                large
            }
        }
    }

    fn stand(&mut self, message: MessageIndex, line: Line) {
        self.lines.append(line, message);
        self.set_place(message, Place::In(line));
    }

    fn wait(&mut self, message: MessageIndex, due: Tick) {
        self.heap.note(message, due);
        self.heap.insert(message);
        self.set_place(message, Place::Deferred);
    }

    fn take_out(&mut self, message: MessageIndex) {
        match self.place(message) {
            Place::Absent => unreachable!("the message is not in the queue"),
            Place::In(line) => self.lines.remove(line, message),
            Place::Deferred => self.heap.remove(message),
            Place::Taken => {}
        }
    }

    fn line_of(&self, message: MessageIndex) -> Line {
        if self.notes[message.0 as usize] & LARGE == 0 { Line::Small } else { Line::Large }
    }

    fn place(&self, message: MessageIndex) -> Place {
        match self.notes[message.0 as usize] & PLACE {
            0 => Place::Absent,
            1 => Place::In(Line::Small),
            2 => Place::In(Line::Large),
            3 => Place::In(Line::Again),
            4 => Place::Deferred,
            5 => Place::Taken,
            6 => Place::In(Line::Behind),
            other => unreachable!("no place is written as {other}"),
        }
    }

    fn set_place(&mut self, message: MessageIndex, place: Place) {
        let bits = match place {
            Place::Absent => 0,
            Place::In(Line::Small) => 1,
            Place::In(Line::Large) => 2,
            Place::In(Line::Again) => 3,
            Place::Deferred => 4,
            Place::Taken => 5,
            Place::In(Line::Behind) => 6,
        };
        let note = &mut self.notes[message.0 as usize];
        *note = *note & !PLACE | bits;
    }
}

/// How long a message of this `age` waits before the next try: as long as it has waited, so that the waits
/// double, within the bounds of `retry`; then up to a quarter shorter or longer.
pub fn back_off(age: Duration, retry: &Retry, jitter: &mut Jitter) -> Duration {
    let wait = age.min(retry.longest).max(retry.first);
    Duration(jitter.spread(wait.0)).max(BACK_OFF_MIN)
}

/// True when a message accepted at `accepted` is to be given up at `now` after a try: after `give_up` when
/// the route works, so that it is the message that fails; after `hold` over a dead one (RFC 5321 4.5.4.1).
pub fn is_expired(accepted: Tick, now: Tick, over_working_route: bool, retry: &Retry) -> bool {
    now.since(accepted) >= if over_working_route { retry.give_up.min(retry.hold) } else { retry.hold }
}

/// True when a notice about such a message is given up after a try: it has as long again as the message had.
pub fn is_notice_expired(accepted: Tick, now: Tick, over_working_route: bool, retry: &Retry) -> bool {
    let half = Duration(now.since(accepted).0 / 2);
    is_expired(accepted, accepted + half, over_working_route, retry)
}
