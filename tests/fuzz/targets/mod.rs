//! What is fuzzed: each target takes any octets and panics when something does not hold. The same functions
//! are called by the engine in `engine.rs` and by the replay in `main.rs`.

mod memory;
mod parsers;
mod receiver;
mod recovery;
mod sender;

/// A target: it takes any octets, and panics when something does not hold.
pub(crate) type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub(crate) const TARGETS: [(&str, Target); 7] = [
    ("address_list", parsers::address_list),
    ("command", parsers::command),
    ("mail_data", parsers::mail_data),
    ("receiver", receiver::receiver),
    ("recovery", recovery::recovery),
    ("reply_reader", parsers::reply_reader),
    ("sender", sender::sender),
];

/// Takes octets off the front of an input; behind its end there are zeros.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn octet(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn take(&mut self, octets: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(octets.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// What stands before the next `octet`, which is taken too.
    fn until(&mut self, octet: u8) -> &'a [u8] {
        let end = self.0.iter().position(|other| *other == octet);
        let taken = self.take(end.unwrap_or(self.0.len()));
        self.take(usize::from(end.is_some()));
        taken
    }
}
