//! DNS packets written by hand, so that the resolver's library is not tested by itself.

use std::net::IpAddr;

pub(crate) const A: u16 = 1;
pub(crate) const CNAME: u16 = 5;
pub(crate) const AAAA: u16 = 28;
const IN: u16 = 1;

pub(crate) const NOERROR: u16 = 0;
pub(crate) const FORMERR: u16 = 1;
pub(crate) const SERVFAIL: u16 = 2;
pub(crate) const NXDOMAIN: u16 = 3;
pub(crate) const REFUSED: u16 = 5;

/// A record of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) owner: String,
    pub(crate) kind: u16,
    pub(crate) ttl: u32,
    pub(crate) data: Vec<u8>,
}

/// A reply, with all that can be wrong with one.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) records: Vec<Record>,
}

/// `name` as labels, without compression.
pub(crate) fn name(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        octets.push(label.len() as u8);
        octets.extend_from_slice(label.as_bytes());
    }
    octets.push(0);
    octets
}

/// The id, name and type that a question asks for.
pub(crate) fn question(octets: &[u8]) -> (u16, String, u16) {
    assert_eq!(octets[2..12], [1, 0, 0, 1, 0, 0, 0, 0, 0, 0], "one question, recursion desired");
    let mut text = String::new();
    let mut at = 12;
    while octets[at] != 0 {
        let length = usize::from(octets[at]);
        text.push_str(std::str::from_utf8(&octets[at + 1..][..length]).expect("names are ASCII here"));
        text.push('.');
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([octets[at + 1], octets[at + 2]]);
    assert_eq!(octets[at + 3..], [0, 1], "class IN, and nothing behind it");
    (u16::from_be_bytes([octets[0], octets[1]]), text.trim_end_matches('.').to_owned(), kind)
}

pub(crate) fn address(owner: &str, ttl: u32, address: &str) -> Record {
    let (kind, data) = match address.parse().expect("it is an address") {
        IpAddr::V4(address) => (A, address.octets().to_vec()),
        IpAddr::V6(address) => (AAAA, address.octets().to_vec()),
    };
    Record { owner: owner.to_owned(), kind, ttl, data }
}

pub(crate) fn alias(owner: &str, ttl: u32, target: &str) -> Record {
    Record { owner: owner.to_owned(), kind: CNAME, ttl, data: name(target) }
}

impl Reply {
    /// To the question in `octets`, with what of `records` is asked for, and all aliases.
    pub(crate) fn to(octets: &[u8], code: u16, records: &[Record]) -> Self {
        let (id, name, kind) = question(octets);
        let is_asked = |record: &&Record| [kind, CNAME].contains(&record.kind);
        let records = records.iter().filter(is_asked).cloned().collect();
        Self { id, flags: 0x8180 | code, name, kind, records }
    }

    pub(crate) fn octets(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        for field in [self.id, self.flags, 1, self.records.len() as u16, 0, 0] {
            octets.extend_from_slice(&field.to_be_bytes());
        }
        octets.extend_from_slice(&name(&self.name));
        octets.extend_from_slice(&self.kind.to_be_bytes());
        octets.extend_from_slice(&IN.to_be_bytes());
        for record in &self.records {
            // The question's name is pointed to, as servers do.
            match record.owner == self.name {
                true => octets.extend_from_slice(&[0xc0, 12]),
                false => octets.extend_from_slice(&name(&record.owner)),
            }
            octets.extend_from_slice(&record.kind.to_be_bytes());
            octets.extend_from_slice(&IN.to_be_bytes());
            octets.extend_from_slice(&record.ttl.to_be_bytes());
            octets.extend_from_slice(&(record.data.len() as u16).to_be_bytes());
            octets.extend_from_slice(&record.data);
        }
        octets
    }
}
