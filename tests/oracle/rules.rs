//! The oracle notices what it is there for: each crime, committed on purpose, gets its verdict.
use postern::spool::BlockIndex;

use super::message::Shape;
use super::{Mishap, Op, Remains, World};
use crate::disk::{Disk, Effect};

const SHAPE: Shape = Shape { octets: 100, recipients: 2 };
/// The first block behind the superblock's slots, where the first message's head is; the next one.
const FIRST: BlockIndex = BlockIndex(2);
const SECOND: BlockIndex = BlockIndex(3);

/// A spool with one accepted message, after `more`.
fn world(more: &[Op]) -> World {
    let mut world = World::new(16);
    for op in [Op::Begin(SHAPE), Op::End, Op::Commit].iter().chain(more) {
        assert!(world.apply(*op, Mishap::None).expect("a healthy disk"), "{op:?}");
    }
    world
}

fn remains(world: &World) -> Remains {
    world.remains(world.disk.fork(), false)
}

fn verdict(remains: &Remains) -> String {
    remains.restart().err().unwrap_or_default()
}

/// What the oracle says when `crime` is committed on the disk.
fn verdict_after(world: &World, crime: impl FnOnce(&Disk)) -> String {
    let (remains, disk) = remains(world).fork();
    crime(&disk);
    verdict(&remains)
}

#[test]
fn each_crime_gets_its_verdict() {
    let accepted = world(&[]);
    assert_eq!(verdict(&remains(&accepted)), "");
    let erased = verdict_after(&accepted, |disk| {
        let free = disk.peek(BlockIndex(9));
        disk.spoil(FIRST, |block| *block = free);
    });
    assert!(erased.starts_with("LOSS"), "{erased}");
    // Not in the last commit: there it would pass for an interrupted draft.
    let rotten = verdict_after(&world(&[Op::Begin(SHAPE), Op::End, Op::Commit]), |disk| {
        disk.spoil(FIRST, |block| block[900] ^= 1)
    });
    assert!(rotten.starts_with("ASIDE"), "{rotten}");

    let before = accepted.disk.peek(FIRST);
    let settled = world(&[Op::SettleAll { place: 0, is_failure: false }, Op::Rest]);
    let revived = verdict_after(&settled, |disk| disk.spoil(SECOND, |block| *block = before));
    assert_eq!(revived, "", "the tombstone outranks it");
    let revived = verdict_after(&settled, |disk| disk.spoil(FIRST, |block| *block = before));
    assert!(revived.starts_with("REVIVED"), "{revived}");
    let half_settled = world(&[Op::SettleOne { place: 0, is_failure: true }, Op::Rest, Op::Rest]);
    let waits_again = verdict_after(&half_settled, |disk| {
        disk.spoil(FIRST, |block| *block = before);
        disk.spoil(SECOND, |block| block.fill(0));
    });
    assert!(waits_again.starts_with("ASIDE") || waits_again.starts_with("REVIVED"), "{waits_again}");
}

#[test]
fn messages_that_were_never_accepted_are_noticed() {
    let mut never = World::new(16);
    assert!(never.apply(Op::Begin(SHAPE), Mishap::None).unwrap());
    let draft = verdict_after(&never, |disk| {
        let other = world(&[]).disk;
        (0..16).map(BlockIndex).for_each(|at| disk.spoil(at, |block| *block = other.peek(at)));
    });
    assert!(draft.starts_with("DRAFT"), "{draft}");

    let mut refused = World::new(16);
    for (op, mishap) in [(Op::Begin(SHAPE), Mishap::None), (Op::End, Mishap::Write(0, Effect::Whole))] {
        assert!(refused.apply(op, mishap).unwrap());
    }
    let head = refused.crash_one(0);
    assert_eq!(verdict(&head), "", "until the disk is back, it may be there");
    assert!(refused.apply(Op::Commit, Mishap::Sync).unwrap());
    assert!(
        !refused.apply(Op::Commit, Mishap::Call(5, Effect::Nothing)).is_err_and(|error| error.is_empty())
    );
    refused.rest().unwrap();
    let revived = verdict_after(&refused, |disk| {
        let other = world(&[]).disk;
        disk.spoil(FIRST, |block| *block = other.peek(FIRST));
    });
    assert!(revived.starts_with("DELIV451"), "{revived}");
}

#[test]
fn remains_are_told_apart_and_leaks_noticed() {
    let mut accepted = world(&[]);
    let here = remains(&accepted);
    assert_eq!(here.fingerprint(), remains(&accepted).fingerprint());
    let judged = here.restart().unwrap();
    let again = here.restart_as(&here.judged_as(&remains(&judged)));
    assert_eq!(again.live(), judged.live());
    assert_eq!(here.resized(20).restart().unwrap().blocks(), 20);
    assert!(here.dying_start(3, 4, 1).is_some_and(|left| left.len() > 1));
    let fault = crate::disk::Fault {
        call: crate::disk::Call::Sync,
        skip: 0,
        times: 1,
        error: postern::spool::DeviceError::Io,
        effect: Effect::Nothing,
    };
    assert_eq!(verdict(&here.failing_start(fault)), "");
    assert!(accepted.crashes(4, 1).len() > 1);
    assert_eq!(accepted.read_all(), Ok(0));
    accepted.disk.spoil(FIRST, |block| block[700] ^= 4);
    assert_eq!(accepted.read_all(), Ok(1));
    assert_eq!(remains(&accepted).restart_damaged().map(|(missing, _)| missing), Ok(vec![0]));
    accepted.disk.spoil(FIRST, |block| block[700] ^= 4);
    accepted.known[0].shape = Shape { octets: 9000, ..SHAPE };
    assert!(accepted.check_room().is_err_and(|verdict| verdict.starts_with("LEAK")));
    assert!(accepted.drain().is_ok(), "an empty spool has room again");
}
