//! DNS packets (RFC 1035 4): a question as octets, and what a reply says. The only file that knows the DNS
//! library.
//!
//! A reply counts only when it is one: the id, the question and the direction are those of what was asked.
//! Anything else, and whatever can't be read to the end of its answers, is no reply: it is passed over, and
//! the wait goes on, so that a forged packet ends nothing. Nothing here allocates.
//!
//! Absent on purpose: EDNS (a reply that doesn't fit into 512 octets is asked for over TCP), DNSSEC, any
//! record but addresses and aliases.

use core::net::IpAddr;

use domain::base::iana::{Class, Opcode, Rcode};
use domain::base::name::NameBuilder;
use domain::base::{Message, MessageBuilder, ParsedName, ParsedRecord, RecordSection, Rtype, ToName, Ttl};
use domain::dep::octseq::Array;
use domain::rdata::{A, Aaaa, Cname};

use crate::net::hosts::Addresses;
use crate::sender::Unresolved;

/// Octets of a name (RFC 1035 2.3.4).
const NAME_OCTETS_MAX: usize = 255;
/// Octets of a question: header, name, type, class.
const QUERY_OCTETS_MAX: usize = 12 + NAME_OCTETS_MAX + 4;
/// Aliases that are followed within one reply.
const ALIASES_MAX: usize = 16;
/// Records of a reply that are looked at; further ones are passed over.
const RECORDS_MAX: usize = 128;

/// A name in the form of the wire.
pub type Name = domain::base::Name<Array<NAME_OCTETS_MAX>>;
/// A question, ready to be sent.
pub type Query = Array<QUERY_OCTETS_MAX>;

/// What a name is another name for, and for how many seconds.
type Alias<'a> = (ParsedName<&'a [u8]>, u32);

/// A kind of address, asked for by a question of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// AAAA (RFC 3596).
    V6,
    /// A.
    V4,
}

/// What a reply says.
#[derive(Clone, Debug)]
pub enum Reply {
    /// It didn't fit: ask again over TCP.
    Truncated,
    /// The server can't tell; another one may.
    Failed(Unresolved),
    /// There is no such name.
    NoSuchName,
    /// The addresses, none or more, and for how many seconds they hold.
    Addresses(Addresses, u32),
    /// The name is another name for this one, of which the reply says nothing more.
    Alias(Name, u32),
}

impl Family {
    const fn rtype(self) -> Rtype {
        match self {
            Self::V6 => Rtype::AAAA,
            Self::V4 => Rtype::A,
        }
    }
}

/// The name that `text` writes, with `suffix` behind it; `None` when it is none (an empty or too long label,
/// or too long in all).
pub fn name(text: &str, suffix: &str) -> Option<Name> {
    let mut builder = NameBuilder::<Array<NAME_OCTETS_MAX>>::new();
    for part in [text, suffix] {
        let part = part.strip_suffix('.').unwrap_or(part);
        for label in part.split('.').filter(|_| !part.is_empty()) {
            if label.is_empty() {
                return None;
            }
            builder.append_label(label.as_bytes()).ok()?;
        }
    }
    builder.into_name().ok()
}

/// The question for the addresses of `name`, with recursion desired.
pub fn query(id: u16, name: &Name, family: Family) -> Query {
    let message = MessageBuilder::from_target(Query::new()).expect("a header fits into a whole question");
    let mut question = message.question();
    question.header_mut().set_id(id);
    question.header_mut().set_rd(true);
    question.push((name, family.rtype())).expect("the longest name fits into a question");
    question.finish()
}

/// What `octets` reply to the question for `name` under `id`; `None` when they are no reply to it.
pub fn reply(octets: &[u8], id: u16, name: &Name, family: Family) -> Option<Reply> {
    let message = Message::from_octets(octets).ok()?;
    let header = message.header();
    let question = message.sole_question().ok()?;
    if header.id() != id
        || !header.qr()
        || header.opcode() != Opcode::QUERY
        || question.qtype() != family.rtype()
        || question.qclass() != Class::IN
        || !question.qname().name_eq(name)
    {
        return None;
    }
    match header.rcode() {
        _ if header.tc() => Some(Reply::Truncated),
        Rcode::NOERROR => answer(message.answer().ok()?, name, family),
        Rcode::NXDOMAIN => Some(Reply::NoSuchName),
        Rcode::REFUSED => Some(Reply::Failed(Unresolved::Refused)),
        _ => Some(Reply::Failed(Unresolved::ServerFailed)),
    }
}

/// Follows the aliases from `name` and takes the addresses at their end.
fn answer(section: RecordSection<'_, &[u8]>, name: &Name, family: Family) -> Option<Reply> {
    if section.take(RECORDS_MAX).any(|record| record.is_err()) {
        return None;
    }
    let mut seconds = u32::MAX;
    let mut owner: Option<ParsedName<&[u8]>> = None;
    for _ in 0..=ALIASES_MAX {
        let (addresses, holds) = match &owner {
            None => addresses_of(section, name, family)?,
            Some(owner) => addresses_of(section, owner, family)?,
        };
        if !addresses.is_empty() {
            return Some(Reply::Addresses(addresses, seconds.min(holds)));
        }
        let alias = match &owner {
            None => alias_of(section, name)?,
            Some(owner) => alias_of(section, owner)?,
        };
        let Some((target, holds)) = alias else {
            return Some(match owner {
                Some(owner) => Reply::Alias(owner.try_to_name().ok()?, seconds),
                None => Reply::Addresses(Addresses::new(), 0),
            });
        };
        seconds = seconds.min(holds);
        owner = Some(target);
    }
    // The aliases go round in a circle.
    Some(Reply::Addresses(Addresses::new(), 0))
}

/// The records of class IN at `owner`.
fn records_of<'a>(
    section: RecordSection<'a, &'a [u8]>,
    owner: &impl ToName,
) -> impl Iterator<Item = ParsedRecord<'a, &'a [u8]>> {
    section
        .take(RECORDS_MAX)
        .flatten()
        .filter(move |record| record.class() == Class::IN && record.owner().name_eq(owner))
}

/// The addresses of `owner` that can be a host's, and for how many seconds they hold; `None` when one can't
/// be read.
fn addresses_of<'a>(
    section: RecordSection<'a, &'a [u8]>,
    owner: &impl ToName,
    family: Family,
) -> Option<(Addresses, u32)> {
    let mut addresses = Addresses::new();
    let mut seconds = u32::MAX;
    for record in records_of(section, owner).filter(|record| record.rtype() == family.rtype()) {
        let address: IpAddr = match family {
            Family::V6 => record.to_record::<Aaaa>().ok()??.data().addr().into(),
            Family::V4 => record.to_record::<A>().ok()??.data().addr().into(),
        };
        if is_host(address) && !addresses.contains(&address) && addresses.push(address).is_ok() {
            seconds = seconds.min(holds(record.ttl()));
        }
    }
    Some((addresses, seconds))
}

/// The name that `owner` is an alias of, if it is one; the outer `None` when the record can't be read.
fn alias_of<'a>(section: RecordSection<'a, &'a [u8]>, owner: &impl ToName) -> Option<Option<Alias<'a>>> {
    let Some(record) = records_of(section, owner).find(|record| record.rtype() == Rtype::CNAME) else {
        return Some(None);
    };
    let alias = record.to_record::<Cname<_>>().ok()??;
    Some(Some((*alias.data().cname(), holds(record.ttl()))))
}

/// Whether a host can have this address. A filter's 0.0.0.0 would lead back to this relay.
fn is_host(address: IpAddr) -> bool {
    let is_broadcast = address == IpAddr::V4(core::net::Ipv4Addr::BROADCAST);
    !address.is_unspecified() && !address.is_multicast() && !is_broadcast && address == address.to_canonical()
}

/// A time to live with the highest bit set is zero (RFC 2181 8).
fn holds(ttl: Ttl) -> u32 {
    let seconds = ttl.as_secs();
    if seconds > i32::MAX as u32 { 0 } else { seconds }
}
