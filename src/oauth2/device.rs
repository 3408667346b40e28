//! The device code: a login for a machine without a browser (RFC 8628 3.2, 3.5).

use core::str;

use zeroize::Zeroizing;

use super::grant::{Denial, Description, Grant, denied, lifetime_s};
use super::json::{self, Text, Value};

/// What polls are for (RFC 8628 3.4).
pub const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Seconds between two polls, when nothing is said of it (RFC 8628 3.2), and the bounds of what is obeyed.
const INTERVAL_S: u64 = 5;
const INTERVAL_S_MAX: u64 = 60;
/// Seconds that a code is polled for at most.
const LIFETIME_S_MAX: u64 = 3600;
/// Octets of what is shown.
const SHOWN_OCTETS_MAX: usize = 512;

/// A code for somebody with a browser, and one for us to poll with.
#[derive(Debug)]
pub struct DeviceCode {
    /// To poll with.
    pub device_code: Code,
    /// To be typed in; visible ASCII, with spaces.
    pub user_code: String,
    /// Where; visible ASCII.
    pub verification_uri: String,
    /// How many seconds both are good for.
    pub lifetime_s: u64,
    /// Seconds between two polls.
    pub interval_s: u64,
}

/// A secret of the endpoint's, of which Debug shows nothing.
pub struct Code(pub Zeroizing<Vec<u8>>);

impl core::fmt::Debug for Code {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Code")
    }
}

/// What a poll found out.
#[derive(Debug)]
pub enum Poll {
    /// Nobody has typed the code in yet.
    Pending,
    /// The same, and the next polls are to come five seconds later each (RFC 8628 3.5).
    SlowDown,
    /// Somebody has said no.
    Declined,
    /// The code's time is over.
    Expired,
    /// Somebody has said yes.
    Granted(Grant),
    /// Anything else.
    Failed(Denial, Description),
}

impl DeviceCode {
    /// What the response with `status` and `body` to the request for a code means; `secrets` are what was
    /// asked with.
    ///
    /// # Errors
    /// Why there is no code, and what was said of it.
    pub fn judge(status: u16, body: &[u8], secrets: &[&[u8]]) -> Result<Self, (Denial, Description)> {
        let (mut device_code, mut user_code, mut uri) = (None, None, None);
        let (mut lifetime, mut interval) = (None, None);
        let read = json::members(body, |name, value| match value {
            Value::Text(text) if name.is("device_code") => device_code = Some(text.unescaped()),
            Value::Text(text) if name.is("user_code") => user_code = shown(text),
            // Google's name for it is older than the standard's.
            Value::Text(text) if name.is("verification_uri") || name.is("verification_url") => {
                uri = shown(text);
            }
            Value::Text(_) | Value::Number(_) if name.is("expires_in") => lifetime = lifetime_s(value),
            Value::Text(_) | Value::Number(_) if name.is("interval") => interval = lifetime_s(value),
            Value::Text(_) | Value::Number(_) | Value::Other => {}
        });
        match (device_code, user_code, uri) {
            (Some(device_code), Some(user_code), Some(verification_uri))
                if status == 200 && read.is_ok() && !device_code.is_empty() =>
            {
                Ok(Self {
                    device_code: Code(device_code),
                    user_code,
                    verification_uri,
                    lifetime_s: lifetime.unwrap_or(LIFETIME_S_MAX).min(LIFETIME_S_MAX),
                    interval_s: interval.unwrap_or(INTERVAL_S).clamp(1, INTERVAL_S_MAX),
                })
            }
            _ => Err(denied(status, body, secrets)),
        }
    }
}

/// What can stand on a terminal without doing anything there.
fn shown(text: Text<'_>) -> Option<String> {
    let octets = text.unescaped();
    let is_harmless = octets.iter().all(|octet| (b' '..=b'~').contains(octet));
    let text = str::from_utf8(&octets).ok()?;
    (is_harmless && !text.is_empty() && text.len() <= SHOWN_OCTETS_MAX).then(|| text.to_owned())
}

impl Poll {
    /// What the response with `status` and `body` to a poll means; `secrets` are what was asked with.
    pub fn judge(status: u16, body: &[u8], secrets: &[&[u8]]) -> Self {
        let mut error = None;
        let read = json::members(body, |name, value| {
            if let Value::Text(text) = value
                && name.is("error")
            {
                error = Some(text.unescaped());
            }
        });
        let error = error.filter(|_| read.is_ok());
        match error.as_deref().map(Vec::as_slice) {
            Some(b"authorization_pending") => Self::Pending,
            Some(b"slow_down") => Self::SlowDown,
            // Microsoft's name for it is another one.
            Some(b"access_denied" | b"authorization_declined") => Self::Declined,
            Some(b"expired_token") => Self::Expired,
            Some(_) | None => match Grant::judge(status, body, secrets) {
                Ok(grant) => Self::Granted(grant),
                Err((denial, description)) => Self::Failed(denial, description),
            },
        }
    }
}
