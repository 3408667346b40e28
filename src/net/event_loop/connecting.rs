//! The loop's way to the smarthosts, and to where the access tokens for their logins come from.

use mio::{Interest, Token};

use super::{Driver, Link, SLOTS_COUNT, TOKENS, token_of};
use crate::limits::{RECEIVER_SESSIONS, SENDER_CONNECTIONS};
use crate::net::connection::Socket;
use crate::net::dial::Connected;
use crate::net::wire::Wire;
use crate::relay::Connection;
use crate::sender::{Fault, TlsFault};
use crate::time::Now;

impl Driver {
    /// Opens the connections that the relay wants, and hands over those that were made.
    pub(super) fn connect(&mut self, now: &Now) {
        if self.stop_at.is_some() {
            return;
        }
        self.take_dialled(now);
        while let Some(at) = self.relay.wants_connection(now) {
            let Connection::Sender(sender) = at else { unreachable!("only a smarthost is connected to") };
            let slot = &mut self.slots[at.index()];
            slot.link = Link::Dialling;
            let token = token_of(at.index(), slot.generation);
            let smarthost = self.relay.smarthost_of(at);
            let (host, port) = &self.smarthosts[smarthost];
            // Who showed another one's certificate may stand at an address that was this one's.
            let last = self.relay.routes()[smarthost].last_fault();
            if last.is_some_and(|(fault, _)| fault == Fault::Tls(TlsFault::WrongName)) {
                self.dials.forget_name(host);
            }
            self.dials.start(now.instant, self.poll.registry(), sender, (host, *port), token);
            self.take_dialled(now);
        }
        for smarthost in 0..self.smarthosts.len() {
            self.ask_for_token(now, smarthost);
        }
    }

    fn take_dialled(&mut self, now: &Now) {
        while let Some((place, result)) = self.dials.next_done() {
            match place.checked_sub(SENDER_CONNECTIONS) {
                Some(smarthost) => self.upstream.token_dialled(smarthost, result),
                None => self.dialled(now, Connection::Sender(place), result),
            }
        }
    }

    /// Gets on with the access token for `smarthost`, and has the logins that wait for it go on.
    fn ask_for_token(&mut self, now: &Now, smarthost: usize) {
        if let Some(endpoint) = self.upstream.begin_token(now.instant, smarthost) {
            let (place, token) = (SENDER_CONNECTIONS + smarthost, Token(TOKENS + smarthost));
            self.dials.start(now.instant, self.poll.registry(), place, endpoint, token);
            self.take_dialled(now);
        }
        if self.upstream.advance_token(now.instant, smarthost) {
            self.wake_logins(smarthost);
        }
    }

    /// Has the sessions with `smarthost` that want a secret ask for it again.
    pub(super) fn wake_logins(&mut self, smarthost: usize) {
        for index in RECEIVER_SESSIONS..SLOTS_COUNT {
            let at = Connection::at(index);
            let waits = self.relay.wants_secret(at) && self.relay.smarthost_of(at) == smarthost;
            self.slots[index].is_runnable |= waits;
        }
    }

    fn dialled(&mut self, now: &Now, at: Connection, result: Result<Connected, Fault>) {
        let index = at.index();
        // Late events of tries that came to nothing find another generation.
        self.vacate(index);
        let (mut stream, local) = match result {
            Ok(connected) => connected,
            Err(fault) => {
                self.relay.not_connected(now, at, fault);
                return;
            }
        };
        let token = token_of(index, self.slots[index].generation);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().reregister(&mut stream, token, interest) {
            log::warn!("can't watch a socket: {error}");
            self.relay.not_connected(now, at, Fault::Connect);
            return;
        }
        let _ = stream.set_nodelay(true);
        self.relay.connected(now, at, local);
        self.slots[index].link = Link::Open(Socket::new(Wire::Tcp(stream)));
        self.pump(now, index);
    }
}
