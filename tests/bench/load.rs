//! The load: some kept connections in one mio loop and thread; it shares the machine with what it measures.
//!
//! A client that waits sends one command, or the whole mail data, in one write, and reads its reply before
//! the next one. A client that pipelines sends the next envelope with the end of the mail data (RFC 2920 3.1)
//! and waits once a message, for the 354. A read that fills less than its buffer shows that nothing is left,
//! so no read is made in vain.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::Failed;

/// Octets of each message's body, an ordinary alert.
pub(crate) const BODY_OCTETS: usize = 2048;
const ENVELOPE: [&[u8]; 3] =
    [b"MAIL FROM:<alert@bench.test.example>\r\n", b"RCPT TO:<admin@bench.test.example>\r\n", b"DATA\r\n"];

/// How a client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// For each reply.
    Waits,
    /// Once a message.
    Pipelines,
}

/// The reply that is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    Greeting,
    Hello,
    Mail,
    Recipient,
    Data,
    Verdict,
}

impl Awaits {
    fn code(self) -> &'static [u8] {
        match self {
            Self::Greeting => b"220",
            Self::Hello | Self::Mail | Self::Recipient | Self::Verdict => b"250",
            Self::Data => b"354",
        }
    }
}

/// What all clients send.
struct Script {
    pace: Pace,
    envelope: Vec<u8>,
    text: Vec<u8>,
    text_and_envelope: Vec<u8>,
}

impl Script {
    fn new(pace: Pace) -> Self {
        let mut text =
            b"From: <alert@bench.test.example>\r\nTo: <admin@bench.test.example>\r\nSubject: alert\r\n\r\n"
                .to_vec();
        for line in vec![b'X'; BODY_OCTETS].chunks(70) {
            text.extend_from_slice(line);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b".\r\n");
        let envelope = ENVELOPE.concat();
        let text_and_envelope = [&text[..], &envelope[..]].concat();
        Self { pace, envelope, text, text_and_envelope }
    }
}

/// Messages still to begin, and those that are accepted.
struct Count {
    left: usize,
    accepted: usize,
}

struct Client {
    stream: TcpStream,
    awaits: Awaits,
    input: Vec<u8>,
    output: Vec<u8>,
    /// The mail data that was sent has no envelope behind it.
    is_last: bool,
}

impl Client {
    /// Reads what is there and answers each whole reply; `Ok(false)` when this client has nothing more to do.
    fn readable(&mut self, script: &Script, count: &mut Count) -> Result<bool, Failed> {
        let mut into = [0; 2048];
        loop {
            let octets = match self.stream.read(&mut into) {
                Ok(0) => return Err("the connection was closed".into()),
                Ok(octets) => octets,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error.into()),
            };
            self.input.extend_from_slice(&into[..octets]);
            if !self.replies(script, count)? {
                return Ok(false);
            }
            if octets < into.len() {
                return Ok(true);
            }
        }
    }
    fn replies(&mut self, script: &Script, count: &mut Count) -> Result<bool, Failed> {
        let mut start = 0;
        while let Some(length) = self.input[start..].iter().position(|octet| *octet == b'\n') {
            let line = &self.input[start..start + length];
            start += length + 1;
            if line.get(3) == Some(&b'-') {
                continue;
            }
            if !line.starts_with(self.awaits.code()) {
                return Err(
                    format!("{:?} was answered {:?}", self.awaits, String::from_utf8_lossy(line)).into()
                );
            }
            if !self.next(script, count) {
                return Ok(false);
            }
        }
        self.input.drain(..start);
        self.write()?;
        Ok(true)
    }
    /// What follows the awaited reply; false after the last message.
    fn next(&mut self, script: &Script, count: &mut Count) -> bool {
        let pipelines = script.pace == Pace::Pipelines;
        match self.awaits {
            Awaits::Greeting => {
                self.output.extend_from_slice(b"EHLO bench.test.example\r\n");
                self.awaits = Awaits::Hello;
            }
            Awaits::Hello => return self.begin(script, count),
            Awaits::Mail => {
                if !pipelines {
                    self.output.extend_from_slice(ENVELOPE[1]);
                }
                self.awaits = Awaits::Recipient;
            }
            Awaits::Recipient => {
                if !pipelines {
                    self.output.extend_from_slice(ENVELOPE[2]);
                }
                self.awaits = Awaits::Data;
            }
            Awaits::Data => {
                if pipelines && count.left > 0 {
                    count.left -= 1;
                    self.output.extend_from_slice(&script.text_and_envelope);
                } else {
                    self.output.extend_from_slice(&script.text);
                    self.is_last = pipelines;
                }
                self.awaits = Awaits::Verdict;
            }
            Awaits::Verdict => {
                count.accepted += 1;
                if !pipelines {
                    return self.begin(script, count);
                }
                self.awaits = Awaits::Mail;
                return !self.is_last;
            }
        }
        true
    }
    fn begin(&mut self, script: &Script, count: &mut Count) -> bool {
        if count.left == 0 {
            return false;
        }
        count.left -= 1;
        let first = if script.pace == Pace::Pipelines { &script.envelope[..] } else { ENVELOPE[0] };
        self.output.extend_from_slice(first);
        self.awaits = Awaits::Mail;
        true
    }
    fn write(&mut self) -> Result<(), Failed> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(octets) => drop(self.output.drain(..octets)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// What a load came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Messages that were answered 250.
    pub(crate) accepted: usize,
    /// From the first connection's opening to the last 250.
    pub(crate) took: Duration,
}

impl Load {
    /// Accepted messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.accepted as f64 / self.took.as_secs_f64()
    }
}

/// Sends `messages` over `connections` kept ones; ends before them when `longest` is over.
pub(crate) fn run(
    address: SocketAddr,
    connections: usize,
    messages: usize,
    pace: Pace,
    longest: Duration,
) -> Result<Load, Failed> {
    let script = Script::new(pace);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(connections);
    let mut clients = Vec::with_capacity(connections);
    for index in 0..connections {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        clients.push(Client {
            stream,
            awaits: Awaits::Greeting,
            input: Vec::new(),
            output: Vec::new(),
            is_last: false,
        });
    }
    let mut count = Count { left: messages, accepted: 0 };
    let start = Instant::now();
    while count.accepted < messages {
        if start.elapsed() > longest {
            break;
        }
        poll.poll(&mut events, Some(Duration::from_secs(1)))?;
        for event in &events {
            let client = &mut clients[event.token().0];
            if event.is_writable() {
                client.write()?;
            }
            if event.is_readable() && !client.readable(&script, &mut count)? {
                poll.registry().deregister(&mut client.stream)?;
            }
        }
    }
    if count.accepted == 0 {
        return Err(format!("no message was accepted in {longest:?}").into());
    }
    Ok(Load { accepted: count.accepted, took: start.elapsed() })
}
