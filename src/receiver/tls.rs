//! TLS of a client (RFC 3207, RFC 8314 3), as far as the session is concerned: when it begins, and what is
//! forgotten for it.
//!
//! STARTTLS asks for one of the places that there are for clients with TLS; [`Session::grant_tls`] says
//! whether there is one. Invariants: from STARTTLS to the end of the handshake nothing is read, whatever came
//! in plain behind the command is dropped (SEC-tls-a), and the session then is as new. A handshake that fails
//! ends the session without another octet in plain.

use super::commands::{Drops, unchanged};
use super::session::{Session, State, Turn};
use crate::buffer::Buffer;
use crate::config::{Auth, Config, Listener, ListenerTls};
use crate::smtp::Next;
use crate::smtp::command::{AuthTerms, Service};
use crate::smtp::path::ClientName;
use crate::smtp::reply::{self, Farewell};
use crate::spool::Device;
use crate::time::{Duration, Now};

/// How long a handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_s(60);

/// How TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Behind STARTTLS.
    Command,
    /// In front of the greeting.
    Implicit,
}

impl Session {
    /// True when the session waits to be told by [`Session::grant_tls`].
    pub fn wants_tls_place(&self) -> bool {
        matches!(self.state, State::TlsAsked(_))
    }

    /// Whether there is a place for one more client with TLS. Only while [`Session::wants_tls_place`];
    /// without one, commands may lie in the input, for [`Session::advance`].
    pub fn grant_tls(
        &mut self,
        is_granted: bool,
        now: &Now,
        config: &Config,
        (input, output): (&mut Buffer, &mut Buffer),
    ) -> Next {
        let State::TlsAsked(begin) = self.state else { unreachable!("no place was asked for") };
        if is_granted {
            if begin == Begin::Command {
                reply::C220_TLS.write(output);
            }
            // Whoever said it, it was said in plain.
            input.clear();
            self.state = State::Handshake(begin);
            self.deadline = now.instant + HANDSHAKE_TIMEOUT.min(config.limits.command_timeout);
            return Next::Continue;
        }
        log::info!("refused client={} reason=\"as many clients as can speak TLS\"", self.peer.origin);
        if begin == Begin::Implicit {
            // In plain, for a human who looks why: TLS doesn't come.
            reply::write_farewell(output, &config.hostname, Farewell::TlsCrowded);
            self.state = State::Closing;
            return Next::Close;
        }
        reply::C454_TLS_CROWDED.write(output);
        self.state = State::Ready;
        Next::Continue
    }

    /// True when the driver is to take the client's handshake, once all output is written; it calls
    /// [`Session::tls_started`] or [`Session::tls_failed`].
    pub fn wants_tls(&self) -> bool {
        matches!(self.state, State::Handshake(_))
    }

    /// True while nothing that comes in plain is the session's to read.
    pub fn is_deaf(&self) -> bool {
        self.wants_tls_place() || self.wants_tls()
    }

    /// True when the session holds one of the places for clients with TLS.
    pub fn holds_tls_place(&self) -> bool {
        self.is_tls || self.wants_tls()
    }

    /// TLS stands: the session is as new (RFC 3207 4.2), and what comes from now on is what TLS carried.
    pub fn tls_started(&mut self, now: &Now, config: &Config, input: &mut Buffer, output: &mut Buffer) {
        let State::Handshake(begin) = self.state else { unreachable!("no TLS was asked for") };
        if begin == Begin::Implicit {
            reply::write_greeting(output, &config.hostname, config.announce);
        }
        input.clear();
        self.is_tls = true;
        self.state = State::Greeted;
        self.client_name = ClientName::default();
        self.service = Service::Basic;
        self.is_logged_in = false;
        self.is_early = false;
        self.drops = Drops::Nothing;
        self.last_progress = now.instant;
        self.await_command(now, config);
    }

    /// There is no TLS: the connection is to be closed without another octet in plain.
    pub fn tls_failed(&mut self) {
        assert!(self.wants_tls(), "no TLS was asked for");
        self.state = State::Closing;
    }

    /// RFC 3207 4: in a session that has said EHLO, and in no transaction.
    pub(super) fn starttls<D: Device>(&self, state: State, turn: &mut Turn<D>) -> State {
        if self.is_tls {
            return unchanged(state, reply::C503_TLS_ALREADY, turn);
        }
        match state {
            State::Ready if self.service == Service::Extended => State::TlsAsked(Begin::Command),
            state @ (State::Transaction(_) | State::Chunks(_)) => {
                unchanged(state, reply::C503_TLS_IN_TRANSACTION, turn)
            }
            state @ (State::Greeted
            | State::Ready
            | State::Login(_)
            | State::TlsAsked(_)
            | State::Handshake(_)
            | State::Data(_)
            | State::Chunk(..)
            | State::Committing(_)
            | State::Closing) => unchanged(state, reply::C503_EHLO_NEEDED, turn),
        }
    }

    /// What the client came in by.
    fn listener<'a>(&self, config: &'a Config) -> Option<&'a Listener> {
        config.listen.get(usize::from(self.peer.listener))
    }

    /// True where the client came in, STARTTLS is offered until it was used.
    pub(super) fn has_starttls(&self, config: &Config) -> bool {
        self.listener(config).is_some_and(|listener| listener.tls == ListenerTls::Starttls)
    }

    /// Whether AUTH is offered as things stand.
    pub(super) fn auth_terms(&self, config: &Config) -> AuthTerms {
        match self.listener(config).map(|listener| listener.auth) {
            None | Some(Auth::Absent) => AuthTerms::Absent,
            Some(Auth::InTls) if !self.is_tls => AuthTerms::NeedsTls,
            Some(Auth::InTls | Auth::Anywhere) => AuthTerms::Offered,
        }
    }

    /// What a session begins with.
    pub(super) fn first_state(&self, config: &Config) -> State {
        match self.listener(config).map(|listener| listener.tls) {
            Some(ListenerTls::Implicit) => State::TlsAsked(Begin::Implicit),
            None | Some(ListenerTls::None | ListenerTls::Starttls) => State::Greeted,
        }
    }
}
