//! What one value of the configuration file may be. Each function reads a value or says what is wrong with it
//! and what is allowed, in words that follow the key's name.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ops::RangeInclusive;

use base64ct::{Base64, Encoding as _};
use toml::de::DeValue;

use super::folders::Folder;
use super::{Alias, Network, RelayTo, User};
use crate::smtp::login::USER_OCTETS_MAX;
use crate::smtp::path::{Mailbox, Utf8, is_domain};
use crate::time::Duration;

/// The shortest IPv4 prefix that may relay: anything wider is a good part of the Internet.
const IPV4_BITS_MIN: u8 = 8;
/// The shortest IPv6 prefix that may relay, outside of unique local and link-local addresses (RFC 4193, RFC
/// 4291 2.5.6).
const IPV6_BITS_MIN: u8 = 16;
/// The extensions that a smarthost may offer and a setting may hide.
pub(super) const EXTENSIONS: [&str; 9] = [
    "PIPELINING",
    "SIZE",
    "8BITMIME",
    "SMTPUTF8",
    "ENHANCEDSTATUSCODES",
    "DSN",
    "CHUNKING",
    "STARTTLS",
    "AUTH",
];

/// Octets of the path of a socket, the final zero aside (unix(7)).
const SOCKET_PATH_OCTETS_MAX: usize = 107;

const DURATION_FORMS: &str = r#"write "30s", "1m", "2h" or "5d""#;
const SIZE_FORMS: &str = r#"write octets, or "64KiB", "4MiB", "10MB""#;
const NETWORK_FORMS: &str = r#"write "loopback", "on-link", an address, or a network as "192.168.1.0/24""#;

/// A string that isn't empty.
pub(super) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    match value.as_str() {
        Some("") => Err("is empty; leave it out or give it a value".to_owned()),
        Some(text) => Ok(text),
        None => Err(format!("is {}; a text in quotes is allowed", shown(value))),
    }
}

/// true or false.
pub(super) fn truth(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("is {}; true or false is allowed", shown(value)))
}

/// One of `choices`: its index.
pub(super) fn choice(value: &DeValue<'_>, choices: &[&str]) -> Result<usize, String> {
    let found = value.as_str().and_then(|text| choices.iter().position(|choice| *choice == text));
    found.ok_or_else(|| {
        let quoted: Vec<String> = choices.iter().map(|choice| format!("{choice:?}")).collect();
        format!("is {}; allowed: {}", shown(value), quoted.join(" or "))
    })
}

/// A whole number in `allowed`, which is `meaning`.
pub(super) fn count(
    value: &DeValue<'_>,
    allowed: RangeInclusive<usize>,
    meaning: &str,
) -> Result<usize, String> {
    let range = format!("{} to {}, {meaning}", allowed.start(), allowed.end());
    let Some(number) = integer(value) else {
        return Err(format!("is {}; a number is allowed, {range}", shown(value)));
    };
    match usize::try_from(number) {
        Ok(number) if allowed.contains(&number) => Ok(number),
        _ => Err(format!("is {number}; allowed: {range}")),
    }
}

/// A number of things that the board has `capacity` of: 1 to `capacity`.
pub(super) fn capacity(value: &DeValue<'_>, capacity: usize) -> Result<usize, String> {
    let allowed = format!("1 to {capacity}");
    match integer(value) {
        Some(number) if number > capacity as i128 => Err(above_board(&number.to_string(), &allowed)),
        Some(number) if number >= 1 => Ok(number as usize),
        _ => Err(format!("is {}; a number is allowed, {allowed}", shown(value))),
    }
}

/// A number of octets: `"64KiB"`, `"4MiB"`, `"10MB"` or plain octets, at least `octets_min`, at most the
/// board's.
pub(super) fn size(value: &DeValue<'_>, octets_min: u64, octets_board: u64) -> Result<u64, String> {
    let octets = match value.as_str() {
        Some(text) => scaled(
            text,
            &[
                ("KiB", 1 << 10),
                ("MiB", 1 << 20),
                ("GiB", 1 << 30),
                ("kB", 1000),
                ("KB", 1000),
                ("MB", 1_000_000),
                ("GB", 1_000_000_000),
                ("B", 1),
                ("", 1),
            ],
        ),
        None => integer(value).and_then(|number| u64::try_from(number).ok()),
    };
    let allowed = format!("{octets_min} to {octets_board} octets");
    match octets {
        None => Err(format!("is {}; {SIZE_FORMS}, {allowed}", shown(value))),
        Some(octets) if octets > octets_board => Err(above_board(&shown(value), &allowed)),
        Some(octets) if octets < octets_min => Err(format!("is {}; allowed: {allowed}", shown(value))),
        Some(octets) => Ok(octets),
    }
}

/// A span of time, one second to `s_max`.
pub(super) fn duration(value: &DeValue<'_>, s_max: u64) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let Some(s) = value.as_str().and_then(|text| scaled(text, &units)) else {
        return Err(format!("is {}; {DURATION_FORMS}", shown(value)));
    };
    if (1..=s_max).contains(&s) {
        return Ok(Duration::from_s(s));
    }
    let longest = if s_max.is_multiple_of(86_400) {
        format!("{}d", s_max / 86_400)
    } else {
        format!("{}h", s_max / 3600)
    };
    Err(format!("is {}; allowed: \"1s\" to \"{longest}\"", shown(value)))
}

/// One entry of `allow`. A prefix that would let strangers relay is refused (SEC-relay-a).
pub(super) fn network(value: &DeValue<'_>) -> Result<Network, String> {
    let text = value.as_str().ok_or_else(|| format!("is {}; {NETWORK_FORMS}", shown(value)))?;
    match text {
        "loopback" => return Ok(Network::Loopback),
        "on-link" => return Ok(Network::OnLink),
        _ => {}
    }
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let not_a_network = || format!("is {}; {NETWORK_FORMS}", shown(value));
    let address: IpAddr = address.parse().map_err(|_| not_a_network())?;
    let bits_max: u8 = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) if bits.len() <= 3 && bits.bytes().all(|octet| octet.is_ascii_digit()) => {
            bits.parse().ok().filter(|bits| *bits <= bits_max).ok_or_else(not_a_network)?
        }
        Some(_) => return Err(not_a_network()),
        None => bits_max,
    };
    let zeroed = prefix_of(address, bits);
    if zeroed != address {
        return Err(format!(
            "is {}, which has bits set beyond its prefix; write \"{zeroed}/{bits}\"",
            shown(value)
        ));
    }
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
        && bits >= 96
    {
        return Err(format!("is {}; write the IPv4 network as such: \"{v4}/{}\"", shown(value), bits - 96));
    }
    let is_private =
        |v6: Ipv6Addr| v6.is_unique_local() && bits >= 7 || v6.is_unicast_link_local() && bits >= 10;
    // A prefix over ::ffff:0:0/96 holds every IPv4 address (RFC 4291 2.5.5.2).
    let is_over_ipv4 =
        |v6: Ipv6Addr| bits < 96 && prefix_of(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().into(), bits) == v6;
    let is_too_wide = match address {
        IpAddr::V4(_) => bits < IPV4_BITS_MIN,
        IpAddr::V6(v6) => bits < IPV6_BITS_MIN && !is_private(v6) || is_over_ipv4(v6),
    };
    if is_too_wide {
        return Err(format!(
            "is {}, which makes an open relay; \
             a prefix of /{IPV4_BITS_MIN} or longer (IPv6: /{IPV6_BITS_MIN}) is allowed",
            shown(value)
        ));
    }
    Ok(Network::Prefix { address, bits })
}

/// `address` with all bits beyond the first `bits` zero.
fn prefix_of(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

/// The smarthost's name or address.
pub(super) fn host(value: &DeValue<'_>) -> Result<String, String> {
    const FORMS: &str = r#"write a name or an address, as "smtp.example.com" or "192.0.2.25""#;
    let text = value.as_str().ok_or_else(|| format!("is {}; {FORMS}", shown(value)))?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return if address.is_unspecified() || is_multicast_or_broadcast(address) {
            Err(format!("is {}, which is no host's address; {FORMS}", shown(value)))
        } else {
            Ok(text.to_owned())
        };
    }
    if text.parse::<SocketAddr>().is_ok()
        || text.rsplit_once(':').is_some_and(|(name, _)| is_domain(name.as_bytes()))
    {
        return Err(format!("is {}; the port has a key of its own, smarthost.port", shown(value)));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if !is_domain(name.as_bytes()) || name.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.') {
        return Err(format!("is {}; {FORMS}", shown(value)));
    }
    Ok(name.to_owned())
}

fn is_multicast_or_broadcast(address: IpAddr) -> bool {
    address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// A domain name as RFC 5321 4.1.2 has it; underscores are tolerated, as devices' names have them.
pub(super) fn domain(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    if is_domain(text.as_bytes()) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "is {}; letters, digits, hyphens and dots are allowed, as \"router.example.com\"",
        shown(value)
    ))
}

/// A whole mailbox, `local-part@domain` (RFC 5321 4.1.2).
pub(super) fn mailbox(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    match Mailbox::parse(text.as_bytes(), Utf8::Refused) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("is {}; a full address is allowed, as \"you@example.com\"", shown(value))),
    }
}

/// What mail may be relayed to: a domain, what is below a domain, or one mailbox.
pub(super) fn relay_to(value: &DeValue<'_>) -> Result<RelayTo, String> {
    let text = text(value)?;
    if let Some(domain) = text.strip_prefix('.')
        && is_domain(domain.as_bytes())
    {
        return Ok(RelayTo::Below(text.to_owned()));
    }
    if is_domain(text.as_bytes()) {
        return Ok(RelayTo::Domain(text.to_owned()));
    }
    if Mailbox::parse(text.as_bytes(), Utf8::Accepted).is_ok() {
        return Ok(RelayTo::Mailbox(text.to_owned()));
    }
    Err(format!("is {}; write a domain, \".example.com\" for all below it, or an address", shown(value)))
}

/// One alias: a local name, and the address that gets its mail.
pub(super) fn alias(name: &str, value: &DeValue<'_>) -> Result<Alias, String> {
    let probe = format!("{name}@a");
    match Mailbox::parse(probe.as_bytes(), Utf8::Refused) {
        Ok(mailbox) if mailbox.local_part() == name.as_bytes() => {}
        _ => {
            return Err("is not a local name; the part in front of the @ is allowed, as root".to_owned());
        }
    }
    Ok(Alias { name: name.to_owned(), address: mailbox(value)? })
}

/// One user of AUTH: a name, and the path of the file with the password.
pub(super) fn user(name: &str, value: &DeValue<'_>, folder: &Folder) -> Result<User, String> {
    if name.is_empty() || name.len() > USER_OCTETS_MAX || name.contains('\0') {
        return Err(format!("is not a user's name; 1 to {USER_OCTETS_MAX} octets are allowed"));
    }
    Ok(User { name: name.to_owned(), password_file: path_in(value, folder)? })
}

/// `"1%"` to `"100%"`, in hundredths.
pub(super) fn percent(value: &DeValue<'_>) -> Result<u8, String> {
    let number = value.as_str().and_then(|text| text.strip_suffix('%')).and_then(|text| text.parse().ok());
    number
        .filter(|number| (1..=100).contains(number))
        .ok_or_else(|| format!("is {}; \"1%\" to \"100%\" is allowed", shown(value)))
}

/// The name of an SMTP extension, in upper case.
pub(super) fn extension(value: &DeValue<'_>) -> Result<String, String> {
    let name = value.as_str().map(str::to_ascii_uppercase);
    match name {
        Some(name) if EXTENSIONS.contains(&name.as_str()) => Ok(name),
        _ => Err(format!("is {}; allowed: {}", shown(value), EXTENSIONS.join(", ").to_ascii_lowercase())),
    }
}

/// A filter in env_logger's syntax: a level, or `target=level`, several of them with commas.
pub(super) fn log_filter(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    let is_level = |level: &str| level.parse::<log::LevelFilter>().is_ok();
    let is_target = |target: &str| {
        !target.is_empty()
            && target.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"_:-".contains(&octet))
    };
    let is_directive = |directive: &str| match directive.split_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(directive),
    };
    if text.split(',').all(|directive| is_directive(directive.trim())) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "is {}; allowed: \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", \
         or \"target=level\" with commas",
        shown(value)
    ))
}

/// A text without control characters, of so many octets at most.
pub(super) fn line(value: &DeValue<'_>, octets_max: usize) -> Result<String, String> {
    let text = text(value)?;
    if text.len() <= octets_max && !text.contains(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(format!("is {}; up to {octets_max} octets without control characters are allowed", shown(value)))
}

/// The SHA-256 of a public key, in base64.
pub(super) fn pin(value: &DeValue<'_>) -> Result<[u8; 32], String> {
    let mut pin = [0; 32];
    let decoded = Base64::decode(text(value)?, &mut pin).map(<[u8]>::len);
    if decoded == Ok(pin.len()) {
        return Ok(pin);
    }
    Err(format!(
        "is {}; the SHA-256 of a public key (SubjectPublicKeyInfo) in base64 is allowed, 44 characters",
        shown(value)
    ))
}

/// An absolute path of a file.
pub(super) fn path(value: &DeValue<'_>) -> Result<std::path::PathBuf, String> {
    let text = text(value)?;
    if text.starts_with('/') && !text.ends_with('/') && !text.contains('\0') {
        return Ok(text.into());
    }
    Err(format!("is {}; a file's whole path is allowed, beginning with \"/\"", shown(value)))
}

/// The path of a file, or a name alone: that of a file in `folder`, which a supervisor makes.
pub(super) fn path_in(value: &DeValue<'_>, folder: &Folder) -> Result<std::path::PathBuf, String> {
    let text = text(value)?;
    let is_name = !text.contains('/') && text != "." && text != ".." && !text.contains(char::is_control);
    if is_name {
        return Ok(folder.path.join(text));
    }
    let (variable, path_of_folder) = (folder.variable, folder.path.display());
    path(value).map_err(|what| format!("{what}, or a name alone: a file in {path_of_folder} (${variable})"))
}

/// A path that a socket can have: the kernel takes no longer ones.
pub(super) fn socket_path(value: &DeValue<'_>) -> Result<std::path::PathBuf, String> {
    let path = path(value)?;
    if path.as_os_str().len() <= SOCKET_PATH_OCTETS_MAX {
        return Ok(path);
    }
    Err(format!("is longer than a socket's path may be; up to {SOCKET_PATH_OCTETS_MAX} octets are allowed"))
}

/// Digits with one of `units` behind them, in the unit of one.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

/// A TOML integer of any radix; beyond 64 bits it is none.
fn integer(value: &DeValue<'_>) -> Option<i128> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(i128::from)
}

fn above_board(given: &str, allowed: &str) -> String {
    format!(
        "is {given}, above this board's capacity; allowed: {allowed} \
         (settings can lower a capacity, never raise it)"
    )
}

/// A value as the file has it, in one line of at most about 70 characters.
pub(super) fn shown(value: &DeValue<'_>) -> String {
    if let Some(text) = value.as_str() {
        let short: String = text.chars().take(64).collect();
        let dots = if short.len() < text.len() { "..." } else { "" };
        return format!("{short:?}{dots}");
    }
    if let Some(integer) = value.as_integer() {
        return integer.to_string().chars().take(64).collect();
    }
    if let Some(truth) = value.as_bool() {
        return truth.to_string();
    }
    match value.as_array() {
        Some(_) => "a list".to_owned(),
        None => format!("a {}", value.type_str()),
    }
}
