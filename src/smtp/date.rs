//! Dates as RFC 5322 3.3 writes them, in UTC (`+0000`).
//!
//! The zone is always UTC: a board seldom knows a better one, and the instant is what counts.

use core::fmt;

use ::time::{Month, OffsetDateTime, Weekday};

/// The last second of the year 9999, the last that has four digits for its year.
const UNIX_S_MAX: u64 = 253_402_300_799;

/// A date and time; its `Display` gives `Tue, 24 Nov 2026 09:00:00 +0000`, always 31 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Seconds since 1970-01-01 00:00:00 UTC; past the year 9999 its last second is shown.
    pub unix_s: u64,
}

/// Octets of a date.
pub const DATE_OCTETS: usize = 31;

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unix_s = self.unix_s.min(UNIX_S_MAX);
        let date = i64::try_from(unix_s).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
        let date = date.expect("all seconds up to the year 9999 have a date");
        write!(
            f,
            "{}, {:02} {} {:04} {:02}:{:02}:{:02} +0000",
            weekday(date.weekday()),
            date.day(),
            month(date.month()),
            date.year(),
            date.hour(),
            date.minute(),
            date.second()
        )
    }
}

const fn weekday(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Mon",
        Weekday::Tuesday => "Tue",
        Weekday::Wednesday => "Wed",
        Weekday::Thursday => "Thu",
        Weekday::Friday => "Fri",
        Weekday::Saturday => "Sat",
        Weekday::Sunday => "Sun",
    }
}

const fn month(month: Month) -> &'static str {
    match month {
        Month::January => "Jan",
        Month::February => "Feb",
        Month::March => "Mar",
        Month::April => "Apr",
        Month::May => "May",
        Month::June => "Jun",
        Month::July => "Jul",
        Month::August => "Aug",
        Month::September => "Sep",
        Month::October => "Oct",
        Month::November => "Nov",
        Month::December => "Dec",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (unix_s, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_795_510_800, "Tue, 24 Nov 2026 09:00:00 +0000"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 +0000"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 +0000"),
        ] {
            assert_eq!(Date { unix_s }.to_string(), text);
            assert_eq!(text.len(), DATE_OCTETS);
        }
    }
}
