//! Hands one message in by SMTP (RFC 5321 3.3), over whatever leads to a receiver.
//!
//! Either all recipients are taken or none: a refused one is told to the caller, who has the message still,
//! and nothing is sent to the others.

use std::fmt::Write as _;
use std::io::{self, ErrorKind};

use super::super::{EXIT_DATA, EXIT_IO, EXIT_NO_HOST, EXIT_NO_USER, EXIT_NOT_PERMITTED, EXIT_TRY_LATER};
use super::super::{EXIT_UNAVAILABLE, Failure};
use super::message::Message;
use super::options::{Options, shown};
use crate::buffer::{Buffer, Window};
use crate::smtp::dsn;
use crate::smtp::reply_reader::{ReplyReader, Severity};
use crate::smtp::stuffing::Stuffing;

/// Octets of the buffers in both directions.
const BUFFER_OCTETS: usize = 16 * 1024;

/// A way to a receiver.
pub(super) trait Link {
    /// Sends all of `octets`.
    fn send(&mut self, octets: &[u8]) -> io::Result<()>;
    /// Waits for octets of a reply; none: the other end has closed.
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize>;
}

/// What stands around a message.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    /// Our name.
    pub(super) hostname: &'a str,
    /// Without angle brackets; empty for the null one.
    pub(super) reverse_path: &'a [u8],
    /// The same for each recipient.
    pub(super) forward_paths: &'a [Vec<u8>],
    /// Who asked for what.
    pub(super) options: &'a Options,
}

/// Why a message was not handed in.
#[derive(Debug)]
pub(super) enum Stop {
    /// For good, or for the caller to try again.
    Refused(Failure),
    /// The receiver is busy, or went away before it had the message: asking again may help at once.
    TryAgain(String),
    /// It says nothing, and won't at once.
    Silent(String),
    /// It went away when it had the message, and may have kept it.
    Unknown(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            return Self::Silent("the relay doesn't answer".to_owned());
        }
        Self::TryAgain(format!("the relay went away: {error}"))
    }
}

/// The receiver's reply.
#[derive(Debug)]
struct Reply {
    code: u16,
    severity: Severity,
    /// The last line's, without the code.
    text: String,
}

struct Conversation<L> {
    link: L,
    replies: ReplyReader,
    input: Vec<u8>,
    window: Window,
}

/// Hands `message` in; gives the receiver's last reply.
pub(super) fn submit(link: impl Link, envelope: &Envelope, message: &mut Message) -> Result<String, Stop> {
    let mut conversation = Conversation {
        link,
        replies: ReplyReader::new(),
        input: vec![0; BUFFER_OCTETS],
        window: Window::default(),
    };
    conversation.expect(None, "the relay")?;
    conversation.command(&format!("EHLO {}\r\n", envelope.hostname), "EHLO")?;
    let mut octets = b"MAIL FROM:<".to_vec();
    octets.extend_from_slice(envelope.reverse_path);
    octets.extend_from_slice(parameters(envelope, message).as_bytes());
    conversation.link.send(&octets)?;
    conversation.expect(Some(EXIT_DATA), &format!("sender {}", shown(envelope.reverse_path)))?;
    for path in envelope.forward_paths {
        let mut octets = b"RCPT TO:<".to_vec();
        octets.extend_from_slice(path);
        octets.push(b'>');
        if envelope.options.notify.is_given() {
            octets.extend_from_slice(format!(" NOTIFY={}", envelope.options.notify).as_bytes());
        }
        octets.extend_from_slice(b"\r\n");
        conversation.link.send(&octets)?;
        conversation.expect(Some(EXIT_NO_USER), &format!("recipient {}", shown(path)))?;
    }
    conversation.command("DATA\r\n", "the message")?;
    conversation.mail_data(message)?;
    let reply = match conversation.reply() {
        // Without a reply nobody knows; with one that says no, it was not taken.
        Err(Stop::TryAgain(what) | Stop::Silent(what)) => return Err(Stop::Unknown(what)),
        reply => judge(reply?, Some(EXIT_DATA), "the message")?,
    };
    // The message is safe; a receiver that doesn't hear the end of the session is none the worse.
    let _ = conversation.link.send(b"QUIT\r\n");
    Ok(format!("{} {}", reply.code, reply.text))
}

/// What MAIL says behind the reverse-path.
fn parameters(envelope: &Envelope, message: &Message) -> String {
    let octets = message.fields.octets() + b"\r\n".len() as u64 + message.body.octets();
    let mut line = format!("> SIZE={octets}");
    if message.is_8bit {
        line += " BODY=8BITMIME";
    }
    let paths = envelope.forward_paths.iter().map(|path| &path[..]).chain([envelope.reverse_path]);
    if !paths.into_iter().all(<[u8]>::is_ascii) {
        line += " SMTPUTF8";
    }
    if let Some(word) = dsn::ret_word(envelope.options.ret) {
        let _ = write!(line, " RET={word}");
    }
    if !envelope.options.envid.is_empty() {
        let _ = write!(line, " ENVID={}", String::from_utf8_lossy(&envelope.options.envid));
    }
    line + "\r\n"
}

impl<L: Link> Conversation<L> {
    fn command(&mut self, line: &str, what: &str) -> Result<Reply, Stop> {
        self.link.send(line.as_bytes())?;
        self.expect(None, what)
    }

    /// The next reply, if it says yes.
    fn expect(&mut self, code: Option<u8>, what: &str) -> Result<Reply, Stop> {
        judge(self.reply()?, code, what)
    }

    fn reply(&mut self) -> Result<Reply, Stop> {
        loop {
            let mut input = Buffer::new(&mut self.input, &mut self.window);
            match self.replies.read(&mut input) {
                Ok(Some(line)) if line.is_end() => {
                    let text = String::from_utf8_lossy(self.replies.text()).into_owned();
                    return Ok(Reply { code: self.replies.code(), severity: self.replies.severity(), text });
                }
                Ok(Some(_)) => continue,
                Ok(None) => {}
                Err(_) => {
                    let line = "the relay speaks no SMTP".to_owned();
                    return Err(Stop::Refused(Failure { code: EXIT_IO, line }));
                }
            }
            match self.link.receive(input.space())? {
                0 => return Err(Stop::TryAgain("the relay closed the connection".to_owned())),
                count => input.filled(count),
            }
        }
    }

    /// Sends the message with its dots doubled, and its end.
    fn mail_data(&mut self, message: &mut Message) -> Result<(), Stop> {
        let Message { fields, body, .. } = message;
        let mut octets = vec![0; BUFFER_OCTETS];
        let mut window = Window::default();
        let mut stuffing = Stuffing::new();
        let link = &mut self.link;
        let mut send = |mut run: &[u8]| -> Result<(), Stop> {
            while !run.is_empty() {
                let mut output = Buffer::new(&mut octets, &mut window);
                let taken = stuffing.append(run, &mut output);
                run = &run[taken..];
                link.send(output.octets())?;
                output.clear();
            }
            Ok(())
        };
        for field in fields.iter() {
            send(field)?;
        }
        send(b"\r\n")?;
        body.replay(&mut send)?;
        let mut output = Buffer::new(&mut octets, &mut window);
        assert!(stuffing.end(&mut output), "the buffer is empty and large enough");
        self.link.send(output.octets())?;
        Ok(())
    }
}

/// The reply, if it says yes. `code` is the exit code of a refusal whose enhanced status tells nothing
/// better.
fn judge(reply: Reply, code: Option<u8>, what: &str) -> Result<Reply, Stop> {
    match reply.severity {
        Severity::Completion | Severity::Intermediate => Ok(reply),
        Severity::Transient if reply.code == 421 => {
            Err(Stop::TryAgain(format!("the relay says: {} {}", reply.code, reply.text)))
        }
        Severity::Transient | Severity::Permanent => {
            let line = format!("{what}: {} {}", reply.code, reply.text);
            Err(Stop::Refused(Failure { code: exit_code(&reply, code.unwrap_or(EXIT_UNAVAILABLE)), line }))
        }
    }
}

/// The exit code for a refusal, by its enhanced status (RFC 3463).
fn exit_code(reply: &Reply, default: u8) -> u8 {
    if reply.severity == Severity::Transient {
        return EXIT_TRY_LATER;
    }
    let status = reply.text.split(' ').next().unwrap_or_default();
    let (_, status) = status.split_once('.').unwrap_or_default();
    match status {
        "1.1" | "1.3" | "1.6" => EXIT_NO_USER,
        "1.2" | "1.10" => EXIT_NO_HOST,
        "3.4" | "5.2" | "5.4" => EXIT_DATA,
        _ if status.starts_with("7.") => EXIT_NOT_PERMITTED,
        _ if status.starts_with("6.") => EXIT_DATA,
        _ => default,
    }
}
