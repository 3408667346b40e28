//! Octets and spans as they are shown: to people, with nothing in it that a terminal would act on, and as
//! JSON, which is valid whatever the octets are.

use core::fmt::{self, Display, Write};

use crate::spool::KeptReply;
use crate::time::Duration;

/// Octets for people. What can't be shown, or would turn the text around it, is escaped.
pub(super) struct Plain<'a>(pub(super) &'a [u8]);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if is_unsafe(character) {
                    write!(f, "{}", character.escape_unicode())?;
                } else {
                    f.write_char(character)?;
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

/// Controls, and the marks that change the direction of what is around them.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Octets as a JSON string (RFC 8259 7); those that are no UTF-8 become U+FFFD.
pub(super) struct Json<'a>(pub(super) &'a [u8]);

impl Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '"' | '\\' => write!(f, "\\{character}")?,
                    _ if is_unsafe(character) => write!(f, "\\u{:04x}", u32::from(character))?,
                    _ => f.write_char(character)?,
                }
            }
            if !chunk.invalid().is_empty() {
                f.write_char('\u{fffd}')?;
            }
        }
        f.write_char('"')
    }
}

/// A reply for people.
pub(super) struct PlainReply<'a>(pub(super) &'a KeptReply);

impl Display for PlainReply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.code, Plain(&self.0.text))
    }
}

/// A reply as a JSON string; null where there is none.
pub(super) struct JsonReply<'a>(pub(super) Option<&'a KeptReply>);

impl Display for JsonReply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // The code stands before the text inside of the quotes.
            Some(reply) => {
                let mut text = heapless::Vec::<u8, { 6 + crate::limits::REPLY_TEXT_OCTETS_MAX }>::new();
                let mut code = heapless::String::<6>::new();
                write!(code, "{} ", reply.code)?;
                text.extend_from_slice(code.as_bytes()).map_err(|_| fmt::Error)?;
                text.extend_from_slice(&reply.text).map_err(|_| fmt::Error)?;
                Json(&text).fmt(f)
            }
            None => f.write_str("null"),
        }
    }
}

/// So many messages.
pub(super) struct Messages(pub(super) usize);

impl Display for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} message{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

/// A span in its two largest units.
pub(super) struct Span(pub(super) Duration);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0.0 / 1000;
        let (min, hours, days) = (s / 60, s / 3600, s / 86_400);
        match s {
            0..60 => write!(f, "{s}s"),
            60..3600 => write!(f, "{min}m"),
            3600..86_400 => write!(f, "{hours}h {}m", min % 60),
            _ => write!(f, "{days}d {}h", hours % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEC-inj-d.
    #[test]
    fn nothing_that_a_terminal_acts_on() {
        let octets = b"a\x1b[2J\r\n\xff\xc3\xa4\"\\\xe2\x80\xae\x7f\xc2\x9b";
        assert_eq!(Plain(octets).to_string(), r#"a\u{1b}[2J\u{d}\u{a}\xffä"\\u{202e}\u{7f}\u{9b}"#);
        let json = "\"a\\u001b[2J\\u000d\\u000a\u{fffd}ä\\\"\\\\\\u202e\\u007f\\u009b\"";
        assert_eq!(Json(octets).to_string(), json);
    }

    #[test]
    fn replies_and_spans() {
        let reply = KeptReply { code: 451, text: heapless::Vec::from_slice(b"4.7.1 \"later\"").unwrap() };
        assert_eq!(JsonReply(Some(&reply)).to_string(), r#""451 4.7.1 \"later\"""#);
        assert_eq!(JsonReply(None).to_string(), "null");
        assert_eq!(PlainReply(&reply).to_string(), "451 4.7.1 \"later\"");
        assert_eq!(format!("{}, {}", Messages(1), Messages(2)), "1 message, 2 messages");
        let spans = [(59, "59s"), (3599, "59m"), (3600, "1h 0m"), (86_399, "23h 59m"), (266_400, "3d 2h")];
        for (s, text) in spans {
            assert_eq!(Span(Duration::from_s(s)).to_string(), text);
        }
    }
}
