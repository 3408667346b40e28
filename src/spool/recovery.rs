//! The start of a spool, which is always a recovery: there is no clean shutdown to rely on.
//!
//! What the cache may hold but not the disk is made durable or dropped first, then the used part is read. Of
//! each id without a tombstone the highest generation whose chain verifies lives. What is left of others is
//! blanked and synced, then the new epoch is written and synced, before any block is used again.
//!
//! A broken chain in the last group commit was interrupted by a crash: nobody was told that it is safe, and
//! it is freed. In an earlier one it is damage: it is set aside and kept.

use super::block_map::BlockMap;
use super::device::BLOCK_OCTETS;
use super::draft::{DRAFTS, Slot};
use super::format::{Found, fill, find_superblock, format};
use super::layout::{self, Head, Header, Kind, Read, SUPERBLOCK_SLOTS, Stage, Superblock};
use super::listing::Unreadable;
use super::table::{Entry, State, Table};
use super::{Device, DeviceError, MessageId, Store};
use crate::limits::{QUEUED_MESSAGES, SPOOL_BLOCKS};
use crate::time::{Instant, Tick};

/// What recovery found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Messages that wait or failed.
    pub messages: u32,
    /// Drafts that a crash interrupted: never acknowledged, their blocks are free.
    pub interrupted: u32,
    /// Messages or blocks that are damaged: kept out of use, not relayed.
    pub set_aside: u32,
    /// True when the file was made or filled anew.
    pub is_new: bool,
}

/// Why the spool can't start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The disk does not work.
    Device(DeviceError),
    /// The file holds something else; nothing of it was changed.
    NotASpool,
    /// A spool of another format version; nothing of it was changed.
    OtherVersion(u16),
    /// More blocks than this build can manage ([`crate::limits::SPOOL_BLOCKS`]).
    TooLarge(u32),
    /// More messages than this build can manage ([`crate::limits::QUEUED_MESSAGES`]).
    TooManyMessages,
}

impl From<DeviceError> for StartError {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

/// What the spool is started with.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The size wanted, in blocks.
    pub blocks: u32,
    /// Where the filler and the first epoch of a new file come from; any number.
    pub seed: u64,
    /// The boot clock.
    pub now: Instant,
}

/// A head that was found, sound or broken.
#[derive(Clone, Copy, Debug)]
struct FoundHead {
    id: MessageId,
    generation: u32,
    commit: u64,
    block: u32,
}

/// What following the chain of one head gave.
enum Chain {
    Whole,
    /// Torn or damaged.
    Broken,
    /// The disk gave an error, or something that was never written: no tear does that, so it is no
    /// interrupted draft.
    NotReadable,
}

/// Which of a message's heads lives.
enum Newest {
    Lives(usize),
    None,
    NotReadable,
}

/// What a reading of the used part found. Lives only during the start.
#[derive(Default)]
struct Scan {
    heads: Vec<FoundHead>,
    broken_heads: Vec<FoundHead>,
    tombstones: Vec<MessageId>,
    unknown: Vec<u32>,
    epoch_max: u32,
    commit_max: u64,
    accepted_max: Tick,
}

impl Scan {
    fn has_tombstone(&self, id: MessageId) -> bool {
        self.tombstones.binary_search(&id).is_ok()
    }

    fn newest_generation(&self, id: MessageId) -> Option<u32> {
        let first = self.heads.partition_point(|head| head.id < id);
        self.heads.get(first).filter(|head| head.id == id).map(|head| head.generation)
    }
}

impl<D: Device> Store<D> {
    /// Recovers what the disk holds; the only way to start. An empty device (no blocks) becomes a new spool.
    ///
    /// A smaller size than the file's takes effect when no message lies beyond it.
    pub fn start(mut device: D, start: Start) -> Result<(Self, Recovery), StartError> {
        if start.blocks as usize > SPOOL_BLOCKS {
            return Err(StartError::TooLarge(start.blocks));
        }
        let mut recovery = Recovery::default();
        let (superblock, is_alone) = match find_superblock(&mut device)? {
            Found::Superblock { superblock, is_alone } if superblock.stage == Stage::Ready => {
                (superblock, is_alone)
            }
            Found::Nothing | Found::Superblock { .. } => {
                recovery.is_new = true;
                (format(&mut device, &start)?, false)
            }
        };
        if superblock.blocks as usize > SPOOL_BLOCKS {
            return Err(StartError::TooLarge(superblock.blocks));
        }
        device.sync()?;
        device.drop_cache();
        let present = device.blocks().min(superblock.blocks);
        if present < superblock.blocks {
            log::error!(
                "spool: the file was cut to {present} of {} blocks; extended again",
                superblock.blocks
            );
            device.resize(superblock.blocks)?;
            fill(&mut device, superblock.seed, present, superblock.blocks)?;
        }
        let mut store = Self::over(device, superblock, start.now);
        if is_alone {
            log::warn!("spool: one superblock slot is damaged; reading the whole file");
            store.superblock.high_water = superblock.blocks;
        }
        let scan = store.scan();
        store.revive(&scan, &mut recovery)?;
        store.superblock.damage_told = store.damage().1;
        store.begin_epoch(&scan, is_alone)?;
        store.resize(start.blocks)?;
        Ok((store, recovery))
    }

    fn over(device: D, superblock: Superblock, now: Instant) -> Self {
        Self {
            device,
            superblock,
            map: BlockMap::new(SPOOL_BLOCKS),
            table: Table::new(QUEUED_MESSAGES),
            drafts: vec![Slot::default(); DRAFTS].into_boxed_slice(),
            draft_blocks: vec![0; DRAFTS * BLOCK_OCTETS].into_boxed_slice(),
            superseded: heapless::Vec::new(),
            scratch: Box::new([0; BLOCK_OCTETS]),
            promised: 0,
            ids: 0,
            commit: superblock.commit + 1,
            failing: None,
            frees_owed: 0,
            now,
            started: now,
            clock_at_start: superblock.clock,
            flush_at: None,
            clock_written: now,
            syncs: 0,
            unreadable: Unreadable::default(),
            aside: 0,
        }
    }

    /// Reads every block that may be in use.
    fn scan(&mut self) -> Scan {
        let mut scan = Scan { epoch_max: self.superblock.epoch, ..Scan::default() };
        scan.commit_max = self.superblock.commit;
        scan.accepted_max = self.superblock.clock;
        for block in SUPERBLOCK_SLOTS..self.superblock.high_water.min(self.superblock.blocks) {
            match self.read_scratch(block) {
                Read::Sound(header) => {
                    scan.epoch_max = scan.epoch_max.max(header.id.epoch);
                    match header.kind {
                        Kind::Head => {
                            let head = Head::read(&self.scratch);
                            scan.heads.push(found_head(&header, &head, block));
                            scan.commit_max = scan.commit_max.max(head.commit);
                            scan.accepted_max = scan.accepted_max.max(head.accepted);
                        }
                        Kind::Tombstone => scan.tombstones.push(header.id),
                        Kind::Free | Kind::Body => {}
                        Kind::Superblock => scan.unknown.push(block),
                    }
                }
                Read::Broken(header) if header.kind == Kind::Head || layout::was_head(&self.scratch) => {
                    scan.broken_heads.push(found_head(&header, &Head::read(&self.scratch), block));
                }
                // A broken body shows in its chain; a broken free block holds nothing.
                Read::Broken(_) => {}
                Read::Unknown => scan.unknown.push(block),
            }
        }
        scan.heads.sort_by_key(|head| (head.id, core::cmp::Reverse(head.generation)));
        scan.tombstones.sort();
        scan
    }

    /// Decides which messages live, and frees, blanks or keeps all other blocks.
    fn revive(&mut self, scan: &Scan, recovery: &mut Recovery) -> Result<(), StartError> {
        let mut is_used = vec![false; self.superblock.blocks as usize];
        let mut aside: Vec<MessageId> = Vec::new();
        let mut stale: Vec<u32> = Vec::new();
        for heads in scan.heads.chunk_by(|a, b| a.id == b.id) {
            let id = heads[0].id;
            let is_dead = scan.has_tombstone(id);
            let newest = if is_dead { Newest::None } else { self.revive_newest(heads, &mut is_used) };
            let is_interrupted = heads.iter().all(|head| self.was_interrupted(head, scan));
            let blocks = heads.iter().map(|head| head.block);
            match newest {
                Newest::Lives(live) => {
                    recovery.messages += 1;
                    self.reserve_for(&heads[live])?;
                    stale.extend(blocks.filter(|block| *block != heads[live].block));
                }
                Newest::None if is_dead || is_interrupted => {
                    if !is_dead {
                        log::warn!("spool: draft {id} was interrupted before its 250; freed");
                        recovery.interrupted += 1;
                    }
                    stale.extend(blocks);
                }
                // The older heads too: what can't be read now may be readable at the next start.
                Newest::None | Newest::NotReadable => {
                    log::error!("spool: message {id} in block {} is damaged; set aside", heads[0].block);
                    self.keep_aside(&heads[0], &mut aside, recovery);
                    blocks.for_each(|block| is_used[block as usize] = true);
                }
            }
        }
        for head in &scan.broken_heads {
            if self.judge_broken(head, scan, recovery) {
                stale.push(head.block);
            } else {
                self.keep_aside(head, &mut aside, recovery);
                is_used[head.block as usize] = true;
            }
        }
        for block in &scan.unknown {
            log::error!("spool: block {block} can't be read; set aside");
            recovery.set_aside += 1;
            self.unreadable.add(*block);
            is_used[*block as usize] = true;
        }
        self.keep_bodies(&aside, &mut is_used);
        for block in SUPERBLOCK_SLOTS..self.superblock.blocks {
            if !is_used[block as usize] {
                self.map.release(block);
            }
        }
        let used = is_used.iter().rposition(|is_used| *is_used).map_or(0, |last| last as u32 + 1);
        self.superblock.high_water = used.max(SUPERBLOCK_SLOTS);
        for block in &stale {
            self.write_freed(*block, None)?;
        }
        if !stale.is_empty() {
            // Before the superblock, which tells the next start not to look so far, and that all commits were
            // durable.
            self.device.sync()?;
        }
        Ok(())
    }

    /// True for a broken head that nobody needs: interrupted, or older than a sound one of its message.
    fn judge_broken(&self, head: &FoundHead, scan: &Scan, recovery: &mut Recovery) -> bool {
        let newest = scan.newest_generation(head.id);
        let is_superseded = newest.is_some() || scan.has_tombstone(head.id);
        let is_older = newest.is_some_and(|newest| newest > head.generation);
        // A damaged id may be another message's: it is no reason to destroy what is not recent.
        if is_older || self.was_interrupted(head, scan) || is_superseded && self.is_recent(head, scan) {
            recovery.interrupted += u32::from(!is_superseded);
            return true;
        }
        log::error!("spool: the head of message {} in block {} is damaged; set aside", head.id, head.block);
        false
    }

    /// The newest head whose chain is whole, taken into the map.
    fn revive_newest(&mut self, heads: &[FoundHead], is_used: &mut [bool]) -> Newest {
        for (at, head) in heads.iter().enumerate() {
            match self.revive_head(head, is_used) {
                Chain::Whole => return Newest::Lives(at),
                Chain::NotReadable => return Newest::NotReadable,
                Chain::Broken => {}
            }
        }
        Newest::None
    }

    /// Follows the chain of a head and takes it into the map, if each block is what was written.
    fn revive_head(&mut self, found: &FoundHead, is_used: &mut [bool]) -> Chain {
        let header = match self.read_scratch(found.block) {
            Read::Sound(header) => header,
            Read::Broken(_) => return Chain::Broken,
            Read::Unknown => return Chain::NotReadable,
        };
        let head = Head::read(&self.scratch);
        let mut chain = 0;
        let mut block = header.next;
        let mut content_octets = u64::from(header.content_octets);
        let mut blocks = Vec::new();
        for position in 0..header.position {
            if block < SUPERBLOCK_SLOTS || block >= self.superblock.blocks || is_used[block as usize] {
                return Chain::Broken;
            }
            let body = match self.read_scratch(block) {
                Read::Sound(body) => body,
                Read::Broken(_) => return Chain::Broken,
                Read::Unknown => return Chain::NotReadable,
            };
            if body.kind != Kind::Body || body.id != found.id || body.position != position {
                return Chain::Broken;
            }
            chain = layout::chain_crc(chain, body.crc);
            content_octets += u64::from(body.content_octets);
            blocks.push(block);
            block = body.next;
        }
        if chain != head.chain_crc || content_octets != head.content_octets {
            return Chain::Broken;
        }
        for (at, block) in blocks.iter().enumerate() {
            is_used[*block as usize] = true;
            self.map.link(*block, blocks.get(at + 1).copied().unwrap_or(0));
        }
        is_used[found.block as usize] = true;
        Chain::Whole
    }

    fn reserve_for(&mut self, found: &FoundHead) -> Result<(), StartError> {
        let message = self.table.reserve().ok_or(StartError::TooManyMessages)?;
        let Read::Sound(header) = self.read_scratch(found.block) else {
            return Err(StartError::Device(DeviceError::Io));
        };
        let head = Head::read(&self.scratch);
        let (waiting, owed) = layout::counts(&self.scratch, usize::from(head.recipients));
        let data_octets = head.content_octets.saturating_sub(u64::from(head.envelope_octets));
        let entry = Entry {
            state: State::Live,
            is_owned: false,
            client: 0,
            id: found.id,
            head: found.block,
            first: header.next,
            bodies: header.position,
            generation: head.generation,
            accepted: head.accepted,
            data_octets: u32::try_from(data_octets).unwrap_or(u32::MAX),
            recipients: head.recipients,
            waiting,
            owed,
            link: 0,
        };
        self.table.put(message, &entry);
        Ok(())
    }

    /// True for a head that was written in the last group commit, which no superblock calls durable.
    fn is_recent(&self, head: &FoundHead, scan: &Scan) -> bool {
        head.commit > self.superblock.commit && head.commit >= scan.commit_max
    }

    /// True for the head of a draft that nobody was told of: later generations are of messages that were
    /// durable.
    fn was_interrupted(&self, head: &FoundHead, scan: &Scan) -> bool {
        head.generation == 1 && self.is_recent(head, scan)
    }

    fn keep_aside(&mut self, head: &FoundHead, aside: &mut Vec<MessageId>, recovery: &mut Recovery) {
        recovery.set_aside += 1;
        aside.push(head.id);
        // Without a place in the table it is kept all the same, but can't be shown.
        if let Some(message) = self.table.reserve() {
            let entry = Entry { state: State::Aside, id: head.id, head: head.block, ..Entry::VACANT };
            self.table.put(message, &entry);
            self.aside += 1;
        }
    }

    /// Keeps the bodies of damaged messages out of use.
    fn keep_bodies(&mut self, aside: &[MessageId], is_used: &mut [bool]) {
        if aside.is_empty() {
            return;
        }
        for block in SUPERBLOCK_SLOTS..self.superblock.high_water.min(self.superblock.blocks) {
            if let Read::Sound(header) | Read::Broken(header) = self.read_scratch(block)
                && header.kind == Kind::Body
                && aside.contains(&header.id)
            {
                is_used[block as usize] = true;
            }
        }
    }

    /// Makes the new epoch durable.
    fn begin_epoch(&mut self, scan: &Scan, is_alone: bool) -> Result<(), StartError> {
        self.superblock.epoch = scan.epoch_max.wrapping_add(1);
        self.clock_at_start = scan.accepted_max;
        self.commit = scan.commit_max + 1;
        let writings = if is_alone { 2 } else { 1 };
        for _ in 0..writings {
            self.write_superblock()?;
            self.device.sync()?;
            self.map.synced();
        }
        self.flush_at = None;
        Ok(())
    }
}

fn found_head(header: &Header, head: &Head, block: u32) -> FoundHead {
    FoundHead { id: header.id, generation: head.generation, commit: head.commit, block }
}
