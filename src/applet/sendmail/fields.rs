//! A message's fields: whom they name as recipients, and what they lack or may not keep when the message
//! leaves its user (RFC 2821 appendix B).
//!
//! A message that was sent on by its recipient has Resent- fields (RFC 5322 3.6.6): then those of the newest
//! sending name the recipients, and nothing is said of the sender.

use std::collections::BTreeSet;

use base64ct::{Base64, Encoding as _};

use super::super::{EXIT_DATA, Failure};
use super::options::shown;
use crate::limits::RECIPIENTS;
use crate::smtp::address_list::{Address, AddressList, Broken};
use crate::smtp::path::PathError;

/// Octets of a name that fit into one encoded word of 75 (RFC 2047 2).
const ENCODED_WORD_TEXT_OCTETS: usize = 45;

const RECIPIENT_FIELDS: [&str; 3] = ["To", "Cc", "Bcc"];

/// One field with its line ends.
#[derive(Clone, Debug)]
pub(super) struct Field {
    octets: Vec<u8>,
    /// Octets of its name.
    name_octets: usize,
}

impl Field {
    /// A field of which nothing but the name is known yet; white space may stand behind it.
    pub(super) fn new(name: &[u8]) -> Self {
        Self { octets: name.to_vec(), name_octets: name.trim_ascii_end().len() }
    }

    /// More of it, from the colon on.
    pub(super) fn append(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    fn of(name: &str, body: &[u8]) -> Self {
        let mut field = Self::new(name.as_bytes());
        for part in [b": ", body, b"\r\n"] {
            field.append(part);
        }
        field
    }

    fn name(&self) -> &[u8] {
        &self.octets[..self.name_octets]
    }

    fn is(&self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name.as_bytes())
    }

    fn is_resent(&self) -> bool {
        self.name().get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"Resent-"))
    }

    /// The same name without "Resent-", if it has that.
    fn is_resent_as(&self, name: &str) -> bool {
        self.is_resent() && self.name()[7..].eq_ignore_ascii_case(name.as_bytes())
    }

    /// What stands behind the colon.
    fn body(&self) -> &[u8] {
        let colon = self.octets.iter().position(|octet| *octet == b':');
        colon.map_or(&[], |colon| &self.octets[colon + 1..])
    }
}

/// Who hands the message in, and whether that is to be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender<'a> {
    /// `local-part@domain`, for a From field that is missing, and for Sender.
    pub(super) address: &'a [u8],
    /// What completes a name without a domain.
    pub(super) domain: &'a str,
    /// The system vouches for the address, and the user has not named another one.
    pub(super) is_identity: bool,
    /// Stands in a From field that is missing.
    pub(super) full_name: Option<&'a [u8]>,
}

/// All fields, in order.
#[derive(Debug)]
pub(super) struct Fields(Vec<Field>);

impl Fields {
    /// The fields of a message.
    pub(super) fn new(fields: Vec<Field>) -> Self {
        Self(fields)
    }

    /// Octets of all fields.
    pub(super) fn octets(&self) -> u64 {
        self.0.iter().map(|field| field.octets.len() as u64).sum()
    }

    /// All fields as they are sent.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|field| &field.octets[..])
    }

    /// Adds the recipients that the fields name.
    ///
    /// # Errors
    /// A broken address, with its field.
    pub(super) fn recipients(&self, into: &mut Recipients) -> Result<(), Failure> {
        let resent = self.newest_sending();
        let is_resent = |name: &str| resent.iter().any(|field| field.is_resent_as(name));
        if RECIPIENT_FIELDS.into_iter().any(is_resent) {
            let fields = resent
                .into_iter()
                .filter(|field| RECIPIENT_FIELDS.iter().any(|name| field.is_resent_as(name)));
            return fields.into_iter().try_for_each(|field| into.add_field(field));
        }
        let fields = self.0.iter().filter(|field| RECIPIENT_FIELDS.iter().any(|name| field.is(name)));
        fields.into_iter().try_for_each(|field| into.add_field(field))
    }

    /// The address of the From field, if that has one alone.
    pub(super) fn originator(&self) -> Result<Option<Address>, Failure> {
        let Some(from) = self.0.iter().find(|field| field.is("From")) else { return Ok(None) };
        let mut list = AddressList::new(from.body());
        let first = list.next().transpose().map_err(|broken| refused(&broken, from.body(), "From"))?;
        Ok(first.filter(|_| list.next().is_none()))
    }

    /// Makes of the fields what is sent: no blind copies show, the sender is told where the fields say
    /// something else, and From and one field of recipients are there.
    pub(super) fn complete(&mut self, sender: &Sender) {
        self.0.retain(|field| !field.is("Bcc") && !field.is_resent_as("Bcc"));
        let from = self.0.iter().find(|field| field.is("From"));
        let is_resent = self.0.iter().any(Field::is_resent);
        if sender.is_identity && !is_resent {
            let is_told = from.is_none_or(|field| sender.is_only_one_in(field.body()));
            let sender_field = (!is_told).then(|| Field::of("Sender", sender.address));
            self.0.retain(|field| !field.is("Sender"));
            self.0.extend(sender_field);
        }
        if !self.0.iter().any(|field| field.is("From")) && !sender.address.is_empty() {
            self.0.push(Field::of("From", &sender.mailbox()));
        }
        if !self.0.iter().any(|field| field.is("To") || field.is("Cc")) {
            self.0.push(Field::of("Bcc", b""));
        }
    }

    /// The Resent- fields on top, up to one that is there for the second time: it is of an earlier sending.
    fn newest_sending(&self) -> Vec<&Field> {
        let mut newest: Vec<&Field> = Vec::new();
        for field in self.0.iter().filter(|field| field.is_resent()) {
            if newest.iter().any(|before| before.name().eq_ignore_ascii_case(field.name())) {
                break;
            }
            newest.push(field);
        }
        newest
    }
}

impl Sender<'_> {
    /// True when `from` names this sender and nobody else.
    fn is_only_one_in(&self, from: &[u8]) -> bool {
        let mut list = AddressList::new(from);
        let (first, second) = (list.next(), list.next());
        let (Some(Ok(address)), None) = (first, second) else { return false };
        key_of(&qualified(&address, self.domain)) == key_of(self.address)
    }

    /// Name and address.
    fn mailbox(&self) -> Vec<u8> {
        let Some(name) = self.full_name.filter(|name| !name.is_empty()) else { return self.address.to_vec() };
        let mut mailbox = Vec::new();
        if name.is_ascii() {
            mailbox.push(b'"');
            for octet in name {
                if matches!(octet, b'"' | b'\\') {
                    mailbox.push(b'\\');
                }
                mailbox.push(*octet);
            }
            mailbox.push(b'"');
        } else {
            mailbox.extend_from_slice(encoded_words(&String::from_utf8_lossy(name)).as_bytes());
        }
        for part in [b" <", self.address, b">"] {
            mailbox.extend_from_slice(part);
        }
        mailbox
    }
}

/// A name as encoded words of RFC 2047.
fn encoded_words(name: &str) -> String {
    let (mut words, mut rest) = (String::new(), name);
    while !rest.is_empty() {
        let mut end = rest.len().min(ENCODED_WORD_TEXT_OCTETS);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (word, behind) = rest.split_at(end);
        let mut octets = [0; ENCODED_WORD_TEXT_OCTETS.div_ceil(3) * 4];
        let encoded = Base64::encode(word.as_bytes(), &mut octets).expect("there is room for a whole word");
        let fold = if words.is_empty() { "" } else { "\r\n " };
        words += &format!("{fold}=?utf-8?B?{encoded}?=");
        rest = behind;
    }
    words
}

/// The recipients of the envelope, each once, in the order in which they were named.
#[derive(Debug, Default)]
pub(super) struct Recipients {
    paths: Vec<Vec<u8>>,
    known: BTreeSet<Vec<u8>>,
}

impl Recipients {
    /// The paths.
    pub(super) fn paths(&self) -> &[Vec<u8>] {
        &self.paths
    }

    /// Adds those of an argument: one, or several with commas.
    ///
    /// # Errors
    /// A broken address; an argument with control characters, such as line ends, which never is one.
    pub(super) fn add_argument(&mut self, argument: &[u8]) -> Result<(), Failure> {
        let is_line = !argument.iter().any(u8::is_ascii_control);
        if !is_line || AddressList::new(argument).next().is_none() {
            let line = format!("recipient {}: no address", shown(argument));
            return Err(Failure { code: EXIT_DATA, line });
        }
        self.add(argument, "recipient")
    }

    fn add_field(&mut self, field: &Field) -> Result<(), Failure> {
        self.add(field.body(), &String::from_utf8_lossy(field.name()))
    }

    fn add(&mut self, list: &[u8], place: &str) -> Result<(), Failure> {
        for address in AddressList::new(list) {
            let address = address.map_err(|broken| refused(&broken, list, place))?;
            if !self.known.insert(key_of(&address.path)) {
                continue;
            }
            if self.paths.len() == RECIPIENTS {
                let line = format!("more than {RECIPIENTS} recipients; send it in parts");
                return Err(Failure { code: EXIT_DATA, line });
            }
            self.paths.push(address.path.to_vec());
        }
        Ok(())
    }
}

/// The address with a domain.
pub(super) fn qualified(address: &Address, domain: &str) -> Vec<u8> {
    let mut path = address.path.to_vec();
    if address.domain().is_none() {
        path.push(b'@');
        path.extend_from_slice(domain.as_bytes());
    }
    path
}

/// What tells addresses apart: the local-part as it is, the domain without case.
fn key_of(path: &[u8]) -> Vec<u8> {
    let mut key = path.to_vec();
    if let Some(at) = key.iter().rposition(|octet| *octet == b'@') {
        key[at..].make_ascii_lowercase();
    }
    key
}

/// The line about a broken address, and the exit code.
pub(super) fn refused(broken: &Broken, list: &[u8], place: &str) -> Failure {
    let what = match broken.error {
        PathError::TooLong => "longer than an address may be",
        PathError::Syntax | PathError::Unqualified | PathError::NotAscii => "no address",
    };
    let line = format!("{place}: {}: {what}", shown(list[broken.place.clone()].trim_ascii()));
    Failure { code: EXIT_DATA, line }
}
