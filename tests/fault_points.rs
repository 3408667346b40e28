//! Each call to the disk fails in turn, and at each call the power fails or the process is killed: in the
//! plain life of messages, in the first filling, in growth and in recovery itself. The oracle judges what
//! is left.
//!
//! RFC 5321 6.1; requirements S-3.8-d, S-4.5.3.1-c, C-4.5.4.1-d, C-6.1-b, SEC-crash-a, SEC-dos-c.
mod disk;
mod oracle;

use disk::{Call, Choice, Disk, Effect, Fault};
use oracle::message::{Shape, envelope, recipient};
use oracle::{Mishap, Op, Remains, World};
use postern::spool::{
    Device, DeviceError, KeptReply, MessageIndex, RecipientState, Refusal, Start, StartError, Store,
};
use postern::time::{Duration, Instant};

const BLOCKS: u32 = 24;
const CUTS_MOST: usize = 24;

const SHORT: Op = Op::Begin(Shape { octets: 300, recipients: 1 });
const FEW: Op = Op::Begin(Shape { octets: 700, recipients: 3 });
const LONG: Op = Op::Begin(Shape { octets: 9000, recipients: 2 });
const CROWD: Op = Op::Begin(Shape { octets: 2000, recipients: 40 });

const fn one(place: usize, is_failure: bool) -> Op {
    Op::SettleOne { place, is_failure }
}

const fn all(place: usize, is_failure: bool) -> Op {
    Op::SettleAll { place, is_failure }
}

/// The lives of messages: together, in generations, failed, given up, with frees that wait.
const LIVES: &[&[Op]] = &[
    &[
        SHORT,
        LONG,
        Op::End,
        Op::End,
        Op::Commit,
        all(0, false),
        all(0, false),
        Op::Rest,
        CROWD,
        Op::End,
        Op::Rest,
    ],
    &[
        FEW,
        Op::End,
        Op::Commit,
        one(0, false),
        Op::Rest,
        one(0, true),
        all(0, false),
        all(0, false),
        Op::Rest,
        SHORT,
    ],
    &[
        FEW,
        Op::End,
        Op::Commit,
        one(0, false),
        one(0, false),
        Op::Rest,
        all(0, false),
        LONG,
        Op::End,
        Op::Commit,
    ],
    &[
        LONG,
        CROWD,
        Op::Discard,
        Op::End,
        SHORT,
        SHORT,
        Op::End,
        Op::Discard,
        Op::Commit,
        all(1, true),
        Op::Rest,
    ],
    &[
        CROWD,
        Op::End,
        Op::Commit,
        one(0, true),
        SHORT,
        Op::End,
        all(0, false),
        Op::Commit,
        Op::Rest,
        all(0, false),
    ],
    &[FEW, Op::End, Op::Commit, one(0, false), SHORT, Op::End, Op::Commit, all(0, false), Op::Rest, Op::Rest],
    &[
        FEW,
        Op::End,
        Op::Commit,
        one(0, false),
        Op::Rest,
        one(0, true),
        Op::Rest,
        all(0, false),
        all(0, false),
    ],
];

fn cut(world: &World) -> Remains {
    world.remains(world.disk.fork(), false)
}

/// Judges all that a crash now may leave.
fn judge_crashes(world: &World, seed: u64, told: &str) -> usize {
    let crashes = world.crashes(CUTS_MOST, seed);
    for remains in &crashes {
        if let Err(verdict) = remains.restart() {
            panic!("{verdict}\n{told}\n{remains:?}");
        }
    }
    crashes.len()
}

#[test]
fn a_crash_at_any_call_of_a_life_keeps_every_promise() {
    let mut crash_points = 0;
    for (life, ops) in LIVES.iter().enumerate() {
        for at in 0..ops.len() {
            for call in 0.. {
                let mut world = World::new(BLOCKS);
                for op in &ops[..at] {
                    world.apply(*op, Mishap::None).unwrap();
                }
                let before = world.disk.calls().all();
                world.disk.freeze_after(call);
                world.apply(ops[at], Mishap::None).unwrap();
                let told = format!("life {life}, operation {at}, after {call} calls");
                crash_points += judge_crashes(&world, call, &told);
                if world.disk.calls().all() - before <= call {
                    break;
                }
            }
        }
    }
    println!("{crash_points} crash points");
}

#[test]
fn a_failure_of_any_call_of_a_life_keeps_every_promise() {
    let mut failures = 0;
    for (life, ops) in LIVES.iter().enumerate() {
        for (at, effect) in (0..ops.len())
            .flat_map(|at| [Effect::Nothing, Effect::Half, Effect::Whole].map(|effect| (at, effect)))
        {
            for call in 0.. {
                let told = format!("life {life}, operation {at}, call {call} fails, {effect:?}");
                if !fail_one(ops, at, Mishap::Call(call, effect), &told) {
                    break;
                }
                failures += 1;
            }
        }
    }
    println!("{failures} failures");
}

/// One call fails in one operation of a life; false when the operation has not so many.
fn fail_one(ops: &[Op], at: usize, mishap: Mishap, told: &str) -> bool {
    let tell = |verdict: String| -> ! { panic!("{verdict}\n{told}") };
    let mut world = World::new(BLOCKS);
    let mut has_failed = false;
    for (place, op) in ops.iter().enumerate() {
        let mishap = if place == at { mishap } else { Mishap::None };
        world.apply(*op, mishap).unwrap_or_else(|verdict| tell(verdict));
        if place == at {
            has_failed = world.disk.calls().failed > 0;
            judge_crashes(&world, 1, told);
        }
    }
    judge_crashes(&world, 2, told);
    world.rest().unwrap_or_else(|verdict| tell(verdict));
    judge_crashes(&world, 3, told);
    // A message whose head could not be read is set aside until the next start.
    let mut world = cut(&world).restart().unwrap_or_else(|verdict| tell(verdict));
    world.drain().unwrap_or_else(|verdict| tell(verdict));
    let mut world = cut(&world).restart().unwrap_or_else(|verdict| tell(verdict));
    world.drain().unwrap_or_else(|verdict| tell(verdict));
    has_failed
}

/// A disk where much is unfinished: messages of all kinds, heads in three generations, a torn draft.
fn unfinished() -> Vec<Remains> {
    let mut world = World::new(BLOCKS);
    let ops = [
        FEW,
        LONG,
        Op::End,
        Op::End,
        SHORT,
        Op::End,
        Op::Commit,
        one(0, false),
        Op::Rest,
        one(0, true),
        all(2, false),
        one(1, false),
        LONG,
        Op::End,
        CROWD,
        Op::End,
    ];
    for op in ops {
        assert!(world.apply(op, Mishap::None).expect("a healthy disk"), "{op:?}");
    }
    world.crashes(CUTS_MOST, 5)
}

#[test]
fn recovery_may_die_or_fail_at_any_call() {
    let mut points = 0;
    for remains in unfinished() {
        for call in 0.. {
            let Some(left) = remains.dying_start(call, 6, call) else { break };
            for remains in left {
                points += 1;
                remains
                    .restart()
                    .unwrap_or_else(|verdict| panic!("{verdict}, start died after {call} calls"));
            }
        }
        for call in 0..60 {
            for effect in [Effect::Nothing, Effect::Half, Effect::Whole] {
                let fault = Fault { call: Call::Any, skip: call, times: 1, error: DeviceError::Io, effect };
                let left = remains.failing_start(fault);
                points += 1;
                left.restart().unwrap_or_else(|verdict| panic!("{verdict}, call {call} failed, {effect:?}"));
            }
        }
    }
    println!("{points} crashes and failures in recovery");
}

fn start(disk: &Disk, blocks: u32) -> Result<Store<Disk>, StartError> {
    Store::start(disk.clone(), Start { blocks, seed: 9, now: Instant(1) }).map(|(store, _)| store)
}

#[test]
fn the_first_filling_may_die_or_fail_at_any_call() {
    for call in 0.. {
        let disk = Disk::new(0);
        disk.freeze_after(call);
        let is_done = start(&disk, BLOCKS).is_ok();
        disk.kill();
        for left in disk.power_cuts(CUTS_MOST, call).into_iter().chain([disk.fork()]) {
            let store = start(&left, BLOCKS).unwrap_or_else(|error| panic!("{error:?} after {call} calls"));
            assert_eq!((store.blocks(), store.messages().count()), (BLOCKS, 0));
            assert_eq!(store.blocks_free(), BLOCKS - 2);
        }
        if is_done {
            break;
        }
        for effect in [Effect::Nothing, Effect::Half, Effect::Whole] {
            let disk = Disk::new(0);
            let error = DeviceError::NoSpace;
            disk.fail(Fault { call: Call::Any, skip: call, times: 1, error, effect });
            let refused = start(&disk, BLOCKS).err();
            assert_eq!(refused, Some(StartError::Device(error)), "call {call} fails");
            let store = start(&disk, BLOCKS).unwrap();
            assert_eq!(store.blocks_free(), BLOCKS - 2);
        }
    }
}

#[test]
fn a_change_of_size_may_die_or_fail_at_any_call() {
    for blocks in [BLOCKS + 9, BLOCKS - 9] {
        let mut world = World::new(BLOCKS);
        for op in [SHORT, FEW, Op::End, Op::End, Op::Commit, one(1, true), all(0, false)] {
            assert!(world.apply(op, Mishap::None).unwrap());
        }
        let remains = cut(&world).resized(blocks);
        let mut deaths = 0;
        for call in 0.. {
            let Some(left) = remains.dying_start(call, CUTS_MOST, call) else { break };
            for remains in left {
                deaths += 1;
                remains
                    .restart()
                    .unwrap_or_else(|verdict| panic!("{verdict}, start died after {call} calls"));
            }
            for (effect, error) in [(Effect::Nothing, DeviceError::Io), (Effect::Half, DeviceError::NoSpace)]
            {
                let left =
                    remains.failing_start(Fault { call: Call::Any, skip: call, times: 1, error, effect });
                left.restart()
                    .unwrap_or_else(|verdict| panic!("{verdict}, call {call} failed with {error:?}"));
            }
        }
        assert!(deaths > 50, "{deaths}");
        assert_eq!(remains.restart().unwrap().blocks(), blocks);
    }
}

/// Ends a message of one recipient.
fn end(store: &mut Store<Disk>, number: u32) -> postern::spool::Ended {
    let mut draft = store.begin(&envelope(number), Some(5000)).expect("there is room");
    store.add_recipient(&mut draft, &recipient(number, 0)).expect("it was foreseen");
    store.append(&mut draft, &oracle::message::mail_data(number, 5000)).expect("it was declared");
    store.end(draft, postern::time::Tick(0)).expect("it was declared")
}

#[test]
fn a_failed_sync_refuses_until_the_disk_is_back() {
    let disk = Disk::new(0);
    let mut store = start(&disk, BLOCKS).unwrap();
    let safe = end(&mut store, 1);
    store.commit(Instant(10));
    let safe = store.receipt(safe).unwrap().id();
    assert_eq!(store.next_committed().map(|message| store.facts(message).id), Some(safe));

    let (read, unread) = (end(&mut store, 2), end(&mut store, 3));
    let half_done = store.begin(&envelope(4), Some(100)).unwrap();
    let sync_fails =
        Fault { call: Call::Sync, skip: 0, times: 2, error: DeviceError::Io, effect: Effect::Nothing };
    disk.fail(sync_fails);
    store.commit(Instant(20));
    assert!(store.is_failing() && store.next_committed().is_none());
    assert_eq!(store.receipt(read).err(), Some(Refusal::Failing));
    store.abandon(unread);
    assert_eq!(store.begin(&envelope(5), None).err(), Some(Refusal::Failing));
    store.discard(half_done);

    // Before its time nothing is tried; then it fails once more and waits longer.
    let first = store.deadline().unwrap();
    assert!(first > Instant(20) && first <= Instant(20) + Duration::from_s(5));
    let before = disk.calls();
    store.commit(Instant(first.0 - 1));
    assert_eq!(disk.calls(), before);
    store.commit(first);
    assert!(store.is_failing() && disk.calls().writes > before.writes);
    let second = store.deadline().unwrap();
    assert!(second.since(first) > first.since(Instant(20)));

    // It comes back: what it holds now is what a power cut leaves, whatever the failed syncs had kept.
    store.commit(second);
    assert!(!store.is_failing());
    for left in disk.power_cuts(200, 1) {
        let store = start(&left, BLOCKS).unwrap();
        let live: Vec<_> = store.messages().map(|message| store.facts(message).id).collect();
        assert_eq!(live, [safe]);
        assert_eq!(store.blocks_free(), BLOCKS - 2 - 2);
    }
    let after = end(&mut store, 6);
    store.commit(second + Duration(1));
    assert!(store.receipt(after).is_ok());
    assert_eq!(store.messages().count(), 2);
    assert_eq!(store.messages().next(), Some(MessageIndex(0)));
    disk.power_cut(Choice::Oldest);
    assert_eq!(start(&disk, BLOCKS).unwrap().messages().count(), 2);
    assert_eq!(disk.blocks(), BLOCKS);
}

/// A transaction that was open when the disk failed goes on and needs room: a sync for that room would say
/// yes to pages that are lost, and the old head would be blanked for a new one that the disk does not have.
#[test]
fn an_open_draft_makes_no_sync_while_the_disk_fails() {
    let disk = Disk::new(0);
    let mut store = start(&disk, BLOCKS).unwrap();
    let safe = end(&mut store, 1);
    store.commit(Instant(10));
    assert!(store.receipt(safe).is_ok());
    let message = store.next_committed().unwrap();
    let failed = [RecipientState::Failed { reply: 0 }];
    let reply = KeptReply { code: 552, text: b"5.3.4 too large".iter().copied().collect() };

    // It takes all the room there is; its block in memory is not written yet.
    let mut open = store.begin(&envelope(2), None).unwrap();
    store.add_recipient(&mut open, &recipient(2, 0)).unwrap();
    let settled = store.settle(message, &failed, std::slice::from_ref(&reply));
    assert!(settled.is_ok());
    let unread = end(&mut store, 3);
    let sync_fails =
        Fault { call: Call::Sync, skip: 0, times: 1, error: DeviceError::Io, effect: Effect::Nothing };
    disk.fail(sync_fails);
    store.commit(Instant(20));
    assert!(store.is_failing());
    store.abandon(unread);

    let syncs = disk.calls().syncs;
    let octets = vec![b'x'; BLOCKS as usize * 4096];
    assert_eq!(store.append(&mut open, &octets), Err(Refusal::Failing));
    store.discard(open);
    assert_eq!(store.begin(&envelope(4), Some(60_000)).err(), Some(Refusal::Failing));
    assert_eq!(disk.calls().syncs, syncs, "only the mending may sync");
    let id = store.facts(message).id;
    for left in disk.power_cuts(200, 1) {
        // The one that was refused may live too, as long as its tombstone is not durable.
        let store = start(&left, BLOCKS).unwrap();
        assert!(store.messages().any(|message| store.facts(message).id == id));
    }
    store.commit(store.deadline().unwrap());
    assert!(!store.is_failing());
    for left in disk.power_cuts(200, 1) {
        let mut store = start(&left, BLOCKS).unwrap();
        let message = store.messages().next().unwrap();
        let mut states = [RecipientState::Waiting];
        store.states(message, &mut states).unwrap();
        assert_eq!(states, failed);
    }
}
