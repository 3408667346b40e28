//! Commands (RFC 5321 4.1.1) with the parameters of SIZE (RFC 1870), 8BITMIME (RFC 6152) and DSN (RFC 3461).
//!
//! A [`Command`] is legal in itself; whether it may come now is the session's business. Everything malformed
//! becomes the reply that it gets. Verbs and keywords are taken in any case. More lenient than the grammar on
//! purpose: white space at the end of a line (RFC 5321 4.1.1), spaces after `FROM:` and `TO:` (many devices
//! send one), several spaces between parameters.

use heapless::Vec;

use super::dsn::{self, ENVID_OCTETS_MAX, Notify, ORCPT_OCTETS_MAX};
use super::path::{ClientName, ForwardPath, PathError, ReversePath, Utf8};
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

/// Verbs of other RFCs, and those of RFC 821 that a relay leaves out: 502 and not 500 (RFC 5321 4.2.4).
const NOT_IMPLEMENTED: [&[u8]; 9] =
    [b"EXPN", b"SEND", b"SAML", b"SOML", b"TURN", b"ETRN", b"STARTTLS", b"AUTH", b"BDAT"];

/// The methods of HTTP that a browser or a proxy can be made to send.
const HTTP: [&[u8]; 7] = [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"CONNECT"];

/// Parses `line`, which has no CRLF any more.
pub fn parse(line: &[u8], service: Service) -> Result<Command, &'static Reply> {
    let line = &line[..line.len() - line.iter().rev().take_while(|&&octet| is_white_space(octet)).count()];
    let verb_octets = line.iter().position(|octet| !octet.is_ascii_alphanumeric()).unwrap_or(line.len());
    let (verb, rest) = line.split_at(verb_octets);
    let is = |name: &[u8]| verb.eq_ignore_ascii_case(name);
    let is_separated = rest.first().is_none_or(|&octet| is_white_space(octet));
    if !is_separated {
        return Err(reply::C500_UNKNOWN);
    }
    let argument = behind_white_space(rest);
    let is_path_verb = is(b"MAIL") || is(b"RCPT");
    if argument.iter().any(|&octet| octet.is_ascii_control() || !(octet.is_ascii() || is_path_verb)) {
        return Err(reply::C501_OCTETS);
    }
    match verb.len() {
        4 if is(b"MAIL") => return mail(argument, service).map(Command::Mail),
        4 if is(b"RCPT") => return rcpt(argument, service).map(Command::Rcpt),
        4 if is(b"DATA") => return without_argument(argument, Command::Data),
        4 if is(b"EHLO") => return client_name(argument).map(Command::Ehlo),
        4 if is(b"HELO") => return client_name(argument).map(Command::Helo),
        4 if is(b"RSET") => return without_argument(argument, Command::Rset),
        4 if is(b"QUIT") => return without_argument(argument, Command::Quit),
        4 if is(b"NOOP") => return Ok(Command::Noop),
        4 if is(b"HELP") => return Ok(Command::Help),
        4 if is(b"VRFY") && argument.is_empty() => return Err(reply::C501_ARGUMENT_MISSING),
        4 if is(b"VRFY") => return Ok(Command::Vrfy),
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

fn client_name(argument: &[u8]) -> Result<ClientName, &'static Reply> {
    ClientName::parse(argument).map_err(|_| reply::C501_CLIENT_NAME)
}

fn mail(argument: &[u8], service: Service) -> Result<Mail, &'static Reply> {
    let argument = behind_keyword(argument, b"FROM:").ok_or(reply::C501_MAIL_SYNTAX)?;
    let (reverse_path, rest) = ReversePath::parse(argument, Utf8::Refused).map_err(|error| match error {
        PathError::Syntax => reply::C501_REVERSE_PATH,
        PathError::TooLong => reply::C501_PATH_TOO_LONG,
        PathError::Unqualified => reply::C501_REVERSE_PATH_UNQUALIFIED,
        PathError::NotAscii => reply::C501_NOT_ASCII,
    })?;
    if !matches!(rest, [] | [b' ', ..]) {
        return Err(reply::C501_REVERSE_PATH);
    }
    let mut mail = Mail { reverse_path, size: None, body: None, ret: None, envid: None };
    for parameter in parameters(rest) {
        let (keyword, value) = split_parameter(parameter)?;
        let is_known = service == Service::Extended;
        if is_known && keyword.eq_ignore_ascii_case(b"SIZE") {
            set_once(&mut mail.size, size(value))?;
        } else if is_known && keyword.eq_ignore_ascii_case(b"BODY") {
            set_once(&mut mail.body, body(value))?;
        } else if is_known && keyword.eq_ignore_ascii_case(b"RET") {
            set_once(&mut mail.ret, value.and_then(dsn::ret))?;
        } else if is_known && keyword.eq_ignore_ascii_case(b"ENVID") {
            set_once(&mut mail.envid, legal(value, dsn::is_xtext))?;
        } else {
            return Err(reply::C555_PARAMETER);
        }
    }
    Ok(mail)
}

fn rcpt(argument: &[u8], service: Service) -> Result<Rcpt, &'static Reply> {
    let argument = behind_keyword(argument, b"TO:").ok_or(reply::C501_RCPT_SYNTAX)?;
    let (forward_path, rest) = ForwardPath::parse(argument, Utf8::Refused).map_err(|error| match error {
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
        let is_known = service == Service::Extended;
        if is_known && keyword.eq_ignore_ascii_case(b"NOTIFY") {
            set_once(&mut rcpt.notify, value.and_then(Notify::parse))?;
        } else if is_known && keyword.eq_ignore_ascii_case(b"ORCPT") {
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

/// `keyword` in any case, then spaces that the grammar doesn't know.
fn behind_keyword<'a>(argument: &'a [u8], keyword: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = argument.split_at_checked(keyword.len())?;
    start.eq_ignore_ascii_case(keyword).then(|| behind_white_space(rest))
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
    let digits = value.filter(|digits| digits.len() <= 20 && digits.iter().all(u8::is_ascii_digit))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn code(line: &[u8]) -> u16 {
        parse(line, Service::Extended).map_or_else(Reply::code, |_| 250)
    }

    fn mail(line: &str) -> Result<(Option<u64>, Option<Body>), u16> {
        match parse(line.as_bytes(), Service::Extended) {
            Ok(Command::Mail(mail)) => Ok((mail.size, mail.body)),
            Ok(other) => panic!("{other:?}"),
            Err(reply) => Err(reply.code()),
        }
    }

    #[test]
    fn verbs() {
        for line in
            ["ehlo x", "HeLo [1.2.3.4]", "data \t", "RSET ", "noop hello there", "HELP x", "vrfy a", "quit"]
        {
            assert_eq!(code(line.as_bytes()), 250, "{line}");
        }
        for line in
            ["EHLO", "RSET x", "DATA x", "QUIT x", "VRFY", "MAIL", "RCPT", "MAIL TO:<a@b>", "RCPT a@b"]
        {
            assert_eq!(code(line.as_bytes()), 501, "{line}");
        }
        for line in ["", "FOOBAR", "XFOO", "NOOP;", " NOOP", "NOOPx", "GET"] {
            assert_eq!(code(line.as_bytes()), 500, "{line}");
        }
        for line in ["EXPN x", "send", "SAML", "SOML", "TURN", "ETRN x", "STARTTLS", "AUTH PLAIN", "BDAT 3"] {
            assert_eq!(code(line.as_bytes()), 502, "{line}");
        }
        assert_eq!(parse(b"GET / HTTP/1.1", Service::Basic), Ok(Command::Http));
        for line in [
            &b"NOOP \0"[..],
            b"NOOP \xe9",
            b"NOOP \r",
            b"NOOP \rx",
            b"DATA \x0c",
            b"MAIL FROM:<a\x1b@b>",
            b"RCPT TO:<\xc3\xa9@b>",
        ] {
            assert_eq!(code(line), 501, "{}", line.escape_ascii());
        }
    }

    /// DSN-a, DSN-b, DSN-e.
    #[test]
    fn notification_parameters() {
        let dsn = |line: &str| match parse(line.as_bytes(), Service::Extended) {
            Ok(Command::Mail(mail)) => Ok((mail.ret, mail.envid.map(|envid| envid.to_vec()), None)),
            Ok(Command::Rcpt(rcpt)) => Ok((None, rcpt.orcpt.map(|orcpt| orcpt.to_vec()), rcpt.notify)),
            Ok(other) => panic!("{other:?}"),
            Err(reply) => Err(reply.code()),
        };
        let mail = |parameters: &str| dsn(&format!("MAIL FROM:<a@b> {parameters}"));
        let rcpt = |parameters: &str| dsn(&format!("RCPT TO:<a@b> {parameters}"));
        assert_eq!(mail("ret=hdrs ENVID=QQ+2B1"), Ok((Some(1), Some(b"QQ+2B1".to_vec()), None)));
        let notify = Notify::parse(b"SUCCESS,DELAY");
        assert_eq!(
            rcpt("NOTIFY=DELAY,SUCCESS orcpt=rfc822;A@b"),
            Ok((None, Some(b"rfc822;A@b".to_vec()), notify))
        );
        let envid = "x".repeat(ENVID_OCTETS_MAX);
        assert_eq!(mail(&format!("ENVID={envid}")), Ok((None, Some(envid.clone().into_bytes()), None)));
        let orcpt = format!("rfc822;{}", "x".repeat(ORCPT_OCTETS_MAX - 7));
        assert!(rcpt(&format!("ORCPT={orcpt}")).is_ok());
        for bad in ["RET=ALL", "RET", "RET=FULL RET=FULL", "ENVID=", "ENVID=+0A", "ENVID=a ENVID=a"] {
            assert_eq!(mail(bad), Err(501), "{bad}");
        }
        for bad in ["NOTIFY=NEVER,DELAY", "NOTIFY", "NOTIFY=NEVER NOTIFY=NEVER", "ORCPT=a@b", "ORCPT=x;+0a"] {
            assert_eq!(rcpt(bad), Err(501), "{bad}");
        }
        assert_eq!(mail(&format!("ENVID={envid}x")), Err(501));
        assert_eq!(rcpt(&format!("ORCPT={orcpt}x")), Err(501));
        assert_eq!(mail("NOTIFY=NEVER"), Err(555));
        assert_eq!(rcpt("RET=FULL"), Err(555));
        assert_eq!(parse(b"RCPT TO:<a@b> NOTIFY=NEVER", Service::Basic), Err(reply::C555_PARAMETER));
    }

    #[test]
    fn mail_parameters() {
        assert_eq!(mail("mAiL fRoM:<a@b>"), Ok((None, None)));
        assert_eq!(mail("MAIL FROM: <> size=10  BODY=8bitmime"), Ok((Some(10), Some(Body::EightBitMime))));
        assert_eq!(mail("MAIL FROM:<a@b> SIZE=99999999999999999999"), Ok((Some(u64::MAX), None)));
        assert_eq!(mail("MAIL FROM:<a@b> BODY=7BIT"), Ok((None, Some(Body::SevenBit))));
        for bad in [
            "SIZE=abc",
            "SIZE=",
            "SIZE",
            "SIZE=1 SIZE=2",
            "=x",
            "BODY=",
            "BODY=x",
            "BODY=7BIT BODY=7BIT",
            "a=b=c",
        ] {
            assert_eq!(mail(&format!("MAIL FROM:<a@b> {bad}")), Err(501), "{bad}");
        }
        assert_eq!(mail("MAIL FROM:<a@b> SIZE=000000000000000000001"), Err(501));
        assert_eq!(mail("MAIL FROM:<a@b> FOO=BAR"), Err(555));
        assert_eq!(mail("MAIL FROM:<a@b>SIZE=1"), Err(501));
        assert_eq!(code(b"RCPT TO:<a@b> FOO"), 555);
        assert_eq!(code(b"RCPT TO:<a@b> =x"), 501);
        assert_eq!(parse(b"MAIL FROM:<a@b> SIZE=1", Service::Basic), Err(reply::C555_PARAMETER));
    }
}
