//! The secret of the login, from its file: read at each login, so that a new one counts at once, and kept by
//! nobody.
//!
//! A file that others may read is refused, whatever it holds (SEC-file-a). What it holds is never printed.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::sender::{SECRET_OCTETS_MAX, Secret, SecretFault};

/// The bits of a mode that let others read or write.
const OTHERS: u32 = 0o006;

/// What tells one content of a file from the next, without reading it; none: there is no such file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp(Option<[i64; 6]>);

impl Stamp {
    /// The stamp of the file `path` as it is now.
    pub(super) fn of(path: &Path) -> Self {
        Self::new(std::fs::metadata(path).ok().as_ref())
    }

    fn new(metadata: Option<&Metadata>) -> Self {
        Self(metadata.map(|metadata| {
            [
                metadata.ino() as i64,
                metadata.size() as i64,
                metadata.mtime(),
                metadata.mtime_nsec(),
                // A changed mode or owner counts too.
                metadata.ctime(),
                metadata.ctime_nsec(),
            ]
        }))
    }
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// Anybody.
    All,
    /// Nobody but its owner and group.
    Few,
}

/// Reads the secret in `path`; with the stamp of what was read.
pub(super) fn read(path: &Path) -> (Result<Secret, SecretFault>, Stamp) {
    let (octets, stamp) = read_file(path, Readers::Few, SECRET_OCTETS_MAX + "\r\n".len());
    (octets.and_then(Secret::new), stamp)
}

/// The content of the file `path`, with one octet more than `octets_max` when it is longer; with the stamp of
/// what was read.
pub(super) fn read_file(
    path: &Path,
    readers: Readers,
    octets_max: usize,
) -> (Result<Zeroizing<Vec<u8>>, SecretFault>, Stamp) {
    // A pipe or a terminal must not hold up the loop.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return (Err(SecretFault::Missing), Stamp::of(path));
        }
        Err(_) => return (Err(SecretFault::Unreadable), Stamp::of(path)),
    };
    let Ok(metadata) = file.metadata() else { return (Err(SecretFault::Unreadable), Stamp::default()) };
    let stamp = Stamp::new(Some(&metadata));
    if readers == Readers::Few && metadata.is_file() && metadata.mode() & OTHERS != 0 {
        return (Err(SecretFault::Exposed), stamp);
    }
    (read_opened(file, &metadata, octets_max), stamp)
}

fn read_opened(
    mut file: File,
    metadata: &Metadata,
    octets_max: usize,
) -> Result<Zeroizing<Vec<u8>>, SecretFault> {
    if !metadata.is_file() {
        return Err(SecretFault::Unreadable);
    }
    // One buffer that never grows, so that no copy stays behind; a longer content shows by filling it.
    let mut octets = Zeroizing::new(vec![0; octets_max + 1]);
    let mut used = 0;
    while used < octets.len() {
        match file.read(&mut octets[used..]) {
            Ok(0) => break,
            Ok(count) => used += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(SecretFault::Unreadable),
        }
    }
    octets.truncate(used);
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn written(name: &str, content: &[u8], mode: u32) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("postern-secret-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// SEC-file-a, SEC-cred-a: what others may read is refused, and a secret shows nothing of itself.
    #[test]
    fn a_secret_is_one_line_that_others_cannot_read() {
        for (content, mode, expected) in [
            (&b"hunter2\n"[..], 0o600, None),
            (b"hunter2", 0o640, None),
            (b"hunter2\r\n", 0o400, None),
            (b"hunter2\n", 0o644, Some(SecretFault::Exposed)),
            (b"hunter2\n", 0o602, Some(SecretFault::Exposed)),
            (b"", 0o600, Some(SecretFault::Empty)),
            (b"\r\n", 0o600, Some(SecretFault::Empty)),
            (b"one\ntwo\n", 0o600, Some(SecretFault::Malformed)),
            (b"a\0b", 0o600, Some(SecretFault::Malformed)),
            (&[b'x'; SECRET_OCTETS_MAX], 0o600, None),
            (&[b'x'; SECRET_OCTETS_MAX + 1], 0o600, Some(SecretFault::Malformed)),
            (&[b'x'; SECRET_OCTETS_MAX + 9], 0o600, Some(SecretFault::Malformed)),
        ] {
            let secret = read(&written("of-a-login", content, mode)).0;
            assert_eq!(secret.as_ref().err(), expected.as_ref(), "mode {mode:o}");
            assert!(!format!("{secret:?}").contains("hunter2"));
        }
        assert_eq!(read(Path::new("/nowhere/secret")).0.unwrap_err(), SecretFault::Missing);
        assert_eq!(read(&std::env::temp_dir()).0.unwrap_err(), SecretFault::Unreadable);
    }

    #[test]
    fn a_new_content_has_a_new_stamp() {
        let path = written("that-changes", b"one", 0o600);
        let stamp = read(&path).1;
        assert_eq!(Stamp::of(&path), stamp);
        std::fs::remove_file(&path).unwrap();
        assert_ne!(Stamp::of(&path), stamp);
        assert_eq!(Stamp::of(&path), read(&path).1);
        let path = written("that-changes", b"three", 0o600);
        assert_ne!(Stamp::of(&path), stamp);
    }
}
