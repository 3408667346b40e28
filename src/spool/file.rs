//! The spool's file: the real [`Device`]. Locked before anything else, so that two relays never share it.
//!
//! A file that is not a spool is renamed aside, never written to. A file system in memory is refused unless
//! asked for: a `250` from there would be a lie.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, CWD, FlockOperation, OFlags, RenameFlags};

use super::format::{Found, find_superblock};
use super::layout::{SUPERBLOCK_SLOTS, Stage};
use super::{BLOCK_OCTETS, Block, BlockIndex, Device, DeviceError, Recovery, Start, StartError, Store};

/// File systems that forget everything with the power: tmpfs, ramfs.
const VOLATILE_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// Files that may stand aside beside the spool.
const ASIDE_MAX: u32 = 1000;

/// Why the spool's file can't be used.
#[derive(Debug)]
pub enum OpenError {
    /// It can't be opened, made or locked.
    Io(Error),
    /// It is a folder, a device or the like.
    NotAFile,
    /// It is not there, or not made to its end, and is not to be made now.
    NotMade,
    /// Another process has it.
    InUse,
    /// It is on a file system in memory, and `spool.volatile` is not set.
    Volatile,
    /// It was opened, but can't be started from.
    Start(StartError),
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        Self::Io(error)
    }
}

impl core::fmt::Display for OpenError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Io(error) if error.kind() == ErrorKind::NotFound => {
                f.write_str("its folder does not exist; make it, or set another path")
            }
            Self::Io(error) => write!(f, "{error}"),
            Self::NotAFile => f.write_str("not a regular file; set another path"),
            Self::NotMade => f.write_str("not made yet; start the relay first"),
            Self::InUse => f.write_str("in use by another process; stop that one first"),
            Self::Volatile => f.write_str(
                "on a file system in memory, lost with the power; set another path, or volatile = true",
            ),
            Self::Start(StartError::Device(error)) => write!(f, "{error}"),
            Self::Start(StartError::NotASpool) => f.write_str("not a spool, and can't be renamed aside"),
            Self::Start(StartError::OtherVersion(version)) => {
                write!(f, "a spool of format version {version}, unknown to this program; nothing was changed")
            }
            Self::Start(StartError::TooLarge(blocks)) => {
                let octets = u64::from(*blocks) * BLOCK_OCTETS as u64;
                write!(f, "{octets} octets are more than this build can manage; build for a larger board")
            }
            Self::Start(StartError::TooManyMessages) => {
                f.write_str("it holds more messages than this build can manage; build for a larger board")
            }
        }
    }
}

/// An open and locked spool file.
#[derive(Debug)]
pub struct SpoolFile {
    file: File,
    blocks: u32,
    /// The file ends within a block, as none of ours does unless it was cut.
    is_ragged: bool,
    is_volatile: bool,
}

impl SpoolFile {
    /// Opens or makes the file at `path`, with a lock that ends with the process.
    pub fn open(path: &Path, may_be_volatile: bool) -> Result<Self, OpenError> {
        Self::open_by(open_or_make, path, may_be_volatile)
    }

    fn open_by(
        open: fn(&Path) -> Result<File, OpenError>,
        path: &Path,
        may_be_volatile: bool,
    ) -> Result<Self, OpenError> {
        let file = loop {
            let file = open(path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(OpenError::NotAFile);
            }
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
                if error == rustix::io::Errno::WOULDBLOCK {
                    OpenError::InUse
                } else {
                    OpenError::Io(error.into())
                }
            })?;
            // Whoever had it before may have renamed it aside: the lock would be on a file that nobody sees.
            match std::fs::metadata(path) {
                Ok(named) if is_same(&named, &metadata) => break file,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        };
        let kind = rustix::fs::fstatfs(&file).map_err(Error::from)?.f_type as u64;
        let is_volatile = VOLATILE_FILE_SYSTEMS.contains(&(kind & 0xffff_ffff));
        if is_volatile && !may_be_volatile {
            return Err(OpenError::Volatile);
        }
        let octets = file.metadata()?.len();
        // A file shorter than a block is not an empty one: it may be somebody else's. A ragged end is
        // made whole by the start, which finds a block too few.
        let is_ragged = !octets.is_multiple_of(BLOCK_OCTETS as u64);
        let blocks = octets / BLOCK_OCTETS as u64;
        let blocks = if octets > 0 { blocks.max(1) } else { 0 };
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        Ok(Self { file, blocks, is_ragged, is_volatile })
    }

    /// True when it is on a file system in memory: what is in it ends with the power.
    pub fn is_volatile(&self) -> bool {
        self.is_volatile
    }
}

impl SpoolFile {
    /// A block that the file ends in: what is not there reads as zeros.
    fn read_last(&self, at: BlockIndex, into: &mut Block) -> Result<(), Error> {
        let octets = self.file.metadata()?.len().saturating_sub(offset(at)).min(BLOCK_OCTETS as u64);
        into.fill(0);
        self.file.read_exact_at(&mut into[..octets as usize], offset(at))
    }
}

impl SpoolFile {
    /// True for a file that is no spool though its whole blocks may be zeros, as those of a new one are.
    fn is_foreign(&mut self) -> bool {
        if !self.is_ragged {
            return false;
        }
        let whole = self.blocks;
        let mut block = [0; BLOCK_OCTETS];
        let mut is_zero = |at| self.read(BlockIndex(at), &mut block).is_ok() && block == [0; BLOCK_OCTETS];
        is_zero(0) && (whole < SUPERBLOCK_SLOTS || is_zero(1))
    }
}

fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    // Not blocking on a FIFO that somebody put there, not following a link that somebody put there.
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits() as i32);
    options
}

fn open_existing(path: &Path) -> Result<File, OpenError> {
    match options().open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(OpenError::NotMade),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::ISDIR.raw_os_error()) => {
            Err(OpenError::NotAFile)
        }
        opened => Ok(opened?),
    }
}

fn open_or_make(path: &Path) -> Result<File, OpenError> {
    match open_existing(path) {
        Err(OpenError::NotMade) => {}
        opened => return opened,
    }
    let mut options = options();
    match options.create_new(true).open(path) {
        Ok(file) => {
            sync_folder(path)?;
            Ok(file)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(options.create_new(false).open(path)?),
        Err(error) => Err(error.into()),
    }
}

/// Makes the file at `path` if there is none, and gives it to the user `uid` and the group `gid`: for a relay
/// that is root only until then.
///
/// # Errors
/// It can't be opened or made, or is not a plain file of one name: its folder may be another's, who could
/// else have any file given away.
pub fn hand_over(path: &Path, uid: u32, gid: u32) -> Result<(), OpenError> {
    let file = open_or_make(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Err(OpenError::NotAFile);
    }
    if (metadata.uid(), metadata.gid()) != (uid, gid) {
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// Makes the name of `path` itself durable.
fn sync_folder(path: &Path) -> Result<(), Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Starts the spool at `path`; a file that is not a spool is renamed aside first and a new one made.
pub fn start_at(
    path: &Path,
    may_be_volatile: bool,
    start: Start,
) -> Result<(Store<SpoolFile>, Recovery), OpenError> {
    let mut file = SpoolFile::open(path, may_be_volatile)?;
    if !file.is_foreign() {
        match Store::start(file, start) {
            Err(StartError::NotASpool) => {}
            started => return started.map_err(OpenError::Start),
        }
    }
    let aside = rename_aside(path)?;
    log::error!("spool: {} was not a spool; kept as {}", path.display(), aside.display());
    Store::start(SpoolFile::open(path, may_be_volatile)?, start).map_err(OpenError::Start)
}

/// Starts the spool at `path` as it is: for the one who adds a message while no relay runs. Nothing is made,
/// renamed or resized.
///
/// # Errors
/// Also when there is no whole spool yet, or the file is something else.
pub fn start_existing(
    path: &Path,
    may_be_volatile: bool,
    start: Start,
) -> Result<(Store<SpoolFile>, Recovery), OpenError> {
    let mut file = SpoolFile::open_by(open_existing, path, may_be_volatile)?;
    if file.is_foreign() {
        return Err(OpenError::Start(StartError::NotASpool));
    }
    match find_superblock(&mut file).map_err(OpenError::Start)? {
        Found::Superblock { superblock, .. } if superblock.stage == Stage::Ready => {
            Store::start(file, Start { blocks: superblock.blocks, ..start }).map_err(OpenError::Start)
        }
        Found::Superblock { .. } | Found::Nothing => Err(OpenError::NotMade),
    }
}

fn rename_aside(path: &Path) -> Result<PathBuf, OpenError> {
    for number in 1..=ASIDE_MAX {
        let mut name = OsString::from(path);
        name.push(format!(".aside-{number}"));
        match rustix::fs::renameat_with(CWD, path, CWD, &name, RenameFlags::NOREPLACE) {
            Ok(()) => {
                sync_folder(path)?;
                return Ok(name.into());
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(OpenError::Io(error.into())),
        }
    }
    Err(OpenError::Start(StartError::NotASpool))
}

fn device_error(error: &Error) -> DeviceError {
    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        DeviceError::NoSpace
    } else {
        DeviceError::Io
    }
}

fn offset(at: BlockIndex) -> u64 {
    u64::from(at.0) * BLOCK_OCTETS as u64
}

impl Device for SpoolFile {
    fn blocks(&self) -> u32 {
        self.blocks
    }

    fn read(&mut self, at: BlockIndex, into: &mut Block) -> Result<(), DeviceError> {
        match self.file.read_exact_at(into, offset(at)) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.read_last(at, into),
            read => read,
        }
        .map_err(|error| device_error(&error))
    }

    fn write(&mut self, at: BlockIndex, from: &Block) -> Result<(), DeviceError> {
        self.file.write_all_at(from, offset(at)).map_err(|error| device_error(&error))
    }

    fn sync(&mut self) -> Result<(), DeviceError> {
        self.file.sync_data().map_err(|error| device_error(&error))
    }

    fn drop_cache(&mut self) {
        // Advice only: where it is not taken, a page that failed to reach the disk reads as if it had.
        if let Err(error) = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed) {
            log::warn!("spool: can't drop cached pages: {error}");
        }
    }

    fn resize(&mut self, blocks: u32) -> Result<(), DeviceError> {
        let octets = u64::from(blocks) * BLOCK_OCTETS as u64;
        self.file
            .set_len(octets)
            .and_then(|()| self.file.sync_all())
            .map_err(|error| device_error(&error))?;
        self.blocks = blocks;
        Ok(())
    }
}
