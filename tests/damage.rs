//! Whatever stands on the disk, the start comes to its end, nothing reads as it was not written, and what
//! is not damaged is all there.
//!
//! Requirements SEC-file-b, SEC-crash-a, C-4.5.4.1-d.
mod disk;
mod oracle;

use disk::{Disk, Random};
use oracle::message::Shape;
use oracle::{Mishap, Op, Remains, World};
use postern::spool::{BLOCK_OCTETS, BlockIndex, Device, Recovery, Start, StartError, Store};
use postern::time::Instant;

const BLOCKS: u32 = 24;
/// Blocks from here on were never written behind the filler.
const USED_BLOCKS: u32 = 16;

/// A spool at rest: messages of one, two and three blocks, settled in part, failed, freed; and, when
/// `is_in_flight`, more that were accepted in the last commit.
fn spool(is_in_flight: bool) -> Remains {
    let (short, long) = (Shape { octets: 300, recipients: 2 }, Shape { octets: 9000, recipients: 2 });
    let middle = Shape { octets: 5000, recipients: 3 };
    let one = |place, is_failure| Op::SettleOne { place, is_failure };
    let all = |place, is_failure| Op::SettleAll { place, is_failure };
    let (begin, end) = (Op::Begin, Op::End);
    // Two drafts at once: the smallest board has no more.
    let mut ops =
        vec![begin(short), begin(middle), end, end, begin(long), begin(short), end, end, Op::Commit];
    ops.extend([
        begin(short),
        end,
        Op::Commit,
        one(0, false),
        one(1, true),
        all(3, true),
        all(4, false),
        Op::Rest,
    ]);
    ops.extend([Op::Rest, begin(long), Op::Discard, begin(short), end, Op::Commit, Op::Rest]);
    if is_in_flight {
        ops.extend([begin(middle), begin(short), end, end, Op::Commit]);
    }
    let mut world = World::new(BLOCKS);
    for op in ops {
        assert!(world.apply(op, Mishap::None).expect("a healthy disk"), "{op:?}");
    }
    assert!((USED_BLOCKS..BLOCKS).all(|at| world.disk.peek(BlockIndex(at))[4] == 1), "free");
    let remains = world.remains(world.disk.fork(), false);
    let (missing, recovery) = remains.restart_damaged().expect("nothing is damaged yet");
    assert_eq!((missing.len(), recovery.set_aside, recovery.interrupted), (0, 0, 0));
    remains
}

/// At most one message is missing, and then the start has said so.
fn judge_one(remains: &Remains, told: &str) -> Recovery {
    let (missing, recovery) = remains.restart_damaged().unwrap_or_else(|verdict| panic!("{verdict}, {told}"));
    assert!(missing.len() <= 1, "{missing:?} are missing, {told}");
    assert!(missing.is_empty() || recovery.set_aside + recovery.interrupted > 0, "{recovery:?}, {told}");
    recovery
}

#[test]
fn any_octet_of_any_block_may_change() {
    let (mut random, mut aside, mut starts) = (Random(1), 0, 0);
    for is_in_flight in [false, true] {
        let remains = spool(is_in_flight);
        for (at, octet) in (0..USED_BLOCKS).flat_map(|at| (0..BLOCK_OCTETS).map(move |octet| (at, octet))) {
            // The whole of what any reader looks at first, and a part of the rest.
            if octet >= 100 && random.below(3) > 0 {
                continue;
            }
            let change = 1 + random.below(255) as u8;
            let (damaged, disk) = remains.fork();
            disk.spoil(BlockIndex(at), |block| block[octet] ^= change);
            let recovery =
                judge_one(&damaged, &format!("octet {octet} of block {at} changed by {change:#x}"));
            aside += u64::from(recovery.set_aside);
            starts += 1;
        }
    }
    println!("{starts} damaged spools started, {aside} times something was set aside");
}

#[test]
fn any_octet_may_change_under_a_running_store() {
    let remains = spool(false);
    let mut random = Random(2);
    let mut damaged = 0;
    let mut world = remains.restart().expect("nothing is damaged yet");
    for (at, octet) in (0..USED_BLOCKS).flat_map(|at| (0..BLOCK_OCTETS).map(move |octet| (at, octet))) {
        let change = 1 + random.below(255) as u8;
        let flip = |world: &World| world.disk.spoil(BlockIndex(at), |block| block[octet] ^= change);
        flip(&world);
        let count =
            world.read_all().unwrap_or_else(|verdict| panic!("{verdict}, octet {octet} of block {at}"));
        assert!(count <= 1);
        damaged += count;
        flip(&world);
    }
    println!("{damaged} damaged messages were noticed while they were read");
    assert!(damaged > 0);
}

#[test]
fn much_may_change_at_once() {
    let remains = [spool(false), spool(true)];
    for seed in 0..3000 {
        let mut random = Random(seed);
        let (damaged, disk) = remains[random.below(2)].fork();
        for _ in 0..1 + random.below(6) {
            let at = BlockIndex(2 + random.below(BLOCKS as usize - 2) as u32);
            let other = disk.peek(BlockIndex(random.below(BLOCKS as usize) as u32));
            let octet = random.below(BLOCK_OCTETS);
            match random.below(6) {
                0 => disk.spoil(at, |block| *block = other),
                1 => disk.spoil(at, |block| block[octet..].copy_from_slice(&other[octet..])),
                2 => disk.spoil(at, |block| block[..octet].fill(random.next() as u8)),
                3 => disk.spoil(at, |block| block.fill(0)),
                4 => disk.make_unreadable(at),
                _ => disk.spoil(at, |block| block[octet] ^= 1 << random.below(8)),
            }
        }
        if let Err(verdict) = damaged.restart_damaged()
            && !verdict.starts_with("REVIVED")
        {
            panic!("{verdict}, seed {seed}");
        }
    }
}

#[test]
fn either_slot_of_the_superblock_may_be_torn() {
    let remains = spool(true);
    let mut random = Random(3);
    for (slot, sectors) in (0..2).flat_map(|slot| (1..=255_u8).map(move |sectors| (slot, sectors))) {
        let (damaged, disk) = remains.fork();
        disk.spoil(BlockIndex(slot), |block| {
            for (at, sector) in block.chunks_mut(512).enumerate().filter(|(at, _)| sectors >> at & 1 == 1) {
                sector.fill(at as u8 ^ random.next() as u8);
            }
        });
        let world =
            damaged.restart().unwrap_or_else(|verdict| panic!("{verdict}, slot {slot}, {sectors:#b}"));
        // Both are sound again: now the other one may be lost.
        let (damaged, disk) = world.remains(world.disk.fork(), false).fork();
        disk.spoil(BlockIndex(1 - slot), |block| block.fill(0xff));
        assert!(damaged.restart().is_ok());
    }
    let (both, disk) = remains.fork();
    (0..2).for_each(|slot| disk.spoil(BlockIndex(slot), |block| block[0] ^= 1));
    let before = disk.fingerprint();
    assert!(both.restart().is_err_and(|verdict| verdict == "START: NotASpool"));
    assert_eq!(before, disk.fingerprint());
}

#[test]
fn the_file_may_be_cut_anywhere() {
    for (remains, blocks) in [spool(false), spool(true)]
        .iter()
        .flat_map(|remains| (1..BLOCKS).map(move |blocks| (remains, blocks)))
    {
        let (cut, disk) = remains.fork();
        disk.set_blocks(blocks);
        let (missing, _) =
            cut.restart_damaged().unwrap_or_else(|verdict| panic!("{verdict}, cut to {blocks} blocks"));
        assert!(blocks < USED_BLOCKS || missing.is_empty());
    }
}

fn start(disk: &Disk) -> Result<Recovery, StartError> {
    Store::start(disk.clone(), Start { blocks: BLOCKS, seed: 1, now: Instant(0) })
        .map(|(_, recovery)| recovery)
}

#[test]
fn what_is_no_spool_is_left_as_it_is() {
    let mut random = Random(4);
    for blocks in [1, 2, 3, 40] {
        let disk = Disk::new(blocks);
        disk.spoil(BlockIndex(blocks - 1), |block| block[random.below(BLOCK_OCTETS)] = 1);
        let (before, calls) = (disk.fingerprint(), disk.calls());
        assert_eq!(start(&disk), Err(StartError::NotASpool));
        assert_eq!(disk.fingerprint(), before);
        assert_eq!((disk.calls().writes, disk.calls().resizes), (calls.writes, calls.resizes));
    }
    assert!(start(&Disk::new(0)).is_ok_and(|recovery| recovery.is_new));
    assert!(
        start(&Disk::new(7)).is_ok_and(|recovery| recovery.is_new),
        "zeros: a crash right after it was made"
    );
}

/// Writes another format version into both slots, as that version would.
fn set_version(disk: &Disk, slot: u32, version: u16) {
    disk.spoil(BlockIndex(slot), |block| {
        block[28..30].copy_from_slice(&version.to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&block[..24]);
        crc.update(&block[28..]);
        block[24..28].copy_from_slice(&crc.finalize().to_le_bytes());
    });
}

#[test]
fn another_version_is_refused_and_left_as_it_is() {
    for slots in [&[0][..], &[1], &[0, 1]] {
        let (_, mut disk) = spool(false).fork();
        slots.iter().for_each(|slot| set_version(&disk, *slot, 2));
        let before = disk.fingerprint();
        assert_eq!(start(&disk), Err(StartError::OtherVersion(2)));
        assert_eq!(disk.fingerprint(), before);
        slots.iter().for_each(|slot| set_version(&disk, *slot, 1));
        assert!(disk.sync().is_ok() && start(&disk).is_ok(), "the checksum is made as the format says");
    }
}
