//! The clients: one state machine that follows the protocol as closely as its kind does.
//!
//! A client knows of each reply what it answers, whatever it has sent ahead; only one that floods does not,
//! and neither reads nor believes. Each attempt to hand a message over is a submission of its own, known to
//! the oracle. Some are users of this machine, who come by the submission socket.

mod kinds;
mod secure;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use postern::receiver::Peer;

use crate::disk::Random;
use crate::dsn;
use crate::mail::{self, Mail};
use crate::names;
use crate::net::{End, Got, Ms, Wire};
use crate::oracle::{Oracle, Stage};
use crate::swarm::{self, Draw};
use crate::trace;
pub(crate) use kinds::{KINDS, Kind};
use secure::Security;

/// What a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Greeting,
    Hello,
    StartTls,
    Login,
    Mail(usize),
    Rcpt(usize, usize),
    Data(usize),
    /// A chunk that is not the last; how many octets of the mail data were sent with it.
    Chunk(usize, usize),
    Message(usize),
    Other,
    Quit,
}

/// What is to become of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on.
    Stays,
    /// It is done, or gave up.
    Leaves,
    /// It lost the connection with mail in hand, and makes another.
    ComesBack,
}

/// A client's end of one connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// The connection.
    pub(crate) wire: usize,
    /// The start of the relay that the connection was made to.
    pub(crate) run: u32,
    /// The last octet of its address, or a user's number less 1,000.
    pub(crate) host: u8,
    /// It is a user of this machine.
    is_local: bool,
    security: Security,
    kind: Kind,
    habits: swarm::Clients,
    is_extended: bool,
    /// BDAT instead of DATA.
    uses_chunks: bool,
    messages: u64,
    lives: u8,
    awaited: VecDeque<Awaited>,
    line: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    sent: u64,
    /// Where in the output mail data ends, and whose it is.
    ends: VecDeque<(usize, usize)>,
    octets_a_go: usize,
    gap_ms: Ms,
    next_at: Ms,
    /// It does nothing more once it has sent so many octets.
    stops_after: u64,
    has_finished: bool,
}

impl Client {
    /// A client that has just connected.
    pub(crate) fn new(
        random: &mut Random,
        wire: usize,
        run: u32,
        kind: Kind,
        habits: swarm::Clients,
    ) -> Self {
        let is_slow = kind == Kind::Slow || random.chance(30);
        let stops = matches!(kind, Kind::Stalling | Kind::Breaking);
        let is_extended = matches!(kind, Kind::Flooding | Kind::Deaf) || random.chance(800);
        let mut client = Self {
            wire,
            run,
            host: random.between(1, 3) as u8,
            is_local: random.chance(habits.local),
            security: Security::NONE,
            kind,
            habits,
            is_extended,
            uses_chunks: is_extended && random.chance(habits.chunks),
            messages: random.between(1, habits.messages),
            lives: 3,
            awaited: VecDeque::from([Awaited::Greeting]),
            line: Vec::new(),
            output: Vec::new(),
            written: 0,
            sent: 0,
            ends: VecDeque::new(),
            octets_a_go: if is_slow { 1 + random.below(12) } else { usize::MAX },
            gap_ms: if is_slow { random.pick(&[1, 50, 2000]) } else { 0 },
            next_at: 0,
            stops_after: if stops { random.between(0, 300 + habits.message_octets) } else { u64::MAX },
            has_finished: false,
        };
        if !client.is_local {
            client.security = Security::new(random, &habits);
        }
        client.begin();
        client
    }

    /// The same client on a new connection.
    pub(crate) fn again(self, wire: usize, run: u32) -> Self {
        let security = self.security.again();
        let mut client = Self {
            wire,
            run,
            security,
            lives: self.lives - 1,
            awaited: VecDeque::from([Awaited::Greeting]),
            line: Vec::new(),
            output: Vec::new(),
            written: 0,
            sent: 0,
            ends: VecDeque::new(),
            has_finished: false,
            ..self
        };
        client.begin();
        client
    }

    /// Who it is to the relay.
    pub(crate) fn peer(&self) -> Peer {
        if self.is_local {
            Peer::local(self.uid())
        } else {
            Peer::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, self.host)), false).by(self.security.listener())
        }
    }

    fn uid(&self) -> u32 {
        1000 + u32::from(self.host)
    }

    /// From now on it behaves.
    pub(crate) fn mend(&mut self) {
        self.octets_a_go = usize::MAX;
        self.gap_ms = 0;
        self.next_at = 0;
    }

    fn reads(&self) -> bool {
        self.kind != Kind::Deaf
    }

    fn is_to_flood(&self) -> bool {
        matches!(self.kind, Kind::Flooding | Kind::Deaf) && self.sent == 0 && self.output.is_empty()
    }

    fn is_stopped(&self) -> bool {
        self.sent >= self.stops_after
    }

    /// When it has something to do, as things stand.
    pub(crate) fn wakes_at(&self, wire: &Wire) -> Option<Ms> {
        if self.is_to_flood() {
            return Some(0);
        }
        let may_write = wire.to_relay.room() > 0 && !self.is_stopped() && self.written < self.output.len();
        let write = may_write.then_some(self.next_at);
        let is_at_end = self.is_stopped() && self.kind == Kind::Breaking;
        let read = wire.from_relay.ready_at().filter(|_| self.reads());
        // Even one that doesn't read learns that the connection broke, when it writes.
        let broken = wire.to_relay.is_broken().then_some(0);
        write.into_iter().chain(read).chain(broken).chain(is_at_end.then_some(0)).min()
    }

    /// Reads what has come, and writes what it wants to say.
    pub(crate) fn act(
        &mut self,
        random: &mut Random,
        now: Ms,
        wire: &mut Wire,
        run: u32,
        oracle: &mut Oracle,
    ) -> Fate {
        let mut octets = [0; 2048];
        if self.is_to_flood() {
            self.flood(random, oracle);
        }
        while self.reads() {
            match wire.from_relay.read(now, &mut octets) {
                Got::Nothing => break,
                Got::Octets(_) if self.kind == Kind::Flooding => {}
                Got::Octets(count) => {
                    for octet in &octets[..count] {
                        let Some(octet) = self.unveil(*octet) else { continue };
                        self.line.push(octet);
                        if octet == b'\n' {
                            self.hear(random, run, oracle);
                        }
                    }
                }
                Got::End(_) => return self.ends(random, now, wire, End::Finished),
            }
        }
        if self.kind == Kind::Breaking && self.is_stopped() {
            let end = if random.chance(500) { End::Finished } else { End::Reset };
            return self.ends(random, now, wire, end);
        }
        if wire.to_relay.is_broken() {
            return self.ends(random, now, wire, End::Reset);
        }
        self.write(random, now, wire, oracle);
        let is_said = self.output.is_empty() && self.sent > 0;
        match self.kind {
            Kind::Leaving if is_said && self.has_finished => self.ends(random, now, wire, End::Finished),
            Kind::HalfClosing if is_said && self.has_finished => {
                wire.to_relay.finish(now, End::Finished, random);
                Fate::Stays
            }
            Kind::Flooding if is_said && random.chance(100) => self.ends(random, now, wire, End::Finished),
            Kind::Honest | Kind::Pipelining | Kind::Slow | Kind::Stalling => Fate::Stays,
            Kind::Flooding | Kind::Leaving | Kind::Deaf | Kind::HalfClosing | Kind::Breaking => Fate::Stays,
        }
    }

    fn ends(&self, random: &mut Random, now: Ms, wire: &mut Wire, end: End) -> Fate {
        wire.closed_by_peer(now, end, random);
        let is_honest = matches!(self.kind, Kind::Honest | Kind::Pipelining | Kind::Slow);
        if is_honest && self.messages > 0 && self.lives > 0 { Fate::ComesBack } else { Fate::Leaves }
    }

    fn write(&mut self, random: &mut Random, now: Ms, wire: &mut Wire, oracle: &mut Oracle) {
        if self.next_at > now || self.written == self.output.len() {
            return;
        }
        let left = usize::try_from(self.stops_after - self.sent).unwrap_or(usize::MAX);
        let rest = &self.output[self.written..];
        let rest = &rest[..rest.len().min(self.octets_a_go).min(left)];
        let count = wire.to_relay.write(now, &self.security.veiled(rest, self.written), random);
        self.written += count;
        self.sent += count as u64;
        self.next_at = now + self.gap_ms;
        while let Some((end, submission)) = self.ends.front()
            && *end <= self.written
        {
            oracle.ended(*submission, now);
            self.ends.pop_front();
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
            self.security.is_written();
        }
    }

    fn hello(&self) -> String {
        format!("{} c{}.example", if self.is_extended { "EHLO" } else { "HELO" }, self.host)
    }

    fn say(&mut self, line: &str, awaited: Awaited) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
        self.awaited.push_back(awaited);
    }

    /// One line of a reply has come.
    fn hear(&mut self, random: &mut Random, run: u32, oracle: &mut Oracle) {
        let line = std::mem::take(&mut self.line);
        let text = std::str::from_utf8(&line).expect("REPLY: not ASCII").trim_end();
        assert!(line.ends_with(b"\r\n") && text.len() >= 4 && line.len() <= 512, "REPLY: {text:?}");
        if text.as_bytes()[3] == b'-' {
            return;
        }
        let code: u16 = text[..3].parse().unwrap_or_else(|_| panic!("REPLY: {text:?}"));
        trace!("client {}: hears {text}", self.wire);
        let Some(awaited) = self.awaited.pop_front() else {
            assert_eq!(code, 421, "REPLY: {text:?}, which answers nothing");
            return;
        };
        let is_good = code / 100 == 2;
        match awaited {
            Awaited::Greeting if is_good => self.greeted(),
            Awaited::Hello if is_good => self.come_in(random, oracle),
            Awaited::StartTls => self.starttls_answered(random, code, oracle),
            Awaited::Login => self.login_answered(random, code, oracle),
            Awaited::Mail(at) if self.kind != Kind::Pipelining => {
                if is_good {
                    self.say_recipient(at, 0, oracle);
                } else {
                    self.try_again(random, code, oracle);
                }
            }
            Awaited::Mail(_) => {}
            Awaited::Rcpt(at, recipient) => {
                oracle.recipient_answered(at, recipient, code);
                if self.kind == Kind::Pipelining {
                    return;
                }
                if random.chance(30) {
                    // It changes its mind, in one of the ways to do so.
                    let hello = self.hello();
                    let ways = ["RSET", &hello];
                    self.say(random.pick(&ways), Awaited::Other);
                    self.next_message(random, oracle);
                } else if recipient + 1 < oracle.recipients(at) {
                    self.say_recipient(at, recipient + 1, oracle);
                } else if self.uses_chunks && oracle.submission(at).mail.is_of_lines() {
                    self.send_chunk(random, at, 0, oracle);
                } else {
                    self.say("DATA", Awaited::Data(at));
                }
            }
            Awaited::Chunk(at, sent) if is_good => self.send_chunk(random, at, sent, oracle),
            Awaited::Data(at) if code == 354 => self.send(random, at, oracle),
            Awaited::Data(_) | Awaited::Chunk(..) => {
                self.say("RSET", Awaited::Other);
                self.try_again(random, code, oracle);
            }
            Awaited::Message(at) => {
                oracle.answered(at, code, &text[4..], self.run == run);
                let is_ahead = !self.awaited.is_empty() || self.has_finished;
                if !is_good && code / 100 == 4 && self.lives > 0 {
                    self.lives -= 1;
                    self.messages += 1;
                }
                if !is_ahead {
                    self.next_message(random, oracle);
                }
            }
            Awaited::Greeting | Awaited::Hello => self.say("QUIT", Awaited::Quit),
            Awaited::Other | Awaited::Quit => {}
        }
    }

    /// A transaction was refused before its data: another one for the same mail, a few times.
    fn try_again(&mut self, random: &mut Random, code: u16, oracle: &mut Oracle) {
        if code / 100 == 4 && self.lives > 0 {
            self.lives -= 1;
            self.messages += 1;
        }
        self.next_message(random, oracle);
    }

    fn say_recipient(&mut self, at: usize, recipient: usize, oracle: &Oracle) {
        self.say(&self.recipient_command(at, recipient, oracle), Awaited::Rcpt(at, recipient));
    }

    fn next_message(&mut self, random: &mut Random, oracle: &mut Oracle) {
        if self.messages == 0 {
            self.say("QUIT", Awaited::Quit);
            return;
        }
        self.messages -= 1;
        let at = self.submit(random, oracle, self.habits.bare);
        let command = self.mail_command(random, at, oracle);
        self.say(&command, Awaited::Mail(at));
        if self.kind == Kind::Pipelining {
            for recipient in 0..oracle.recipients(at) {
                self.say_recipient(at, recipient, oracle);
            }
            self.say("DATA", Awaited::Data(at));
        }
    }

    fn submit(&self, random: &mut Random, oracle: &mut Oracle, bare: u32) -> usize {
        let mail = Mail::new(random, oracle.next_submission(), self.habits.message_octets, bare);
        let recipients = random.between(1, self.habits.recipients).min(random.between(1, 150));
        let letters = self.security.letters();
        let protocol = if self.is_extended { format!("ESMTP{letters}") } else { "SMTP".to_owned() };
        let host = self.host;
        let whence = if self.is_local { format!("uid {}", self.uid()) } else { format!("[192.0.2.{host}]") };
        let trace =
            format!("Received: from c{host}.example ({whence})\r\n\tby relay.example with {protocol} id ");
        let has_dsn = self.is_extended && random.chance(self.habits.dsn);
        oracle.submit(mail, recipients as usize, trace, has_dsn)
    }

    fn recipient_command(&self, at: usize, recipient: usize, oracle: &Oracle) -> String {
        let has_dsn = oracle.submission(at).has_dsn;
        let parameters = if has_dsn { dsn::of_recipient(at, recipient) } else { String::new() };
        let call = if self.habits.calls_names { names::called } else { mail::forward_path };
        format!("RCPT TO:<{}>{parameters}", call(at, recipient))
    }

    fn mail_command(&self, random: &mut Random, at: usize, oracle: &Oracle) -> String {
        let mail = &oracle.submission(at).mail;
        let mut command = format!("MAIL FROM:<{}>", mail::reverse_path(at));
        if self.is_extended {
            let octets = mail.expected.len() as u64;
            match random.below(6) {
                0..=2 => {}
                3 => command += &format!(" SIZE={}", random.between(0, octets)),
                4 => command += &format!(" SIZE={}", octets + random.between(0, 5000)),
                _ => command += &format!(" SIZE={octets}"),
            }
        }
        // Many a device says nothing of it.
        if self.is_extended && mail.is_8bit && !at.is_multiple_of(3) {
            command += " BODY=8BITMIME";
        }
        if oracle.submission(at).has_dsn {
            command += &dsn::of_mail(at);
        }
        command
    }

    /// The mail data, its end, and what this kind sends right behind.
    fn send(&mut self, random: &mut Random, at: usize, oracle: &mut Oracle) {
        self.append_mail(at, oracle);
        self.awaited.push_back(Awaited::Message(at));
        self.go_on(random, oracle);
    }

    /// The next chunk of a message, of which so many octets were sent (RFC 3030 2).
    fn send_chunk(&mut self, random: &mut Random, at: usize, sent: usize, oracle: &mut Oracle) {
        let octets = &oracle.submission(at).mail.expected[sent..];
        let is_last = random.chance(400);
        let chunk = &octets[..if is_last { octets.len() } else { random.below(octets.len() + 1) }];
        let (last, awaited) = match is_last {
            true => (" LAST", Awaited::Message(at)),
            false => ("", Awaited::Chunk(at, sent + chunk.len())),
        };
        self.say(&format!("BDAT {}{last}", chunk.len()), awaited);
        self.output.extend_from_slice(chunk);
        if is_last {
            self.ends.push_back((self.output.len(), at));
            self.go_on(random, oracle);
        }
    }

    /// The mail data was sent: what comes right behind.
    fn go_on(&mut self, random: &mut Random, oracle: &mut Oracle) {
        match self.kind {
            Kind::Leaving => {
                self.say("QUIT", Awaited::Quit);
                self.has_finished = true;
            }
            Kind::HalfClosing => self.has_finished = true,
            Kind::Pipelining if random.chance(500) => self.next_message(random, oracle),
            Kind::Honest | Kind::Pipelining | Kind::Slow | Kind::Flooding => {}
            Kind::Stalling | Kind::Deaf | Kind::Breaking => {}
        }
    }

    fn append_mail(&mut self, at: usize, oracle: &Oracle) {
        assert_eq!(oracle.submission(at).stage, Stage::Open);
        self.output.extend_from_slice(&oracle.submission(at).mail.wire);
        self.output.extend_from_slice(b".\r\n");
        self.ends.push_back((self.output.len(), at));
    }

    /// All that a flooding client ever says. Its mail has no tricks in it: where a message is refused, its
    /// mail data becomes commands, as it must.
    fn flood(&mut self, random: &mut Random, oracle: &mut Oracle) {
        self.say(&format!("EHLO c{}.example", self.host), Awaited::Other);
        for _ in 0..self.messages.min(2) {
            for _ in 0..random.below(40) {
                let noise = random.pick(&["NOOP", "RSET", "HELP", "VRFY x", "EXPN x", "nonsense"]);
                self.say(noise, Awaited::Other);
            }
            // An open transaction would take the recipients of this one.
            self.say("RSET", Awaited::Other);
            let at = self.submit(random, oracle, 0);
            let command = self.mail_command(random, at, oracle);
            self.say(&command, Awaited::Other);
            for recipient in 0..oracle.recipients(at) {
                self.say(&self.recipient_command(at, recipient, oracle), Awaited::Other);
            }
            self.say("DATA", Awaited::Other);
            self.append_mail(at, oracle);
        }
        self.messages = 0;
    }
}
