//! Replies (RFC 5321 4.2) with enhanced status codes (RFC 3463, RFC 2034), in the order of their codes.
//!
//! A constant reply is kept as it goes on the wire and checked by the compiler: form, one code on all lines,
//! printable ASCII, line length, enhanced status where RFC 2034 wants one. Replies with a name or an address
//! in them are rendered into a line of fixed size. Nothing that a peer sent is ever echoed, except its own
//! address.

use core::fmt::{self, Display, Write};

use super::extension::Extension;
use super::trace::Origin;
use crate::buffer::Buffer;
use crate::limits::{DOMAIN_OCTETS_MAX, OUTPUT_OCTETS, REPLY_LINE_OCTETS_MAX};

/// Octets of the largest reply, all its lines together. A command is handled only while so much room is in
/// the output.
pub const REPLY_OCTETS_MAX: usize = REPLY_LINE_OCTETS_MAX;

const _: () = assert!(REPLY_OCTETS_MAX <= OUTPUT_OCTETS);
// "250-", our name, and a line for each extension.
const _: () = assert!("250-\r\n".len() + DOMAIN_OCTETS_MAX + Extension::LINES_OCTETS_MAX <= REPLY_OCTETS_MAX);

/// A reply that is always the same.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    wire: &'static str,
}

/// Why a session is closed by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// It said QUIT.
    Quit,
    /// It was silent, or too slow, for too long.
    TimedOut,
    /// Its place is needed for a new client.
    Evicted,
    /// The relay stops.
    ShuttingDown,
    /// One bad command too many.
    TooManyErrors,
    /// It speaks HTTP.
    NotSmtp,
    /// One wrong password too many.
    TooManyLogins,
    /// It wants to begin a message while the disk has failed.
    SpoolFailing,
    /// It speaks TLS, and others do so already, as many as can.
    TlsCrowded,
}

/// STARTTLS: the handshake comes next.
pub const C220_TLS: &Reply = &Reply::new("220 2.0.0 Begin with TLS\r\n");
/// HELP.
pub const C214_HELP: &Reply = &Reply::new(
    "214-2.0.0 Commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP HELP VRFY QUIT STARTTLS AUTH\r\n\
     214 2.0.0 See RFC 5321\r\n",
);
/// AUTH: the client is who it says.
pub const C235_LOGGED_IN: &Reply = &Reply::new("235 2.7.0 Logged in\r\n");
/// NOOP, RSET.
pub const C250_OK: &Reply = &Reply::new("250 2.0.0 OK\r\n");
/// MAIL.
pub const C250_REVERSE_PATH: &Reply = &Reply::new("250 2.1.0 Reverse-path OK\r\n");
/// RCPT.
pub const C250_FORWARD_PATH: &Reply = &Reply::new("250 2.1.5 Forward-path OK\r\n");
/// BDAT: a chunk that isn't the last.
pub const C250_CHUNK: &Reply = &Reply::new("250 2.0.0 Chunk received\r\n");
/// VRFY: a relay can't know (RFC 5321 3.5.3).
pub const C252_CANNOT_VERIFY: &Reply =
    &Reply::new("252 2.5.2 Can't verify, but will take the message and try to deliver it\r\n");
/// AUTH PLAIN: the response is waited for.
pub const C334_RESPONSE: &Reply = &Reply::new("334 \r\n");
/// AUTH LOGIN: the user's name is; "Username:" in base64, by which some devices go.
pub const C334_USER: &Reply = &Reply::new("334 VXNlcm5hbWU6\r\n");
/// AUTH LOGIN: the password is; "Password:".
pub const C334_PASSWORD: &Reply = &Reply::new("334 UGFzc3dvcmQ6\r\n");
/// DATA.
pub const C354_MAIL_DATA: &Reply = &Reply::new("354 Send the mail data, end with <CRLF>.<CRLF>\r\n");
/// The disk has failed.
pub const C451_SPOOL_FAILING: &Reply = &Reply::new("451 4.3.0 The spool can't be written now, try later\r\n");
/// A client that sends more than is let in.
pub const C451_TOO_MANY_MESSAGES: &Reply =
    &Reply::new("451 4.7.1 Too many messages from you in a minute; see \"limits.messages_per_minute\"\r\n");
/// The client's mail fills its share of the spool.
pub const C452_SHARE_FULL: &Reply = &Reply::new(
    "452 4.3.1 Your mail fills its share of the spool, try later; see \"limits.spool_share\"\r\n",
);
/// The spool is full.
pub const C452_STORAGE_FULL: &Reply = &Reply::new("452 4.3.1 The spool is full, try later\r\n");
/// One RCPT too many.
pub const C452_TOO_MANY_RECIPIENTS: &Reply =
    &Reply::new("452 4.5.3 Too many recipients, send the rest in another transaction\r\n");
/// AUTH from an address that has guessed too often.
pub const C454_LOGINS_LIMITED: &Reply =
    &Reply::new("454 4.7.0 Too many failed logins from your address, try in ten minutes\r\n");
/// STARTTLS while others speak TLS, as many as can.
pub const C454_TLS_CROWDED: &Reply = &Reply::new("454 4.7.0 Too many clients speak TLS now, try later\r\n");
/// Not a verb at all.
pub const C500_UNKNOWN: &Reply = &Reply::new("500 5.5.1 Command unknown\r\n");
/// Past the limit of a command line.
pub const C500_LINE_TOO_LONG: &Reply = &Reply::new("500 5.5.2 Command line too long\r\n");
/// LF without CR in a command line.
pub const C500_BARE_LF: &Reply = &Reply::new("500 5.5.2 Command lines must end with CR LF, not LF\r\n");
/// An octet that can't be in a command.
pub const C501_OCTETS: &Reply = &Reply::new("501 5.5.2 Control or 8-bit octet in the command\r\n");
/// An argument where none may be.
pub const C501_NO_ARGUMENT_ALLOWED: &Reply = &Reply::new("501 5.5.4 No argument is allowed here\r\n");
/// No argument where one must be.
pub const C501_ARGUMENT_MISSING: &Reply = &Reply::new("501 5.5.4 An argument is missing\r\n");
/// BDAT without a count.
pub const C501_BDAT_SYNTAX: &Reply = &Reply::new("501 5.5.4 Syntax: BDAT octets [LAST]\r\n");
/// AUTH with more than a response.
pub const C501_AUTH_SYNTAX: &Reply = &Reply::new("501 5.5.4 Syntax: AUTH mechanism [response]\r\n");
/// A response that is no base64.
pub const C501_BASE64: &Reply = &Reply::new("501 5.5.2 The response is not base64\r\n");
/// A response of `*`.
pub const C501_CANCELLED: &Reply = &Reply::new("501 5.7.0 Login cancelled\r\n");
/// EHLO, HELO.
pub const C501_CLIENT_NAME: &Reply =
    &Reply::new("501 5.5.4 The argument must be a domain or an address literal\r\n");
/// MAIL without FROM.
pub const C501_MAIL_SYNTAX: &Reply =
    &Reply::new("501 5.5.4 Syntax: MAIL FROM:<reverse-path> [parameters]\r\n");
/// RCPT without TO.
pub const C501_RCPT_SYNTAX: &Reply = &Reply::new("501 5.5.4 Syntax: RCPT TO:<forward-path>\r\n");
/// A malformed parameter, or one given twice.
pub const C501_PARAMETER: &Reply = &Reply::new("501 5.5.4 Malformed or repeated parameter\r\n");
/// A malformed reverse-path.
pub const C501_REVERSE_PATH: &Reply = &Reply::new("501 5.1.7 Malformed reverse-path\r\n");
/// A reverse-path without a domain.
pub const C501_REVERSE_PATH_UNQUALIFIED: &Reply =
    &Reply::new("501 5.1.7 The reverse-path needs a domain; give it one, or set \"domain\"\r\n");
/// A malformed forward-path.
pub const C501_FORWARD_PATH: &Reply = &Reply::new("501 5.1.3 Malformed forward-path\r\n");
/// A path past RFC 5321 4.5.3.1.
pub const C501_PATH_TOO_LONG: &Reply =
    &Reply::new("501 5.1.3 Address too long: 64 octets before the @, 256 in all\r\n");
/// An address that needs SMTPUTF8.
pub const C501_NOT_ASCII: &Reply = &Reply::new("501 5.6.7 Address has octets that are not ASCII\r\n");
/// A verb of some RFC that isn't served.
pub const C502_NOT_IMPLEMENTED: &Reply = &Reply::new("502 5.5.1 Command not implemented\r\n");
/// MAIL before EHLO.
pub const C503_EHLO_FIRST: &Reply = &Reply::new("503 5.5.1 EHLO or HELO first\r\n");
/// MAIL in a transaction.
pub const C503_MAIL_ALREADY: &Reply = &Reply::new("503 5.5.1 A transaction is open already\r\n");
/// RCPT or DATA outside a transaction.
pub const C503_MAIL_FIRST: &Reply = &Reply::new("503 5.5.1 MAIL first\r\n");
/// DATA, MAIL or RCPT behind BDAT.
pub const C503_BDAT_GOES_ON: &Reply = &Reply::new("503 5.5.1 The message has begun with BDAT\r\n");
/// AUTH in a transaction.
pub const C503_AUTH_IN_TRANSACTION: &Reply = &Reply::new("503 5.5.1 No AUTH in a transaction\r\n");
/// AUTH a second time.
pub const C503_LOGGED_IN: &Reply = &Reply::new("503 5.5.1 Logged in already\r\n");
/// STARTTLS in a transaction.
pub const C503_TLS_IN_TRANSACTION: &Reply = &Reply::new("503 5.5.1 No STARTTLS in a transaction\r\n");
/// STARTTLS a second time.
pub const C503_TLS_ALREADY: &Reply = &Reply::new("503 5.5.1 This is TLS already\r\n");
/// BDAT, AUTH or STARTTLS after HELO.
pub const C503_EHLO_NEEDED: &Reply = &Reply::new("503 5.5.1 EHLO first; HELO has no extensions\r\n");
/// DATA without a recipient.
pub const C503_RCPT_FIRST: &Reply = &Reply::new("503 5.5.1 No recipient was accepted\r\n");
/// AUTH with a mechanism that isn't offered.
pub const C504_MECHANISM: &Reply = &Reply::new("504 5.5.4 Offered are PLAIN and LOGIN\r\n");
/// A wrong name or password; which, is not told.
pub const C535_LOGIN_FAILED: &Reply = &Reply::new("535 5.7.8 Name or password is wrong\r\n");
/// AUTH in plain where it is offered inside TLS.
pub const C538_TLS_NEEDED: &Reply =
    &Reply::new("538 5.7.11 STARTTLS first; passwords go inside TLS only\r\n");
/// A recipient that isn't in `relay_to`.
pub const C550_NOT_RELAYED_TO: &Reply =
    &Reply::new("550 5.7.1 No mail is relayed to this recipient; add it to \"relay_to\"\r\n");
/// A local name that nobody reads.
pub const C550_NO_ADMIN: &Reply =
    &Reply::new("550 5.1.1 Nobody gets mail for local names here; set \"admin\"\r\n");
/// A message past the limit.
pub const C552_TOO_LARGE: &Reply = &Reply::new("552 5.3.4 Message too large\r\n");
/// The mail data has gone through too many relays.
pub const C554_LOOP: &Reply = &Reply::new("554 5.4.6 Too many Received fields: a mail loop\r\n");
/// A CR that no LF follows in mail data.
pub const C554_BARE_CR: &Reply = &Reply::new("554 5.6.0 Bare CR in the mail data\r\n");
/// An LF that no CR precedes in mail data.
pub const C554_BARE_LF: &Reply = &Reply::new("554 5.6.0 Bare LF in the mail data\r\n");
/// A line of text past RFC 5321 4.5.3.1.6, where that is refused.
pub const C554_LONG_LINE: &Reply =
    &Reply::new("554 5.6.0 A line of more than 1,000 octets; see \"quirks.long_lines\"\r\n");
/// A parameter of no extension that is in use.
pub const C555_PARAMETER: &Reply = &Reply::new("555 5.5.4 Parameter not recognized or not implemented\r\n");

impl Reply {
    const fn new(wire: &'static str) -> Self {
        let octets = wire.as_bytes();
        assert!(octets.len() <= REPLY_OCTETS_MAX && octets.is_ascii());
        let mut line = 0;
        while line < octets.len() {
            let mut end = line;
            while octets[end] != b'\r' {
                assert!(octets[end] >= b' ' && octets[end] < 0x7F);
                end += 1;
            }
            assert!(octets[end + 1] == b'\n');
            assert!(end + 2 - line <= REPLY_LINE_OCTETS_MAX);
            let is_last = end + 2 == octets.len();
            assert!(octets[line + 3] == if is_last { b' ' } else { b'-' });
            let code = [octets[line], octets[line + 1], octets[line + 2]];
            assert!(code[0] == octets[0] && code[1] == octets[1] && code[2] == octets[2]);
            assert!(code[0] >= b'2' && code[0] <= b'5' && code[1] <= b'5' && code[2].is_ascii_digit());
            // RFC 2034 4: all but 3yz begin with a status of the same class.
            assert!(code[0] == b'3' || (octets[line + 4] == code[0] && octets[line + 5] == b'.'));
            line = end + 2;
        }
        Self { wire }
    }

    /// The reply code, 214 to 555.
    pub const fn code(&self) -> u16 {
        let octets = self.wire.as_bytes();
        (octets[0] - b'0') as u16 * 100 + (octets[1] - b'0') as u16 * 10 + (octets[2] - b'0') as u16
    }

    /// The reply as it goes on the wire, with the last CRLF.
    pub const fn wire(&self) -> &'static str {
        self.wire
    }

    /// Appends it; there must be [`REPLY_OCTETS_MAX`] octets of room.
    pub fn write(&self, output: &mut Buffer) {
        output.append(self.wire.as_bytes());
    }
}

/// Appends the greeting (RFC 5321 4.3.1), with name and version when `announce` is set (RFC 5321 7.4).
pub fn write_greeting(output: &mut Buffer, hostname: &str, announce: bool) {
    let software = if announce { concat!(" postern ", env!("CARGO_PKG_VERSION")) } else { "" };
    append(output, format_args!("220 {} ESMTP{software}\r\n", Hostname(hostname)));
}

/// Appends the reply to EHLO: our name and the extensions.
pub fn write_ehlo(output: &mut Buffer, hostname: &str, offer: &Offer) {
    append(output, format_args!("250-{}\r\n{offer}", Hostname(hostname)));
}

/// Appends the reply to HELO.
pub fn write_helo(output: &mut Buffer, hostname: &str) {
    append(output, format_args!("250 {}\r\n", Hostname(hostname)));
}

/// Appends the reply to the end of mail data that was made durable as `id`.
pub fn write_queued(output: &mut Buffer, id: impl Display) {
    append(output, format_args!("250 2.0.0 Queued as {id}\r\n"));
}

/// What [`write_may_not_relay`] says, without the client.
pub const MAY_NOT_RELAY: &str = "550 5.7.1 may not relay here; add it to \"allow\"\r\n";
/// What [`write_login_needed`] says, without the client.
pub const LOGIN_NEEDED: &str =
    "530 5.7.0 may not relay here without AUTH; log in, or add it to \"allow\"\r\n";

/// Appends the refusal of a client that may not relay, and what would change it.
pub fn write_may_not_relay(output: &mut Buffer, client: Origin) {
    append(output, format_args!("550 5.7.1 {client} may not relay here; add it to \"allow\"\r\n"));
}

/// Appends the refusal of a client that may relay only when it logs in; with `needs_tls`, inside TLS.
pub fn write_login_needed(output: &mut Buffer, client: Origin, needs_tls: bool) {
    let (what, how) = if needs_tls { ("STARTTLS and AUTH", "do both") } else { ("AUTH", "log in") };
    append(
        output,
        format_args!(
            "530 5.7.0 {client} may not relay here without {what}; {how}, or add it to \"allow\"\r\n"
        ),
    );
}

/// Appends the last reply of a session, if there is room: a peer that doesn't read gets none.
pub fn write_farewell(output: &mut Buffer, hostname: &str, farewell: Farewell) {
    let (code, text) = match farewell {
        Farewell::Quit => ("221 2.0.0", "closing"),
        Farewell::TimedOut => ("421 4.4.2", "timed out, closing"),
        Farewell::Evicted => ("421 4.3.2", "busy, closing the session that was idle for longest"),
        Farewell::ShuttingDown => ("421 4.3.2", "shutting down"),
        Farewell::TooManyErrors => ("421 4.7.0", "too many bad commands, closing"),
        Farewell::NotSmtp => ("421 4.7.0", "this is SMTP, closing"),
        Farewell::TooManyLogins => ("421 4.7.0", "too many failed logins, closing"),
        Farewell::TlsCrowded => ("421 4.7.0", "too many clients speak TLS now, try later"),
        Farewell::SpoolFailing => ("421 4.3.0", "the spool can't be written now, try later, closing"),
    };
    let line = render(format_args!("{code} {} {text}\r\n", Hostname(hostname)));
    if line.len() <= output.room() {
        output.append(line.as_bytes());
    }
}

fn append(output: &mut Buffer, arguments: fmt::Arguments) {
    output.append(render(arguments).as_bytes());
}

fn render(arguments: fmt::Arguments) -> heapless::String<REPLY_OCTETS_MAX> {
    let mut line = heapless::String::new();
    line.write_fmt(arguments).expect("the parts of every reply are bounded");
    line
}

/// Our name as the first word of a reply: bounded, and printable whatever the configuration says.
struct Hostname<'a>(&'a str);

impl Display for Hostname<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().take(DOMAIN_OCTETS_MAX).try_for_each(|octet| {
            f.write_char(if octet.is_ascii_graphic() { char::from(octet) } else { '?' })
        })
    }
}

/// What the reply to EHLO offers beside what it always does; its `Display` gives the lines of all extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The largest message taken, in octets.
    pub size: u64,
    /// STARTTLS.
    pub starttls: bool,
    /// AUTH.
    pub auth: bool,
}

impl Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = Extension::OFFERED.len() - 1;
        for (index, extension) in Extension::OFFERED.into_iter().enumerate() {
            let is_left_out = match extension {
                Extension::StartTls => !self.starttls,
                Extension::Auth => !self.auth,
                Extension::Size
                | Extension::EightBitMime
                | Extension::Pipelining
                | Extension::EnhancedStatusCodes
                | Extension::Chunking
                | Extension::SmtpUtf8
                | Extension::Dsn
                | Extension::Help => false,
            };
            if is_left_out {
                continue;
            }
            let hyphen = if index == last { ' ' } else { '-' };
            write!(f, "250{hyphen}{}", extension.keyword())?;
            if extension == Extension::Size {
                write!(f, " {}", self.size)?;
            }
            f.write_str("\r\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Window;

    fn written(write: impl FnOnce(&mut Buffer)) -> String {
        let (mut octets, mut window) = ([0; REPLY_OCTETS_MAX], Window::default());
        let mut output = Buffer::new(&mut octets, &mut window);
        write(&mut output);
        String::from_utf8(output.octets().to_vec()).unwrap()
    }

    #[test]
    fn the_largest_replies_fit() {
        let name = "d".repeat(300);
        let ehlo = written(|output| {
            write_ehlo(output, &name, &Offer { size: u64::MAX, starttls: true, auth: true })
        });
        assert!(ehlo.starts_with(&format!("250-{}\r\n250-SIZE 18446744073709551615\r\n", "d".repeat(255))));
        assert!(ehlo.ends_with("\r\n250-STARTTLS\r\n250-AUTH PLAIN LOGIN\r\n250 HELP\r\n"));
        let less =
            written(|output| write_ehlo(output, &name, &Offer { size: 1, starttls: false, auth: false }));
        assert!(!less.contains("AUTH") && !less.contains("STARTTLS"));
        assert!(written(|output| write_greeting(output, &name, true)).contains(" postern "));
        let client =
            Origin::from("1111:2222:3333:4444:5555:6666:7777:8888".parse::<core::net::IpAddr>().unwrap());
        assert!(written(|output| write_may_not_relay(output, client)).ends_with("add it to \"allow\"\r\n"));
        assert!(
            written(|output| write_farewell(output, &name, Farewell::Evicted)).starts_with("421 4.3.2 ddd")
        );
    }

    #[test]
    fn codes() {
        assert_eq!(C250_OK.code(), 250);
        assert_eq!(C354_MAIL_DATA.code(), 354);
        assert_eq!(written(|output| write_helo(output, "a\r\nb")), "250 a??b\r\n");
    }
}
