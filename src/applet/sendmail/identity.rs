//! Who calls: the user's name and address, by the uid that the kernel knows.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use crate::smtp::path::{Mailbox, Utf8};

/// Where the names of users stand. Directories in the network are not asked: a board has none.
const USERS_FILE: &str = "/etc/passwd";
/// Octets of it that are read.
const USERS_OCTETS_MAX: u64 = 1024 * 1024;

/// The address of the user who runs this program, in `domain`; `None` for a uid without a name.
pub(super) fn address(domain: &str) -> Option<Vec<u8>> {
    let uid = rustix::process::getuid().as_raw();
    let file = File::open(USERS_FILE).ok()?;
    let name = name_of(uid, BufReader::new(file.take(USERS_OCTETS_MAX)))?;
    address_of(&name, domain)
}

/// The first user of that number (passwd(5)).
fn name_of(uid: u32, users: impl BufRead) -> Option<Vec<u8>> {
    let uid = uid.to_string();
    users.split(b'\n').map_while(Result::ok).find_map(|line| {
        let mut parts = line.split(|octet| *octet == b':');
        let name = parts.next().filter(|name| !name.is_empty())?;
        (parts.nth(1) == Some(uid.as_bytes())).then(|| name.to_vec())
    })
}

fn address_of(name: &[u8], domain: &str) -> Option<Vec<u8>> {
    let mut quoted = vec![b'"'];
    for octet in name {
        if matches!(octet, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*octet);
    }
    quoted.extend_from_slice(b"\"@");
    quoted.extend_from_slice(domain.as_bytes());
    Mailbox::parse(&quoted, Utf8::Accepted).ok().map(|mailbox| mailbox.octets().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_users() {
        let users =
            b"root:x:0:0:root:/root:/bin/sh\n# c\n:x:1:\nups:x:1:1::/:\nother:x:1:1::/:\nlast:x:65534";
        let name = |uid| name_of(uid, &users[..]);
        assert_eq!(name(0).as_deref(), Some(&b"root"[..]));
        assert_eq!(name(1).as_deref(), Some(&b"ups"[..]));
        assert_eq!(name(65_534).as_deref(), Some(&b"last"[..]));
        assert_eq!(name(2), None);
        let text = |name: &str| {
            address_of(name.as_bytes(), "lan").map(|address| String::from_utf8(address).unwrap())
        };
        assert_eq!(text("www-data").as_deref(), Some("www-data@lan"));
        assert_eq!(text("DOMAIN\\a b").as_deref(), Some("\"DOMAIN\\\\a b\"@lan"));
        assert_eq!(text("a\rb"), None);
    }
}
