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

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use daemon::{Daemon, SmtpSink};
use disk::FileSystem;
use load::{BODY_OCTETS, Pace};

/// Messages of a pass: below the queue's and the spool's size, since nothing leaves in accept mode.
const PASS_MESSAGES: usize = 12_000;
/// A slow disk ends a pass earlier.
const PASS_MAX: Duration = Duration::from_secs(4);
/// The same for a pass that must have some length.
const FILL_MAX: Duration = Duration::from_secs(20);
/// The device's statistic lags behind: no less than the longest time a free may wait for its sync.
const FREE_WAIT: Duration = Duration::from_secs(6);

type Failed = Box<dyn std::error::Error>;

/// The rates of one row, one a round.
struct Row {
    name: &'static str,
    rates: Vec<f64>,
}

impl Row {
    fn new(name: &'static str) -> Self {
        Self { name, rates: Vec::new() }
    }
    fn median(&self) -> f64 {
        let mut sorted = self.rates.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
    fn print(&self, note: &str) {
        let least = self.rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.rates.iter().copied().fold(0.0, f64::max);
        println!("{:<52} {:>8.0} /s  ({least:.0} to {most:.0}) {note}", self.name, self.median());
    }
}

/// What the accept passes differ in.
struct Pass {
    row: Row,
    connections: usize,
    pace: Pace,
    log: &'static str,
    messages: usize,
}

impl Pass {
    fn new(name: &'static str, connections: usize, pace: Pace, log: &'static str, messages: usize) -> Self {
        Self { row: Row::new(name), connections, pace, log, messages }
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
    let folder = std::env::var_os("BENCH_SPOOL")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench-spool"), PathBuf::from);
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

    let floor = accept_rates(&folder, rounds, scale)?;
    println!();
    relay_rate(&folder, rounds, scale)?;
    println!();
    syncs(&folder, scale)?;
    println!();
    device_octets(&folder, &system, scale)?;
    println!("\nfloor for the shares above: {floor:.0} commits/s");
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}

fn scaled(messages: usize, scale: f64) -> usize {
    ((messages as f64 * scale) as usize).max(200)
}

/// Floor, smtp-sink and durable accepts, round by round; returns the floor's median.
fn accept_rates(folder: &std::path::Path, rounds: usize, scale: f64) -> Result<f64, Failed> {
    let mut floor = Row::new("floor: pwrite 4 KiB + fdatasync");
    let mut peer = Row::new("smtp-sink, 50 connections, stores nothing");
    let mut peer_pipelining = Row::new("smtp-sink, 50 connections, pipelining");
    let mut passes = [
        Pass::new("accept, 1 connection, waits for each reply", 1, Pace::Waits, "warn", 6_000),
        Pass::new("accept, 1 connection, pipelining", 1, Pace::Pipelines, "warn", PASS_MESSAGES),
        Pass::new("accept, 10 connections", 10, Pace::Waits, "warn", PASS_MESSAGES),
        Pass::new("accept, 50 connections", 50, Pace::Waits, "warn", PASS_MESSAGES),
        Pass::new("accept, 50 connections, pipelining", 50, Pace::Pipelines, "warn", PASS_MESSAGES),
        Pass::new("accept, 50 connections, log = \"info\"", 50, Pace::Waits, "info", PASS_MESSAGES),
    ];
    let mut has_peer = true;
    for _ in 0..rounds {
        floor.rates.push(disk::floor(folder, Duration::from_millis(1000))?);
        for pass in &mut passes {
            let daemon = Daemon::start(folder, daemon::closed_port()?, pass.log, false)?;
            let messages = scaled(pass.messages, scale);
            let load = load::run(daemon.address(), pass.connections, messages, pass.pace, PASS_MAX)?;
            pass.row.rates.push(load.rate());
            daemon.stop()?;
        }
        match SmtpSink::start()? {
            Some(sink) => {
                for (row, pace) in [(&mut peer, Pace::Waits), (&mut peer_pipelining, Pace::Pipelines)] {
                    let load = load::run(sink.address(), 50, scaled(PASS_MESSAGES, scale), pace, PASS_MAX)?;
                    row.rates.push(load.rate());
                }
            }
            None => has_peer = false,
        }
    }
    let share = |row: &Row, of: &Row, target: f64| {
        let share = row.median() / of.median() * 100.0;
        let verdict = if share >= target { "reached" } else { "NOT reached" };
        format!(
            "{share:.0} % of {}, target {target:.0} %: {verdict}",
            if of.name.starts_with('f') { "the floor" } else { "smtp-sink" }
        )
    };
    floor.print("");
    for pass in &passes {
        let note = match (pass.connections, pass.pace, pass.log) {
            (1, Pace::Waits, _) => share(&pass.row, &floor, 40.0),
            (1, Pace::Pipelines, _) => share(&pass.row, &floor, 60.0),
            (50, Pace::Waits, "warn") if has_peer => share(&pass.row, &peer, 85.0),
            (50, Pace::Pipelines, _) if has_peer => {
                format!(
                    "{:.0} % of smtp-sink pipelining",
                    pass.row.median() / peer_pipelining.median() * 100.0
                )
            }
            _ => String::new(),
        };
        pass.row.print(&note);
    }
    if has_peer {
        peer.print("");
        peer_pipelining.print("");
    } else {
        println!("smtp-sink: skipped, it is not installed (Debian: postfix)");
    }
    Ok(floor.median())
}

/// The queue is filled while the sink is down, then drained to it over one connection.
fn relay_rate(folder: &std::path::Path, rounds: usize, scale: f64) -> Result<(), Failed> {
    let mut row = Row::new("relayed over one connection, queue filled first");
    let mut connections = 0;
    for _ in 0..rounds {
        let port = daemon::closed_port()?;
        let daemon = Daemon::start(folder, port, "warn", false)?;
        let messages = scaled(PASS_MESSAGES, scale);
        let load = load::run(daemon.address(), 50, messages, Pace::Pipelines, FILL_MAX)?;
        let drained = sink::drain(port, load.accepted, Duration::from_secs(60))?;
        row.rates.push(load.accepted as f64 / drained.took.as_secs_f64());
        connections = connections.max(drained.connections);
        daemon.stop()?;
    }
    let verdict = if row.median() >= 5000.0 { "reached" } else { "NOT reached" };
    row.print(&format!("target 5000/s: {verdict}; at most {connections} connections at once"));
    Ok(())
}

/// Syncs a message, counted by strace in a pass of its own, whose filter stops the relay at nothing else.
fn syncs(folder: &std::path::Path, scale: f64) -> Result<(), Failed> {
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
fn device_octets(folder: &std::path::Path, system: &FileSystem, scale: f64) -> Result<(), Failed> {
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
