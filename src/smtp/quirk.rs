//! Habits of old devices that RFC 5321 doesn't know and a relay for them takes, each by its name in the
//! configuration.
//!
//! None of them makes an end of mail data or of a command out of anything but CRLF.

/// A habit that is tolerated, or was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Quirk {
    /// `MAIL FROM:a@b`: a path without its angle brackets.
    MissingBrackets,
    /// `MAIL FROM: <a@b>`.
    SpaceAfterColon,
    /// `EHLO printer (HP) 1.0`: text behind the name.
    HeloJunk,
    /// A line of mail data past RFC 5321 4.5.3.1.6.
    LongLines,
    /// AUTH LOGIN with the user's name in the command, base64 without its padding.
    AuthLogin,
    /// A message without Date, Message-ID or From, or without any header section.
    MissingFields,
    /// An LF without its CR in mail data.
    BareLf,
    /// QUIT that comes with the end of mail data, before its reply, after HELO.
    EarlyQuit,
    /// A connection that ends without QUIT.
    LostQuit,
}

/// A set of quirks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks(u16);

impl Quirk {
    /// All of them, in the order of their counts.
    pub const ALL: [Self; 9] = [
        Self::MissingBrackets,
        Self::SpaceAfterColon,
        Self::HeloJunk,
        Self::LongLines,
        Self::AuthLogin,
        Self::MissingFields,
        Self::BareLf,
        Self::EarlyQuit,
        Self::LostQuit,
    ];

    /// Its name under `quirks` in the configuration, and in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MissingBrackets => "missing_brackets",
            Self::SpaceAfterColon => "space_after_colon",
            Self::HeloJunk => "helo_junk",
            Self::LongLines => "long_lines",
            Self::AuthLogin => "auth_login",
            Self::MissingFields => "missing_fields",
            Self::BareLf => "bare_lf",
            Self::EarlyQuit => "early_quit",
            Self::LostQuit => "lost_quit",
        }
    }
}

impl Quirks {
    /// No quirk.
    pub const NONE: Self = Self(0);
    /// Every quirk.
    pub const ALL: Self = Self((1 << Quirk::ALL.len()) - 1);

    /// True when `quirk` is in the set.
    pub const fn contains(self, quirk: Quirk) -> bool {
        self.0 & (1 << quirk as u8) != 0
    }

    /// Adds `quirk`.
    pub const fn insert(&mut self, quirk: Quirk) {
        self.0 |= 1 << quirk as u8;
    }

    /// Takes `quirk` out.
    pub const fn remove(&mut self, quirk: Quirk) {
        self.0 &= !(1 << quirk as u8);
    }

    /// What is in the set, in the order of [`Quirk::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Quirk> {
        Quirk::ALL.into_iter().filter(move |quirk| self.contains(*quirk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let mut set = Quirks::NONE;
        set.insert(Quirk::BareLf);
        set.insert(Quirk::LostQuit);
        set.remove(Quirk::LostQuit);
        assert!(set.contains(Quirk::BareLf) && !set.contains(Quirk::LostQuit));
        assert_eq!(set.iter().collect::<Vec<_>>(), [Quirk::BareLf]);
        assert!(Quirk::ALL.into_iter().all(|quirk| Quirks::ALL.contains(quirk)));
    }
}
