//! The parameters of the DSN extension (RFC 3461 4): NOTIFY and ORCPT of RCPT, RET and ENVID of MAIL.
//!
//! A value that passes here is kept and handed on as it came. What its xtext stands for is printable ASCII,
//! so that nothing which is decoded from it later can end a line of a notice.
use core::fmt;

/// Octets of ENVID (RFC 3461 4.4).
pub const ENVID_OCTETS_MAX: usize = 100;
/// Octets of ORCPT (RFC 3461 4.2).
pub const ORCPT_OCTETS_MAX: usize = 500;

/// NOTIFY of RFC 3461 4.1 as bits; no bit: not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify(pub u8);

const NEVER: u8 = 1;
const SUCCESS: u8 = 2;
const FAILURE: u8 = 4;
const DELAY: u8 = 8;
/// The words of NOTIFY with their bits.
const WORDS: [(&str, u8); 4] =
    [("NEVER", NEVER), ("SUCCESS", SUCCESS), ("FAILURE", FAILURE), ("DELAY", DELAY)];

impl Notify {
    /// Parses `NEVER`, or a list of the other words with commas; `None` for anything else.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut bits = 0;
        for item in value.split(|octet| *octet == b',') {
            let (_, bit) = WORDS.iter().find(|(word, _)| word.as_bytes().eq_ignore_ascii_case(item))?;
            bits |= bit;
        }
        (bits == NEVER || bits & NEVER == 0).then_some(Self(bits))
    }

    /// True when the parameter was given.
    pub const fn is_given(self) -> bool {
        self.0 != 0
    }

    /// True when a failure is to be told, as it is unless something else was asked for.
    pub const fn wants_failure(self) -> bool {
        self.0 == 0 || self.0 & FAILURE != 0
    }

    /// True when a success is to be told.
    pub const fn wants_success(self) -> bool {
        self.0 & SUCCESS != 0
    }
}

impl fmt::Display for Notify {
    /// As the parameter has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (word, _) in WORDS.iter().filter(|(_, bit)| self.0 & bit != 0) {
            write!(f, "{comma}{word}")?;
            comma = ",";
        }
        Ok(())
    }
}

/// RET of RFC 3461 4.3 as an envelope keeps it: 1 for `HDRS`, 2 for `FULL`; `None` for anything else.
pub fn ret(value: &[u8]) -> Option<u8> {
    (1..=2).find(|ret| ret_word(*ret).is_some_and(|word| word.as_bytes().eq_ignore_ascii_case(value)))
}

/// The word for a kept RET; `None` when it was not given.
pub const fn ret_word(ret: u8) -> Option<&'static str> {
    match ret {
        1 => Some("HDRS"),
        2 => Some("FULL"),
        _ => None,
    }
}

/// True for a legal ORCPT: an address type, a semicolon, and xtext.
pub fn is_orcpt(value: &[u8]) -> bool {
    let is_atom = |octet: &u8| octet.is_ascii_alphanumeric() || b"!#$%&'*-/?^_`{|}~".contains(octet);
    match value.iter().position(|octet| *octet == b';') {
        Some(at) => at > 0 && value[..at].iter().all(is_atom) && is_xtext(&value[at + 1..]),
        None => false,
    }
}

/// True for xtext (RFC 3461 4) that stands for one printable ASCII character at least, and for no other.
pub fn is_xtext(value: &[u8]) -> bool {
    let mut rest = value;
    while let Some((octet, behind)) = rest.split_first() {
        rest = match octet {
            b'+' => match behind.split_first_chunk::<2>() {
                Some((digits, behind)) if is_printable(hex(*digits)) => behind,
                _ => return false,
            },
            b'!'..=b'~' if *octet != b'=' => behind,
            _ => return false,
        };
    }
    !value.is_empty()
}

/// What `xtext` stands for; a question mark for what is not printable ASCII.
pub fn decoded(xtext: &[u8]) -> impl Iterator<Item = u8> + Clone + '_ {
    let mut rest = xtext;
    core::iter::from_fn(move || {
        let (first, behind) = rest.split_first()?;
        let octet = match behind.split_first_chunk::<2>() {
            Some((digits, behind)) if *first == b'+' => {
                rest = behind;
                hex(*digits)
            }
            _ => {
                rest = behind;
                Some(*first)
            }
        };
        Some(octet.filter(|octet| is_printable(Some(*octet))).unwrap_or(b'?'))
    })
}

const fn is_printable(octet: Option<u8>) -> bool {
    matches!(octet, Some(b' '..=b'~'))
}

/// The octet that two upper-case hexadecimal digits stand for.
fn hex(digits: [u8; 2]) -> Option<u8> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    };
    Some(value(digits[0])? << 4 | value(digits[1])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DSN-a: NEVER stands alone.
    #[test]
    fn notify() {
        for (value, shown) in [
            ("NEVER", "NEVER"),
            ("never", "NEVER"),
            ("SUCCESS,FAILURE", "SUCCESS,FAILURE"),
            ("Delay,Failure,Success", "SUCCESS,FAILURE,DELAY"),
        ] {
            let notify = Notify::parse(value.as_bytes()).unwrap();
            assert!(notify.is_given());
            assert_eq!(notify.to_string(), shown);
        }
        for value in ["", ",", "NEVER,SUCCESS", "FAILURE,NEVER", "SUCCESS,", "ALWAYS", "SUCCESS;DELAY"] {
            assert_eq!(Notify::parse(value.as_bytes()), None, "{value}");
        }
        let wants = |value: &[u8]| {
            let notify = Notify::parse(value).unwrap();
            (notify.wants_failure(), notify.wants_success())
        };
        assert_eq!(wants(b"NEVER"), (false, false));
        assert_eq!(wants(b"SUCCESS"), (false, true));
        assert_eq!(wants(b"FAILURE,DELAY"), (true, false));
        assert!(Notify::default().wants_failure() && !Notify::default().wants_success());
    }

    /// DSN-b, DSN-e: upper-case digits, no raw plus or equals sign, and printable when decoded.
    #[test]
    fn xtext() {
        for value in ["a", "QQ314159", "a+2Bb", "+20", "~!"] {
            assert!(is_xtext(value.as_bytes()), "{value}");
        }
        for value in ["", "+", "a+2", "+G1", "+2b", "a=b", "a b", "+0A", "+7F", "+FF", "\u{e9}", "a\r"] {
            assert!(!is_xtext(value.as_bytes()), "{value:?}");
        }
        let text = |value: &[u8]| String::from_utf8(decoded(value).collect()).unwrap();
        assert_eq!(text(b"a+2Bb+3Dc+20d"), "a+b=c d");
        assert_eq!(text(b"+0A+zz+1\r\xff+"), "????+");
        assert!(is_orcpt(b"rfc822;Bob+2Bx@example.com") && is_orcpt(b"x-local;a"));
        for value in [&b"rfc822"[..], b"rfc822;", b";a@b", b"rfc 822;a", b"rfc822;a+0Ab", b"rfc822;a=b"] {
            assert!(!is_orcpt(value), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn what_to_return() {
        assert_eq!(ret(b"full").and_then(ret_word), Some("FULL"));
        assert_eq!(ret(b"HDRS").and_then(ret_word), Some("HDRS"));
        assert_eq!(ret(b"HDR"), None);
        assert_eq!(ret_word(0), None);
    }
}
