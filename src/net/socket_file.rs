//! A listening socket with a name in the file system.
//!
//! A socket that nobody listens on any more, as a crash leaves it, is replaced; one that somebody listens on,
//! and a file of any other kind, never is. The name goes when the socket goes.

use std::fs::{DirBuilder, Metadata, Permissions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use mio::net::UnixListener;

/// The socket and its name.
#[derive(Debug)]
pub(super) struct SocketFile {
    /// The socket.
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and inode.
    place: (u64, u64),
    /// The folder was made for it.
    has_made_folder: bool,
}

impl SocketFile {
    /// Listens at `path`, whose folder is made if its own folder is there. `mode` says who may connect.
    ///
    /// # Errors
    /// `AddrInUse`: another process listens there; `AlreadyExists`: it is a file of another kind; or the
    /// folder can't be had.
    pub(super) fn open(path: &Path, mode: u32) -> Result<Self, Error> {
        let mut has_made_folder = false;
        if let Some(folder) = path.parent() {
            match DirBuilder::new().mode(0o755).create(folder) {
                // The process's own mask keeps others out.
                Ok(()) => {
                    std::fs::set_permissions(folder, Permissions::from_mode(0o755))?;
                    has_made_folder = true;
                }
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                Err(_) => {}
            }
        }
        let listener = match net::UnixListener::bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                remove_stale(path)?;
                net::UnixListener::bind(path)?
            }
            bound => bound?,
        };
        listener.set_nonblocking(true)?;
        let place = place_of(&path.symlink_metadata()?);
        let listener = UnixListener::from_std(listener);
        let socket = Self { listener, path: path.to_path_buf(), place, has_made_folder };
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        Ok(socket)
    }
}

impl SocketFile {
    /// Gives a folder that was made for the socket to the one who will have to remove that; one that was
    /// there stays whose it is. Who can't be given it leaves the name behind, which is no harm.
    pub(super) fn hand_over(&self, uid: u32, gid: u32) {
        if let Some(folder) = self.path.parent().filter(|_| self.has_made_folder) {
            let _ = std::os::unix::fs::chown(folder, Some(uid), Some(gid));
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // What can't be removed stays; the next start replaces it.
        if self.path.symlink_metadata().is_ok_and(|found| place_of(&found) == self.place) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn place_of(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn remove_stale(path: &Path) -> Result<(), Error> {
    if !path.symlink_metadata()?.file_type().is_socket() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    match net::UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Ok(_) | Err(_) => Err(ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("postern-socket-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        folder
    }

    fn kind(opened: Result<SocketFile, Error>) -> ErrorKind {
        opened.map(|_| ()).unwrap_err().kind()
    }

    #[test]
    fn a_stale_socket_is_replaced_and_nothing_else() {
        let folder = folder("stale");
        let path = folder.join("a.sock");
        let socket = SocketFile::open(&path, 0o666).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o666);
        assert_eq!(kind(SocketFile::open(&path, 0o666)), ErrorKind::AddrInUse);
        drop(socket);
        assert!(!path.exists());
        // As a crash leaves it.
        drop(net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(SocketFile::open(&path, 0o600).unwrap());
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(kind(SocketFile::open(&path, 0o666)), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        assert_eq!(kind(SocketFile::open(&folder.join("no/such/a.sock"), 0o666)), ErrorKind::NotFound);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_name_of_a_successor_stays() {
        let folder = folder("successor");
        let path = folder.join("a.sock");
        let first = SocketFile::open(&path, 0o666).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = SocketFile::open(&path, 0o666).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
