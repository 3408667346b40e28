//! What connections to smarthosts need beside their sockets: what TLS is judged by, and the login's
//! secret.

use std::io;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::dial::Connected;
use super::secret::{self, Stamp};
use super::tls::{Client, Stream};
use super::tokens::{NoToken, Tokens};
use super::{StartError, clock, tls};
use crate::config::{Config, Login, SecretFile, Smarthost, TlsPolicy, UntrustedClock};
use crate::sender::{Fault, Secret, SecretFault, TlsFault};
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
    /// Where the secret is a token that we ask for.
    tokens: Option<Tokens>,
    /// Of the secret's files when they were read last.
    stamps: Stamps,
    /// When to look at them again.
    watch_at: Option<Instant>,
}

/// Of all files of a secret, in their order.
type Stamps = [Stamp; 2];

/// Why there is no secret.
#[derive(Debug)]
pub(super) enum NoSecret {
    /// Its file can't be read.
    File(SecretFault),
    /// It is a token, and there is none.
    Token(NoToken),
}

impl Upstream {
    /// By the configuration, which is checked against what files there are.
    ///
    /// # Errors
    /// No authorities, or no secret. A token may still come, and a refresh token: the program that keeps the
    /// one fresh starts as we do, and somebody may fetch the other.
    pub(super) fn new(config: &Config) -> Result<Self, StartError> {
        let host = |smarthost| Host::new(smarthost, config.clock);
        let hosts = config.smarthosts.iter().map(host).collect::<Result<_, _>>()?;
        let is_judged_by_clock = config.smarthosts.iter().any(Smarthost::is_judged_by_clock);
        let clock_steps = is_judged_by_clock.then(clock::Steps::watch).flatten();
        Ok(Self { hosts, clock_steps })
    }

    /// Goes on with the access tokens of `old`, whose settings these replace.
    pub(super) fn take_over(&mut self, old: Self) {
        for (host, old) in self.hosts.iter_mut().zip(old.hosts) {
            if let (Some(tokens), Some(old_tokens)) = (&mut host.tokens, old.tokens) {
                tokens.take_over(old_tokens);
                host.stamps = old.stamps;
            }
        }
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

    /// The secret for `smarthost` as it is now, or why there is none; `None` while it is being asked for.
    /// `is_refused`: the one handed out before is not to be used again.
    pub(super) fn secret(
        &mut self,
        now: Instant,
        smarthost: usize,
        is_refused: bool,
    ) -> Option<Result<Secret, NoSecret>> {
        self.hosts[smarthost].secret(now, is_refused)
    }

    /// Begins to ask for a token for `smarthost`, when a login waits for one: the host and port to connect
    /// to.
    pub(super) fn begin_token(&mut self, now: Instant, smarthost: usize) -> Option<(&str, u16)> {
        let Host { tokens: Some(tokens), secret: Some(file), stamps, .. } = &mut self.hosts[smarthost] else {
            return None;
        };
        let now_stamps = stamps_of(file);
        let begun = tokens.begin(now);
        if begun.is_some() {
            *stamps = now_stamps;
        }
        begun
    }

    /// The connection for a token for `smarthost` was made, or wasn't.
    pub(super) fn token_dialled(&mut self, smarthost: usize, result: Result<Connected, Fault>) {
        if let Some(tokens) = &mut self.hosts[smarthost].tokens {
            tokens.dialled(result);
        }
    }

    /// The socket over which a token for `smarthost` comes is ready: false when it isn't there yet.
    pub(super) fn token_told(&mut self, smarthost: usize, event: &Event) -> bool {
        let exchange = self.hosts[smarthost].tokens.as_mut().and_then(Tokens::exchange);
        let connected = exchange.filter(|exchange| exchange.is_connected());
        connected.map(|exchange| exchange.told(event)).is_some()
    }

    /// Goes on asking for a token for `smarthost`: true when its logins have their answer.
    pub(super) fn advance_token(&mut self, now: Instant, smarthost: usize) -> bool {
        let Host { tokens: Some(tokens), secret: Some(file), stamps, .. } = &mut self.hosts[smarthost] else {
            return false;
        };
        let is_answered = tokens.advance(now);
        if is_answered && tokens.has_saved() {
            *stamps = stamps_of(file);
        }
        is_answered
    }

    /// When [`Upstream::advance_token`] wants to be called although nothing comes.
    pub(super) fn token_deadline(&self) -> Option<Instant> {
        let tokens = self.hosts.iter().filter_map(|host| host.tokens.as_ref());
        tokens.filter_map(Tokens::deadline).min()
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
        smarthost.login.as_ref().map_or(Ok(()), check)?;
        let tokens = smarthost.oauth2().map(|oauth2| Tokens::new(smarthost, oauth2, clock));
        let tokens = tokens.transpose().map_err(StartError::Trust)?;
        let secret = smarthost.login.as_ref().map(|login| login.secret.clone());
        Ok(Self { tls, secret, tokens, stamps: Stamps::default(), watch_at: None })
    }

    fn secret(&mut self, now: Instant, is_refused: bool) -> Option<Result<Secret, NoSecret>> {
        match (self.secret.as_ref(), &mut self.tokens) {
            (_, Some(tokens)) => Some(tokens.secret(now, is_refused)?.map_err(NoSecret::Token)),
            (Some(SecretFile::Password(path) | SecretFile::Token(path)), None) => {
                let (secret, stamp) = secret::read(path);
                self.stamps = [stamp, Stamp::default()];
                Some(secret.map_err(NoSecret::File))
            }
            (Some(SecretFile::Oauth2(_)) | None, None) => {
                unreachable!("a secret is asked for where the configuration has a login")
            }
        }
    }

    fn has_new_secret(&mut self, is_refused: bool, now: Instant) -> bool {
        let Some(file) = self.secret.as_ref().filter(|_| is_refused) else {
            self.watch_at = None;
            return false;
        };
        if let Some(tokens) = &mut self.tokens {
            tokens.forget();
        }
        if self.watch_at.is_some_and(|at| at > now) {
            return false;
        }
        self.watch_at = Some(now + WATCH_EVERY);
        let stamps = stamps_of(file);
        std::mem::replace(&mut self.stamps, stamps) != stamps
    }
}

fn stamps_of(file: &SecretFile) -> Stamps {
    let mut stamps = Stamps::default();
    for (stamp, path) in stamps.iter_mut().zip(file.paths()) {
        *stamp = Stamp::of(path);
    }
    stamps
}

/// Every secret must be there, but what may still come.
fn check(login: &Login) -> Result<(), StartError> {
    for path in login.secret.paths() {
        let may_come = match &login.secret {
            SecretFile::Password(_) => false,
            SecretFile::Token(_) => true,
            SecretFile::Oauth2(oauth2) => oauth2.refresh_token_file() == Some(path),
        };
        match secret::read(path).0 {
            Err(SecretFault::Missing) if may_come => {}
            Err(fault) => return Err(StartError::Secret { path: path.to_path_buf(), fault }),
            Ok(_) => {}
        }
    }
    Ok(())
}
