//! `sendmail`, `mailq` and `newaliases`, as cron, scripts and mail programs call them: a message on stdin is
//! in the spool when this ends with 0, whoever is to get it.
//!
//! It goes through the relay's submission socket, which tells the relay who the user is; while no relay runs,
//! straight into the spool if the caller may write there. Else the exit code is 75 and the caller has the
//! message still. Either all recipients are taken or none. No dead.letter is written.
//!
//! The envelope comes from the command line and, with `-t`, from the header section (RFC 2821 appendix B):
//! see `fields`. What else a message lacks (Date, Message-ID) the receiver adds.

mod direct;
mod fields;
mod identity;
mod message;
mod options;
mod smtp;
mod submission;
mod text;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::direct::Direct;
use self::fields::{Recipients, Sender, qualified};
use self::message::Message;
use self::options::{Mode, Options, shown};
use self::submission::{Envelope, Link, Stop};
use super::{EXIT_DATA, EXIT_TRY_LATER, Failure, HELP, configuration, print, system_name, tool};
use crate::config::{self, Config};
use crate::limits;
use crate::smtp::address_list::AddressList;
use crate::smtp::path::is_domain;
use crate::spool::OpenError;

/// Where the relay listens, if no configuration can be read that says something else: the default, and where
/// OpenWrt has its like.
const SUBMIT_PATHS_DEFAULT: [&str; 2] = ["/run/postern/submit.sock", "/var/run/postern/submit.sock"];
/// How long the relay may take for a reply (RFC 5321 4.5.3.2).
const REPLY_TIMEOUT: Duration = Duration::from_secs(300);
/// How often a busy relay is asked, and a spool that another one has just now.
const TRIES_MAX: u32 = 20;
/// How long is waited in between.
const TRY_EVERY: Duration = Duration::from_millis(500);

/// What of the configuration matters here.
#[derive(Debug)]
struct Settings {
    submit_path: PathBuf,
    hostname: String,
    /// Completes names without a domain.
    domain: String,
    message_octets_max: u64,
    /// Where it could be read.
    config: Option<Config>,
}

/// Runs as `arguments` (behind the program's name) ask.
pub(super) fn run(arguments: Vec<OsString>) -> Result<(), Failure> {
    let options = Options::parse(arguments)?;
    match options.mode {
        Mode::Submit => submit(&options),
        Mode::Smtp => smtp::run(&Settings::read(&options)?.submit_path),
        Mode::List => tool::ask(options.config_path(), "queue"),
        Mode::Retry => tool::ask(options.config_path(), "retry"),
        Mode::Aliases => Ok(()),
        Mode::Help => print(HELP),
    }
}

impl Settings {
    /// By the configuration; a user who may not read the default one does without.
    fn read(options: &Options) -> Result<Self, Failure> {
        let path = options.config_path();
        let is_out_of_reach =
            |error: io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied);
        if options.config.is_none() && File::open(path).is_err_and(is_out_of_reach) {
            let name = system_name();
            let hostname = if is_domain(name.as_bytes()) { name } else { "localhost".to_owned() };
            let is_there = |path: &&str| Path::new(path).exists();
            let submit_path = SUBMIT_PATHS_DEFAULT.into_iter().find(is_there);
            return Ok(Self {
                submit_path: submit_path.unwrap_or(SUBMIT_PATHS_DEFAULT[0]).into(),
                domain: hostname.clone(),
                hostname,
                message_octets_max: limits::MESSAGE_OCTETS,
                config: None,
            });
        }
        let config = configuration(path)?;
        Ok(Self {
            submit_path: config.submit.path.clone(),
            hostname: config.hostname.clone(),
            domain: config.domain.as_ref().unwrap_or(&config.hostname).clone(),
            message_octets_max: config.limits.message_octets,
            config: Some(config),
        })
    }
}

fn submit(options: &Options) -> Result<(), Failure> {
    if options.recipients.is_empty() && !options.reads_recipients {
        return Err(Failure::usage("no recipient is named; name one, or read them from the header with -t"));
    }
    let settings = Settings::read(options)?;
    let mut recipients = Recipients::default();
    for argument in &options.recipients {
        recipients.add_argument(argument)?;
    }
    let given =
        options.reverse_path.as_deref().map(|given| reverse_path(given, &settings.domain)).transpose()?;
    let stdin = &mut io::stdin().lock();
    let mut message = Message::read(stdin, options.is_dot_text, settings.message_octets_max)?;
    if options.reads_recipients {
        message.fields.recipients(&mut recipients)?;
        if recipients.paths().is_empty() {
            let line = "no recipient is named in To, Cc or Bcc, or on the command line".to_owned();
            return Err(Failure { code: EXIT_DATA, line });
        }
    }
    let identity = if given.is_none() { identity::address(&settings.domain) } else { None };
    let is_identity = identity.is_some();
    let sender = match given.or(identity) {
        Some(address) => address,
        None => {
            let originator = message.fields.originator()?;
            let Some(originator) = originator else {
                let line = "this user has no name, and From names no sender; name one with -f".to_owned();
                return Err(Failure { code: EXIT_DATA, line });
            };
            qualified(&originator, &settings.domain)
        }
    };
    message.fields.complete(&Sender {
        address: &sender,
        domain: &settings.domain,
        is_identity,
        full_name: options.full_name.as_deref(),
    });
    let envelope = Envelope {
        hostname: &settings.hostname,
        reverse_path: &sender,
        forward_paths: recipients.paths(),
        options,
    };
    let reply = hand_in(&settings, &envelope, &mut message)?;
    if options.is_verbose { print(&format!("{reply}\n")) } else { Ok(()) }
}

/// The address that `-f` gives; none in it is the null reverse-path.
fn reverse_path(given: &[u8], domain: &str) -> Result<Vec<u8>, Failure> {
    if matches!(given.trim_ascii(), b"" | b"<>") {
        return Ok(Vec::new());
    }
    let mut list = AddressList::new(given);
    let is_line = !given.iter().any(u8::is_ascii_control);
    match (list.next(), list.next()) {
        (Some(Ok(address)), None) if is_line => Ok(qualified(&address, domain)),
        _ => Err(Failure { code: EXIT_DATA, line: format!("sender {}: no address", shown(given)) }),
    }
}

/// Through the relay, or past it; waits for a while for one that is busy or just starting.
fn hand_in(settings: &Settings, envelope: &Envelope, message: &mut Message) -> Result<String, Failure> {
    let mut reason = String::new();
    for number in 0..TRIES_MAX {
        if number > 0 {
            std::thread::sleep(TRY_EVERY);
        }
        let stopped = match UnixStream::connect(&settings.submit_path) {
            Ok(stream) => submission::submit(Socket::new(stream)?, envelope, message),
            Err(error) if is_nobody(&error) => match direct(settings) {
                Ok(direct) => submission::submit(direct, envelope, message),
                Err(OpenError::InUse) => {
                    Err(Stop::TryAgain("it has the spool, but doesn't listen".to_owned()))
                }
                Err(error) => return Err(not_running(settings, &error)),
            },
            Err(error) => Err(Stop::TryAgain(error.to_string())),
        };
        reason = match stopped {
            Ok(reply) => return Ok(reply),
            Err(Stop::Refused(failure)) => return Err(failure),
            Err(Stop::Unknown(reason)) => {
                let line = format!("{reason}; the message may have been taken all the same");
                return Err(Failure { code: EXIT_TRY_LATER, line });
            }
            Err(Stop::Silent(line)) => return Err(Failure { code: EXIT_TRY_LATER, line }),
            Err(Stop::TryAgain(reason)) => reason,
        };
    }
    let line = format!("the relay at {}: {reason}", settings.submit_path.display());
    Err(Failure { code: EXIT_TRY_LATER, line })
}

/// True when no relay listens.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

fn direct(settings: &Settings) -> Result<Direct, OpenError> {
    match &settings.config {
        Some(config) => Direct::open(config),
        None => Err(OpenError::Io(ErrorKind::PermissionDenied.into())),
    }
}

fn not_running(settings: &Settings, error: &OpenError) -> Failure {
    let path = settings.submit_path.display();
    let why = match &settings.config {
        Some(config) => format!("the spool {}: {error}", config.spool.path.display()),
        None => format!("{} can't be read", config::PATH_DEFAULT),
    };
    Failure { code: EXIT_TRY_LATER, line: format!("no relay listens at {path}; {why}") }
}

/// A connection to the relay.
struct Socket(UnixStream);

impl Socket {
    fn new(stream: UnixStream) -> Result<Self, Failure> {
        let timeout = Some(REPLY_TIMEOUT);
        let set = stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout));
        set.map_err(|error| Failure::io("the relay's socket", &error))?;
        Ok(Self(stream))
    }
}

impl Link for Socket {
    fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut self.0, octets)
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match io::Read::read(&mut self.0, into) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_read_the_configuration_finds_the_relay_all_the_same() {
        let text = "[smarthost]\nhost = \"192.0.2.25\"\ntls = \"none\"\n";
        let config = Config::parse(text, "postern.toml".as_ref(), "relay.example").unwrap();
        assert_eq!(config.submit.path.as_os_str(), SUBMIT_PATHS_DEFAULT[0]);
    }
}
