//! Transparency on the way out (RFC 5321 4.5.2): each line that starts with a dot gets one more, and
//! `CRLF.CRLF` ends the mail data.
//!
//! Mail data comes in runs of any length and goes into a buffer of any room; the place in the line is carried
//! over from one to the next. A dot behind a bare LF is doubled too: such a line never comes out of the
//! spool, but if one did, no server could take what follows for the end of the mail data.
use crate::buffer::Buffer;

/// The end of what has been taken so far, as far as it matters for the octet that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    /// CRLF, or nothing yet: a line starts.
    Crlf,
    /// A bare LF.
    Lf,
    /// CR.
    Cr,
    /// Anything else.
    Text,
}

/// The place in a message's mail data on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Stuffing {
    tail: Tail,
}

impl Default for Stuffing {
    fn default() -> Self {
        Self::new()
    }
}

impl Stuffing {
    /// The start of mail data, or behind a header field that was written in front of it.
    pub const fn new() -> Self {
        Self { tail: Tail::Crlf }
    }

    /// Appends `mail_data` to `output`, dots doubled, as far as there is room; returns how many octets of
    /// `mail_data` that were.
    pub fn append(&mut self, mail_data: &[u8], output: &mut Buffer<'_>) -> usize {
        let mut space = output.space();
        let room = space.len();
        let mut taken = 0;
        while taken < mail_data.len() {
            let is_line_start = matches!(self.tail, Tail::Crlf | Tail::Lf);
            if is_line_start && mail_data[taken] == b'.' {
                let Some(dots) = space.get_mut(..2) else { break };
                dots.copy_from_slice(b"..");
                space = &mut space[2..];
                taken += 1;
                self.tail = Tail::Text;
                continue;
            }
            // All up to the next line that starts with a dot is copied as it is.
            let rest = &mail_data[taken..];
            let run = rest.windows(2).position(|pair| pair == b"\n.").map_or(rest.len(), |end| end + 1);
            let run = &rest[..run.min(space.len())];
            if run.is_empty() {
                break;
            }
            space[..run.len()].copy_from_slice(run);
            space = &mut space[run.len()..];
            taken += run.len();
            self.tail = self.tail.after(run);
        }
        let filled = room - space.len();
        output.filled(filled);
        taken
    }

    /// Appends the end of mail data, with the CRLF in front of it that the last line may lack; false, and
    /// nothing appended, when there is no room for all of it.
    pub fn end(&mut self, output: &mut Buffer<'_>) -> bool {
        let end: &[u8] = match self.tail {
            Tail::Crlf => b".\r\n",
            Tail::Cr => b"\n.\r\n",
            Tail::Lf | Tail::Text => b"\r\n.\r\n",
        };
        if output.room() < end.len() {
            return false;
        }
        output.append(end);
        true
    }
}

impl Tail {
    /// The tail after `run` was taken, which is not empty.
    fn after(self, run: &[u8]) -> Self {
        match run {
            [.., b'\r', b'\n'] => Self::Crlf,
            [b'\n'] if self == Self::Cr => Self::Crlf,
            [.., b'\n'] => Self::Lf,
            [.., b'\r'] => Self::Cr,
            _ => Self::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Window;

    /// Sends `mail_data` in runs of `run` octets through a buffer of `room` octets.
    fn stuff(mail_data: &[u8], run: usize, room: usize) -> Vec<u8> {
        let mut stuffing = Stuffing::new();
        let mut sent = Vec::new();
        let (mut space, mut window) = (vec![0; room], Window::default());
        let mut flush = |output: &mut Buffer<'_>| {
            sent.extend_from_slice(output.octets());
            output.clear();
        };
        let mut output = Buffer::new(&mut space, &mut window);
        for mut rest in mail_data.chunks(run) {
            while !rest.is_empty() {
                let taken = stuffing.append(rest, &mut output);
                rest = &rest[taken..];
                flush(&mut output);
            }
        }
        while !stuffing.end(&mut output) {
            flush(&mut output);
        }
        flush(&mut output);
        sent
    }

    /// What a server makes of it (RFC 5321 4.5.2): lines up to the single dot, one leading dot taken off
    /// each.
    fn unstuff(sent: &[u8]) -> Vec<u8> {
        let mut lines = sent.split_inclusive(|octet| *octet == b'\n');
        let mut mail_data = Vec::new();
        for line in lines.by_ref() {
            if line == b".\r\n" {
                break;
            }
            mail_data.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        assert_eq!(lines.next(), None, "something stands behind the end of mail data");
        mail_data
    }

    /// C-4.5.2-a, C-4.1.1.4-b: at every length of run and every room there is.
    #[test]
    fn a_server_gets_what_was_stored() {
        let cases: [&[u8]; 9] = [
            b"",
            b"a\r\n",
            b".\r\n",
            b"..\r\n.\r\n...\r\n",
            b".a\r\n\r\n.\r\nb.\r\n.c.\r\n",
            b"a\r\n.\r\nQUIT\r\n",
            b"\r\n\r\n.\r\n",
            b"a.b.\r\n.",
            b"no end",
        ];
        for mail_data in cases {
            let mut expected = mail_data.to_vec();
            if !mail_data.is_empty() && !mail_data.ends_with(b"\r\n") {
                expected.extend_from_slice(b"\r\n");
            }
            for run in 1..=mail_data.len().max(1) {
                for room in 5..24 {
                    let sent = stuff(mail_data, run, room);
                    assert_eq!(unstuff(&sent), expected, "run {run}, room {room}");
                    assert_eq!(sent, stuff(mail_data, 1000, 1000));
                }
            }
        }
    }

    /// C-2.3.8-b (second line of defence): a bare LF in front of a dot does not make an end of mail data.
    #[test]
    fn no_end_of_mail_data_inside() {
        for mail_data in [&b"a\n.\r\nMAIL FROM:<x>\r\n"[..], b"a\n.\nb\n", b"a\r", b"a\r\r\n.\r\n"] {
            for run in 1..=mail_data.len() {
                let sent = stuff(mail_data, run, 64);
                let inside = &sent[..sent.len() - 3];
                assert!(sent.ends_with(b"\r\n.\r\n"));
                assert!(!inside.windows(3).any(|three| matches!(three, b"\n.\r" | b"\n.\n")), "{sent:?}");
            }
        }
    }
}
