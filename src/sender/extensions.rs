//! What the smarthost offers in its reply to EHLO (RFC 5321 4.1.1.1): the service extensions that the sender
//! uses.
//!
//! What is not offered is not used (RFC 5321 4.1.1.3 and 2.2.1); unknown keywords and parameters are
//! overlooked.

use super::auth::Offered;

/// The extensions in use on a connection; none before the reply to EHLO, and after HELO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    /// RFC 2920.
    pub(super) pipelining: bool,
    /// RFC 1870.
    pub(super) size: bool,
    /// The largest message that the smarthost takes, in octets; 0: none was named.
    pub(super) size_max: u64,
    /// RFC 6152.
    pub(super) eight_bit_mime: bool,
    /// RFC 6531.
    pub(super) smtputf8: bool,
    /// RFC 3461.
    pub(super) dsn: bool,
    /// RFC 3030.
    pub(super) chunking: bool,
    /// RFC 3207.
    pub(super) starttls: bool,
    /// RFC 4954: the mechanisms.
    pub(super) auth: Offered,
}

impl Extensions {
    /// Takes a line of the reply to EHLO after the first; `discard` names keywords to be overlooked.
    pub(super) fn take(&mut self, line: &[u8], discard: &[String]) {
        let mut words = line.split(|octet| *octet == b' ').filter(|word| !word.is_empty());
        let Some(word) = words.next() else { return };
        // Servers from before RFC 2554 write AUTH=LOGIN.
        let is_old_auth = word.len() >= 5 && word[..5].eq_ignore_ascii_case(b"AUTH=");
        let keyword = if is_old_auth { &word[..4] } else { word };
        if discard.iter().any(|discarded| discarded.as_bytes().eq_ignore_ascii_case(keyword)) {
            return;
        }
        if keyword.eq_ignore_ascii_case(b"PIPELINING") {
            self.pipelining = true;
        } else if keyword.eq_ignore_ascii_case(b"SIZE") {
            self.size = true;
            self.size_max = words.next().map_or(0, size);
        } else if keyword.eq_ignore_ascii_case(b"8BITMIME") {
            self.eight_bit_mime = true;
        } else if keyword.eq_ignore_ascii_case(b"SMTPUTF8") {
            self.smtputf8 = true;
        } else if keyword.eq_ignore_ascii_case(b"DSN") {
            self.dsn = true;
        } else if keyword.eq_ignore_ascii_case(b"CHUNKING") {
            self.chunking = true;
        } else if keyword.eq_ignore_ascii_case(b"STARTTLS") {
            self.starttls = true;
        } else if keyword.eq_ignore_ascii_case(b"AUTH") {
            self.auth.take(word.get(5..).unwrap_or_default());
            words.for_each(|mechanism| self.auth.take(mechanism));
        }
    }
}

/// The number that SIZE names; 0 when it is none.
fn size(digits: &[u8]) -> u64 {
    if !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    digits.iter().fold(0, |size: u64, digit| size.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(lines: &[&str], discard: &[&str]) -> Extensions {
        let mut extensions = Extensions::default();
        let discard: Vec<_> = discard.iter().map(ToString::to_string).collect();
        lines.iter().for_each(|line| extensions.take(line.as_bytes(), &discard));
        extensions
    }

    /// C-4.1.1.3-b: case and order don't matter, what is unknown or discarded is not used.
    #[test]
    fn keywords_are_taken_as_offered() {
        let all = offered(
            &[
                "pipelining",
                "SIZE 1000",
                "X-NEW a=b",
                "",
                "8bitMime",
                "SMTPUTF8",
                "DSN",
                "chunking",
                "SIZEX 3",
            ],
            &[],
        );
        let expected = Extensions {
            pipelining: true,
            size: true,
            size_max: 1000,
            eight_bit_mime: true,
            smtputf8: true,
            dsn: true,
            chunking: true,
            ..Extensions::default()
        };
        assert_eq!(all, expected);
        assert_eq!(
            offered(&["PIPELINING", "SIZE 10", "8BITMIME"], &["PIPELINING", "8BITMIME", "SIZE"]),
            Extensions::default()
        );
    }

    #[test]
    fn a_size_without_a_number_has_no_bound() {
        for (line, size_max) in [("SIZE", 0), ("SIZE 0", 0), ("SIZE x", 0), ("SIZE -1", 0)] {
            assert_eq!(offered(&[line], &[]), Extensions { size: true, size_max, ..Extensions::default() });
        }
        assert_eq!(offered(&["SIZE 99999999999999999999999"], &[]).size_max, u64::MAX);
    }
}
