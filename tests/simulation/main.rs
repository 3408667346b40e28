//! The simulator: the relay as it is, in a world made of one seed. `SIM_SEED=7 cargo test --test simulation`
//! replays a seed and tells what happens; `SIM_SEEDS` and `SIM_STEPS` say how many seeds run for how many
//! steps, `SIM_START` where they begin, and `SIM_MINUTES` runs until that time is over.
//!
//! Each kind of actor has a file: [`clients`] with TLS, logins, what they call recipients ([`names`]) and
//! ask to hear ([`dsn`]), [`smarthosts`] with their login, the network ([`net`]), what TLS and secrets are
//! ([`secure`]), the disk ([`disk`]), the event loop ([`driver`]), the administrator (`world/admin.rs`).
//! [`world`] steps them, [`oracle`] judges, [`swarm`] says how much of what a seed has, [`configuration`]
//! makes of it what the relay reads. A new actor that comes over the network is a file with `wakes_at` and
//! `act`, and a line for each in `world.rs` and `world/peers.rs`; one that just does something at times is a
//! function beside `world/admin.rs`, and a line in `world/faults.rs`. Its draws stand in `swarm.rs`, a quiet
//! value for the time when the faults have stopped among them; what must be true because of it has a file
//! below `oracle/`.
mod clients;
mod clock;
mod configuration;
#[path = "../disk/mod.rs"]
mod disk;
mod driver;
mod dsn;
mod figures;
mod mail;
mod names;
mod net;
mod oracle;
mod secure;
mod smarthosts;
mod swarm;
mod world;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use figures::Figures;
use world::World;

const SEEDS: u64 = 1000;
const STEPS: u64 = 2000;
/// Seeds that once failed.
const REGRESSIONS: &str = include_str!("regressions");

/// True while a seed is replayed: what happens is told.
static IS_TOLD: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Where this thread's run panicked.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
    /// The step that this thread's run is at.
    static STEP: Cell<u64> = const { Cell::new(0) };
}

/// Tells what happens, when a seed is replayed.
macro_rules! trace {
    ($($arguments:tt)*) => {
        if $crate::IS_TOLD.load(std::sync::atomic::Ordering::Relaxed) {
            eprintln!("{:>6}  {}", $crate::STEP.get(), format_args!($($arguments)*));
        }
    };
}
pub(crate) use trace;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is to be a number, not {value:?}")))
}

/// A failed seed is told once, with its place; a backtrace only when it is replayed.
fn listen_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            PLACE.set(panic.location().map(ToString::to_string).unwrap_or_default());
            let is_of_a_run = std::thread::current().name().is_none();
            if !is_of_a_run || IS_TOLD.load(Ordering::Relaxed) {
                usual(panic);
            }
        }));
    });
}

/// Runs one seed.
fn run(seed: u64, steps: u64) -> Result<Figures, String> {
    listen_for_panics();
    let told = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed);
        for step in 0..steps {
            STEP.set(step);
            world.step();
        }
        world.drain()
    }));
    told.map_err(|panic| {
        let (what, place, step) = (message(&*panic), PLACE.take(), STEP.get());
        format!(
            "seed {seed}, step {step}: {what}\n  at {place}\n  \
             replay: SIM_SEED={seed} SIM_STEPS={steps} cargo test --test simulation"
        )
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

/// Runs seeds on all processors until there are no more, the time is over, or one fails.
fn run_all(mut next: impl Iterator<Item = u64> + Send, steps: u64, until: Option<Instant>) -> Figures {
    let next = Mutex::new(move || next.next());
    let (figures, failures) = (Mutex::new(Figures::default()), Mutex::new(Vec::new()));
    let failed = AtomicU64::new(0);
    let failures_max = number("SIM_FAILURES").unwrap_or(1);
    let work = || {
        while failed.load(Ordering::Relaxed) < failures_max
            && until.is_none_or(|until| Instant::now() < until)
        {
            let Some(seed) = next.lock().expect("no run panics while it holds this")() else { return };
            match run(seed, steps) {
                Ok(of_seed) => figures.lock().expect("adding can't panic").add(&of_seed),
                Err(failure) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    failures.lock().expect("pushing can't panic").push(failure);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().expect("all threads have ended");
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
    figures.into_inner().expect("all threads have ended")
}

#[test]
fn simulation() {
    let steps = number("SIM_STEPS").unwrap_or(STEPS);
    if let Some(seed) = number("SIM_SEED") {
        IS_TOLD.store(true, Ordering::Relaxed);
        let _ = env_logger::builder().parse_filters("info").format_timestamp(None).try_init();
        match run(seed, steps) {
            Ok(figures) => println!("{figures}"),
            Err(failure) => panic!("{failure}"),
        }
        return;
    }
    let start = number("SIM_START").unwrap_or(1);
    let minutes = number("SIM_MINUTES");
    let until = minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let seeds = if minutes.is_some() { u64::MAX - start } else { number("SIM_SEEDS").unwrap_or(SEEDS) };
    let figures = run_all(start..start + seeds, steps, until);
    println!("{figures}");
}

#[test]
fn seeds_that_once_failed() {
    let seeds: Vec<u64> = REGRESSIONS
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| line.split_whitespace().next().expect("not empty").parse().expect("a seed comes first"))
        .collect();
    run_all(seeds.into_iter(), STEPS, None);
}

#[test]
fn a_seed_says_all() {
    for seed in [3, 11] {
        let figures = [0, 1].map(|_| run(seed, 500).unwrap_or_else(|failure| panic!("{failure}")));
        assert_eq!(figures[0], figures[1]);
    }
}
