//! `postern login`: the refresh token for a machine without a browser, by a code that somebody types in
//! elsewhere (RFC 8628).
//!
//! Polls as often as the endpoint wants, until the code's time is over. The token goes into its file and
//! nowhere else; nothing of it is shown.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{
    EXIT_CONFIG, EXIT_FAILED, EXIT_IO, EXIT_NOT_PERMITTED, EXIT_UNAVAILABLE, Failure, configuration, print,
};
use crate::config::{Config, Oauth2, Smarthost};
use crate::net::clock;
use crate::net::fetch::{Fetch, FetchError, read_secret, save_secret};
use crate::oauth2::{DEVICE_GRANT, Denial, Description, DeviceCode, Grant, Poll, Url};
use crate::sender::TokenFault;

/// Seconds that `slow_down` adds to the interval (RFC 8628 3.5).
const SLOWER_BY_S: u64 = 5;
/// Seconds between two polls while the endpoint can't be reached, at most.
const INTERVAL_S_MAX: u64 = 60;

/// Whose login.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) config: PathBuf,
    /// The smarthost; none: the first one with a `device_url`.
    pub(super) host: Option<String>,
}

/// A login under way.
struct Endpoint<'a> {
    settings: &'a Oauth2,
    device_url: &'a Url,
    refresh_token_file: &'a Path,
    client_secret: Zeroizing<Vec<u8>>,
    fetch: Fetch,
}

impl Login {
    /// Gets a refresh token and stores it.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let config = configuration(&self.config)?;
        let refuse =
            |what: String| Failure { code: EXIT_CONFIG, line: format!("{}: {what}", self.config.display()) };
        let smarthost = self.smarthost(&config).map_err(refuse)?;
        let mut endpoint = Endpoint::new(smarthost, &config).map_err(refuse)?;
        let code = endpoint.code()?;
        let user = smarthost.login.as_ref().map_or("", |login| &login.user);
        print(&format!(
            "Open this address in any browser, log in there as {user}, and type in the code:\n\n    \
             {}\n    {}\n\nWaiting for it, {} minutes at most.\n",
            code.verification_uri,
            code.user_code,
            code.lifetime_s.div_ceil(60)
        ))?;
        let grant = endpoint.wait(&code)?;
        endpoint.store(&grant)
    }

    fn smarthost<'a>(&self, config: &'a Config) -> Result<&'a Smarthost, String> {
        let is_meant = |smarthost: &&Smarthost| match &self.host {
            Some(host) => smarthost.host.eq_ignore_ascii_case(host),
            None => smarthost.oauth2().is_some_and(|oauth2| oauth2.device_url.is_some()),
        };
        let found = config.smarthosts.iter().find(is_meant);
        found.ok_or_else(|| match &self.host {
            Some(host) => format!("has no smarthost {host:?}"),
            None => {
                "has no smarthost.oauth2.device_url; set it to where the provider gives codes for devices; \
                     README says which providers do"
                    .to_owned()
            }
        })
    }
}

impl<'a> Endpoint<'a> {
    fn new(smarthost: &'a Smarthost, config: &Config) -> Result<Self, String> {
        let settings = smarthost.oauth2().ok_or("smarthost.oauth2 is missing")?;
        let device_url = settings.device_url.as_ref().ok_or("smarthost.oauth2.device_url is missing")?;
        let refresh_token_file =
            settings.refresh_token_file().ok_or("smarthost.oauth2.refresh_token_file is missing")?;
        let is_folder = refresh_token_file.parent().is_some_and(Path::is_dir);
        if !is_folder {
            return Err(format!(
                "smarthost.oauth2.refresh_token_file: {}: there is no such folder; make it, for the user \
                 that the daemon runs as",
                refresh_token_file.display()
            ));
        }
        let client_secret = match &settings.client_secret_file {
            Some(path) => read_secret(path).map_err(|fault| {
                format!("smarthost.oauth2.client_secret_file: {}: {fault}", path.display())
            })?,
            None => Zeroizing::default(),
        };
        let fetch = Fetch::new(smarthost.ca_file.as_deref(), config.clock)
            .map_err(|error| format!("can't begin: {error}"))?;
        Ok(Self { settings, device_url, refresh_token_file, client_secret, fetch })
    }

    fn code(&mut self) -> Result<DeviceCode, Failure> {
        let mut form: Vec<(&str, &[u8])> = vec![("client_id", self.settings.client_id.as_bytes())];
        if let Some(scope) = &self.settings.scope {
            form.push(("scope", scope.as_bytes()));
        }
        let response =
            self.fetch.post(self.device_url, &form).map_err(|error| failed("device_url", &error))?;
        DeviceCode::judge(response.status(), response.body(), &[&self.client_secret])
            .map_err(|(denial, description)| denied("device_url", denial, &description))
    }

    /// Polls until there is an answer.
    fn wait(&mut self, code: &DeviceCode) -> Result<Grant, Failure> {
        let over = |line: &str| Err(Failure { code: EXIT_FAILED, line: format!("login: {line}") });
        let mut interval_s = code.interval_s;
        let since = clock::now().instant;
        while clock::now().instant.since(since).0 < code.lifetime_s * 1000 {
            thread::sleep(Duration::from_secs(interval_s));
            match self.poll(code) {
                // RFC 8628 3.5: an endpoint that doesn't answer is asked less often.
                Err(FetchError::Fault(TokenFault::Timeout | TokenFault::Connect | TokenFault::Lost)) => {
                    interval_s = (interval_s * 2).min(INTERVAL_S_MAX);
                }
                Err(error) => return Err(failed("token_url", &error)),
                Ok(Poll::Pending | Poll::Failed(Denial::Unavailable, _)) => {}
                Ok(Poll::SlowDown) => interval_s = (interval_s + SLOWER_BY_S).min(INTERVAL_S_MAX),
                Ok(Poll::Declined) => return over("somebody has refused it there"),
                Ok(Poll::Expired) => return over("nobody has typed the code in; run it again"),
                Ok(Poll::Granted(grant)) => return Ok(grant),
                Ok(Poll::Failed(denial, description)) => {
                    return Err(denied("token_url", denial, &description));
                }
            }
        }
        over("nobody has typed the code in; run it again")
    }

    fn poll(&mut self, code: &DeviceCode) -> Result<Poll, FetchError> {
        let mut form: Vec<(&str, &[u8])> = vec![
            ("grant_type", DEVICE_GRANT.as_bytes()),
            ("device_code", &code.device_code.0),
            ("client_id", self.settings.client_id.as_bytes()),
        ];
        if !self.client_secret.is_empty() {
            form.push(("client_secret", &self.client_secret));
        }
        let response = self.fetch.post(&self.settings.token_url, &form)?;
        let secrets: [&[u8]; 2] = [&code.device_code.0, &self.client_secret];
        Ok(Poll::judge(response.status(), response.body(), &secrets))
    }

    fn store(&self, grant: &Grant) -> Result<(), Failure> {
        let path = self.refresh_token_file.display();
        let Some(refresh_token) = &grant.refresh_token else {
            let line = "login: it worked, but no refresh token came with it; smarthost.oauth2.scope must ask \
                        for one (Microsoft: offline_access)";
            return Err(Failure { code: EXIT_CONFIG, line: line.to_owned() });
        };
        save_secret(self.refresh_token_file, refresh_token).map_err(|error| {
            let is_forbidden = error.kind() == std::io::ErrorKind::PermissionDenied;
            let code = if is_forbidden { EXIT_NOT_PERMITTED } else { EXIT_IO };
            Failure { code, line: format!("login: it worked, but {path} can't be written: {error}") }
        })?;
        print(&format!(
            "Done: the refresh token is in {path}. A relay that waits for it takes it within 20 seconds.\n"
        ))
    }
}

fn failed(key: &str, error: &FetchError) -> Failure {
    let (code, what) = match error {
        FetchError::Trust(error) => (EXIT_CONFIG, error.to_string()),
        FetchError::Fault(fault) => (EXIT_IO, fault.to_string()),
        FetchError::System(error) => (EXIT_IO, error.to_string()),
    };
    Failure { code, line: format!("login: smarthost.oauth2.{key}: {what}") }
}

fn denied(key: &str, denial: Denial, description: &Description) -> Failure {
    let code = if denial.is_lasting() { EXIT_CONFIG } else { EXIT_UNAVAILABLE };
    let said = match description.is_empty() {
        true => String::new(),
        false => format!(" ({})", description.escape_ascii()),
    };
    let what = match denial {
        Denial::Malformed => "what it answers is no login; see the address".to_owned(),
        Denial::Grant => "the code is not valid any more; run it again".to_owned(),
        Denial::Client | Denial::Scope | Denial::Request | Denial::Unavailable => denial.to_string(),
    };
    Failure { code, line: format!("login: smarthost.oauth2.{key}: {what}{said}") }
}
