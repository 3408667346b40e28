//! What the administrator's tools ask of the running relay: one line in, an answer in pieces out.
//!
//! ```text
//! request = "queue" | "queue json" | "show" ID | "retry" [ID] | "remove" (ID | "all") | "status" ["json"]
//! answer  = *( 4HEXDIG octets ) "0000" code SP text LF
//! ```
//! The four digits say how many octets follow; the code is an exit status of sysexits(3), the text is for
//! people. An answer without its last line was cut off.
//!
//! A long answer is made piece by piece, as fast as it is read, and the relay works in between: a place in
//! the order of ids is all that is kept, so the answer holds whatever comes and goes meanwhile. A removal is
//! confirmed when it is durable.

mod listing;
mod message;
mod request;
mod status;
mod text;

use core::fmt::{self, Write};

use super::Relay;
use super::admin::{Removal, Retrial};
use crate::buffer::Buffer;
use crate::smtp::Next;
use crate::spool::{Device, Listed, MessageId, Reader};
use crate::time::{Duration, Instant, Now};
use listing::Listing;
use message::Message;
use request::Request;
use status::Status;
use text::Messages;

/// Octets of the longest request with its LF, and of the input buffer.
pub const REQUEST_OCTETS_MAX: usize = 64;
/// Octets of the output buffer.
pub const ANSWER_OCTETS: usize = 8192;
/// Octets of the largest piece with its digits. The foreign octets of one piece, escaped, and some.
const PIECE_OCTETS_MAX: usize = 3584;
/// How long a removal may take to be durable.
const DURABLE_WITHIN: Duration = Duration::from_s(10);

/// Exit statuses of sysexits(3).
mod code {
    pub(super) const DONE: u8 = 0;
    pub(super) const USAGE: u8 = 64;
    pub(super) const DATA: u8 = 65;
    pub(super) const NO_INPUT: u8 = 66;
    pub(super) const IO: u8 = 74;
    pub(super) const TEMPORARY: u8 = 75;
}

const _: () = assert!(PIECE_OCTETS_MAX <= ANSWER_OCTETS);

/// What the relay can't know of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// Octets of memory that the process has.
    pub resident_octets: u64,
    /// The most it had.
    pub peak_octets: u64,
    /// Lines of the log that nobody took.
    pub log_lines_dropped: u64,
    /// The spool is on a file system in memory.
    pub is_spool_volatile: bool,
}

/// One tool's connection.
#[derive(Debug)]
pub struct Control {
    stage: Stage,
    reader: Reader,
    wants_fresh_names: bool,
}

#[derive(Debug)]
enum Stage {
    /// The request isn't there yet.
    Asking,
    Listing(Listing),
    Message(Message),
    Status(Status),
    Removing(Removing),
    /// Removed, and not durable yet.
    Committing {
        removed: Removed,
        until: Instant,
    },
    Over,
}

/// All messages below an id are being removed.
#[derive(Clone, Copy, Debug)]
struct Removing {
    before: MessageId,
    last: Option<Listed>,
    removed: u32,
    on_their_way: u32,
}

/// What was removed.
#[derive(Clone, Copy, Debug)]
enum Removed {
    One(MessageId),
    All(Removing),
}

impl Default for Control {
    fn default() -> Self {
        Self::new()
    }
}

impl Control {
    /// A connection whose request is still to come. It keeps one block of memory beside its buffers.
    pub fn new() -> Self {
        Self { stage: Stage::Asking, reader: Reader::new(), wants_fresh_names: false }
    }

    /// Goes on with the answer as far as there is room for it. Call it when octets came, when output was
    /// written, while [`Control::is_runnable`], and after each [`Relay::turn`] while
    /// [`Control::is_committing`].
    pub fn advance<D: Device>(
        &mut self,
        now: &Now,
        input: &mut Buffer,
        output: &mut Buffer,
        relay: &mut Relay<D>,
        outside: impl Fn(&Relay<D>) -> Outside,
    ) -> Next {
        // Each pass but the last fills the output, which has an end.
        while output.room() >= PIECE_OCTETS_MAX {
            match &mut self.stage {
                Stage::Asking => {
                    if !self.read_request(now, input, output, relay) {
                        break;
                    }
                }
                Stage::Listing(listing) => {
                    if listing.step(now, &mut self.reader, output, relay) {
                        self.end(output, code::DONE, format_args!(""));
                    }
                }
                Stage::Status(status) => {
                    if status.step(now, &outside(relay), output, relay) {
                        self.end(output, code::DONE, format_args!(""));
                    }
                }
                Stage::Message(message) => match message.step(&mut self.reader, output, relay) {
                    message::Step::More => {}
                    message::Step::Whole => self.end(output, code::DONE, format_args!("")),
                    message::Step::Gone(id) => {
                        self.end(output, code::TEMPORARY, format_args!("{id} has left the spool meanwhile"));
                    }
                    message::Step::Damaged(id) => {
                        self.end(output, code::DATA, format_args!("{id} is damaged: this is what is left"));
                    }
                },
                Stage::Removing(removing) => {
                    let removing = *removing;
                    self.remove_some(now, removing, output, relay);
                    break;
                }
                Stage::Committing { removed, until } => {
                    let (removed, until) = (*removed, *until);
                    if !self.confirm(now, removed, until, output, relay) {
                        break;
                    }
                }
                Stage::Over => return Next::Close,
            }
        }
        if matches!(self.stage, Stage::Over) { Next::Close } else { Next::Continue }
    }

    /// True while the request isn't whole.
    pub fn is_asking(&self) -> bool {
        matches!(self.stage, Stage::Asking)
    }

    /// True when [`Control::advance`] has more to do although nothing came and nothing was written.
    pub fn is_runnable(&self) -> bool {
        matches!(self.stage, Stage::Removing(_))
    }

    /// True while a removal waits for a [`Relay::turn`].
    pub fn is_committing(&self) -> bool {
        matches!(self.stage, Stage::Committing { .. })
    }

    /// When [`Control::advance`] is to be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Committing { until, .. } => Some(until),
            Stage::Asking
            | Stage::Listing(_)
            | Stage::Message(_)
            | Stage::Status(_)
            | Stage::Removing(_)
            | Stage::Over => None,
        }
    }

    /// True once when the addresses of the smarthosts are to be asked for anew.
    pub fn takes_fresh_names(&mut self) -> bool {
        core::mem::take(&mut self.wants_fresh_names)
    }

    /// False when there is no whole request.
    fn read_request<D: Device>(
        &mut self,
        now: &Now,
        input: &mut Buffer,
        output: &mut Buffer,
        relay: &mut Relay<D>,
    ) -> bool {
        let Some(end) = input.octets().iter().position(|octet| *octet == b'\n') else {
            if input.room() > 0 {
                return false;
            }
            self.end(output, code::USAGE, format_args!("the request is too long"));
            return true;
        };
        match Request::parse(&input.octets()[..end]) {
            Some(request) => self.begin(now, request, output, relay),
            None => self.end(output, code::USAGE, format_args!("this version does not know the request")),
        }
        input.clear();
        true
    }

    fn begin<D: Device>(&mut self, now: &Now, request: Request, output: &mut Buffer, relay: &mut Relay<D>) {
        let before = relay.spool.next_id();
        match request {
            Request::Queue { is_json } => self.stage = Stage::Listing(Listing::new(is_json, before)),
            Request::Show(id) => match relay.spool.find(id).min_by_key(|listed| listed.is_aside) {
                Some(listed) => self.stage = Stage::Message(Message::new(listed)),
                None => self.end_unknown(id, output),
            },
            Request::RetryAll => {
                self.wants_fresh_names = true;
                relay.retry_all(now);
                let count = Messages(relay.queue.len());
                self.end(output, code::DONE, format_args!("trying {count} now"));
            }
            Request::Retry(id) => {
                self.wants_fresh_names = true;
                match relay.retry(now, id) {
                    Retrial::Due => self.end(output, code::DONE, format_args!("{id} is tried now")),
                    Retrial::OnItsWay => {
                        self.end(output, code::DONE, format_args!("{id} is being sent already"));
                    }
                    Retrial::Damaged => {
                        self.end(output, code::DATA, format_args!("{id} is damaged and can't be sent"));
                    }
                    Retrial::Unknown => self.end_unknown(id, output),
                }
            }
            Request::Remove(id) => match relay.remove(id) {
                Removal::Removed => {
                    let until = now.instant + DURABLE_WITHIN;
                    self.stage = Stage::Committing { removed: Removed::One(id), until };
                }
                Removal::OnItsWay => {
                    let text = "is being sent now; what is left of it is removed when that is over";
                    self.end(output, code::TEMPORARY, format_args!("{id} {text}"));
                }
                Removal::Refused => self.end_failing(output),
                Removal::Unknown => self.end_unknown(id, output),
            },
            Request::Status { is_json } => self.stage = Stage::Status(Status::new(is_json)),
            Request::RemoveAll => {
                self.stage = Stage::Removing(Removing { before, last: None, removed: 0, on_their_way: 0 });
            }
        }
    }

    fn remove_some<D: Device>(
        &mut self,
        now: &Now,
        mut removing: Removing,
        output: &mut Buffer,
        relay: &mut Relay<D>,
    ) {
        let batch = relay.spool.list(removing.last, removing.before);
        if batch.is_empty() {
            let until = now.instant + DURABLE_WITHIN;
            self.stage = Stage::Committing { removed: Removed::All(removing), until };
            return;
        }
        for listed in batch {
            removing.last = Some(listed);
            match relay.remove_listed(listed) {
                Removal::Removed => removing.removed += 1,
                Removal::OnItsWay => removing.on_their_way += 1,
                Removal::Unknown => {}
                Removal::Refused => {
                    self.end_failing(output);
                    return;
                }
            }
        }
        self.stage = Stage::Removing(removing);
    }

    /// False while the removal is not durable and there is time for it.
    fn confirm<D: Device>(
        &mut self,
        now: &Now,
        removed: Removed,
        until: Instant,
        output: &mut Buffer,
        relay: &Relay<D>,
    ) -> bool {
        if !relay.has_durable_removals() {
            if now.instant < until {
                return false;
            }
            let text = "the disk fails: what was removed is not sent, but may be back after a restart";
            self.end(output, code::IO, format_args!("{text}"));
            return true;
        }
        match removed {
            Removed::One(id) => self.end(output, code::DONE, format_args!("{id} is removed")),
            Removed::All(Removing { removed, on_their_way: 0, .. }) => {
                let count = Messages(removed as usize);
                self.end(output, code::DONE, format_args!("removed {count}"));
            }
            Removed::All(Removing { removed, on_their_way, .. }) => {
                let count = Messages(removed as usize);
                let text = "being sent now: what is left is removed when that is over";
                let count = format_args!("removed {count}; {on_their_way} more {text}");
                self.end(output, code::TEMPORARY, count);
            }
        }
        true
    }

    fn end_unknown(&mut self, id: MessageId, output: &mut Buffer) {
        self.end(output, code::NO_INPUT, format_args!("there is no message {id} in the spool"));
    }

    fn end_failing(&mut self, output: &mut Buffer) {
        self.end(output, code::IO, format_args!("the disk fails: nothing can be removed now"));
    }

    /// The last line of the answer.
    fn end(&mut self, output: &mut Buffer, code: u8, text: fmt::Arguments<'_>) {
        writeln!(output, "0000{code} {text}").expect("the room of a piece was there");
        self.stage = Stage::Over;
    }
}

/// Appends one piece to `output`, which has room for one.
fn piece(output: &mut Buffer, write: impl FnOnce(&mut Buffer) -> fmt::Result) {
    let start = output.len();
    output.append(b"0000");
    write(output).expect("the foreign octets of a piece are bounded, and there was room for them");
    let octets = output.len() - start - 4;
    for (place, digit) in output.octets_mut()[start..start + 4].iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[octets >> (12 - 4 * place) & 0xf];
    }
}
