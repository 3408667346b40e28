//! What a message of our own devices lacks: Date, Message-ID, From, and the empty line in front of a body
//! that has no header section (RFC 6409 8, RFC 5322 3.6).
//!
//! Fields that are missing are set at the end of the header section. Nothing that is there is changed. Mail
//! that has a Received field was submitted elsewhere and stays as it is.
//!
//! The header section is read as it comes: only the start of a line, as long as it may be a field's name, is
//! held back.

use core::fmt;

use crate::limits::{DOMAIN_OCTETS_MAX, PATH_OCTETS_MAX};
use crate::smtp::date::{DATE_OCTETS, Date};

/// Octets of a field's name, with its colon, that is taken for one; RFC 5322 knows none of more than 30.
const NAME_OCTETS_MAX: usize = 78;
/// Octets that the added fields take at most.
pub(super) const FIELDS_OCTETS_MAX: usize = "Date: \r\n".len()
    + DATE_OCTETS
    + "Message-ID: <@>\r\n".len()
    + ID_OCTETS_MAX
    + DOMAIN_OCTETS_MAX
    + "From: <>\r\n".len()
    + PATH_OCTETS_MAX
    + "\r\n".len();
/// Octets of a message's id.
const ID_OCTETS_MAX: usize = "ffffffff-ffffffff".len();

/// The header section of one message on its way in.
#[derive(Debug)]
pub(super) struct Header {
    place: Place,
    held: heapless::Vec<u8, NAME_OCTETS_MAX>,
    lacks: Lacks,
    has_field: bool,
    is_relayed: bool,
    was_completed: bool,
}

/// Where the next octet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the start of a line, or in what may be a field's name; what is held back is in front of it.
    Name,
    /// In a field, behind its name.
    Field,
    /// Behind the header section; or nobody wants it read.
    Body,
}

/// The fields that a message lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lacks {
    pub(super) date: bool,
    pub(super) message_id: bool,
    pub(super) from: bool,
    /// An empty line, which would end the header section.
    pub(super) separator: bool,
}

/// What is to be stored next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// As it came.
    Octets(&'a [u8]),
    /// These.
    Fields(Lacks),
}

impl Header {
    /// The header section of a message that is completed, or not.
    pub(super) const fn new(is_completed: bool) -> Self {
        Self {
            place: if is_completed { Place::Name } else { Place::Body },
            held: heapless::Vec::new(),
            lacks: Lacks { date: true, message_id: true, from: true, separator: false },
            has_field: false,
            is_relayed: false,
            was_completed: false,
        }
    }

    /// True when something was added.
    pub(super) fn was_completed(&self) -> bool {
        self.was_completed
    }

    /// Takes a run of the message and gives what is to be stored, in order.
    pub(super) fn take(&mut self, run: &[u8], store: &mut impl FnMut(Piece)) {
        let mut rest = run;
        while !rest.is_empty() {
            let taken = match self.place {
                Place::Body => {
                    store(Piece::Octets(rest));
                    return;
                }
                Place::Field => {
                    let end = rest.iter().position(|&octet| octet == b'\n').map(|at| at + 1);
                    if end.is_some() {
                        self.place = Place::Name;
                    }
                    let taken = end.unwrap_or(rest.len());
                    store(Piece::Octets(&rest[..taken]));
                    taken
                }
                Place::Name => self.name(rest[0], store),
            };
            rest = &rest[taken..];
        }
    }

    /// The message ends.
    pub(super) fn end(&mut self, store: &mut impl FnMut(Piece)) {
        if self.place != Place::Body {
            self.end_section(false, store);
        }
    }

    /// One octet of what may be a name: how many octets were taken.
    fn name(&mut self, octet: u8, store: &mut impl FnMut(Piece)) -> usize {
        let is_start = self.held.is_empty();
        let is_behind_space = matches!(self.held.last(), Some(b' ' | b'\t'));
        match octet {
            b'\r' if is_start => {
                self.end_section(false, store);
                return 0;
            }
            b' ' | b'\t' if is_start && self.has_field => {
                self.place = Place::Field;
                return 0;
            }
            b':' if !is_start => {
                self.field();
                store(Piece::Octets(&self.held));
                self.held.clear();
                self.place = Place::Field;
                return 0;
            }
            b' ' | b'\t' if !is_start => {}
            // Every registered name begins with a letter; a line that begins with a time of day is text.
            b'!'..=b'~'
                if !is_behind_space && (octet.is_ascii_alphabetic() || !is_start && octet != b':') => {}
            _ => {
                self.end_section(true, store);
                return 0;
            }
        }
        if self.held.push(octet).is_err() {
            self.end_section(true, store);
            return 0;
        }
        1
    }

    /// A field begins, whose name is held.
    fn field(&mut self) {
        let is = |name: &[u8]| self.held.trim_ascii_end().eq_ignore_ascii_case(name);
        self.lacks.date &= !is(b"Date");
        self.lacks.message_id &= !is(b"Message-ID");
        self.lacks.from &= !is(b"From");
        self.is_relayed |= is(b"Received");
        self.has_field = true;
    }

    /// What comes next is body, which an empty line must part from the fields.
    fn end_section(&mut self, is_unparted: bool, store: &mut impl FnMut(Piece)) {
        self.place = Place::Body;
        let lacks = Lacks { separator: is_unparted, ..self.lacks };
        let lacks_any = lacks.date || lacks.message_id || lacks.from || lacks.separator;
        if lacks_any && !self.is_relayed {
            self.was_completed = true;
            store(Piece::Fields(lacks));
        }
        if !self.held.is_empty() {
            store(Piece::Octets(&self.held));
            self.held.clear();
        }
    }
}

/// The missing fields with their values; its `Display` gives them as they are stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a, Id> {
    pub(super) lacks: Lacks,
    /// When it came, in seconds since 1970-01-01 00:00:00 UTC; none while nobody knows: then no Date is
    /// added.
    pub(super) arrival_unix_s: Option<u64>,
    pub(super) id: Id,
    pub(super) hostname: &'a str,
    /// The reverse-path, or the empty one.
    pub(super) reverse_path: &'a str,
}

impl<Id: fmt::Display> fmt::Display for Fields<'_, Id> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(unix_s) = self.arrival_unix_s
            && self.lacks.date
        {
            write!(f, "Date: {}\r\n", Date { unix_s })?;
        }
        if self.lacks.message_id {
            write!(f, "Message-ID: <{}@{}>\r\n", self.id, self.hostname)?;
        }
        if self.lacks.from && self.reverse_path.is_empty() {
            write!(f, "From: <postmaster@{}>\r\n", self.hostname)?;
        } else if self.lacks.from {
            write!(f, "From: <{}>\r\n", self.reverse_path)?;
        }
        if self.lacks.separator { f.write_str("\r\n") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message with `[..]` where fields are added, whatever the pieces that it comes in.
    fn completed(message: &str) -> String {
        let whole = in_pieces(message, message.len().max(1));
        for piece in 1..8 {
            assert_eq!(in_pieces(message, piece), whole, "{message:?} by {piece}");
        }
        whole
    }

    fn in_pieces(message: &str, piece: usize) -> String {
        let (mut header, mut stored) = (Header::new(true), String::new());
        let mut store = |piece: Piece| match piece {
            Piece::Octets(octets) => stored.push_str(core::str::from_utf8(octets).unwrap()),
            Piece::Fields(lacks) => {
                let letters = [(lacks.date, "D"), (lacks.message_id, "M"), (lacks.from, "F")];
                stored.push('[');
                letters
                    .into_iter()
                    .filter(|(lacks, _)| *lacks)
                    .for_each(|(_, letter)| stored.push_str(letter));
                stored.push_str(if lacks.separator { "]\r\n" } else { "]" });
            }
        };
        for run in message.as_bytes().chunks(piece) {
            header.take(run, &mut store);
        }
        header.end(&mut store);
        stored
    }

    #[test]
    fn what_is_missing_is_added_at_the_end_of_the_header_section() {
        assert_eq!(completed("Subject: x\r\n\r\nbody\r\n"), "Subject: x\r\n[DMF]\r\nbody\r\n");
        assert_eq!(completed("date: x\r\nFROM : y\r\n z\r\n\r\n"), "date: x\r\nFROM : y\r\n z\r\n[M]\r\n");
        let whole = "Date: a\r\nMessage-Id: b\r\nFrom: c\r\n\r\nDate\r\n";
        assert_eq!(completed(whole), whole);
        assert_eq!(completed("Subject: no body\r\n"), "Subject: no body\r\n[DMF]");
        assert_eq!(completed(""), "[DMF]");
    }

    #[test]
    fn a_body_is_parted_from_the_header_section() {
        assert_eq!(completed("disk full\r\n"), "[DMF]\r\ndisk full\r\n");
        assert_eq!(completed("\r\ndisk full\r\n"), "[DMF]\r\ndisk full\r\n");
        assert_eq!(completed(" disk: full\r\n"), "[DMF]\r\n disk: full\r\n");
        assert_eq!(completed(": x\r\n"), "[DMF]\r\n: x\r\n");
        assert_eq!(completed("12:30 alarm\r\n"), "[DMF]\r\n12:30 alarm\r\n");
        assert_eq!(completed("From me Mon\r\nDate: x\r\n"), "[DMF]\r\nFrom me Mon\r\nDate: x\r\n");
        assert_eq!(completed("Subject: x\r\ndisk full\r\n"), "Subject: x\r\n[DMF]\r\ndisk full\r\n");
        let long = format!("{}: x\r\n", "n".repeat(NAME_OCTETS_MAX + 1));
        assert_eq!(completed(&long), format!("[DMF]\r\n{long}"));
    }

    #[test]
    fn mail_from_elsewhere_stays_as_it_is() {
        for message in ["Received: x\r\n\r\nbody\r\n", "RECEIVED: x\r\nnonsense\r\n", "Received: x\r\n"] {
            assert_eq!(completed(message), message);
        }
    }

    #[test]
    fn the_fields_fit() {
        let lacks = Lacks { date: true, message_id: true, from: true, separator: true };
        let fields = Fields {
            lacks,
            arrival_unix_s: Some(1_795_510_800),
            id: "1-2a",
            hostname: "relay.lan",
            reverse_path: "a@b.c",
        };
        assert_eq!(
            fields.to_string(),
            "Date: Tue, 24 Nov 2026 09:00:00 +0000\r\nMessage-ID: <1-2a@relay.lan>\r\nFrom: <a@b.c>\r\n\r\n"
        );
        let fields = Fields { reverse_path: "", arrival_unix_s: None, ..fields };
        assert_eq!(
            fields.to_string(),
            "Message-ID: <1-2a@relay.lan>\r\nFrom: <postmaster@relay.lan>\r\n\r\n"
        );
        let (host, path) = ("d".repeat(DOMAIN_OCTETS_MAX), "p".repeat(PATH_OCTETS_MAX));
        let id = "f".repeat(ID_OCTETS_MAX);
        let fields =
            Fields { lacks, arrival_unix_s: Some(u64::MAX), id, hostname: &host, reverse_path: &path };
        assert_eq!(fields.to_string().len(), FIELDS_OCTETS_MAX);
    }
}
