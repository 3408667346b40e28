//! A listening socket with a name in the file system.
//!
//! A socket that nobody listens on any more, as a crash leaves it, is replaced; one that somebody listens on,
//! and a file of any other kind, never is. The name goes when the socket goes.
//!
//! Mode and owner are changed by what was opened and looked at, never by name: the folder may be another's,
//! the one's whom root became last time, and who could else have any file given away.

use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io::{Error, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, fchown};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use mio::net::UnixListener;
use rustix::fs::{AtFlags, Mode, OFlags, chownat};
use rustix::thread::{Gid, Uid};

use super::privileges::Identity;

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
        let has_made_folder = path.parent().map(make_folder).transpose()?.unwrap_or(false);
        let listener = match net::UnixListener::bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                remove_stale(path)?;
                net::UnixListener::bind(path)?
            }
            bound => bound?,
        };
        listener.set_nonblocking(true)?;
        let (file, metadata) = opened_socket(path)?;
        let listener = UnixListener::from_std(listener);
        let place = place_of(&metadata);
        let socket = Self { listener, path: path.to_path_buf(), place, has_made_folder };
        // By the one way there is for the mode of a file that can't be read or written.
        let way = format!("/proc/self/fd/{}", file.as_raw_fd());
        std::fs::set_permissions(way, Permissions::from_mode(mode))?;
        Ok(socket)
    }
}

impl SocketFile {
    /// Gives the socket to the one whom the process becomes, so that tools which run as that one may ask,
    /// too; and a folder that was made for it, so that the name can be removed. A folder that was there stays
    /// whose it is: then the name stays behind at the end, as it does where root may not give anything away,
    /// which is no harm.
    pub(super) fn hand_over(&self, identity: &Identity) {
        if let Err(error) = self.give(identity.uid, identity.gid) {
            log::debug!("{} stays root's: {error}", self.path.display());
        }
    }

    fn give(&self, uid: u32, gid: u32) -> Result<(), Error> {
        let (file, metadata) = opened_socket(&self.path)?;
        if place_of(&metadata) != self.place {
            return Err(ErrorKind::NotFound.into());
        }
        chownat(&file, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)?;
        if let Some(folder) = self.path.parent().filter(|_| self.has_made_folder) {
            fchown(open(folder, OFlags::DIRECTORY)?, Some(uid), Some(gid))?;
        }
        Ok(())
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

/// True when the folder was not there.
fn make_folder(folder: &Path) -> Result<bool, Error> {
    match DirBuilder::new().mode(0o755).create(folder) {
        // The process's own mask keeps others out.
        Ok(()) => {
            open(folder, OFlags::DIRECTORY)?.set_permissions(Permissions::from_mode(0o755))?;
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Not by std: where the C library is musl, it takes `OFlags::PATH` out again, as a mode of access.
fn open(path: &Path, flags: OFlags) -> Result<File, Error> {
    Ok(rustix::fs::open(path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// The file of a socket, which can't be opened but as a place. One with a second name may be anybody's.
fn opened_socket(path: &Path) -> Result<(File, Metadata), Error> {
    let file = open(path, OFlags::PATH)?;
    let metadata = file.metadata()?;
    let is_ours = metadata.file_type().is_socket() && metadata.nlink() == 1;
    if is_ours { Ok((file, metadata)) } else { Err(ErrorKind::AlreadyExists.into()) }
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
    fn what_took_its_place_is_not_given_away() {
        let folder = folder("given");
        let path = folder.join("a.sock");
        let socket = SocketFile::open(&path, 0o600).unwrap();
        let own = path.metadata().unwrap();
        socket.give(own.uid(), own.gid()).unwrap();
        let other = folder.join("b.sock");
        let _other = net::UnixListener::bind(&other).unwrap();
        for replace in [
            |_: &Path, path: &Path| std::fs::write(path, "precious"),
            |other: &Path, path: &Path| std::fs::hard_link(other, path),
            |other: &Path, path: &Path| std::os::unix::fs::symlink(other, path),
            |_: &Path, path: &Path| net::UnixListener::bind(path).map(drop),
        ] {
            std::fs::remove_file(&path).unwrap();
            replace(&other, &path).unwrap();
            socket.give(own.uid(), own.gid()).unwrap_err();
        }
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
