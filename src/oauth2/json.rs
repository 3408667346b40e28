//! One flat object of JSON, member by member (RFC 8259), without a copy of it: what token endpoints answer.
//!
//! Strict: the whole text is looked at, and one wrong octet makes it no JSON. Texts and numbers are handed
//! out, members of other kinds are only checked, to a depth of [`DEPTH_MAX`]. No library, since one would put
//! the tokens into memory that nobody wipes, and would add some 40 KiB to the program.
use core::{fmt, str};

use zeroize::Zeroizing;

/// How deep arrays and objects may lie within each other.
pub const DEPTH_MAX: usize = 16;

/// The text is not one object of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

/// The text of a string as it stands between its quotes, escapes and all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<'a>(&'a str);

impl fmt::Debug for Text<'_> {
    /// Nothing of what it says: it may be a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text")
    }
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A string.
    Text(Text<'a>),
    /// A number as it stands there.
    Number(&'a str),
    /// Anything else.
    Other,
}

impl Text<'_> {
    /// What it says, without the escapes; wiped when dropped.
    pub fn unescaped(&self) -> Zeroizing<Vec<u8>> {
        let mut octets = Zeroizing::new(Vec::with_capacity(self.0.len()));
        let mut rest = self.0;
        while let Some((before, escape)) = rest.split_once('\\') {
            octets.extend_from_slice(before.as_bytes());
            let (octet, behind) = escape.split_at(1);
            rest = behind;
            let sign = match octet {
                "b" => '\u{8}',
                "f" => '\u{c}',
                "n" => '\n',
                "r" => '\r',
                "t" => '\t',
                "u" => {
                    let (sign, count) = unescaped_sign(behind);
                    rest = &behind[count..];
                    sign
                }
                octet => octet.chars().next().unwrap_or('\\'),
            };
            octets.extend_from_slice(sign.encode_utf8(&mut [0; 4]).as_bytes());
        }
        octets.extend_from_slice(rest.as_bytes());
        octets
    }

    /// True when it says `text`.
    pub fn is(&self, text: &str) -> bool {
        self.unescaped().as_slice() == text.as_bytes()
    }
}

/// The sign behind `\u`, which was checked to be whole, and how many octets tell it.
fn unescaped_sign(text: &str) -> (char, usize) {
    let first = hexadecimal(text).unwrap_or(0);
    if !(0xd800..0xdc00).contains(&first) {
        return (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 4);
    }
    let second = text.get(6..).and_then(hexadecimal).unwrap_or(0);
    let sign = 0x1_0000 + ((first - 0xd800) << 10) + (second & 0x3ff);
    (char::from_u32(sign).unwrap_or(char::REPLACEMENT_CHARACTER), 10)
}

fn hexadecimal(text: &str) -> Option<u32> {
    let digits = text.get(..4)?;
    digits.bytes().all(|octet| octet.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

/// Calls `visit` with each member of the object `text`: its name and what it is.
///
/// # Errors
/// `text` is anything but one whole object; members before the place where that shows have been visited.
pub fn members<'a>(text: &'a [u8], mut visit: impl FnMut(Text<'a>, Value<'a>)) -> Result<(), NotJson> {
    let mut reader = Reader { text: str::from_utf8(text).map_err(|_| NotJson)?, at: 0 };
    reader.skip_space();
    reader.members(0, &mut visit)?;
    reader.skip_space();
    if reader.at < reader.text.len() { Err(NotJson) } else { Ok(()) }
}

#[derive(Debug)]
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, octet: u8) -> bool {
        let is_next = self.peek() == Some(octet);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, octet: u8) -> Result<(), NotJson> {
        if self.take(octet) { Ok(()) } else { Err(NotJson) }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// An object that stands within `depth` others.
    fn members(&mut self, depth: usize, visit: &mut dyn FnMut(Text<'a>, Value<'a>)) -> Result<(), NotJson> {
        self.expect(b'{')?;
        self.skip_space();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let name = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            let value = self.value(depth)?;
            visit(name, value);
            if !self.take(b',') {
                return self.expect(b'}');
            }
            self.skip_space();
        }
    }

    fn elements(&mut self, depth: usize) -> Result<(), NotJson> {
        self.expect(b'[')?;
        self.skip_space();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(depth)?;
            if !self.take(b',') {
                return self.expect(b']');
            }
        }
    }

    /// Any value with the white space around it.
    fn value(&mut self, depth: usize) -> Result<Value<'a>, NotJson> {
        self.skip_space();
        let is_deep = depth + 1 >= DEPTH_MAX;
        let value = match self.peek() {
            Some(b'"') => Value::Text(self.string()?),
            Some(b'{' | b'[') if is_deep => return Err(NotJson),
            Some(b'{') => self.members(depth + 1, &mut |_, _| {}).map(|()| Value::Other)?,
            Some(b'[') => self.elements(depth + 1).map(|()| Value::Other)?,
            Some(b'-' | b'0'..=b'9') => Value::Number(self.number()?),
            _ => self.word()?,
        };
        self.skip_space();
        Ok(value)
    }

    fn word(&mut self) -> Result<Value<'a>, NotJson> {
        let rest = &self.text[self.at..];
        let word = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word));
        self.at += word.ok_or(NotJson)?.len();
        Ok(Value::Other)
    }

    fn number(&mut self) -> Result<&'a str, NotJson> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while self.peek().is_some_and(|octet| octet.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(NotJson) } else { Ok(()) }
    }

    fn string(&mut self) -> Result<Text<'a>, NotJson> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                None | Some(..b' ') => return Err(NotJson),
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(Text(&self.text[start..self.at - 1]))
    }

    /// What stands behind a backslash; surrogates come in pairs.
    fn escape(&mut self) -> Result<(), NotJson> {
        let octet = self.peek().ok_or(NotJson)?;
        self.at += 1;
        match octet {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => match self.code()? {
                0xd800..0xdc00 => {
                    self.expect(b'\\')?;
                    self.expect(b'u')?;
                    if (0xdc00..0xe000).contains(&self.code()?) { Ok(()) } else { Err(NotJson) }
                }
                0xdc00..0xe000 => Err(NotJson),
                _ => Ok(()),
            },
            _ => Err(NotJson),
        }
    }

    fn code(&mut self) -> Result<u32, NotJson> {
        let code = self.text.get(self.at..).and_then(hexadecimal).ok_or(NotJson)?;
        self.at += 4;
        Ok(code)
    }
}
