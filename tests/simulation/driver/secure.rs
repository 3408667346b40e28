//! The driver's part in TLS and the login.

use postern::relay::Connection;
use postern::sender::TlsFault;

use super::{Driver, Link, Turn};
use crate::net::Ms;
use crate::secure::{self, HELLO, Tls};
use crate::swarm::Draw;

/// How long a token endpoint takes at most: longer than the relay waits.
const TOKEN_MS_MAX: Ms = 100_000;

impl Driver {
    /// Begins TLS, and hands in the secret, where that is asked for.
    pub(super) fn secure(&mut self, turn: &mut Turn<'_>, at: Connection, index: usize) {
        if self.tls(index) == Tls::None && turn.relay.wants_tls(at) {
            let faults = failing_handshakes(turn, at);
            if turn.random.chance(faults / 4) {
                turn.relay.tls_failed(&turn.now, at, secure::local_fault(turn.random));
            } else {
                self.set_tls(index, Tls::Handshaking { is_said: false });
            }
            self.moved += 1;
        }
        if turn.relay.wants_secret(at) {
            self.log_in(turn, at, index);
        }
    }

    /// Hands in the secret; a token may have to be asked for first, which takes its time.
    fn log_in(&mut self, turn: &mut Turn<'_>, at: Connection, index: usize) {
        let habits = &turn.smarthosts[turn.relay.smarthost_of(at)];
        let Link::Open { token_at, .. } = &mut self.links[index] else { return };
        if token_at.is_none() && turn.random.chance(habits.tokens) {
            *token_at = Some(turn.ms + turn.random.between(0, TOKEN_MS_MAX));
            self.moved += 1;
        }
        if token_at.is_some_and(|at| at > turn.ms) {
            return;
        }
        let has_none = token_at.take().is_some() && turn.random.chance(habits.tokens);
        self.moved += 1;
        if has_none {
            turn.relay.no_token(&turn.now, at, secure::token_fault(turn.random), None);
        } else {
            turn.relay.secret(&turn.now, at, turn.keys.secret());
        }
    }

    /// The other end has answered our hello.
    pub(super) fn shake_hands(&mut self, turn: &mut Turn<'_>, at: Connection, index: usize, answer: u8) {
        self.moved += 1;
        let faults = failing_handshakes(turn, at);
        let fault = match answer {
            HELLO => turn.random.chance(faults).then(|| secure::handshake_fault(turn.random)),
            _ => Some(TlsFault::Handshake),
        };
        self.set_tls(index, if fault.is_some() { Tls::None } else { Tls::Up });
        match fault {
            Some(fault) => turn.relay.tls_failed(&turn.now, at, fault),
            None => turn.relay.tls_started(&turn.now, at),
        }
    }

    pub(super) fn tls(&self, index: usize) -> Tls {
        let Link::Open { tls, .. } = self.links[index] else { return Tls::None };
        tls
    }

    pub(super) fn set_tls(&mut self, index: usize, to: Tls) {
        if let Link::Open { tls, .. } = &mut self.links[index] {
            *tls = to;
        }
    }
}

/// Handshakes out of a thousand that fail, with this peer.
fn failing_handshakes(turn: &Turn<'_>, at: Connection) -> u32 {
    match at {
        Connection::Receiver(_) => turn.clients.handshakes,
        Connection::Sender(_) => turn.smarthosts[turn.relay.smarthost_of(at)].handshakes,
    }
}
