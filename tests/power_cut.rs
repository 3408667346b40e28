//! The power may fail at any call: what was answered 250 is there, whole, once, and nothing else is.
//!
//! Two ways. The search goes through all sequences of operations to a bound and, after and inside each
//! operation, through what a power cut (each unsynced block as before, as written, or torn) and SIGKILL
//! may leave; from there it goes on, to the next crash. The long runs draw operations, mishaps and
//! crashes from a seed: SPOOL_SEED=n replays one, SPOOL_RUNS=n sets how many there are. What is demanded
//! stands in `oracle`.
//!
//! RFC 5321 6.1; requirements S-3.8-d, S-4.1.1.4-e, C-4.5.4.1-d, C-6.1-b, SEC-crash-a.
mod disk;
mod oracle;

use std::collections::HashMap;

use disk::{Effect, Random};
use oracle::message::Shape;
use oracle::{Mishap, Op, Remains, World};

/// Content that fits in the head, needs one body, needs two.
const ONE_BLOCK: Shape = Shape { octets: 100, recipients: 2 };
const TWO_BLOCKS: Shape = Shape { octets: 5000, recipients: 2 };
const THREE_BLOCKS: Shape = Shape { octets: 9000, recipients: 2 };

/// How far a search goes.
struct Bounds {
    blocks: u32,
    shapes: &'static [Shape],
    /// Messages begun between two crashes.
    messages: usize,
    /// Operations before the first crash, between it and the second, and so on.
    steps: &'static [usize],
    mishaps: &'static [Mishap],
    /// Mishaps between two crashes.
    mishaps_most: usize,
    /// Power cuts looked at in each place: all if there are no more.
    cuts_most: usize,
}

struct Search<'a> {
    bounds: &'a Bounds,
    /// What a crash left, and how many crashes deep it was looked at.
    seen: HashMap<u64, usize>,
    trail: Vec<String>,
    states: u64,
    crash_points: u64,
    starts: u64,
}

/// Where a run between two crashes begins: the disk before the start, and what was found by it.
struct Base {
    before: Remains,
    judged: Remains,
}

impl Base {
    /// Runs the steps once more on a disk of its own.
    fn replay(&self, steps: &[(Op, Mishap)]) -> World {
        let mut world = self.before.restart_as(&self.judged);
        for (op, mishap) in steps {
            world.apply(*op, *mishap).expect("it went well before");
        }
        world
    }
}

impl Search<'_> {
    fn fail(&self, steps: &[(Op, Mishap)], verdict: &str) -> ! {
        panic!("{verdict}\nafter {:#?}\nthen {steps:?}", self.trail)
    }

    fn run(bounds: &Bounds) {
        let world = World::new(bounds.blocks);
        world.disk.power_cut(disk::Choice::Oldest);
        let remains = world.remains(world.disk.fork(), true);
        let mut search =
            Search { bounds, seen: HashMap::new(), trail: Vec::new(), states: 0, crash_points: 0, starts: 0 };
        search.go_on(remains, 0);
        println!(
            "{} blocks, steps {:?}: {} states, {} crash points, {} different ones started",
            bounds.blocks, bounds.steps, search.states, search.crash_points, search.starts
        );
    }

    /// Starts on what a crash left, judges it, and goes on from there.
    fn go_on(&mut self, remains: Remains, crashes: usize) {
        self.starts += 1;
        let world = match remains.restart() {
            Ok(world) => world,
            Err(verdict) => self.fail(&[], &verdict),
        };
        if crashes >= self.bounds.steps.len() {
            return;
        }
        for call in 1.. {
            let Some(left) = remains.dying_start(call, self.bounds.cuts_most, self.crash_points) else {
                break;
            };
            self.look_at(left, &format!("start dies after {call} calls"), crashes);
        }
        let judged = world.remains(world.disk.fork(), false);
        let base = Base { judged: remains.judged_as(&judged), before: remains };
        self.walk(&base, &mut Vec::new(), crashes);
    }

    fn walk(&mut self, base: &Base, steps: &mut Vec<(Op, Mishap)>, crashes: usize) {
        for step in self.alphabet(steps) {
            let mut world = base.replay(steps);
            let before = world.disk.calls();
            match world.apply(step.0, step.1) {
                Err(verdict) => {
                    steps.push(step);
                    self.fail(steps, &verdict)
                }
                Ok(false) => continue,
                Ok(true) => {}
            }
            let calls = world.disk.calls().all() - before.all();
            let is_idle = calls == 0 && matches!(step.0, Op::Commit | Op::Rest);
            let is_tried = step.1 == Mishap::None || world.disk.calls().failed > before.failed;
            if is_idle || !is_tried {
                continue;
            }
            self.states += 1;
            for call in 1..calls {
                let mut dying = base.replay(steps);
                dying.disk.freeze_after(call);
                if let Err(verdict) = dying.apply(step.0, step.1) {
                    self.fail(steps, &format!("{verdict}, dying in {step:?}"));
                }
                self.crash(&dying, &format!("{steps:?}, then {step:?} dies after {call} calls"), crashes);
            }
            steps.push(step);
            self.crash(&world, &format!("{steps:?}"), crashes);
            if steps.len() < self.bounds.steps[crashes] {
                self.walk(base, steps, crashes);
            }
            steps.pop();
        }
    }

    /// Looks at all that a crash may leave of `world` now.
    fn crash(&mut self, world: &World, what: &str, crashes: usize) {
        let left = world.crashes(self.bounds.cuts_most, self.crash_points);
        self.look_at(left, what, crashes);
    }

    fn look_at(&mut self, left: Vec<Remains>, what: &str, crashes: usize) {
        for remains in left {
            self.crash_points += 1;
            let levels = self.bounds.steps.len() - crashes;
            let seen = self.seen.entry(remains.fingerprint()).or_insert(0);
            if *seen >= levels {
                continue;
            }
            *seen = levels;
            self.trail.push(format!("{what}: {remains:?}"));
            self.go_on(remains, crashes + 1);
            self.trail.pop();
        }
    }

    /// What may come next, mishaps last.
    fn alphabet(&self, steps: &[(Op, Mishap)]) -> Vec<(Op, Mishap)> {
        let count = |is: fn(&Op) -> bool| steps.iter().filter(|(op, _)| is(op)).count();
        let begun = count(|op| matches!(op, Op::Begin(_)));
        let is_open = begun > count(|op| matches!(op, Op::End | Op::Discard));
        let mut ops = vec![Op::Commit, Op::Rest];
        if is_open {
            ops.extend([Op::End, Op::Discard]);
        } else if begun < self.bounds.messages {
            ops.extend(self.bounds.shapes.iter().map(|shape| Op::Begin(*shape)));
        }
        for place in 0..2 {
            ops.push(Op::SettleOne { place, is_failure: place == 1 });
            ops.push(Op::SettleAll { place, is_failure: false });
        }
        ops.push(Op::SettleAll { place: 0, is_failure: true });
        let mishaps_left =
            self.bounds.mishaps_most - steps.iter().filter(|(_, mishap)| *mishap != Mishap::None).count();
        let mishaps = self.bounds.mishaps.iter().filter(|_| mishaps_left > 0);
        let all = std::iter::once(&Mishap::None).chain(mishaps);
        all.flat_map(|mishap| ops.iter().map(|op| (*op, *mishap))).collect()
    }
}

#[test]
fn no_power_cut_between_short_messages_loses_or_revives() {
    Search::run(&Bounds {
        blocks: 14,
        shapes: &[ONE_BLOCK],
        messages: 2,
        steps: &[6, 3],
        mishaps: &[],
        mishaps_most: 0,
        cuts_most: 64,
    });
}

#[test]
fn no_power_cut_mixes_the_blocks_of_long_messages() {
    Search::run(&Bounds {
        blocks: 15,
        shapes: &[TWO_BLOCKS, THREE_BLOCKS],
        messages: 2,
        steps: &[5, 2],
        mishaps: &[],
        mishaps_most: 0,
        cuts_most: 20,
    });
}

#[test]
fn no_failed_sync_or_write_loses_or_revives() {
    Search::run(&Bounds {
        blocks: 14,
        shapes: &[ONE_BLOCK, TWO_BLOCKS],
        messages: 2,
        steps: &[4, 2],
        mishaps: &[
            Mishap::Sync,
            Mishap::SyncAndEviction,
            Mishap::Write(0, Effect::Nothing),
            Mishap::Write(0, Effect::Half),
            Mishap::Write(0, Effect::Whole),
            Mishap::Write(1, Effect::Half),
        ],
        mishaps_most: 1,
        cuts_most: 20,
    });
}

/// One run of many operations, drawn from `seed`; gives how many crashes it survived.
fn long_run(seed: u64, is_told: bool) -> Result<u64, String> {
    let mut random = Random(seed);
    let mut world = World::new(12 + random.below(40) as u32);
    let (crash_percent, mishap_percent) = (random.below(12), random.below(12));
    let settle_percent = 20 + random.below(40);
    let mut crashes = 0;
    for _ in 0..300 {
        let place = random.below(6);
        let op = match random.below(100) {
            percent if percent < settle_percent / 2 => {
                Op::SettleOne { place, is_failure: random.below(4) == 0 }
            }
            percent if percent < settle_percent => Op::SettleAll { place, is_failure: random.below(6) == 0 },
            percent if percent < settle_percent + 3 => Op::Discard,
            percent if percent < settle_percent + 6 => Op::Rest,
            _ => match random.below(4) {
                0 => Op::Commit,
                1 => Op::End,
                _ => {
                    let (octets, recipients) =
                        (random.one_of(&[200, 3000, 4300, 30_000]), random.one_of(&[1, 3, 60]));
                    let recipients = 1 + random.below(recipients) as u16;
                    Op::Begin(Shape { octets: random.below(octets), recipients })
                }
            },
        };
        let mishap = match random.below(100) {
            percent if percent >= mishap_percent => Mishap::None,
            percent if percent % 4 == 0 => Mishap::Sync,
            percent if percent % 4 == 2 => Mishap::SyncAndEviction,
            _ => {
                let effect = random.one_of(&[Effect::Nothing, Effect::Half, Effect::Whole]);
                Mishap::Write(random.below(3) as u64, effect)
            }
        };
        let is_crash = random.below(100) < crash_percent;
        if is_crash {
            world.disk.freeze_after(random.below(6) as u64);
        }
        if is_told {
            println!("{op:?} {mishap:?}{}", if is_crash { ", dies" } else { "" });
        }
        world.apply(op, mishap)?;
        if is_crash {
            crashes += 1;
            let remains = world.crash_one(random.next());
            if is_told {
                println!("{remains:?}");
            }
            world = remains.restart()?;
        } else if random.below(40) == 0 {
            world.rest()?;
        }
    }
    world.drain()?;
    world = world.crash_one(random.next()).restart()?;
    world.drain()?;
    Ok(crashes)
}

#[test]
fn long_runs_with_crashes_and_mishaps_keep_every_promise() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (first, runs) = match number("SPOOL_SEED") {
        Some(seed) => (seed, 1),
        None => (1, number("SPOOL_RUNS").unwrap_or(300)),
    };
    if runs == 1 {
        env_logger::builder().filter_level(log::LevelFilter::Info).target(env_logger::Target::Stdout).init();
    }
    let mut crashes = 0;
    for seed in first..first + runs {
        match long_run(seed, runs == 1) {
            Ok(count) => crashes += count,
            Err(verdict) => panic!("{verdict}\nreplay it with SPOOL_SEED={seed}"),
        }
    }
    println!("{runs} runs of 300 operations, {crashes} crashes");
}
