//! One HTTPS request and its response, over the loop's own sockets and TLS, without waiting (RFC 9112, RFC
//! 9110 4.3.4).
//!
//! The connection comes from the dials and is used once. All has a bound: the time, the response's octets,
//! the rounds of one call. What was sent and received is wiped with the [`Exchange`].

use std::io::ErrorKind;

use mio::event::Event;
use mio::net::TcpStream;
use zeroize::Zeroizing;

use super::tls::{Client, Plaintext, Stream};
use crate::oauth2::{Denial, Response};
use crate::sender::{Fault, TlsFault, TokenFault};
use crate::time::{Duration, Instant};

/// How long an exchange may take, its name's resolution and its connection included. A session at a smarthost
/// waits somewhat longer for its token.
pub(super) const EXCHANGE_TIMEOUT: Duration = Duration::from_s(45);
/// Octets read at once.
const PIECE_OCTETS: usize = 2048;
/// Steps of one call, far more than a response of the longest kind needs.
const ROUNDS_MAX: usize = 1024;

/// A request on its way, or its response.
#[derive(Debug)]
pub(super) struct Exchange {
    tls: Stream,
    request: Zeroizing<Vec<u8>>,
    /// So much of it was handed to TLS.
    written: usize,
    response: Response,
    socket: Option<TcpStream>,
    is_readable: bool,
    is_writable: bool,
    /// The peer takes no more; what it has said may still lie there.
    is_broken: bool,
    deadline: Instant,
}

impl Exchange {
    /// Is to send `request`, once there is a connection.
    ///
    /// # Errors
    /// As [`Client::connect`] has it.
    pub(super) fn new(client: &Client, request: Zeroizing<Vec<u8>>, now: Instant) -> Result<Self, TlsFault> {
        Ok(Self {
            tls: client.connect()?,
            request,
            written: 0,
            response: Response::new(),
            socket: None,
            is_readable: true,
            is_writable: true,
            is_broken: false,
            deadline: now + EXCHANGE_TIMEOUT,
        })
    }

    /// The response; whole when [`Exchange::advance`] has said so.
    pub(super) fn into_response(self) -> Response {
        self.response
    }

    /// When [`Exchange::advance`] is to be called although nothing comes.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// True from [`Exchange::connected`] on.
    pub(super) fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// The connection stands.
    pub(super) fn connected(&mut self, socket: TcpStream) {
        let _ = socket.set_nodelay(true);
        self.socket = Some(socket);
    }

    /// Remembers what an event told.
    pub(super) fn told(&mut self, event: &Event) {
        self.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.is_writable |= event.is_writable() || event.is_write_closed() || event.is_error();
    }

    /// Moves octets both ways until nothing moves: the response when it is whole, or why there is none.
    pub(super) fn advance(&mut self, now: Instant) -> Option<Result<&Response, TokenFault>> {
        if self.socket.is_some() {
            for _ in 0..ROUNDS_MAX {
                match self.step() {
                    Step::Moved => {}
                    Step::Idle if now < self.deadline => return None,
                    Step::Idle => return Some(Err(TokenFault::Timeout)),
                    Step::Whole => {
                        self.close();
                        return Some(Ok(&self.response));
                    }
                    Step::Failed(fault) => {
                        self.send_unsent();
                        return Some(Err(fault));
                    }
                }
            }
            return Some(Err(TokenFault::Denied(Denial::Malformed)));
        }
        (self.deadline <= now).then_some(Err(TokenFault::Timeout))
    }

    fn step(&mut self) -> Step {
        self.send_unsent();
        let is_handshaking = self.tls.is_handshaking();
        if !is_handshaking {
            let rest = &self.request[self.written..];
            let count = if rest.is_empty() { 0 } else { self.tls.write(rest) };
            self.written += count;
            if count > 0 {
                return Step::Moved;
            }
            let mut piece = Zeroizing::new([0; PIECE_OCTETS]);
            match self.tls.read(&mut piece[..]) {
                Plaintext::Octets(count) => {
                    return match self.response.take(&piece[..count]) {
                        Ok(true) => Step::Whole,
                        Ok(false) => Step::Moved,
                        Err(_) => Step::Failed(TokenFault::Denied(Denial::Malformed)),
                    };
                }
                Plaintext::End if self.response.ended() => return Step::Whole,
                Plaintext::End => return Step::Failed(TokenFault::Lost),
                Plaintext::None => {}
            }
        }
        self.receive(is_handshaking)
    }

    fn receive(&mut self, is_handshaking: bool) -> Step {
        let Some(socket) = self.socket.as_mut().filter(|_| self.is_readable) else {
            return if self.is_broken { Step::Failed(TokenFault::Lost) } else { Step::Idle };
        };
        match self.tls.receive(socket) {
            Ok(0) if is_handshaking => return Step::Failed(TokenFault::Tls(TlsFault::Handshake)),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.is_readable = false;
                return Step::Moved;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Step::Moved,
            Err(_) if is_handshaking => return Step::Failed(TokenFault::Tls(TlsFault::Handshake)),
            Err(_) => return Step::Failed(TokenFault::Lost),
        }
        match self.tls.advance() {
            Ok(()) => Step::Moved,
            Err(fault) if is_handshaking => Step::Failed(TokenFault::Tls(fault)),
            Err(_) => Step::Failed(TokenFault::Lost),
        }
    }

    /// Sends what TLS has, as far as the socket takes it.
    fn send_unsent(&mut self) {
        let Some(socket) = &mut self.socket else { return };
        while self.is_writable && self.tls.has_unsent() {
            match self.tls.send(socket) {
                Ok(count) if count > 0 => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_writable = false,
                Ok(_) | Err(_) => {
                    self.is_writable = false;
                    self.is_broken = true;
                }
            }
        }
    }

    fn close(&mut self) {
        self.tls.close();
        self.send_unsent();
    }
}

/// What one step did.
enum Step {
    Moved,
    Idle,
    Whole,
    Failed(TokenFault),
}

/// What a connection that was not made means.
pub(super) fn not_connected(fault: Fault) -> TokenFault {
    if let Fault::Resolve(why) = fault { TokenFault::Resolve(why) } else { TokenFault::Connect }
}
