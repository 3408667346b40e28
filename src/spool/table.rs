//! The messages that the spool holds, as far as memory knows them.

use super::{Facts, MessageId, MessageIndex};
use crate::limits::MESSAGE_ENTRY_OCTETS;
use crate::time::Tick;

/// Clients whose shares are told apart, and nobody.
const CLIENTS: usize = u8::MAX as usize + 1;

/// Where a message stands between its last block and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No message.
    Vacant,
    /// A draft will need this place.
    Reserved,
    /// Written, not durable.
    Ended,
    /// Durable.
    Live,
    /// Its sync failed; it will never be delivered.
    Refused,
    /// There is no more to do for it, but the free could not be written.
    FreeOwed,
    /// Gone, but its tombstone is not durable: another message in its place would be one more on the disk
    /// than the table holds, should the power fail now.
    Freed,
    /// Damaged: kept out of use.
    Aside,
}

/// One message. All zero is a vacant place, so that places never used cost no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub state: State,
    /// A session holds an [`super::Ended`] for it.
    pub is_owned: bool,
    /// The client whose share of the spool it takes; 0 is nobody.
    pub client: u8,
    pub id: MessageId,
    /// The block of its newest head.
    pub head: u32,
    /// Its first body, 0 without one.
    pub first: u32,
    /// How many bodies.
    pub bodies: u32,
    pub generation: u32,
    pub accepted: Tick,
    pub data_octets: u32,
    pub recipients: u16,
    pub waiting: u16,
    /// Recipients about whom a notice is owed.
    pub owed: u16,
    /// The next in the list that this entry stands in (vacant, or committed), plus one; 0 at the end.
    pub link: u32,
}

const WORDS: usize = 12;
const _: () = assert!(size_of::<[u32; WORDS]>() <= MESSAGE_ENTRY_OCTETS);

impl Entry {
    pub(super) const VACANT: Self = Self {
        state: State::Vacant,
        is_owned: false,
        client: 0,
        id: MessageId { epoch: 0, counter: 0 },
        head: 0,
        first: 0,
        bodies: 0,
        generation: 0,
        accepted: Tick(0),
        data_octets: 0,
        recipients: 0,
        waiting: 0,
        owed: 0,
        link: 0,
    };

    pub(super) fn facts(&self) -> Facts {
        Facts {
            id: self.id,
            accepted: self.accepted,
            octets: u64::from(self.data_octets),
            recipients: self.recipients,
            waiting: self.waiting,
            owed: self.owed,
        }
    }

    /// Blocks that it takes from a client's share.
    fn blocks(&self) -> u32 {
        if self.client == 0 { 0 } else { self.bodies + 1 }
    }

    fn pack(&self) -> [u32; WORDS] {
        let state = match self.state {
            State::Vacant => 0,
            State::Reserved => 1,
            State::Ended => 2,
            State::Live => 3,
            State::Refused => 4,
            State::FreeOwed => 5,
            State::Aside => 6,
            State::Freed => 7,
        };
        [
            state | u32::from(self.is_owned) << 7 | u32::from(self.client) << 8 | u32::from(self.owed) << 16,
            self.id.epoch,
            self.id.counter,
            self.head,
            self.first,
            self.bodies,
            self.generation,
            self.accepted.0 as u32,
            (self.accepted.0 >> 32) as u32,
            self.data_octets,
            u32::from(self.recipients) | u32::from(self.waiting) << 16,
            self.link,
        ]
    }

    fn unpack(words: &[u32; WORDS]) -> Self {
        Self {
            state: match words[0] & 0x7f {
                0 => State::Vacant,
                1 => State::Reserved,
                2 => State::Ended,
                3 => State::Live,
                4 => State::Refused,
                5 => State::FreeOwed,
                7 => State::Freed,
                _ => State::Aside,
            },
            is_owned: words[0] >> 7 & 1 == 1,
            client: (words[0] >> 8) as u8,
            id: MessageId { epoch: words[1], counter: words[2] },
            head: words[3],
            first: words[4],
            bodies: words[5],
            generation: words[6],
            accepted: Tick(u64::from(words[7]) | u64::from(words[8]) << 32),
            data_octets: words[9],
            recipients: words[10] as u16,
            waiting: (words[10] >> 16) as u16,
            owed: (words[0] >> 16) as u16,
            link: words[11],
        }
    }
}

/// All entries, with the lists through them.
#[derive(Debug)]
pub(super) struct Table {
    entries: Box<[[u32; WORDS]]>,
    /// Entries below were used once.
    touched: u32,
    vacant: u32,
    count: u32,
    /// Blocks of each client's messages.
    held: Box<[u32; CLIENTS]>,
    /// Written in this turn, waiting for its sync.
    ended: List,
    /// Durable, waiting to be told to the queue.
    committed: List,
    /// Freed, waiting for the sync of their tombstones.
    freed: List,
}

/// A list through the entries' links, each place plus one; 0 is none.
#[derive(Clone, Copy, Debug, Default)]
struct List {
    first: u32,
    last: u32,
}

impl Table {
    pub(super) fn new(entries: usize) -> Self {
        Self {
            entries: vec![[0; WORDS]; entries].into_boxed_slice(),
            touched: 0,
            vacant: 0,
            count: 0,
            held: Box::new([0; CLIENTS]),
            ended: List::default(),
            committed: List::default(),
            freed: List::default(),
        }
    }

    pub(super) fn entry(&self, at: MessageIndex) -> Entry {
        Entry::unpack(&self.entries[at.0 as usize])
    }

    pub(super) fn put(&mut self, at: MessageIndex, entry: &Entry) {
        self.entries[at.0 as usize] = entry.pack();
    }

    /// Changes an entry in place and gives what it is then.
    pub(super) fn change(&mut self, at: MessageIndex, change: impl FnOnce(&mut Entry)) -> Entry {
        let mut entry = self.entry(at);
        change(&mut entry);
        self.put(at, &entry);
        entry
    }

    /// The message takes from the share of `client` from now on; it was nobody's before.
    pub(super) fn charge(&mut self, at: MessageIndex, client: u8) {
        let entry = self.change(at, |entry| {
            assert!(entry.client == 0);
            entry.client = client;
        });
        self.held[usize::from(client)] += entry.blocks();
    }

    /// Blocks of the messages of `client`.
    pub(super) fn held(&self, client: u8) -> u32 {
        self.held[usize::from(client)]
    }

    /// Entries that are not vacant.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// A place for one more message, [`State::Reserved`].
    pub(super) fn reserve(&mut self) -> Option<MessageIndex> {
        let at = if self.vacant > 0 {
            let at = MessageIndex(self.vacant - 1);
            self.vacant = self.entry(at).link;
            at
        } else if (self.touched as usize) < self.entries.len() {
            self.touched += 1;
            MessageIndex(self.touched - 1)
        } else {
            return None;
        };
        self.put(at, &Entry { state: State::Reserved, ..Entry::VACANT });
        self.count += 1;
        Some(at)
    }

    pub(super) fn vacate(&mut self, at: MessageIndex) {
        let entry = self.entry(at);
        assert!(entry.state != State::Vacant);
        self.held[usize::from(entry.client)] -= entry.blocks();
        self.put(at, &Entry { link: self.vacant, ..Entry::VACANT });
        self.vacant = at.0 + 1;
        self.count -= 1;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (MessageIndex, Entry)> + '_ {
        (0..self.touched)
            .map(|at| (MessageIndex(at), self.entry(MessageIndex(at))))
            .filter(|(_, entry)| entry.state != State::Vacant)
    }

    /// The live message of this id; looks at all entries.
    pub(super) fn is_live(&self, id: MessageId) -> bool {
        self.iter().any(|(_, entry)| entry.state == State::Live && entry.id == id)
    }

    /// Entries at or above this place were never used.
    pub(super) fn touched(&self) -> u32 {
        self.touched
    }

    /// A written message waits for its sync.
    pub(super) fn push_ended(&mut self, at: MessageIndex) {
        let mut list = self.ended;
        self.push(&mut list, at);
        self.ended = list;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.first > 0
    }

    pub(super) fn pop_ended(&mut self) -> Option<MessageIndex> {
        let mut list = self.ended;
        let at = self.pop(&mut list);
        self.ended = list;
        at
    }

    /// A durable message waits to be told to the queue.
    pub(super) fn push_committed(&mut self, at: MessageIndex) {
        let mut list = self.committed;
        self.push(&mut list, at);
        self.committed = list;
    }

    pub(super) fn pop_committed(&mut self) -> Option<MessageIndex> {
        let mut list = self.committed;
        let at = self.pop(&mut list);
        self.committed = list;
        at
    }

    /// A message's tombstone is written: its place is vacant after the next good sync.
    pub(super) fn vacate_later(&mut self, at: MessageIndex) {
        let entry = self.entry(at);
        self.held[usize::from(entry.client)] -= entry.blocks();
        self.put(at, &Entry { state: State::Freed, ..Entry::VACANT });
        let mut list = self.freed;
        self.push(&mut list, at);
        self.freed = list;
    }

    pub(super) fn has_freed(&self) -> bool {
        self.freed.first > 0
    }

    /// The tombstones are durable.
    pub(super) fn vacate_freed(&mut self) {
        let mut list = core::mem::take(&mut self.freed);
        while let Some(at) = self.pop(&mut list) {
            self.vacate(at);
        }
    }

    fn push(&mut self, list: &mut List, at: MessageIndex) {
        self.change(at, |entry| entry.link = 0);
        match list.last.checked_sub(1) {
            Some(last) => {
                self.change(MessageIndex(last), |entry| entry.link = at.0 + 1);
            }
            None => list.first = at.0 + 1,
        }
        list.last = at.0 + 1;
    }

    fn pop(&self, list: &mut List) -> Option<MessageIndex> {
        let at = MessageIndex(list.first.checked_sub(1)?);
        list.first = self.entry(at).link;
        if list.first == 0 {
            list.last = 0;
        }
        Some(at)
    }
}
