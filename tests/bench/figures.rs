//! `cargo bench`: the real release binary on loopback, in figures (never as timed tests).
//!
//! One run prints all that is to be compared, since rates of different days or machines don't compare: the
//! floor (the disk alone), Postfix's smtp-sink (which stores nothing) under the same load, durable accepts,
//! syncs, relayed messages, and octets that reach the block device. Rounds are interleaved; medians are
//! printed with their extremes.
//!
//! The accept rates are taken with the smarthost's port closed. `BENCH_SPOOL` names the folder for the spool
//! (default `target/bench-spool`; it must be on a disk), `BENCH_ROUNDS` the number of rounds (default 3),
//! `BENCH_SCALE` a factor of at most 1 on the messages of each pass.

mod daemon;
mod disk;
mod load;
mod sink;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use daemon::{Daemon, SmtpSink};
use disk::FileSystem;
use load::{BODY_OCTETS, Pace};

/// Messages of a pass: below the queue's and the spool's size, since nothing leaves in accept mode.
const PASS_MESSAGES: usize = 12_000;
/// A slow disk ends a pass earlier.
const PASS_MAX: Duration = Duration::from_secs(4);
const FLOOR_MAX: Duration = Duration::from_secs(1);
/// The same for a pass that must have some length.
const FILL_MAX: Duration = Duration::from_secs(20);
/// The device's statistic lags behind: no less than the longest time a free may wait for its sync.
const FREE_WAIT: Duration = Duration::from_secs(6);

type Failed = Box<dyn std::error::Error>;

/// The middle one, or the mean of the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        count if count.is_multiple_of(2) => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

fn print_row(name: &str, rates: &[f64], note: &str) {
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let most = rates.iter().copied().fold(0.0, f64::max);
    println!("{name:<48} {:>8.0} /s  ({least:.0} to {most:.0}) {note}", median(rates));
}

/// What a pass is run against.
#[derive(Clone, Copy, Debug)]
enum Subject {
    Floor,
    /// With this log level.
    Relay(&'static str),
    SmtpSink,
}

/// One pass, made once a round, and its rates.
struct Pass {
    name: &'static str,
    subject: Subject,
    connections: usize,
    pace: Pace,
    /// The pass beside it that it is a share of, and the share to reach, in percent.
    of: Option<(usize, Option<f64>)>,
    rates: Vec<f64>,
}

impl Pass {
    fn new(
        name: &'static str,
        subject: Subject,
        connections: usize,
        pace: Pace,
        of: Option<(usize, Option<f64>)>,
    ) -> Self {
        Self { name, subject, connections, pace, of, rates: Vec::new() }
    }
    fn run(&mut self, folder: &Path, scale: f64) -> Result<(), Failed> {
        let messages = scaled(PASS_MESSAGES, scale);
        let load = |address| load::run(address, self.connections, messages, self.pace, PASS_MAX);
        let rate = match self.subject {
            Subject::Floor => disk::floor(folder, FLOOR_MAX)?,
            Subject::Relay(log) => {
                let daemon = Daemon::start(folder, daemon::closed_port()?, log, false)?;
                let load = load(daemon.address())?;
                daemon.stop()?;
                load.rate()
            }
            Subject::SmtpSink => match SmtpSink::start()? {
                Some(sink) => load(sink.address())?.rate(),
                None => return Ok(()),
            },
        };
        self.rates.push(rate);
        Ok(())
    }
    fn print(&self, passes: &[Self]) {
        if self.rates.is_empty() {
            println!("{:<48} skipped, it is not installed (Debian: postfix)", self.name);
            return;
        }
        let note = self.of.map_or(String::new(), |(index, target)| {
            let other = &passes[index];
            let shares: Vec<f64> =
                self.rates.iter().zip(&other.rates).map(|(own, other)| own / other * 100.0).collect();
            if shares.is_empty() {
                return String::new();
            }
            let verdict = match target {
                None => String::new(),
                Some(target) if median(&shares) >= target => format!(", target {target} %: reached"),
                Some(target) => format!(", target {target} %: NOT reached"),
            };
            format!("{:.0} % of {}{verdict}", median(&shares), other.subject_name())
        });
        print_row(self.name, &self.rates, &note);
    }
    fn subject_name(&self) -> &'static str {
        match self.subject {
            Subject::Floor => "the floor",
            Subject::Relay(_) => "the relay",
            Subject::SmtpSink => "smtp-sink",
        }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("bench: {failed}");
            ExitCode::FAILURE
        }
    }
}

fn number(name: &str, default: f64) -> f64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run() -> Result<(), Failed> {
    let parent = std::env::var_os("BENCH_SPOOL")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench-spool"), PathBuf::from);
    let folder = parent.join("postern-bench");
    std::fs::create_dir_all(&folder)?;
    let system = FileSystem::of(&folder)?;
    println!("spool in {}: {system}", folder.display());
    if system.is_in_memory() {
        return Err("that file system is in memory: set BENCH_SPOOL to a folder on a disk".into());
    }
    let rounds = number("BENCH_ROUNDS", 3.0).max(1.0) as usize;
    let scale = number("BENCH_SCALE", 1.0).clamp(0.01, 1.0);
    println!(
        "{rounds} rounds; messages of {BODY_OCTETS} octets, one recipient each; medians (least to most)\n"
    );

    accept_rates(&folder, rounds, scale)?;
    println!();
    relay_rate(&folder, rounds, scale)?;
    println!();
    syncs(&folder, scale)?;
    println!();
    device_octets(&folder, &system, scale)?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn scaled(messages: usize, scale: f64) -> usize {
    ((messages as f64 * scale) as usize).max(200)
}

/// Floor, smtp-sink and durable accepts. What is compared is run one right after the other, round by round.
fn accept_rates(folder: &Path, rounds: usize, scale: f64) -> Result<(), Failed> {
    use Pace::{Pipelines, Waits};
    use Subject::{Floor, Relay, SmtpSink};
    let quiet = Relay("warn");
    let mut passes = [
        Pass::new("floor: pwrite 4 KiB + fdatasync", Floor, 0, Waits, None),
        Pass::new("accept, 1 connection, waits for each reply", quiet, 1, Waits, Some((0, Some(40.0)))),
        Pass::new("accept, 1 connection, pipelining", quiet, 1, Pipelines, Some((3, Some(60.0)))),
        Pass::new("floor, again", Floor, 0, Waits, None),
        Pass::new("accept, 10 connections", quiet, 10, Waits, None),
        Pass::new("accept, 50 connections", quiet, 50, Waits, Some((6, Some(85.0)))),
        Pass::new("smtp-sink (stores nothing), 50 connections", SmtpSink, 50, Waits, None),
        Pass::new("accept, 50 connections, pipelining", quiet, 50, Pipelines, Some((8, None))),
        Pass::new("smtp-sink, 50 connections, pipelining", SmtpSink, 50, Pipelines, None),
        Pass::new("accept, 50 connections, log = \"info\"", Relay("info"), 50, Waits, Some((5, None))),
    ];
    for _ in 0..rounds {
        for pass in &mut passes {
            pass.run(folder, scale)?;
        }
    }
    for pass in &passes {
        pass.print(&passes);
    }
    Ok(())
}

/// The queue is filled while the sink is down, then drained to it over one connection.
fn relay_rate(folder: &Path, rounds: usize, scale: f64) -> Result<(), Failed> {
    let mut rates = Vec::new();
    let mut connections = 0;
    for _ in 0..rounds {
        let port = daemon::closed_port()?;
        let daemon = Daemon::start(folder, port, "warn", false)?;
        let messages = scaled(PASS_MESSAGES, scale);
        let load = load::run(daemon.address(), 50, messages, Pace::Pipelines, FILL_MAX)?;
        let drained = sink::drain(port, load.accepted, Duration::from_secs(60))?;
        rates.push(load.accepted as f64 / drained.took.as_secs_f64());
        connections = connections.max(drained.connections);
        daemon.stop()?;
    }
    let verdict = if median(&rates) >= 5000.0 { "reached" } else { "NOT reached" };
    let note = format!("target 5000/s: {verdict}; at most {connections} connections at once");
    print_row("relayed to one connection, queue filled first", &rates, &note);
    Ok(())
}

/// Syncs a message, counted by strace in a pass of its own, whose filter stops the relay at nothing else.
fn syncs(folder: &Path, scale: f64) -> Result<(), Failed> {
    if !daemon::has_strace() {
        println!("syncs a message: skipped, strace is not installed");
        return Ok(());
    }
    for (name, connections, pace) in [
        ("1 connection, waits for each reply", 1, Pace::Waits),
        ("1 connection, pipelining", 1, Pace::Pipelines),
        ("10 connections", 10, Pace::Waits),
        ("50 connections", 50, Pace::Waits),
    ] {
        let daemon = Daemon::start(folder, daemon::closed_port()?, "warn", true)?;
        let messages = scaled(4000, scale);
        let load = load::run(daemon.address(), connections, messages, pace, PASS_MAX)?;
        let syncs = daemon.stop_and_count_syncs()?;
        let each = load.accepted as f64 / syncs as f64;
        let note = match connections {
            50 if each >= 6.0 => " target 6: reached",
            50 => " target 6: NOT reached",
            _ => "",
        };
        println!(
            "syncs, {name:<46} {:.3} a message, {each:.1} messages a sync{note} (strace, at {:.0} /s)",
            syncs as f64 / load.accepted as f64,
            load.rate()
        );
    }
    Ok(())
}

/// Octets to the block device, by its own statistic, at the 250 and when the frees are durable too.
fn device_octets(folder: &Path, system: &FileSystem, scale: f64) -> Result<(), Failed> {
    let Some(before) = system.octets_written() else {
        println!("octets to the block device: skipped, {system} has no statistic in /sys/dev/block");
        return Ok(());
    };
    std::thread::sleep(Duration::from_secs(2));
    let noise = (system.octets_written().unwrap_or(before) - before) as f64 / 2.0;
    let port = daemon::closed_port()?;
    let messages = scaled(6000, scale);
    let daemon = Daemon::start(folder, port, "warn", false)?;
    let (start, begun) = (system.octets_written().unwrap_or(0), Instant::now());
    let own = daemon.octets_dirtied();
    let load = load::run(daemon.address(), 1, messages, Pace::Waits, FILL_MAX)?;
    let accepted = system.octets_written().unwrap_or(0) - start;
    let own_accepted = daemon.octets_dirtied() - own;
    let took = begun.elapsed().as_secs_f64();
    sink::drain(port, load.accepted, Duration::from_secs(60))?;
    std::thread::sleep(FREE_WAIT);
    let all = system.octets_written().unwrap_or(0) - start;
    let own_all = daemon.octets_dirtied() - own;
    let whole = begun.elapsed().as_secs_f64();
    daemon.stop()?;
    let each = |octets: u64| octets as f64 / load.accepted as f64;
    println!(
        "octets to the block device for an alert, at its 250       {:>8.0}   target 4096",
        each(accepted)
    );
    println!(
        "... with its free, amortised                              {:>8.0}   target about 8192",
        each(all)
    );
    println!(
        "    others wrote of it, by the 2 s before: {:.0} and {:.0}; dirtied by the relay: {:.0} and {:.0}",
        noise * took / load.accepted as f64,
        noise * whole / load.accepted as f64,
        each(own_accepted),
        each(own_all)
    );
    Ok(())
}
