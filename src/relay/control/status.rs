//! How the relay is: figures, routes, and what is remembered of each client.

use core::fmt::{self, Write};

use super::listing::{write_route, write_route_as_json};
use super::text::{Json, Plain, Span};
use super::{Outside, piece};
use crate::buffer::Buffer;
use crate::limits::{BOARD, QUEUED_MESSAGES, SENDER_CONNECTIONS, STATIC_OCTETS};
use crate::receiver::Client;
use crate::relay::{Relay, Stage};
use crate::spool::{Device, Unreadable};
use crate::time::Now;

/// Damaged messages that are named; more are counted.
const DAMAGED_SHOWN_MAX: usize = 16;

/// How far it is with the status.
#[derive(Debug)]
pub(super) struct Status {
    is_json: bool,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Spool,
    /// A message that was set aside.
    Damaged(usize),
    Unreadable,
    Figures,
    Route(usize),
    Client(usize),
    Over,
}

impl Status {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json, place: Place::Spool }
    }

    /// Appends at most one piece to `output`, which has room for it. True behind the last one.
    pub(super) fn step<D: Device>(
        &mut self,
        now: &Now,
        outside: &Outside,
        output: &mut Buffer,
        relay: &Relay<D>,
    ) -> bool {
        self.place = match self.place {
            Place::Spool => {
                piece(output, |output| match self.is_json {
                    true => write_spool_as_json(now, outside, output, relay),
                    false => write_spool(now, outside, output, relay),
                });
                Place::Damaged(0)
            }
            Place::Damaged(at) => self.write_damaged(at, output, relay),
            Place::Unreadable => {
                let unreadable = relay.spool.unreadable();
                if self.is_json {
                    piece(output, |output| write_unreadable_as_json(unreadable, output));
                } else if unreadable.count > 0 {
                    piece(output, |output| write_unreadable(unreadable, output));
                }
                Place::Figures
            }
            Place::Figures => {
                piece(output, |output| match self.is_json {
                    true => write_figures_as_json(outside, output, relay),
                    false => write_figures(outside, output, relay),
                });
                Place::Route(0)
            }
            Place::Route(at) => self.write_route(now, at, output, relay),
            Place::Client(at) => self.write_client(now, at, output, relay),
            Place::Over => return true,
        };
        false
    }

    fn write_damaged<D: Device>(&self, at: usize, output: &mut Buffer, relay: &Relay<D>) -> Place {
        let mut rest = relay.spool.aside().skip(at);
        let Some((id, block)) = rest.next().filter(|_| at < DAMAGED_SHOWN_MAX) else {
            return Place::Unreadable;
        };
        let more = if at + 1 == DAMAGED_SHOWN_MAX { rest.count() } else { 0 };
        piece(output, |output| match self.is_json {
            true => {
                let comma = if at == 0 { "" } else { "," };
                write!(output, "{comma}{{\"id\":\"{id}\",\"block\":{block}}}")
            }
            false => {
                write!(
                    output,
                    "    {id} in block {block} is damaged and never sent: see what is left of it by "
                )?;
                writeln!(output, "\"queue show {id}\", then \"queue remove {id}\"")?;
                if more > 0 {
                    writeln!(output, "    and {more} more: see \"queue\"")?;
                }
                Ok(())
            }
        });
        Place::Damaged(at + 1)
    }

    fn write_route<D: Device>(&self, now: &Now, at: usize, output: &mut Buffer, relay: &Relay<D>) -> Place {
        let Some((host, route)) = relay.routes_by_host().nth(at) else {
            let start = if self.is_json { "],\n\"clients\":[" } else { "\n" };
            piece(output, |output| output.write_str(start));
            return Place::Client(0);
        };
        piece(output, |output| {
            if self.is_json {
                let start = if at == 0 { ",\n\"routes\":[" } else { ",\n" };
                output.write_str(start)?;
                write_route_as_json(now, host, route, output)
            } else {
                write_route(now, host, route, output)
            }
        });
        Place::Route(at + 1)
    }

    fn write_client<D: Device>(&self, now: &Now, at: usize, output: &mut Buffer, relay: &Relay<D>) -> Place {
        let Some(client) = relay.admission.ledger.clients().nth(at) else {
            if self.is_json {
                piece(output, |output| output.write_str("]}\n"));
            }
            return Place::Over;
        };
        piece(output, |output| match self.is_json {
            true => {
                output.write_str(if at == 0 { "\n" } else { ",\n" })?;
                write_client_as_json(now, client, output)
            }
            false => write_client(now, client, output),
        });
        Place::Client(at + 1)
    }
}

impl<D: Device> Relay<D> {
    /// Connections to smarthosts that are open.
    fn senders_open(&self) -> usize {
        self.senders.iter().filter(|sender| sender.stage == Stage::Open).count()
    }
}

fn write_spool<D: Device>(
    now: &Now,
    outside: &Outside,
    output: &mut Buffer,
    relay: &Relay<D>,
) -> fmt::Result {
    let spool = &relay.spool;
    let up = Span(now.instant.since(spool.started()));
    writeln!(output, "postern {} on board {BOARD}, up for {up}", env!("CARGO_PKG_VERSION"))?;
    let path = relay.config.spool.path.as_os_str().as_encoded_bytes();
    let used = spool.blocks() - spool.blocks_free();
    write!(output, "spool {}: {used} of {} blocks in use", Plain(path), spool.blocks())?;
    let (waiting, aside) = (relay.queue.len(), spool.aside_count());
    writeln!(output, ", {waiting} of {QUEUED_MESSAGES} messages wait, {aside} damaged")?;
    if outside.is_spool_volatile {
        writeln!(output, "    it is in memory: the mail in it is lost with the power")?;
    }
    if spool.is_failing() {
        writeln!(output, "    the disk fails: nothing is accepted or sent until it works again")?;
    }
    if !now.wall.is_trusted {
        writeln!(output, "    the clock is not set")?;
    }
    Ok(())
}

fn write_unreadable(unreadable: &Unreadable, output: &mut Buffer) -> fmt::Result {
    let is_one = unreadable.count == 1;
    write!(
        output,
        "    {} block{} could not be read at the start",
        unreadable.count,
        if is_one { "" } else { "s" }
    )?;
    for (at, block) in unreadable.blocks.iter().enumerate() {
        write!(output, "{} {block}", if at == 0 { ":" } else { "," })?;
    }
    if unreadable.count as usize > unreadable.blocks.len() {
        write!(output, " and so on")?;
    }
    writeln!(output, "; not used until {} can be", if is_one { "it" } else { "they" })
}

/// Behind the last damaged message.
fn write_unreadable_as_json(unreadable: &Unreadable, output: &mut Buffer) -> fmt::Result {
    write!(output, "],\n\"unreadable_blocks\":{{\"count\":{},\"first\":[", unreadable.count)?;
    for (at, block) in unreadable.blocks.iter().enumerate() {
        write!(output, "{}{block}", if at == 0 { "" } else { "," })?;
    }
    output.write_str("]}")
}

fn write_spool_as_json<D: Device>(
    now: &Now,
    outside: &Outside,
    output: &mut Buffer,
    relay: &Relay<D>,
) -> fmt::Result {
    let spool = &relay.spool;
    let up_s = now.instant.since(spool.started()).0 / 1000;
    let version = env!("CARGO_PKG_VERSION");
    write!(output, "{{\"version\":\"{version}\",\"board\":\"{BOARD}\",\"up_s\":{up_s},")?;
    write!(output, "\"clock_is_set\":{},\n\"spool\":{{", now.wall.is_trusted)?;
    let path = Json(relay.config.spool.path.as_os_str().as_encoded_bytes());
    write!(output, "\"path\":{path},\"blocks\":{},\"free\":{},", spool.blocks(), spool.blocks_free())?;
    write!(output, "\"waiting\":{},\"damaged\":{},", relay.queue.len(), spool.aside_count())?;
    write!(output, "\"volatile\":{},\"fails\":{}}}", outside.is_spool_volatile, spool.is_failing())?;
    output.write_str(",\n\"damaged_messages\":[")
}

fn write_figures<D: Device>(outside: &Outside, output: &mut Buffer, relay: &Relay<D>) -> fmt::Result {
    let (clients, clients_max) = (relay.receivers_open, relay.config.limits.sessions);
    write!(output, "{clients} of {clients_max} clients connected, {} of ", relay.senders_open())?;
    writeln!(output, "{SENDER_CONNECTIONS} connections to smarthosts")?;
    write!(output, "since the start:")?;
    for (at, (name, count)) in figures(relay).into_iter().enumerate() {
        write!(output, "{} {name} {count}", if at == 0 { "" } else { "," })?;
    }
    writeln!(output)?;
    let (resident, peak) = (outside.resident_octets / 1024, outside.peak_octets / 1024);
    writeln!(output, "memory: {resident} KiB, at most {peak} KiB; {} KiB reserved", STATIC_OCTETS / 1024)?;
    if outside.log_lines_dropped > 0 {
        writeln!(output, "{} lines of the log were dropped: its reader is slow", outside.log_lines_dropped)?;
    }
    writeln!(output)
}

fn write_figures_as_json<D: Device>(outside: &Outside, output: &mut Buffer, relay: &Relay<D>) -> fmt::Result {
    let (clients, clients_max) = (relay.receivers_open, relay.config.limits.sessions);
    write!(output, ",\n\"clients_connected\":{clients},\"clients_max\":{clients_max},")?;
    write!(output, "\"smarthosts_connected\":{},\n\"counters\":{{", relay.senders_open())?;
    for (at, (name, count)) in figures(relay).into_iter().enumerate() {
        write!(output, "{}\"{name}\":{count}", if at == 0 { "" } else { "," })?;
    }
    let Outside { resident_octets, peak_octets, log_lines_dropped, .. } = outside;
    write!(output, "}},\n\"resident_octets\":{resident_octets},\"peak_octets\":{peak_octets},")?;
    write!(output, "\"reserved_octets\":{STATIC_OCTETS},\"log_lines_dropped\":{log_lines_dropped}")
}

/// What is counted, by name.
fn figures<D: Device>(relay: &Relay<D>) -> [(&'static str, u64); 13] {
    let counters = &relay.counters;
    [
        ("received", counters.received),
        ("relayed", counters.relayed),
        ("deferred", counters.deferred),
        ("failed", counters.failed),
        ("bounced", counters.bounced),
        ("expired", counters.expired),
        ("removed", counters.removed),
        ("damaged", counters.damaged),
        ("refused", relay.admission.ledger.refusals()),
        ("sessions", counters.sessions),
        ("evicted", counters.evicted),
        ("connections", counters.connections),
        ("syncs", relay.spool.syncs()),
    ]
}

fn write_client(now: &Now, client: &Client, output: &mut Buffer) -> fmt::Result {
    let seen = Span(now.instant.since(client.seen()));
    write!(output, "{}: seen {seen} ago, messages {}", client.origin(), client.taken())?;
    if client.has_tls() {
        output.write_str(", over TLS")?;
    }
    if client.sessions() > 0 {
        write!(output, ", connected {}", client.sessions())?;
    }
    for (at, (quirk, count)) in client.quirks().enumerate() {
        write!(output, "{} {} {count}", if at == 0 { ", quirks" } else { "," }, quirk.name())?;
    }
    writeln!(output)?;
    match client.refusals() {
        (count, Some(reason)) => writeln!(output, "    refused {count}, last: {}", reason.trim_end()),
        (_, None) => Ok(()),
    }
}

fn write_client_as_json(now: &Now, client: &Client, output: &mut Buffer) -> fmt::Result {
    let seen_s = now.instant.since(client.seen()).0 / 1000;
    let (refused, refusal) = client.refusals();
    write!(output, "{{\"client\":\"{}\",\"seen_s\":{seen_s},", client.origin())?;
    write!(output, "\"messages\":{},\"tls\":{},", client.taken(), client.has_tls())?;
    write!(output, "\"connected\":{},", client.sessions())?;
    write!(output, "\"refused\":{refused},\"last_refusal\":")?;
    match refusal {
        Some(reason) => write!(output, "{}", Json(reason.trim_end().as_bytes()))?,
        None => output.write_str("null")?,
    }
    output.write_str(",\"quirks\":{")?;
    for (at, (quirk, count)) in client.quirks().enumerate() {
        write!(output, "{}\"{}\":{count}", if at == 0 { "" } else { "," }, quirk.name())?;
    }
    output.write_str("}}")
}
