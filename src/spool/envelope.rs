//! What the spool keeps of a message beside its mail data: where it came from and where it goes.
use core::net::IpAddr;

use crate::limits::{DOMAIN_OCTETS_MAX, PATH_OCTETS_MAX, REPLY_TEXT_OCTETS_MAX};
use crate::time::Wall;

/// The protocol named after WITH in the Received field (RFC 3848, RFC 6531).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    /// After HELO.
    Smtp = 1,
    /// After EHLO.
    Esmtp = 2,
    /// After EHLO, inside TLS.
    Esmtps = 3,
    /// After EHLO and AUTH.
    Esmtpa = 4,
    /// After EHLO and AUTH, inside TLS.
    Esmtpsa = 5,
    /// ESMTP with SMTPUTF8 in use.
    Utf8Smtp = 6,
    /// ESMTPS with SMTPUTF8 in use.
    Utf8Smtps = 7,
    /// ESMTPA with SMTPUTF8 in use.
    Utf8Smtpa = 8,
    /// ESMTPSA with SMTPUTF8 in use.
    Utf8Smtpsa = 9,
}

/// Where a message came from, as its MAIL command and session said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The client's address.
    pub client: IpAddr,
    /// The argument of its EHLO or HELO, already checked to be a domain or an address literal.
    pub client_name: heapless::Vec<u8, DOMAIN_OCTETS_MAX>,
    /// How it spoke.
    pub protocol: Protocol,
    /// The wall time of its MAIL command.
    pub arrival: Wall,
    /// The reverse-path without angle brackets and source route; empty for the null reverse-path.
    pub reverse_path: heapless::Vec<u8, PATH_OCTETS_MAX>,
    /// BODY=8BITMIME was declared (RFC 6152).
    pub body_is_8bit: bool,
    /// SMTPUTF8 was declared (RFC 6531).
    pub utf8: bool,
    /// RET of RFC 3461 4.3: 0 not given, 1 HDRS, 2 FULL.
    pub ret: u8,
    /// ENVID of RFC 3461 4.4, as received (xtext); empty when not given.
    pub envid: heapless::Vec<u8, 100>,
}

/// NOTIFY of RFC 3461 4.1 as bits; no bit: not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify(pub u8);

/// One forward-path of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipient {
    /// The forward-path without angle brackets and source route.
    pub forward_path: heapless::Vec<u8, PATH_OCTETS_MAX>,
    /// What the client wants to hear of it.
    pub notify: Notify,
    /// ORCPT of RFC 3461 4.2, as received; empty when not given.
    pub orcpt: heapless::Vec<u8, 500>,
}

/// What has become of one recipient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecipientState {
    /// Still to be relayed.
    #[default]
    Waiting,
    /// The smarthost took it.
    Delivered,
    /// Refused for good; `reply` is the place of the reason among the message's kept replies.
    Failed {
        /// Below [`REPLIES_KEPT`].
        reply: u8,
    },
}

/// Replies kept with a message.
pub const REPLIES_KEPT: usize = 4;

/// A smarthost's reply, kept as the reason of a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptReply {
    /// The reply code, 200 to 599.
    pub code: u16,
    /// The text of its last line behind the code, as received, cut to [`REPLY_TEXT_OCTETS_MAX`].
    pub text: heapless::Vec<u8, REPLY_TEXT_OCTETS_MAX>,
}

/// The name of a message for its whole life: the spool's epoch and a counter within it. Never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// The start of the spool that made it.
    pub epoch: u32,
    /// The message's number within the epoch.
    pub counter: u32,
}

impl core::fmt::Display for MessageId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:x}-{:x}", self.epoch, self.counter)
    }
}
