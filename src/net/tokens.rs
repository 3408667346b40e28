//! Access tokens for the login at one smarthost: asked for when a login wants one, kept in memory until some
//! time before their end, and dropped when they are refused (RFC 6749 4.4, 6).
//!
//! Nothing is asked for while there is no mail. A refresh token that comes with an access token replaces the
//! one in its file; one that can't be written there is used from memory, as long as nobody puts another one
//! into the file.

use std::mem;
use std::path::Path;

use zeroize::Zeroizing;

use super::dial::Connected;
use super::https::{Exchange, not_connected};
use super::secret::{self, Stamp};
use super::tls::{Client, TrustError};
use crate::config::{Granted, Oauth2, Smarthost, UntrustedClock};
use crate::oauth2::{Denial, Grant, Response, request};
use crate::sender::{Fault, Secret, TokenFault};
use crate::spool::KeptReply;
use crate::time::{Duration, Instant};

/// How long a token is kept when nothing is said of its time.
const LIFETIME_DEFAULT: Duration = Duration::from_min(10);
/// How many seconds any token is kept at most.
const LIFETIME_S_MAX: u64 = 24 * 3600;
/// How long any token is kept at least: long enough for the login that waits for it.
const KEPT_MIN: Duration = Duration::from_min(1);
/// How long before a token's end a new one is asked for; a tenth of shorter lives.
const MARGIN_MAX: Duration = Duration::from_min(5);

/// Why there is no token, and what the endpoint said of it.
#[derive(Clone, Debug)]
pub(super) struct NoToken {
    pub(super) fault: TokenFault,
    pub(super) told: Option<Box<KeptReply>>,
}

impl From<TokenFault> for NoToken {
    fn from(fault: TokenFault) -> Self {
        Self { fault, told: None }
    }
}

/// Of one smarthost.
#[derive(Debug)]
pub(super) struct Tokens {
    settings: Oauth2,
    client: Client,
    stage: Stage,
    access: Option<Access>,
    /// A refresh token that its file could not take, and the file's stamp at that time.
    unsaved: Option<(Octets, Stamp)>,
    /// The file was written since [`Tokens::has_saved`].
    has_saved: bool,
}

#[derive(Debug)]
enum Stage {
    Idle,
    /// A login waits for a token.
    Wanted,
    Asking(Box<Asking>),
    /// For the logins that wait, until they were told.
    Failed {
        why: NoToken,
        was_told: bool,
    },
}

#[derive(Debug)]
struct Asking {
    since: Instant,
    exchange: Exchange,
    refresh_token: Octets,
    client_secret: Octets,
}

struct Access {
    token: Octets,
    until: Instant,
    was_used: bool,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("until", &self.until).finish_non_exhaustive()
    }
}

/// A secret; empty where there is none.
#[derive(Clone, Default)]
struct Octets(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Octets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Octets")
    }
}

impl Tokens {
    /// For a smarthost whose login is with `settings`; no token yet.
    ///
    /// # Errors
    /// There is nothing to judge the endpoint's certificate by.
    pub(super) fn new(
        smarthost: &Smarthost,
        settings: &Oauth2,
        clock: UntrustedClock,
    ) -> Result<Self, TrustError> {
        let client = Client::for_host(&settings.token_url.host, smarthost.ca_file.as_deref(), clock)?;
        Ok(Self {
            settings: settings.clone(),
            client,
            stage: Stage::Idle,
            access: None,
            unsaved: None,
            has_saved: false,
        })
    }

    /// The token to log in with, or why there is none; `None` while it is being asked for. `is_refused`: the
    /// one that was handed out before is not to be used again.
    pub(super) fn secret(&mut self, now: Instant, is_refused: bool) -> Option<Result<Secret, NoToken>> {
        if let Some(access) = &mut self.access {
            if is_refused && access.was_used {
                log::info!("token dropped reason=\"the smarthost refused it\"");
                self.access = None;
            } else if now < access.until {
                let may_be_stale = mem::replace(&mut access.was_used, true);
                let secret = Secret::new(access.token.0.clone());
                let secret = secret.map(|secret| if may_be_stale { secret.renewable() } else { secret });
                return Some(secret.map_err(|_| TokenFault::Denied(Denial::Malformed).into()));
            }
        }
        match &self.stage {
            Stage::Failed { why, .. } => return Some(Err(why.clone())),
            Stage::Idle => self.stage = Stage::Wanted,
            Stage::Wanted | Stage::Asking(_) => {}
        }
        None
    }

    /// True when the refresh token's file was written since the last call.
    pub(super) fn has_saved(&mut self) -> bool {
        mem::replace(&mut self.has_saved, false)
    }

    /// Goes on where `old` was, if it is about the same: with its token, and with what is on its way, in
    /// which a new refresh token may come.
    pub(super) fn take_over(&mut self, old: Self) {
        if self.settings == old.settings {
            self.stage = old.stage;
            self.access = old.access;
            self.unsaved = old.unsaved;
        }
    }

    /// Forgets the token: the smarthost has refused it, however fresh it was.
    pub(super) fn forget(&mut self) {
        self.access = None;
    }

    /// Begins to ask, when a login waits: the host and port to connect to, for [`Tokens::dialled`].
    pub(super) fn begin(&mut self, now: Instant) -> Option<(&str, u16)> {
        match self.stage {
            Stage::Wanted => {}
            Stage::Failed { was_told: true, .. } => {
                self.stage = Stage::Idle;
                return None;
            }
            Stage::Failed { .. } | Stage::Idle | Stage::Asking(_) => return None,
        }
        match self.asking(now) {
            Ok(asking) => {
                self.stage = Stage::Asking(Box::new(asking));
                Some((&self.settings.token_url.host, self.settings.token_url.port))
            }
            Err(fault) => {
                self.fail(fault.into());
                None
            }
        }
    }

    /// The connection was made, or wasn't.
    pub(super) fn dialled(&mut self, result: Result<Connected, Fault>) {
        let Stage::Asking(asking) = &mut self.stage else { return };
        match result {
            Ok((socket, _)) => asking.exchange.connected(socket),
            Err(fault) => self.fail(not_connected(fault).into()),
        }
    }

    /// The exchange under way, for the events of its socket.
    pub(super) fn exchange(&mut self) -> Option<&mut Exchange> {
        match &mut self.stage {
            Stage::Asking(asking) => Some(&mut asking.exchange),
            Stage::Idle | Stage::Wanted | Stage::Failed { .. } => None,
        }
    }

    /// When [`Tokens::advance`] is to be called although nothing comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Asking(asking) => Some(asking.exchange.deadline()),
            Stage::Idle | Stage::Wanted | Stage::Failed { .. } => None,
        }
    }

    /// Goes on asking; true when the logins that wait are to be told.
    pub(super) fn advance(&mut self, now: Instant) -> bool {
        let mut asking = match mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Asking(asking) => asking,
            Stage::Failed { why, was_told } => {
                self.stage = Stage::Failed { why, was_told: true };
                return !was_told;
            }
            stage @ (Stage::Idle | Stage::Wanted) => {
                self.stage = stage;
                return false;
            }
        };
        let Asking { since, exchange, refresh_token, client_secret } = &mut *asking;
        let result = match exchange.advance(now) {
            None => {
                self.stage = Stage::Asking(asking);
                return false;
            }
            Some(Ok(response)) => self.take(response, *since, refresh_token, client_secret),
            Some(Err(fault)) => Err(fault.into()),
        };
        if let Err(why) = result {
            self.stage = Stage::Failed { why, was_told: true };
        }
        true
    }

    fn fail(&mut self, why: NoToken) {
        self.stage = Stage::Failed { why, was_told: false };
    }

    fn take(
        &mut self,
        response: &Response,
        since: Instant,
        refresh_token: &Octets,
        client_secret: &Octets,
    ) -> Result<(), NoToken> {
        let secrets = [refresh_token.0.as_slice(), client_secret.0.as_slice()];
        let grant = match Grant::judge(response.status(), response.body(), &secrets) {
            Ok(grant) => grant,
            Err((denial, description)) => {
                let said: &[u8] =
                    if description.is_empty() { b"(nothing more was said)" } else { &description };
                let told = KeptReply { code: response.status(), text: said.iter().copied().collect() };
                return Err(NoToken { fault: TokenFault::Denied(denial), told: Some(Box::new(told)) });
            }
        };
        let lifetime = grant.lifetime_s.map_or(LIFETIME_DEFAULT, |s| Duration::from_s(s.min(LIFETIME_S_MAX)));
        let margin = Duration(lifetime.0 / 10).min(MARGIN_MAX);
        let kept = Duration(lifetime.0 - margin.0).max(KEPT_MIN);
        log::debug!("token host={} kept-for={}s", self.settings.token_url.host, kept.0 / 1000);
        self.access =
            Some(Access { token: Octets(grant.access_token), until: since + kept, was_used: false });
        if let (Granted::RefreshToken(path), Some(new)) = (&self.settings.grant, grant.refresh_token)
            && *new != *refresh_token.0
        {
            self.unsaved = save(path, Octets(new));
            self.has_saved = true;
        }
        Ok(())
    }

    fn asking(&mut self, now: Instant) -> Result<Asking, TokenFault> {
        let client_secret = match &self.settings.client_secret_file {
            Some(path) => Octets(secret::read(path).0.map_err(TokenFault::NoClientSecret)?.into_octets()),
            None => Octets::default(),
        };
        let refresh_token = match &self.settings.grant {
            Granted::RefreshToken(path) => {
                let is_newer = |stamp: &Stamp| *stamp != Stamp::of(path);
                if self.unsaved.as_ref().is_some_and(|(_, stamp)| is_newer(stamp)) {
                    self.unsaved = None;
                }
                if let Some((token, _)) = self.unsaved.take() {
                    self.unsaved = save(path, token);
                }
                match &self.unsaved {
                    Some((token, _)) => token.clone(),
                    None => Octets(secret::read(path).0.map_err(TokenFault::NoRefreshToken)?.into_octets()),
                }
            }
            Granted::ClientCredentials => Octets::default(),
        };
        let request = self.request(&refresh_token, &client_secret);
        let exchange = Exchange::new(&self.client, request, now).map_err(TokenFault::Tls)?;
        Ok(Asking { since: now, exchange, refresh_token, client_secret })
    }

    fn request(&self, refresh_token: &Octets, client_secret: &Octets) -> Zeroizing<Vec<u8>> {
        let mut form: heapless::Vec<(&str, &[u8]), 5> = heapless::Vec::new();
        let mut add = |name, value| form.push((name, value)).expect("there are five fields");
        match self.settings.grant {
            Granted::RefreshToken(_) => {
                add("grant_type", b"refresh_token");
                add("refresh_token", &refresh_token.0);
            }
            Granted::ClientCredentials => add("grant_type", b"client_credentials"),
        }
        add("client_id", self.settings.client_id.as_bytes());
        if self.settings.client_secret_file.is_some() {
            add("client_secret", &client_secret.0);
        }
        if let Some(scope) = &self.settings.scope {
            add("scope", scope.as_bytes());
        }
        request(&self.settings.token_url, &form)
    }
}

/// Writes a new refresh token down; what the file can't take is handed back, with the file's stamp.
fn save(path: &Path, token: Octets) -> Option<(Octets, Stamp)> {
    match secret::save(path, &token.0) {
        Ok(()) => {
            log::info!("token rotated file={}", path.display());
            None
        }
        Err(error) => {
            log::error!(
                "can't save the new refresh token file={} error=\"{error}\"; it is used from memory, and \
                 after a restart the old one may be refused",
                path.display()
            );
            Some((token, Stamp::of(path)))
        }
    }
}
