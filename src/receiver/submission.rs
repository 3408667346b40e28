//! What a message of our own devices lacks: Date, Message-ID, From, and the empty line in front of a body
//! that has no header section (RFC 6409 8, RFC 5322 3.6).
//!
//! Fields that are missing are set at the end of the header section. Nothing that is there is changed. Mail
//! that has a Received field was submitted elsewhere and stays as it is. While nobody has set the clock a
//! missing Date is left to the message's way out, when the time may be known.

use core::fmt;

use crate::limits::{DOMAIN_OCTETS_MAX, PATH_OCTETS_MAX};
use crate::smtp::date::{DATE_OCTETS, Date};
use crate::smtp::header::{HeaderSection, Names, Part};

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
    /// None: nobody wants it read.
    section: Option<HeaderSection>,
    lacks: Lacks,
    is_relayed: bool,
    was_completed: bool,
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
    pub(super) fn new(is_completed: bool) -> Self {
        Self {
            section: is_completed.then(|| HeaderSection::new(Names::Usual)),
            lacks: Lacks { date: true, message_id: true, from: true, separator: false },
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
        let Some(mut section) = self.section.take() else { return store(Piece::Octets(run)) };
        let mut rest = run;
        loop {
            let (taken, part) = section.next(rest);
            rest = &rest[taken..];
            let Some(part) = part else { break };
            self.part(part, store);
        }
        self.section = Some(section);
    }

    /// The message ends.
    pub(super) fn end(&mut self, store: &mut impl FnMut(Piece)) {
        let Some(mut section) = self.section.take() else { return };
        while let Some(part) = section.end() {
            self.part(part, store);
        }
    }

    fn part(&mut self, part: Part<'_>, store: &mut impl FnMut(Piece)) {
        match part {
            Part::Name(name) => {
                self.field(name.trim_ascii_end());
                store(Piece::Octets(name));
            }
            Part::Field(octets) | Part::Body(octets) => store(Piece::Octets(octets)),
            Part::End { is_unparted } => {
                let lacks = Lacks { separator: is_unparted, ..self.lacks };
                let lacks_any = lacks.date || lacks.message_id || lacks.from || lacks.separator;
                if lacks_any && !self.is_relayed {
                    self.was_completed = true;
                    store(Piece::Fields(lacks));
                }
            }
        }
    }

    fn field(&mut self, name: &[u8]) {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        self.lacks.date &= !is(b"Date");
        self.lacks.message_id &= !is(b"Message-ID");
        self.lacks.from &= !is(b"From");
        self.is_relayed |= is(b"Received");
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
        let long = format!("{}: x\r\n", "n".repeat(79));
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
