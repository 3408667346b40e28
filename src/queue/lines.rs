//! First in, first out: the messages that may be relayed at any time, in lines linked through tables of
//! indexes.
//!
//! A message stands in one line at most, and can be taken out of the middle. All zero bits is the state
//! without any message: entries that were never used cost no memory.
use crate::limits::QUEUED_MESSAGES;
use crate::spool::MessageIndex;

/// Which line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Fresh small messages.
    Small,
    /// Fresh large messages.
    Large,
    /// Messages put back by a fault of the route: first again.
    Again,
    /// Messages whose answer told one: behind the others.
    Behind,
}

/// The first and last message of a line, each plus 1; 0: the line is empty.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    first: u32,
    last: u32,
}

/// All lines.
#[derive(Debug)]
pub(super) struct Lines {
    ends: [Ends; 4],
    /// The message behind each, plus 1; 0 at the end.
    next: Box<[u32]>,
    /// The message before each, plus 1; 0 at the start.
    previous: Box<[u32]>,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self {
            ends: [Ends::default(); 4],
            next: vec![0; QUEUED_MESSAGES].into_boxed_slice(),
            previous: vec![0; QUEUED_MESSAGES].into_boxed_slice(),
        }
    }

    /// The first message of `line`.
    pub(super) fn first(&self, line: Line) -> Option<MessageIndex> {
        self.ends[line as usize].first.checked_sub(1).map(MessageIndex)
    }

    /// Puts `message`, which must stand in no line, at the end of `line`.
    pub(super) fn append(&mut self, line: Line, message: MessageIndex) {
        let link = message.0 + 1;
        let ends = &mut self.ends[line as usize];
        self.previous[message.0 as usize] = ends.last;
        self.next[message.0 as usize] = 0;
        match ends.last.checked_sub(1) {
            Some(last) => self.next[last as usize] = link,
            None => ends.first = link,
        }
        ends.last = link;
    }

    /// Takes `message` out of `line`, where it must stand.
    pub(super) fn remove(&mut self, line: Line, message: MessageIndex) {
        let (previous, next) = (self.previous[message.0 as usize], self.next[message.0 as usize]);
        let ends = &mut self.ends[line as usize];
        match previous.checked_sub(1) {
            Some(previous) => self.next[previous as usize] = next,
            None => ends.first = next,
        }
        match next.checked_sub(1) {
            Some(next) => self.previous[next as usize] = previous,
            None => ends.last = previous,
        }
    }
}
