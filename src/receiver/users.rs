//! Who may log in (RFC 4954), and whether somebody is who he says.
//!
//! A comparison takes as long for a wrong name as for a wrong password, and as long for a nearly right one as
//! for a wrong one. What is compared is never printed.

use core::fmt;

use crate::config::USERS_COUNT_MAX;
use crate::smtp::login::{PASSWORD_OCTETS_MAX, USER_OCTETS_MAX};

/// Octets of a text that is compared in constant time, and its length.
type Secret = ([u8; PASSWORD_OCTETS_MAX], u8);

/// One who may log in.
#[derive(Clone)]
struct User {
    name: Secret,
    password: Secret,
}

/// All who may log in.
#[derive(Clone, Default)]
pub struct Users(heapless::Vec<User, USERS_COUNT_MAX>);

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.0.len())
    }
}

const _: () = assert!(USER_OCTETS_MAX <= PASSWORD_OCTETS_MAX && PASSWORD_OCTETS_MAX <= u8::MAX as usize);

impl Users {
    /// Nobody.
    pub const fn new() -> Self {
        Self(heapless::Vec::new())
    }

    /// Adds one more; false when a text is empty or too long, or there are too many.
    #[must_use]
    pub fn add(&mut self, name: &[u8], password: &[u8]) -> bool {
        let is_whole = !name.is_empty() && !password.is_empty();
        match (secret(name), secret(password)) {
            (Some(name), Some(password)) if is_whole => self.0.push(User { name, password }).is_ok(),
            _ => false,
        }
    }

    /// True when a user has this name and this password. All users are looked at.
    pub fn are(&self, name: &[u8], password: &[u8]) -> bool {
        // What is too long is nobody's, and compared all the same.
        let name = secret(name).unwrap_or(([0; PASSWORD_OCTETS_MAX], u8::MAX));
        let password = secret(password).unwrap_or(([0; PASSWORD_OCTETS_MAX], u8::MAX));
        self.0.iter().fold(false, |found, user| {
            let differs = difference(&user.name, &name) | difference(&user.password, &password);
            found | (differs == 0)
        })
    }
}

fn secret(text: &[u8]) -> Option<Secret> {
    let mut octets = [0; PASSWORD_OCTETS_MAX];
    octets.get_mut(..text.len())?.copy_from_slice(text);
    Some((octets, text.len() as u8))
}

/// No bit when both are the same; every octet is looked at, and the compiler can't see the use in stopping.
fn difference(a: &Secret, b: &Secret) -> u8 {
    let octets = a.0.iter().zip(&b.0).fold(0, |bits, (a, b)| core::hint::black_box(bits | (a ^ b)));
    octets | (a.1 ^ b.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_password_must_both_be_right() {
        let mut users = Users::new();
        assert!(users.add(b"printer", b"secret") && users.add(b"nas", &[b'x'; PASSWORD_OCTETS_MAX]));
        assert!(users.are(b"printer", b"secret"));
        assert!(users.are(b"nas", &[b'x'; PASSWORD_OCTETS_MAX]));
        for (name, password) in [
            (&b"printer"[..], &b"secreT"[..]),
            (b"printer", b"secret\0"),
            (b"printer", b""),
            (b"Printer", b"secret"),
            (b"nas", b"secret"),
            (b"", b""),
            (b"nas", &[b'x'; PASSWORD_OCTETS_MAX + 1]),
            (&[0; PASSWORD_OCTETS_MAX + 1], b"secret"),
        ] {
            assert!(!users.are(name, password), "{}", name.escape_ascii());
        }
        assert!(!Users::new().are(b"", b""));
        assert!(!users.add(b"", b"x") && !users.add(b"x", b"") && !users.add(b"x", &[0; 200]));
        assert_eq!(format!("{users:?}"), "Users(2)");
    }
}
