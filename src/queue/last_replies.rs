//! Why each deferred message waits: the smarthost's last reply to it, in memory only.
//!
//! Most messages that wait do so for the same reason, so a few different replies are kept, and for each
//! message which. When one too many comes, the one that was given longest ago is forgotten: its messages are
//! then without.

use crate::limits::{QUEUED_MESSAGES, REPLIES_REMEMBERED, REPLY_ENTRY_OCTETS};
use crate::spool::{KeptReply, MessageIndex};

const _: () = assert!(size_of::<Entry>() <= REPLY_ENTRY_OCTETS);
const _: () = assert!(REPLIES_REMEMBERED >= 1 && REPLIES_REMEMBERED <= u8::MAX as usize);

#[derive(Clone, Debug, Default)]
struct Entry {
    reply: KeptReply,
    /// The number of its last giving; 0: never.
    given: u64,
}

/// The replies, and whose they are.
#[derive(Debug)]
pub(super) struct LastReplies {
    entries: Box<[Entry]>,
    /// For each message the place of its reply, plus 1; 0: none.
    of: Box<[u8]>,
    given: u64,
}

impl LastReplies {
    pub(super) fn new() -> Self {
        Self {
            entries: vec![Entry::default(); REPLIES_REMEMBERED].into_boxed_slice(),
            of: vec![0; QUEUED_MESSAGES].into_boxed_slice(),
            given: 0,
        }
    }

    /// The smarthost gave `reply` to `message`.
    pub(super) fn keep(&mut self, message: MessageIndex, reply: &KeptReply) {
        self.given += 1;
        let same = self.entries.iter().position(|entry| entry.given > 0 && entry.reply == *reply);
        let place = same.unwrap_or_else(|| self.replace(reply));
        self.entries[place].given = self.given;
        self.of[message.0 as usize] = place as u8 + 1;
    }

    /// The message is gone.
    pub(super) fn forget(&mut self, message: MessageIndex) {
        self.of[message.0 as usize] = 0;
    }

    /// The last reply to `message`, as long as it is known.
    pub(super) fn of(&self, message: MessageIndex) -> Option<&KeptReply> {
        let place = self.of[message.0 as usize].checked_sub(1)?;
        Some(&self.entries[usize::from(place)].reply)
    }

    /// Puts `reply` in the place of the one that was given longest ago.
    fn replace(&mut self, reply: &KeptReply) -> usize {
        let oldest = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.given);
        let (place, entry) = oldest.expect("there is a place at least");
        if entry.given > 0 {
            let link = place as u8 + 1;
            self.of.iter_mut().filter(|of| **of == link).for_each(|of| *of = 0);
        }
        self.entries[place].reply = reply.clone();
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(number: usize) -> KeptReply {
        let text = format!("4.7.1 later {number}");
        KeptReply { code: 451, text: heapless::Vec::from_slice(text.as_bytes()).unwrap() }
    }

    #[test]
    fn the_reply_given_longest_ago_is_forgotten() {
        let mut replies = LastReplies::new();
        let (first, second) = (MessageIndex(0), MessageIndex(1));
        replies.keep(first, &reply(0));
        replies.keep(second, &reply(0));
        for number in 1..REPLIES_REMEMBERED {
            replies.keep(MessageIndex(2), &reply(number));
        }
        assert_eq!((replies.of(first), replies.of(second)), (Some(&reply(0)), Some(&reply(0))));
        replies.keep(first, &reply(0));
        replies.keep(MessageIndex(3), &reply(99));
        assert_eq!((replies.of(first), replies.of(second)), (Some(&reply(0)), Some(&reply(0))));
        for number in 100..100 + REPLIES_REMEMBERED {
            replies.keep(MessageIndex(3), &reply(number));
        }
        assert_eq!((replies.of(first), replies.of(second)), (None, None));
        assert_eq!(replies.of(MessageIndex(3)), Some(&reply(99 + REPLIES_REMEMBERED)));
        replies.forget(MessageIndex(3));
        assert_eq!(replies.of(MessageIndex(3)), None);
    }
}
