//! Reverse-paths, forward-paths, mailboxes, domains and address literals (RFC 5321 4.1.2, 4.1.3).
//!
//! Everything is parsed from a place in the line and says what is left of it. A parsed value is legal, within
//! the limits of RFC 5321 4.5.3.1 (nothing is ever cut), free of control octets, and holds its local-part
//! with the least quoting, so that `<"bob"@d>` and `<bob@d>` are the same octets. Source routes are accepted
//! and dropped.
//!
//! More lenient than the grammar on purpose: an underscore in a domain, because devices name themselves so.
//! Stricter: no address literal but IPv4 and IPv6, because no other tag is registered; no `#` literal.

use core::net::Ipv6Addr;

use heapless::Vec;

use crate::limits::{DOMAIN_OCTETS_MAX, LOCAL_PART_OCTETS_MAX, PATH_OCTETS_MAX};

/// Octets of one label of a domain (RFC 1035 2.3.4).
pub const LABEL_OCTETS_MAX: usize = 63;

/// Domains that don't exist outside a site (RFC 6761, RFC 6762, RFC 8375), and what routers call theirs.
const LOCAL_DOMAINS: [&str; 7] =
    ["local", "lan", "home.arpa", "localdomain", "localhost", "internal", "home"];

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// It is not what the grammar says.
    Syntax,
    /// It, its local-part or its domain is longer than RFC 5321 4.5.3.1 allows.
    TooLong,
    /// It has no domain, where one is needed.
    Unqualified,
    /// It has octets above 127, for which SMTPUTF8 is needed (RFC 6531).
    NotAscii,
}

/// Whether UTF-8 may stand in an address (RFC 6531); invalid UTF-8 never may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Utf8 {
    /// Octets above 127 are refused.
    Refused,
    /// SMTPUTF8 is in use.
    Accepted,
}

/// A local-part and a domain or address literal, as sent: the local-part with the least quoting, case kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    octets: Vec<u8, PATH_OCTETS_MAX>,
    local_part_octets: u8,
}

/// A local-part without a domain, with the least quoting, case kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPart(Vec<u8, LOCAL_PART_OCTETS_MAX>);

/// Where notices go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReversePath {
    /// `<>`: nowhere.
    Null,
    /// A name without a domain: not in the grammar, but what cron and devices send.
    Unqualified(LocalPart),
    /// To this mailbox.
    Mailbox(Mailbox),
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardPath {
    /// `<Postmaster>` without a domain, in any case (RFC 5321 4.5.1).
    Postmaster,
    /// Any other name without a domain: not in the grammar, but what cron and devices send.
    Unqualified(LocalPart),
    /// This mailbox.
    Mailbox(Mailbox),
}

/// A client's name in EHLO or HELO: a domain or an address literal, and nothing else of the line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientName(Vec<u8, DOMAIN_OCTETS_MAX>);

impl Mailbox {
    /// Parses a whole mailbox without angle brackets, as it stands in a configuration.
    pub fn parse(octets: &[u8], utf8: Utf8) -> Result<Self, PathError> {
        if octets.len() + 2 > PATH_OCTETS_MAX {
            return Err(PathError::TooLong);
        }
        match address(octets, utf8)? {
            (Address::Mailbox(mailbox), []) => Ok(mailbox),
            (Address::Unqualified(_), []) => Err(PathError::Unqualified),
            (Address::Mailbox(_) | Address::Unqualified(_), _) => Err(PathError::Syntax),
        }
    }

    /// `local-part@domain`.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The same, given away.
    pub fn into_octets(self) -> Vec<u8, PATH_OCTETS_MAX> {
        self.octets
    }

    /// What stands before the `@`, with its quotes where it needs them; at most 64 octets.
    pub fn local_part(&self) -> &[u8] {
        &self.octets[..usize::from(self.local_part_octets)]
    }

    /// What stands behind the `@`: a domain, or an address literal with its brackets.
    pub fn domain(&self) -> &[u8] {
        &self.octets[usize::from(self.local_part_octets) + 1..]
    }
}

impl LocalPart {
    /// The local-part's octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// The name in `domain`; `None` when both together are longer than a path may be.
    pub fn at(&self, domain: &str) -> Option<Mailbox> {
        let mut octets = Vec::new();
        for part in [self.octets(), b"@", domain.as_bytes()] {
            octets.extend_from_slice(part).ok()?;
        }
        let is_within = octets.len() + 2 <= PATH_OCTETS_MAX;
        is_within.then_some(Mailbox { octets, local_part_octets: self.0.len() as u8 })
    }
}

impl ReversePath {
    /// Parses `<...>` at the start of `octets` and gives what follows it.
    pub fn parse(octets: &[u8], utf8: Utf8) -> Result<(Self, &[u8]), PathError> {
        if let Some(rest) = octets.strip_prefix(b"<>") {
            return Ok((Self::Null, rest));
        }
        path(octets, utf8).map(|(address, rest)| (Self::of(address), rest))
    }

    /// The same without the angle brackets, which some devices forget; it can't be null.
    pub fn parse_bare(octets: &[u8], utf8: Utf8) -> Result<(Self, &[u8]), PathError> {
        bare_path(octets, utf8).map(|(address, rest)| (Self::of(address), rest))
    }

    fn of(address: Address) -> Self {
        match address {
            Address::Mailbox(mailbox) => Self::Mailbox(mailbox),
            Address::Unqualified(name) => Self::Unqualified(name),
        }
    }

    /// The path without angle brackets; empty for the null reverse-path.
    pub fn octets(&self) -> &[u8] {
        match self {
            Self::Null => b"",
            Self::Unqualified(name) => name.octets(),
            Self::Mailbox(mailbox) => mailbox.octets(),
        }
    }
}

impl ForwardPath {
    /// Parses `<...>` at the start of `octets` and gives what follows it.
    pub fn parse(octets: &[u8], utf8: Utf8) -> Result<(Self, &[u8]), PathError> {
        path(octets, utf8).map(|(address, rest)| (Self::of(address), rest))
    }

    /// The same without the angle brackets, which some devices forget.
    pub fn parse_bare(octets: &[u8], utf8: Utf8) -> Result<(Self, &[u8]), PathError> {
        bare_path(octets, utf8).map(|(address, rest)| (Self::of(address), rest))
    }

    fn of(address: Address) -> Self {
        match address {
            Address::Mailbox(mailbox) => Self::Mailbox(mailbox),
            Address::Unqualified(name) if is_postmaster(name.octets()) => Self::Postmaster,
            Address::Unqualified(name) => Self::Unqualified(name),
        }
    }

    /// True when it is ASCII: it can go to any smarthost.
    pub fn is_ascii(&self) -> bool {
        match self {
            Self::Postmaster => true,
            Self::Unqualified(name) => name.octets().is_ascii(),
            Self::Mailbox(mailbox) => mailbox.octets().is_ascii(),
        }
    }
}

impl ClientName {
    /// Parses the argument of EHLO or HELO. Text behind the name, an old habit, is dropped (RFC 5321
    /// 4.1.1.1).
    pub fn parse(argument: &[u8]) -> Result<Self, PathError> {
        let end = argument.iter().position(|octet| matches!(octet, b' ' | b'\t')).unwrap_or(argument.len());
        let name = &argument[..end];
        let used = domain_or_literal(name, Utf8::Refused)?;
        if used < name.len() {
            return Err(PathError::Syntax);
        }
        Vec::from_slice(name).map(Self).map_err(|_| PathError::TooLong)
    }

    /// The domain, or the address literal with its brackets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// The same in the form that an envelope keeps.
    pub fn to_octets(&self) -> Vec<u8, DOMAIN_OCTETS_MAX> {
        self.0.clone()
    }
}

/// True for the local-part `postmaster`, in any case (RFC 5321 4.5.1).
pub fn is_postmaster(local_part: &[u8]) -> bool {
    local_part.eq_ignore_ascii_case(b"postmaster")
}

/// True when all of `octets` is a domain (RFC 5321 4.1.2), underscores allowed.
pub fn is_domain(octets: &[u8]) -> bool {
    domain(octets, Utf8::Refused) == Ok(octets.len())
}

/// True for a domain to which nobody outside can send: that of `hostname`, one without a dot, an address, a
/// site's own.
pub fn is_local_domain(domain: &[u8], hostname: &str) -> bool {
    let ends_in = |name: &str| {
        let start = domain.len().checked_sub(name.len());
        start.is_some_and(|start| {
            domain[start..].eq_ignore_ascii_case(name.as_bytes()) && (start == 0 || domain[start - 1] == b'.')
        })
    };
    domain.starts_with(b"[")
        || !domain.contains(&b'.')
        || domain.eq_ignore_ascii_case(hostname.as_bytes())
        || LOCAL_DOMAINS.into_iter().any(ends_in)
}

/// What can stand between angle brackets, behind the source route.
enum Address {
    Mailbox(Mailbox),
    Unqualified(LocalPart),
}

fn path(octets: &[u8], utf8: Utf8) -> Result<(Address, &[u8]), PathError> {
    let inner = octets.strip_prefix(b"<").ok_or(PathError::Syntax)?;
    let (routed, has_route) = source_route(inner)?;
    let (address, rest) = address(routed, utf8)?;
    let rest = rest.strip_prefix(b">").ok_or(PathError::Syntax)?;
    if octets.len() - rest.len() > PATH_OCTETS_MAX {
        return Err(PathError::TooLong);
    }
    if has_route && matches!(address, Address::Unqualified(_)) {
        return Err(PathError::Syntax);
    }
    Ok((address, rest))
}

/// An address that ends at a space or with the octets.
fn bare_path(octets: &[u8], utf8: Utf8) -> Result<(Address, &[u8]), PathError> {
    let (address, rest) = address(octets, utf8)?;
    if !matches!(rest, [] | [b' ', ..]) {
        return Err(PathError::Syntax);
    }
    if octets.len() - rest.len() + 2 > PATH_OCTETS_MAX {
        return Err(PathError::TooLong);
    }
    Ok((address, rest))
}

/// Skips `@a,@b:`. The names in it must be domains; nothing is made of them (RFC 5321 appendix C).
fn source_route(octets: &[u8]) -> Result<(&[u8], bool), PathError> {
    let mut rest = octets;
    while let Some(behind_at) = rest.strip_prefix(b"@") {
        rest = &behind_at[domain(behind_at, Utf8::Refused)?..];
        match rest {
            [b':', behind @ ..] => return Ok((behind, true)),
            [b',', b'@', ..] => rest = &rest[1..],
            _ => return Err(PathError::Syntax),
        }
    }
    Ok((rest, false))
}

fn address(octets: &[u8], utf8: Utf8) -> Result<(Address, &[u8]), PathError> {
    if utf8 == Utf8::Accepted && core::str::from_utf8(octets).is_err() {
        return Err(PathError::Syntax);
    }
    let parsed = address_octets(octets, utf8);
    if parsed.is_err() && utf8 == Utf8::Refused && !octets.is_ascii() {
        return Err(PathError::NotAscii);
    }
    parsed
}

fn address_octets(octets: &[u8], utf8: Utf8) -> Result<(Address, &[u8]), PathError> {
    let (name, rest) = local_part(octets, utf8)?;
    let Some(behind_at) = rest.strip_prefix(b"@") else {
        return Ok((Address::Unqualified(name), rest));
    };
    let domain_octets = domain_or_literal(behind_at, utf8)?;
    let (domain, rest) = behind_at.split_at(domain_octets);
    let mut octets = Vec::new();
    let local_part_octets = name.0.len() as u8;
    for part in [name.octets(), b"@", domain] {
        octets.extend_from_slice(part).map_err(|_| PathError::TooLong)?;
    }
    Ok((Address::Mailbox(Mailbox { octets, local_part_octets }), rest))
}

/// The local-part with the least quoting (RFC 5321 4.1.2). Its limit holds for what was received.
fn local_part(octets: &[u8], utf8: Utf8) -> Result<(LocalPart, &[u8]), PathError> {
    if octets.first() == Some(&b'"') {
        return quoted_string(octets, utf8);
    }
    let end =
        octets.iter().position(|&octet| octet != b'.' && !is_atext(octet, utf8)).unwrap_or(octets.len());
    let (name, rest) = octets.split_at(end);
    if !is_dot_string(name, utf8) {
        return Err(PathError::Syntax);
    }
    let name = Vec::from_slice(name).map_err(|_| PathError::TooLong)?;
    Ok((LocalPart(name), rest))
}

fn quoted_string(octets: &[u8], utf8: Utf8) -> Result<(LocalPart, &[u8]), PathError> {
    let mut content: Vec<u8, LOCAL_PART_OCTETS_MAX> = Vec::new();
    let mut used = 1;
    loop {
        let octet = match octets[used..] {
            [b'"', ..] => break,
            [b'\\', escaped @ b' '..=b'~', ..] => {
                used += 2;
                escaped
            }
            [plain, ..] if is_qtext(plain, utf8) => {
                used += 1;
                plain
            }
            _ => return Err(PathError::Syntax),
        };
        content.push(octet).map_err(|_| PathError::TooLong)?;
    }
    used += 1;
    if used > LOCAL_PART_OCTETS_MAX {
        return Err(PathError::TooLong);
    }
    let rest = &octets[used..];
    if is_dot_string(&content, utf8) {
        return Ok((LocalPart(content), rest));
    }
    let mut quoted = Vec::new();
    let mut push = |octet| quoted.push(octet).expect("the least quoting is no longer than what was received");
    push(b'"');
    for &octet in &content {
        if matches!(octet, b'"' | b'\\') {
            push(b'\\');
        }
        push(octet);
    }
    push(b'"');
    Ok((LocalPart(quoted), rest))
}

fn is_dot_string(octets: &[u8], utf8: Utf8) -> bool {
    octets.split(|&octet| octet == b'.').all(|atom| {
        let is_atom = atom.iter().all(|&octet| is_atext(octet, utf8));
        !atom.is_empty() && is_atom
    })
}

/// RFC 5322 3.2.3.
fn is_atext(octet: u8, utf8: Utf8) -> bool {
    octet.is_ascii_alphanumeric()
        || b"!#$%&'*+-/=?^_`{|}~".contains(&octet)
        || (octet >= 0x80 && utf8 == Utf8::Accepted)
}

/// qtextSMTP of RFC 5321 4.1.2.
fn is_qtext(octet: u8, utf8: Utf8) -> bool {
    matches!(octet, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~') || (octet >= 0x80 && utf8 == Utf8::Accepted)
}

/// Octets of the domain or address literal at the start of `octets`.
fn domain_or_literal(octets: &[u8], utf8: Utf8) -> Result<usize, PathError> {
    if octets.first() == Some(&b'[') { address_literal(octets) } else { domain(octets, utf8) }
}

/// Octets of the domain at the start of `octets`; everything that could belong to it must do so.
fn domain(octets: &[u8], utf8: Utf8) -> Result<usize, PathError> {
    let is_in_label = |octet: u8| {
        octet.is_ascii_alphanumeric()
            || matches!(octet, b'-' | b'_')
            || (octet >= 0x80 && utf8 == Utf8::Accepted)
    };
    let end = octets.iter().position(|&octet| octet != b'.' && !is_in_label(octet)).unwrap_or(octets.len());
    let domain = &octets[..end];
    for label in domain.split(|&octet| octet == b'.') {
        if label.is_empty() || label.starts_with(b"-") || label.ends_with(b"-") {
            return Err(PathError::Syntax);
        }
        if label.len() > LABEL_OCTETS_MAX {
            return Err(PathError::TooLong);
        }
    }
    if end > DOMAIN_OCTETS_MAX { Err(PathError::TooLong) } else { Ok(end) }
}

/// Octets of the address literal at the start of `octets`, brackets included (RFC 5321 4.1.3).
fn address_literal(octets: &[u8]) -> Result<usize, PathError> {
    let end = octets.iter().position(|&octet| octet == b']').ok_or(PathError::Syntax)?;
    let inner = &octets[1..end];
    let is_legal = match inner.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case(b"IPv6:") => {
            core::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
        }
        _ => is_ipv4(inner),
    };
    if is_legal { Ok(end + 1) } else { Err(PathError::Syntax) }
}

/// `Snum 3("." Snum)`: unlike the standard library's parser it takes leading zeros, as the grammar does.
fn is_ipv4(octets: &[u8]) -> bool {
    let mut count = 0;
    for number in octets.split(|&octet| octet == b'.') {
        let is_number = (1..=3).contains(&number.len()) && number.iter().all(u8::is_ascii_digit);
        if !is_number || number.iter().fold(0, |value, digit| value * 10 + u16::from(digit - b'0')) > 255 {
            return false;
        }
        count += 1;
    }
    count == 4
}
