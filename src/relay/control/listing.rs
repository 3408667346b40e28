//! The queue as an administrator sees it: how it stands with the routes, then message by message why it
//! waits.

use core::fmt::{self, Write};

use super::piece;
use super::text::{Json, JsonReply, Plain, PlainReply, Span};
use crate::buffer::Buffer;
use crate::queue::Standing;
use crate::relay::Relay;
use crate::sender::{Route, RouteState};
use crate::spool::{Batch, Device, Envelope, Facts, KeptReply, Listed, MessageId, Reader, RecipientState};
use crate::time::Now;

/// How far it is with the listing.
#[derive(Debug)]
pub(super) struct Listing {
    is_json: bool,
    /// What came after the listing's start has an id from here on.
    before: MessageId,
    place: Place,
    last: Option<Listed>,
    /// What comes behind the last one, as it was when it was looked for.
    ahead: Batch,
    is_first: bool,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Route(usize),
    Count,
    /// The message behind the last one.
    Next,
    Reply,
    Recipient(u16),
    /// The recipients are over, or can't be read.
    MessageEnd,
    Over,
}

impl Listing {
    pub(super) fn new(is_json: bool, before: MessageId) -> Self {
        Self { is_json, before, place: Place::Route(0), last: None, ahead: Batch::new(), is_first: true }
    }

    /// Appends at most one piece to `output`, which has room for it. True behind the last one.
    pub(super) fn step<D: Device>(
        &mut self,
        now: &Now,
        reader: &mut Reader,
        output: &mut Buffer,
        relay: &mut Relay<D>,
    ) -> bool {
        self.place = match self.place {
            Place::Route(at) => self.write_route(now, at, output, relay),
            Place::Count => self.write_count(output, relay),
            Place::Next => self.write_message(now, reader, output, relay),
            Place::Reply => self.write_reply(output, relay),
            Place::Recipient(at) => self.write_recipient(at, reader, output, relay),
            Place::MessageEnd => {
                if self.is_json {
                    piece(output, |output| output.write_str("]}"));
                }
                Place::Next
            }
            Place::Over => return true,
        };
        false
    }

    fn write_route<D: Device>(&self, now: &Now, at: usize, output: &mut Buffer, relay: &Relay<D>) -> Place {
        let Some((host, route)) = relay.routes_by_host().nth(at) else {
            return Place::Count;
        };
        piece(output, |output| {
            if self.is_json {
                let start = if at == 0 { "{\"routes\":[" } else { ",\n" };
                output.write_str(start)?;
                write_route_as_json(now, host, route, output)
            } else {
                write_route(now, host, route, output)
            }
        });
        Place::Route(at + 1)
    }

    fn write_count<D: Device>(&self, output: &mut Buffer, relay: &Relay<D>) -> Place {
        let (waiting, aside) = (relay.queue.len(), relay.spool.aside_count());
        let is_failing = relay.spool.is_failing();
        piece(output, |output| {
            if self.is_json {
                return write!(
                    output,
                    "],\n\"waiting\":{waiting},\"damaged\":{aside},\"disk_fails\":{is_failing},\"messages\":["
                );
            }
            if is_failing {
                writeln!(output, "the disk fails: nothing is accepted or sent until it works again")?;
            }
            match waiting {
                0 => writeln!(output, "no message waits")?,
                1 => writeln!(output, "1 message waits")?,
                _ => writeln!(output, "{waiting} messages wait")?,
            }
            match aside {
                0 => Ok(()),
                _ => writeln!(output, "{aside} damaged: never sent; see \"queue show\" and \"queue remove\""),
            }
        });
        Place::Next
    }

    fn write_message<D: Device>(
        &mut self,
        now: &Now,
        reader: &mut Reader,
        output: &mut Buffer,
        relay: &mut Relay<D>,
    ) -> Place {
        if self.ahead.is_empty() {
            self.ahead = relay.spool.list(self.last, self.before);
        }
        let Some(listed) = self.ahead.first().copied() else {
            if self.is_json {
                piece(output, |output| output.write_str("]}\n"));
            }
            return Place::Over;
        };
        self.ahead.remove(0);
        self.last = Some(listed);
        if !relay.spool.is_there(listed) {
            return Place::Next;
        }
        let comma = if core::mem::replace(&mut self.is_first, false) { "\n" } else { ",\n" };
        let Listed { message, id, is_aside } = listed;
        let envelope = if is_aside { None } else { reader.open(&mut relay.spool, message).ok() };
        let Some(envelope) = envelope else {
            // What can't be read now may be readable later: only its turn decides that it is damaged.
            let state = if is_aside { "damaged" } else { "unreadable" };
            piece(output, |output| match self.is_json {
                true => write!(output, "{comma}{{\"id\":\"{id}\",\"state\":\"{state}\",\"recipients\":["),
                false => writeln!(output, "\n{id}  {state}"),
            });
            return Place::MessageEnd;
        };
        let facts = relay.spool.facts(message);
        let standing = relay.queue.standing(message);
        let shown = Shown { now, relay, facts, standing };
        piece(output, |output| match self.is_json {
            true => output.write_str(comma).and_then(|()| shown.write_as_json(&envelope, output)),
            false => shown.write(&envelope, output),
        });
        Place::Reply
    }

    fn write_reply<D: Device>(&self, output: &mut Buffer, relay: &Relay<D>) -> Place {
        let Some(listed) = self.last.filter(|listed| relay.spool.is_there(*listed)) else {
            return self.write_left(output, "\"recipients\":[");
        };
        let reply = relay.queue.last_reply(listed.message);
        if self.is_json {
            let reply = JsonReply(reply);
            piece(output, |output| write!(output, "\"last_reply\":{reply},\"recipients\":["));
        } else if let Some(reply) = reply {
            piece(output, |output| writeln!(output, "    last reply: {}", PlainReply(reply)));
        }
        Place::Recipient(0)
    }

    fn write_recipient<D: Device>(
        &self,
        at: u16,
        reader: &mut Reader,
        output: &mut Buffer,
        relay: &mut Relay<D>,
    ) -> Place {
        let Some(listed) = self.last.filter(|listed| relay.spool.is_there(*listed)) else {
            return self.write_left(output, "");
        };
        let message = listed.message;
        let Ok(Some(recipient)) = reader.next_recipient(&mut relay.spool) else {
            return Place::MessageEnd;
        };
        let states = relay.spool.states(message, &mut relay.settling);
        let state = states.ok().and_then(|()| relay.settling.get(usize::from(at)).copied());
        let state = state.unwrap_or_default();
        let replies = relay.spool.replies(message).unwrap_or_default();
        let reply = match state {
            RecipientState::Failed { reply } => replies.get(usize::from(reply)),
            RecipientState::Waiting
            | RecipientState::Delivered
            | RecipientState::Noticed
            | RecipientState::Relayed => None,
        };
        let path = &recipient.forward_path;
        piece(output, |output| {
            if self.is_json {
                let comma = if at == 0 { "" } else { "," };
                let word = state_word(state);
                let (path, reply) = (Json(path), JsonReply(reply));
                let fields = format_args!("\"forward_path\":{path},\"state\":\"{word}\",\"reply\":{reply}");
                return write!(output, "{comma}{{{fields}}}");
            }
            write!(output, "    {:<9} <{}>", state_word(state), Plain(path))?;
            match reply {
                Some(reply) => writeln!(output, ": {}", PlainReply(reply)),
                None => writeln!(output),
            }
        });
        Place::Recipient(at.saturating_add(1))
    }

    /// The message has left while it was shown.
    fn write_left(&self, output: &mut Buffer, start: &str) -> Place {
        if self.is_json {
            piece(output, |output| write!(output, "{start}],\"has_left\":true}}"));
        } else {
            piece(output, |output| writeln!(output, "    has left meanwhile"));
        }
        Place::Next
    }
}

impl<D: Device> Relay<D> {
    /// The routes with the names of their smarthosts.
    pub(super) fn routes_by_host(&self) -> impl Iterator<Item = (&str, &Route)> {
        self.config.smarthosts.iter().map(|smarthost| &*smarthost.host).zip(&self.routes)
    }
}

fn state_word(state: RecipientState) -> &'static str {
    match state {
        RecipientState::Waiting => "waiting",
        RecipientState::Delivered => "relayed",
        RecipientState::Failed { .. } => "failed",
        RecipientState::Noticed => "done",
        RecipientState::Relayed => "to tell",
    }
}

/// The fault that holds the route up, if one does.
fn fault_of(route: &Route) -> Option<(crate::sender::Fault, Option<&KeptReply>)> {
    route.last_fault().filter(|_| route.state() != RouteState::Up)
}

pub(super) fn write_route(now: &Now, host: &str, route: &Route, output: &mut Buffer) -> fmt::Result {
    write!(output, "smarthost {host}: ")?;
    match fault_of(route) {
        Some((fault, reply)) => {
            write!(output, "{fault}")?;
            if let Some(reply) = reply {
                write!(output, ": {}", PlainReply(reply))?;
            }
            if let Some(since) = route.faulty_since() {
                write!(output, ", for {}", Span(now.instant.since(since)))?;
            }
        }
        None => output.write_str(match route.state() {
            RouteState::Up => "works",
            RouteState::Connecting | RouteState::Probing => "being connected to",
            RouteState::Closed => "not connected, nothing is against it",
            RouteState::Waiting { .. } => "rests",
        })?,
    }
    match route.state() {
        RouteState::Waiting { until } if until > now.instant => {
            writeln!(output, "; next try in {}", Span(until.since(now.instant)))
        }
        RouteState::Waiting { .. } => writeln!(output, "; tried again when there is mail"),
        RouteState::Probing => writeln!(output, "; tried again just now"),
        RouteState::Up | RouteState::Connecting | RouteState::Closed => writeln!(output),
    }
}

pub(super) fn write_route_as_json(now: &Now, host: &str, route: &Route, output: &mut Buffer) -> fmt::Result {
    let (state, rest) = match route.state() {
        RouteState::Up => ("up", None),
        RouteState::Connecting => ("connecting", None),
        RouteState::Probing => ("probing", None),
        RouteState::Closed => ("closed", None),
        RouteState::Waiting { until } => ("resting", Some(until.since(now.instant).0 / 1000)),
    };
    write!(output, "{{\"host\":{},\"state\":\"{state}\",\"next_try_s\":", Json(host.as_bytes()))?;
    write_number(rest, output)?;
    output.write_str(",\"faulty_for_s\":")?;
    write_number(route.faulty_since().map(|since| now.instant.since(since).0 / 1000), output)?;
    match fault_of(route) {
        Some((fault, reply)) => write!(output, ",\"fault\":\"{fault}\",\"reply\":{}}}", JsonReply(reply)),
        None => output.write_str(",\"fault\":null,\"reply\":null}"),
    }
}

fn write_number(number: Option<u64>, output: &mut Buffer) -> fmt::Result {
    match number {
        Some(number) => write!(output, "{number}"),
        None => output.write_str("null"),
    }
}

/// A message that is shown.
struct Shown<'a, D> {
    now: &'a Now,
    relay: &'a Relay<D>,
    facts: Facts,
    standing: Standing,
}

impl<D: Device> Shown<'_, D> {
    fn write(&self, envelope: &Envelope, output: &mut Buffer) -> fmt::Result {
        let tick = self.relay.spool.tick(self.now.instant);
        let age = Span(tick.since(self.facts.accepted));
        let (id, octets) = (self.facts.id, self.facts.octets);
        let (client, name) = (envelope.client, Plain(&envelope.client_name));
        writeln!(
            output,
            "\n{id}  {age} old, {octets} octets, from {client} ({name}) <{}>",
            Plain(&envelope.reverse_path)
        )?;
        output.write_str("    ")?;
        match self.standing {
            Standing::Taken { is_to_be_removed: false } => output.write_str("is being sent now")?,
            Standing::Taken { is_to_be_removed: true } => {
                output.write_str("is being sent now; what is left of it will be removed")?;
            }
            Standing::Deferred(due) if due > tick => write!(output, "next try in {}", Span(due.since(tick)))?,
            Standing::Ready | Standing::Deferred(_) => {
                output.write_str("goes as soon as the route is there")?
            }
            Standing::Absent => output.write_str("is not in the queue")?,
        }
        if self.facts.owed > 0 {
            write!(output, "; notices owed: {}", self.facts.owed)?;
        }
        writeln!(output)
    }

    /// Up to its last reply.
    fn write_as_json(&self, envelope: &Envelope, output: &mut Buffer) -> fmt::Result {
        let tick = self.relay.spool.tick(self.now.instant);
        let age_s = tick.since(self.facts.accepted).0 / 1000;
        let (state, next_try) = match self.standing {
            Standing::Taken { .. } => ("sending", None),
            Standing::Deferred(due) => ("deferred", Some(due.since(tick).0 / 1000)),
            Standing::Ready => ("ready", Some(0)),
            Standing::Absent => ("idle", None),
        };
        let is_to_be_removed = self.standing == Standing::Taken { is_to_be_removed: true };
        let (id, octets) = (self.facts.id, self.facts.octets);
        write!(output, "{{\"id\":\"{id}\",\"age_s\":{age_s},\"octets\":{octets},\"state\":\"{state}\"")?;
        output.write_str(",\"next_try_s\":")?;
        write_number(next_try, output)?;
        let (client, name) = (envelope.client, Json(&envelope.client_name));
        let path = Json(&envelope.reverse_path);
        write!(
            output,
            ",\"client\":\"{client}\",\"client_name\":{name},\"reverse_path\":{path},\
             \"to_be_removed\":{is_to_be_removed},\"notices_owed\":{},",
            self.facts.owed
        )
    }
}
