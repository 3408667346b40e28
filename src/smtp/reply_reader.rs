//! Reads a server's replies as they come in pieces (RFC 5321 4.2 and 4.2.1): from octets to lines with a
//! code.
//!
//! Only the code decides; the text may be anything, or missing, and a bare code is a whole line. A reply may
//! have many lines and a line may be longer than any buffer: what is kept is the code and the first
//! [`REPLY_TEXT_OCTETS_MAX`] octets of one line, control octets replaced, so that no peer can write its own
//! lines into a log or a notice. A line that ends in a bare LF is taken.
//!
//! Malformed is a line that does not start with a code of 200 to 599, a code that changes within a reply, and
//! a reply that doesn't end within [`REPLY_OCTETS_MAX`]. What a code means in a given state is not judged
//! here.
use crate::buffer::Buffer;
use crate::limits::REPLY_TEXT_OCTETS_MAX;

/// Octets of one reply, all its lines together, beyond which it is malformed. Memory does not depend on it.
pub const REPLY_OCTETS_MAX: usize = 1024 * 1024;

/// The octets are no reply. There is no place to go on from: the session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// One line was read; [`ReplyReader::code`] and [`ReplyReader::text`] are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyLine {
    /// The first of several lines.
    First,
    /// A line after the first, with more to follow.
    Middle,
    /// The last of several lines: the reply is whole.
    Last,
    /// The one line of a whole reply.
    Only,
}

impl ReplyLine {
    /// True when the reply ends with this line.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Last | Self::Only)
    }
}

/// What a reply code means by its first digit (RFC 5321 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// 2yz.
    Completion,
    /// 3yz.
    Intermediate,
    /// 4yz.
    Transient,
    /// 5yz.
    Permanent,
}

/// Where in a line the reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// So many digits of the code have been read.
    Code(u8),
    /// Behind the code.
    Separator,
    /// In the text.
    Text {
        /// No hyphen followed the code.
        is_last: bool,
    },
}

/// The reader; one for each connection.
#[derive(Debug)]
pub struct ReplyReader {
    place: Place,
    /// The code of this line as far as it was read.
    code: u16,
    /// The code of the lines before; 0 in the first line.
    code_before: u16,
    /// Octets of the reply so far.
    octets: usize,
    /// Octets of this line's text, kept or not.
    text_octets: usize,
    text: heapless::Vec<u8, REPLY_TEXT_OCTETS_MAX>,
}

impl Default for ReplyReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyReader {
    /// A reader at the start of a reply.
    pub const fn new() -> Self {
        Self {
            place: Place::Code(0),
            code: 0,
            code_before: 0,
            octets: 0,
            text_octets: 0,
            text: heapless::Vec::new(),
        }
    }

    /// Forgets what was read of a reply: a new connection begins.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// True when no octet of a next reply has been read.
    pub fn is_between_replies(&self) -> bool {
        self.octets == 0
    }

    /// The code of the line that was read last, 200 to 599.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The severity of [`ReplyReader::code`], of which a whole line must have been read.
    pub fn severity(&self) -> Severity {
        match self.code / 100 {
            2 => Severity::Completion,
            3 => Severity::Intermediate,
            4 => Severity::Transient,
            5 => Severity::Permanent,
            other => unreachable!("no code of {other}yz is read"),
        }
    }

    /// The text of the line that was read last, cut to [`REPLY_TEXT_OCTETS_MAX`] octets, without control
    /// octets.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Takes octets off `input` up to the end of one line; `None` when all were taken and the line goes on.
    pub fn read(&mut self, input: &mut Buffer<'_>) -> Result<Option<ReplyLine>, Malformed> {
        let mut taken = 0;
        let mut line = None;
        let octets = input.octets();
        while line.is_none() && taken < octets.len() {
            let rest = &octets[taken..];
            let used = match self.place {
                Place::Code(digits) => {
                    self.code_digit(digits, rest[0])?;
                    1
                }
                Place::Separator => self.separator(rest[0])?,
                Place::Text { is_last } => match rest.iter().position(|octet| *octet == b'\n') {
                    Some(end) => {
                        self.keep(&rest[..end]);
                        line = Some(self.end_line(is_last)?);
                        end + 1
                    }
                    None => {
                        self.keep(rest);
                        rest.len()
                    }
                },
            };
            taken += used;
            self.octets += used;
            if self.octets > REPLY_OCTETS_MAX {
                return Err(Malformed);
            }
        }
        input.consume(taken);
        if line.is_some_and(ReplyLine::is_end) {
            self.octets = 0;
            self.code_before = 0;
        }
        Ok(line)
    }

    fn code_digit(&mut self, digits: u8, octet: u8) -> Result<(), Malformed> {
        let lowest = if digits == 0 { b'2' } else { b'0' };
        let highest = if digits == 0 { b'5' } else { b'9' };
        if octet < lowest || octet > highest {
            return Err(Malformed);
        }
        if digits == 0 {
            self.code = 0;
            self.text.clear();
            self.text_octets = 0;
        }
        self.code = self.code * 10 + u16::from(octet - b'0');
        self.place = if digits == 2 { Place::Separator } else { Place::Code(digits + 1) };
        Ok(())
    }

    /// Takes one octet behind the code, or none when the code is all there is of the line.
    fn separator(&mut self, octet: u8) -> Result<usize, Malformed> {
        let used = match octet {
            b' ' | b'-' | b'\t' => 1,
            b'\r' | b'\n' => 0,
            _ => return Err(Malformed),
        };
        self.place = Place::Text { is_last: octet != b'-' };
        Ok(used)
    }

    fn keep(&mut self, text: &[u8]) {
        self.text_octets += text.len();
        let kept = text.len().min(REPLY_TEXT_OCTETS_MAX - self.text.len());
        self.text.extend_from_slice(&text[..kept]).expect("cut to the room there is");
    }

    fn end_line(&mut self, is_last: bool) -> Result<ReplyLine, Malformed> {
        let is_first = self.code_before == 0;
        if !is_first && self.code != self.code_before {
            return Err(Malformed);
        }
        self.code_before = self.code;
        self.place = Place::Code(0);
        if self.text_octets == self.text.len() && self.text.last() == Some(&b'\r') {
            self.text.pop();
        }
        for octet in self.text.iter_mut().filter(|octet| octet.is_ascii_control()) {
            *octet = if *octet == b'\t' { b' ' } else { b'?' };
        }
        Ok(match (is_last, is_first) {
            (true, true) => ReplyLine::Only,
            (true, false) => ReplyLine::Last,
            (false, true) => ReplyLine::First,
            (false, false) => ReplyLine::Middle,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Window;

    type Lines = Result<Vec<(ReplyLine, u16, Vec<u8>)>, Malformed>;

    /// Reads `octets`, handed over in pieces of `piece` octets.
    fn lines(octets: &[u8], piece: usize) -> Lines {
        let mut reader = ReplyReader::new();
        let mut lines = Vec::new();
        let (mut space, mut window) = (vec![0; piece], Window::default());
        for piece in octets.chunks(piece) {
            let mut input = Buffer::new(&mut space, &mut window);
            input.append(piece);
            while let Some(line) = reader.read(&mut input)? {
                lines.push((line, reader.code(), reader.text().to_vec()));
            }
            assert!(input.is_empty());
        }
        Ok(lines)
    }

    fn at_every_split(octets: &[u8]) -> Lines {
        let whole = lines(octets, octets.len());
        for piece in 1..octets.len() {
            assert_eq!(lines(octets, piece), whole, "pieces of {piece}");
        }
        whole
    }

    /// C-4.2-a, C-4.2-b: any text, no text, a bare code, an unlisted code; each at every split.
    #[test]
    fn only_the_code_decides() {
        use ReplyLine::{First, Last, Middle, Only};
        let read = at_every_split(
            b"250-a b\r\n250-\r\n250-234 c\r\n250 d\r\n354\r\n299 \r\n499 x\n250\n599\tt\x1b[2Jq\rz\r\n",
        );
        let expected: Vec<(ReplyLine, u16, &[u8])> = vec![
            (First, 250, b"a b"),
            (Middle, 250, b""),
            (Middle, 250, b"234 c"),
            (Last, 250, b"d"),
            (Only, 354, b""),
            (Only, 299, b""),
            (Only, 499, b"x"),
            (Only, 250, b""),
            (Only, 599, b"t?[2Jq?z"),
        ];
        let expected: Vec<_> =
            expected.into_iter().map(|(line, code, text)| (line, code, text.to_vec())).collect();
        assert_eq!(read, Ok(expected));
    }

    /// C-4.2-d, SEC-cli-a: 1yz, 6yz and above, no code, and a code that changes within a reply.
    #[test]
    fn what_is_no_reply_is_malformed() {
        for octets in [
            "150 a\r\n",
            "650 a\r\n",
            "hello\r\n",
            "\r\n",
            "25\r\n",
            "2 50\r\n",
            "250-a\r\n251 b\r\n",
            "\0",
            "2500 a\r\n",
        ] {
            assert_eq!(at_every_split(octets.as_bytes()), Err(Malformed), "{octets:?}");
        }
    }

    /// C-4.2-e: a line of any length is survived, its text cut at the bound, with and without CR there.
    #[test]
    fn long_lines_are_cut() {
        for octets in [249, 250, 251, 70_000] {
            for ending in ["\r\n", "\n"] {
                let line = format!("250 {}{ending}", "x".repeat(octets));
                let read = lines(line.as_bytes(), 999).unwrap();
                assert_eq!(read, [(ReplyLine::Only, 250, vec![b'x'; octets.min(REPLY_TEXT_OCTETS_MAX)])]);
            }
        }
    }

    /// C-4.2-e: many lines are read to the last one; a reply without end is given up.
    #[test]
    fn a_reply_has_many_lines_but_an_end() {
        let many = "250-line\r\n".repeat(100_000) + "250 end\r\n";
        assert_eq!(lines(many.as_bytes(), 2048).unwrap().len(), 100_001);
        assert_eq!(lines("250-line\r\n".repeat(110_000).as_bytes(), 2048), Err(Malformed));
        assert_eq!(lines(&[b'2'; 3], 1).unwrap(), []);
        let mut endless = b"250 ".to_vec();
        endless.resize(REPLY_OCTETS_MAX + 1, b'x');
        assert_eq!(lines(&endless, 2048), Err(Malformed));
    }
}
