//! The disk alone: the spool's file system, what reaches its block device, how fast a bare durable write is.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::Failed;

const BLOCK_OCTETS: usize = 4096;
/// As large as the relay's spool in the accept passes.
const FLOOR_BLOCKS: usize = 16_384;

/// Where a folder lies.
pub(crate) struct FileSystem {
    kind: String,
    device: String,
}

impl FileSystem {
    /// Reads `/proc/self/mountinfo` for the device of `folder`.
    pub(crate) fn of(folder: &Path) -> Result<Self, Failed> {
        let number = std::fs::metadata(folder)?.dev();
        let device = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let kind = mounts
            .lines()
            .filter(|line| line.split(' ').nth(2) == Some(&device))
            .find_map(|line| line.split(" - ").nth(1)?.split(' ').next())
            .unwrap_or("unknown");
        Ok(Self { kind: kind.to_string(), device })
    }
    /// A 250 from there would be a lie, and its rates, too.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.kind.as_str(), "tmpfs" | "ramfs")
    }
    /// Octets written to the whole block device since boot; `None` where the file system has none of its own.
    pub(crate) fn octets_written(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/sys/dev/block/{}/stat", self.device)).ok()?;
        Some(text.split_whitespace().nth(6)?.parse::<u64>().ok()? * 512)
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on block device {}", self.kind, self.device)
    }
}

/// Durable writes a second of one block after the other, in a file that was filled and synced before.
pub(crate) fn floor(folder: &Path, during: Duration) -> Result<f64, Failed> {
    let path = folder.join("floor");
    let file = filled(&path)?;
    let mut block = [0x5a; BLOCK_OCTETS];
    let start = Instant::now();
    let mut count = 0_usize;
    while start.elapsed() < during {
        block[..8].copy_from_slice(&count.to_le_bytes());
        file.write_all_at(&block, (count % FLOOR_BLOCKS * BLOCK_OCTETS) as u64)?;
        file.sync_data()?;
        count += 1;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(rate)
}

fn filled(path: &Path) -> Result<File, Failed> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..FLOOR_BLOCKS {
        let mut block = [0; BLOCK_OCTETS];
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block)?;
    }
    file.sync_all()?;
    Ok(file)
}
