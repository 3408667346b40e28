//! The dates of a certificate (RFC 5280 4.1.2.5), which the TLS library judges, but does not tell.
//!
//! As much of DER as leads there: anything else is no certificate.

use time::{Date, Month};

/// From when to when a certificate is valid, both included, in seconds since 1970-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, constructed: the version.
const VERSION: u8 = 0xa0;

impl Validity {
    /// The validity of the X.509 certificate `der`.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let mut outer = der;
        let mut certificate = take(&mut outer, SEQUENCE)?;
        let mut fields = take(&mut certificate, SEQUENCE)?;
        if fields.first() == Some(&VERSION) {
            take(&mut fields, VERSION)?;
        }
        take(&mut fields, INTEGER)?;
        // The algorithm and the issuer.
        take(&mut fields, SEQUENCE)?;
        take(&mut fields, SEQUENCE)?;
        let mut dates = take(&mut fields, SEQUENCE)?;
        Some(Self { not_before: take_time(&mut dates)?, not_after: take_time(&mut dates)? })
    }
}

/// Takes the element with `tag` off `rest`: its content.
fn take<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (head, mut octets) = rest.split_at_checked(2)?;
    let mut length = usize::from(head[1]);
    if length >= 0x80 {
        let (digits, behind) = octets.split_at_checked(length - 0x80).filter(|_| length <= 0x83)?;
        length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        octets = behind;
    }
    let (content, behind) = octets.split_at_checked(length)?;
    *rest = behind;
    (head[0] == tag).then_some(content)
}

/// Takes a time off `rest`, which must be in UTC and to the second.
fn take_time(rest: &mut &[u8]) -> Option<i64> {
    let tag = *rest.first().filter(|tag| matches!(**tag, UTC_TIME | GENERALIZED_TIME))?;
    let text = take(rest, tag)?.strip_suffix(b"Z")?;
    let year_digits = if tag == UTC_TIME { 2 } else { 4 };
    if text.len() != year_digits + 10 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to].iter().fold(0_u16, |number, digit| number * 10 + u16::from(digit - b'0'))
    };
    let year = match number(0, year_digits) {
        year if tag == GENERALIZED_TIME => year,
        year if year < 50 => 2000 + year,
        year => 1900 + year,
    };
    let [month, day, hour, minute, second] =
        [0, 2, 4, 6, 8].map(|at| number(year_digits + at, year_digits + at + 2) as u8);
    let date = Date::from_calendar_date(i32::from(year), Month::try_from(month).ok()?, day).ok()?;
    Some(date.with_hms(hour, minute, second).ok()?.assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let head = if length < 0x80 { vec![tag, length as u8] } else { vec![tag, 0x81, length as u8] };
        [head, content.to_vec()].concat()
    }

    fn certificate(not_before: &[u8], not_after: &[u8]) -> Vec<u8> {
        let fields = [
            element(VERSION, &[2, 1, 2]),
            element(INTEGER, &[7; 16]),
            element(SEQUENCE, &[]),
            element(SEQUENCE, &[0; 90]),
            element(SEQUENCE, &[not_before, not_after].concat()),
            element(SEQUENCE, &[]),
        ];
        element(SEQUENCE, &element(SEQUENCE, &fields.concat()))
    }

    #[test]
    fn dates_of_both_kinds_are_read() {
        let der =
            certificate(&element(UTC_TIME, b"700101000001Z"), &element(GENERALIZED_TIME, b"20500101000000Z"));
        assert_eq!(Validity::of(&der), Some(Validity { not_before: 1, not_after: 2_524_608_000 }));
        let der = certificate(&element(UTC_TIME, b"491231235959Z"), &element(UTC_TIME, b"500101000000Z"));
        assert_eq!(Validity::of(&der), Some(Validity { not_before: 2_524_607_999, not_after: -631_152_000 }));
    }

    #[test]
    fn what_is_no_certificate_has_no_dates() {
        let good = element(UTC_TIME, b"700101000001Z");
        for bad in [&b"700101000001"[..], b"7001010000Z", b"701301000001Z", b"70010100000xZ", b""] {
            assert_eq!(Validity::of(&certificate(&good, &element(UTC_TIME, bad))), None);
        }
        let der = certificate(&good, &good);
        for end in 0..der.len() {
            assert_eq!(Validity::of(&der[..end]), None, "{end} octets");
        }
        for at in 0..der.len() {
            for octet in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut der = der.clone();
                der[at] = octet;
                let _ = Validity::of(&der);
            }
        }
    }
}
