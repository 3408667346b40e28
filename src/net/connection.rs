//! One socket, and the pump between it and its session.
//!
//! Readiness is told once, so a socket remembers it until a call says that nothing is left. A peer that does
//! not read is not read from either. After each writing the session is asked again: whole commands may lie in
//! its input, and no event will come for them.

use std::io::{ErrorKind, Read, Write};

use super::downstream::Downstream;
use super::tls::{Plaintext, Stream};
use super::upstream::{NoSecret, Upstream};
use super::wire::Wire;
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
    pub stream: Wire,
    /// What lies between it and the session, where that is anything.
    tls: Option<Box<Stream>>,
    is_readable: bool,
    is_writable: bool,
    /// The peer will send no more, or the connection broke: reading goes on until it says so itself.
    is_ending: bool,
    /// The peer has sent all that it will.
    is_at_end: bool,
    /// A secret was handed in: when another one is wanted, that one was refused.
    has_secret: bool,
}

impl Socket {
    pub(super) fn new(stream: Wire) -> Self {
        Self {
            stream,
            tls: None,
            is_readable: true,
            is_writable: true,
            is_ending: false,
            is_at_end: false,
            has_secret: false,
        }
    }

    /// Remembers what an event told.
    pub(super) fn told(&mut self, event: &mio::event::Event) {
        self.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.is_writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        self.is_ending |= event.is_read_closed() || event.is_error();
    }

    /// Moves octets both ways until nothing moves.
    pub(super) fn pump<D: Device>(
        &mut self,
        now: &Now,
        at: Connection,
        relay: &mut Relay<D>,
        (upstream, downstream): (&mut Upstream, &mut Downstream),
    ) -> Pumped {
        for _ in 0..ROUNDS_MAX {
            if self.tls.is_none() && relay.wants_tls(at) {
                let stream = match at {
                    Connection::Receiver(_) => downstream.start_tls(),
                    Connection::Sender(_) => upstream.start_tls(relay.smarthost_of(at)),
                };
                match stream {
                    Ok(stream) => self.tls = Some(Box::new(stream)),
                    Err(fault) => relay.tls_failed(now, at, fault),
                }
            }
            if relay.wants_secret(at) {
                self.log_in(now, at, relay, upstream);
            }
            let Ok(wrote) = self.write(now, at, relay) else {
                self.read_last(now, at, relay);
                return Pumped::Over;
            };
            let has_output = !relay.output(at).is_empty() || self.has_unsent();
            if relay.is_closing(at) && (!has_output || relay.is_overdue(now, at)) {
                self.close();
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

    /// Hands in the secret, if it is at hand; else the loop comes again when it is.
    fn log_in<D: Device>(
        &mut self,
        now: &Now,
        at: Connection,
        relay: &mut Relay<D>,
        upstream: &mut Upstream,
    ) {
        match upstream.secret(now.instant, relay.smarthost_of(at), self.has_secret) {
            None => {}
            Some(Ok(secret)) => {
                self.has_secret = true;
                relay.secret(now, at, Ok(secret));
            }
            Some(Err(NoSecret::File(fault))) => relay.secret(now, at, Err(fault)),
            Some(Err(NoSecret::Token(why))) => relay.no_token(now, at, why.fault, why.told.map(|told| *told)),
        }
    }

    /// The peer reads our last reply before it sees the end.
    fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.close();
            let _ = tls.send(&mut self.stream);
        }
        self.stream.end();
    }

    /// True while TLS has octets for the socket.
    fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_unsent())
    }

    fn write<D: Device>(&mut self, now: &Now, at: Connection, relay: &mut Relay<D>) -> Result<bool, Broken> {
        let mut has_moved = false;
        loop {
            has_moved |= self.send_unsent()?;
            let output = relay.output(at);
            if output.is_empty() || !self.is_writable || self.has_unsent() {
                break;
            }
            let count = match &mut self.tls {
                Some(tls) if tls.is_handshaking() => break,
                Some(tls) => match tls.write(output) {
                    0 => break,
                    count => count,
                },
                None => self.write_plain(output)?,
            };
            if count > 0 {
                relay.sent(now, at, count);
                has_moved = true;
            }
            if relay.is_closing(at) && relay.output(at).is_empty() {
                has_moved |= self.send_unsent()?;
                break;
            }
        }
        Ok(has_moved)
    }

    /// Writes octets that nothing lies between; none when the socket is full.
    fn write_plain(&mut self, octets: &[u8]) -> Result<usize, Broken> {
        match self.stream.write(octets) {
            Ok(0) => Err(Broken),
            Ok(count) => {
                self.is_writable = count == octets.len();
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.is_writable = false;
                Ok(0)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(_) => Err(Broken),
        }
    }

    /// Sends what TLS has, as far as the socket takes it.
    fn send_unsent(&mut self) -> Result<bool, Broken> {
        let Some(tls) = &mut self.tls else { return Ok(false) };
        let mut has_moved = false;
        while self.is_writable && tls.has_unsent() {
            match tls.send(&mut self.stream) {
                Ok(0) => return Err(Broken),
                Ok(_) => has_moved = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken),
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
        if self.tls.is_some() {
            return self.read_tls(now, at, relay);
        }
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

    /// One step of reading through TLS: octets that it has go first, then it receives once. For what it has
    /// no event will come.
    fn read_tls<D: Device>(
        &mut self,
        now: &Now,
        at: Connection,
        relay: &mut Relay<D>,
    ) -> Result<bool, Broken> {
        let Some(tls) = &mut self.tls else { return Ok(false) };
        let is_handshaking = tls.is_handshaking();
        if !is_handshaking {
            let space = relay.space(at);
            if space.is_empty() || self.is_at_end {
                return Ok(false);
            }
            match tls.read(space) {
                Plaintext::Octets(count) => {
                    relay.filled(now, at, count);
                    return Ok(true);
                }
                Plaintext::End => {
                    self.is_at_end = true;
                    return Ok(true);
                }
                Plaintext::None => {}
            }
        }
        if !self.is_readable || relay.is_closing(at) {
            return Ok(false);
        }
        match tls.receive(&mut self.stream) {
            // A handshake has no end of its own; else what was received before comes first.
            Ok(0) if is_handshaking => return Err(Broken),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.is_readable = false;
                return Ok(false);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            Err(_) => return Err(Broken),
        }
        match tls.advance() {
            Ok(()) if is_handshaking && !tls.is_handshaking() => relay.tls_started(now, at),
            Ok(()) => {}
            Err(fault) if is_handshaking => relay.tls_failed(now, at, fault),
            Err(_) => {
                let _ = self.send_unsent();
                return Err(Broken);
            }
        }
        Ok(true)
    }
}

/// The connection is gone.
struct Broken;
