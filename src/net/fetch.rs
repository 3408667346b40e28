//! One HTTPS request and its response for a tool that has nothing else to do meanwhile: the same sockets,
//! dials and TLS as the daemon's, in a loop of its own.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::{Events, Poll, Token};

use super::dial::Dials;
use super::https::{Exchange, not_connected};
use super::resolver::{NAMES_MAX, NameIndex, Resolver, Source};
use super::tls::{Client, TrustError};
use super::tokens::{NoToken, Tokens};
use super::{clock, secret};
use crate::config::UntrustedClock;
use crate::oauth2::{Response, Url, request};
use crate::sender::{Secret, SecretFault, TlsFault, TokenFault};
use crate::time::Instant;

const EVENTS_MAX: usize = 16;
const SOCKET: Token = Token(NAMES_MAX);

/// Why there is no response.
#[derive(Debug)]
pub enum FetchError {
    /// There is nothing to judge the certificate by.
    Trust(TrustError),
    /// The endpoint, or the way there.
    Fault(TokenFault),
    /// The kernel refuses something.
    System(io::Error),
}

/// The means to fetch.
#[derive(Debug)]
pub struct Fetch {
    poll: Poll,
    dials: Dials,
    ca_file: Option<PathBuf>,
    clock: UntrustedClock,
}

impl Fetch {
    /// Judges certificates by `ca_file`, else by the system's, and by the clock as the daemon does.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(ca_file: Option<&Path>, clock: UntrustedClock) -> io::Result<Self> {
        let dials = Dials::new(Resolver::new(Source::System, 0), 1);
        Ok(Self { poll: Poll::new()?, dials, ca_file: ca_file.map(Path::to_path_buf), clock })
    }

    /// Posts `form` to `url` and waits for the response, within the bounds of any exchange.
    ///
    /// # Errors
    /// There is none.
    pub fn post(&mut self, url: &Url, form: &[(&str, &[u8])]) -> Result<Response, FetchError> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let client =
            Client::for_host(&url.host, self.ca_file.as_deref(), self.clock).map_err(FetchError::Trust)?;
        let now = clock::now();
        if !now.wall.is_trusted && self.clock == UntrustedClock::Wait {
            return Err(FetchError::Fault(TokenFault::Tls(TlsFault::ClockUntrusted)));
        }
        let fault = |fault| FetchError::Fault(TokenFault::Tls(fault));
        let mut exchange = Exchange::new(&client, request(url, form), now.instant).map_err(fault)?;
        self.dials.start(now.instant, self.poll.registry(), 0, (&url.host, url.port), SOCKET);
        loop {
            while let Some((_, result)) = self.dials.next_done() {
                match result {
                    Ok((socket, _)) => exchange.connected(socket),
                    Err(fault) => return Err(FetchError::Fault(not_connected(fault))),
                }
            }
            let now = clock::now().instant;
            match exchange.advance(now) {
                Some(Ok(_)) => return Ok(exchange.into_response()),
                Some(Err(fault)) => return Err(FetchError::Fault(fault)),
                None => {}
            }
            self.wait(now, Some(&mut exchange), &mut events).map_err(FetchError::System)?;
        }
    }

    /// Waits for a login's access token from `tokens`.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn token(&mut self, tokens: &mut Tokens) -> Result<Secret, NoToken> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let now = clock::now().instant;
            if let Some(result) = tokens.secret(now, false) {
                return result;
            }
            if let Some(place) = tokens.begin(now) {
                self.dials.start(now, self.poll.registry(), 0, place, SOCKET);
            }
            while let Some((_, result)) = self.dials.next_done() {
                tokens.dialled(result);
            }
            if !tokens.advance(now) {
                self.wait(now, tokens.exchange(), &mut events)
                    .map_err(|_| NoToken::from(TokenFault::Connect))?;
            }
        }
    }

    fn wait(
        &mut self,
        now: Instant,
        mut exchange: Option<&mut Exchange>,
        events: &mut Events,
    ) -> io::Result<()> {
        let deadlines = [self.dials.deadline(), exchange.as_ref().map(|exchange| exchange.deadline())];
        let due = deadlines.into_iter().flatten().min();
        let wait = due.map(|due| Duration::from_millis(due.since(now).0));
        match self.poll.poll(events, wait) {
            Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
            result => result?,
        }
        let now = clock::now().instant;
        for event in events.iter() {
            if event.token() != SOCKET {
                self.dials.told_resolver(now, self.poll.registry(), NameIndex(event.token().0));
            } else if let Some(exchange) = exchange.as_mut().filter(|exchange| exchange.is_connected()) {
                exchange.told(event);
            } else {
                self.dials.told(now, self.poll.registry(), 0);
            }
        }
        self.dials.expire(now, self.poll.registry());
        Ok(())
    }
}

/// Reads the secret in the file `path`, one line that others can't read.
///
/// # Errors
/// There is none.
pub fn read_secret(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, SecretFault> {
    secret::read(path).0.map(Secret::into_octets)
}

/// Writes `secret` as the one line of the file `path`, whole or not at all; a new file has mode 0600.
///
/// # Errors
/// The file is as before.
pub fn save_secret(path: &Path, secret: &[u8]) -> io::Result<()> {
    secret::save(path, secret)
}
