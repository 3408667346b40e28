//! What the spool keeps of a message beside its mail data: where it came from and where it goes.
use core::net::IpAddr;

use crate::limits::{DOMAIN_OCTETS_MAX, PATH_OCTETS_MAX, REPLY_TEXT_OCTETS_MAX};
use crate::smtp::dsn::{ENVID_OCTETS_MAX, Notify, ORCPT_OCTETS_MAX};
use crate::smtp::trace::Origin;
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
    /// Who the client is.
    pub client: Origin,
    /// The argument of its EHLO or HELO, already checked to be a domain or an address literal.
    pub client_name: heapless::Vec<u8, DOMAIN_OCTETS_MAX>,
    /// How it spoke.
    pub protocol: Protocol,
    /// The wall time of its MAIL command.
    pub arrival: Wall,
    /// The reverse-path without angle brackets and source route; empty for the null reverse-path.
    pub reverse_path: heapless::Vec<u8, PATH_OCTETS_MAX>,
    /// BODY=8BITMIME was declared (RFC 6152), or the mail data has octets beyond ASCII all the same; the
    /// latter is known once the message has ended, and read with it.
    pub body_is_8bit: bool,
    /// SMTPUTF8 was declared (RFC 6531).
    pub utf8: bool,
    /// It was submitted by a client of ours whose mail is completed (RFC 6409 8).
    pub is_submission: bool,
    /// RET of RFC 3461 4.3: 0 not given, 1 HDRS, 2 FULL.
    pub ret: u8,
    /// ENVID of RFC 3461 4.4, as received (xtext); empty when not given.
    pub envid: heapless::Vec<u8, ENVID_OCTETS_MAX>,
}

/// One forward-path of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipient {
    /// The forward-path without angle brackets and source route.
    pub forward_path: heapless::Vec<u8, PATH_OCTETS_MAX>,
    /// What the client wants to hear of it.
    pub notify: Notify,
    /// ORCPT of RFC 3461 4.2, as received; empty when not given.
    pub orcpt: heapless::Vec<u8, ORCPT_OCTETS_MAX>,
}

/// What has become of one recipient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecipientState {
    /// Still to be relayed.
    #[default]
    Waiting,
    /// The smarthost took it; nothing more is to be done.
    Delivered,
    /// Refused for good, and a notice of it is owed; `reply` is the place of the reason among the message's
    /// kept replies.
    Failed {
        /// Below [`REPLIES_KEPT`].
        reply: u8,
    },
    /// It failed or was relayed, and its notice has gone out or is not to be sent: nothing more is to be
    /// done.
    Noticed,
    /// The smarthost took it, but can't tell the client of its delivery as that asked for: a notice is owed
    /// (RFC 3461 5.2.2).
    Relayed,
}

impl RecipientState {
    /// True when nothing more is to be done for the recipient.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Delivered | Self::Noticed)
    }

    /// True when a notice about the recipient is owed.
    pub const fn owes_notice(self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Relayed)
    }
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

impl MessageId {
    /// The id that `text` names as [`MessageId`] displays it, or nothing.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let hex = |text: &[u8]| {
            let is_hex = (1..=8).contains(&text.len()) && text.iter().all(u8::is_ascii_hexdigit);
            u32::from_str_radix(core::str::from_utf8(text).ok().filter(|_| is_hex)?, 16).ok()
        };
        let dash = text.iter().position(|octet| *octet == b'-')?;
        Some(Self { epoch: hex(&text[..dash])?, counter: hex(&text[dash + 1..])? })
    }
}

/// Octets of the largest record of an envelope: a recipient with ORCPT.
pub(super) const RECORD_OCTETS_MAX: usize =
    RECORD_HEAD_OCTETS + RECIPIENT_FIXED_OCTETS + PATH_OCTETS_MAX + ORCPT_OCTETS_MAX;
/// Octets in front of each record: its kind and the length of what follows.
pub(super) const RECORD_HEAD_OCTETS: usize = 3;
const RECIPIENT_FIXED_OCTETS: usize = 3;
const ENVELOPE_OCTETS_MAX: usize =
    7 * RECORD_HEAD_OCTETS + 16 + DOMAIN_OCTETS_MAX + 1 + 9 + PATH_OCTETS_MAX + 1 + ENVID_OCTETS_MAX;

/// A record's kind. The records of the message come first, then one for each recipient.
mod kind {
    pub(super) const CLIENT: u8 = 1;
    pub(super) const CLIENT_NAME: u8 = 2;
    pub(super) const PROTOCOL: u8 = 3;
    pub(super) const ARRIVAL: u8 = 4;
    pub(super) const REVERSE_PATH: u8 = 5;
    pub(super) const FLAGS: u8 = 6;
    pub(super) const ENVID: u8 = 7;
    /// Instead of CLIENT.
    pub(super) const USER: u8 = 8;
    pub(super) const RECIPIENT: u8 = 16;
}

const FLAG_8BIT: u8 = 1;
const FLAG_UTF8: u8 = 2;
const RET_SHIFT: u8 = 2;
const FLAG_SUBMISSION: u8 = 16;

/// The records of one envelope, or of one recipient, as they stand in the spool.
pub(super) type Records = heapless::Vec<u8, { larger(ENVELOPE_OCTETS_MAX, RECORD_OCTETS_MAX) }>;

const fn larger(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

fn push(records: &mut Records, kind: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u16::try_from(length).expect("each field is bounded below 1,000 octets");
    let [low, high] = length.to_le_bytes();
    for octets in core::iter::once(&[kind, low, high][..]).chain(parts.iter().copied()) {
        records.extend_from_slice(octets).expect("the bound is the sum of all fields' bounds");
    }
}

impl Protocol {
    /// The word after WITH.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Smtp => "SMTP",
            Self::Esmtp => "ESMTP",
            Self::Esmtps => "ESMTPS",
            Self::Esmtpa => "ESMTPA",
            Self::Esmtpsa => "ESMTPSA",
            Self::Utf8Smtp => "UTF8SMTP",
            Self::Utf8Smtps => "UTF8SMTPS",
            Self::Utf8Smtpa => "UTF8SMTPA",
            Self::Utf8Smtpsa => "UTF8SMTPSA",
        }
    }

    fn from_octet(octet: u8) -> Option<Self> {
        [
            Self::Smtp,
            Self::Esmtp,
            Self::Esmtps,
            Self::Esmtpa,
            Self::Esmtpsa,
            Self::Utf8Smtp,
            Self::Utf8Smtps,
            Self::Utf8Smtpa,
            Self::Utf8Smtpsa,
        ]
        .into_iter()
        .find(|protocol| *protocol as u8 == octet)
    }
}

impl Envelope {
    pub(super) fn records(&self) -> Records {
        let mut records = Records::new();
        match self.client {
            Origin::Address(IpAddr::V4(address)) => {
                push(&mut records, kind::CLIENT, &[&address.octets()]);
            }
            Origin::Address(IpAddr::V6(address)) => {
                push(&mut records, kind::CLIENT, &[&address.octets()]);
            }
            Origin::User(uid) => push(&mut records, kind::USER, &[&uid.to_le_bytes()]),
        }
        push(&mut records, kind::CLIENT_NAME, &[&self.client_name]);
        push(&mut records, kind::PROTOCOL, &[&[self.protocol as u8]]);
        let arrival = [&self.arrival.unix_s.to_le_bytes()[..], &[u8::from(self.arrival.is_trusted)]];
        push(&mut records, kind::ARRIVAL, &arrival);
        push(&mut records, kind::REVERSE_PATH, &[&self.reverse_path]);
        let flags = if self.body_is_8bit { FLAG_8BIT } else { 0 }
            | if self.utf8 { FLAG_UTF8 } else { 0 }
            | if self.is_submission { FLAG_SUBMISSION } else { 0 }
            | ((self.ret & 3) << RET_SHIFT);
        push(&mut records, kind::FLAGS, &[&[flags]]);
        if !self.envid.is_empty() {
            push(&mut records, kind::ENVID, &[&self.envid]);
        }
        records
    }

    /// An envelope from nowhere, of which nothing is known yet.
    pub fn unread() -> Self {
        Self {
            client: Origin::NOWHERE,
            client_name: heapless::Vec::new(),
            protocol: Protocol::Smtp,
            arrival: Wall { unix_s: 0, is_trusted: false },
            reverse_path: heapless::Vec::new(),
            body_is_8bit: false,
            utf8: false,
            is_submission: false,
            ret: 0,
            envid: heapless::Vec::new(),
        }
    }

    /// Takes one record; `None` for one that no writer of this format makes.
    pub(super) fn take(&mut self, record_kind: u8, octets: &[u8]) -> Option<()> {
        match record_kind {
            kind::CLIENT => {
                self.client = Origin::Address(match octets.len() {
                    4 => IpAddr::from(<[u8; 4]>::try_from(octets).ok()?),
                    _ => IpAddr::from(<[u8; 16]>::try_from(octets).ok()?),
                });
            }
            kind::USER => self.client = Origin::User(u32::from_le_bytes(octets.try_into().ok()?)),
            kind::CLIENT_NAME => self.client_name = heapless::Vec::from_slice(octets).ok()?,
            kind::PROTOCOL => self.protocol = Protocol::from_octet(*octets.first()?)?,
            kind::ARRIVAL => {
                let (unix_s, trusted) = octets.split_first_chunk::<8>()?;
                self.arrival =
                    Wall { unix_s: u64::from_le_bytes(*unix_s), is_trusted: *trusted.first()? == 1 };
            }
            kind::REVERSE_PATH => self.reverse_path = heapless::Vec::from_slice(octets).ok()?,
            kind::FLAGS => {
                let flags = *octets.first()?;
                self.body_is_8bit = flags & FLAG_8BIT != 0;
                self.utf8 = flags & FLAG_UTF8 != 0;
                self.is_submission = flags & FLAG_SUBMISSION != 0;
                self.ret = (flags >> RET_SHIFT) & 3;
            }
            kind::ENVID => self.envid = heapless::Vec::from_slice(octets).ok()?,
            _ => return None,
        }
        Some(())
    }
}

impl Recipient {
    pub(super) fn record(&self) -> Records {
        let mut records = Records::new();
        let path_octets = u16::try_from(self.forward_path.len()).expect("a path is at most 256 octets");
        let [low, high] = path_octets.to_le_bytes();
        let parts = [&[self.notify.0, low, high][..], &self.forward_path, &self.orcpt];
        push(&mut records, kind::RECIPIENT, &parts);
        records
    }

    /// The recipient in a record; `None` if no writer of this format made it.
    pub(super) fn read(record_kind: u8, octets: &[u8]) -> Option<Self> {
        let ([notify, low, high], rest) = octets.split_first_chunk::<RECIPIENT_FIXED_OCTETS>()?;
        let (path, orcpt) = rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))?;
        if record_kind != kind::RECIPIENT {
            return None;
        }
        Some(Self {
            forward_path: heapless::Vec::from_slice(path).ok()?,
            notify: Notify(*notify),
            orcpt: heapless::Vec::from_slice(orcpt).ok()?,
        })
    }
}

/// True for the record of a recipient: the message's own records are over.
pub(super) const fn is_recipient(record_kind: u8) -> bool {
    record_kind == kind::RECIPIENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = MessageId { epoch: 0x1f, counter: u32::MAX };
        assert_eq!(MessageId::parse(id.to_string().as_bytes()), Some(id));
        for wrong in ["", "-", "1", "1-", "-1", "+1-1", "1-2-3", "123456789-1", "1-g", "1 -1", "\u{ff}-1"] {
            assert_eq!(MessageId::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
