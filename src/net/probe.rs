//! A smarthost, looked at a step at a time for a person who asks what is wrong: its name, each address, and
//! one session over the address that answers.
//!
//! The session is the relay's own [`Session`], so that what works here works there; what is said and heard on
//! the way is told as it happens, without what a login says. Blocking: for a tool, not for the relay.

use core::net::IpAddr;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use mio::{Events, Poll};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::fetch::Fetch;
use super::resolver::{Lookup, NAMES_MAX, NameIndex, Resolver, Source};
use super::tls::{Client, Plaintext, Presented, Stream};
use super::tokens::{NoToken, Tokens};
use super::{StartError, clock, secret};
use crate::buffer::{Buffer, Window};
use crate::config::{Config, Login, Oauth2, SecretFile, Smarthost, TlsPolicy, UntrustedClock};
use crate::limits::{SENDER_INPUT_OCTETS, SENDER_OUTPUT_OCTETS};
use crate::sender::{Fault, Secret, SecretFault, Session, TlsFault, TokenFault, Unresolved};
use crate::smtp::Next;
use crate::smtp::reply_reader::ReplyReader;
use crate::spool::{Memory, Start, Store};
use crate::time::{Duration, Instant};

/// How long one address has to answer.
const CONNECT_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);
/// How long one reply may take once the session stands.
const REPLY_WITHIN: Duration = Duration::from_s(60);
/// Blocks of a spool without a message: a session asks for one, whatever it is used for.
const SPOOL_BLOCKS: u32 = 16;
/// Octets of one line that are told.
const LINE_OCTETS_MAX: usize = 512;
/// Lines of one session that are told; a smarthost that says more is not worth reading.
const LINES_MAX: usize = 1000;

/// Something that happened in the session.
#[derive(Debug)]
pub enum Event<'a> {
    /// We said this; of a login only its first words.
    Said(&'a str),
    /// The smarthost said this line.
    Heard(&'a str),
    /// TLS stands.
    Secured(&'a Presented),
}

/// The addresses of `host`, as the relay would try them.
///
/// # Errors
/// Why there are none.
pub fn resolve(host: &str) -> Result<Vec<IpAddr>, Unresolved> {
    let mut poll = Poll::new().map_err(|_| Unresolved::Unreachable)?;
    let mut events = Events::with_capacity(NAMES_MAX);
    let mut resolver = Resolver::new(Source::System, 0);
    let mut lookup = resolver.look_up(clock::now().instant, poll.registry(), host);
    loop {
        match lookup {
            Lookup::Known(addresses, _) => return Ok(addresses.into_iter().collect()),
            Lookup::Failed(why) => return Err(why),
            Lookup::Asking(name) => {
                let now = clock::now().instant;
                let wait = resolver.deadline().map(|due| due.since(now).0);
                let wait = std::time::Duration::from_millis(wait.unwrap_or(1000));
                if let Err(error) = poll.poll(&mut events, Some(wait))
                    && error.kind() != ErrorKind::Interrupted
                {
                    return Err(Unresolved::Unreachable);
                }
                let now = clock::now().instant;
                for event in &events {
                    resolver.told(now, poll.registry(), NameIndex(event.token().0));
                }
                resolver.expire(now, poll.registry());
                lookup = resolver.outcome(name);
            }
        }
    }
}

/// Whether the files of the login's secret can be had: else which of them can't, and why.
///
/// # Errors
/// What is wrong with a file.
pub fn secret(login: &Login) -> Result<(), (&Path, SecretFault)> {
    let mut paths = login.secret.paths();
    paths.try_for_each(|path| secret::read(path).0.map(|_| ()).map_err(|fault| (path, fault)))
}

/// Asks for an access token, as the relay would for a login.
fn token(smarthost: &Smarthost, settings: &Oauth2, clock: UntrustedClock) -> Result<Secret, NoToken> {
    // The smarthost's certificate was judged by the same file.
    let untrusted = |_| NoToken::from(TokenFault::Tls(TlsFault::AuthoritiesUnreadable));
    let mut tokens = Tokens::new(smarthost, settings, clock).map_err(untrusted)?;
    let mut fetch = Fetch::new(None, clock).map_err(|_| NoToken::from(TokenFault::Connect))?;
    fetch.token(&mut tokens)
}

/// A connection to one address, within ten seconds.
///
/// # Errors
/// What the system says.
pub fn connect(address: IpAddr, port: u16) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::new(address, port), CONNECT_WITHIN)
}

/// One session.
pub struct Probe<'a> {
    config: &'a Config,
    smarthost: usize,
    socket: TcpStream,
    tls: Option<Stream>,
    client: Option<Client>,
    session: Session,
    input: (Box<[u8]>, Window),
    output: (Box<[u8]>, Window),
    heard: Vec<u8>,
    said: Vec<u8>,
    /// From AUTH on, nothing more is told of what we say.
    is_login: bool,
    lines: usize,
    spool: Store<Memory>,
}

impl<'a> Probe<'a> {
    /// A session over `socket` with the configured smarthost of that place.
    ///
    /// # Errors
    /// There is nothing to judge its certificate by, or the socket is broken.
    pub fn new(config: &'a Config, smarthost: usize, socket: TcpStream) -> Result<Self, StartError> {
        let client = match config.smarthosts[smarthost].tls {
            TlsPolicy::Starttls | TlsPolicy::Implicit => {
                Some(Client::new(&config.smarthosts[smarthost], config.clock).map_err(StartError::Trust)?)
            }
            TlsPolicy::None => None,
        };
        socket.set_nonblocking(true).map_err(StartError::System)?;
        socket.set_nodelay(true).map_err(StartError::System)?;
        let local = socket.local_addr().map_err(StartError::System)?.ip();
        let now = clock::now();
        let start = Start { blocks: SPOOL_BLOCKS, seed: 0, now: now.instant };
        let (spool, _) = Store::start(Memory::new(SPOOL_BLOCKS), start).expect("memory becomes a spool");
        let mut session = Session::new();
        session.connected(&now, smarthost, local, config);
        Ok(Self {
            config,
            smarthost,
            socket,
            tls: None,
            client,
            session,
            input: (vec![0; SENDER_INPUT_OCTETS].into_boxed_slice(), Window::default()),
            output: (vec![0; SENDER_OUTPUT_OCTETS].into_boxed_slice(), Window::default()),
            heard: Vec::new(),
            said: Vec::new(),
            is_login: false,
            lines: 0,
            spool,
        })
    }

    /// Goes up to where mail could be sent.
    ///
    /// # Errors
    /// The fault that the relay would have with this route.
    pub fn open(&mut self, tell: &mut dyn FnMut(Event<'_>)) -> Result<(), Fault> {
        loop {
            let is_closing = self.advance(tell);
            if self.session.is_ready() {
                return Ok(());
            }
            if let Some(fault) = self.session.fault()
                && is_closing
            {
                return Err(fault);
            }
            let due = self.session.deadline().unwrap_or(clock::now().instant + REPLY_WITHIN);
            if !self.wait(due) {
                let mut output = Buffer::new(&mut self.output.0, &mut self.output.1);
                let _ = self.session.expired(&clock::now(), &mut output);
                return Err(self.session.fault().unwrap_or(Fault::Timeout));
            }
            if self.receive(tell).is_err() {
                self.session.lost();
                return Err(self.session.fault().unwrap_or(Fault::Lost));
            }
        }
    }

    /// What was said when the session ended.
    pub fn last_words(&self) -> Option<String> {
        let reply = self.session.fault_reply()?;
        Some(format!("{} {}", reply.code, clean(&reply.text)))
    }

    /// Says one line behind the session's back, and gives the reply's code and last text.
    ///
    /// # Errors
    /// The connection is lost, or silent for a minute.
    pub fn command(&mut self, line: &str, tell: &mut dyn FnMut(Event<'_>)) -> Result<(u16, String), Fault> {
        tell(Event::Said(line));
        self.say(format!("{line}\r\n").as_bytes())
    }

    /// Sends octets, of which nothing is told, and gives the reply to them.
    ///
    /// # Errors
    /// As [`Probe::command`].
    pub fn say(&mut self, octets: &[u8]) -> Result<(u16, String), Fault> {
        let due = clock::now().instant + REPLY_WITHIN;
        let mut rest = octets;
        while !rest.is_empty() || self.tls.as_ref().is_some_and(Stream::has_unsent) {
            let count = self.write(rest).map_err(|_| Fault::Lost)?;
            rest = &rest[count..];
            if count == 0 && !self.wait(due) {
                return Err(Fault::Timeout);
            }
        }
        let mut replies = ReplyReader::new();
        loop {
            let mut input = Buffer::new(&mut self.input.0, &mut self.input.1);
            while let Some(line) = replies.read(&mut input).map_err(|_| Fault::Protocol)? {
                if line.is_end() {
                    let text = String::from_utf8_lossy(replies.text()).into_owned();
                    return Ok((replies.code(), text));
                }
            }
            if !self.wait(due) {
                return Err(Fault::Timeout);
            }
            self.receive(&mut |_| {}).map_err(|_| Fault::Lost)?;
        }
    }

    /// Moves the session on, and sends what it says; true when it is over.
    fn advance(&mut self, tell: &mut dyn FnMut(Event<'_>)) -> bool {
        loop {
            let now = clock::now();
            let mut input = Buffer::new(&mut self.input.0, &mut self.input.1);
            let mut output = Buffer::new(&mut self.output.0, &mut self.output.1);
            let next = self.session.advance(&now, self.config, &mut input, &mut output, &mut self.spool);
            let said = output.octets().to_vec();
            output.clear();
            self.tell_said(&said, tell);
            if !said.is_empty() && self.send(&said).is_err() || next == Next::Close {
                return true;
            }
            if self.session.wants_tls() && self.tls.is_none() {
                if let Err(fault) = self.secure(tell) {
                    self.session.tls_failed(fault);
                    return true;
                }
                self.session.tls_started(&clock::now());
            } else if self.session.wants_secret() {
                self.hand_in_secret();
            } else if said.is_empty() {
                return false;
            }
        }
    }

    fn hand_in_secret(&mut self) {
        let login = self.config.smarthosts[self.smarthost].login.as_ref();
        let login = login.expect("a secret is asked for only where there is a login");
        let smarthost = &self.config.smarthosts[self.smarthost];
        let secret = match &login.secret {
            SecretFile::Password(path) | SecretFile::Token(path) => Ok(secret::read(path).0),
            SecretFile::Oauth2(settings) => token(smarthost, settings, self.config.clock).map(Ok),
        };
        let mut output = Buffer::new(&mut self.output.0, &mut self.output.1);
        // What it decides, the next call of `advance` says again.
        let _ = match secret {
            Ok(secret) => self.session.secret(&clock::now(), self.config, secret, &mut output),
            Err(NoToken { fault, told }) => {
                self.session.no_token(&clock::now(), fault, told.map(|told| *told), &mut output)
            }
        };
    }

    /// The handshake, to its end.
    fn secure(&mut self, tell: &mut dyn FnMut(Event<'_>)) -> Result<(), TlsFault> {
        let client = self.client.as_ref().expect("TLS is asked for where the configuration has it");
        self.tls = Some(client.connect()?);
        let due = clock::now().instant + REPLY_WITHIN;
        loop {
            let stream = self.tls.as_mut().expect("it was just made");
            while stream.has_unsent() {
                match stream.send(&mut self.socket) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => return Err(TlsFault::Handshake),
                }
            }
            if !stream.is_handshaking() {
                break;
            }
            if !self.wait(due) {
                return Err(TlsFault::Handshake);
            }
            let stream = self.tls.as_mut().expect("it was just made");
            match stream.receive(&mut self.socket) {
                Ok(0) => return Err(TlsFault::Handshake),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Err(TlsFault::Handshake),
                Ok(_) => {
                    if let Err(fault) = stream.advance() {
                        // The peer is told why, if it listens.
                        let _ = stream.send(&mut self.socket);
                        return Err(fault);
                    }
                }
            }
        }
        if let Some(presented) = self.presented() {
            tell(Event::Secured(&presented));
        }
        Ok(())
    }

    /// What the smarthost has shown of itself, trusted or not.
    pub fn presented(&self) -> Option<Presented> {
        self.client.as_ref()?.presented()
    }

    fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        let due = clock::now().instant + REPLY_WITHIN;
        let mut rest = octets;
        while !rest.is_empty() || self.tls.as_ref().is_some_and(Stream::has_unsent) {
            let count = self.write(rest)?;
            rest = &rest[count..];
            if count == 0 && !self.wait(due) {
                return Err(ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// Writes some of `octets`; none when the socket is full.
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let count = match &mut self.tls {
            Some(stream) => {
                let count = stream.write(octets);
                while stream.has_unsent() {
                    match stream.send(&mut self.socket) {
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error),
                    }
                }
                return Ok(count);
            }
            None => self.socket.write(octets),
        };
        count.or_else(|error| if error.kind() == ErrorKind::WouldBlock { Ok(0) } else { Err(error) })
    }

    /// Reads what has come.
    fn receive(&mut self, tell: &mut dyn FnMut(Event<'_>)) -> io::Result<()> {
        let mut input = Buffer::new(&mut self.input.0, &mut self.input.1);
        let space = input.space();
        let read = match &mut self.tls {
            None => self.socket.read(space),
            Some(stream) => loop {
                match stream.read(space) {
                    Plaintext::Octets(count) => break Ok(count),
                    Plaintext::End => break Ok(0),
                    Plaintext::None => match stream.receive(&mut self.socket) {
                        Ok(0) => break Ok(0),
                        Ok(_) => stream.advance().map_err(|_| io::Error::from(ErrorKind::InvalidData))?,
                        Err(error) => break Err(error),
                    },
                }
            },
        };
        match read {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                let octets = space[..count].to_vec();
                input.filled(count);
                self.tell_heard(&octets, tell);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits until the socket has something, or room for what is unsent; false: not before `due`.
    fn wait(&self, due: Instant) -> bool {
        let left = due.since(clock::now().instant);
        let mut wanted = PollFlags::IN;
        if self.tls.as_ref().is_some_and(Stream::has_unsent) {
            wanted |= PollFlags::OUT;
        }
        let timeout =
            Timespec { tv_sec: (left.0 / 1000) as i64, tv_nsec: (left.0 % 1000) as i64 * 1_000_000 };
        poll(&mut [PollFd::new(&self.socket, wanted)], Some(&timeout)).is_ok_and(|ready| ready > 0)
    }

    fn tell_heard(&mut self, octets: &[u8], tell: &mut dyn FnMut(Event<'_>)) {
        self.heard.extend_from_slice(octets);
        while let Some(line) = take_line(&mut self.heard) {
            self.lines += 1;
            if self.lines <= LINES_MAX {
                tell(Event::Heard(&line));
            }
        }
    }

    fn tell_said(&mut self, octets: &[u8], tell: &mut dyn FnMut(Event<'_>)) {
        self.said.extend_from_slice(octets);
        while let Some(line) = take_line(&mut self.said) {
            match line.split_once(' ') {
                _ if self.is_login => {}
                Some(("AUTH", argument)) => {
                    self.is_login = true;
                    tell(Event::Said(&format!("AUTH {}", argument.split(' ').next().unwrap_or_default())));
                }
                _ => tell(Event::Said(&line)),
            }
        }
    }
}

/// The first line of `octets`, cleaned for a terminal.
fn take_line(octets: &mut Vec<u8>) -> Option<String> {
    let end = octets.iter().position(|octet| *octet == b'\n');
    let end = end.or_else(|| (octets.len() > LINE_OCTETS_MAX).then_some(LINE_OCTETS_MAX))?;
    let line: Vec<u8> = octets.drain(..=end).collect();
    let line = line[..line.len().min(LINE_OCTETS_MAX)].trim_ascii_end();
    Some(clean(line))
}

fn clean(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
