//! Where a message's header section ends, and where each of its fields begins (RFC 5322 2.2, 3.6).
//!
//! The message comes in runs of any length, and all of it is given back in order: only the start of a line,
//! as long as it may be a field's name, is held back. A line that is neither a field nor the rest of one ends
//! the section, as an empty line does: what comes next is body. White space in front of the colon is an old
//! habit that is read (RFC 5322 4.5).

/// Octets of a field's name that are held back; RFC 5322 knows none of more than 30.
pub const NAME_OCTETS_MAX: usize = 78;

/// Which lines are taken for fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Those whose name begins with a letter, as every registered name does, and is short: a text that begins
    /// with a time of day is none.
    Usual,
    /// All that RFC 5322 2.2 allows.
    Any,
}

/// What comes next of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A field begins; its name, without the colon. White space may stand behind it.
    Name(&'a [u8]),
    /// Octets of that field, from the colon on.
    Field(&'a [u8]),
    /// The header section has ended; told once.
    End {
        /// No empty line parts it from what comes next.
        is_unparted: bool,
    },
    /// Octets behind the header section.
    Body(&'a [u8]),
}

/// The place in a message on its way from the header section to the body.
#[derive(Clone, Debug)]
pub struct HeaderSection {
    names: Names,
    place: Place,
    held: heapless::Vec<u8, NAME_OCTETS_MAX>,
    /// What was held has been given.
    is_given: bool,
    has_field: bool,
}

/// Where the next octet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the start of a line, or in what may be a field's name; what is held back is in front of it.
    Name,
    /// In a field, behind its name.
    Field,
    /// Behind the header section.
    Body,
}

/// What one octet at the start of a line shows.
enum Shown {
    MayBeName,
    Field,
    MoreOfField,
    End { is_unparted: bool },
}

impl HeaderSection {
    /// The start of a message.
    pub const fn new(names: Names) -> Self {
        let held = heapless::Vec::new();
        Self { names, place: Place::Name, held, is_given: false, has_field: false }
    }

    /// The next part, and how many of `octets` were taken for it or held back. `None`: all were, and there is
    /// no part yet.
    pub fn next<'a>(&'a mut self, octets: &'a [u8]) -> (usize, Option<Part<'a>>) {
        if self.is_given {
            self.held.clear();
            self.is_given = false;
        }
        let mut taken = 0;
        loop {
            let rest = &octets[taken..];
            if self.place == Place::Body && !self.held.is_empty() {
                self.is_given = true;
                return (taken, Some(Part::Body(&self.held)));
            }
            if rest.is_empty() {
                return (taken, None);
            }
            match self.place {
                Place::Body => return (octets.len(), Some(Part::Body(rest))),
                Place::Field => {
                    let end = rest.iter().position(|octet| *octet == b'\n').map(|at| at + 1);
                    if end.is_some() {
                        self.place = Place::Name;
                    }
                    let run = &rest[..end.unwrap_or(rest.len())];
                    return (taken + run.len(), Some(Part::Field(run)));
                }
                Place::Name => match self.name(rest[0]) {
                    Shown::MayBeName => taken += 1,
                    Shown::MoreOfField => self.place = Place::Field,
                    Shown::Field => {
                        self.place = Place::Field;
                        self.has_field = true;
                        self.is_given = true;
                        return (taken, Some(Part::Name(&self.held)));
                    }
                    Shown::End { is_unparted } => {
                        self.place = Place::Body;
                        return (taken, Some(Part::End { is_unparted }));
                    }
                },
            }
        }
    }

    /// The message has ended: what is still to be told, a part a call, until `None`.
    pub fn end(&mut self) -> Option<Part<'_>> {
        if self.place == Place::Body {
            return self.next(&[]).1;
        }
        if self.is_given {
            self.held.clear();
            self.is_given = false;
        }
        self.place = Place::Body;
        Some(Part::End { is_unparted: !self.held.is_empty() })
    }

    /// Judges one octet at the start of a line, and holds it back if it may belong to a name.
    fn name(&mut self, octet: u8) -> Shown {
        let is_start = self.held.is_empty();
        let is_behind_space = matches!(self.held.last(), Some(b' ' | b'\t'));
        let may_begin = self.names == Names::Any || octet.is_ascii_alphabetic();
        match octet {
            b'\r' if is_start => return Shown::End { is_unparted: false },
            b' ' | b'\t' if is_start && self.has_field => return Shown::MoreOfField,
            b':' if !is_start => return Shown::Field,
            b' ' | b'\t' if !is_start => {}
            b'!'..=b'~' if !is_behind_space && octet != b':' && (may_begin || !is_start) => {}
            _ => return Shown::End { is_unparted: true },
        }
        if self.held.push(octet).is_ok() {
            return Shown::MayBeName;
        }
        // Such a name is none that anybody looks for.
        let is_field = self.names == Names::Any && self.has_field && !is_behind_space;
        if is_field { Shown::Field } else { Shown::End { is_unparted: true } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of `message`, a letter in front of each, whatever the pieces that it comes in.
    fn parts(message: &str, names: Names) -> String {
        let whole = in_pieces(message, names, message.len().max(1));
        for piece in 1..8 {
            assert_eq!(in_pieces(message, names, piece), whole, "{message:?} by {piece}");
        }
        whole
    }

    fn in_pieces(message: &str, names: Names, piece: usize) -> String {
        let (mut section, mut parts, mut all) = (HeaderSection::new(names), String::new(), String::new());
        let mut show = |part: Part<'_>| {
            let (letter, octets) = match part {
                Part::Name(octets) => ("N", octets),
                Part::Field(octets) => ("F", octets),
                Part::Body(octets) => ("B", octets),
                Part::End { is_unparted } => (if is_unparted { "U" } else { "E" }, &b""[..]),
            };
            if letter == "N" || !parts.ends_with(letter) {
                parts.push_str(letter);
            }
            all.push_str(core::str::from_utf8(octets).unwrap());
        };
        for mut run in message.as_bytes().chunks(piece) {
            loop {
                let (taken, part) = section.next(run);
                run = &run[taken..];
                let Some(part) = part else { break };
                show(part);
            }
            assert!(run.is_empty());
        }
        while let Some(part) = section.end() {
            show(part);
        }
        assert_eq!(all, message, "all of it is given back");
        parts
    }

    #[test]
    fn a_header_section_ends_where_its_fields_do() {
        for (message, expected) in [
            ("Subject: x\r\nTo : y\r\n z\r\n\r\nbody: x\r\n", "NFNFEB"),
            ("Subject: x\r\n", "NFE"),
            ("Subject: x", "NFE"),
            ("Subject:", "NFE"),
            ("", "E"),
            ("\r\nbody\r\n", "EB"),
            ("Subject", "UB"),
            ("Subject: x\r\nbody text: x\r\n", "NFUB"),
            (" Subject: x\r\n", "UB"),
            (": x\r\n", "UB"),
        ] {
            assert_eq!(parts(message, Names::Usual), expected, "{message:?}");
            assert_eq!(parts(message, Names::Any), expected, "{message:?}");
        }
    }

    #[test]
    fn unusual_names_are_a_matter_of_choice() {
        let long = format!("A: x\r\n{}: x\r\nB: y\r\n\r\n", "n".repeat(NAME_OCTETS_MAX + 1));
        for (message, usual, any) in [
            ("12:30 alarm\r\n", "UB", "NFE"),
            ("A: x\r\n_b: y\r\n\r\n", "NFUB", "NFNFEB"),
            (long.as_str(), "NFUB", "NFNFNFEB"),
        ] {
            assert_eq!(parts(message, Names::Usual), usual, "{message:?}");
            assert_eq!(parts(message, Names::Any), any, "{message:?}");
        }
    }
}
