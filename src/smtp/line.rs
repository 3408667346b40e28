//! Command lines: where the next one ends (RFC 5321 2.3.8, 4.5.3.1.4).
//!
//! Only CRLF ends a line. A line with a bare LF, and one past [`COMMAND_OCTETS_MAX`], is refused as a whole:
//! what is left of it up to its CRLF is dropped and never becomes a command. The verdict depends on the
//! octets alone, not on how they were split by the network.

use crate::limits::COMMAND_OCTETS_MAX;

/// What stands at the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A whole line without its CRLF, which takes two octets more.
    Whole(&'a [u8]),
    /// The start of one.
    Partial,
    /// A line past the limit; drop it with [`rest_of_line`].
    TooLong,
    /// A line with an LF that no CR precedes; drop it with [`rest_of_line`].
    BareLf,
}

/// The line at the start of `input`.
pub fn next_line(input: &[u8]) -> Line<'_> {
    let within = &input[..input.len().min(COMMAND_OCTETS_MAX)];
    match within.iter().position(|&octet| octet == b'\n') {
        Some(end) if end > 0 && within[end - 1] == b'\r' => Line::Whole(&within[..end - 1]),
        Some(_) => Line::BareLf,
        None if input.len() > COMMAND_OCTETS_MAX => Line::TooLong,
        None => Line::Partial,
    }
}

/// How many octets of a refused line to drop, and whether its CRLF was among them.
pub fn rest_of_line(input: &[u8]) -> (usize, bool) {
    match input.windows(2).position(|pair| pair == b"\r\n") {
        Some(start) => (start + 2, true),
        None if input.ends_with(b"\r") => (input.len() - 1, false),
        None => (input.len(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(next_line(b"NOOP\r\nQUIT"), Line::Whole(b"NOOP"));
        assert_eq!(next_line(b"\r\n"), Line::Whole(b""));
        assert_eq!(next_line(b"NOOP\r"), Line::Partial);
        assert_eq!(next_line(b"NOOP\nNOOP\r\n"), Line::BareLf);
        assert_eq!(next_line(b"\n"), Line::BareLf);
        let longest = [&[b'x'; COMMAND_OCTETS_MAX - 2][..], b"\r\n"].concat();
        assert_eq!(next_line(&longest), Line::Whole(&longest[..COMMAND_OCTETS_MAX - 2]));
        assert_eq!(next_line(&[b"x", &longest[..]].concat()), Line::TooLong);
    }

    #[test]
    fn a_refused_line_is_dropped_to_its_end() {
        assert_eq!(rest_of_line(b"\nNOOP\r\nQUIT"), (7, true));
        assert_eq!(rest_of_line(b"xxx\r"), (3, false));
        assert_eq!(rest_of_line(b"xx\n\r\r"), (4, false));
    }
}
