//! The table `[smarthost.oauth2]`: where access tokens for the login come from (RFC 6749).
//!
//! Invariant: only an `https://` endpoint is taken, and no secret is read here, only its file's path.

use core::net::IpAddr;
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::file::Table;
use super::{ConfigError, values};
use crate::oauth2::Url;
use crate::smtp::path::is_domain;

/// Octets of `client_id` and of `scope`.
const TEXT_OCTETS_MAX: usize = 1024;

/// How to ask for access tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oauth2 {
    /// What they are given for.
    pub grant: Granted,
    /// Who gives them.
    pub token_url: Url,
    /// Who we are there.
    pub client_id: String,
    /// The file of our secret there; none: a public client.
    pub client_secret_file: Option<PathBuf>,
    /// What they are to be good for; none: what was granted.
    pub scope: Option<String>,
    /// Who gives codes for a login without a browser (RFC 8628).
    pub device_url: Option<Url>,
}

/// What access tokens are given for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    /// A refresh token, which stands in this file (RFC 6749 6); a new one is written there.
    RefreshToken(PathBuf),
    /// The client's own secret (RFC 6749 4.4).
    ClientCredentials,
}

impl Oauth2 {
    /// The file of the refresh token.
    pub fn refresh_token_file(&self) -> Option<&Path> {
        match &self.grant {
            Granted::RefreshToken(path) => Some(path),
            Granted::ClientCredentials => None,
        }
    }
}

pub(super) fn read(table: &Table<'_>) -> Result<Oauth2, ConfigError> {
    let refuse = |key, what: &str| table.refuse(key, what.to_owned());
    let grant =
        table.read("grant", |value| values::choice(value, &["refresh_token", "client_credentials"]))?;
    let token_url = table.read("token_url", url)?;
    let client_id = table.read("client_id", |value| values::line(value, TEXT_OCTETS_MAX))?;
    let client_secret_file =
        table.read("client_secret_file", |value| values::path_in(value, &table.folders().credentials))?;
    let refresh_token_file =
        table.read("refresh_token_file", |value| values::path_in(value, &table.folders().state))?;
    let scope = table.read("scope", |value| values::line(value, TEXT_OCTETS_MAX))?;
    let device_url = table.read("device_url", url)?;
    if device_url.is_some() && grant == Some(1) {
        let what = "has no use with grant = \"client_credentials\"; leave one of them out";
        return Err(refuse("device_url", what));
    }
    let grant = match (grant, refresh_token_file) {
        (Some(0), Some(path)) => Granted::RefreshToken(path),
        (Some(0), None) => {
            return Err(refuse("refresh_token_file", "is missing; set the file of the refresh token"));
        }
        (Some(_), Some(_)) => {
            let what = "has no use with grant = \"client_credentials\"; leave one of them out";
            return Err(refuse("refresh_token_file", what));
        }
        (Some(_), None) if client_secret_file.is_none() => {
            let what = "is missing; grant = \"client_credentials\" asks with nothing else";
            return Err(refuse("client_secret_file", what));
        }
        (Some(_), None) => Granted::ClientCredentials,
        (None, _) => {
            let what = "is missing; \"refresh_token\" or \"client_credentials\" is allowed";
            return Err(refuse("grant", what));
        }
    };
    let Some(token_url) = token_url else {
        return Err(refuse("token_url", "is missing; set the provider's, as \"https://HOST/PATH\""));
    };
    let Some(client_id) = client_id else {
        return Err(refuse("client_id", "is missing; set the one that the provider gave"));
    };
    Ok(Oauth2 { grant, token_url, client_id, client_secret_file, scope, device_url })
}

/// An `https://` address whose host can be connected to.
fn url(value: &DeValue<'_>) -> Result<Url, String> {
    let text = values::text(value)?;
    let url = Url::parse(text).map_err(|what| format!("is {text:?}, which {what}"))?;
    if url.host.parse::<IpAddr>().is_ok() || is_domain(url.host.as_bytes()) {
        return Ok(url);
    }
    Err(format!("is {text:?}, whose host is neither a name nor an address"))
}
