//! Reasons of our own for which a recipient fails without a word of the smarthost. They are kept like its
//! replies; that they are ours is told by their text, so that no notice says that the smarthost said it.
use crate::spool::KeptReply;

/// A reply code and its text, which begins with an enhanced status.
pub(super) type Reason = (u16, &'static [u8]);

pub(super) const REVERSE_PATH: Reason = (553, b"5.1.7 the reverse-path can't be sent");
pub(super) const FORWARD_PATH: Reason = (553, b"5.1.3 the forward-path can't be sent");
pub(super) const NO_SMTPUTF8: Reason = (553, b"5.6.7 the smarthost does not offer SMTPUTF8");
pub(super) const NO_8BITMIME: Reason = (554, b"5.6.3 the smarthost does not offer 8BITMIME");
pub(super) const TOO_LARGE: Reason = (552, b"5.3.4 the message is larger than the smarthost takes");
const EXPIRED: Reason = (550, b"5.4.7 not delivered within the time allowed");

const ALL: [Reason; 6] = [REVERSE_PATH, FORWARD_PATH, NO_SMTPUTF8, NO_8BITMIME, TOO_LARGE, EXPIRED];

/// The reason of a recipient whose time is over and to whom the smarthost said nothing.
pub fn expired() -> KeptReply {
    let (code, text) = EXPIRED;
    KeptReply { code, text: text.iter().copied().collect() }
}

/// True when `reply` is one of ours.
pub(super) fn is_own(reply: &KeptReply) -> bool {
    ALL.iter().any(|(code, text)| reply.code == *code && reply.text == *text)
}
