//! The deferred messages by the tick when each is due: a binary heap that knows where in it each message
//! stands, so that any message can be taken out.
//!
//! All zero bits is the empty heap: entries that were never used cost no memory.
use crate::limits::QUEUED_MESSAGES;
use crate::spool::MessageIndex;
use crate::time::Tick;

/// An index-heap over all messages there can be; the least due tick on top.
#[derive(Debug)]
pub(super) struct Heap {
    len: usize,
    /// Messages; no entry is later than its two children at `2 i + 1` and `2 i + 2`.
    entries: Box<[u32]>,
    /// Where each message stands in `entries`, plus 1; 0 when it doesn't.
    places: Box<[u32]>,
    /// When each message is due, in milliseconds of the queue clock; one that is not in the heap keeps its
    /// own.
    due: Box<[u64]>,
}

impl Heap {
    pub(super) fn new() -> Self {
        Self {
            len: 0,
            entries: vec![0; QUEUED_MESSAGES].into_boxed_slice(),
            places: vec![0; QUEUED_MESSAGES].into_boxed_slice(),
            due: vec![0; QUEUED_MESSAGES].into_boxed_slice(),
        }
    }

    /// The message that is due first, with its tick.
    pub(super) fn first(&self) -> Option<(MessageIndex, Tick)> {
        let message = *self.entries[..self.len].first()?;
        Some((MessageIndex(message), Tick(self.due[message as usize])))
    }

    /// When `message` is due; `None` when it is not in the heap.
    pub(super) fn due(&self, message: MessageIndex) -> Option<Tick> {
        let index = message.0 as usize;
        (self.places[index] != 0).then(|| Tick(self.due[index]))
    }

    /// Notes when `message`, which must not be in the heap, will be due there.
    pub(super) fn note(&mut self, message: MessageIndex, due: Tick) {
        let index = message.0 as usize;
        assert_eq!(self.places[index], 0, "the message is in the heap already");
        self.due[index] = due.0;
    }

    /// What was noted of `message`.
    pub(super) fn noted(&self, message: MessageIndex) -> Tick {
        Tick(self.due[message.0 as usize])
    }

    /// Adds `message`, which must not be in the heap, as it was noted.
    pub(super) fn insert(&mut self, message: MessageIndex) {
        let index = message.0 as usize;
        assert_eq!(self.places[index], 0, "the message is in the heap already");
        let place = self.len;
        self.len += 1;
        self.put(place, message.0);
        self.rise(place);
    }

    /// Takes `message` out, which must be in the heap.
    pub(super) fn remove(&mut self, message: MessageIndex) {
        let place =
            self.places[message.0 as usize].checked_sub(1).expect("the message is in the heap") as usize;
        self.places[message.0 as usize] = 0;
        self.len -= 1;
        if place < self.len {
            self.put(place, self.entries[self.len]);
            self.rise(place);
            self.sink(place);
        }
    }

    /// Makes all that would be due later than `now` due at `now`, in the heap or not.
    pub(super) fn all_due(&mut self, now: Tick) {
        // A later parent never gets behind an earlier child by this, so the order of the heap stays.
        for due in self.due.iter_mut().filter(|due| **due > now.0) {
            *due = now.0;
        }
    }

    /// Makes `message`, which must be in the heap, due at `now` unless it is due before.
    pub(super) fn make_due(&mut self, message: MessageIndex, now: Tick) {
        let index = message.0 as usize;
        let place = self.places[index].checked_sub(1).expect("the message is in the heap") as usize;
        self.due[index] = self.due[index].min(now.0);
        self.rise(place);
    }

    fn put(&mut self, place: usize, message: u32) {
        self.entries[place] = message;
        self.places[message as usize] = place as u32 + 1;
    }

    fn key(&self, place: usize) -> u64 {
        self.due[self.entries[place] as usize]
    }

    fn swap(&mut self, one: usize, other: usize) {
        let (a, b) = (self.entries[one], self.entries[other]);
        self.put(one, b);
        self.put(other, a);
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.key(parent) <= self.key(place) {
                break;
            }
            self.swap(parent, place);
            place = parent;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let mut least = place;
            for child in [2 * place + 1, 2 * place + 2] {
                if child < self.len && self.key(child) < self.key(least) {
                    least = child;
                }
            }
            if least == place {
                break;
            }
            self.swap(place, least);
            place = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jitter::Jitter;

    #[test]
    fn holds_its_order_under_any_operation() {
        let mut heap = Heap::new();
        let mut random = Jitter::new(5);
        let mut model = std::collections::BTreeMap::new();
        let messages = 200.min(QUEUED_MESSAGES as u64);
        for step in 0..20_000 {
            let message = MessageIndex((random.next() % messages) as u32);
            if step % 7 == 3 && model.contains_key(&message) {
                let now = Tick(random.next() % 1000);
                heap.make_due(message, now);
                model.entry(message).and_modify(|due: &mut Tick| *due = (*due).min(now));
            } else if model.remove(&message).is_some() {
                heap.remove(message);
            } else {
                let due = Tick(random.next() % 1000);
                model.insert(message, due);
                heap.note(message, due);
                heap.insert(message);
                assert_eq!(heap.noted(message), due);
            }
            if step % 1000 == 999 {
                let now = Tick(random.next() % 1000);
                heap.all_due(now);
                model.values_mut().for_each(|due| *due = (*due).min(now));
            }
            assert_eq!(heap.first().map(|(_, due)| due), model.values().min().copied());
            assert_eq!(heap.due(message), model.get(&message).copied());
            for place in 1..heap.len {
                assert!(heap.key((place - 1) / 2) <= heap.key(place));
            }
        }
    }
}
