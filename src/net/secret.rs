//! The secret of the login, from its file: read at each login, so that a new one counts at once, and kept by
//! nobody.
//!
//! A file that others may read is refused, whatever it holds (SEC-file-a). What it holds is never printed.
//! One kind of secret is also written: a refresh token that was replaced by its provider.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
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

/// Writes `secret` as the one line of the file `path`: either the old content stands there or the new one,
/// whenever the power goes. Mode and owner stay as they were; a new file has 0600 and the owner of its
/// folder, where we may give it away.
///
/// # Errors
/// The file is as before: it can't be replaced, is a link, or its owner can't be kept.
pub(super) fn save(path: &Path, secret: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let before = match std::fs::symlink_metadata(path) {
        // Its folder may be another's, who could else have any file replaced.
        Ok(metadata) if !metadata.is_file() => {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is a link, or no plain file"));
        }
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut new_name = OsString::from(".");
    new_name.push(name);
    new_name.push(".new");
    let new = folder.join(new_name);
    // What a power cut left behind.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = write_new(file, secret, before.as_ref(), folder)
        .and_then(|()| std::fs::rename(&new, path))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}

fn write_new(mut file: File, secret: &[u8], before: Option<&Metadata>, folder: &Path) -> io::Result<()> {
    file.write_all(secret)?;
    file.write_all(b"\n")?;
    match before {
        Some(before) => {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
                fchown(&file, Some(before.uid()), Some(before.gid()))?;
            }
            file.set_permissions(Permissions::from_mode(before.mode() & 0o7777 & !OTHERS))?;
        }
        None => {
            let folder = std::fs::metadata(folder)?;
            // Only root may; another user's file is its own already.
            let _ = fchown(&file, Some(folder.uid()), Some(folder.gid()));
        }
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
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

    /// The mode stays, others never get in, and what a cut left behind is no obstacle.
    #[test]
    fn a_saved_secret_replaces_the_old_one_whole() {
        let path = written("that-rotates", b"old", 0o640);
        let folder = path.parent().unwrap();
        std::fs::write(folder.join(".that-rotates.new"), b"half of a tok").unwrap();
        let stamp = Stamp::of(&path);
        save(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new\n");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert_ne!(Stamp::of(&path), stamp);
        assert!(!folder.join(".that-rotates.new").exists());
        let link = folder.join("link-that-rotates");
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(save(&link, b"newer").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"new\n");
        let exposed = written("that-others-read", b"old", 0o644);
        save(&exposed, b"new").unwrap();
        assert_eq!(std::fs::metadata(&exposed).unwrap().mode() & 0o7777, 0o640);
        let fresh = folder.join("that-is-new");
        let _ = std::fs::remove_file(&fresh);
        save(&fresh, b"first").unwrap();
        assert_eq!(std::fs::metadata(&fresh).unwrap().mode() & 0o7777, 0o600);
        assert!(save(&folder.join("nowhere/secret"), b"x").is_err());
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
