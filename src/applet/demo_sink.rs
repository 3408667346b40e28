//! The demo's smarthost: a small SMTP server that shows each message as it arrived and keeps nothing.
//!
//! It serves one client at a time, the next waits in the kernel's backlog, so that what it shows is never
//! mixed. All sockets are non-blocking and driven by [`Sink::turn`] between the turns of the event loop. It
//! is a sink for a demo: it has no timeouts and no limits on a message.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Octets of a line that are looked at as a whole; a longer one is shown in pieces.
const INPUT_OCTETS: usize = 4096;
/// Octets of the longest reply.
const REPLY_OCTETS_MAX: usize = 128;
/// Octets of replies that wait to be written.
const OUTPUT_OCTETS: usize = 8 * REPLY_OCTETS_MAX;
/// Reads of one turn, so that a fast client doesn't keep the relay from its turn.
const READS_MAX: usize = 64;
/// Forward-paths of a message that are shown.
const PATHS_SHOWN_MAX: usize = 4;

/// The sink: its listener, its client, and how many messages it has shown.
#[derive(Debug)]
pub(super) struct Sink {
    listener: TcpListener,
    address: SocketAddr,
    client: Option<Client>,
    messages: u64,
}

/// The connected client's session.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    input: Box<[u8; INPUT_OCTETS]>,
    used: usize,
    output: heapless::Vec<u8, OUTPUT_OCTETS>,
    reverse_path: String,
    forward_paths: Vec<String>,
    forward_paths_count: usize,
    octets: u64,
    state: State,
}

/// What the next line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Command,
    /// A line of mail data.
    Data,
    /// The rest of a line of mail data that was longer than the input.
    DataLineRest,
    /// Nothing more: the client said QUIT.
    Quit,
}

impl Sink {
    /// Listens on a free port of 127.0.0.1.
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((core::net::Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, client: None, messages: 0 })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Messages that arrived whole.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Serves its client as far as that goes without waiting, and shows what arrives on `shown`. Fails only
    /// when `shown` does: a client's fault ends its connection.
    pub(super) fn turn(&mut self, shown: &mut impl Write) -> io::Result<()> {
        if self.client.is_none() {
            self.client = self.listener.accept().ok().and_then(|(stream, _)| Client::greet(stream));
        }
        let Some(client) = &mut self.client else { return Ok(()) };
        for _ in 0..READS_MAX {
            client.answer(&mut self.messages, shown)?;
            match client.exchange() {
                Progress::Some => {}
                Progress::None => return Ok(()),
                Progress::End => {
                    self.client = None;
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// What became of an exchange with the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Some,
    None,
    End,
}

impl Client {
    fn greet(stream: TcpStream) -> Option<Self> {
        stream.set_nonblocking(true).ok()?;
        stream.set_nodelay(true).ok()?;
        let mut client = Self {
            stream,
            input: Box::new([0; INPUT_OCTETS]),
            used: 0,
            output: heapless::Vec::new(),
            reverse_path: String::new(),
            forward_paths: Vec::new(),
            forward_paths_count: 0,
            octets: 0,
            state: State::Command,
        };
        client.reply("220 sink.demo.invalid ready\r\n");
        Some(client)
    }

    /// Writes replies, then reads.
    fn exchange(&mut self) -> Progress {
        let mut progress = Progress::None;
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Progress::End,
                Ok(count) => {
                    self.output.copy_within(count.., 0);
                    self.output.truncate(self.output.len() - count);
                    progress = Progress::Some;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Progress::End,
            }
        }
        if self.state == State::Quit {
            return if self.output.is_empty() { Progress::End } else { progress };
        }
        if self.used == self.input.len() {
            return progress;
        }
        match self.stream.read(&mut self.input[self.used..]) {
            Ok(0) => Progress::End,
            Ok(count) => {
                self.used += count;
                Progress::Some
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => progress,
            Err(_) => Progress::End,
        }
    }

    /// Takes the lines of the input while there is room for their replies.
    fn answer(&mut self, messages: &mut u64, shown: &mut impl Write) -> io::Result<()> {
        let mut start = 0;
        while self.output.capacity() - self.output.len() >= REPLY_OCTETS_MAX && self.state != State::Quit {
            let unread = &self.input[start..self.used];
            let (length, is_whole) = match unread.windows(2).position(|pair| pair == b"\r\n") {
                Some(position) => (position + 2, true),
                // A line that fills the input: all but the last octet, which may be the CR of its end.
                None if unread.len() == self.input.len() => (unread.len() - 1, false),
                None => break,
            };
            let mut line = [0; INPUT_OCTETS];
            let line = &mut line[..length];
            line.copy_from_slice(&unread[..length]);
            start += length;
            match self.state {
                State::Command if is_whole => self.command(&line[..length - 2], messages, shown)?,
                State::Command => self.reply("500 5.5.2 line too long\r\n"),
                State::Data | State::DataLineRest => self.data_line(line, is_whole, messages, shown)?,
                State::Quit => {}
            }
        }
        self.input.copy_within(start..self.used, 0);
        self.used -= start;
        Ok(())
    }

    fn command(&mut self, line: &[u8], messages: &u64, shown: &mut impl Write) -> io::Result<()> {
        let verb_is =
            |verb: &str| line.len() >= verb.len() && line[..verb.len()].eq_ignore_ascii_case(verb.as_bytes());
        if verb_is("EHLO") {
            self.reset();
            self.reply("250-sink.demo.invalid\r\n250-PIPELINING\r\n250 8BITMIME\r\n");
        } else if verb_is("HELO") || verb_is("RSET") {
            self.reset();
            self.reply("250 sink.demo.invalid\r\n");
        } else if verb_is("MAIL FROM:") {
            self.reset();
            self.reverse_path = path_of(&line[10..]);
            self.reply("250 2.1.0 sender ok\r\n");
        } else if verb_is("RCPT TO:") {
            if self.reverse_path.is_empty() {
                self.reply("503 5.5.1 MAIL first\r\n");
                return Ok(());
            }
            if self.forward_paths.len() < PATHS_SHOWN_MAX {
                self.forward_paths.push(path_of(&line[8..]));
            }
            self.forward_paths_count += 1;
            self.reply("250 2.1.5 recipient ok\r\n");
        } else if verb_is("DATA") {
            if self.forward_paths_count == 0 {
                self.reply("503 5.5.1 RCPT first\r\n");
                return Ok(());
            }
            self.state = State::Data;
            let more = self.forward_paths_count - self.forward_paths.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let (number, paths) = (messages + 1, self.forward_paths.join(", "));
            writeln!(shown, "=== message {number} from {} to {paths}{more}", self.reverse_path)?;
            self.reply("354 go ahead\r\n");
        } else if verb_is("NOOP") {
            self.reply("250 2.0.0 ok\r\n");
        } else if verb_is("QUIT") {
            self.reply("221 2.0.0 bye\r\n");
            self.state = State::Quit;
        } else {
            self.reply("500 5.5.1 not known here\r\n");
        }
        Ok(())
    }

    /// Shows a line of mail data, or a piece of one, its transparency undone (RFC 5321 4.5.2).
    fn data_line(
        &mut self,
        line: &[u8],
        is_whole: bool,
        messages: &mut u64,
        shown: &mut impl Write,
    ) -> io::Result<()> {
        let is_start = self.state == State::Data;
        if is_start && line == b".\r\n" {
            *messages += 1;
            writeln!(shown, "=== end of message {messages}, {} octets\n", self.octets)?;
            shown.flush()?;
            self.reset();
            self.reply("250 2.0.0 shown\r\n");
            return Ok(());
        }
        let text = if is_start { line.strip_prefix(b".").unwrap_or(line) } else { line };
        self.octets += text.len() as u64;
        self.state = if is_whole { State::Data } else { State::DataLineRest };
        let text = text.strip_suffix(b"\r\n").filter(|_| is_whole).unwrap_or(text);
        write!(shown, "{}{}", printable(text), if is_whole { "\n" } else { "" })
    }

    fn reset(&mut self) {
        self.reverse_path.clear();
        self.forward_paths.clear();
        self.forward_paths_count = 0;
        self.octets = 0;
        self.state = State::Command;
    }

    /// Appends `reply`, of at most [`REPLY_OCTETS_MAX`] octets.
    fn reply(&mut self, reply: &str) {
        let is_room = self.output.extend_from_slice(reply.as_bytes()).is_ok();
        assert!(is_room, "a line is answered only while there is room for the longest reply");
    }
}

/// The path at the start of a command's argument.
fn path_of(argument: &[u8]) -> String {
    let path = argument.trim_ascii_start();
    let end = path.iter().position(|&octet| octet == b'>').map_or(path.len(), |end| end + 1);
    printable(&path[..end])
}

/// `text` with what a terminal would act on escaped.
fn printable(text: &[u8]) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in String::from_utf8_lossy(text).chars() {
        match character {
            '\t' => printable.push('\t'),
            character if character.is_control() => printable.extend(character.escape_debug()),
            character => printable.push(character),
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the sink answers and shows for `input`, sent in pieces of `piece` octets.
    fn session(input: &[u8], piece: usize) -> (String, String, u64) {
        let mut sink = Sink::start().unwrap();
        let mut shown = Vec::new();
        let mut client = TcpStream::connect(sink.address()).unwrap();
        client.set_nonblocking(true).unwrap();
        let mut replies = Vec::new();
        let mut unsent = input;
        let is_over = |error: &io::Error| error.kind() != ErrorKind::WouldBlock;
        for _ in 0..1_000_000 {
            let count = client.write(&unsent[..unsent.len().min(piece)]).unwrap_or(0);
            unsent = &unsent[count..];
            sink.turn(&mut shown).unwrap();
            let mut octets = [0; 4096];
            match client.read(&mut octets) {
                Ok(0) => break,
                Ok(count) => replies.extend_from_slice(&octets[..count]),
                Err(error) if is_over(&error) => break,
                Err(_) => {}
            }
        }
        assert!(unsent.is_empty());
        (String::from_utf8(replies).unwrap(), String::from_utf8(shown).unwrap(), sink.messages())
    }

    #[test]
    fn a_pipelined_message_is_shown_as_it_arrived() {
        let input = b"EHLO r\r\nMAIL FROM:<a@b.invalid> BODY=8BITMIME\r\nRCPT TO:<c@d.invalid>\r\n\
            RCPT TO:<e@f.invalid>\r\n\
            DATA\r\nReceived: x\r\n\r\n..dot\r\n\x1b[2J \xc3\xbc\r\n.\r\nQUIT\r\n";
        for piece in [1, 7, input.len()] {
            let (replies, shown, messages) = session(input, piece);
            let codes: Vec<&str> = replies.lines().map(|line| &line[..4]).collect();
            let expected = ["220 ", "250-", "250-", "250 ", "250 ", "250 ", "250 ", "354 ", "250 ", "221 "];
            assert_eq!(codes, expected);
            assert_eq!(
                shown,
                "=== message 1 from <a@b.invalid> to <c@d.invalid>, <e@f.invalid>\n\
                 Received: x\n\n.dot\n\\u{1b}[2J ü\n=== end of message 1, 30 octets\n\n"
            );
            assert_eq!(messages, 1);
        }
    }

    #[test]
    fn long_lines_many_recipients_and_wrong_orders_are_served() {
        let mut input = b"RCPT TO:<x@y.z>\r\nDATA\r\nFROB\r\nHELO r\r\nMAIL FROM:<>\r\n".to_vec();
        input.extend((0..20).flat_map(|number| format!("RCPT TO:<r{number}@y.z>\r\n").into_bytes()));
        input.extend(b"DATA\r\n");
        input.extend(vec![b'x'; 10_000]);
        input.extend(b"\r\n.\r\nNOOP\r\nRSET\r\nQUIT\r\n");
        let (replies, shown, messages) = session(&input, 100_000);
        assert!(replies.starts_with("220 sink.demo.invalid ready\r\n503 5.5.1 MAIL first\r\n503 5.5.1 RCPT"));
        assert_eq!(replies.lines().count(), 4 + 2 + 20 + 5);
        assert!(
            shown.starts_with(
                "=== message 1 from <> to <r0@y.z>, <r1@y.z>, <r2@y.z>, <r3@y.z> and 16 more\nx"
            )
        );
        assert!(shown.ends_with("x\n=== end of message 1, 10002 octets\n\n"));
        assert_eq!(messages, 1);
    }
}
