//! Commands (RFC 5321 4.1.1), BDAT (RFC 3030), STARTTLS (RFC 3207) and AUTH (RFC 4954),
//! with the parameters of SIZE (RFC 1870),
//! 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), DSN (RFC 3461) and AUTH.
//!
//! A [`Command`] is legal in itself; whether it may come now is the session's business. Everything malformed
//! becomes the reply that it gets. Verbs and keywords are taken in any case. More lenient than the grammar on
//! purpose: white space at the end of a line (RFC 5321 4.1.1), several spaces between parameters, and the
//! [`Quirks`] of [`Terms`].

use heapless::Vec;

use super::dsn::{self, ENVID_OCTETS_MAX, Notify, ORCPT_OCTETS_MAX};
use super::login::{Mechanism, Response};
use super::path::{ClientName, ForwardPath, PathError, ReversePath, Utf8};
use super::quirk::{Quirk, Quirks};
use super::reply::{self, Reply};

/// A legal command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// RFC 5321 4.1.1.1.
    Ehlo(ClientName),
    /// RFC 5321 4.1.1.1.
    Helo(ClientName),
    /// RFC 5321 4.1.1.2.
    Mail(Mail),
    /// RFC 5321 4.1.1.3.
    Rcpt(Rcpt),
    /// RFC 5321 4.1.1.4.
    Data,
    /// RFC 3030 2.
    Bdat(Bdat),
    /// RFC 5321 4.1.1.5.
    Rset,
    /// RFC 5321 4.1.1.6; what it asks for can't be known.
    Vrfy,
    /// RFC 5321 4.1.1.8; the same for every argument.
    Help,
    /// RFC 5321 4.1.1.9.
    Noop,
    /// RFC 5321 4.1.1.10.
    Quit,
    /// RFC 3207 4.
    StartTls,
    /// RFC 4954 4, with the initial response, if there is one.
    Auth(Mechanism, Option<Response>),
    /// The first line of an HTTP request: a browser was led here to talk to us (cross-protocol attack).
    Http,
}

/// The arguments of MAIL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Where notices go.
    pub reverse_path: ReversePath,
    /// SIZE: octets of the mail data as the client counts them; past 2^64 it is `u64::MAX`.
    pub size: Option<u64>,
    /// BODY.
    pub body: Option<Body>,
    /// SMTPUTF8: addresses and header section may be UTF-8.
    pub utf8: bool,
    /// RET as [`dsn::ret`] has it.
    pub ret: Option<u8>,
    /// ENVID, still in xtext.
    pub envid: Option<Vec<u8, ENVID_OCTETS_MAX>>,
}

/// The arguments of RCPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rcpt {
    /// Where the message goes.
    pub forward_path: ForwardPath,
    /// NOTIFY.
    pub notify: Option<Notify>,
    /// ORCPT: the address type and the address, still in xtext.
    pub orcpt: Option<Vec<u8, ORCPT_OCTETS_MAX>>,
}

/// The arguments of BDAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bdat {
    /// Octets of the chunk, which follow; past 2^64 it is `u64::MAX`.
    pub octets: u64,
    /// It is the message's last chunk.
    pub is_last: bool,
    /// What stands behind the count is legal. If not, the chunk is still to be read, and dropped.
    pub is_legal: bool,
}

/// What BODY declares (RFC 6152).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// `7BIT`.
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
}

/// Which service the client has agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// HELO, or nothing yet: no parameters.
    Basic,
    /// EHLO: the parameters of what was offered.
    Extended,
}

/// Whether AUTH is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthTerms {
    /// It is not.
    Absent,
    /// Not before TLS.
    NeedsTls,
    /// It is.
    Offered,
}

/// What decides over what is legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What the client has agreed on.
    pub service: Service,
    /// STARTTLS is offered, or was on this connection.
    pub has_starttls: bool,
    /// Whether AUTH is offered.
    pub auth: AuthTerms,
    /// The habits of old devices that are taken.
    pub tolerated: Quirks,
}

/// Verbs of other RFCs, and those of RFC 821 that a relay leaves out: 502 and not 500 (RFC 5321 4.2.4).
const NOT_IMPLEMENTED: [&[u8]; 8] =
    [b"EXPN", b"SEND", b"SAML", b"SOML", b"TURN", b"ETRN", b"STARTTLS", b"AUTH"];

/// The methods of HTTP that a browser or a proxy can be made to send.
const HTTP: [&[u8]; 7] = [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"CONNECT"];

/// Parses `line`, which has no CRLF any more. Notes what was tolerated in `met`.
pub fn parse(line: &[u8], terms: &Terms, met: &mut Quirks) -> Result<Command, &'static Reply> {
    let line = without_white_space_behind(line);
    let verb_octets = line.iter().position(|octet| !octet.is_ascii_alphanumeric()).unwrap_or(line.len());
    let (verb, rest) = line.split_at(verb_octets);
    let is = |name: &[u8]| verb.eq_ignore_ascii_case(name);
    let is_separated = rest.first().is_none_or(|&octet| is_white_space(octet));
    if !is_separated {
        return Err(reply::C500_UNKNOWN);
    }
    let argument = behind_white_space(rest);
    let may_be_utf8 = is(b"MAIL") || is(b"RCPT") || is(b"VRFY") && core::str::from_utf8(argument).is_ok();
    if argument.iter().any(|&octet| octet.is_ascii_control() || !(octet.is_ascii() || may_be_utf8)) {
        return Err(reply::C501_OCTETS);
    }
    match verb.len() {
        4 if is(b"MAIL") => return mail(argument, terms, met).map(Command::Mail),
        4 if is(b"RCPT") => return rcpt(argument, terms, met).map(Command::Rcpt),
        4 if is(b"DATA") => return without_argument(argument, Command::Data),
        4 if is(b"BDAT") => return bdat(argument).map(Command::Bdat),
        4 if is(b"EHLO") => return client_name(argument, terms, met).map(Command::Ehlo),
        4 if is(b"HELO") => return client_name(argument, terms, met).map(Command::Helo),
        4 if is(b"RSET") => return without_argument(argument, Command::Rset),
        4 if is(b"QUIT") => return without_argument(argument, Command::Quit),
        4 if is(b"NOOP") => return Ok(Command::Noop),
        4 if is(b"HELP") => return Ok(Command::Help),
        4 if is(b"VRFY") && argument.is_empty() => return Err(reply::C501_ARGUMENT_MISSING),
        4 if is(b"VRFY") => return Ok(Command::Vrfy),
        4 if is(b"AUTH") && terms.auth == AuthTerms::Offered => return auth(argument, terms, met),
        4 if is(b"AUTH") && terms.auth == AuthTerms::NeedsTls => return Err(reply::C538_TLS_NEEDED),
        8 if is(b"STARTTLS") && terms.has_starttls => return without_argument(argument, Command::StartTls),
        _ => {}
    }
    if NOT_IMPLEMENTED.into_iter().any(is) {
        return Err(reply::C502_NOT_IMPLEMENTED);
    }
    if HTTP.into_iter().any(is) && argument.windows(6).any(|octets| octets == b" HTTP/") {
        return Ok(Command::Http);
    }
    Err(reply::C500_UNKNOWN)
}

/// True when a line that begins with `start` is AUTH: such a line may be longer than any other.
pub fn is_auth(start: &[u8]) -> bool {
    start.split_at_checked(5).is_some_and(|(verb, _)| verb.eq_ignore_ascii_case(b"AUTH "))
}

/// `line` without the spaces and tabs at its end.
pub fn without_white_space_behind(line: &[u8]) -> &[u8] {
    &line[..line.len() - line.iter().rev().take_while(|&&octet| is_white_space(octet)).count()]
}

/// Not what the standard library takes for it: a CR in a line is none.
fn is_white_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

fn behind_white_space(octets: &[u8]) -> &[u8] {
    &octets[octets.iter().take_while(|&&octet| is_white_space(octet)).count()..]
}

fn without_argument(argument: &[u8], command: Command) -> Result<Command, &'static Reply> {
    if argument.is_empty() { Ok(command) } else { Err(reply::C501_NO_ARGUMENT_ALLOWED) }
}

fn client_name(argument: &[u8], terms: &Terms, met: &mut Quirks) -> Result<ClientName, &'static Reply> {
    let name = ClientName::parse(argument).map_err(|_| reply::C501_CLIENT_NAME)?;
    if name.octets().len() < argument.len() {
        tolerate(Quirk::HeloJunk, reply::C501_CLIENT_NAME, terms, met)?;
    }
    Ok(name)
}

fn mail(argument: &[u8], terms: &Terms, met: &mut Quirks) -> Result<Mail, &'static Reply> {
    let argument = behind_keyword(argument, b"FROM:", terms, met).ok_or(reply::C501_MAIL_SYNTAX)?;
    let utf8 = utf8_of(terms);
    let parsed = if argument.starts_with(b"<") {
        ReversePath::parse(argument, utf8)
    } else {
        tolerate(Quirk::MissingBrackets, reply::C501_REVERSE_PATH, terms, met)?;
        ReversePath::parse_bare(argument, utf8)
    };
    let (reverse_path, rest) = parsed.map_err(|error| match error {
        PathError::Syntax | PathError::Unqualified => reply::C501_REVERSE_PATH,
        PathError::TooLong => reply::C501_PATH_TOO_LONG,
        PathError::NotAscii => reply::C501_NOT_ASCII,
    })?;
    if !matches!(rest, [] | [b' ', ..]) {
        return Err(reply::C501_REVERSE_PATH);
    }
    let mut mail = Mail { reverse_path, size: None, body: None, utf8: false, ret: None, envid: None };
    let (mut smtputf8, mut identity) = (None, None);
    for parameter in parameters(rest) {
        let (keyword, value) = split_parameter(parameter)?;
        let is = |name: &[u8]| terms.service == Service::Extended && keyword.eq_ignore_ascii_case(name);
        if is(b"SIZE") {
            set_once(&mut mail.size, size(value))?;
        } else if is(b"BODY") {
            set_once(&mut mail.body, body(value))?;
        } else if is(b"SMTPUTF8") {
            set_once(&mut smtputf8, value.is_none().then_some(()))?;
        } else if is(b"AUTH") && terms.auth == AuthTerms::Offered {
            // Who the client says has submitted it: nobody here relies on that (RFC 4954 5).
            set_once(&mut identity, value.filter(|value| is_identity(value)).map(|_| ()))?;
        } else if is(b"RET") {
            set_once(&mut mail.ret, value.and_then(dsn::ret))?;
        } else if is(b"ENVID") {
            set_once(&mut mail.envid, legal(value, dsn::is_xtext))?;
        } else {
            return Err(reply::C555_PARAMETER);
        }
    }
    mail.utf8 = smtputf8.is_some();
    if !mail.utf8 && !mail.reverse_path.octets().is_ascii() {
        return Err(reply::C501_NOT_ASCII);
    }
    Ok(mail)
}

fn rcpt(argument: &[u8], terms: &Terms, met: &mut Quirks) -> Result<Rcpt, &'static Reply> {
    let argument = behind_keyword(argument, b"TO:", terms, met).ok_or(reply::C501_RCPT_SYNTAX)?;
    let utf8 = utf8_of(terms);
    let parsed = if argument.starts_with(b"<") {
        ForwardPath::parse(argument, utf8)
    } else {
        tolerate(Quirk::MissingBrackets, reply::C501_FORWARD_PATH, terms, met)?;
        ForwardPath::parse_bare(argument, utf8)
    };
    let (forward_path, rest) = parsed.map_err(|error| match error {
        PathError::Syntax | PathError::Unqualified => reply::C501_FORWARD_PATH,
        PathError::TooLong => reply::C501_PATH_TOO_LONG,
        PathError::NotAscii => reply::C501_NOT_ASCII,
    })?;
    if !matches!(rest, [] | [b' ', ..]) {
        return Err(reply::C501_FORWARD_PATH);
    }
    let mut rcpt = Rcpt { forward_path, notify: None, orcpt: None };
    for parameter in parameters(rest) {
        let (keyword, value) = split_parameter(parameter)?;
        let is = |name: &[u8]| terms.service == Service::Extended && keyword.eq_ignore_ascii_case(name);
        if is(b"NOTIFY") {
            set_once(&mut rcpt.notify, value.and_then(Notify::parse))?;
        } else if is(b"ORCPT") {
            set_once(&mut rcpt.orcpt, legal(value, dsn::is_orcpt))?;
        } else {
            return Err(reply::C555_PARAMETER);
        }
    }
    Ok(rcpt)
}

/// A value to be kept as it is, if it is legal and short enough.
fn legal<const N: usize>(value: Option<&[u8]>, is_legal: fn(&[u8]) -> bool) -> Option<Vec<u8, N>> {
    Vec::from_slice(value.filter(|value| is_legal(value))?).ok()
}

/// With EHLO, an address may be UTF-8 if MAIL says SMTPUTF8, which comes behind the first of them.
fn utf8_of(terms: &Terms) -> Utf8 {
    match terms.service {
        Service::Basic => Utf8::Refused,
        Service::Extended => Utf8::Accepted,
    }
}

/// RFC 3030 2: `BDAT octets [LAST]`. Without a count nothing follows, as far as anybody can tell.
fn bdat(argument: &[u8]) -> Result<Bdat, &'static Reply> {
    let mut words = argument.split(|&octet| is_white_space(octet)).filter(|word| !word.is_empty());
    let octets = words.next().and_then(decimal).ok_or(reply::C501_BDAT_SYNTAX)?;
    let (last, more) = (words.next(), words.next());
    let is_last = last.is_some_and(|word| word.eq_ignore_ascii_case(b"LAST"));
    Ok(Bdat { octets, is_last, is_legal: more.is_none() && (last.is_none() || is_last) })
}

/// RFC 4954 4: `AUTH mechanism [initial-response]`.
fn auth(argument: &[u8], terms: &Terms, met: &mut Quirks) -> Result<Command, &'static Reply> {
    let mut words = argument.split(|&octet| is_white_space(octet)).filter(|word| !word.is_empty());
    let (name, response, more) = (words.next(), words.next(), words.next());
    let name = name.ok_or(reply::C501_ARGUMENT_MISSING)?;
    let mechanism = Mechanism::named(name).ok_or(reply::C504_MECHANISM)?;
    if more.is_some() {
        return Err(reply::C501_AUTH_SYNTAX);
    }
    let response = match response {
        None => None,
        Some(b"=") => Some(Response(Some(heapless::Vec::new()))),
        Some(base64) => Some(Response::decode(base64, terms.tolerated, met).ok_or(reply::C501_BASE64)?),
    };
    if mechanism == Mechanism::Login && response.is_some() {
        tolerate(Quirk::AuthLogin, reply::C501_AUTH_SYNTAX, terms, met)?;
    }
    Ok(Command::Auth(mechanism, response))
}

/// Takes a habit of old devices, or not.
fn tolerate(
    quirk: Quirk,
    refusal: &'static Reply,
    terms: &Terms,
    met: &mut Quirks,
) -> Result<(), &'static Reply> {
    if !terms.tolerated.contains(quirk) {
        return Err(refusal);
    }
    met.insert(quirk);
    Ok(())
}

/// What stands behind `keyword`, which is in any case; white space there isn't in the grammar.
fn behind_keyword<'a>(
    argument: &'a [u8],
    keyword: &[u8],
    terms: &Terms,
    met: &mut Quirks,
) -> Option<&'a [u8]> {
    let (start, rest) = argument.split_at_checked(keyword.len())?;
    let behind = behind_white_space(rest);
    if !start.eq_ignore_ascii_case(keyword) {
        return None;
    }
    if behind.len() < rest.len() {
        if !terms.tolerated.contains(Quirk::SpaceAfterColon) {
            return None;
        }
        met.insert(Quirk::SpaceAfterColon);
    }
    Some(behind)
}

fn parameters(rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    rest.split(|&octet| octet == b' ').filter(|parameter| !parameter.is_empty())
}

/// esmtp-keyword and esmtp-value of RFC 5321 4.1.2.
fn split_parameter(parameter: &[u8]) -> Result<(&[u8], Option<&[u8]>), &'static Reply> {
    let equals = parameter.iter().position(|&octet| octet == b'=');
    let (keyword, value) = match equals {
        Some(at) => (&parameter[..at], Some(&parameter[at + 1..])),
        None => (parameter, None),
    };
    let is_keyword = keyword.first().is_some_and(u8::is_ascii_alphanumeric)
        && keyword.iter().all(|&octet| octet.is_ascii_alphanumeric() || octet == b'-');
    let is_value = |value: &[u8]| {
        !value.is_empty() && value.iter().all(|&octet| octet.is_ascii_graphic() && octet != b'=')
    };
    if is_keyword && value.is_none_or(is_value) { Ok((keyword, value)) } else { Err(reply::C501_PARAMETER) }
}

fn set_once<T>(place: &mut Option<T>, value: Option<T>) -> Result<(), &'static Reply> {
    if place.is_some() || value.is_none() {
        return Err(reply::C501_PARAMETER);
    }
    *place = value;
    Ok(())
}

/// RFC 1870 5: one to twenty digits.
fn size(value: Option<&[u8]>) -> Option<u64> {
    decimal(value?)
}

/// One to twenty digits; past 2^64 it is `u64::MAX`.
fn decimal(digits: &[u8]) -> Option<u64> {
    if !(1..=20).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, add))
}

fn body(value: Option<&[u8]>) -> Option<Body> {
    match value? {
        value if value.eq_ignore_ascii_case(b"7BIT") => Some(Body::SevenBit),
        value if value.eq_ignore_ascii_case(b"8BITMIME") => Some(Body::EightBitMime),
        _ => None,
    }
}

/// `<>` or an address, as xtext (RFC 4954 5): a plus stands in front of two hexadecimal digits.
fn is_identity(value: &[u8]) -> bool {
    let mut pieces = value.split(|&octet| octet == b'+');
    pieces.next();
    pieces.all(|piece| {
        let hex = |octet: &u8| octet.is_ascii_digit() || (b'A'..=b'F').contains(octet);
        piece.len() >= 2 && piece[..2].iter().all(hex)
    })
}
