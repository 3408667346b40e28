//! What comes on stdin as the lines of a message: any line end becomes CRLF, and a lone dot may end it.
//!
//! LF, CRLF, and CR alone (as progress bars leave it) end a line, and any CRs in front of an LF belong to it.
//! A last line without an end gets one. Dots are not undone here: stdin has no transparency.

/// The place in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    /// A dot was read at the start, and not written yet.
    Dot,
    Text,
    /// A CR was read, and not written yet.
    Cr,
    /// The message is over.
    Over,
}

/// Reads stdin as text.
#[derive(Debug)]
pub(super) struct Text {
    place: Place,
    /// A line of a dot is text.
    is_dot_text: bool,
}

impl Text {
    /// The start of a message.
    pub(super) const fn new(is_dot_text: bool) -> Self {
        Self { place: Place::Start, is_dot_text }
    }

    /// Appends `octets` to `lines`; false once the message is over, with whatever comes behind its dot
    /// dropped.
    pub(super) fn take(&mut self, octets: &[u8], lines: &mut Vec<u8>) -> bool {
        for &octet in octets {
            self.octet(octet, lines);
        }
        self.place != Place::Over
    }

    /// There are no more octets.
    pub(super) fn end(&mut self, lines: &mut Vec<u8>) {
        if !matches!(self.place, Place::Start | Place::Over) {
            self.octet(b'\n', lines);
        }
    }

    fn octet(&mut self, octet: u8, lines: &mut Vec<u8>) {
        if self.place == Place::Over {
            return;
        }
        if self.place == Place::Dot {
            if matches!(octet, b'\r' | b'\n') && !self.is_dot_text {
                self.place = Place::Over;
                return;
            }
            lines.push(b'.');
            self.place = Place::Text;
        }
        if self.place == Place::Cr && octet != b'\r' {
            lines.extend_from_slice(b"\r\n");
            self.place = Place::Start;
            if octet == b'\n' {
                return;
            }
        }
        self.place = match octet {
            b'\r' => Place::Cr,
            b'\n' => {
                lines.extend_from_slice(b"\r\n");
                Place::Start
            }
            b'.' if self.place == Place::Start => Place::Dot,
            _ => {
                lines.push(octet);
                Place::Text
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that comes out, whatever the pieces that it comes in.
    fn read(text: &str, is_dot_text: bool) -> String {
        let mut whole = None;
        for piece in 1..=text.len().max(1) {
            let (mut reader, mut lines) = (Text::new(is_dot_text), Vec::new());
            let is_over = !text.as_bytes().chunks(piece).all(|run| reader.take(run, &mut lines));
            reader.end(&mut lines);
            assert!(!is_over || !is_dot_text);
            let lines = String::from_utf8(lines).unwrap();
            assert_eq!(*whole.get_or_insert_with(|| lines.clone()), lines, "{text:?} by {piece}");
        }
        whole.unwrap()
    }

    /// SM-b.
    #[test]
    fn lines_end_in_crlf_and_a_lone_dot_ends_the_message() {
        for (text, lines) in [
            ("", ""),
            ("a\nb\n", "a\r\nb\r\n"),
            ("a\r\nb\r\n", "a\r\nb\r\n"),
            ("a\r\r\nb", "a\r\nb\r\n"),
            ("1%\r2%\rdone\n", "1%\r\n2%\r\ndone\r\n"),
            ("a\r", "a\r\n"),
            ("\n\r\n", "\r\n\r\n"),
            ("a\n.\nb\n", "a\r\n"),
            ("a\n.\r\nb\n", "a\r\n"),
            ("a\r.\rb", "a\r\n"),
            ("a\n.", "a\r\n"),
            ("a\n..\n.b\n .\n.", "a\r\n..\r\n.b\r\n .\r\n"),
        ] {
            assert_eq!(read(text, false), lines, "{text:?}");
        }
        assert_eq!(read("a\n.\nb\n..\n.", true), "a\r\n.\r\nb\r\n..\r\n.\r\n");
    }
}
