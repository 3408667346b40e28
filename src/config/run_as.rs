//! The key `run_as`: who the daemon becomes once its ports are bound.
//!
//! Only its form is judged here; whether there is such a user, the system says at the start.

use toml::de::DeValue;

use super::values;

/// Octets of a user's name (LOGIN_NAME_MAX without its final zero).
const NAME_OCTETS_MAX: usize = 255;
const FORMS: &str =
    "write a user's name, a number as \"65534\", or \"uid:gid\" as \"65534:65534\"; root is not one";

/// Whom to become; never root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// A user of /etc/passwd, in the groups that /etc/group has it in.
    Name(String),
    /// A user of /etc/passwd by its number, in its own group only.
    User(u32),
    /// A user and a group by their numbers, which no file need know.
    UserAndGroup(u32, u32),
}

/// Reads the key's value.
pub(super) fn run_as(value: &DeValue<'_>) -> Result<RunAs, String> {
    let text = values::text(value)?;
    let refused = || format!("is {text:?}; {FORMS}");
    // The highest number means "no change" to the kernel.
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| (1..u32::MAX).contains(number));
    if text.starts_with(|character: char| character.is_ascii_digit()) {
        let parsed = match text.split_once(':') {
            Some((user, group)) => {
                number(user).zip(number(group)).map(|ids| RunAs::UserAndGroup(ids.0, ids.1))
            }
            None => number(text).map(RunAs::User),
        };
        return parsed.ok_or_else(refused);
    }
    let is_name = text.len() <= NAME_OCTETS_MAX
        && text.bytes().all(|octet| octet.is_ascii_graphic() && !b":/,".contains(&octet));
    if is_name && text != "root" { Ok(RunAs::Name(text.to_owned())) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<RunAs> {
        run_as(&DeValue::String(text.into())).ok()
    }

    #[test]
    fn names_and_numbers_are_taken_and_root_is_not() {
        assert_eq!(parsed("postern"), Some(RunAs::Name("postern".to_owned())));
        assert_eq!(parsed("65534"), Some(RunAs::User(65534)));
        assert_eq!(parsed("1:4294967294"), Some(RunAs::UserAndGroup(1, u32::MAX - 1)));
        for text in
            ["", "root", "0", "0:5", "5:0", "4294967295", "5:", ":5", "5:x", "a:b", "a b", "a/b", "5x"]
        {
            assert_eq!(parsed(text), None, "{text}");
        }
        assert!(run_as(&DeValue::Boolean(true)).is_err());
    }
}
