//! What a token endpoint says: a token, or why there is none (RFC 6749 5.1, 5.2; RFC 6750 4).
//!
//! What it says of an error is kept for the log, cleaned and cut, unless a secret of ours stands in it.
use core::{fmt, str};

use zeroize::Zeroizing;

use super::json::{self, Text, Value};
use crate::limits::REPLY_TEXT_OCTETS_MAX;

/// What the endpoint said of its error: `error: error_description`, without control octets, of at most
/// [`REPLY_TEXT_OCTETS_MAX`] octets; empty when it said nothing that can be shown.
pub type Description = Vec<u8>;

/// A token was granted. Nothing of it is shown by Debug, and it is wiped when dropped.
pub struct Grant {
    /// What to log in with; visible ASCII.
    pub access_token: Zeroizing<Vec<u8>>,
    /// How many seconds it is good for, if that was said.
    pub lifetime_s: Option<u64>,
    /// What to ask with from now on, if it is to be another one.
    pub refresh_token: Option<Zeroizing<Vec<u8>>>,
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The refresh token has expired or was revoked (`invalid_grant`).
    Grant,
    /// The client or its secret is wrong (`invalid_client`, `unauthorized_client`).
    Client,
    /// The scope is wrong (`invalid_scope`).
    Scope,
    /// Something else in the request or in what was granted (any other `error`).
    Request,
    /// Not now: 5yz, 429, `temporarily_unavailable`, `server_error`, `slow_down`.
    Unavailable,
    /// It is no token endpoint's response.
    Malformed,
}

impl Denial {
    /// True when asking again is of no use until somebody has put something right.
    pub const fn is_lasting(self) -> bool {
        match self {
            Self::Grant | Self::Client | Self::Scope | Self::Request => true,
            Self::Unavailable | Self::Malformed => false,
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grant => {
                "the refresh token has expired or was revoked; get a new one with postern login, or put one \
                 into refresh_token_file"
            }
            Self::Client => "client_id or client_secret_file is wrong, or the secret has expired",
            Self::Scope => "it refuses the scope",
            Self::Request => "it refuses the request",
            Self::Unavailable => "it can't answer now",
            Self::Malformed => "what it answers is no token; see token_url",
        })
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("lifetime_s", &self.lifetime_s).finish_non_exhaustive()
    }
}

/// The members that count.
#[derive(Default)]
struct Members {
    access_token: Option<Zeroizing<Vec<u8>>>,
    token_type: Option<Zeroizing<Vec<u8>>>,
    lifetime_s: Option<u64>,
    refresh_token: Option<Zeroizing<Vec<u8>>>,
    error: Option<Zeroizing<Vec<u8>>>,
    description: Option<Zeroizing<Vec<u8>>>,
}

impl Members {
    fn read(body: &[u8]) -> Option<Self> {
        let mut members = Self::default();
        let mut is_twice = false;
        let read = json::members(body, |name, value| {
            let place = match value {
                Value::Text(_) if name.is("access_token") => &mut members.access_token,
                Value::Text(_) if name.is("token_type") => &mut members.token_type,
                Value::Text(_) if name.is("refresh_token") => &mut members.refresh_token,
                Value::Text(_) if name.is("error") => &mut members.error,
                Value::Text(_) if name.is("error_description") => &mut members.description,
                Value::Text(_) | Value::Number(_) if name.is("expires_in") => {
                    members.lifetime_s = lifetime_s(value);
                    return;
                }
                Value::Text(_) | Value::Number(_) | Value::Other => return,
            };
            is_twice |= place.is_some();
            *place = text(value).map(|text| text.unescaped());
        });
        read.ok().filter(|()| !is_twice).map(|()| members)
    }
}

fn text(value: Value<'_>) -> Option<Text<'_>> {
    match value {
        Value::Text(text) => Some(text),
        Value::Number(_) | Value::Other => None,
    }
}

/// Some endpoints write the number in quotes.
pub(super) fn lifetime_s(value: Value<'_>) -> Option<u64> {
    match value {
        Value::Number(digits) => digits.parse().ok(),
        Value::Text(text) => str::from_utf8(&text.unescaped()).ok()?.parse().ok(),
        Value::Other => None,
    }
}

impl Grant {
    /// What the response with `status` and `body` means; `secrets` are what was asked with.
    ///
    /// # Errors
    /// Why there is no token, and what was said of it.
    pub fn judge(status: u16, body: &[u8], secrets: &[&[u8]]) -> Result<Self, (Denial, Description)> {
        let Some(members) = Members::read(body).filter(|members| members.error.is_none()) else {
            return Err(denied(status, body, secrets));
        };
        let is_bearer = members.token_type.is_some_and(|kind| kind.eq_ignore_ascii_case(b"bearer"));
        let is_sound = |token: &[u8], first: u8| {
            !token.is_empty() && token.iter().all(|octet| (first..=b'~').contains(octet))
        };
        match members.access_token {
            Some(access_token)
                if status == 200
                    && is_bearer
                    && is_sound(&access_token, b'!')
                    && members.refresh_token.as_ref().is_none_or(|token| is_sound(token, b' ')) =>
            {
                Ok(Self {
                    access_token,
                    lifetime_s: members.lifetime_s,
                    refresh_token: members.refresh_token,
                })
            }
            _ => Err((denial_by(status), Description::new())),
        }
    }
}

/// Why the response with `status` and `body` has not what was asked for, and what was said of it.
pub(super) fn denied(status: u16, body: &[u8], secrets: &[&[u8]]) -> (Denial, Description) {
    let by_status = denial_by(status);
    let Some(Members { error: Some(error), description, .. }) = Members::read(body) else {
        return (by_status, Description::new());
    };
    let denial = if by_status == Denial::Unavailable { by_status } else { denial_of(&error) };
    (denial, described(&error, description.as_deref(), secrets))
}

/// What a status says where nothing else is said.
fn denial_by(status: u16) -> Denial {
    if status >= 500 || status == 429 { Denial::Unavailable } else { Denial::Malformed }
}

fn denial_of(error: &[u8]) -> Denial {
    match error {
        b"invalid_grant" => Denial::Grant,
        b"invalid_client" | b"unauthorized_client" => Denial::Client,
        b"invalid_scope" => Denial::Scope,
        b"temporarily_unavailable" | b"server_error" | b"slow_down" => Denial::Unavailable,
        _ => Denial::Request,
    }
}

fn described(error: &[u8], description: Option<&Vec<u8>>, secrets: &[&[u8]]) -> Description {
    let description = description.map(Vec::as_slice).unwrap_or_default();
    let separator: &[u8] = if description.is_empty() { b"" } else { b": " };
    let told = error.iter().chain(separator).chain(description);
    let told: Zeroizing<Vec<u8>> = Zeroizing::new(told.copied().collect());
    let has_secret = secrets
        .iter()
        .any(|secret| !secret.is_empty() && told.windows(secret.len()).any(|octets| octets == *secret));
    if has_secret {
        return Description::new();
    }
    let cleaned = told.iter().map(|octet| if octet.is_ascii_control() { b' ' } else { *octet });
    cleaned.take(REPLY_TEXT_OCTETS_MAX).collect()
}
