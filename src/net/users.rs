//! The passwords of those who may log in, from their files, once at start.
//!
//! A file that others may read is refused, whatever it holds (SEC-file-a). What it holds is never printed.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use rustix::fs::OFlags;

use super::StartError;
use crate::config::User;
use crate::receiver::Users;
use crate::smtp::login::PASSWORD_OCTETS_MAX;

/// The bits of a mode that let others read or write.
const OTHERS: u32 = 0o006;

/// Reads the password of each user.
///
/// # Errors
/// A file that is not there, may be read by others, or doesn't hold one line.
pub(super) fn read(users: &[User]) -> Result<Users, StartError> {
    let mut all = Users::new();
    for user in users {
        let fault =
            |what| StartError::User { name: user.name.clone(), path: user.password_file.clone(), what };
        // A pipe or a terminal must not hold up the start.
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&user.password_file);
        let file = opened.map_err(|_| fault("can't be opened; it must be there, and readable"))?;
        let metadata = file.metadata().map_err(|_| fault("can't be read"))?;
        if !metadata.is_file() {
            return Err(fault("is not a file"));
        }
        if metadata.mode() & OTHERS != 0 {
            return Err(fault("may be read by others; set its mode to 0600 or 0640"));
        }
        let mut octets = Vec::with_capacity(PASSWORD_OCTETS_MAX + 3);
        let read = file.take(PASSWORD_OCTETS_MAX as u64 + 3).read_to_end(&mut octets);
        read.map_err(|_| fault("can't be read"))?;
        let line = octets.strip_suffix(b"\n").unwrap_or(&octets);
        let password = line.strip_suffix(b"\r").unwrap_or(line);
        let is_line = !password.iter().any(u8::is_ascii_control);
        if !is_line || !all.add(user.name.as_bytes(), password) {
            return Err(fault("has not one line of 1 to 128 octets"));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    fn written(name: &str, content: &[u8], mode: u32) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("postern-users-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_password_is_one_line_in_a_file_that_others_cannot_read() {
        let user = |password_file| [User { name: "printer".to_owned(), password_file }];
        for content in [&b"secret"[..], b"secret\n", b"secret\r\n"] {
            let users = read(&user(written("good", content, 0o640))).unwrap();
            assert!(users.are(b"printer", b"secret"), "{}", content.escape_ascii());
        }
        for (name, content, mode) in [
            ("exposed", &b"secret"[..], 0o644),
            ("empty", b"\n", 0o600),
            ("two", b"a\nb\n", 0o600),
            ("long", &[b'x'; PASSWORD_OCTETS_MAX + 1], 0o600),
        ] {
            let error = read(&user(written(name, content, mode))).unwrap_err().to_string();
            assert!(error.starts_with("users.printer: ") && !error.contains("secret"), "{error}");
        }
        assert!(read(&user(PathBuf::from("/nowhere/at/all"))).is_err());
        assert!(read(&user(std::env::temp_dir())).is_err());
    }
}
