//! Address lists of header fields (RFC 5322 3.4, with the obsolete forms of 4.4): what To, Cc, Bcc and From
//! say, as paths that can stand in an envelope.
//!
//! Groups, comments in each other, quoted strings, folding, routes and spaces around dots are understood; a
//! display name may be any words, encoded ones (RFC 2047) with commas in them included. What is no address is
//! told as such and ends the list: nothing is passed over, and nothing guessed.
//!
//! More lenient than the grammar on purpose, where no address can be lost by it: a display name may have an
//! unquoted `@` or dot in it if an address in angle brackets follows, a group may be without its final `;`,
//! and a name without a domain is taken, as cron writes it.

use core::ops::Range;

use heapless::Vec;

use super::path::{ForwardPath, PathError, Utf8};
use crate::limits::PATH_OCTETS_MAX;

/// One address of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `local-part@domain`, or a local-part alone, as it stands in a path: with the least quoting, without
    /// comments and route.
    pub path: Vec<u8, PATH_OCTETS_MAX>,
    /// Where all of it stands in the list, its display name included.
    pub place: Range<usize>,
    /// Where the address itself stands, without display name and angle brackets.
    pub specification: Range<usize>,
}

impl Address {
    /// What stands behind the last `@` that is no part of a quoted local-part; none when there is no domain.
    pub fn domain(&self) -> Option<&[u8]> {
        let at = self.path.iter().rposition(|octet| *octet == b'@')?;
        // A quoted local-part alone ends with its quote.
        (self.path.last() != Some(&b'"')).then(|| &self.path[at + 1..])
    }
}

/// What stands in a list and is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Where it stands, up to the next comma.
    pub place: Range<usize>,
    /// What is wrong with it.
    pub error: PathError,
}

/// Reads the addresses of one list, the text behind a field's colon or a command line's argument. After a
/// [`Broken`] it ends.
#[derive(Clone, Debug)]
pub struct AddressList<'a> {
    octets: &'a [u8],
    at: usize,
    is_in_group: bool,
}

/// One lexical token (RFC 5322 3.2) behind comments and white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// An atom, or an encoded word.
    Atom,
    Quoted,
    Literal,
    /// A dot, or one of `<>@,:;`.
    Special(u8),
    End,
}

/// A local-part as it is being read: words with their quotes undone.
#[derive(Debug, Default)]
struct Words {
    octets: Vec<u8, PATH_OCTETS_MAX>,
    is_quoted: bool,
}

type Result<T> = core::result::Result<T, PathError>;

impl<'a> AddressList<'a> {
    /// The list in `octets`, folded or not.
    pub const fn new(octets: &'a [u8]) -> Self {
        Self { octets, at: 0, is_in_group: false }
    }

    /// The next address; an element that is empty is none.
    fn next_address(&mut self) -> Result<Option<Address>> {
        loop {
            let (token, place) = self.token()?;
            match token {
                Token::End => return Ok(None),
                Token::Special(b',') => {}
                Token::Special(b';') if self.is_in_group => self.is_in_group = false,
                Token::Atom | Token::Quoted | Token::Literal | Token::Special(_) => {
                    self.at = place.start;
                    if let Some(address) = self.element(place.start)? {
                        return Ok(Some(address));
                    }
                }
            }
        }
    }

    /// A mailbox, which is an address, or the start of a group, which is none.
    fn element(&mut self, start: usize) -> Result<Option<Address>> {
        // The end of the display name, if that is one, shows what the element is. Where two addresses might
        // be meant, neither may be lost.
        let mut at_signs = 0;
        loop {
            let (token, place) = self.token()?;
            match token {
                Token::Atom | Token::Quoted | Token::Special(b'.') => {}
                Token::Special(b'@') => at_signs += 1,
                Token::Special(b':') if !self.is_in_group && place.start > start && at_signs == 0 => {
                    self.is_in_group = true;
                    return Ok(None);
                }
                Token::Special(b'<') if at_signs <= 1 => return self.in_brackets(start).map(Some),
                Token::Literal | Token::Special(_) | Token::End => break,
            }
        }
        self.at = start;
        let specification = self.specification()?;
        let end = specification.1.end;
        self.end_element()?;
        let (path, specification) = specification;
        Ok(Some(Address { path, place: start..end, specification }))
    }

    /// `<` was read: a route, an address, and `>`.
    fn in_brackets(&mut self, start: usize) -> Result<Address> {
        let before = self.at;
        let (token, place) = self.token()?;
        if matches!(token, Token::Special(b'@' | b',')) {
            self.at = place.start;
            self.route()?;
        } else {
            self.at = before;
        }
        let (path, specification) = self.specification()?;
        match self.token()? {
            (Token::Special(b'>'), place) => {
                self.end_element()?;
                Ok(Address { path, place: start..place.end, specification })
            }
            _ => Err(PathError::Syntax),
        }
    }

    /// `@a,@b:`, which nothing is made of.
    fn route(&mut self) -> Result<()> {
        loop {
            match self.token()?.0 {
                Token::Special(b':') => return Ok(()),
                Token::Special(b',' | b'@' | b'.') | Token::Atom | Token::Literal => {}
                Token::Quoted | Token::Special(_) | Token::End => return Err(PathError::Syntax),
            }
        }
    }

    /// A local-part, and `@` with a domain if there is one.
    fn specification(&mut self) -> Result<(Vec<u8, PATH_OCTETS_MAX>, Range<usize>)> {
        let mut words = Words::default();
        let (start, mut end) = self.words(&mut words, true)?;
        let mut path: Vec<u8, { PATH_OCTETS_MAX + 2 }> = Vec::new();
        extend(&mut path, b"<")?;
        words.write(&mut path)?;
        let before = self.at;
        if self.token()?.0 == Token::Special(b'@') {
            extend(&mut path, b"@")?;
            let behind_at = self.at;
            let (token, place) = self.token()?;
            if token == Token::Literal {
                let literal = &self.octets[place.clone()];
                extend(&mut path, literal)?;
                end = place.end;
            } else {
                self.at = behind_at;
                let mut domain = Words::default();
                (_, end) = self.words(&mut domain, false)?;
                extend(&mut path, &domain.octets)?;
            }
        } else {
            self.at = before;
        }
        extend(&mut path, b">")?;
        let utf8 = Utf8::Accepted;
        match ForwardPath::parse(&path, utf8)? {
            (ForwardPath::Mailbox(mailbox), []) => Ok((mailbox.into_octets(), start..end)),
            (ForwardPath::Unqualified(name), []) => Ok((shorter(name.octets())?, start..end)),
            (ForwardPath::Postmaster, []) => Ok((words.octets, start..end)),
            _ => Err(PathError::Syntax),
        }
    }

    /// Words with dots between them: where they start and end.
    fn words(&mut self, words: &mut Words, may_be_quoted: bool) -> Result<(usize, usize)> {
        let mut start = None;
        loop {
            let (token, place) = self.token()?;
            match token {
                Token::Atom => words.push(&self.octets[place.clone()])?,
                Token::Quoted if may_be_quoted => words.push_quoted(&self.octets[place.clone()])?,
                Token::Quoted | Token::Literal | Token::Special(_) | Token::End => {
                    return Err(PathError::Syntax);
                }
            }
            let end = place.end;
            let start = *start.get_or_insert(place.start);
            let before = self.at;
            if self.token()?.0 != Token::Special(b'.') {
                self.at = before;
                return Ok((start, end));
            }
            words.push(b".")?;
        }
    }

    /// Behind an address only the next element may come, or the end.
    fn end_element(&mut self) -> Result<()> {
        match self.token()?.0 {
            Token::End | Token::Special(b',') => Ok(()),
            Token::Special(b';') if self.is_in_group => {
                self.is_in_group = false;
                self.end_group()
            }
            Token::Atom | Token::Quoted | Token::Literal | Token::Special(_) => Err(PathError::Syntax),
        }
    }

    /// Behind a group as well.
    fn end_group(&mut self) -> Result<()> {
        match self.token()?.0 {
            Token::End | Token::Special(b',') => Ok(()),
            Token::Atom | Token::Quoted | Token::Literal | Token::Special(_) => Err(PathError::Syntax),
        }
    }

    /// The next token and where it stands.
    fn token(&mut self) -> Result<(Token, Range<usize>)> {
        self.skip_comments()?;
        let start = self.at;
        let rest = &self.octets[start..];
        let (token, length) = match rest {
            [] => (Token::End, 0),
            [b'"', ..] => (Token::Quoted, delimited(rest, b'"')?),
            [b'[', ..] => (Token::Literal, delimited(rest, b']')?),
            [special @ (b'.' | b'<' | b'>' | b'@' | b',' | b':' | b';'), ..] => (Token::Special(*special), 1),
            _ => match encoded_word(rest) {
                0 => (Token::Atom, rest.iter().take_while(|octet| is_atext(**octet)).count()),
                length => (Token::Atom, length),
            },
        };
        if length == 0 && token != Token::End {
            return Err(PathError::Syntax);
        }
        self.at += length;
        Ok((token, start..self.at))
    }

    /// White space, folds and comments, which may stand in each other.
    fn skip_comments(&mut self) -> Result<()> {
        let mut depth = 0_usize;
        while let Some(&octet) = self.octets.get(self.at) {
            match octet {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b'(' => depth += 1,
                b')' if depth > 0 => depth -= 1,
                b'\\' if depth > 0 => self.at += 1,
                _ if depth > 0 => {}
                _ => break,
            }
            self.at += 1;
        }
        self.at = self.at.min(self.octets.len());
        if depth > 0 { Err(PathError::Syntax) } else { Ok(()) }
    }

    /// The end of the element that is broken: the next comma that is in no quotes, as far as can be told.
    fn end_of_broken(&self, start: usize) -> usize {
        let mut is_quoted = false;
        let end = self.octets[start..].iter().position(|octet| {
            is_quoted ^= *octet == b'"';
            *octet == b',' && !is_quoted
        });
        end.map_or(self.octets.len(), |length| start + length)
    }
}

impl Iterator for AddressList<'_> {
    type Item = core::result::Result<Address, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let before = self.at;
        match self.next_address() {
            Ok(address) => address.map(Ok),
            Err(error) => {
                let blank = self.octets[before..].iter().take_while(|octet| b" \t\r\n,".contains(octet));
                let start = before + blank.count();
                let end = self.end_of_broken(start);
                self.at = self.octets.len();
                self.is_in_group = false;
                Some(Err(Broken { place: start..end, error }))
            }
        }
    }
}

impl core::iter::FusedIterator for AddressList<'_> {}

impl Words {
    fn push(&mut self, octets: &[u8]) -> Result<()> {
        extend(&mut self.octets, octets)
    }

    /// A quoted string with its quotes: folds and backslashes are no part of it (RFC 5322 3.2.4).
    fn push_quoted(&mut self, quoted: &[u8]) -> Result<()> {
        self.is_quoted = true;
        let mut octets = quoted[1..quoted.len() - 1].iter();
        while let Some(&octet) = octets.next() {
            match octet {
                b'\r' | b'\n' => {}
                b'\\' => self.push(octets.as_slice().get(..1).ok_or(PathError::Syntax)?)?,
                _ => self.push(&[octet])?,
            }
            if octet == b'\\' {
                octets.next();
            }
        }
        Ok(())
    }

    /// As a path has it; what needs no quotes loses them when the path is read.
    fn write<const N: usize>(&self, path: &mut Vec<u8, N>) -> Result<()> {
        if !self.is_quoted {
            return extend(path, &self.octets);
        }
        extend(path, b"\"")?;
        for octet in &self.octets {
            if matches!(octet, b'"' | b'\\') {
                extend(path, b"\\")?;
            }
            extend(path, &[*octet])?;
        }
        extend(path, b"\"")
    }
}

fn extend<const N: usize>(to: &mut Vec<u8, N>, octets: &[u8]) -> Result<()> {
    to.extend_from_slice(octets).map_err(|_| PathError::TooLong)
}

fn shorter(octets: &[u8]) -> Result<Vec<u8, PATH_OCTETS_MAX>> {
    Vec::from_slice(octets).map_err(|_| PathError::TooLong)
}

/// Octets of what begins with its first octet and ends with `close`, backslashes minded.
fn delimited(octets: &[u8], close: u8) -> Result<usize> {
    let mut at = 1;
    while let Some(&octet) = octets.get(at) {
        match octet {
            b'\\' => at += 1,
            _ if octet == close => return Ok(at + 1),
            _ => {}
        }
        at += 1;
    }
    Err(PathError::Syntax)
}

/// Octets of the encoded word at the start: `=?charset?encoding?text?=`, without white space; 0 for none. Its
/// text may have what no atom has, as careless software writes it. One that goes on is a part of an atom (RFC
/// 2047 5).
fn encoded_word(octets: &[u8]) -> usize {
    let word = octets.iter().take_while(|octet| (b'!'..=b'~').contains(*octet)).count();
    let Some(inner) = octets[..word].strip_prefix(b"=?") else { return 0 };
    let mut parts = inner.splitn(3, |octet| *octet == b'?');
    let (Some(charset), Some(encoding), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
        return 0;
    };
    let is_word = !charset.is_empty() && matches!(encoding, [b'b' | b'B' | b'q' | b'Q']);
    let Some(end) = text.windows(2).position(|pair| pair == b"?=").filter(|_| is_word) else { return 0 };
    let length = b"=?".len() + charset.len() + b"?Q?".len() + end + b"?=".len();
    if octets.get(length).is_some_and(|octet| is_atext(*octet)) { 0 } else { length }
}

/// RFC 5322 3.2.3, RFC 6532 3.2.
fn is_atext(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&octet) || octet >= 0x80
}
