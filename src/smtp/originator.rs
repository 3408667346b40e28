//! Who a From field says that a message is from: the name and the address of its first mailbox (RFC 5322 3.4,
//! 3.6.2, RFC 6854).
//!
//! The field is read octet by octet into fixed memory, however long it is: a name is cut behind a word, an
//! address that is too long is none. Folding, comments, quoted strings, routes, groups and lists are read; a
//! field that follows no grammar gives the words that stand in it. A comment stands for a name that is
//! missing, as it did before names were invented.

/// Octets of a name, its words parted by single spaces.
pub const NAME_OCTETS_MAX: usize = 128;
/// Octets of an address.
pub const ADDRESS_OCTETS_MAX: usize = 254;

/// The first mailbox of a From field while it is read.
#[derive(Clone, Debug)]
pub struct Originator {
    place: Place,
    name: Words,
    comment: Words,
    address: heapless::Vec<u8, ADDRESS_OCTETS_MAX>,
    is_address_cut: bool,
    /// The address stands between angle brackets.
    has_angle: bool,
    /// An at sign stands outside of quotes, which tells an address from a name where there are no brackets.
    has_at: bool,
    is_in_group: bool,
    /// `name` is the group's: that of a mailbox in it is better.
    is_group_name: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Text,
    Quoted {
        is_escaped: bool,
        is_in_angle: bool,
    },
    Comment {
        depth: u8,
        is_escaped: bool,
        is_in_angle: bool,
    },
    Literal,
    Angle,
    /// Behind the angle brackets: comments only.
    Behind,
    Over,
}

/// Words with a space between.
#[derive(Clone, Debug)]
struct Words {
    octets: heapless::Vec<u8, NAME_OCTETS_MAX>,
    is_behind_space: bool,
    is_cut: bool,
}

impl Default for Originator {
    fn default() -> Self {
        Self::new()
    }
}

impl Originator {
    /// Nothing read yet.
    pub const fn new() -> Self {
        Self {
            place: Place::Text,
            name: Words::NEW,
            comment: Words::NEW,
            address: heapless::Vec::new(),
            is_address_cut: false,
            has_angle: false,
            has_at: false,
            is_in_group: false,
            is_group_name: false,
        }
    }

    /// One whose address is known without a field, and without a name.
    pub fn of_address(address: &[u8]) -> Self {
        let mut originator = Self { has_angle: true, place: Place::Over, ..Self::new() };
        originator.is_address_cut = originator.address.extend_from_slice(address).is_err();
        originator
    }

    /// Takes octets of the field behind its colon.
    pub fn take(&mut self, octets: &[u8]) {
        octets.iter().for_each(|octet| self.octet(*octet));
    }

    /// The name, not necessarily UTF-8; empty when there is none. To be asked when all is taken.
    pub fn name(&self) -> &[u8] {
        let is_address = !self.has_angle && self.has_at;
        if self.name.octets.is_empty() || is_address { &self.comment.octets } else { &self.name.octets }
    }

    /// The address, whether it is one or not; empty when there is none. To be asked when all is taken.
    pub fn address(&self) -> &[u8] {
        let is_there = !self.is_address_cut && (self.has_angle || self.has_at);
        if is_there { &self.address } else { &[] }
    }

    fn octet(&mut self, octet: u8) {
        match self.place {
            Place::Text => self.text(octet),
            Place::Quoted { is_escaped, is_in_angle } => self.quoted(octet, is_escaped, is_in_angle),
            Place::Comment { depth, is_escaped, is_in_angle } => {
                self.comment(octet, depth, is_escaped, is_in_angle);
            }
            Place::Literal => {
                self.name.push(octet);
                self.push_address(octet);
                if octet == b']' {
                    self.place = Place::Text;
                }
            }
            Place::Angle => self.angle(octet),
            Place::Behind => match octet {
                b'(' => self.place = Place::COMMENT,
                b',' | b';' => self.place = Place::Over,
                _ => {}
            },
            Place::Over => {}
        }
    }

    fn text(&mut self, octet: u8) {
        match octet {
            b'"' => {
                self.push_address(b'"');
                self.place = Place::Quoted { is_escaped: false, is_in_angle: false };
            }
            b'(' => {
                self.name.space();
                self.place = Place::COMMENT;
            }
            b'<' => {
                self.has_angle = true;
                self.address.clear();
                self.is_address_cut = false;
                self.place = Place::Angle;
            }
            b',' | b';' if self.address.is_empty() && !self.is_group_name => {}
            b',' | b';' => self.place = Place::Over,
            b':' if !self.has_at && !self.is_in_group => {
                self.is_in_group = true;
                self.is_group_name = true;
                self.address.clear();
                self.is_address_cut = false;
            }
            b'[' => {
                self.push_name(octet);
                self.push_address(octet);
                self.place = Place::Literal;
            }
            _ => {
                self.has_at |= octet == b'@';
                self.push_name(octet);
                if !is_space(octet) {
                    self.push_address(octet);
                }
            }
        }
    }

    fn quoted(&mut self, octet: u8, is_escaped: bool, is_in_angle: bool) {
        let is_end = octet == b'"' && !is_escaped;
        let is_escape = octet == b'\\' && !is_escaped;
        // What is folded is unfolded by leaving CR and LF out.
        if !matches!(octet, b'\r' | b'\n') {
            self.push_address(octet);
        }
        if !is_in_angle && !is_end && !is_escape {
            self.push_name(octet);
        }
        self.place = match (is_end, is_in_angle) {
            (true, true) => Place::Angle,
            (true, false) => Place::Text,
            (false, _) => Place::Quoted { is_escaped: is_escape, is_in_angle },
        };
    }

    fn comment(&mut self, octet: u8, depth: u8, is_escaped: bool, is_in_angle: bool) {
        let depth = match octet {
            _ if is_escaped => depth,
            b'(' => depth.saturating_add(1),
            b')' => depth - 1,
            _ => depth,
        };
        let is_escape = octet == b'\\' && !is_escaped;
        if depth == 0 {
            self.comment.space();
            self.place = match (is_in_angle, self.has_angle) {
                (true, _) => Place::Angle,
                (false, true) => Place::Behind,
                (false, false) => Place::Text,
            };
        } else {
            if !is_escape {
                self.comment.push(octet);
            }
            self.place = Place::Comment { depth, is_escaped: is_escape, is_in_angle };
        }
    }

    fn angle(&mut self, octet: u8) {
        match octet {
            b'>' => self.place = Place::Behind,
            b'(' => self.place = Place::Comment { depth: 1, is_escaped: false, is_in_angle: true },
            b'"' => {
                self.push_address(octet);
                self.place = Place::Quoted { is_escaped: false, is_in_angle: true };
            }
            // The end of a source route.
            b':' if self.address.first() == Some(&b'@') => self.address.clear(),
            _ if is_space(octet) => {}
            _ => self.push_address(octet),
        }
    }

    fn push_name(&mut self, octet: u8) {
        if self.is_group_name && !is_space(octet) {
            self.name = Words::NEW;
            self.is_group_name = false;
        }
        self.name.push(octet);
    }

    fn push_address(&mut self, octet: u8) {
        self.is_address_cut |= self.address.push(octet).is_err();
    }
}

impl Place {
    const COMMENT: Self = Self::Comment { depth: 1, is_escaped: false, is_in_angle: false };
}

impl Words {
    const NEW: Self = Self { octets: heapless::Vec::new(), is_behind_space: false, is_cut: false };

    fn space(&mut self) {
        self.is_behind_space = !self.octets.is_empty();
    }

    fn push(&mut self, octet: u8) {
        if self.is_cut {
            return;
        }
        if is_space(octet) {
            return self.space();
        }
        let has_space = core::mem::take(&mut self.is_behind_space);
        let is_pushed = (!has_space || self.octets.push(b' ').is_ok()) && self.octets.push(octet).is_ok();
        if !is_pushed {
            self.cut();
        }
    }

    /// There is no room for the word under way.
    fn cut(&mut self) {
        self.is_cut = true;
        let end = match self.octets.iter().rposition(|octet| *octet == b' ') {
            Some(space) => space,
            // One long word; but half an encoded word (RFC 2047) is none.
            None if self.octets.starts_with(b"=?") => 0,
            None => self.octets.len(),
        };
        self.octets.truncate(end);
    }
}

/// White space, and control octets, which have no place in a field.
const fn is_space(octet: u8) -> bool {
    octet.is_ascii_control() || octet == b' '
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(field: &str) -> (String, String) {
        let mut originator = Originator::new();
        originator.take(field.as_bytes());
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        (text(originator.name()), text(originator.address()))
    }

    #[test]
    fn mailboxes() {
        for (field, name, address) in [
            (" camera@localhost\r\n", "", "camera@localhost"),
            (" <camera@localhost>\r\n", "", "camera@localhost"),
            (" Front  Door\r\n\tCamera <camera@localhost>\r\n", "Front Door Camera", "camera@localhost"),
            (" \"Door, \\\"front\\\"\"<a@b.c>", "Door, \"front\"", "a@b.c"),
            (" a@b.c (Front (old) Door)", "Front (old) Door", "a@b.c"),
            (" (x) <a@b.c> (y)", "x y", "a@b.c"),
            (" J. Doe (me) <@r.x,@s.x:a(c)@\r\n b.c> (y), d@e.f", "J. Doe", "a@b.c"),
            (" a . b @ c . d", "", "a.b@c.d"),
            (" \"a b\"@c.d", "", "\"a b\"@c.d"),
            (" <\"a>b\"@c.d>", "", "\"a>b\"@c.d"),
            (" a@[IPv6:::1]", "", "a@[IPv6:::1]"),
            (" ,, a@b.c, d@e.f", "", "a@b.c"),
            (" Cameras: \"Front\" <a@b.c>, d@e.f;", "Front", "a@b.c"),
            (" Cameras: a@b.c, d@e.f;", "", "a@b.c"),
            (" Cameras:;", "Cameras", ""),
            (" Cameras: ;, a@b.c", "Cameras", ""),
            (" Cameras: <a@b.c>;", "Cameras", "a@b.c"),
            (" camera", "camera", ""),
            (" Front Door <camera>", "Front Door", "camera"),
            (" <>", "", ""),
            ("", "", ""),
            (
                " =?utf-8?q?T=C3=BCr?=\r\n =?utf-8?q?_1?= <a@b.c>",
                "=?utf-8?q?T=C3=BCr?= =?utf-8?q?_1?=",
                "a@b.c",
            ),
            (" <a@b.c", "", "a@b.c"),
            (" \"never closed <a@b.c>", "never closed <a@b.c>", ""),
            (" (never closed <a@b.c>", "never closed <a@b.c>", ""),
            (" T\u{fc}r <a@b.c>", "T\u{fc}r", "a@b.c"),
            (" ) ] > \\ x", ") ] > \\ x", ""),
        ] {
            let expected = (name.to_string(), address.to_string());
            assert_eq!(read(field), expected, "{field:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_at_a_word_or_left_out() {
        let words = "word ".repeat(100);
        let (name, address) = read(&format!("{words}<a@b.c>"));
        assert_eq!((name.trim_end_matches(" word"), address.as_str()), ("word", "a@b.c"));
        assert!((NAME_OCTETS_MAX - 5..=NAME_OCTETS_MAX).contains(&name.len()));
        assert_eq!(read(&format!("{} <a@b.c>", "x".repeat(500))).0, "x".repeat(NAME_OCTETS_MAX));
        assert_eq!(read(&format!("=?utf-8?q?{}?= <a@b.c>", "x".repeat(500))).0, "");
        assert_eq!(read(&format!("x <{}@b.c>", "a".repeat(251))), ("x".to_string(), String::new()));
        let many = format!(" x <a@b.c>{}", ", d@e.f".repeat(10_000));
        assert_eq!(read(&many), ("x".to_string(), "a@b.c".to_string()));
    }
}
