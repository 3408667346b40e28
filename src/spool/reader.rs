//! Reads a committed message in order: envelope, recipients, mail data.
use super::{Device, Envelope, MessageIndex, Recipient, Store};

/// A block of the message can't be read or is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage;

/// A place in a committed message, with the one block it stands in. The message must stay unsettled while it is read.
#[derive(Debug)]
pub struct Reader {}

impl Reader {
    /// A reader that stands nowhere yet.
    pub fn new() -> Self {
        todo!()
    }
    /// Goes to the start of `message` and reads its envelope; the recipients come next.
    pub fn open<D: Device>(
        &mut self,
        store: &mut Store<D>,
        message: MessageIndex,
    ) -> Result<Envelope, Damage> {
        let _ = (store, message);
        todo!()
    }
    /// The next recipient in order of acceptance; `None` after the last, where the mail data begins.
    pub fn next_recipient<D: Device>(&mut self, store: &mut Store<D>) -> Result<Option<Recipient>, Damage> {
        let _ = store;
        todo!()
    }
    /// The octets at this place up to the end of their block; empty at the end of the mail data.
    /// Only after `next_recipient` has returned `None`.
    pub fn mail_data<D: Device>(&mut self, store: &mut Store<D>) -> Result<&[u8], Damage> {
        let _ = store;
        todo!()
    }
    /// Moves `octets` on; at most as many as the last `mail_data` returned.
    pub fn consume(&mut self, octets: usize) {
        let _ = octets;
        todo!()
    }
}
