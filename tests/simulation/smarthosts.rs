//! The smarthost, one value for each of its connections: an SMTP server that takes, refuses, drops, stalls
//! and babbles as the run's draws say, and holds the relay to the protocol. TLS and the login stand in
//! `login.rs`, mail in `transaction.rs`.

mod login;
mod transaction;

use std::collections::VecDeque;

use crate::disk::Random;
use crate::net::{End, Got, Ms, Wire};
use crate::oracle::{Oracle, Since, Told};
use crate::secure::{self, Account};
use crate::swarm::{Configured, Draw, Smarthosts};
use crate::trace;
use login::Exchange;

/// What the relay awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The relay is to begin TLS.
    Handshake,
    Commands,
    /// A line of the login.
    Login(Exchange),
    Data {
        is_void: bool,
    },
    /// The octets behind BDAT.
    Chunk {
        octets: usize,
    },
    /// Nothing is said any more, and perhaps nothing read.
    Silent {
        reads: bool,
    },
    Over,
}

#[derive(Debug)]
struct Reply {
    at: Ms,
    octets: Vec<u8>,
    told: Option<Told>,
}

/// How a connection comes to be.
#[derive(Clone, Debug)]
pub(crate) struct Contact {
    pub(crate) wire: usize,
    /// The smarthost's place among those configured.
    pub(crate) place: usize,
    /// When the relay dialled.
    pub(crate) since: Since,
    pub(crate) configured: Configured,
    pub(crate) account: Account,
}

/// The smarthost's end of one connection.
#[derive(Debug)]
pub(crate) struct Smarthost {
    /// The connection.
    pub(crate) wire: usize,
    contact: Contact,
    habits: Smarthosts,
    is_tls: bool,
    is_logged_in: bool,
    has_pipelining: bool,
    has_8bit: bool,
    has_chunking: bool,
    has_dsn: bool,
    recipients_max: usize,
    /// It says what is no reply: the relay may overlook what comes behind it.
    is_babbling: bool,
    /// What came last, or the greeting, is to be answered before anything else is sent (RFC 2920 3.1).
    ends_group: bool,
    /// The relay has closed its end.
    is_given_up: bool,
    state: State,
    input: Vec<u8>,
    replies: VecDeque<Reply>,
    last_at: Ms,
    reverse_path: Option<String>,
    declared: Option<u64>,
    /// RET and ENVID of the transaction, as they stood behind MAIL.
    dsn: String,
    /// MAIL said BODY=8BITMIME.
    is_8bit: bool,
    recipients: Vec<String>,
    /// Replies on their way: the octet behind them, and what they say.
    on_way: VecDeque<(u64, Told)>,
}

/// Steps of a transaction, as places in the draws.
const MAIL: usize = 0;
const RCPT: usize = 1;
const DATA: usize = 2;
const MESSAGE: usize = 3;

impl Smarthost {
    /// A connection was accepted.
    pub(crate) fn new(random: &mut Random, contact: Contact, habits: Smarthosts, now: Ms) -> Self {
        let limit = if random.chance(habits.recipient_limit) { random.between(1, 3) } else { 1000 };
        let mut smarthost = Self {
            wire: contact.wire,
            is_tls: false,
            is_logged_in: contact.configured.auth.is_none(),
            contact,
            habits,
            has_pipelining: !random.chance(habits.no_pipelining),
            has_8bit: !random.chance(habits.no_8bit),
            has_chunking: random.chance(habits.chunking),
            has_dsn: random.chance(habits.dsn),
            recipients_max: limit as usize,
            is_babbling: false,
            ends_group: true,
            is_given_up: false,
            state: State::Commands,
            input: Vec::new(),
            replies: VecDeque::new(),
            last_at: now,
            reverse_path: None,
            declared: None,
            dsn: String::new(),
            is_8bit: false,
            recipients: Vec::new(),
            on_way: VecDeque::new(),
        };
        if smarthost.contact.configured.tls == "implicit" {
            smarthost.state = State::Handshake;
        } else {
            smarthost.greet(random, now);
        }
        smarthost
    }

    fn greet(&mut self, random: &mut Random, now: Ms) {
        if random.chance(self.habits.silence) {
            self.state = State::Silent { reads: true };
        } else if random.chance(self.habits.hello) {
            let greeting = random.pick(&["554 no service", "421 too busy", "450 later", "HTTP/1.1 200 OK"]);
            self.say(random, now, greeting, None);
        } else {
            self.say(random, now, "220 smarthost.example ESMTP", None);
        }
    }

    /// When it has something to do, as things stand.
    pub(crate) fn wakes_at(&self, wire: &Wire) -> Option<Ms> {
        let reads = !matches!(self.state, State::Silent { reads: false } | State::Over);
        let input = if reads { wire.from_relay.ready_at() } else { wire.from_relay.ends_at() };
        let speaks = !matches!(self.state, State::Silent { .. }) && wire.to_relay.room() > 0;
        let reply = self.replies.front().map(|reply| reply.at).filter(|_| speaks);
        input.into_iter().chain(reply).min()
    }

    /// Reads what has come, and says what is due; false when the connection is over.
    pub(crate) fn act(&mut self, random: &mut Random, now: Ms, wire: &mut Wire, oracle: &mut Oracle) -> bool {
        self.is_given_up = wire.from_relay.ends_at().is_some();
        if !matches!(self.state, State::Silent { reads: false } | State::Over) {
            let mut octets = [0; 4096];
            loop {
                match wire.from_relay.read(now, &mut octets) {
                    Got::Octets(count) if matches!(self.state, State::Silent { .. }) => {
                        trace!("smarthost: is silent to {count} octets");
                        assert!(self.may_follow(), "PROTOCOL: more comes though nothing was answered");
                    }
                    Got::Octets(count) => {
                        if self.is_tls {
                            secure::veil(&mut octets[..count]);
                        }
                        self.input.extend_from_slice(&octets[..count]);
                        self.take(random, now, oracle);
                    }
                    Got::Nothing => break,
                    Got::End(_) => {
                        wire.closed_by_peer(now, End::Finished, random);
                        return false;
                    }
                }
                if matches!(self.state, State::Silent { reads: false } | State::Over) {
                    break;
                }
            }
        }
        self.write(random, now, wire);
        let is_deaf = matches!(self.state, State::Silent { reads: false } | State::Over);
        if is_deaf && wire.from_relay.ends_at().is_some_and(|at| at <= now) {
            wire.closed_by_peer(now, End::Finished, random);
            return false;
        }
        if self.state == State::Over && self.replies.is_empty() {
            let end = if random.chance(500) { End::Finished } else { End::Reset };
            wire.closed_by_peer(now, end, random);
            return false;
        }
        true
    }

    /// True when it has taken the submission, and the relay doesn't know yet.
    pub(crate) fn has_taken(&self, at: usize) -> bool {
        let told = self.replies.iter().filter_map(|reply| reply.told.as_ref());
        let mut told = told.chain(self.on_way.iter().map(|(_, told)| told));
        told.any(|told| matches!(told, Told::Delivered(taken) if taken.iter().any(|(of, ..)| *of == at)))
    }

    /// Tells the oracle of what the relay has read; `taken` octets in all.
    pub(crate) fn tell(&mut self, now: Ms, taken: u64, oracle: &mut Oracle) {
        while let Some((end, told)) = self.on_way.front()
            && *end <= taken
        {
            oracle.told(now, told, !self.is_babbling);
            self.on_way.pop_front();
        }
    }

    /// From now on it takes everything.
    pub(crate) fn mend(&mut self, now: Ms) {
        self.habits = Smarthosts::GOOD;
        for reply in &mut self.replies {
            reply.at = reply.at.min(now);
        }
        self.last_at = self.last_at.min(now);
    }

    fn write(&mut self, random: &mut Random, now: Ms, wire: &mut Wire) {
        while let Some(reply) = self.replies.front_mut() {
            if reply.at > now || matches!(self.state, State::Silent { .. }) {
                return;
            }
            if wire.to_relay.is_broken() {
                self.replies.clear();
                return;
            }
            let count = wire.to_relay.write(now, &reply.octets, random);
            reply.octets.drain(..count);
            if !reply.octets.is_empty() {
                return;
            }
            if let Some(told) = self.replies.pop_front().and_then(|reply| reply.told) {
                self.on_way.push_back((wire.to_relay.written, told));
            }
        }
    }

    fn say(&mut self, random: &mut Random, now: Ms, text: &str, told: Option<Told>) {
        let text = if text.as_bytes().get(3) == Some(&b' ') && random.chance(100) {
            let (code, rest) = text.split_at(3);
            format!("{code}-first line\r\n{code}{rest}\r\n")
        } else {
            format!("{text}\r\n")
        };
        trace!("smarthost {}: {}", self.contact.place, text.trim_end());
        self.last_at = self.last_at.max(now + random.between(0, self.habits.delay_ms));
        let mut octets = text.into_bytes();
        if self.is_tls {
            secure::veil(&mut octets);
        }
        self.replies.push_back(Reply { at: self.last_at, octets, told });
    }

    fn take(&mut self, random: &mut Random, now: Ms, oracle: &mut Oracle) {
        loop {
            match self.state {
                State::Handshake if self.input.is_empty() => return,
                State::Handshake => self.shake_hands(random, now),
                State::Commands | State::Login(_) => {
                    let Some(end) = self.input.windows(2).position(|octets| octets == b"\r\n") else {
                        assert!(self.input.len() < 512, "PROTOCOL: a command of 512 octets and more");
                        return;
                    };
                    let line: Vec<u8> = self.input.drain(..end + 2).take(end).collect();
                    let line = String::from_utf8(line).expect("PROTOCOL: octets beyond ASCII in a command");
                    assert!(
                        self.replies.is_empty() || self.may_follow(),
                        "PROTOCOL: {line} comes in front of a reply that it has to wait for"
                    );
                    let has_octets = line.starts_with("BDAT ");
                    self.ends_group =
                        !["MAIL ", "RCPT ", "RSET", "BDAT "].iter().any(|word| line.starts_with(word));
                    assert!(
                        self.input.is_empty() || has_octets || self.may_follow(),
                        "PROTOCOL: more comes behind {line}"
                    );
                    self.command(random, now, &line, oracle);
                }
                State::Data { is_void } => {
                    let start: &[u8] = b".\r\n";
                    let end = if self.input.starts_with(start) {
                        0
                    } else {
                        let end = self.input.windows(5).position(|octets| octets == b"\r\n.\r\n");
                        let Some(end) = end else {
                            self.early_refusal(random, now, oracle);
                            return;
                        };
                        end + 2
                    };
                    let data: Vec<u8> = self.input.drain(..end + 3).take(end).collect();
                    self.state = State::Commands;
                    self.ends_group = false;
                    assert!(
                        self.input.is_empty() || self.may_follow(),
                        "PROTOCOL: more comes behind the dot"
                    );
                    self.message(random, now, &data, is_void, oracle);
                }
                State::Chunk { octets } => {
                    if self.input.len() < octets {
                        self.early_refusal(random, now, oracle);
                        return;
                    }
                    let data: Vec<u8> = self.input.drain(..octets).collect();
                    self.state = State::Commands;
                    assert!(
                        self.input.is_empty() || self.may_follow(),
                        "PROTOCOL: more comes behind the chunk"
                    );
                    self.chunk(random, now, &data, oracle);
                }
                State::Silent { .. } | State::Over => {
                    self.input.clear();
                    return;
                }
            }
        }
    }

    /// True when the relay may go on before it has read the reply to what came last.
    fn may_follow(&self) -> bool {
        self.has_pipelining && !self.ends_group
    }

    /// What may come instead of a reply; true when it did.
    fn goes_wrong(&mut self, random: &mut Random, now: Ms) -> bool {
        if random.chance(self.habits.busy) {
            self.say(random, now, "421 4.3.2 closing", None);
            self.state = State::Over;
        } else if random.chance(self.habits.drops) {
            self.state = State::Over;
        } else if random.chance(self.habits.silence) {
            self.state = State::Silent { reads: random.chance(500) };
        } else {
            if random.chance(self.habits.garbage) {
                self.is_babbling = true;
                // Nothing that could be taken for the reply to another command: then all that follows is a
                // lie.
                let garbage = random.pick(&["\u{7f}\u{1}garbage", "999 x", "25", "2 50 ok"]);
                self.say(random, now, garbage, None);
            }
            return false;
        }
        true
    }

    fn command(&mut self, random: &mut Random, now: Ms, line: &str, oracle: &mut Oracle) {
        trace!("smarthost {}: gets {line}", self.contact.place);
        // What goes wrong with BDAT does so behind its octets.
        if !line.starts_with("BDAT ") && self.goes_wrong(random, now) {
            return;
        }
        if let State::Login(exchange) = self.state {
            return self.login_line(random, now, exchange, line);
        }
        let is_free = ["EHLO ", "HELO ", "QUIT", "STARTTLS"].iter().any(|word| line.starts_with(word));
        assert!(is_free || self.is_tls || self.contact.configured.tls == "none", "PLAIN: {line}");
        if line.starts_with("EHLO ") {
            if random.chance(self.habits.hello) {
                let refusal = random.pick(&["500 what?", "502 no", "450 later", "554 no"]);
                return self.say(random, now, refusal, None);
            }
            let pipelining = if self.has_pipelining { "250-PIPELINING\r\n" } else { "" };
            let eight_bit = if self.has_8bit { "250-8BITMIME\r\n" } else { "" };
            let chunking = if self.has_chunking { "250-CHUNKING\r\n" } else { "" };
            let secure = self.offer(random);
            let dsn = if self.has_dsn { "250-DSN\r\n" } else { "" };
            let more = format!("{secure}{pipelining}{eight_bit}{chunking}{dsn}");
            let hello = format!("250-smarthost.example\r\n{more}250 SIZE 0");
            self.say(random, now, &hello, None);
        } else if line == "STARTTLS" {
            self.starttls(random, now);
        } else if let Some(rest) = line.strip_prefix("AUTH ") {
            oracle.login_tried(self.contact.place, self.contact.since, now);
            self.auth(random, now, rest);
        } else if line.starts_with("HELO ") {
            (self.has_pipelining, self.has_8bit) = (false, false);
            (self.has_chunking, self.has_dsn) = (false, false);
            self.say(random, now, "250 smarthost.example", None);
        } else if let Some(rest) = line.strip_prefix("MAIL FROM:<") {
            self.mail(random, now, rest, oracle);
        } else if let Some(path) = line.strip_prefix("RCPT TO:<") {
            let (path, parameters) = path.split_once('>').expect("PROTOCOL: RCPT without a path");
            self.check_dsn(path, parameters, oracle);
            self.rcpt(random, now, path, oracle);
        } else if line == "DATA" {
            self.data(random, now, oracle);
        } else if let Some(argument) = line.strip_prefix("BDAT ") {
            self.bdat(random, now, argument);
        } else if line == "RSET" {
            self.reset();
            self.say(random, now, "250 reset", None);
        } else if line == "QUIT" {
            self.say(random, now, "221 bye", None);
            self.state = State::Over;
        } else {
            panic!("PROTOCOL: the relay said {line:?}");
        }
    }

    fn reset(&mut self) {
        self.reverse_path = None;
        self.declared = None;
        self.recipients.clear();
    }
}
