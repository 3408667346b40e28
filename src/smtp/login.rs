//! AUTH (RFC 4954) as data: mechanisms, base64 (RFC 4648 4), what a client says of itself.
//!
//! A response is decoded into a place of fixed size. One that is longer than any user's name and password can
//! be is legal and matches nobody. What was said is never printed.

use core::fmt;

use super::quirk::{Quirk, Quirks};

/// Octets of a user's name.
pub const USER_OCTETS_MAX: usize = 64;
/// Octets of a user's password.
pub const PASSWORD_OCTETS_MAX: usize = 128;
/// Octets of a response that may match: an authorization identity, a name, a password, two NULs.
pub const RESPONSE_OCTETS_MAX: usize = 2 * USER_OCTETS_MAX + PASSWORD_OCTETS_MAX + 2;
/// Octets of a line of an exchange, CRLF included (RFC 4954 4).
pub const LOGIN_LINE_OCTETS_MAX: usize = 12_288;

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// Name and password, asked for one after the other; never standardised, and what devices speak.
    Login,
}

/// What a client said, decoded; `None`: more than anybody's name and password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Response(pub Option<heapless::Vec<u8, RESPONSE_OCTETS_MAX>>);

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Response")
    }
}

impl Mechanism {
    /// The mechanism of that name, in any case.
    pub fn named(name: &[u8]) -> Option<Self> {
        match name {
            name if name.eq_ignore_ascii_case(b"PLAIN") => Some(Self::Plain),
            name if name.eq_ignore_ascii_case(b"LOGIN") => Some(Self::Login),
            _ => None,
        }
    }
}

impl Response {
    /// Decodes base64; `None` when it is none. Without its padding it is taken as [`Quirk::AuthLogin`] says.
    pub fn decode(base64: &[u8], tolerated: Quirks, met: &mut Quirks) -> Option<Self> {
        let padding = base64.iter().rev().take_while(|&&octet| octet == b'=').count();
        let digits = &base64[..base64.len() - padding];
        if padding != (4 - digits.len() % 4) % 4 {
            if padding > 0 || !tolerated.contains(Quirk::AuthLogin) {
                return None;
            }
            met.insert(Quirk::AuthLogin);
        }
        if digits.len() % 4 == 1 {
            return None;
        }
        let mut decoded = heapless::Vec::new();
        let (mut bits, mut count, mut is_too_long) = (0_u32, 0, false);
        for &digit in digits {
            bits = (bits << 6 | u32::from(value(digit)?)) & 0xffff;
            count += 6;
            if count >= 8 {
                count -= 8;
                is_too_long |= decoded.push((bits >> count) as u8).is_err();
            }
        }
        Some(Self((!is_too_long).then_some(decoded)))
    }

    /// Name and password of a PLAIN response. An identity to act as must be empty or the name itself.
    pub fn plain(&self) -> Option<(&[u8], &[u8])> {
        let mut parts = self.0.as_ref()?.split(|&octet| octet == 0);
        let (identity, user, password) = (parts.next()?, parts.next()?, parts.next()?);
        (parts.next().is_none() && (identity.is_empty() || identity == user)).then_some((user, password))
    }

    /// The octets, if they can be anybody's.
    pub fn octets(&self) -> Option<&[u8]> {
        self.0.as_deref()
    }
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(base64: &str, tolerated: Quirks) -> Option<Vec<u8>> {
        let response = Response::decode(base64.as_bytes(), tolerated, &mut Quirks::default())?;
        Some(response.octets().map_or(b"too long".to_vec(), <[u8]>::to_vec))
    }

    #[test]
    fn base64() {
        for (base64, octets) in
            [("", &b""[..]), ("Zg==", b"f"), ("Zm8=", b"fo"), ("Zm9v", b"foo"), ("/+8A", b"\xff\xef\0")]
        {
            assert_eq!(decoded(base64, Quirks::NONE).as_deref(), Some(octets), "{base64}");
        }
        for base64 in ["Zg", "Zg=", "Zg===", "Z", "Zm9vZ", "Zm9=v", "====", "Zm 8=", "Zm9v=", "Zm-_"] {
            assert_eq!(decoded(base64, Quirks::NONE), None, "{base64}");
        }
        assert_eq!(decoded("Zg", Quirks::ALL).as_deref(), Some(&b"f"[..]));
        assert_eq!(decoded("Zg=", Quirks::ALL), None);
        assert_eq!(decoded(&"AAAA".repeat(86), Quirks::NONE), Some(vec![0; RESPONSE_OCTETS_MAX]));
        assert_eq!(decoded(&"AAAA".repeat(87), Quirks::NONE).as_deref(), Some(&b"too long"[..]));
    }

    #[test]
    fn plain_responses() {
        let plain = |octets: &[u8]| {
            let response = Response(Some(heapless::Vec::from_slice(octets).unwrap()));
            response.plain().map(|(user, password)| (user.to_vec(), password.to_vec()))
        };
        let both = Some((b"u".to_vec(), b"p".to_vec()));
        assert_eq!(plain(b"\0u\0p"), both);
        assert_eq!(plain(b"u\0u\0p"), both);
        for wrong in [&b"a\0u\0p"[..], b"u\0p", b"\0u\0p\0", b"", b"up"] {
            assert_eq!(plain(wrong), None, "{}", wrong.escape_ascii());
        }
        assert_eq!(format!("{:?}", Response::default()), "Response");
    }
}
