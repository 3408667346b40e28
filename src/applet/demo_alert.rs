//! The demo's device: a client that sends one alert, as a power supply would, and reads each reply before it
//! goes on.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::smtp::date::Date;

/// Octets of the longest reply that is understood.
const REPLY_OCTETS_MAX: usize = 2048;

/// The device and how far it is.
#[derive(Debug)]
pub(super) struct Alert {
    stream: TcpStream,
    mail_data: String,
    /// What is still to be written of the last command.
    unsent: Vec<u8>,
    input: Box<[u8; REPLY_OCTETS_MAX]>,
    used: usize,
    step: usize,
}

/// How an alert stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Replies are still to come.
    UnderWay,
    /// The relay has taken it and the connection is closed.
    Sent,
    /// It has not, for this reason.
    Failed(String),
}

/// The codes that are to come, and what is sent after each.
const STEPS: [(&str, &str); 7] = [
    ("220", "EHLO ups.demo.invalid\r\n"),
    ("250", "MAIL FROM:<ups@demo.invalid>\r\n"),
    ("250", "RCPT TO:<you@demo.invalid>\r\n"),
    ("250", "DATA\r\n"),
    ("354", ""),
    ("250", "QUIT\r\n"),
    ("221", ""),
];
/// The step whose answer is the mail data.
const STEP_OF_DATA: usize = 4;

impl Alert {
    /// Connects to the relay on `relay`, which is on this host and listens already; `unix_s` is the alert's
    /// date.
    pub(super) fn start(relay: SocketAddr, unix_s: u64) -> io::Result<Self> {
        let stream = TcpStream::connect(relay)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let date = Date { unix_s };
        let mail_data = format!(
            "From: UPS in the basement <ups@demo.invalid>\r\n\
             To: you@demo.invalid\r\n\
             Subject: UPS on battery\r\n\
             Date: {date}\r\n\
             Message-ID: <alert.{unix_s}@ups.demo.invalid>\r\n\
             \r\n\
             Utility power failed. The load runs on battery: 42 % load, 27 minutes left.\r\n\
             .\r\n"
        );
        Ok(Self {
            stream,
            mail_data,
            unsent: Vec::new(),
            input: Box::new([0; REPLY_OCTETS_MAX]),
            used: 0,
            step: 0,
        })
    }

    /// Goes on as far as that goes without waiting.
    pub(super) fn turn(&mut self) -> Standing {
        while self.step < STEPS.len() {
            match self.exchange() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Standing::UnderWay,
                Err(error) => return Standing::Failed(format!("the relay's connection: {error}")),
            }
            let Some(reply) = reply_in(&self.input[..self.used]) else { continue };
            let (code, next) = STEPS[self.step];
            if !reply.starts_with(code.as_bytes()) {
                let reply = String::from_utf8_lossy(reply.trim_ascii_end()).escape_debug().to_string();
                return Standing::Failed(format!("the relay answered {reply} where {code} was to come"));
            }
            self.used = 0;
            let next = if self.step == STEP_OF_DATA { &self.mail_data } else { next };
            self.unsent = next.as_bytes().to_vec();
            self.step += 1;
        }
        Standing::Sent
    }

    /// Writes what is to be written, then reads.
    fn exchange(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let count = self.stream.write(&self.unsent)?;
            self.unsent.drain(..count);
        }
        match self.stream.read(&mut self.input[self.used..])? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.used += count;
                Ok(())
            }
        }
    }
}

/// The last line of the reply in `input`, if that is whole.
fn reply_in(input: &[u8]) -> Option<&[u8]> {
    let lines = input.strip_suffix(b"\r\n")?;
    let start = lines.iter().rposition(|&octet| octet == b'\n').map_or(0, |position| position + 1);
    let last = &lines[start..];
    (last.get(3) != Some(&b'-')).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::super::demo_sink::Sink;
    use super::*;

    #[test]
    fn an_alert_is_taken_by_a_smarthost() {
        let mut sink = Sink::start().unwrap();
        let mut alert = Alert::start(sink.address(), 0).unwrap();
        let mut shown = Vec::new();
        for _ in 0..1_000_000 {
            sink.turn(&mut shown).unwrap();
            match alert.turn() {
                Standing::UnderWay => {}
                Standing::Sent => break,
                failed @ Standing::Failed(_) => panic!("{failed:?}"),
            }
        }
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.starts_with("=== message 1 from <ups@demo.invalid> to <you@demo.invalid>\nFrom: "));
        assert!(shown.contains("\nDate: Thu, 01 Jan 1970 00:00:00 +0000\n"));
        assert_eq!(sink.messages(), 1);
    }

    #[test]
    fn a_reply_is_whole_at_its_last_line() {
        assert_eq!(reply_in(b"250-a\r\n250 b"), None);
        assert_eq!(reply_in(b"250-a\r\n"), None);
        assert_eq!(reply_in(b"250-a\r\n250 b\r\n"), Some(&b"250 b"[..]));
        assert_eq!(reply_in(b"250\r\n"), Some(&b"250"[..]));
        assert_eq!(reply_in(b""), None);
    }
}
