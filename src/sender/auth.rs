//! The login to the smarthost (RFC 4954): which mechanism, and its lines (PLAIN: RFC 4616, LOGIN, XOAUTH2,
//! OAUTHBEARER: RFC 7628).
//!
//! A [`Secret`] is handed in for one login and wiped behind it, like everything that was made of it; nothing
//! here can be printed with it. The exchange has a bound: a smarthost that asks on and on is answered with
//! `*`.
//!
//! Absent on purpose: challenges that are computed with (CRAM-MD5, SCRAM). Behind verified TLS they guard
//! against nothing but the smarthost itself.
use core::fmt;

use base64ct::{Base64, Encoding as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::token::TokenFault;
use crate::buffer::Buffer;
use crate::config::{Login, Mechanism, USER_OCTETS_MAX};
use crate::limits::DOMAIN_OCTETS_MAX;
use crate::smtp::reply_reader::Severity;

/// Octets of a secret; the longest access tokens have a few thousand.
pub const SECRET_OCTETS_MAX: usize = 7680;
/// RFC 4954 4: longer lines are not sent. With the longest user, host and secret none is.
const LINE_OCTETS_MAX: usize = 12288;
const _: () = assert!(
    encoded_octets(3 * USER_OCTETS_MAX + DOMAIN_OCTETS_MAX + SECRET_OCTETS_MAX + 64) <= LINE_OCTETS_MAX
);
/// RFC 4954 4: an initial response that would make the command longer follows on the first 334.
const COMMAND_OCTETS_MAX: usize = 512;

/// A password or a token. Debug shows neither, and it is wiped when dropped.
pub struct Secret {
    octets: Zeroizing<Vec<u8>>,
    may_be_renewed: bool,
}

impl Secret {
    /// Takes the content of a file: a final line end is not of the secret.
    ///
    /// # Errors
    /// [`SecretFault::Empty`] and [`SecretFault::Malformed`].
    pub fn new(mut octets: Zeroizing<Vec<u8>>) -> Result<Self, SecretFault> {
        for end in [b'\n', b'\r'] {
            if octets.last() == Some(&end) {
                octets.pop();
            }
        }
        if octets.is_empty() {
            return Err(SecretFault::Empty);
        }
        if octets.len() > SECRET_OCTETS_MAX || octets.iter().any(|octet| b"\0\r\n".contains(octet)) {
            return Err(SecretFault::Malformed);
        }
        Ok(Self { octets, may_be_renewed: false })
    }

    /// The secret itself, for another use than a login.
    pub fn into_octets(self) -> Zeroizing<Vec<u8>> {
        self.octets
    }

    /// The same, of which a refusal may mean only that its time is over: another one is asked for then, once.
    pub fn renewable(self) -> Self {
        Self { may_be_renewed: true, ..self }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why there is no secret to log in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretFault {
    /// There is no such file.
    Missing,
    /// It can't be read.
    Unreadable,
    /// Others may read it: its mode must be 0600, or 0640.
    Exposed,
    /// It has no content.
    Empty,
    /// It is longer than [`SECRET_OCTETS_MAX`], or has more than one line, or NUL in it.
    Malformed,
}

impl fmt::Display for SecretFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the secret's file does not exist",
            Self::Unreadable => "the secret's file can't be read",
            Self::Exposed => "the secret's file may be read by others; set its mode to 0600 or 0640",
            Self::Empty => "the secret's file is empty",
            Self::Malformed => "the secret's file has not one line of up to 7680 octets",
        })
    }
}

/// What is wrong with the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginFault {
    /// The smarthost refused it (535 and other 5yz), or asked without end.
    Refused,
    /// It can't judge it now (454, 432 and other 4yz).
    Unavailable,
    /// There were too many logins.
    TooMany,
    /// It offers no mechanism for the secret there is, or not the one configured.
    NoMechanism,
    /// There is no secret.
    Secret(SecretFault),
    /// There is no access token.
    Token(TokenFault),
}

impl LoginFault {
    /// True when another try needs another secret or another setting, and too many tries may lock the
    /// account.
    pub(super) const fn is_lasting(self) -> bool {
        match self {
            Self::Unavailable => false,
            Self::Token(fault) => fault.is_lasting(),
            Self::Refused | Self::TooMany | Self::NoMechanism | Self::Secret(_) => true,
        }
    }
}

impl fmt::Display for LoginFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "it refused the login",
            Self::Unavailable => "it can't take a login now",
            Self::TooMany => "there were too many logins",
            Self::NoMechanism => "it offers no login that can be used",
            Self::Secret(fault) => return fault.fmt(f),
            Self::Token(fault) => return write!(f, "no access token from token_url: {fault}"),
        })
    }
}

/// The mechanisms in the reply to EHLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offered([bool; Mechanism::ALL.len()]);

impl Offered {
    /// Takes a mechanism's name.
    pub(super) fn take(&mut self, name: &[u8]) {
        for (offered, mechanism) in self.0.iter_mut().zip(Mechanism::ALL) {
            *offered |= mechanism.name().as_bytes().eq_ignore_ascii_case(name);
        }
    }

    /// The best mechanism for `login`, or the one that it wants.
    pub(super) fn choose(self, login: &Login) -> Option<Mechanism> {
        let has_token = login.secret.is_token();
        let fits = |mechanism: Mechanism| match login.mechanism {
            Some(wanted) => mechanism == wanted,
            None => mechanism.takes_token() == has_token,
        };
        let offered = Mechanism::ALL.into_iter().zip(self.0).filter(|(_, offered)| *offered);
        offered.map(|(mechanism, _)| mechanism).find(|mechanism| fits(*mechanism))
    }
}

/// What the smarthost's reply means for the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Logged in.
    Accepted,
    /// The next line is to be written.
    Continue,
    /// It is over, but another secret may do better at once.
    Stale,
    /// It is over.
    Over(LoginFault),
}

/// What the smarthost is being told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// AUTH without an initial response; the user's name or the whole answer follows on 334.
    Command,
    /// LOGIN: the user's name was written.
    User,
    /// All that there is to say was written.
    Said,
    /// The answer to a token's error was written, so that the refusal itself can come.
    Acknowledged,
    /// `*` was written.
    Cancelled,
}

/// One login under way.
pub(super) struct Exchange {
    mechanism: Mechanism,
    step: Step,
    may_be_renewed: bool,
    user: Vec<u8>,
    /// The secret itself (LOGIN), or the whole response.
    response: Zeroizing<Vec<u8>>,
    /// The line to be written, with CRLF.
    line: Zeroizing<Vec<u8>>,
    /// So much of it was.
    written: usize,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("mechanism", &self.mechanism).field("step", &self.step).finish()
    }
}

impl Exchange {
    /// Begins to log in at `host` and `port`; the first line is to be written.
    pub(super) fn new(mechanism: Mechanism, user: &str, secret: &Secret, (host, port): (&str, u16)) -> Self {
        let may_be_renewed = secret.may_be_renewed;
        let secret = secret.octets.as_slice();
        let user = user.as_bytes();
        let port = port.to_string();
        let response: &[&[u8]] = match mechanism {
            Mechanism::Plain => &[b"\0", user, b"\0", secret],
            Mechanism::Login => &[secret],
            Mechanism::Xoauth2 => &[b"user=", user, b"\x01auth=Bearer ", secret, b"\x01\x01"],
            Mechanism::Oauthbearer => {
                let (host, port) = (host.as_bytes(), port.as_bytes());
                &[
                    b"n,a=",
                    &escaped(user),
                    b",\x01host=",
                    host,
                    b"\x01port=",
                    port,
                    b"\x01auth=Bearer ",
                    secret,
                    b"\x01\x01",
                ]
            }
        };
        let response = joined(response);
        let mut exchange = Self {
            mechanism,
            step: Step::Command,
            may_be_renewed,
            user: user.to_vec(),
            response,
            line: Zeroizing::default(),
            written: 0,
        };
        let command = ["AUTH ", mechanism.name()].concat();
        let has_initial_response = mechanism != Mechanism::Login
            && command.len() + " ".len() + encoded_octets(exchange.response.len()) <= COMMAND_OCTETS_MAX;
        if has_initial_response {
            exchange.line = line_of(&[command.as_bytes(), b" "], &exchange.response);
            exchange.step = Step::Said;
        } else {
            exchange.line = line_of(&[command.as_bytes()], b"");
        }
        exchange
    }

    /// Which mechanism it is.
    pub(super) fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Writes what there is room for; false when there was nothing to write.
    pub(super) fn write(&mut self, output: &mut Buffer<'_>) -> bool {
        let rest = &self.line[self.written..];
        let count = rest.len().min(output.room());
        output.append(&rest[..count]);
        self.written += count;
        count > 0
    }

    /// True when the whole line was written: only then a reply can answer it.
    pub(super) fn is_written(&self) -> bool {
        self.written == self.line.len()
    }

    /// Takes the reply to the line.
    pub(super) fn reply(&mut self, severity: Severity) -> Answer {
        match severity {
            _ if self.step == Step::Cancelled => Answer::Over(LoginFault::Refused),
            Severity::Completion => Answer::Accepted,
            Severity::Transient => Answer::Over(LoginFault::Unavailable),
            Severity::Permanent if self.may_be_renewed => Answer::Stale,
            Severity::Permanent => Answer::Over(LoginFault::Refused),
            Severity::Intermediate => {
                self.challenged();
                Answer::Continue
            }
        }
    }

    /// 334 asks for the next line, whatever its text is.
    fn challenged(&mut self) {
        let (step, line) = match (self.step, self.mechanism) {
            (Step::Command, Mechanism::Login) => (Step::User, line_of(&[], &self.user)),
            (Step::Command, _) | (Step::User, _) => (Step::Said, line_of(&[], &self.response)),
            // A token's error, which wants an answer before the refusal comes.
            (Step::Said, Mechanism::Xoauth2) => (Step::Acknowledged, line_of(&[], b"")),
            (Step::Said, Mechanism::Oauthbearer) => (Step::Acknowledged, line_of(&[], b"\x01")),
            (Step::Said | Step::Acknowledged | Step::Cancelled, _) => {
                (Step::Cancelled, line_of(&[b"*"], b""))
            }
        };
        self.step = step;
        self.line = line;
        self.written = 0;
    }
}

/// How many octets so many are in base64, with CRLF.
const fn encoded_octets(octets: usize) -> usize {
    octets.div_ceil(3) * 4 + "\r\n".len()
}

/// `head` and `octets` in base64 as a line, made without a copy that would stay.
fn line_of(head: &[&[u8]], octets: &[u8]) -> Zeroizing<Vec<u8>> {
    let head_octets: usize = head.iter().map(|part| part.len()).sum();
    let mut line = Zeroizing::new(vec![0; head_octets + encoded_octets(octets.len())]);
    let mut at = 0;
    for part in head {
        line[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    let encoded = Base64::encode(octets, &mut line[at..]).expect("the room was computed").len();
    line[at + encoded..].copy_from_slice(b"\r\n");
    line
}

fn joined(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let octets = parts.iter().map(|part| part.len()).sum();
    let mut joined = Zeroizing::new(Vec::with_capacity(octets));
    parts.iter().for_each(|part| joined.extend_from_slice(part));
    joined
}

/// A name as RFC 5801 4 has it in front of OAUTHBEARER: `,` and `=` stand for themselves nowhere.
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::new();
    for octet in name {
        match octet {
            b',' => escaped.extend_from_slice(b"=2C"),
            b'=' => escaped.extend_from_slice(b"=3D"),
            octet => escaped.push(*octet),
        }
    }
    escaped
}

/// Wipes what a login has left in the output's free space.
pub(super) fn wipe(output: &mut Buffer<'_>) {
    output.space().zeroize();
}
