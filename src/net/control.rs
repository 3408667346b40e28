//! The control socket: where the tools of this machine's administrator ask, and get their answers in pieces.
//!
//! Few connections at once, each with its buffers from the heap while it lasts. They are moved with all other
//! sockets, a few pieces a turn, so that no session waits for a long answer. A tool that does not read keeps
//! its place until another one needs it.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Write};

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};

use super::lines::visit_lines;
use super::privileges::Identity;
use super::socket_file::SocketFile;
use super::{StartError, log_lines};
use crate::buffer::{Buffer, Window};
use crate::config::Config;
use crate::relay::Relay;
use crate::relay::control::{ANSWER_OCTETS, Control, Outside, REQUEST_OCTETS_MAX};
use crate::smtp::Next;
use crate::spool::SpoolFile;
use crate::time::{Duration, Instant, Now};

/// Tools that are served at once.
pub(super) const CONNECTIONS_MAX: usize = 4;
/// Places that tokens are needed for: the listening socket, then the connections.
pub(super) const PLACES: usize = 1 + CONNECTIONS_MAX;
/// Only root and the user that we run as may connect.
const MODE: u32 = 0o600;
/// Rounds of one pumping; what is left then waits for the next turn.
const ROUNDS_MAX: usize = 4;
/// How long a tool may read nothing before its place is another's.
const EVICT_AFTER: Duration = Duration::from_s(1);
/// How long it may read nothing at all.
const STALLED_MAX: Duration = Duration::from_min(10);
/// How long accepting rests when the process has no file descriptor left.
const ACCEPT_REST: Duration = Duration::from_s(1);

/// The socket with its connections.
#[derive(Debug)]
pub(super) struct Controls {
    socket: Option<SocketFile>,
    /// Why there is none.
    missing: Option<Error>,
    may_accept: bool,
    rests_until: Option<Instant>,
    places: [Place; CONNECTIONS_MAX],
    base: usize,
}

#[derive(Debug, Default)]
struct Place {
    connection: Option<Box<Connection>>,
    /// Of the connections that were here: late events find another one.
    generation: usize,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    control: Control,
    input: [u8; REQUEST_OCTETS_MAX],
    input_window: Window,
    output: [u8; ANSWER_OCTETS],
    output_window: Window,
    is_readable: bool,
    is_writable: bool,
    is_at_end: bool,
    /// The answer is whole.
    is_closing: bool,
    is_runnable: bool,
    moved_at: Instant,
}

/// What a pump leaves behind.
enum Pumped {
    Idle,
    Runnable,
    Over,
}

impl Controls {
    /// Listens at the configured path, with tokens from `base` on.
    ///
    /// # Errors
    /// It can't be had and was asked for. The default one is done without where that is so.
    pub(super) fn open(config: &Config, registry: &Registry, base: usize) -> Result<Self, StartError> {
        let path = &config.control.path;
        let opened = SocketFile::open(path, MODE).and_then(|mut socket| {
            registry.register(&mut socket.listener, Token(base), Interest::READABLE)?;
            Ok(socket)
        });
        let (socket, missing) = match opened {
            Ok(socket) => (Some(socket), None),
            Err(error) if config.control.is_given => {
                return Err(StartError::Socket { key: "control.path", path: path.clone(), error });
            }
            Err(error) => (None, Some(error)),
        };
        let may_accept = socket.is_some();
        Ok(Self { socket, missing, may_accept, rests_until: None, places: Default::default(), base })
    }

    /// Why there is no socket, if that is so.
    pub(super) fn no_socket(&self) -> Option<&Error> {
        self.missing.as_ref()
    }

    /// The socket is made the one's whom the process becomes.
    pub(super) fn hand_over(&self, identity: &Identity) {
        if let Some(socket) = &self.socket {
            socket.hand_over(identity);
        }
    }

    /// An event for the place of that number, with the generation that its token had.
    pub(super) fn told(&mut self, place: usize, generation: usize, event: &mio::event::Event) {
        let Some(at) = place.checked_sub(1) else {
            self.may_accept = true;
            return;
        };
        let place = &mut self.places[at];
        if let Some(connection) = &mut place.connection
            && place.generation == generation
        {
            connection.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
            connection.is_writable |= event.is_writable() || event.is_write_closed() || event.is_error();
            connection.is_runnable = true;
        }
    }

    /// True when there is something to do although no event comes.
    pub(super) fn is_runnable(&self) -> bool {
        self.connections().any(|connection| connection.is_runnable)
            || self.may_accept && self.rests_until.is_none() && self.connections().count() < CONNECTIONS_MAX
    }

    /// When something is due although nothing comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stalled = self.connections().map(|connection| connection.moved_at + STALLED_MAX);
        let commits = self.connections().filter_map(|connection| connection.control.deadline());
        stalled.chain(commits).chain(self.rests_until).min()
    }

    /// Moves what can be moved: `token_of` makes the token of a place and a generation.
    pub(super) fn turn(
        &mut self,
        now: &Now,
        registry: &Registry,
        relay: &mut Relay<SpoolFile>,
        token_of: impl Fn(usize, usize) -> Token,
    ) {
        for at in 0..CONNECTIONS_MAX {
            let Some(connection) = &self.places[at].connection else { continue };
            let is_due = connection.control.deadline().is_some_and(|due| due <= now.instant);
            if connection.moved_at + STALLED_MAX <= now.instant {
                self.vacate(at);
            } else if connection.is_runnable || is_due {
                self.pump(at, now, relay);
            }
        }
        self.accept(now, registry, relay, token_of);
    }

    /// After the relay's turn: what waited for that goes on.
    pub(super) fn turned(&mut self, now: &Now, relay: &mut Relay<SpoolFile>) {
        for at in 0..CONNECTIONS_MAX {
            if self.places[at].connection.as_ref().is_some_and(|open| open.control.is_committing()) {
                self.pump(at, now, relay);
            }
        }
    }

    /// True when a tool asked that names be looked up anew.
    pub(super) fn takes_fresh_names(&mut self) -> bool {
        let connections = self.places.iter_mut().filter_map(|place| place.connection.as_mut());
        // All are asked, as each says it once.
        connections.map(|open| open.control.takes_fresh_names()).fold(false, |any, one| any | one)
    }

    /// Ends all, and removes the socket's name.
    pub(super) fn close(&mut self) {
        self.socket = None;
        self.may_accept = false;
        for at in 0..CONNECTIONS_MAX {
            self.vacate(at);
        }
    }

    fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.places.iter().filter_map(|place| place.connection.as_deref())
    }

    fn accept(
        &mut self,
        now: &Now,
        registry: &Registry,
        relay: &mut Relay<SpoolFile>,
        token_of: impl Fn(usize, usize) -> Token,
    ) {
        if self.rests_until.is_some_and(|until| until > now.instant) {
            return;
        }
        self.rests_until = None;
        for _ in 0..CONNECTIONS_MAX {
            let Some(at) = self.make_room(now) else { return };
            let Some(mut stream) = self.next_stream(now) else { return };
            let token = token_of(self.base + 1 + at, self.places[at].generation);
            let interest = Interest::READABLE | Interest::WRITABLE;
            if let Err(error) = registry.register(&mut stream, token, interest) {
                log::warn!("can't watch a socket: {error}");
                continue;
            }
            self.places[at].connection = Some(Box::new(Connection::new(stream, now.instant)));
            self.pump(at, now, relay);
        }
    }

    /// A free place, that of the tool which has read nothing for longest if need be and somebody may wait.
    fn make_room(&mut self, now: &Now) -> Option<usize> {
        if !self.may_accept {
            return None;
        }
        if let Some(at) = self.places.iter().position(|place| place.connection.is_none()) {
            return Some(at);
        }
        let moved_at = |place: &Place| place.connection.as_ref().map(|open| open.moved_at);
        let worst = (0..CONNECTIONS_MAX).min_by_key(|at| moved_at(&self.places[*at]))?;
        let evictable = moved_at(&self.places[worst])? + EVICT_AFTER;
        if evictable > now.instant {
            self.rests_until = Some(evictable);
            return None;
        }
        self.vacate(worst);
        Some(worst)
    }

    fn next_stream(&mut self, now: &Now) -> Option<UnixStream> {
        match self.socket.as_ref()?.listener.accept() {
            Ok((stream, _)) => Some(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.may_accept = false;
                None
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {
                None
            }
            Err(error) => {
                log::warn!("can't accept a tool: {error}; trying again in 1 s");
                self.rests_until = Some(now.instant + ACCEPT_REST);
                None
            }
        }
    }

    fn pump(&mut self, at: usize, now: &Now, relay: &mut Relay<SpoolFile>) {
        let Some(connection) = &mut self.places[at].connection else { return };
        match connection.pump(now, relay) {
            Ok(Pumped::Idle) => connection.is_runnable = false,
            Ok(Pumped::Runnable) => connection.is_runnable = true,
            Ok(Pumped::Over) | Err(_) => self.vacate(at),
        }
    }

    fn vacate(&mut self, at: usize) {
        let place = &mut self.places[at];
        if place.connection.take().is_some() {
            self.rests_until = None;
            place.generation = place.generation.wrapping_add(1) & super::event_loop::GENERATIONS;
        }
    }
}

impl Connection {
    fn new(stream: UnixStream, now: Instant) -> Self {
        Self {
            stream,
            control: Control::new(),
            input: [0; REQUEST_OCTETS_MAX],
            input_window: Window::default(),
            output: [0; ANSWER_OCTETS],
            output_window: Window::default(),
            is_readable: true,
            is_writable: true,
            is_at_end: false,
            is_closing: false,
            is_runnable: true,
            moved_at: now,
        }
    }

    fn pump(&mut self, now: &Now, relay: &mut Relay<SpoolFile>) -> Result<Pumped, Error> {
        for _ in 0..ROUNDS_MAX {
            let has_read = self.read()?;
            if !self.is_closing {
                let mut input = Buffer::new(&mut self.input, &mut self.input_window);
                let mut output = Buffer::new(&mut self.output, &mut self.output_window);
                let next = self.control.advance(now, &mut input, &mut output, relay, outside);
                self.is_closing = next == Next::Close;
            }
            let has_written = self.write()?;
            if self.output_window.is_empty()
                && (self.is_closing || self.is_at_end && self.control.is_asking())
            {
                return Ok(Pumped::Over);
            }
            if has_read || has_written {
                self.moved_at = now.instant;
            } else if !self.control.is_runnable() {
                return Ok(Pumped::Idle);
            }
        }
        Ok(Pumped::Runnable)
    }

    fn read(&mut self) -> Result<bool, Error> {
        let mut input = Buffer::new(&mut self.input, &mut self.input_window);
        if !self.is_readable || self.is_at_end || input.room() == 0 {
            return Ok(false);
        }
        match self.stream.read(input.space()) {
            Ok(0) => self.is_at_end = true,
            Ok(count) => {
                input.filled(count);
                return Ok(true);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(false)
    }

    fn write(&mut self) -> Result<bool, Error> {
        let mut output = Buffer::new(&mut self.output, &mut self.output_window);
        let mut has_moved = false;
        while self.is_writable && !output.is_empty() {
            match self.stream.write(output.octets()) {
                Ok(count) => {
                    output.consume(count);
                    has_moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(has_moved)
    }
}

/// What the relay can't know of itself. Costs a read of /proc, where there is one.
fn outside(relay: &Relay<SpoolFile>) -> Outside {
    let mut outside = Outside {
        log_lines_dropped: log_lines::dropped(),
        is_spool_volatile: relay.spool().device().is_volatile(),
        ..Outside::default()
    };
    if let Ok(status) = File::open("/proc/self/status") {
        // What can't be read stays zero.
        let _ = visit_lines(status, |line| {
            let octets = |name: &[u8]| line.strip_prefix(name).and_then(kib);
            outside.resident_octets = octets(b"VmRSS:").unwrap_or(outside.resident_octets);
            outside.peak_octets = octets(b"VmHWM:").unwrap_or(outside.peak_octets);
            true
        });
    }
    outside
}

/// The octets in `  1234 kB`.
fn kib(field: &[u8]) -> Option<u64> {
    let field = field.trim_ascii().strip_suffix(b" kB")?;
    core::str::from_utf8(field).ok()?.parse().ok().map(|kib: u64| kib * 1024)
}
