//! One socket, and the pump between it and its session.
//!
//! Readiness is told once, so a socket remembers it until a call says that nothing is left. A peer that does
//! not read is not read from either. After each writing the session is asked again: whole commands may lie in
//! its input, and no event will come for them.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

use crate::relay::{Connection, Relay};
use crate::spool::Device;
use crate::time::Now;

/// Rounds of one pumping; what is left then waits for the next turn, so that no peer keeps the others
/// waiting.
const ROUNDS_MAX: usize = 16;

/// What the pump leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// Everything that could be moved was moved.
    Idle,
    /// There is more: pump again in the next turn.
    Runnable,
    /// The connection is over: drop the socket.
    Over,
}

/// An open socket and what is known of it.
#[derive(Debug)]
pub(super) struct Socket {
    pub stream: TcpStream,
    is_readable: bool,
    is_writable: bool,
    /// The peer will send no more, or the connection broke: reading goes on until it says so itself.
    is_ending: bool,
    /// The peer has sent all that it will.
    is_at_end: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, is_readable: true, is_writable: true, is_ending: false, is_at_end: false }
    }

    /// Remembers what an event told.
    pub(super) fn told(&mut self, event: &mio::event::Event) {
        self.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.is_writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        self.is_ending |= event.is_read_closed() || event.is_error();
    }

    /// Moves octets both ways until nothing moves.
    pub(super) fn pump<D: Device>(&mut self, now: &Now, at: Connection, relay: &mut Relay<D>) -> Pumped {
        for _ in 0..ROUNDS_MAX {
            let Ok(wrote) = self.write(now, at, relay) else {
                self.read_last(now, at, relay);
                return Pumped::Over;
            };
            let has_output = !relay.output(at).is_empty();
            if relay.is_closing(at) && (!has_output || relay.is_overdue(now, at)) {
                // The peer reads our last reply before it sees the end.
                let _ = self.stream.shutdown(Shutdown::Write);
                return Pumped::Over;
            }
            let Ok(read) = self.read(now, at, relay) else { return Pumped::Over };
            if self.is_at_end && !has_output && !wrote && !read && !relay.is_committing(at) {
                return Pumped::Over;
            }
            if !wrote && !read {
                return Pumped::Idle;
            }
        }
        Pumped::Runnable
    }

    fn write<D: Device>(&mut self, now: &Now, at: Connection, relay: &mut Relay<D>) -> Result<bool, Broken> {
        let mut has_moved = false;
        while self.is_writable && !relay.output(at).is_empty() {
            let output = relay.output(at);
            match self.stream.write(output) {
                Ok(0) => return Err(Broken),
                Ok(count) => {
                    self.is_writable = count == output.len();
                    relay.sent(now, at, count);
                    has_moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken),
            }
            if relay.is_closing(at) && relay.output(at).is_empty() {
                break;
            }
        }
        Ok(has_moved)
    }

    /// A smarthost that has closed may have said why, and that lies in the socket still.
    fn read_last<D: Device>(&mut self, now: &Now, at: Connection, relay: &mut Relay<D>) {
        self.is_readable = true;
        for _ in 0..ROUNDS_MAX {
            if !matches!(at, Connection::Sender(_)) || !matches!(self.read(now, at, relay), Ok(true)) {
                return;
            }
        }
    }

    fn read<D: Device>(&mut self, now: &Now, at: Connection, relay: &mut Relay<D>) -> Result<bool, Broken> {
        if !self.is_readable || self.is_at_end {
            return Ok(false);
        }
        let space = relay.space(at);
        if space.is_empty() {
            return Ok(false);
        }
        match self.stream.read(space) {
            Ok(0) => {
                self.is_at_end = true;
                Ok(true)
            }
            Ok(count) => {
                // Less than asked for: the socket is empty, unless its end is still to be read.
                self.is_readable = count == space.len() || self.is_ending;
                relay.filled(now, at, count);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.is_readable = false;
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(_) => Err(Broken),
        }
    }
}

/// The connection is gone.
struct Broken;
