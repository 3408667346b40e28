//! Every limit at one less, at itself, and at one more, on whatever board this is built for: over the whole
//! relay, on a disk that holds all that was written.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use postern::buffer::{Buffer, Window};
use postern::config::Config;
use postern::limits::{
    BLOCK_OCTETS, COMMAND_OCTETS_MAX, DOMAIN_OCTETS_MAX, HOPS_MAX, LOCAL_PART_OCTETS_MAX, MESSAGE_OCTETS,
    PATH_OCTETS_MAX, QUEUED_MESSAGES, RECEIVER_SESSIONS, RECIPIENTS, REPLY_LINE_OCTETS_MAX,
    REPLY_TEXT_OCTETS_MAX, SPOOL_BLOCKS, SPOOL_BLOCKS_RESERVED,
};
use postern::receiver::{BAD_COMMANDS_MAX, EVICT_FRESH_AFTER, Peer};
use postern::relay::{Connection, Relay, Room};
use postern::smtp::reply_reader::{self, ReplyLine, ReplyReader};
use postern::spool::{Block, BlockIndex, Device, DeviceError, Start, StartError, Store};
use postern::time::{Duration, Instant, Now, Wall};

/// A disk that never fails; what was never written takes no memory.
#[derive(Default)]
struct Disk {
    blocks: u32,
    written: HashMap<u32, Box<Block>>,
    /// Filler isn't kept: nothing reads it.
    keeps: bool,
}

impl Device for Disk {
    fn blocks(&self) -> u32 {
        self.blocks
    }

    fn read(&mut self, at: BlockIndex, into: &mut Block) -> Result<(), DeviceError> {
        match self.written.get(&at.0) {
            Some(block) => *into = **block,
            None => into.fill(0),
        }
        Ok(())
    }

    fn write(&mut self, at: BlockIndex, from: &Block) -> Result<(), DeviceError> {
        if self.keeps || at.0 < 2 {
            self.written.insert(at.0, Box::new(*from));
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn drop_cache(&mut self) {
        self.keeps = true;
    }

    fn resize(&mut self, blocks: u32) -> Result<(), DeviceError> {
        self.blocks = blocks;
        Ok(())
    }
}

/// A relay with its clock.
struct Site {
    relay: Relay<Disk>,
    now: Now,
}

fn start(blocks: u32) -> Result<Store<Disk>, StartError> {
    let start = Start { blocks, seed: 1, now: Instant(1000) };
    Store::start(Disk::default(), start).map(|(spool, _)| spool)
}

impl Site {
    fn new(blocks: usize, settings: &str) -> Self {
        // One client may fill the spool, and its messages stay as they are.
        let limits = settings.strip_prefix("[limits]\n").unwrap_or(settings);
        let text = format!(
            "hostname = \"relay.example\"\nquirks.missing_fields = false\n\
             [smarthost]\nhost = \"192.0.2.25\"\ntls = \"none\"\n[limits]\nspool_share = \"100%\"\n{limits}"
        );
        let config = Config::parse(&text, Path::new("postern.toml"), "relay").expect("the file is valid");
        let spool = start(blocks as u32).expect("an empty disk becomes a spool");
        let wall = Wall { unix_s: 1_795_510_800, is_trusted: true };
        Self { relay: Relay::new(config, spool, 1), now: Now { instant: Instant(1000), wall } }
    }

    fn peer(host: u8) -> Peer {
        Peer::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), true)
    }

    /// A client that has said EHLO.
    fn client(&mut self) -> Connection {
        assert_eq!(self.relay.make_room(&self.now), Room::Free);
        let at = self.relay.admit(&self.now, Self::peer(1)).expect("there is room");
        assert!(self.say(at, b"EHLO client.example\r\n").contains("250 HELP\r\n"));
        at
    }

    /// Sends `octets` and returns what is answered.
    fn say(&mut self, at: Connection, mut octets: &[u8]) -> String {
        let mut heard = String::new();
        loop {
            let space = self.relay.space(at);
            let count = space.len().min(octets.len());
            space[..count].copy_from_slice(&octets[..count]);
            octets = &octets[count..];
            if count > 0 {
                self.relay.filled(&self.now, at, count);
            }
            let is_committing = self.relay.is_committing(at);
            if is_committing {
                self.relay.turn(&self.now);
            }
            let output = self.relay.output(at);
            let said = output.len();
            heard.push_str(std::str::from_utf8(output).expect("replies are ASCII"));
            if said > 0 {
                self.relay.sent(&self.now, at, said);
            }
            if count == 0 && said == 0 && !is_committing {
                assert!(octets.is_empty(), "it reads no more");
                return heard;
            }
        }
    }

    /// The code of the one reply to `octets`.
    fn code(&mut self, at: Connection, octets: &[u8]) -> u16 {
        let heard = self.say(at, octets);
        let last = heard.lines().last().unwrap_or_else(|| panic!("no reply to {}", octets.escape_ascii()));
        last[..3].parse().expect("a reply has a code")
    }

    /// Hands in `mail_data` to one recipient; the last code.
    fn send(&mut self, at: Connection, mail_data: &[u8]) -> u16 {
        for line in ["MAIL FROM:<a@b.example>\r\n", "RCPT TO:<c@d.example>\r\n"] {
            let code = self.code(at, line.as_bytes());
            if code != 250 {
                self.say(at, b"RSET\r\n");
                return code;
            }
        }
        assert_eq!(self.code(at, b"DATA\r\n"), 354);
        self.code(at, &[mail_data, b".\r\n"].concat())
    }
}

/// One less, the limit itself, one more, each with its reply.
fn codes(limit: usize, within: u16, beyond: u16, mut code: impl FnMut(usize) -> u16) {
    for (count, expected) in [(limit - 1, within), (limit, within), (limit + 1, beyond)] {
        assert_eq!(code(count), expected, "{count} where {limit} is the limit");
    }
}

/// A domain of so many octets.
fn domain(octets: usize) -> String {
    let mut name: String = "d".repeat(octets);
    let mut dot = 60;
    while dot + 1 < octets {
        name.replace_range(dot..=dot, ".");
        dot += 60;
    }
    name
}

/// Mail data of so many octets, in lines.
fn mail_data(octets: usize) -> Vec<u8> {
    let mut text = vec![b'x'; octets];
    for end in (78..octets.saturating_sub(80)).step_by(80) {
        text[end..end + 2].copy_from_slice(b"\r\n");
    }
    text[octets - 2..].copy_from_slice(b"\r\n");
    text
}

/// Octets of SIZE in the reply to EHLO.
fn announced(site: &mut Site, at: Connection) -> usize {
    let hello = site.say(at, b"EHLO client.example\r\n");
    let size = hello.lines().find_map(|line| line.strip_prefix("250-SIZE ")).expect("SIZE is offered");
    size.parse().expect("SIZE is a number")
}

#[test]
fn command_line() {
    let mut site = Site::new(64, "");
    let at = site.client();
    codes(COMMAND_OCTETS_MAX, 250, 500, |octets| {
        let line = format!("NOOP {}\r\n", "x".repeat(octets - 7));
        assert_eq!(line.len(), octets);
        site.code(at, line.as_bytes())
    });
    assert_eq!(site.code(at, b"NOOP\r\n"), 250);
}

#[test]
fn path_and_local_part() {
    let mut site = Site::new(64, "");
    let at = site.client();
    for (command, until) in [("MAIL FROM:", ""), ("RCPT TO:", "MAIL FROM:<>\r\n")] {
        let mut code = |path: String| {
            site.say(at, format!("RSET\r\n{until}").as_bytes());
            site.code(at, format!("{command}{path}\r\n").as_bytes())
        };
        codes(PATH_OCTETS_MAX, 250, 501, |octets| {
            let path = format!("<{}@{}>", "l".repeat(60), domain(octets - 63));
            assert_eq!(path.len(), octets);
            code(path)
        });
        codes(LOCAL_PART_OCTETS_MAX, 250, 501, |octets| code(format!("<{}@b.example>", "l".repeat(octets))));
    }
}

#[test]
fn domain_of_a_client() {
    let mut site = Site::new(64, "");
    let at = site.client();
    for verb in ["EHLO", "HELO"] {
        codes(DOMAIN_OCTETS_MAX, 250, 501, |octets| {
            site.code(at, format!("{verb} {}\r\n", domain(octets)).as_bytes())
        });
    }
}

/// RFC 5321 4.5.3.1.6: lines of 1,000 octets must be taken; longer ones are too, and stay as they are.
#[test]
fn text_line() {
    let mut site = Site::new(64, "");
    let at = site.client();
    for octets in [999, 1000, 1001, 4067, 4068, 4069, 50_000] {
        let line = [&vec![b'x'; octets - 2][..], b"\r\n"].concat();
        assert_eq!(site.send(at, &line), 250);
        let spool = site.relay.spool();
        assert!(spool.messages().any(|message| spool.facts(message).octets == octets as u64));
    }
}

#[test]
fn message_size_of_the_board() {
    let octets_max = MESSAGE_OCTETS as usize;
    let blocks = octets_max / (BLOCK_OCTETS - 100) + 64;
    for octets in [octets_max - 1, octets_max, octets_max + 1] {
        let mut site = Site::new(blocks.min(SPOOL_BLOCKS), "");
        let at = site.client();
        assert_eq!(announced(&mut site, at), octets_max);
        let is_within = octets <= octets_max;
        let declared = format!("MAIL FROM:<a@b.example> SIZE={octets}\r\n");
        assert_eq!(site.code(at, declared.as_bytes()), if is_within { 250 } else { 552 });
        site.say(at, b"RSET\r\n");
        assert_eq!(site.send(at, &mail_data(octets)), if is_within { 250 } else { 552 });
    }
}

#[test]
fn message_size_of_the_configuration() {
    let mut site = Site::new(256, "[limits]\nmessage_size = \"64KiB\"\n");
    let at = site.client();
    codes(65_536, 250, 552, |octets| site.send(at, &mail_data(octets)));
    codes(65_536, 250, 552, |octets| {
        site.say(at, b"RSET\r\n");
        site.code(at, format!("MAIL FROM:<a@b.example> SIZE={octets}\r\n").as_bytes())
    });
}

/// What SIZE announces is what an empty spool holds; to one octet.
#[test]
fn message_size_of_a_small_spool() {
    let blocks = 40;
    let mut site = Site::new(blocks, "");
    let at = site.client();
    let octets_max = announced(&mut site, at);
    assert!(octets_max < blocks * BLOCK_OCTETS);
    for octets in [octets_max - 1, octets_max, octets_max + 1] {
        let mut site = Site::new(blocks, "");
        let at = site.client();
        let expected = if octets <= octets_max { 250 } else { 552 };
        let declared = format!("MAIL FROM:<a@b.example> SIZE={octets}\r\n");
        assert_eq!(site.code(at, declared.as_bytes()), expected);
        site.say(at, b"RSET\r\n");
        assert_eq!(site.send(at, &mail_data(octets)), expected);
    }
}

#[test]
fn recipients_of_a_message() {
    let mut site = Site::new(1024, "");
    let at = site.client();
    assert_eq!(site.code(at, b"MAIL FROM:<a@b.example>\r\n"), 250);
    for recipient in 1..=RECIPIENTS + 2 {
        let code = site.code(at, format!("RCPT TO:<r{recipient}@d.example>\r\n").as_bytes());
        assert_eq!(code, if recipient <= RECIPIENTS { 250 } else { 452 }, "recipient {recipient}");
    }
    assert_eq!(site.code(at, b"DATA\r\n"), 354);
    assert_eq!(site.code(at, b"x\r\n.\r\n"), 250);
    let spool = site.relay.spool();
    let message = spool.messages().next().expect("it was accepted");
    assert_eq!(usize::from(spool.facts(message).recipients), RECIPIENTS);
}

/// A full table takes a new client only once the one that is longest without progress has been so for a
/// second, or for a tenth of one if it has said nothing of use yet.
#[test]
fn sessions() {
    let mut site = Site::new(64, "");
    for session in 1..=RECEIVER_SESSIONS {
        assert_eq!(site.relay.make_room(&site.now), Room::Free, "session {session}");
        site.relay.admit(&site.now, Site::peer(1)).expect("there is room");
        site.now.instant = site.now.instant + Duration(1);
    }
    let first_evictable = Instant(1000) + EVICT_FRESH_AFTER;
    for (instant, expected) in [
        (site.now.instant, Room::FreeAt(first_evictable)),
        (first_evictable - Duration(1), Room::FreeAt(first_evictable)),
        (first_evictable, Room::Evicted(Connection::Receiver(0))),
    ] {
        site.now.instant = instant;
        assert_eq!(site.relay.make_room(&site.now), expected);
    }
    assert!(site.relay.output(Connection::Receiver(0)).ends_with(b"for longest\r\n"));
    site.relay.closed(&site.now, Connection::Receiver(0));
    assert_eq!(site.relay.make_room(&site.now), Room::Free);
}

#[test]
fn sessions_of_the_configuration() {
    for most in 1..RECEIVER_SESSIONS.min(4) {
        let mut site = Site::new(64, &format!("[limits]\nsessions = {most}\n"));
        for session in 1..=most + 1 {
            let is_free = site.relay.make_room(&site.now) == Room::Free;
            assert_eq!(is_free, session <= most);
            if is_free {
                site.relay.admit(&site.now, Site::peer(1)).expect("there is room");
            }
        }
    }
}

#[test]
fn sessions_of_a_client() {
    for most in 1..RECEIVER_SESSIONS.min(4) {
        let mut site = Site::new(64, &format!("[limits]\nsessions_per_client = {most}\n"));
        for session in 1..=most + 1 {
            let is_admitted = site.relay.admit(&site.now, Site::peer(1)).is_ok();
            assert_eq!(is_admitted, session <= most, "session {session} of {most}");
        }
        assert!(site.relay.admit(&site.now, Site::peer(2)).is_ok());
    }
}

#[test]
fn queued_messages() {
    let mut site = Site::new((QUEUED_MESSAGES + 64).min(SPOOL_BLOCKS), "");
    let at = site.client();
    for message in 1..=QUEUED_MESSAGES + 1 {
        let code = site.send(at, b"x\r\n");
        assert_eq!(code, if message <= QUEUED_MESSAGES { 250 } else { 452 }, "message {message}");
    }
    assert_eq!(site.relay.spool().messages().count(), QUEUED_MESSAGES);
}

/// A small message is one block; a few blocks are kept for new heads.
#[test]
fn spool_full() {
    let blocks = 40;
    let mut site = Site::new(blocks, "");
    let at = site.client();
    let most = blocks - SPOOL_BLOCKS_RESERVED;
    for message in 1..=most + 1 {
        assert_eq!(site.send(at, b"x\r\n"), if message <= most { 250 } else { 452 }, "message {message}");
    }
    // What was declared and promised is there, whatever others do meanwhile.
    let mut site = Site::new(blocks, "");
    let one = site.client();
    assert_eq!(site.code(one, b"MAIL FROM:<a@b.example> SIZE=40000\r\nRCPT TO:<c@d.example>\r\n"), 250);
    let other = site.client();
    while site.send(other, b"x\r\n") == 250 {}
    assert_eq!(site.code(one, b"DATA\r\n"), 354);
    assert_eq!(site.code(one, &[&mail_data(40_000)[..], b".\r\n"].concat()), 250);
}

#[test]
fn spool_blocks() {
    assert_eq!(start(SPOOL_BLOCKS as u32 - 1).map(|spool| spool.blocks() as usize), Ok(SPOOL_BLOCKS - 1));
    assert_eq!(start(SPOOL_BLOCKS as u32).map(|spool| spool.blocks() as usize), Ok(SPOOL_BLOCKS));
    let beyond = start(SPOOL_BLOCKS as u32 + 1).map(|_| ());
    assert_eq!(beyond, Err(StartError::TooLarge(SPOOL_BLOCKS as u32 + 1)));
}

#[test]
fn bad_commands_of_a_session() {
    let mut site = Site::new(64, "");
    let at = site.client();
    for bad in 1..=BAD_COMMANDS_MAX {
        let code = site.code(at, b"NONSENSE\r\n");
        assert_eq!(code, if bad < BAD_COMMANDS_MAX { 500 } else { 421 }, "bad command {bad}");
        assert_eq!(site.relay.is_closing(at), bad == BAD_COMMANDS_MAX);
    }
    let at = site.client();
    for round in 0..3 {
        for bad in 1..BAD_COMMANDS_MAX {
            assert_eq!(site.code(at, b"NONSENSE\r\n"), 500, "round {round}, bad command {bad}");
        }
        assert_eq!(site.send(at, b"x\r\n"), 250);
    }
}

#[test]
fn hops() {
    let mut site = Site::new(64, "");
    let at = site.client();
    codes(HOPS_MAX, 250, 554, |hops| {
        let fields = "Received: from a by b; Thu, 01 Jan 1970 00:00:00 +0000\r\n".repeat(hops);
        site.send(at, format!("{fields}\r\nbody\r\n").as_bytes())
    });
}

#[test]
fn silence() {
    for (wait, is_over) in [(299_999, false), (300_000, true), (300_001, true)] {
        let mut site = Site::new(64, "");
        let at = site.client();
        assert_eq!(site.relay.deadline(site.now.instant), Some(Instant(301_000)));
        site.now.instant = site.now.instant + Duration(wait);
        site.relay.expire(&site.now);
        assert_eq!(site.relay.is_closing(at), is_over, "{wait} ms");
        assert_eq!(site.relay.output(at).starts_with(b"421 4.4.2"), is_over);
    }
}

/// Our own reply lines, with the longest name that a host may have.
#[test]
fn reply_lines() {
    for octets in [DOMAIN_OCTETS_MAX - 1, DOMAIN_OCTETS_MAX] {
        let mut site = Site::new(64, "");
        let hostname = domain(octets);
        let text = format!("hostname = \"{hostname}\"\n[smarthost]\nhost = \"192.0.2.25\"\ntls = \"none\"\n");
        let config = Config::parse(&text, Path::new("postern.toml"), "relay").expect("the file is valid");
        site.relay = Relay::new(config, start(64).expect("an empty disk becomes a spool"), 1);
        let at = site.relay.admit(&site.now, Site::peer(1)).expect("there is room");
        let heard = site.say(at, b"EHLO client.example\r\nHELO client.example\r\nHELP\r\nQUIT\r\n");
        assert!(heard.split_inclusive("\r\n").all(|line| line.len() <= REPLY_LINE_OCTETS_MAX), "{heard}");
        assert_eq!(heard.matches(&hostname).count(), 4);
    }
    let hostname = domain(DOMAIN_OCTETS_MAX + 1);
    let text = format!("hostname = \"{hostname}\"\n[smarthost]\nhost = \"192.0.2.25\"\ntls = \"none\"\n");
    assert!(Config::parse(&text, Path::new("postern.toml"), "relay").is_err());
}

/// Reads one reply that comes in pieces; the last line's text, or `None` for a malformed one.
fn read_reply(octets: &[u8]) -> Option<Vec<u8>> {
    let (mut space, mut window) = (vec![0; 512], Window::default());
    let mut reader = ReplyReader::new();
    let mut last = None;
    for piece in octets.chunks(512) {
        let mut input = Buffer::new(&mut space, &mut window);
        input.append(piece);
        while let Some(line) = reader.read(&mut input).ok()? {
            last = matches!(line, ReplyLine::Last | ReplyLine::Only).then(|| reader.text().to_vec());
        }
        assert!(input.is_empty());
    }
    last
}

/// A smarthost's reply lines may be longer than RFC 5321 4.5.3.1.5 allows: they are read, and their text cut.
#[test]
fn reply_lines_of_the_smarthost() {
    for octets in [REPLY_LINE_OCTETS_MAX - 1, REPLY_LINE_OCTETS_MAX, REPLY_LINE_OCTETS_MAX + 1, 5000] {
        let line = format!("250 {}\r\n", "x".repeat(octets - 6));
        assert_eq!(read_reply(line.as_bytes()).map(|text| text.len()), Some(REPLY_TEXT_OCTETS_MAX));
    }
    for octets in [REPLY_TEXT_OCTETS_MAX - 1, REPLY_TEXT_OCTETS_MAX, REPLY_TEXT_OCTETS_MAX + 1] {
        let line = format!("250 {}\r\n", "x".repeat(octets));
        let kept = octets.min(REPLY_TEXT_OCTETS_MAX);
        assert_eq!(read_reply(line.as_bytes()).map(|text| text.len()), Some(kept));
    }
    let octets_max = reply_reader::REPLY_OCTETS_MAX;
    for octets in [octets_max - 1, octets_max, octets_max + 1] {
        let line = format!("250 {}\r\n", "x".repeat(octets - 6));
        assert_eq!(read_reply(line.as_bytes()).is_some(), octets <= octets_max, "{octets} octets");
    }
}

/// A smarthost that takes everything; how many recipients it was named in each transaction.
fn transactions(site: &mut Site) -> Vec<usize> {
    site.relay.turn(&site.now);
    let at = site.relay.wants_connection(&site.now).expect("mail waits");
    site.relay.connected(&site.now, at, IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut answers = b"220 ready\r\n".to_vec();
    let (mut transactions, mut recipients, mut is_data, mut heard) = (Vec::new(), 0, false, Vec::new());
    loop {
        let space = site.relay.space(at);
        let count = space.len().min(answers.len());
        space[..count].copy_from_slice(&answers[..count]);
        answers.drain(..count);
        if count > 0 {
            site.relay.filled(&site.now, at, count);
        }
        site.relay.turn(&site.now);
        let said = site.relay.output(at).len();
        heard.extend_from_slice(site.relay.output(at));
        site.relay.sent(&site.now, at, said);
        if said == 0 && count == 0 {
            return transactions;
        }
        while let Some(end) = heard.windows(2).position(|octets| octets == b"\r\n") {
            let line: Vec<u8> = heard.drain(..end + 2).collect();
            if is_data && line != b".\r\n" {
                continue;
            }
            let answer = match &line[..line.len().min(4)] {
                _end if is_data => {
                    is_data = false;
                    "250 taken\r\n"
                }
                b"EHLO" => "250-smarthost\r\n250 PIPELINING\r\n",
                b"DATA" => {
                    is_data = true;
                    transactions.push(std::mem::take(&mut recipients));
                    "354 go on\r\n"
                }
                verb => {
                    recipients += usize::from(verb == b"RCPT");
                    "250 ok\r\n"
                }
            };
            answers.extend_from_slice(answer.as_bytes());
        }
    }
}

/// RFC 5321 4.5.3.1.8: no smarthost has to take more than 100 recipients at once.
#[test]
fn recipients_of_a_transaction() {
    for (recipients, expected) in [(99, vec![99]), (100, vec![100]), (101, vec![100, 1])] {
        let mut site = Site::new(64, "");
        let at = site.client();
        assert_eq!(site.code(at, b"MAIL FROM:<a@b.example>\r\n"), 250);
        for recipient in 0..recipients {
            assert_eq!(site.code(at, format!("RCPT TO:<r{recipient}@d.example>\r\n").as_bytes()), 250);
        }
        assert_eq!(site.code(at, b"DATA\r\n"), 354);
        assert_eq!(site.code(at, b".x\r\n.\r\n"), 250);
        assert_eq!(transactions(&mut site), expected);
        assert_eq!(site.relay.spool().messages().count(), 0);
    }
}
