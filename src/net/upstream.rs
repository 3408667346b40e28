//! What connections to smarthosts need beside their sockets: what TLS is judged by, and the login's
//! secret.

use std::io;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::secret::{self, Stamp};
use super::tls::{Client, Stream};
use super::{StartError, clock, tls};
use crate::config::{Config, SecretFile, Smarthost, TlsPolicy, UntrustedClock};
use crate::sender::{Secret, SecretFault, TlsFault};
use crate::time::{Duration, Instant};

/// How often a secret that was refused is looked at, while mail waits for another one.
const WATCH_EVERY: Duration = Duration::from_s(20);

/// Of all smarthosts, by their places in the configuration.
#[derive(Debug)]
pub(super) struct Upstream {
    hosts: Vec<Host>,
    /// Only where certificates are judged by the clock.
    clock_steps: Option<clock::Steps>,
}

/// Of one of them.
#[derive(Debug)]
struct Host {
    tls: Option<Client>,
    secret: Option<SecretFile>,
    /// Of the secret's file when it was read last.
    stamp: Stamp,
    /// When to look at it again.
    watch_at: Option<Instant>,
}

impl Upstream {
    /// By the configuration, which is checked against what files there are.
    ///
    /// # Errors
    /// No authorities, or no secret. A token may still come: the program that keeps it fresh starts as we do.
    pub(super) fn new(config: &Config) -> Result<Self, StartError> {
        let host = |smarthost| Host::new(smarthost, config.clock);
        let hosts = config.smarthosts.iter().map(host).collect::<Result<_, _>>()?;
        let is_judged = |smarthost: &Smarthost| smarthost.tls != TlsPolicy::None && smarthost.pins.is_empty();
        let is_judged_by_clock = config.smarthosts.iter().any(is_judged);
        let clock_steps = is_judged_by_clock.then(clock::Steps::watch).flatten();
        Ok(Self { hosts, clock_steps })
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

    /// TLS for one more connection to `smarthost`.
    ///
    /// # Errors
    /// As [`Client::connect`] has it.
    pub(super) fn start_tls(&self, smarthost: usize) -> Result<Stream, TlsFault> {
        let tls = self.hosts[smarthost].tls.as_ref();
        tls.expect("TLS is asked for where the configuration has it").connect()
    }

    /// The secret for `smarthost` as it is now.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn secret(&mut self, smarthost: usize) -> Result<Secret, SecretFault> {
        let host = &mut self.hosts[smarthost];
        let file = host.secret.as_ref().expect("a secret is asked for where the configuration has a login");
        let (secret, stamp) = secret::read(file.path());
        host.stamp = stamp;
        secret
    }

    /// When [`Upstream::has_new_secret`] wants to be asked.
    pub(super) fn watch_at(&self) -> Option<Instant> {
        self.hosts.iter().filter_map(|host| host.watch_at).min()
    }

    /// True when the file of a secret that `smarthost` refused (`is_refused`) has changed; looked at now and
    /// then.
    pub(super) fn has_new_secret(&mut self, smarthost: usize, is_refused: bool, now: Instant) -> bool {
        self.hosts[smarthost].has_new_secret(is_refused, now)
    }
}

impl Host {
    fn new(smarthost: &Smarthost, clock: UntrustedClock) -> Result<Self, StartError> {
        let tls = match smarthost.tls {
            TlsPolicy::Starttls | TlsPolicy::Implicit => {
                Some(tls::Client::new(smarthost, clock).map_err(StartError::Trust)?)
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
        Ok(Self { tls, secret, stamp: Stamp::default(), watch_at: None })
    }

    fn has_new_secret(&mut self, is_refused: bool, now: Instant) -> bool {
        let Some(file) = self.secret.as_ref().filter(|_| is_refused) else {
            self.watch_at = None;
            return false;
        };
        if self.watch_at.is_some_and(|at| at > now) {
            return false;
        }
        self.watch_at = Some(now + WATCH_EVERY);
        let stamp = Stamp::of(file.path());
        std::mem::replace(&mut self.stamp, stamp) != stamp
    }
}
