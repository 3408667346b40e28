//! The oracle: it drives a store as a relay would, knows what was answered and settled, and judges what a
//! crash left.
//!
//! Its verdicts, each with the word that a failure prints first:
//! - LOSS: a message that was answered 250 is gone although a recipient was never settled.
//! - REVIVED: a recipient waits again although its settling was durable, or a message that was gone is back.
//! - MIXED: octets, recipients, facts, states or replies that were never written so.
//! - DELIV451: a message that was answered with an error is live after the disk had come back.
//! - DRAFT: a message that never ended is live.
//! - ASIDE: something was set aside although nothing had rotted.
//! - LEAK: blocks are neither free nor in a live message.
//! - ID: an id was used twice, or a message changed its own.
//! - SPACE: a declared message met a full disk.
//! - STUCK: a healthy disk, and the store does not come to rest.
pub(crate) mod message;
mod remains;
mod rules;
mod verdict;

use std::collections::BTreeMap;
use std::hash::Hash;

use postern::spool::{
    DeviceError, Draft, Ended, KeptReply, MessageId, MessageIndex, RecipientState, Refusal, Settled, Start,
    Store,
};
use postern::time::{Duration, Instant};

use crate::disk::{Call, Choice, Disk, Effect, Fault};
use message::{Shape, envelope, mail_data, recipient};

/// What has become of one recipient, as small as it can be.
const WAITING: u8 = 0;
const DELIVERED: u8 = 1;
const FAILED: u8 = 2;
const NOTICED: u8 = 3;

/// Where a message stands, as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// Recipients and mail data come still.
    Draft,
    /// Written whole; nobody has read a verdict.
    Ended,
    /// Its receipt was given.
    Accepted,
    /// Answered with an error; `is_final` once the store was at rest after it.
    Refused { is_final: bool },
    /// Given up before its end.
    Discarded,
    /// Not there after a start: it must never be again.
    Gone,
}

/// All that is known of one message.
#[derive(Clone, Debug, Hash)]
struct Known {
    shape: Shape,
    stage: Stage,
    id: Option<MessageId>,
    index: Option<MessageIndex>,
    accepted_ms: u64,
    /// The states of its recipients, each set that was ever to be written down, in order.
    history: Vec<Vec<u8>>,
    /// The place in `history` of what was last written without an error.
    written: usize,
    /// The place that no crash goes behind.
    durable: usize,
    /// The last set could not be written yet.
    is_owed: bool,
    /// The disk failed while it was a draft: blocks of it may be lost.
    is_poisoned: bool,
}

/// One thing that a relay does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// A draft with all its recipients and mail data.
    Begin(Shape),
    /// The oldest draft ends.
    End,
    /// The newest draft is given up.
    Discard,
    /// A turn of the loop ends.
    Commit,
    /// Six seconds pass and a turn ends: frees become durable.
    Rest,
    /// The first waiting recipient of the live message at this place has it, or failed; where some failed
    /// before, their notice has gone out instead of the success.
    SettleOne { place: usize, is_failure: bool },
    /// So do all that wait; where none waits and some failed, the notice has gone out.
    SettleAll { place: usize, is_failure: bool },
}

/// What goes wrong during one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// Nothing.
    None,
    /// The next sync fails.
    Sync,
    /// The next sync fails, and then the cache forgets what it calls clean: reading shows what the medium
    /// has.
    SyncAndEviction,
    /// The write behind so many good ones fails, and leaves so much.
    Write(u64, Effect),
    /// Whichever call comes behind so many good ones.
    Call(u64, Effect),
}

/// What survives a crash: the disk, and what the oracle knows.
#[derive(Clone)]
pub(crate) struct Remains {
    disk: Disk,
    known: Vec<Known>,
    ids: BTreeMap<MessageId, u32>,
    now: Instant,
    in_flight: bool,
    /// The size wanted, in blocks.
    blocks: u32,
    /// A start could not read all: what it did not see may be called damage by the next.
    may_be_aside: bool,
}

/// A running store with its oracle.
pub(crate) struct World {
    /// The disk under the store.
    pub(crate) disk: Disk,
    store: Store<Disk>,
    known: Vec<Known>,
    ids: BTreeMap<MessageId, u32>,
    drafts: Vec<(u32, Draft)>,
    ended: Vec<(u32, Ended)>,
    now: Instant,
    /// Failed calls up to the last time that the store was at rest.
    failed_calls: u64,
    /// Something may be half on the disk that nobody was told of: a draft, a refused message, a result.
    in_flight: bool,
    blocks: u32,
    /// Messages of this run that could not be read, or blocks of which that may be so.
    aside: u32,
    /// Results that were written before a failed sync may be lost with the cache.
    was_evicted: bool,
}

/// A verdict in words; the first one is the kind.
pub(crate) type Verdict = Result<(), String>;

impl World {
    /// A new spool of so many blocks.
    pub(crate) fn new(blocks: u32) -> Self {
        let (disk, now) = (Disk::new(0), Instant(1000));
        let start = Start { blocks, seed: 7, now };
        let (store, recovery) = Store::start(disk.clone(), start).expect("an empty device becomes a spool");
        assert!(recovery.is_new && recovery.messages == 0, "{recovery:?}");
        let remains = Remains {
            disk: disk.clone(),
            known: Vec::new(),
            ids: BTreeMap::new(),
            now,
            in_flight: false,
            blocks,
            may_be_aside: false,
        };
        remains.world(disk, store)
    }

    /// What is left when the process dies now; `is_power_cut` starts the boot clock anew.
    pub(crate) fn remains(&self, disk: Disk, is_power_cut: bool) -> Remains {
        let now = if is_power_cut { Instant(1000) } else { self.now + Duration(10) };
        let Self { known, ids, in_flight, blocks, .. } = self;
        Remains {
            disk,
            known: known.clone(),
            ids: ids.clone(),
            now,
            in_flight: *in_flight,
            blocks: *blocks,
            may_be_aside: false,
        }
    }

    /// All that a crash now may leave: each power cut, at most `most` of them, and SIGKILL.
    pub(crate) fn crashes(&self, most: usize, seed: u64) -> Vec<Remains> {
        let cuts = self.disk.power_cuts(most, seed).into_iter().map(|disk| self.remains(disk, true));
        let killed = self.disk.fork();
        killed.kill();
        killed.seed(seed);
        cuts.chain([self.remains(killed, false)]).collect()
    }

    /// One of the things that a crash now may leave.
    pub(crate) fn crash_one(&self, seed: u64) -> Remains {
        let disk = self.disk.fork();
        disk.seed(seed);
        let is_power_cut = !seed.is_multiple_of(3);
        if is_power_cut {
            disk.power_cut(Choice::Seeded(seed));
        } else {
            disk.kill();
        }
        self.remains(disk, is_power_cut)
    }

    /// Does `op`; false when there is nothing that it applies to.
    pub(crate) fn apply(&mut self, op: Op, mishap: Mishap) -> Result<bool, String> {
        let (call, skip, effect) = match mishap {
            Mishap::None => (None, 0, Effect::Nothing),
            Mishap::Sync | Mishap::SyncAndEviction => (Some(Call::Sync), 0, Effect::Nothing),
            Mishap::Write(skip, effect) => (Some(Call::Write), skip, effect),
            Mishap::Call(skip, effect) => (Some(Call::Any), skip, effect),
        };
        if let Some(call) = call {
            self.disk.fail(Fault { call, skip, times: 1, error: DeviceError::Io, effect });
        }
        let failed = self.disk.calls().failed;
        let applied = match op {
            Op::Begin(shape) => self.begin(shape),
            Op::End => self.end(),
            Op::Discard => Ok(self.discard()),
            Op::Commit => self.commit(),
            Op::Rest => {
                self.now = self.now + Duration::from_s(6);
                self.commit()
            }
            Op::SettleOne { place, is_failure } => self.settle(place, is_failure, false),
            Op::SettleAll { place, is_failure } => self.settle(place, is_failure, true),
        };
        if self.disk.calls().failed > failed {
            self.drafts.iter().for_each(|(number, _)| self.known[*number as usize].is_poisoned = true);
        }
        if mishap != Mishap::None && !self.disk.is_frozen() {
            self.disk.heal();
        }
        if mishap == Mishap::SyncAndEviction && self.disk.calls().failed > failed {
            self.disk.evict(Choice::Seeded(self.disk.calls().all()));
            self.was_evicted = true;
        }
        applied
    }

    /// Blocks of the spool, as the store says.
    pub(crate) fn blocks(&self) -> u32 {
        self.store.blocks()
    }

    fn has_failed_call(&self) -> bool {
        self.disk.calls().failed != self.failed_calls || self.disk.is_frozen()
    }

    fn begin(&mut self, shape: Shape) -> Result<bool, String> {
        let number = self.known.len() as u32;
        let declared = number.is_multiple_of(2).then_some(shape.octets as u64);
        let mut draft = match self.store.begin(&envelope(number), declared) {
            Ok(draft) => draft,
            Err(Refusal::Failing) if self.has_failed_call() => return Ok(false),
            Err(Refusal::Full | Refusal::NeverFits) => return Ok(false),
            Err(refusal) => return Err(format!("STUCK: begin of m{number}: {refusal:?}")),
        };
        if self.store.is_failing() {
            return Err(format!("DELIV451: m{number} begins while the disk has failed"));
        }
        let waiting = vec![WAITING; usize::from(shape.recipients)];
        self.known.push(Known {
            shape,
            stage: Stage::Draft,
            id: None,
            index: None,
            accepted_ms: 0,
            history: vec![waiting],
            written: 0,
            durable: 0,
            is_owed: false,
            is_poisoned: false,
        });
        self.in_flight = true;
        let mut filled = Ok(());
        for place in 0..shape.recipients {
            filled = filled.and_then(|()| self.store.add_recipient(&mut draft, &recipient(number, place)));
        }
        for part in mail_data(number, shape.octets).chunks(1500) {
            filled = filled.and_then(|()| self.store.append(&mut draft, part));
        }
        match filled {
            Ok(()) => self.drafts.push((number, draft)),
            Err(refusal) => {
                self.store.discard(draft);
                self.known[number as usize].stage = Stage::Discarded;
                // What recipients beyond the first need, nobody promised.
                if declared.is_some() && !self.has_failed_call() && shape.recipients == 1 {
                    return Err(format!("SPACE: declared m{number}: {refusal:?}"));
                }
            }
        }
        Ok(true)
    }

    fn end(&mut self) -> Result<bool, String> {
        if self.drafts.is_empty() {
            return Ok(false);
        }
        let (number, draft) = self.drafts.remove(0);
        let tick = self.store.tick(self.now);
        let end = self.store.end(draft, tick);
        let is_healthy = !self.has_failed_call() && !self.known[number as usize].is_poisoned;
        let is_frozen = self.disk.is_frozen();
        let known = &mut self.known[number as usize];
        known.accepted_ms = tick.0;
        known.stage = Stage::Ended;
        match end {
            Ok(ended) => self.ended.push((number, ended)),
            Err(refusal) if is_healthy => {
                let is_promised = number.is_multiple_of(2) && known.shape.recipients == 1;
                if is_promised || refusal != Refusal::Full {
                    return Err(format!("SPACE: end of m{number}: {refusal:?}"));
                }
                known.stage = Stage::Refused { is_final: false };
            }
            Err(_) if is_frozen => {}
            Err(_) => known.stage = Stage::Refused { is_final: false },
        }
        Ok(true)
    }

    fn discard(&mut self) -> bool {
        let Some((number, draft)) = self.drafts.pop() else { return false };
        self.store.discard(draft);
        self.known[number as usize].stage = Stage::Discarded;
        true
    }

    /// One turn's commit, then the verdicts and what goes to the queue.
    fn commit(&mut self) -> Result<bool, String> {
        let syncs = self.disk.calls().good_syncs;
        self.store.commit(self.now);
        if self.disk.is_frozen() {
            // The process is dead: nobody reads a verdict any more.
            self.ended.clear();
            return Ok(true);
        }
        if self.store.deadline().is_some_and(|deadline| deadline <= self.now) {
            return Err("STUCK: after a commit the deadline is still in the past".into());
        }
        let mut accepted = Vec::new();
        for (number, ended) in std::mem::take(&mut self.ended) {
            let known = &mut self.known[number as usize];
            match self.store.receipt(ended) {
                Ok(receipt) => {
                    known.stage = Stage::Accepted;
                    known.id = Some(receipt.id());
                    if self.ids.insert(receipt.id(), number).is_some() {
                        return Err(format!("ID: {} was used before", receipt.id()));
                    }
                    accepted.push(number);
                }
                Err(refusal) => {
                    known.stage = Stage::Refused { is_final: false };
                    if self.disk.calls().failed == self.failed_calls {
                        return Err(format!("STUCK: m{number} on a healthy disk: {refusal:?}"));
                    }
                }
            }
        }
        while let Some(index) = self.store.next_committed() {
            let number = self.ids.get(&self.store.facts(index).id).copied();
            let place = number.and_then(|number| accepted.iter().position(|known| *known == number));
            let Some(place) = place else { return Err("MIXED: committed without a receipt".into()) };
            self.known[accepted.swap_remove(place) as usize].index = Some(index);
        }
        if !accepted.is_empty() {
            return Err(format!("LOSS: m{} has a receipt and never goes to the queue", accepted[0]));
        }
        let is_good = self.disk.calls().good_syncs > syncs;
        let is_mended = self.disk.calls().failed == self.failed_calls && !self.store.is_failing();
        if is_good && is_mended && !self.was_evicted {
            self.everything_is_durable();
        }
        Ok(true)
    }

    fn everything_is_durable(&mut self) {
        for known in &mut self.known {
            known.durable = known.written;
            if known.stage == (Stage::Refused { is_final: false }) {
                known.stage = Stage::Refused { is_final: true };
            }
        }
    }

    /// The numbers of the messages that the queue has.
    fn live(&self) -> Vec<usize> {
        (0..self.known.len()).filter(|number| self.known[*number].index.is_some()).collect()
    }

    fn settle(&mut self, place: usize, is_failure: bool, is_all: bool) -> Result<bool, String> {
        let Some(number) = self.live().get(place).copied() else { return Ok(false) };
        let known = &mut self.known[number];
        if !known.is_owed {
            let mut states = known.history[known.history.len() - 1].clone();
            let waiting = states.iter().filter(|state| **state == WAITING).count();
            match (waiting, is_all) {
                (0, true) if !is_failure => notice(&mut states),
                (0, _) => return Ok(false),
                (_, false) if !is_failure && states.contains(&FAILED) => notice(&mut states),
                (1, false) => return Ok(false),
                _ => {
                    let state = if is_failure { FAILED } else { DELIVERED };
                    let count = if is_all { waiting } else { 1 };
                    states
                        .iter_mut()
                        .filter(|known| **known == WAITING)
                        .take(count)
                        .for_each(|known| *known = state);
                }
            }
            known.history.push(states);
            known.is_owed = true;
            self.in_flight = true;
        }
        self.settle_owed(number)?;
        Ok(true)
    }

    fn settle_owed(&mut self, number: usize) -> Verdict {
        let known = &mut self.known[number];
        let states = known.history[known.history.len() - 1].clone();
        let replies = replies_of(number as u32, &states);
        let index = known.index.expect("only live messages are settled");
        let settled = self.store.settle(index, &states_of(&states), &replies);
        let expected = if states.contains(&WAITING) {
            Settled::Waiting
        } else if states.contains(&FAILED) {
            Settled::Failed
        } else {
            Settled::Removed
        };
        match settled {
            Err(_) if self.has_failed_call() || self.store.is_failing() => return Ok(()),
            Err(Refusal::Full) => return Ok(()),
            Err(refusal) => return Err(format!("STUCK: settling m{number}: {refusal:?}")),
            Ok(Settled::SetAside) if self.has_failed_call() => {
                self.aside += 1;
                self.known[number].index = None;
                self.known[number].is_owed = false;
                return Ok(());
            }
            Ok(settled) if settled != expected => {
                return Err(format!("MIXED: settling m{number} gives {settled:?}, not {expected:?}"));
            }
            Ok(_) => {}
        }
        let known = &mut self.known[number];
        known.is_owed = false;
        known.written = known.history.len() - 1;
        if settled == Ok(Settled::Removed) {
            known.index = None;
        }
        Ok(())
    }

    /// The disk is healthy again and time passes: everything that is owed must come to rest.
    pub(crate) fn rest(&mut self) -> Verdict {
        self.disk.heal();
        for _ in 0..6 {
            for number in self.live() {
                if self.known[number].is_owed {
                    self.settle_owed(number)?;
                }
            }
            self.now = self.now + Duration::from_s(6);
            self.commit()?;
            self.failed_calls = self.disk.calls().failed;
        }
        let is_owed = self.known.iter().any(|known| known.is_owed);
        let is_busy =
            self.store.deadline().is_some_and(|deadline| deadline < self.now + Duration::from_min(1));
        if self.store.is_failing() || is_owed || is_busy {
            let (failing, deadline) = (self.store.is_failing(), self.store.deadline());
            return Err(format!("STUCK: failing {failing}, settling owed {is_owed}, deadline {deadline:?}"));
        }
        if std::mem::take(&mut self.was_evicted) {
            self.read_states_again();
        }
        self.everything_is_durable();
        Ok(())
    }

    /// Results that were written but never durable may be lost with the cache: what the store says now is
    /// true.
    fn read_states_again(&mut self) {
        for number in self.live() {
            let index = self.known[number].index.expect("a live message has one");
            let known = &mut self.known[number];
            let mut states = states_of(&known.history[0]);
            if self.store.states(index, &mut states).is_err() {
                known.index = None;
                self.aside += 1;
                continue;
            }
            let states: Vec<u8> = states.iter().map(verdict::state_octet).collect();
            if states != known.history[known.written] && known.history[known.durable..].contains(&states) {
                known.history.push(states);
                known.written = known.history.len() - 1;
            }
        }
    }

    /// Ends all: every message is delivered and every notice sent, and the spool is as empty as a new one.
    pub(crate) fn drain(&mut self) -> Verdict {
        while !self.drafts.is_empty() {
            self.discard();
        }
        self.rest()?;
        while !self.live().is_empty() {
            self.settle(0, false, true)?;
            self.rest()?;
        }
        self.check_room()
    }
}

/// The notice about those who failed has gone out.
fn notice(states: &mut [u8]) {
    states.iter_mut().filter(|state| **state == FAILED).for_each(|state| *state = NOTICED);
}

fn states_of(states: &[u8]) -> Vec<RecipientState> {
    let state = |state: &u8| match *state {
        WAITING => RecipientState::Waiting,
        DELIVERED => RecipientState::Delivered,
        NOTICED => RecipientState::Noticed,
        _ => RecipientState::Failed { reply: 0 },
    };
    states.iter().map(state).collect()
}

/// The replies that go with these states: one, if any recipient failed.
fn replies_of(number: u32, states: &[u8]) -> Vec<KeptReply> {
    let text = format!("5.1.1 no such user for m{number}");
    let text = heapless::Vec::from_slice(text.as_bytes()).expect("shorter than a kept reply");
    states.contains(&FAILED).then_some(KeptReply { code: 550, text }).into_iter().collect()
}
