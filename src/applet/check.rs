//! `postern check`: the configuration, and then the way of a message to each smarthost, a step a line, up to
//! the replies to MAIL and RCPT. Nothing is sent unless `--send` asks for it.
//!
//! The steps are the relay's own, so that what works here works there. The first step that fails ends the way
//! to that smarthost, with what to do about it, and names the exit code.

mod certificate;

use std::ffi::OsStr;
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};

use self::certificate::{base64, presented};
use super::advice::{self, Failed};
use super::{Failure, configuration, print};
use crate::config::{Config, Smarthost};
use crate::net::clock;
use crate::net::probe::{self, Event, Probe};
use crate::sender::{Fault, LoginFault};
use crate::smtp::date::Date;
use crate::smtp::path::{ForwardPath, Utf8};

const DAY_S: i64 = 24 * 60 * 60;

/// What to check.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) config: PathBuf,
    /// The configuration only.
    pub(super) is_offline: bool,
    /// To whom a test message is to be sent.
    pub(super) send_to: Option<String>,
}

/// The stages, by which the exit code tells where it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Spool,
    Secret,
    Clock,
    Resolve,
    Connect,
    Greeting,
    Tls,
    Login,
    Sender,
    Recipient,
    Data,
}

impl Stage {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Spool => "spool",
            Self::Secret => "secret",
            Self::Clock => "clock",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Tls => "tls",
            Self::Login => "login",
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Data => "send",
        }
    }

    const fn exit_code(self) -> u8 {
        match self {
            Self::Spool => 10,
            Self::Secret => 11,
            Self::Clock => 12,
            Self::Resolve => 13,
            Self::Connect => 14,
            Self::Greeting => 15,
            Self::Tls => 16,
            Self::Login => 17,
            Self::Sender => 18,
            Self::Recipient => 19,
            Self::Data => 20,
        }
    }
}

/// Where the way to a smarthost ended.
struct Ended(Stage);

impl Check {
    pub(super) fn new(config: PathBuf) -> Self {
        Self { config, is_offline: false, send_to: None }
    }

    /// Checks, and prints what it finds.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let config = configuration(&self.config)?;
        let listener = certificate::of_listeners(&config).map_err(|error| Failure {
            code: error.exit_code(),
            line: format!("{}: {error}", self.config.display()),
        })?;
        if self.is_offline {
            if let Some((is_good, text)) = &listener
                && !is_good
            {
                print(&format!("note: {text}\n"))?;
            }
            return print("ok\n");
        }
        say("ok", "configuration", &self.config.display().to_string())?;
        if let Some((is_good, text)) = listener {
            say(if is_good { "ok" } else { "note" }, "listener", &text)?;
        }
        let mut first_failed = None;
        let mut keep = |ended: Result<(), Stop>| match ended {
            Ok(()) => Ok(()),
            Err(Stop::At(Ended(stage))) => {
                first_failed = first_failed.or(Some(stage));
                Ok(())
            }
            Err(Stop::Failure(failure)) => Err(failure),
        };
        keep(spool(&config))?;
        clock_step(&config)?;
        for at in 0..config.smarthosts.len() {
            keep(Way { config: &config, at, send_to: self.send_to.as_deref() }.walk())?;
        }
        match first_failed {
            None => Ok(()),
            Some(stage) => {
                let line = format!("check: {} failed; see above", stage.name());
                Err(Failure { code: stage.exit_code(), line })
            }
        }
    }
}

/// The address behind `--send`.
pub(super) fn recipient(argument: &OsStr) -> Result<String, Failure> {
    let address = argument.to_str().unwrap_or_default();
    match ForwardPath::parse_bare(address.as_bytes(), Utf8::Refused) {
        Ok((ForwardPath::Mailbox(_), [])) => Ok(address.to_owned()),
        Ok(_) | Err(_) => Err(Failure::usage("check: --send wants an address, as in you@example.com")),
    }
}

/// What ends a way early.
enum Stop {
    /// A step failed, and that was told.
    At(Ended),
    /// It could not be told.
    Failure(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// One line: when, the verdict, the step, what of it.
fn say(verdict: &str, step: &str, text: &str) -> Result<(), Failure> {
    let of_day = clock::now().wall.unix_s % DAY_S as u64;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    print(&format!("{hour:02}:{minute:02}:{second:02} {verdict:<4} {step:<13} {text}\n"))
}

/// Tells that a step failed, and what to do.
fn fail(stage: Stage, text: &str, failed: &Failed<'_>) -> Result<(), Stop> {
    say("FAIL", stage.name(), text)?;
    for line in advice::of(failed) {
        print(&format!("{:>28} {line}\n", "->"))?;
    }
    Err(Stop::At(Ended(stage)))
}

fn spool(config: &Config) -> Result<(), Stop> {
    let path = &config.spool.path;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mebi = config.spool.octets >> 20;
    if path.exists() {
        say("ok", "spool", &format!("{}, {mebi} MiB", path.display()))?;
    } else if folder.is_dir() {
        say("ok", "spool", &format!("{}, {mebi} MiB, made by the first \"postern serve\"", path.display()))?;
    } else {
        let text = format!("{}: no such folder", folder.display());
        return fail(Stage::Spool, &text, &Failed::at(Stage::Spool));
    }
    Ok(())
}

/// The clock by itself is never a failure: it is one where a certificate needs it.
fn clock_step(config: &Config) -> Result<(), Failure> {
    let wall = clock::now().wall;
    let date = Date { unix_s: wall.unix_s };
    let needs_clock = config.smarthosts.iter().any(|smarthost| smarthost.needs_clock(config.clock));
    match (wall.is_trusted, needs_clock) {
        (true, _) => say("ok", "clock", &date.to_string()),
        (false, false) => say("ok", "clock", &format!("{date}: not set, and not needed")),
        (false, true) => say("note", "clock", &format!("{date}: not set")),
    }
}

/// The way to one smarthost.
struct Way<'a> {
    config: &'a Config,
    at: usize,
    send_to: Option<&'a str>,
}

impl Way<'_> {
    fn smarthost(&self) -> &Smarthost {
        &self.config.smarthosts[self.at]
    }

    /// What is known of a failure beside its fault.
    fn failed(&self, stage: Stage) -> Failed<'_> {
        let smarthost = self.smarthost();
        Failed { host: &smarthost.host, port: smarthost.port, tls: Some(smarthost.tls), ..Failed::at(stage) }
    }

    fn walk(&self) -> Result<(), Stop> {
        let smarthost = self.smarthost();
        if let Some(login) = &smarthost.login
            && let Err((path, fault)) = probe::secret(login)
        {
            let text = format!("{}: {fault}", path.display());
            return fail(Stage::Secret, &text, &self.failed(Stage::Secret));
        }
        if smarthost.needs_clock(self.config.clock) && !clock::now().wall.is_trusted {
            let text = "the clock is not set, so that no certificate can be judged";
            return fail(Stage::Clock, text, &self.failed(Stage::Clock));
        }
        let (socket, address) = self.connect(&self.resolve()?)?;
        let mut probe = match Probe::new(self.config, self.at, socket) {
            Ok(probe) => probe,
            Err(error) => return fail(Stage::Tls, &error.to_string(), &self.failed(Stage::Tls)),
        };
        let mut told = Told::new();
        let mut broken = None;
        let opened = probe.open(&mut |event| {
            if let Err(failure) = told.take(&event) {
                broken = Some(failure);
            }
        });
        if let Some(failure) = broken {
            return Err(failure.into());
        }
        match opened {
            Ok(()) => told.finish(smarthost)?,
            Err(fault) => return self.fail_to_open(fault, told.stage(), &probe, address),
        }
        self.transaction(&mut probe)
    }

    fn resolve(&self) -> Result<Vec<IpAddr>, Stop> {
        let host = &self.smarthost().host;
        match probe::resolve(host) {
            Ok(addresses) => {
                let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                say("ok", "resolve", &format!("{host}: {}", list.join(", ")))?;
                Ok(addresses)
            }
            Err(why) => {
                let text = format!("{host}: {why}");
                let failed = Failed { fault: Some(Fault::Resolve(why)), ..self.failed(Stage::Resolve) };
                fail(Stage::Resolve, &text, &failed).map(|()| Vec::new())
            }
        }
    }

    fn connect(&self, addresses: &[IpAddr]) -> Result<(TcpStream, IpAddr), Stop> {
        let port = self.smarthost().port;
        let mut last = None;
        for address in addresses {
            match probe::connect(*address, port) {
                Ok(socket) => {
                    say("ok", "connect", &format!("{address} port {port}"))?;
                    return Ok((socket, *address));
                }
                Err(error) => {
                    say("note", "connect", &format!("{address} port {port}: {error}"))?;
                    last = Some(error.kind());
                }
            }
        }
        let failed = Failed { fault: Some(Fault::Connect), socket: last, ..self.failed(Stage::Connect) };
        let stopped = fail(Stage::Connect, "no address of it can be connected to", &failed);
        Err(stopped.err().unwrap_or(Stop::At(Ended(Stage::Connect))))
    }

    fn fail_to_open(
        &self,
        fault: Fault,
        reached: Stage,
        probe: &Probe<'_>,
        address: IpAddr,
    ) -> Result<(), Stop> {
        let stage = match fault {
            Fault::Tls(_) => Stage::Tls,
            Fault::Login(LoginFault::Secret(_)) => Stage::Secret,
            Fault::Login(_) => Stage::Login,
            Fault::Resolve(_)
            | Fault::Connect
            | Fault::Greeting
            | Fault::Hello
            | Fault::Unauthenticated
            | Fault::TooBusy
            | Fault::Sender
            | Fault::Rate
            | Fault::Quota
            | Fault::Unwilling
            | Fault::Protocol
            | Fault::Timeout
            | Fault::Lost => reached,
        };
        let reply = probe.last_words().unwrap_or_default();
        let colon = if reply.is_empty() { "" } else { ": " };
        let pin = probe.presented().map(|presented| base64(&presented.pin));
        let failed = Failed {
            fault: Some(fault),
            reply: &reply,
            pin: pin.as_deref(),
            is_private: is_private(address),
            ..self.failed(stage)
        };
        fail(stage, &format!("{fault}{colon}{reply}"), &failed)
    }

    /// MAIL and RCPT as the relay would send them for its administrator, and the message, if wanted.
    fn transaction(&self, probe: &mut Probe<'_>) -> Result<(), Stop> {
        let sender = self.sender();
        self.step(probe, Stage::Sender, &format!("MAIL FROM:<{sender}>"))?;
        let Some(recipient) = self.send_to.or(self.config.admin.as_deref()) else {
            return self.leave(probe);
        };
        self.step(probe, Stage::Recipient, &format!("RCPT TO:<{recipient}>"))?;
        if self.send_to.is_none() {
            return self.leave(probe);
        }
        let (code, text) = probe.command("DATA", &mut |_| {}).map_err(|fault| self.lost(fault))?;
        if code != 354 {
            let failed = Failed { reply: &format!("{code} {text}"), ..self.failed(Stage::Data) };
            return fail(Stage::Data, &format!("DATA: {code} {text}"), &failed);
        }
        let (code, text) = probe.say(&self.message(&sender, recipient)).map_err(|fault| self.lost(fault))?;
        let told = format!("{code} {text}");
        if code / 100 != 2 {
            let failed = Failed { reply: &told, ..self.failed(Stage::Data) };
            return fail(Stage::Data, &format!("the message: {told}"), &failed);
        }
        say("ok", "send", &format!("to {recipient}: {told}"))?;
        self.leave(probe)
    }

    /// One command, its reply, and the verdict on it.
    fn step(&self, probe: &mut Probe<'_>, stage: Stage, command: &str) -> Result<(), Stop> {
        let (code, text) = probe.command(command, &mut |_| {}).map_err(|fault| self.lost(fault))?;
        let reply = format!("{code} {text}");
        if code / 100 == 2 {
            return Ok(say("ok", stage.name(), &format!("{command}: {reply}"))?);
        }
        let failed = Failed { reply: &reply, ..self.failed(stage) };
        fail(stage, &format!("{command}: {reply}"), &failed)
    }

    /// The end of a session that did what it should; how it takes that is not our business.
    fn leave(&self, probe: &mut Probe<'_>) -> Result<(), Stop> {
        if self.send_to.is_none() {
            let _ = probe.command("RSET", &mut |_| {});
        }
        let _ = probe.command("QUIT", &mut |_| {});
        Ok(())
    }

    fn lost(&self, fault: Fault) -> Stop {
        let failed = Failed { fault: Some(fault), ..self.failed(Stage::Sender) };
        let stopped = fail(Stage::Sender, &fault.to_string(), &failed);
        stopped.err().unwrap_or(Stop::At(Ended(Stage::Sender)))
    }

    /// The reverse-path that mail leaves with: the configured one, else one that stands for it.
    fn sender(&self) -> String {
        let user = self.smarthost().login.as_ref().map(|login| &login.user);
        let user = user.filter(|user| user.contains('@'));
        let sender = self.config.sender_envelope.as_ref().or(user).or(self.config.admin.as_ref());
        sender.cloned().unwrap_or_default()
    }

    fn message(&self, sender: &str, recipient: &str) -> Vec<u8> {
        let (wall, hostname) = (clock::now().wall, &self.config.hostname);
        let from = self.config.sender_header_from.as_deref().unwrap_or(sender);
        let date = if wall.is_trusted {
            format!("Date: {}\r\n", Date { unix_s: wall.unix_s })
        } else {
            String::new()
        };
        format!(
            "{date}From: <{from}>\r\nTo: <{recipient}>\r\nSubject: Test of the mail relay {hostname}\r\n\
             Message-ID: <check.{:x}@{hostname}>\r\nAuto-Submitted: auto-generated\r\n\r\n\
             This is a test, sent by \"postern check\" on {hostname}.\r\n\
             Mail of this site can leave.\r\n.\r\n",
            clock::seed()
        )
        .into_bytes()
    }
}

/// What was told of a session so far.
struct Told {
    awaited: Awaited,
    has_greeted: bool,
    /// The last line that was heard.
    reply: String,
    /// What the last EHLO has brought, a line each.
    extensions: Vec<String>,
}

/// What the smarthost is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Greeting,
    Hello,
    StartTls,
    Login,
}

impl Told {
    const fn new() -> Self {
        Self { awaited: Awaited::Greeting, has_greeted: false, reply: String::new(), extensions: Vec::new() }
    }

    const fn stage(&self) -> Stage {
        match self.awaited {
            Awaited::Greeting | Awaited::Hello => Stage::Greeting,
            Awaited::StartTls => Stage::Tls,
            Awaited::Login => Stage::Login,
        }
    }

    fn take(&mut self, event: &Event<'_>) -> Result<(), Failure> {
        match event {
            Event::Heard(line) => {
                (*line).clone_into(&mut self.reply);
                let is_last = line.as_bytes().get(3).is_none_or(|octet| *octet == b' ');
                if self.awaited == Awaited::Greeting && is_last && line.starts_with('2') {
                    self.has_greeted = true;
                    say("ok", "greeting", line)?;
                } else if self.awaited == Awaited::Hello {
                    self.extensions.push(line.get(4..).unwrap_or_default().to_owned());
                }
            }
            Event::Said(line) if line.starts_with("EHLO") || line.starts_with("HELO") => {
                self.extensions.clear();
                self.awaited = Awaited::Hello;
            }
            Event::Said(line) if line.starts_with("STARTTLS") => self.awaited = Awaited::StartTls,
            Event::Said(line) if line.starts_with("AUTH") => {
                self.tell_extensions()?;
                self.awaited = Awaited::Login;
            }
            Event::Said(_) => {}
            Event::Secured(certificate) => {
                say("ok", "tls", &presented(certificate))?;
                self.awaited = if self.has_greeted { Awaited::Hello } else { Awaited::Greeting };
                self.reply.clear();
            }
        }
        Ok(())
    }

    fn tell_extensions(&mut self) -> Result<(), Failure> {
        // The first line is its name.
        let words = self.extensions.iter().skip(1).map(String::as_str).collect::<Vec<_>>().join(", ");
        if !words.is_empty() {
            say("ok", "offers", &words)?;
        }
        self.extensions.clear();
        Ok(())
    }

    fn finish(&mut self, smarthost: &Smarthost) -> Result<(), Failure> {
        self.tell_extensions()?;
        match &smarthost.login {
            Some(login) => say("ok", "login", &format!("as {}: {}", login.user, self.reply)),
            None => say("ok", "login", "none is configured"),
        }
    }
}

/// True for addresses of one's own network.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private() || address.is_loopback(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
    }
}
