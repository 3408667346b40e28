//! From draft to receipt to the final free.
use super::{Device, DeviceError, Envelope, KeptReply, MessageId, Recipient, RecipientState};
use crate::time::{Duration, Instant, Tick};

/// A message that is being received. It must end in [`Store::end`] or [`Store::discard`].
#[must_use]
#[derive(Debug)]
pub struct Draft {
    slot: u8,
}

/// A message that was written whole and waits for the turn's sync. Ask [`Store::receipt`] after [`Store::commit`].
#[must_use]
#[derive(Debug)]
pub struct Ended {
    message: MessageIndex,
}

/// The proof that a message is durable: the only thing that a `250` after mail data can be made from.
#[must_use]
#[derive(Debug)]
pub struct Receipt {
    id: MessageId,
}

impl Receipt {
    /// The durable message's id.
    pub fn id(&self) -> MessageId {
        self.id
    }
}

/// A message of the spool, as long as it is there. Below [`crate::limits::QUEUED_MESSAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageIndex(pub u32);

/// Why the spool does not take something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No room for it now: 452 4.3.1.
    Full,
    /// It would not fit into an empty spool: 552 5.3.4.
    NeverFits,
    /// The format's or board's count of recipients is reached: 452 4.5.3.
    TooManyRecipients,
    /// The disk failed and has not come back yet: 451 4.3.0 (421 4.3.0 to a new transaction).
    Failing,
}

/// What the queue needs to know of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its name.
    pub id: MessageId,
    /// When it was accepted.
    pub accepted: Tick,
    /// Octets of its mail data.
    pub octets: u64,
    /// Its recipients.
    pub recipients: u16,
    /// Those of them that are still to be relayed.
    pub waiting: u16,
}

/// What is left of a message after some of its recipients were settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Nothing: all recipients have it, the message is gone.
    Removed,
    /// Recipients wait still.
    Waiting,
    /// None waits, some failed: it is kept for its notice.
    Failed,
}

/// The spool over its disk.
#[derive(Debug)]
pub struct Store<D> {
    device: D,
}

/// What recovery found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Messages that wait or failed.
    pub messages: u32,
    /// Drafts that a crash interrupted: never acknowledged, their blocks are free.
    pub interrupted: u32,
    /// Messages or blocks that are damaged: kept out of use, not relayed.
    pub set_aside: u32,
    /// True when the file was made or filled anew.
    pub is_new: bool,
}

/// Why the spool can't start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The disk does not work.
    Device(DeviceError),
    /// The file holds something else; nothing of it was changed.
    NotASpool,
    /// A spool of another format version; nothing of it was changed.
    OtherVersion(u16),
    /// More blocks than this build can manage ([`crate::limits::SPOOL_BLOCKS`]).
    TooLarge(u32),
    /// More messages than this build can manage ([`crate::limits::QUEUED_MESSAGES`]).
    TooManyMessages,
}

/// What the spool is started with.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The size wanted, in blocks.
    pub blocks: u32,
    /// Where the filler of a new file comes from; any number.
    pub seed: u64,
    /// The boot clock.
    pub now: Instant,
}

impl<D: Device> Store<D> {
    /// Recovers what the disk holds; the only way to start. An empty device (no blocks) becomes a new spool.
    pub fn start(device: D, start: Start) -> Result<(Self, Recovery), StartError> {
        let _ = (device, start);
        todo!()
    }
    /// The messages there are, oldest first is not promised.
    pub fn messages(&self) -> impl Iterator<Item = MessageIndex> + '_ {
        (0..0).map(MessageIndex)
    }
    /// Takes the disk back out, as a crash would: nothing is written.
    pub fn into_device(self) -> D {
        self.device
    }
    /// Begins a draft. With `declared` octets (SIZE of RFC 1870) the blocks they need are reserved, so that a message
    /// of that size never meets a full disk.
    pub fn begin(&mut self, envelope: &Envelope, declared: Option<u64>) -> Result<Draft, Refusal> {
        let _ = (envelope, declared, &mut self.device);
        todo!()
    }
    /// Adds one recipient, or leaves the draft as it was.
    pub fn add_recipient(&mut self, draft: &mut Draft, recipient: &Recipient) -> Result<(), Refusal> {
        let _ = (draft.slot, recipient);
        todo!()
    }
    /// Appends mail data as it is to be relayed (transparency undone). After a refusal only `discard` is left.
    pub fn append(&mut self, draft: &mut Draft, mail_data: &[u8]) -> Result<(), Refusal> {
        let _ = (draft, mail_data);
        todo!()
    }
    /// Gives the draft and its blocks up.
    pub fn discard(&mut self, draft: Draft) {
        let _ = draft;
    }
    /// Writes what is left of the draft. It is durable only when [`Store::receipt`] says so. A refusal has given its blocks back.
    pub fn end(&mut self, draft: Draft, accepted: Tick) -> Result<Ended, Refusal> {
        let _ = (draft, accepted);
        todo!()
    }
    /// One sync for all drafts that ended since the last; none when nothing waits for one.
    pub fn commit(&mut self, now: Instant) {
        let _ = now;
    }
    /// The verdict on an ended draft, after [`Store::commit`]. `Err` means: it is not and will not be delivered.
    pub fn receipt(&mut self, ended: Ended) -> Result<Receipt, Refusal> {
        let _ = Receipt { id: MessageId { epoch: 0, counter: ended.message.0 } };
        todo!()
    }
    /// The peer left before it could read the verdict: the message stands all the same, if it is durable.
    pub fn abandon(&mut self, ended: Ended) {
        let _ = ended;
    }
    /// The messages that became durable since the last call, one a call; each goes to the queue.
    pub fn next_committed(&mut self) -> Option<MessageIndex> {
        todo!()
    }
    /// What the queue needs to know of `message`.
    pub fn facts(&self, message: MessageIndex) -> Facts {
        let _ = message;
        todo!()
    }
    /// Reads what has become of each recipient into the first `facts.recipients` of `states`.
    pub fn states(
        &mut self,
        message: MessageIndex,
        states: &mut [RecipientState],
    ) -> Result<(), super::Damage> {
        let _ = (message, states);
        todo!()
    }
    /// The replies that the message's failed recipients refer to.
    pub fn replies(
        &mut self,
        message: MessageIndex,
    ) -> Result<heapless::Vec<KeptReply, { super::REPLIES_KEPT }>, super::Damage> {
        let _ = message;
        todo!()
    }
    /// Writes down what has become of the recipients. `Err` means that it could not be written now: call again later,
    /// and don't relay the message until then.
    pub fn settle(
        &mut self,
        message: MessageIndex,
        states: &[RecipientState],
        replies: &[KeptReply],
    ) -> Result<Settled, Refusal> {
        let _ = (message, states, replies);
        todo!()
    }
    /// The message can't be read any more: keeps its blocks out of use and never relays it.
    pub fn set_aside(&mut self, message: MessageIndex) {
        let _ = message;
    }
    /// The queue clock at `now`.
    pub fn tick(&self, now: Instant) -> Tick {
        Tick(now.0)
    }
    /// True while the disk has failed: nothing is accepted and nothing is to be relayed.
    pub fn is_failing(&self) -> bool {
        false
    }
    /// Octets of mail data that an empty spool holds in one message.
    pub fn message_octets_max(&self) -> u64 {
        todo!()
    }
    /// When [`Store::commit`] is to be called again though nobody waits for it: frees that are not durable yet, a disk
    /// that failed, the hourly advance of the clock.
    pub fn deadline(&self) -> Option<Instant> {
        let _ = Duration(0);
        None
    }
}
