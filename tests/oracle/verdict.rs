//! What the oracle demands of a store that has just started.
use std::cell::RefCell;
use std::collections::HashMap;

use postern::spool::{BLOCK_OCTETS, MessageIndex, RecipientState, Recovery};

use super::message::{Found, Shape, envelope, identify};
use super::{DELIVERED, FAILED, Mishap, NOTICED, Op, Stage, Verdict, WAITING, World, replies_of};

/// Blocks of the spool that the cost of a message is measured in.
const MEASURE_BLOCKS: u32 = 64;

thread_local! {
    static COSTS: RefCell<HashMap<Shape, u64>> = RefCell::default();
    static EMPTY_ROOMS: RefCell<HashMap<u32, u64>> = RefCell::default();
}

impl World {
    /// Judges what a start has found, and takes it as the truth from then on.
    pub(super) fn judge(&mut self, recovery: &Recovery) -> Verdict {
        if recovery.set_aside > self.aside {
            return Err(format!("ASIDE: {recovery:?}"));
        }
        if recovery.interrupted > 0 && !self.in_flight {
            return Err(format!("ASIDE: nothing was in flight, yet {recovery:?}"));
        }
        for known in &mut self.known {
            known.index = None;
            known.is_owed = false;
        }
        let found: Vec<MessageIndex> = self.store.messages().collect();
        if found.len() != recovery.messages as usize {
            return Err(format!("MIXED: {} messages, yet {recovery:?}", found.len()));
        }
        for index in found {
            self.judge_message(index)?;
        }
        for (number, known) in self.known.iter_mut().enumerate() {
            if known.index.is_none() {
                let may_be_gone = known.history[known.durable..].iter().any(|states| is_done(states));
                if known.stage == Stage::Accepted && !may_be_gone {
                    return Err(format!("LOSS: m{number} was accepted, {:?}", known.history));
                }
                known.stage = Stage::Gone;
                known.history.truncate(1);
                (known.written, known.durable) = (0, 0);
            }
        }
        self.in_flight = false;
        self.check_room()
    }

    /// Judges what a start has found on a disk that was damaged: each live message must be as it was.
    /// Gives the accepted ones that are not there although somebody waits.
    pub(super) fn judge_damaged(&mut self) -> Result<Vec<u32>, String> {
        for known in &mut self.known {
            known.index = None;
            known.is_owed = false;
        }
        let found: Vec<MessageIndex> = self.store.messages().collect();
        for index in found {
            self.judge_message(index)?;
        }
        let is_missing = |known: &super::Known| {
            known.stage == Stage::Accepted
                && known.index.is_none()
                && !known.history[known.durable..].iter().any(|states| is_done(states))
        };
        let numbers = 0..self.known.len() as u32;
        Ok(numbers.filter(|number| is_missing(&self.known[*number as usize])).collect())
    }

    /// Reads all live messages: each is what it was, or the store says itself that it is damaged. Gives
    /// how many are.
    pub(crate) fn read_all(&mut self) -> Result<usize, String> {
        let mut damaged = 0;
        for number in self.live() {
            let index = self.known[number].index.expect("a live message has one");
            match identify(&mut self.store, index) {
                Found::Whole(found, shape)
                    if found as usize == number && shape == self.known[number].shape => {}
                Found::Whole(found, shape) => return Err(format!("MIXED: m{number} is m{found}, {shape:?}")),
                Found::Mixed(what) => return Err(format!("MIXED: {what}")),
                Found::Damaged => damaged += 1,
            }
        }
        Ok(damaged)
    }

    fn judge_message(&mut self, index: MessageIndex) -> Verdict {
        let (number, shape) = match identify(&mut self.store, index) {
            Found::Whole(number, shape) => (number, shape),
            Found::Damaged => return Err("MIXED: a live message can't be read".into()),
            Found::Mixed(what) => return Err(format!("MIXED: {what}")),
        };
        let facts = self.store.facts(index);
        let Some(known) = self.known.get_mut(number as usize) else {
            return Err(format!("MIXED: m{number} was never begun"));
        };
        if known.index.is_some() {
            return Err(format!("REVIVED: m{number} is there twice"));
        }
        match known.stage {
            Stage::Ended | Stage::Accepted | Stage::Refused { is_final: false } => {}
            Stage::Refused { is_final: true } => return Err(format!("DELIV451: m{number}")),
            Stage::Draft | Stage::Discarded => return Err(format!("DRAFT: m{number}, {:?}", known.stage)),
            Stage::Gone => return Err(format!("REVIVED: m{number} was gone")),
        }
        let mut states = vec![RecipientState::Waiting; usize::from(shape.recipients)];
        self.store.states(index, &mut states).map_err(|_| format!("MIXED: states of m{number}"))?;
        let states: Vec<u8> = states.iter().map(state_octet).collect();
        let waiting = states.iter().filter(|state| **state == WAITING).count();
        let is_as_written = facts.octets == shape.octets as u64
            && facts.recipients == shape.recipients
            && usize::from(facts.waiting) == waiting
            && usize::from(facts.owed) == states.iter().filter(|state| **state == FAILED).count()
            && facts.accepted.0 == known.accepted_ms
            && shape == known.shape;
        if !is_as_written {
            return Err(format!("MIXED: m{number}: {facts:?}, {states:?}, {known:?}"));
        }
        if self.store.tick(self.now) < facts.accepted {
            return Err(format!("MIXED: the queue clock stands before m{number} was accepted"));
        }
        if !known.history[known.durable..].contains(&states) {
            return Err(format!("REVIVED: m{number} says {states:?}, {known:?}"));
        }
        if states.contains(&FAILED) {
            let replies = self.store.replies(index).map_err(|_| format!("MIXED: replies of m{number}"))?;
            if *replies != *replies_of(number, &states) {
                return Err(format!("MIXED: m{number} keeps {replies:?}"));
            }
        }
        if known.id.is_some_and(|id| id != facts.id) {
            return Err(format!("ID: m{number} was {:?} and is {}", known.id, facts.id));
        }
        if self.ids.insert(facts.id, number).is_some_and(|other| other != number) {
            return Err(format!("ID: m{number} has an id that was used before"));
        }
        known.id = Some(facts.id);
        known.index = Some(index);
        known.stage = Stage::Accepted;
        known.history = vec![states];
        (known.written, known.durable) = (0, 0);
        Ok(())
    }

    /// Octets of the largest message that would be taken now.
    pub(crate) fn room(&mut self) -> u64 {
        let blocks = u64::from(self.store.blocks());
        let (mut fits, mut too_large) = (0, blocks * BLOCK_OCTETS as u64);
        while too_large - fits > 1 {
            let octets = fits + (too_large - fits) / 2;
            match self.store.begin(&envelope(0), Some(octets)) {
                Ok(draft) => {
                    self.store.discard(draft);
                    fits = octets;
                }
                Err(_) => too_large = octets,
            }
        }
        fits
    }

    /// Each block is free or belongs to a live message; only for a store at rest, without drafts.
    pub(crate) fn check_room(&mut self) -> Verdict {
        if self.aside > 0 {
            return Ok(());
        }
        let blocks = self.store.blocks();
        let empty = EMPTY_ROOMS.with_borrow(|rooms| rooms.get(&blocks).copied());
        let empty = empty.unwrap_or_else(|| {
            let room = Self::new(blocks).room();
            EMPTY_ROOMS.with_borrow_mut(|rooms| rooms.insert(blocks, room));
            room
        });
        let live = self.live();
        let used: u64 = live.iter().map(|number| cost(self.known[*number].shape)).sum();
        let room = self.room();
        let expected = empty.saturating_sub(used);
        if room != expected {
            return Err(format!("LEAK: room for {room} octets, not {expected}; {} messages", live.len()));
        }
        Ok(())
    }
}

/// By how much a message lessens the room.
fn cost(shape: Shape) -> u64 {
    if let Some(cost) = COSTS.with_borrow(|costs| costs.get(&shape).copied()) {
        return cost;
    }
    let mut world = World::new(MEASURE_BLOCKS);
    let before = world.room();
    for op in [Op::Begin(shape), Op::End, Op::Commit] {
        assert!(world.apply(op, Mishap::None).expect("a new spool takes it"), "{op:?}");
    }
    let cost = before - world.room();
    COSTS.with_borrow_mut(|costs| costs.insert(shape, cost));
    cost
}

fn is_done(states: &[u8]) -> bool {
    states.iter().all(|state| matches!(*state, DELIVERED | NOTICED))
}

pub(super) fn state_octet(state: &RecipientState) -> u8 {
    match state {
        RecipientState::Waiting => WAITING,
        RecipientState::Delivered => DELIVERED,
        RecipientState::Failed { .. } | RecipientState::Relayed => FAILED,
        RecipientState::Noticed => NOTICED,
    }
}
