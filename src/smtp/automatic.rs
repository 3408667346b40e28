//! Whether a message says in its header section that a machine wrote it in answer to others, as a notice
//! does: Auto-Submitted other than "no" (RFC 3834 5), multipart/report (RFC 3464 2), or the old habit
//! Precedence.
//!
//! The message comes in runs of any length. A value that is put unusually, with a comment in front, and a
//! header section beyond `OCTETS_MAX` count as automatic: where in doubt nobody is told, so that no loop
//! keeps going.
use super::header::{HeaderSection, Names, Part};

/// Octets of a header section that are looked through.
const OCTETS_MAX: u32 = 32 * 1024;
/// Octets of a value that are compared; the longest that is known is `multipart/report`.
const VALUE_OCTETS_MAX: usize = 24;

/// A field that tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    AutoSubmitted,
    ContentType,
    Precedence,
    Other,
}

/// The place in a header section that is looked through.
#[derive(Debug)]
pub struct Automatic {
    section: HeaderSection,
    field: Field,
    /// The first word of the field's value so far.
    value: heapless::Vec<u8, VALUE_OCTETS_MAX>,
    /// All of that word is there.
    is_value_whole: bool,
    octets: u32,
    verdict: Option<bool>,
}

impl Automatic {
    /// The start of a message.
    pub const fn new() -> Self {
        Self {
            section: HeaderSection::new(Names::Any),
            field: Field::Other,
            value: heapless::Vec::new(),
            is_value_whole: false,
            octets: 0,
            verdict: None,
        }
    }

    /// Looks through the next octets of the message, none at its end; `Some` as soon as it is clear.
    pub fn next(&mut self, mut octets: &[u8]) -> Option<bool> {
        if octets.is_empty() {
            self.judge_field();
            self.verdict.get_or_insert(false);
        }
        while self.verdict.is_none() && !octets.is_empty() {
            let (taken, part) = self.section.next(octets);
            match part {
                Some(Part::Name(name)) => {
                    let field = field(name.trim_ascii());
                    self.judge_field();
                    self.field = field;
                }
                Some(Part::Field(run)) => {
                    for octet in run {
                        let is_end = matches!(octet, b';' | b' ' | b'\t' | b'\r' | b'\n');
                        self.is_value_whole |= is_end && !self.value.is_empty();
                        if !is_end && !self.is_value_whole && *octet != b':' {
                            self.is_value_whole = self.value.push(octet.to_ascii_lowercase()).is_err();
                        }
                    }
                }
                Some(Part::End { .. } | Part::Body(_)) => {
                    self.judge_field();
                    self.verdict.get_or_insert(false);
                }
                None => {}
            }
            octets = &octets[taken..];
            self.octets = self.octets.saturating_add(u32::try_from(taken).unwrap_or(u32::MAX));
            if self.octets > OCTETS_MAX {
                self.verdict.get_or_insert(true);
            }
        }
        self.verdict
    }

    /// The field that was read has ended.
    fn judge_field(&mut self) {
        let value = self.value.as_slice();
        let is_automatic = match self.field {
            Field::AutoSubmitted => !value.is_empty() && value != b"no",
            Field::ContentType => value == b"multipart/report",
            Field::Precedence => matches!(value, b"bulk" | b"junk" | b"list"),
            Field::Other => false,
        };
        if is_automatic {
            self.verdict.get_or_insert(true);
        }
        self.field = Field::Other;
        self.value.clear();
        self.is_value_whole = false;
    }
}

impl Default for Automatic {
    fn default() -> Self {
        Self::new()
    }
}

fn field(name: &[u8]) -> Field {
    for (known, field) in [
        (&b"auto-submitted"[..], Field::AutoSubmitted),
        (b"content-type", Field::ContentType),
        (b"precedence", Field::Precedence),
    ] {
        if name.eq_ignore_ascii_case(known) {
            return field;
        }
    }
    Field::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_automatic(message: &str, piece: usize) -> bool {
        let mut automatic = Automatic::new();
        let told = message.as_bytes().chunks(piece).find_map(|run| automatic.next(run));
        told.or_else(|| automatic.next(b"")).expect("clear at the end")
    }

    /// C-4.5.4-a: what is a notice itself.
    #[test]
    fn fields_that_tell() {
        let long = format!("{}\r\n", format!("A: {}\r\n", "x".repeat(70)).repeat(500));
        for (message, expected) in [
            ("Auto-Submitted: auto-replied\r\n\r\n", true),
            ("A: b\r\nauto-submitted :\r\n auto-generated; x=y\r\n\r\nb\r\n", true),
            ("Auto-Submitted: (it is) auto-replied\r\n\r\n", true),
            ("AUTO-SUBMITTED:auto-replied", true),
            ("Auto-Submitted: No\r\n\r\n", false),
            ("Auto-Submitted: no; x=y\r\nA: b\r\n", false),
            ("Content-Type: Multipart/Report;\r\n report-type=delivery-status\r\n\r\n", true),
            ("Content-Type: multipart/reported\r\n\r\n", false),
            ("Content-Type: multipart/report-with-a-name-that-goes-on\r\n\r\n", false),
            ("Content-Type: text/plain; name=multipart/report\r\n\r\n", false),
            ("Precedence: junk\r\n\r\n", true),
            ("Precedence: bulk\r\n\r\n", true),
            ("Precedence: list\r\n\r\n", true),
            ("Precedence: first-class\r\n\r\n", false),
            ("Subject: x\r\n\r\nAuto-Submitted: auto-replied\r\n", false),
            ("Subject: Auto-Submitted: auto-replied\r\n\r\n", false),
            ("X-Auto-Submitted: auto-replied\r\n\r\n", false),
            ("a text\r\nPrecedence: junk\r\n", false),
            ("", false),
            (long.as_str(), true),
        ] {
            for piece in [1, 2, 3, 7, 4000] {
                assert_eq!(is_automatic(message, piece), expected, "{message:?} by {piece}");
            }
        }
    }
}
