//! What the check says of certificates: the smarthost's, and the one that clients are shown.

use base64ct::{Base64, Encoding as _};

use super::DAY_S;
use crate::config::Config;
use crate::net::{Presented, StartError, clock, shown};

/// A certificate that ends sooner is worth a word.
const DAYS_FEW: i64 = 14;

/// The smarthost's, which was found good.
pub(super) fn presented(presented: &Presented) -> String {
    let pin = base64(&presented.pin);
    let Some(not_after) = presented.not_after_unix_s else { return format!("pin {pin}") };
    let days = (not_after - now_s()) / DAY_S;
    let few = if days < DAYS_FEW { ", which is soon" } else { "" };
    format!("the certificate is valid for {days} days{few}; pin {pin}")
}

/// The one that clients are shown, if any: whether it is good, and why. One that has expired is no reason for
/// a relay not to start: there are clients that don't look.
///
/// # Errors
/// It can't be used, and a relay would not start.
pub(super) fn of_listeners(config: &Config) -> Result<Option<(bool, String)>, StartError> {
    let Some((shown, files)) = shown(config)?.zip(config.listener_tls.as_ref()) else { return Ok(None) };
    let path = files.certificate.display();
    let Some(not_after) = shown.not_after_unix_s.filter(|_| clock::now().wall.is_trusted) else {
        return Ok(Some((true, format!("{path}: the certificate and its key belong together"))));
    };
    let (left_s, key) = (not_after - now_s(), "listener_tls.certificate");
    let days = left_s / DAY_S;
    Ok(Some(match left_s {
        ..0 => (false, format!("{key}: {path}: has expired {} days ago", -days)),
        _ if days < DAYS_FEW => (false, format!("{key}: {path}: is valid for {days} days, which is soon")),
        _ => (true, format!("{path}: the certificate is valid for {days} days")),
    }))
}

pub(super) fn base64(pin: &[u8; 32]) -> String {
    let mut octets = [0; 44];
    Base64::encode(pin, &mut octets).expect("32 octets are 44 in base64").to_owned()
}

fn now_s() -> i64 {
    i64::try_from(clock::now().wall.unix_s).unwrap_or(i64::MAX)
}
