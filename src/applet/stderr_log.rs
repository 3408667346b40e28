//! The log on stderr: one line an event, `LEVEL text`, with no octet in it that a terminal would act on.
//!
//! The supervisor (procd, systemd) adds times. A reader that doesn't keep up never stops the relay: lines
//! that a full pipe doesn't take are dropped, and their number is told as soon as it takes one again. A level
//! that is off costs a comparison; a line that is printed may allocate.

use core::fmt::{self, Write as _};
use std::io::{self, Write};
use std::os::fd::AsFd;

use env_logger::Target;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::net::log_lines;

/// Octets of the longest line with its LF; the rest of it is cut. A pipe that polls writable takes as much
/// whole (PIPE_BUF).
const LINE_OCTETS_MAX: usize = 4096;

/// Starts the log with `filter`, or with RUST_LOG if that is set. Without effect when a log is there already.
pub(super) fn start(filter: &str) {
    let given = std::env::var("RUST_LOG").ok().filter(|given| !given.is_empty());
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(given.as_deref().unwrap_or(filter));
    builder.format(|line, record| {
        let mut text = String::with_capacity(160);
        // Writing to a String fails only if an argument's Display does; what it wrote before is still worth a
        // line.
        let _ = write!(text, "{} ", record.level());
        let _ = write!(Escaped(&mut text), "{}", record.args());
        cut(&mut text);
        writeln!(line, "{text}")
    });
    builder.target(Target::Pipe(Box::new(NeverBlocking { output: io::stderr(), dropped: 0 })));
    let _ = builder.try_init();
}

/// Writes text with its control characters as `\n`, `\u{1b}` and the like.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if character.is_control() {
                self.0.extend(character.escape_debug());
            } else {
                self.0.push(character);
            }
        }
        Ok(())
    }
}

/// Cuts `text` so that it fits in a line.
fn cut(text: &mut String) {
    let mut end = text.len().min(LINE_OCTETS_MAX - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

/// An output that drops what it can't take at once, and counts it.
struct NeverBlocking<W> {
    output: W,
    dropped: u64,
}

impl<W: Write + AsFd> NeverBlocking<W> {
    fn is_writable(&self) -> bool {
        let mut outputs = [PollFd::new(&self.output, PollFlags::OUT)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut outputs, Some(&at_once)) {
            Ok(_) => outputs[0].revents().contains(PollFlags::OUT),
            Err(_) => false,
        }
    }
}

impl<W: Write + AsFd> Write for NeverBlocking<W> {
    /// Takes one whole line; it says that it was written when it was dropped.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.is_writable() {
            self.dropped += 1;
            log_lines::drop_one();
            return Ok(line.len());
        }
        if self.dropped > 0 {
            let dropped = core::mem::take(&mut self.dropped);
            // One write for the whole line: a second one might find the pipe full.
            let told = format!("WARN log lines dropped, their reader didn't keep up count={dropped}\n");
            self.output.write_all(told.as_bytes())?;
            if !self.is_writable() {
                self.dropped = 1;
                log_lines::drop_one();
                return Ok(line.len());
            }
        }
        self.output.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// SEC-inj-d.
    #[test]
    fn control_characters_are_escaped_and_long_lines_cut() {
        let mut text = String::new();
        let reply = "550 no\r\n\u{1b}[2J\u{9b}\0\tx";
        write!(Escaped(&mut text), "reply={reply} ü").unwrap();
        assert_eq!(text, "reply=550 no\\r\\n\\u{1b}[2J\\u{9b}\\0\\tx ü");
        let mut text = "ü".repeat(LINE_OCTETS_MAX);
        cut(&mut text);
        assert_eq!(text.len(), LINE_OCTETS_MAX - 2);
    }

    #[test]
    fn a_full_pipe_drops_lines_and_counts_them() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut log = NeverBlocking { output: writer, dropped: 0 };
        let line = [b'x'; 1024];
        let mut written = 0;
        while log.dropped == 0 {
            written += 1;
            assert!(written < 10_000, "the pipe has no end");
            assert_eq!(log.write(&line).unwrap(), line.len());
        }
        for _ in 0..9 {
            log.write_all(&line).unwrap();
        }
        let mut taken = vec![0; (written - 1) * line.len()];
        reader.read_exact(&mut taken).unwrap();
        log.write_all(b"INFO x\n").unwrap();
        drop(log);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "WARN log lines dropped, their reader didn't keep up count=10\nINFO x\n");
    }
}
