//! What changes in a message's header section when it leaves: `sender.header_from`, and the Date of a message
//! that came while nobody had set the clock.
//!
//! The address in From becomes the configured one, and the device stays visible: its name and old address are
//! the display name, and replies go to that address where it is one that exists outside the site. A second
//! From and every Sender are left out, since a smarthost that wants a From of its own wants no other. All
//! else is octet-identical, the order of the fields too; what is added stands at the end of the section. Mail
//! is rewritten as it leaves, so that a changed setting serves the mail that waits already.
//!
//! The section is read in two passes, octet by octet in fixed memory: the first counts, for SIZE and BDAT,
//! the second writes, and both make the same octets. A section of more than [`SECTION_OCTETS_MAX`] leaves as
//! it came.

use core::fmt::Write as _;

use super::mail_data::octets;
use super::session::Session;
use crate::config::Config;
use crate::smtp::date::Date;
use crate::smtp::header::{self, HeaderSection, Names, Part};
use crate::smtp::originator::{ADDRESS_OCTETS_MAX, NAME_OCTETS_MAX, Originator};
use crate::smtp::path::{Mailbox, Utf8, is_local_domain};
use crate::spool::{Damage, Device, Envelope, Store};

/// Octets that one call of [`Rewriting::next`] takes at most.
pub(super) const TAKEN_OCTETS_MAX: usize = 128;
/// Octets that it gives at most: a field of ours, the name behind it, or what was taken.
pub(super) const GIVEN_OCTETS_MAX: usize = FIELD_OCTETS_MAX + TAKEN_OCTETS_MAX + header::NAME_OCTETS_MAX;
/// Octets of a header section beyond which it is not rewritten.
const SECTION_OCTETS_MAX: u64 = 256 * 1024;

/// Octets of a field of ours: a name and an address with each octet escaped, an address, folds and quotes.
const FIELD_OCTETS_MAX: usize = "Reply-To:\r\n".len() + 2 * WORDS_OCTETS_MAX + 16 * 4 + ADDRESS_OCTETS_MAX;
const WORDS_OCTETS_MAX: usize = NAME_OCTETS_MAX + ADDRESS_OCTETS_MAX + "\"\" ()".len();
/// Columns at which a field is folded where it can be (RFC 5322 2.1.1).
const COLUMNS: usize = 78;

/// What is to become of a header section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    header_from: Option<&'a str>,
    /// Of a Date, should there be none.
    date_unix_s: Option<u64>,
    /// Who stands for a From that is missing.
    reverse_path: &'a [u8],
    hostname: &'a str,
    utf8: Utf8,
}

/// A header section on its way out.
#[derive(Clone, Debug)]
pub(super) struct Rewriting {
    section: HeaderSection,
    changes: Changes,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Section,
    Adding(Addition),
    /// What was held back, and is body.
    Rest,
    Over,
}

/// What is added at the end of the section, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Addition {
    Date,
    From,
    ReplyTo,
    /// An empty line, where fields were set in front of a line that is none.
    Separator,
}

/// What becomes of the field that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Kept,
    LeftOut,
    /// The From field that is replaced.
    From {
        is_behind_colon: bool,
    },
}

#[derive(Clone, Debug)]
struct Changes {
    field: Field,
    from: Originator,
    has_from: bool,
    has_date: bool,
    has_reply_to: bool,
    is_relayed: bool,
    is_at_line_start: bool,
    is_unparted: bool,
    has_added: bool,
    is_changed: bool,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(envelope: &'a Envelope, date_unix_s: Option<u64>, config: &'a Config) -> Self {
        Self {
            header_from: config.sender_header_from.as_deref(),
            date_unix_s,
            reverse_path: &envelope.reverse_path,
            hostname: &config.hostname,
            utf8: if envelope.utf8 { Utf8::Accepted } else { Utf8::Refused },
        }
    }

    const fn is_anything(&self) -> bool {
        self.header_from.is_some() || self.date_unix_s.is_some()
    }
}

impl Session {
    /// Counts what leaves of the message that was just opened, and finds out whether it is rewritten. The
    /// recipients come next again.
    pub(super) fn measure<D: Device>(&mut self, config: &Config, spool: &mut Store<D>) -> Result<(), Damage> {
        let trace = super::mail_data::trace(&self.envelope, config, self.record.id);
        self.octets = self.record.octets.saturating_add(octets(&trace));
        self.is_rewritten = false;
        let wanted = Wanted::of(&self.envelope, self.date_unix_s, config);
        if !wanted.is_anything() {
            return Ok(());
        }
        while self.mail.next_recipient(spool)?.is_some() {}
        let mut rewriting = Rewriting::new();
        let (mut read, mut given) = (0, 0);
        while !rewriting.is_over() && read <= SECTION_OCTETS_MAX {
            let octets = self.mail.mail_data(spool)?;
            let taken = rewriting.next(&wanted, octets, &mut |octets| given += octets.len() as u64);
            self.mail.consume(taken);
            read += taken as u64;
        }
        self.is_rewritten = rewriting.is_over() && rewriting.changes.is_changed;
        if self.is_rewritten {
            self.octets = self.octets.saturating_sub(read).saturating_add(given);
        }
        let arrival = self.envelope.arrival;
        self.envelope = self.mail.open(spool, self.record.message)?;
        self.envelope.arrival = arrival;
        Ok(())
    }
}

impl Rewriting {
    pub(super) const fn new() -> Self {
        Self { section: HeaderSection::new(Names::Any), changes: Changes::NEW, place: Place::Section }
    }

    /// True when the section is over, and all of it and of what was taken behind it has been given.
    pub(super) fn is_over(&self) -> bool {
        self.place == Place::Over
    }

    /// Gives to `sink` what leaves next, and returns how many of `octets` were taken for it. They are what
    /// the message goes on with; empty: it has ended.
    pub(super) fn next(&mut self, wanted: &Wanted<'_>, octets: &[u8], sink: &mut impl FnMut(&[u8])) -> usize {
        match self.place {
            Place::Section => {
                let octets = &octets[..octets.len().min(TAKEN_OCTETS_MAX)];
                let (taken, part) =
                    if octets.is_empty() { (0, self.section.end()) } else { self.section.next(octets) };
                if matches!(part, Some(Part::End { .. })) {
                    self.place = Place::Adding(Addition::Date);
                }
                if let Some(part) = part {
                    self.changes.part(part, wanted, sink);
                }
                taken
            }
            Place::Adding(addition) => {
                self.changes.add(addition, wanted, sink);
                self.place = match addition {
                    Addition::Date => Place::Adding(Addition::From),
                    Addition::From => Place::Adding(Addition::ReplyTo),
                    Addition::ReplyTo => Place::Adding(Addition::Separator),
                    Addition::Separator => Place::Rest,
                };
                0
            }
            Place::Rest => {
                if let (_, Some(Part::Body(held))) = self.section.next(&[]) {
                    sink(held);
                }
                self.place = Place::Over;
                0
            }
            Place::Over => 0,
        }
    }
}

impl Changes {
    const NEW: Self = Self {
        field: Field::Kept,
        from: Originator::new(),
        has_from: false,
        has_date: false,
        has_reply_to: false,
        is_relayed: false,
        is_at_line_start: true,
        is_unparted: false,
        has_added: false,
        is_changed: false,
    };

    fn part(&mut self, part: Part<'_>, wanted: &Wanted<'_>, sink: &mut impl FnMut(&[u8])) {
        match part {
            Part::Name(name) => {
                self.end_field(wanted, sink);
                self.field = self.field(name.trim_ascii_end(), wanted);
                self.give_if_kept(name, sink);
            }
            Part::Field(octets) => {
                if let Field::From { is_behind_colon } = &mut self.field {
                    self.from.take(&octets[usize::from(!*is_behind_colon)..]);
                    *is_behind_colon = true;
                }
                self.give_if_kept(octets, sink);
            }
            Part::End { is_unparted } => {
                self.end_field(wanted, sink);
                self.is_unparted = is_unparted;
            }
            Part::Body(octets) => sink(octets),
        }
    }

    fn give_if_kept(&mut self, octets: &[u8], sink: &mut impl FnMut(&[u8])) {
        if self.field == Field::Kept {
            sink(octets);
            self.is_at_line_start = octets.ends_with(b"\n");
        }
    }

    /// What becomes of the field of this name.
    fn field(&mut self, name: &[u8], wanted: &Wanted<'_>) -> Field {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        self.has_date |= is(b"Date");
        self.has_reply_to |= is(b"Reply-To");
        self.is_relayed |= is(b"Received");
        let is_from = is(b"From");
        if wanted.header_from.is_none() || !is_from && !is(b"Sender") {
            return Field::Kept;
        }
        self.is_changed = true;
        if is_from && !core::mem::replace(&mut self.has_from, true) {
            Field::From { is_behind_colon: false }
        } else {
            Field::LeftOut
        }
    }

    fn end_field(&mut self, wanted: &Wanted<'_>, sink: &mut impl FnMut(&[u8])) {
        let field = core::mem::replace(&mut self.field, Field::Kept);
        if let (Field::From { .. }, Some(address)) = (field, wanted.header_from) {
            sink(&from_field(&self.from, address));
            self.is_at_line_start = true;
        }
    }

    fn add(&mut self, addition: Addition, wanted: &Wanted<'_>, sink: &mut impl FnMut(&[u8])) {
        let field = match (addition, wanted.header_from, wanted.date_unix_s) {
            // What was submitted elsewhere stays as it is (SUB-a).
            (Addition::Date, _, Some(unix_s)) if !self.has_date && !self.is_relayed => {
                let mut field = Line::new();
                write!(field, "Date: {}", Date { unix_s }).expect("a date fits");
                field.end()
            }
            (Addition::From, Some(address), _) if !self.has_from => {
                self.from = Originator::of_address(wanted.reverse_path);
                from_field(&self.from, address)
            }
            (Addition::ReplyTo, Some(address), _) if !self.has_reply_to => {
                let old = self.from.address();
                let Ok(mailbox) = Mailbox::parse(old, wanted.utf8) else { return };
                if is_local_domain(mailbox.domain(), wanted.hostname) || is_same(old, address) {
                    return;
                }
                let mut field = Line::new();
                field.push(b"Reply-To:");
                field.angle(mailbox.octets());
                field.end()
            }
            (Addition::Separator, ..) if self.is_unparted && self.has_added => {
                return sink(b"\r\n");
            }
            (Addition::Date | Addition::From | Addition::ReplyTo | Addition::Separator, ..) => return,
        };
        if !self.is_at_line_start {
            sink(b"\r\n");
        }
        sink(&field);
        self.is_at_line_start = true;
        self.has_added = true;
        self.is_changed = true;
    }
}

/// From with `address`, and the old name and address as its display name.
fn from_field(old: &Originator, address: &str) -> heapless::Vec<u8, FIELD_OCTETS_MAX> {
    let mut line = Line::new();
    line.push(b"From:");
    let mut quoted = Quoted::new();
    for word in old.name().split(|octet| *octet == b' ').filter(|word| !word.is_empty()) {
        if is_encoded_word(word) {
            line.token(&quoted.take());
            line.token(word);
        } else {
            quoted.word(&[], word, &[]);
        }
    }
    let old_address = old.address();
    let is_told = old_address.is_empty() || is_same(old_address, address) || is_same(old_address, old.name());
    match (is_told, old.name().is_empty()) {
        (true, _) => {}
        (false, true) => quoted.word(&[], old_address, &[]),
        (false, false) => quoted.word(b"(", old_address, b")"),
    }
    line.token(&quoted.take());
    line.angle(address.as_bytes());
    line.end()
}

/// True for the same address; who tells two mailboxes apart by the case of their letters?
fn is_same(address: &[u8], other: impl AsRef<[u8]>) -> bool {
    address.eq_ignore_ascii_case(other.as_ref())
}

/// True for an encoded word, which may not stand in quotes (RFC 2047 2, 5).
fn is_encoded_word(word: &[u8]) -> bool {
    let inner = word.strip_prefix(b"=?").and_then(|word| word.strip_suffix(b"?="));
    let Some(inner) = inner.filter(|_| word.len() <= 75) else { return false };
    let mut parts = inner.split(|octet| *octet == b'?');
    let [charset, encoding, text] = [parts.next(), parts.next(), parts.next()].map(Option::unwrap_or_default);
    let is_token = |octet: &u8| octet.is_ascii_graphic() && !b"()<>@,;:\"/[].=".contains(octet);
    // The characters that RFC 2047 5 (3) allows in a phrase.
    let is_text = |octet: &u8| octet.is_ascii_alphanumeric() || b"!*+-/=_".contains(octet);
    parts.next().is_none()
        && !charset.is_empty()
        && charset.iter().all(is_token)
        && matches!(encoding, b"B" | b"b" | b"Q" | b"q")
        && !text.is_empty()
        && text.iter().all(is_text)
}

/// A quoted string that grows by words (RFC 5322 3.2.4).
struct Quoted(heapless::Vec<u8, { 2 * WORDS_OCTETS_MAX }>);

impl Quoted {
    const fn new() -> Self {
        Self(heapless::Vec::new())
    }

    fn word(&mut self, start: &[u8], word: &[u8], end: &[u8]) {
        self.push(if self.0.is_empty() { b'"' } else { b' ' });
        start.iter().for_each(|octet| self.push(*octet));
        let (word, is_utf8) = match core::str::from_utf8(word) {
            Ok(_) => (word, true),
            // A character was cut.
            Err(fault) if fault.error_len().is_none() => (&word[..fault.valid_up_to()], true),
            Err(_) => (word, false),
        };
        for octet in word {
            if matches!(octet, b'"' | b'\\') {
                self.push(b'\\');
            }
            let is_shown = !octet.is_ascii_control() && (octet.is_ascii() || is_utf8);
            self.push(if is_shown { *octet } else { b'?' });
        }
        end.iter().for_each(|octet| self.push(*octet));
    }

    fn push(&mut self, octet: u8) {
        self.0.push(octet).expect("a name and an address fit, each octet escaped");
    }

    /// The string; empty when there was no word.
    fn take(&mut self) -> heapless::Vec<u8, { 2 * WORDS_OCTETS_MAX }> {
        let mut string = core::mem::take(&mut self.0);
        if !string.is_empty() {
            string.push(b'"').expect("a name and an address fit, each octet escaped");
        }
        string
    }
}

/// A field that is folded between tokens.
struct Line {
    octets: heapless::Vec<u8, FIELD_OCTETS_MAX>,
    column: usize,
}

impl Line {
    const fn new() -> Self {
        Self { octets: heapless::Vec::new(), column: 0 }
    }

    fn push(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets).expect("all that a field may have fits");
        self.column += octets.len();
    }

    /// A space or a fold, and the token behind it; nothing when that is empty.
    fn token(&mut self, token: &[u8]) {
        if token.is_empty() {
            return;
        }
        if self.column + 1 + token.len() > COLUMNS {
            self.push(b"\r\n");
            self.column = 0;
        }
        self.push(b" ");
        self.push(token);
    }

    fn angle(&mut self, address: &[u8]) {
        let mut token = heapless::Vec::<u8, { ADDRESS_OCTETS_MAX + 2 }>::new();
        for octets in [b"<", address, b">"] {
            token.extend_from_slice(octets).expect("an address has at most 254 octets");
        }
        self.token(&token);
    }

    fn end(mut self) -> heapless::Vec<u8, FIELD_OCTETS_MAX> {
        self.push(b"\r\n");
        self.octets
    }
}

impl core::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}
