//! What connections to the smarthost need beside their sockets: what TLS is judged by, and the login's
//! secret.

use std::io;
use std::path::Path;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::secret::{self, Stamp};
use super::tls::{Client, Stream};
use super::{StartError, clock, tls};
use crate::config::{Config, SecretFile, TlsPolicy};
use crate::sender::{Secret, SecretFault, TlsFault};
use crate::time::{Duration, Instant};

/// How often a secret that was refused is looked at, while mail waits for another one.
const WATCH_EVERY: Duration = Duration::from_s(20);

/// Of one smarthost.
#[derive(Debug)]
pub(super) struct Upstream {
    tls: Option<Client>,
    secret: Option<SecretFile>,
    /// Of the secret's file when it was read last.
    stamp: Stamp,
    /// When to look at it again.
    watch_at: Option<Instant>,
    /// Only where certificates are judged by the clock.
    clock_steps: Option<clock::Steps>,
}

impl Upstream {
    /// By the configuration, which is checked against what files there are.
    ///
    /// # Errors
    /// No authorities, or no secret. A token may still come: the program that keeps it fresh starts as we do.
    pub(super) fn new(config: &Config) -> Result<Self, StartError> {
        let smarthost = &config.smarthost;
        let tls = match smarthost.tls {
            TlsPolicy::Starttls | TlsPolicy::Implicit => {
                Some(tls::Client::new(smarthost, config.clock).map_err(StartError::Trust)?)
            }
            TlsPolicy::None => None,
        };
        let secret = smarthost.login.as_ref().map(|login| login.secret.clone());
        if let Some(file) = &secret
            && let (Err(fault), _) = secret::read(file.path())
            && !(fault == SecretFault::Missing && matches!(file, SecretFile::Token(_)))
        {
            return Err(StartError::Secret { path: file.path().to_path_buf(), fault });
        }
        let is_judged_by_clock = tls.is_some() && smarthost.pins.is_empty();
        let clock_steps = is_judged_by_clock.then(clock::Steps::watch).flatten();
        Ok(Self { tls, secret, stamp: Stamp::default(), watch_at: None, clock_steps })
    }

    /// Has `token` told when somebody sets the clock, where that matters.
    ///
    /// # Errors
    /// The kernel does not want to.
    pub(super) fn watch_clock(&self, registry: &Registry, token: Token) -> io::Result<()> {
        match &self.clock_steps {
            Some(steps) => registry.register(&mut SourceFd(&steps.raw()), token, Interest::READABLE),
            None => Ok(()),
        }
    }

    /// The clock was set; the next time is told again.
    pub(super) fn take_clock_step(&self) {
        if let Some(steps) = &self.clock_steps {
            steps.take();
        }
    }

    /// TLS for one more connection.
    ///
    /// # Errors
    /// As [`Client::connect`] has it.
    pub(super) fn start_tls(&self) -> Result<Stream, TlsFault> {
        self.tls.as_ref().expect("TLS is asked for where the configuration has it").connect()
    }

    /// The secret as it is now.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn secret(&mut self) -> Result<Secret, SecretFault> {
        let (secret, stamp) = secret::read(self.path_of_secret());
        self.stamp = stamp;
        secret
    }

    fn path_of_secret(&self) -> &Path {
        self.secret.as_ref().expect("a secret is asked for where the configuration has a login").path()
    }

    /// When [`Upstream::has_new_secret`] wants to be asked.
    pub(super) fn watch_at(&self) -> Option<Instant> {
        self.watch_at
    }

    /// True when the file of a secret that was refused (`is_refused`) has changed; looked at now and then.
    pub(super) fn has_new_secret(&mut self, is_refused: bool, now: Instant) -> bool {
        if !is_refused || self.secret.is_none() {
            self.watch_at = None;
            return false;
        }
        if self.watch_at.is_some_and(|at| at > now) {
            return false;
        }
        self.watch_at = Some(now + WATCH_EVERY);
        let stamp = Stamp::of(self.path_of_secret());
        std::mem::replace(&mut self.stamp, stamp) != stamp
    }
}
