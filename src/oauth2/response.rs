//! The response to a request, as its octets come in pieces (RFC 9112 2.1, 4, 5, 6, 7.1).
//!
//! Kept are the status and the body, up to [`BODY_OCTETS_MAX`]; of the fields those three that say where the
//! body ends. It ends by its length, by its last chunk, or with the connection. A response is malformed when
//! it isn't HTTP/1, is longer than its bounds, has two lengths, a length beside chunks, or a coding that was
//! not asked for. Its last octet ends it: what comes behind is not looked at.
use core::{fmt, str};

use zeroize::Zeroizing;

/// Octets of all that is not body: status line, fields, sizes of chunks.
pub const HEAD_OCTETS_MAX: usize = 16 * 1024;
/// Octets of the body, without what chunks add to it. The longest tokens have some thousands.
pub const BODY_OCTETS_MAX: usize = 32 * 1024;
/// Octets of a line that are looked at; the rest of a field is passed over.
const LINE_OCTETS_MAX: usize = 128;
/// Interim responses (1xx) before the response itself.
const INTERIM_MAX: usize = 4;

/// The octets are no response to be understood. There is no way on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Where in the response the next octet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Status,
    Field,
    /// So many octets of the body are to come.
    Sized(usize),
    /// The connection's end is the body's.
    Open,
    ChunkSize,
    /// So many octets of the chunk are to come.
    Chunk(usize),
    /// The line end behind a chunk.
    ChunkEnd,
    Trailer,
    Over,
}

/// A response, as far as it has come.
pub struct Response {
    place: Place,
    status: u16,
    length: Option<usize>,
    is_chunked: bool,
    interim_count: usize,
    head_octets: usize,
    /// The line under way, its first octets.
    line: heapless::Vec<u8, LINE_OCTETS_MAX>,
    /// The octet before is a CR.
    is_behind_cr: bool,
    body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Response {
    /// Nothing of what it says: there may be tokens in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("place", &self.place).field("status", &self.status).finish()
    }
}

impl Default for Response {
    fn default() -> Self {
        Self::new()
    }
}

impl Response {
    /// Nothing has come.
    pub fn new() -> Self {
        Self {
            place: Place::Status,
            status: 0,
            length: None,
            is_chunked: false,
            interim_count: 0,
            head_octets: 0,
            line: heapless::Vec::new(),
            is_behind_cr: false,
            // It never grows, so that no copy of what is in it stays behind.
            body: Zeroizing::new(Vec::with_capacity(BODY_OCTETS_MAX)),
        }
    }

    /// The status of a whole response, 200 to 599.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body of a whole response.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Takes the next octets; true when the response is whole.
    ///
    /// # Errors
    /// It is no response.
    pub fn take(&mut self, mut octets: &[u8]) -> Result<bool, Malformed> {
        while self.place != Place::Over
            && let Some(first) = octets.first()
        {
            let count = match self.place {
                Place::Sized(left) | Place::Chunk(left) => {
                    self.take_body(&octets[..left.min(octets.len())])?
                }
                Place::Open => self.take_body(octets)?,
                Place::Status | Place::Field | Place::ChunkSize | Place::ChunkEnd | Place::Trailer => {
                    self.take_line(*first)?;
                    1
                }
                Place::Over => 0,
            };
            octets = &octets[count..];
        }
        Ok(self.place == Place::Over)
    }

    /// The connection has ended: true when the response is whole.
    pub fn ended(&mut self) -> bool {
        if self.place == Place::Open {
            self.place = Place::Over;
        }
        self.place == Place::Over
    }

    fn take_body(&mut self, octets: &[u8]) -> Result<usize, Malformed> {
        if octets.len() > BODY_OCTETS_MAX - self.body.len() {
            return Err(Malformed);
        }
        self.body.extend_from_slice(octets);
        self.place = match self.place {
            Place::Sized(left) if left == octets.len() => Place::Over,
            Place::Sized(left) => Place::Sized(left - octets.len()),
            Place::Chunk(left) if left == octets.len() => Place::ChunkEnd,
            Place::Chunk(left) => Place::Chunk(left - octets.len()),
            Place::Status
            | Place::Field
            | Place::Open
            | Place::ChunkSize
            | Place::ChunkEnd
            | Place::Trailer
            | Place::Over => self.place,
        };
        Ok(octets.len())
    }

    fn take_line(&mut self, octet: u8) -> Result<(), Malformed> {
        self.head_octets += 1;
        if self.head_octets > HEAD_OCTETS_MAX || (octet == b'\n') != self.is_behind_cr {
            return Err(Malformed);
        }
        self.is_behind_cr = octet == b'\r';
        match octet {
            b'\r' => {}
            b'\n' => self.end_line()?,
            // A full line keeps its start.
            octet => drop(self.line.push(octet)),
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), Malformed> {
        let line = core::mem::take(&mut self.line);
        self.place = match self.place {
            Place::Status => {
                self.status = status(&line).ok_or(Malformed)?;
                self.interim_count += usize::from(self.status < 200);
                if self.interim_count > INTERIM_MAX {
                    return Err(Malformed);
                }
                Place::Field
            }
            Place::Field if !line.is_empty() => {
                self.field(&line)?;
                Place::Field
            }
            Place::Field => self.begin_body()?,
            Place::ChunkSize => match chunk_size(&line).ok_or(Malformed)? {
                0 => Place::Trailer,
                size => Place::Chunk(size),
            },
            Place::ChunkEnd if line.is_empty() => Place::ChunkSize,
            Place::Trailer if line.is_empty() => Place::Over,
            Place::Trailer => Place::Trailer,
            Place::ChunkEnd | Place::Sized(_) | Place::Open | Place::Chunk(_) | Place::Over => {
                return Err(Malformed);
            }
        };
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Malformed> {
        let colon = line.iter().position(|octet| *octet == b':').ok_or(Malformed)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || name.iter().any(|octet| !octet.is_ascii_graphic()) {
            return Err(Malformed);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = decimal(value).ok_or(Malformed)?;
            if self.length.is_some_and(|before| before != length) {
                return Err(Malformed);
            }
            self.length = Some(length);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed);
            }
            self.is_chunked = true;
        } else if name.eq_ignore_ascii_case(b"content-encoding") && !value.eq_ignore_ascii_case(b"identity") {
            return Err(Malformed);
        }
        Ok(())
    }

    fn begin_body(&mut self) -> Result<Place, Malformed> {
        match (self.status, self.is_chunked, self.length) {
            (..200, ..) => {
                (self.is_chunked, self.length) = (false, None);
                Ok(Place::Status)
            }
            (_, true, Some(_)) => Err(Malformed),
            (204 | 304, ..) | (_, false, Some(0)) => Ok(Place::Over),
            (_, true, None) => Ok(Place::ChunkSize),
            (_, false, Some(length)) if length > BODY_OCTETS_MAX => Err(Malformed),
            (_, false, Some(length)) => Ok(Place::Sized(length)),
            (_, false, None) => Ok(Place::Open),
        }
    }
}

/// `HTTP/1.1 200 OK`; the reason may be missing.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.0 ").or_else(|| line.strip_prefix(b"HTTP/1.1 "))?;
    let (digits, reason) = rest.split_at_checked(3)?;
    let is_ended = reason.is_empty() || reason[0] == b' ';
    let status = decimal(digits).and_then(|status| u16::try_from(status).ok())?;
    (is_ended && (100..600).contains(&status)).then_some(status)
}

/// Up to nine digits and nothing else.
fn decimal(digits: &[u8]) -> Option<usize> {
    let is_number = (1..10).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

/// The size of a chunk; what may stand behind a semicolon is passed over.
fn chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.split(|octet| *octet == b';').next()?.trim_ascii_end();
    let is_number = (1..7).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = str::from_utf8(digits).ok().filter(|_| is_number)?;
    usize::from_str_radix(text, 16).ok()
}
