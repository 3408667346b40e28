//! Where clients come in: the listening sockets, and who stands before them.
//!
//! The network's come by `listen`, the users of this machine by the submission socket, whose peers the kernel
//! names. What they may do there is the receiver's business.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;

use mio::net::{TcpListener, UnixStream};
use mio::{Interest, Registry, Token};

use super::listener::{self, LISTENERS_MAX};
use super::privileges::Identity;
use super::socket_file::SocketFile;
use super::wire::Wire;
use super::{StartError, on_link};
use crate::config::Config;
use crate::receiver::Peer;
use crate::time::{Duration, Instant};

/// How long accepting rests when the process has no file descriptor left.
const ACCEPT_REST: Duration = Duration::from_s(1);
/// Who may submit: every user.
const SUBMISSION_MODE: u32 = 0o666;

/// Sockets that are listened on at most: the listeners, and the submission socket in the last place.
pub(super) const ENTRANCES_MAX: usize = LISTENERS_MAX + 1;

#[derive(Debug)]
struct Listening {
    socket: TcpListener,
    may_accept: bool,
    /// Its entry of `listen`.
    entry: u8,
}

#[derive(Debug)]
struct Submission {
    socket: SocketFile,
    may_accept: bool,
}

/// All listening sockets.
#[derive(Debug)]
pub(super) struct Entrance {
    listeners: heapless::Vec<Listening, LISTENERS_MAX>,
    submission: Option<Submission>,
    /// Why there is none although none of the settings is wrong.
    no_submission: Option<Error>,
    /// Whose turn it is first, so that neither kind of client keeps the other out.
    is_users_turn: bool,
    /// A client that was accepted, but has no slot yet.
    waiting: Option<(Wire, Peer)>,
    rests_until: Option<Instant>,
}

impl Entrance {
    /// Opens what `config` names, with tokens from `base` on.
    ///
    /// # Errors
    /// What can't be listened on. The submission socket is an error only if its path was given: a relay for
    /// the network alone needs none.
    pub(super) fn open(config: &Config, registry: &Registry, base: usize) -> Result<Self, StartError> {
        let mut listeners = heapless::Vec::new();
        for (at, entry) in config.listen.iter().enumerate() {
            let listen = &entry.listen;
            let failed = |error| StartError::Listen { listen: listen.clone(), error };
            for mut socket in listener::open(listen).map_err(failed)? {
                let token = Token(base + listeners.len());
                registry.register(&mut socket, token, Interest::READABLE).map_err(failed)?;
                listeners
                    .push(Listening { socket, may_accept: true, entry: at as u8 })
                    .map_err(|_| failed(Error::other("too many listeners")))?;
            }
        }
        let submission = match open_submission(config, registry, Token(base + LISTENERS_MAX)) {
            Ok(submission) => Ok(submission),
            Err(error) if config.submit.is_given => {
                let path = config.submit.path.clone();
                return Err(StartError::Socket { key: "submit.path", path, error });
            }
            Err(error) => Err(error),
        };
        let (submission, no_submission) = match submission {
            Ok(submission) => (Some(submission), None),
            Err(error) => (None, Some(error)),
        };
        Ok(Self {
            listeners,
            submission,
            no_submission,
            is_users_turn: true,
            waiting: None,
            rests_until: None,
        })
    }

    /// Why the submission socket of the default path could not be had; worth a warning.
    pub(super) fn no_submission(&self) -> Option<&Error> {
        self.no_submission.as_ref()
    }

    /// The addresses that are listened on.
    ///
    /// # Errors
    /// The kernel doesn't tell.
    pub(super) fn addresses(&self) -> Result<Vec<SocketAddr>, Error> {
        self.listeners.iter().map(|listening| listening.socket.local_addr()).collect()
    }

    /// The submission socket is made the one's whom the process becomes.
    pub(super) fn hand_over(&self, identity: &Identity) {
        if let Some(submission) = &self.submission {
            submission.socket.hand_over(identity);
        }
    }

    /// A client stands before the socket in that place.
    pub(super) fn told(&mut self, place: usize) {
        match (self.listeners.get_mut(place), &mut self.submission) {
            (Some(listening), _) => listening.may_accept = true,
            (None, Some(submission)) => submission.may_accept = true,
            (None, None) => {}
        }
    }

    /// True when somebody may be waiting that can be taken in now.
    pub(super) fn may_accept(&self) -> bool {
        self.rests_until.is_none()
            && self.waiting.is_none()
            && (self.listeners.iter().any(|listening| listening.may_accept)
                || self.submission.as_ref().is_some_and(|submission| submission.may_accept))
    }

    /// Until when nobody is taken in.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        self.rests_until
    }

    /// The next client.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Wire, Peer)> {
        if self.rests_until.is_some_and(|until| until > now) {
            return None;
        }
        self.rests_until = None;
        if let Some(client) = self.waiting.take() {
            return Some(client);
        }
        match self.accept() {
            Ok(client) => client,
            Err(error) => {
                // Out of descriptors or memory: the client stays in the backlog, and asking again at once
                // would only burn the processor.
                log::warn!("can't accept a client: {error}; trying again in 1 s");
                self.rests_until = Some(now + ACCEPT_REST);
                None
            }
        }
    }

    /// There is no slot for the client until then.
    pub(super) fn put_back(&mut self, client: (Wire, Peer), until: Instant) {
        self.waiting = Some(client);
        self.rests_until = Some(until);
    }

    /// Closes all.
    pub(super) fn close(&mut self) {
        self.listeners.clear();
        self.submission = None;
        self.waiting = None;
    }

    fn accept(&mut self) -> Result<Option<(Wire, Peer)>, Error> {
        self.is_users_turn = !self.is_users_turn;
        if self.is_users_turn {
            self.next_user().transpose().or_else(|| self.next_of_network().transpose()).transpose()
        } else {
            self.next_of_network().transpose().or_else(|| self.next_user().transpose()).transpose()
        }
    }

    fn next_user(&mut self) -> Result<Option<(Wire, Peer)>, Error> {
        let Some(submission) = self.submission.as_mut().filter(|submission| submission.may_accept) else {
            return Ok(None);
        };
        let accepted = submission.socket.listener.accept();
        let stream = taken(accepted, &mut submission.may_accept)?.map(|(stream, _)| stream);
        // Who is gone already is nobody.
        Ok(stream.and_then(|stream| user(&stream).ok().map(|peer| (Wire::Unix(stream), peer))))
    }

    fn next_of_network(&mut self) -> Result<Option<(Wire, Peer)>, Error> {
        for listening in self.listeners.iter_mut().filter(|listening| listening.may_accept) {
            if let Some((stream, address)) = taken(listening.socket.accept(), &mut listening.may_accept)? {
                let address = address.ip().to_canonical();
                let local = stream.local_addr().map(|local| local.ip().to_canonical());
                let is_on_link = local.is_ok_and(|local| {
                    address.is_loopback() || on_link::is_on_link(address, local).unwrap_or(false)
                });
                let peer = Peer::new(address, is_on_link).by(listening.entry);
                return Ok(Some((Wire::Tcp(stream), peer)));
            }
        }
        Ok(None)
    }
}

fn open_submission(config: &Config, registry: &Registry, token: Token) -> Result<Submission, Error> {
    let mut socket = SocketFile::open(&config.submit.path, SUBMISSION_MODE)?;
    registry.register(&mut socket.listener, token, Interest::READABLE)?;
    Ok(Submission { socket, may_accept: true })
}

/// What an accept gave, if it gave anything.
fn taken<T>(accepted: Result<T, Error>, may_accept: &mut bool) -> Result<Option<T>, Error> {
    match accepted {
        Ok(client) => Ok(Some(client)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            *may_accept = false;
            Ok(None)
        }
        Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Who is at the other end.
fn user(stream: &UnixStream) -> Result<Peer, Error> {
    let credentials = rustix::net::sockopt::socket_peercred(stream)?;
    Ok(Peer::local(credentials.uid.as_raw()))
}
