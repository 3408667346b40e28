//! One message as it stands in the spool, piece by piece; of a damaged one what can be read still.

use core::fmt::Write;

use super::{PIECE_OCTETS_MAX, piece};
use crate::buffer::Buffer;
use crate::relay::Relay;
use crate::spool::{Device, Listed, MessageId, Reader, Salvaged};

/// Octets of mail data in one piece.
const MAIL_DATA_OCTETS: usize = PIECE_OCTETS_MAX - 4;
/// Blocks that one step looks into for pieces of a damaged message.
const BLOCKS_AT_ONCE: u32 = 64;

/// How far it is with the message.
#[derive(Debug)]
pub(super) struct Message {
    listed: Listed,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Start,
    MailData,
    /// Octets of the message are looked for from this block on; so many of it are written.
    Blocks {
        from: u32,
        written: usize,
    },
}

/// What one step came to.
pub(super) enum Step {
    More,
    Whole,
    Gone(MessageId),
    Damaged(MessageId),
}

impl Message {
    pub(super) fn new(listed: Listed) -> Self {
        let place = if listed.is_aside { Place::Blocks { from: 0, written: 0 } } else { Place::Start };
        Self { listed, place }
    }

    /// Appends one piece to `output`, which has room for it.
    pub(super) fn step<D: Device>(
        &mut self,
        reader: &mut Reader,
        output: &mut Buffer,
        relay: &mut Relay<D>,
    ) -> Step {
        let spool = &mut relay.spool;
        if !spool.is_there(self.listed) {
            return Step::Gone(self.listed.id);
        }
        match self.place {
            Place::Start => {
                let mut opened = reader.open(spool, self.listed.message).map(|_| Some(()));
                // As many as the message has recipients.
                while let Ok(Some(())) = opened {
                    opened = reader.next_recipient(spool).map(|recipient| recipient.map(|_| ()));
                }
                if opened.is_err() {
                    return Step::Damaged(self.listed.id);
                }
                self.place = Place::MailData;
                Step::More
            }
            Place::MailData => {
                let Ok(octets) = reader.mail_data(spool) else { return Step::Damaged(self.listed.id) };
                let octets = &octets[..octets.len().min(MAIL_DATA_OCTETS)];
                let count = octets.len();
                if count == 0 {
                    return Step::Whole;
                }
                piece(output, |output| {
                    output.append(octets);
                    Ok(())
                });
                reader.consume(count);
                Step::More
            }
            Place::Blocks { from, written } => self.step_blocks(from, written, reader, output, relay),
        }
    }

    fn step_blocks<D: Device>(
        &mut self,
        from: u32,
        written: usize,
        reader: &mut Reader,
        output: &mut Buffer,
        relay: &mut Relay<D>,
    ) -> Step {
        let id = self.listed.id;
        match reader.salvage(&mut relay.spool, id, from, BLOCKS_AT_ONCE) {
            Salvaged::End => return Step::Damaged(id),
            Salvaged::Nothing { from } => self.place = Place::Blocks { from, written: 0 },
            Salvaged::Block { block, is_sound, octets } if written == 0 => {
                let state = if is_sound { "as it was written" } else { "damaged" };
                piece(output, |output| writeln!(output, "\n[block {block}, {state}]"));
                // An empty block is done with.
                let is_over = octets.is_empty();
                self.place = if is_over {
                    Place::Blocks { from: block + 1, written: 0 }
                } else {
                    Place::Blocks { from: block, written: 1 }
                };
            }
            Salvaged::Block { block, octets, .. } => {
                let start = written - 1;
                let octets = &octets[start..octets.len().min(start + MAIL_DATA_OCTETS)];
                piece(output, |output| {
                    output.append(octets);
                    Ok(())
                });
                let is_over = octets.len() < MAIL_DATA_OCTETS;
                self.place = if is_over {
                    Place::Blocks { from: block + 1, written: 0 }
                } else {
                    Place::Blocks { from: block, written: written + octets.len() }
                };
            }
        }
        Step::More
    }
}
