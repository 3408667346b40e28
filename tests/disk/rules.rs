//! What the simulated disk does, each rule once.
use super::{Call, Calls, Choice, Disk, Effect, Fault, Random};
use postern::spool::{BLOCK_OCTETS, Block, BlockIndex, Device, DeviceError};

/// A block full of one octet.
fn full(octet: u8) -> Block {
    [octet; BLOCK_OCTETS]
}

fn read(disk: &mut Disk, at: u32) -> Result<Block, DeviceError> {
    let mut block = full(0);
    disk.read(BlockIndex(at), &mut block).map(|()| block)
}

#[test]
fn a_power_cut_leaves_any_version_or_a_tear() {
    let mut disk = Disk::new(2);
    disk.write(BlockIndex(0), &full(1)).unwrap();
    disk.sync().unwrap();
    disk.write(BlockIndex(0), &full(2)).unwrap();
    disk.write(BlockIndex(0), &full(3)).unwrap();
    assert_eq!(disk.written_since_sync(), [BlockIndex(0), BlockIndex(0)]);
    assert_eq!(disk.fates()[0].1.len(), 3 + 2 * 3);
    let cuts = disk.power_cuts(100, 7);
    assert_eq!(cuts.len(), 9);
    assert!((1..=3).all(|octet| cuts.iter().any(|cut| cut.peek(BlockIndex(0)) == full(octet))));
    assert_eq!(disk.power_cuts(5, 7).len(), 5);
    let before = disk.fingerprint();
    assert_eq!(before, disk.fork().fingerprint());
    disk.power_cut(Choice::Oldest);
    assert_eq!(disk.peek(BlockIndex(0)), full(1));
    assert_ne!(before, disk.fingerprint());
}

#[test]
fn kill_keeps_the_cache_and_a_failed_sync_loses_it_silently() {
    let mut disk = Disk::new(1);
    let sync_fails =
        Fault { call: Call::Sync, skip: 0, times: 1, error: DeviceError::NoSpace, effect: Effect::Nothing };
    disk.write(BlockIndex(0), &full(1)).unwrap();
    disk.kill();
    assert_eq!(disk.fates().len(), 1);
    disk.fail(sync_fails);
    assert_eq!(disk.sync(), Err(DeviceError::NoSpace));
    disk.sync().unwrap();
    assert_eq!(read(&mut disk, 0).unwrap(), full(1));
    assert_eq!(disk.fates().len(), 1, "a later sync does not cover what the cache calls clean");
    let lost = disk.fork();
    lost.evict(Choice::Oldest);
    assert_eq!(lost.peek(BlockIndex(0)), full(0));
    disk.write(BlockIndex(0), &full(1)).unwrap();
    disk.sync().unwrap();
    disk.drop_cache();
    assert_eq!(disk.peek(BlockIndex(0)), full(1));
    disk.power_cut(Choice::Newest);
    assert_eq!(disk.peek(BlockIndex(0)), full(1));
}

#[test]
fn calls_fail_as_planned_and_a_frozen_disk_changes_no_more() {
    let mut disk = Disk::new(2);
    disk.seed(3);
    let write_fails =
        Fault { call: Call::Write, skip: 1, times: 1, error: DeviceError::Io, effect: Effect::Half };
    disk.fail(write_fails);
    disk.fail(Fault { call: Call::Read, skip: 0, times: 1, effect: Effect::Nothing, ..write_fails });
    disk.write(BlockIndex(0), &full(1)).unwrap();
    assert_eq!(disk.write(BlockIndex(0), &full(2)), Err(DeviceError::Io));
    let half = disk.peek(BlockIndex(0));
    assert_eq!((half[0], half[BLOCK_OCTETS - 1]), (2, 1));
    assert!(read(&mut disk, 1).is_err() && read(&mut disk, 1).is_ok());
    disk.fail(Fault { skip: 0, effect: Effect::Whole, ..write_fails });
    assert!(disk.write(BlockIndex(1), &full(4)).is_err() && disk.peek(BlockIndex(1)) == full(4));
    disk.make_unreadable(BlockIndex(1));
    assert!(read(&mut disk, 1).is_err());
    disk.fail(Fault { call: Call::Any, skip: 0, effect: Effect::Nothing, ..write_fails });
    assert!(read(&mut disk, 0).is_err());
    disk.heal();
    disk.freeze_after(1);
    disk.write(BlockIndex(0), &full(5)).unwrap();
    assert!(!disk.is_frozen());
    assert!(disk.write(BlockIndex(0), &full(6)).is_err() && disk.sync().is_err() && disk.is_frozen());
    assert_eq!(disk.peek(BlockIndex(0)), full(5));
    assert_eq!(disk.calls(), Calls { reads: 4, writes: 5, syncs: 1, resizes: 0, good_syncs: 0, failed: 5 });
}

#[test]
fn the_size_is_durable_with_the_next_sync() {
    let mut disk = Disk::new(1);
    disk.resize(3).unwrap();
    disk.write(BlockIndex(2), &full(1)).unwrap();
    assert!(disk.power_cuts(100, 1).iter().any(|cut| cut.blocks() == 1));
    disk.sync().unwrap();
    assert!(disk.power_cuts(100, 1).iter().all(|cut| cut.blocks() == 3));
    disk.resize(2).unwrap();
    disk.resize(3).unwrap();
    assert_eq!(disk.peek(BlockIndex(2)), full(1), "growing may bring old octets back");
    disk.set_blocks(1);
    disk.spoil(BlockIndex(0), |block| block[7] ^= 1);
    assert_eq!((disk.blocks(), disk.peek(BlockIndex(0))[7]), (1, 1));
    assert_eq!(disk.power_cuts(2, 1).len(), 1);
    disk.power_cut(Choice::Seeded(1));
    assert!(Random(1).below(3) < 3 && Random(1).one_of(&[5]) == 5);
}
