//! The smarthost, one value for each of its connections: an SMTP server that takes, refuses, drops, stalls
//! and babbles as the run's draws say, and holds the relay to the protocol.

use std::collections::VecDeque;

use crate::disk::Random;
use crate::net::{End, Got, Ms, Wire};
use crate::oracle::{Oracle, Told};
use crate::swarm::{Draw, Smarthosts};
use crate::{mail, trace};

/// What the relay awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Commands,
    Data {
        is_void: bool,
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

/// The smarthost's end of one connection.
#[derive(Debug)]
pub(crate) struct Smarthost {
    /// The connection.
    pub(crate) wire: usize,
    habits: Smarthosts,
    has_pipelining: bool,
    has_8bit: bool,
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
    pub(crate) fn new(random: &mut Random, wire: usize, habits: Smarthosts, now: Ms) -> Self {
        let limit = if random.chance(habits.recipient_limit) { random.between(1, 3) } else { 1000 };
        let mut smarthost = Self {
            wire,
            habits,
            has_pipelining: !random.chance(habits.no_pipelining),
            has_8bit: !random.chance(habits.no_8bit),
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
            recipients: Vec::new(),
            on_way: VecDeque::new(),
        };
        if random.chance(habits.silence) {
            smarthost.state = State::Silent { reads: true };
        } else if random.chance(habits.hello) {
            let greeting = random.pick(&["554 no service", "421 too busy", "450 later", "HTTP/1.1 200 OK"]);
            smarthost.say(random, now, greeting, None);
        } else {
            smarthost.say(random, now, "220 smarthost.example ESMTP", None);
        }
        smarthost
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
        trace!("smarthost: {}", text.trim_end());
        self.last_at = self.last_at.max(now + random.between(0, self.habits.delay_ms));
        self.replies.push_back(Reply { at: self.last_at, octets: text.into_bytes(), told });
    }

    fn take(&mut self, random: &mut Random, now: Ms, oracle: &mut Oracle) {
        loop {
            match self.state {
                State::Commands => {
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
                    self.ends_group = !["MAIL ", "RCPT ", "RSET"].iter().any(|word| line.starts_with(word));
                    assert!(self.input.is_empty() || self.may_follow(), "PROTOCOL: more comes behind {line}");
                    self.command(random, now, &line, oracle);
                }
                State::Data { is_void } => {
                    let start: &[u8] = b".\r\n";
                    let end = if self.input.starts_with(start) {
                        0
                    } else {
                        let end = self.input.windows(5).position(|octets| octets == b"\r\n.\r\n");
                        let Some(end) = end else {
                            self.early_refusal(random, now);
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
                    self.message(random, now, &unstuffed(&data), is_void, oracle);
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

    fn command(&mut self, random: &mut Random, now: Ms, line: &str, oracle: &Oracle) {
        trace!("smarthost: gets {line}");
        if self.goes_wrong(random, now) {
            return;
        }
        if line.starts_with("EHLO ") {
            if random.chance(self.habits.hello) {
                let refusal = random.pick(&["500 what?", "502 no", "450 later", "554 no"]);
                return self.say(random, now, refusal, None);
            }
            let pipelining = if self.has_pipelining { "250-PIPELINING\r\n" } else { "" };
            let eight_bit = if self.has_8bit { "250-8BITMIME\r\n" } else { "" };
            let hello = format!("250-smarthost.example\r\n{pipelining}{eight_bit}250 SIZE 0");
            self.say(random, now, &hello, None);
        } else if line.starts_with("HELO ") {
            (self.has_pipelining, self.has_8bit) = (false, false);
            self.say(random, now, "250 smarthost.example", None);
        } else if let Some(rest) = line.strip_prefix("MAIL FROM:<") {
            self.mail(random, now, rest);
        } else if let Some(path) = line.strip_prefix("RCPT TO:<") {
            let path = path.strip_suffix('>').expect("PROTOCOL: RCPT with parameters");
            self.rcpt(random, now, path, oracle);
        } else if line == "DATA" {
            self.data(random, now);
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

    fn mail(&mut self, random: &mut Random, now: Ms, rest: &str) {
        assert!(self.reverse_path.is_none(), "PROTOCOL: MAIL within a transaction");
        let (path, parameters) = rest.split_once('>').expect("PROTOCOL: MAIL without a path");
        let (mut declared, mut is_8bit) = (None, false);
        for parameter in parameters.split_ascii_whitespace() {
            match parameter.split_once('=') {
                Some(("SIZE", octets)) => declared = Some(octets.parse().expect("PROTOCOL: SIZE")),
                Some(("BODY", "8BITMIME")) => is_8bit = true,
                _ => panic!("PROTOCOL: MAIL with {parameter}"),
            }
        }
        assert!(self.has_8bit || !is_8bit, "PROTOCOL: BODY, though it is not offered");
        if random.chance(self.habits.transient[MAIL]) {
            return self.say(random, now, "451 4.3.0 later", None);
        }
        if random.chance(self.habits.permanent[MAIL])
            && let Some(at) = mail::submitted(path)
        {
            // Every recipient that the message may have; those that were never accepted don't matter.
            let refused = (0..150).map(|recipient| (at, recipient)).collect();
            return self.say(random, now, "550 5.7.1 not from you", Some(Told::Refused(refused)));
        }
        self.reverse_path = Some(path.to_owned());
        self.declared = declared;
        self.say(random, now, "250 2.1.0 ok", None);
    }

    fn rcpt(&mut self, random: &mut Random, now: Ms, path: &str, oracle: &Oracle) {
        if self.reverse_path.is_none() {
            assert!(self.has_pipelining, "PROTOCOL: RCPT behind a refused MAIL");
            return self.say(random, now, "503 5.5.1 MAIL first", None);
        }
        // A notice goes to a reverse-path.
        let is_notice = self.reverse_path.as_deref() == Some("") && mail::submitted(path).is_some();
        let named = mail::named(path);
        assert!(named.is_some() || is_notice, "PATH: nobody sent to {path}");
        if let Some(named) = named.filter(|_| !self.is_given_up) {
            oracle.tried(named.0, now);
        }
        if self.recipients.len() >= self.recipients_max {
            let refusal = random.pick(&["452 4.5.3 too many", "552 5.5.3 too many"]);
            return self.say(random, now, refusal, None);
        }
        if random.chance(self.habits.transient[RCPT]) {
            let refusal = random.pick(&["450 4.2.1 greylisted", "452 4.2.2 full", "451 4.7.1 later"]);
            return self.say(random, now, refusal, None);
        }
        if random.chance(self.habits.permanent[RCPT]) {
            return self.say(random, now, "550 5.1.1 nobody", named.map(|named| Told::Refused(vec![named])));
        }
        self.recipients.push(path.to_owned());
        self.say(random, now, "250 2.1.5 ok", None);
    }

    fn refused(&self) -> Option<Told> {
        Some(Told::Refused(self.recipients.iter().filter_map(|path| mail::named(path)).collect()))
    }

    fn data(&mut self, random: &mut Random, now: Ms) {
        if self.recipients.is_empty() {
            assert!(self.has_pipelining, "PROTOCOL: DATA for nobody");
            // RFC 2920 3.1: some servers say 354 all the same.
            if self.reverse_path.is_some() && random.chance(300) {
                self.state = State::Data { is_void: true };
                return self.say(random, now, "354 for nobody", None);
            }
            return self.say(random, now, "554 5.5.1 no recipients", None);
        }
        if random.chance(self.habits.transient[DATA]) {
            return self.say(random, now, "451 4.3.0 later", None);
        }
        if random.chance(self.habits.permanent[DATA]) {
            let told = self.refused();
            return self.say(random, now, "554 5.6.0 no data from you", told);
        }
        self.state = State::Data { is_void: false };
        self.say(random, now, "354 go on", None);
    }

    /// A refusal before the mail data has ended; what still comes is not looked at.
    fn early_refusal(&mut self, random: &mut Random, now: Ms) {
        if self.input.is_empty() || !random.chance(self.habits.early) {
            return;
        }
        let is_transient = random.chance(500);
        let told = if is_transient { None } else { self.refused() };
        self.say(random, now, if is_transient { "452 4.3.1 full" } else { "552 5.3.4 too large" }, told);
        self.state = State::Over;
    }

    fn message(&mut self, random: &mut Random, now: Ms, data: &[u8], is_void: bool, oracle: &mut Oracle) {
        let declared = self.declared;
        let reverse_path = self.reverse_path.clone().expect("DATA was taken in a transaction");
        if is_void {
            assert!(data.is_empty(), "PROTOCOL: mail data for nobody");
            self.reset();
            return self.say(random, now, "554 5.5.1 no valid recipients", None);
        }
        if random.chance(self.habits.drops_behind_dot / 2) {
            trace!("smarthost: drops the message");
            self.state = State::Over;
            return;
        }
        if self.goes_wrong(random, now) {
            return;
        }
        if random.chance(self.habits.transient[MESSAGE]) {
            let told = mail::named(&self.recipients[0]).map(|(at, _)| Told::Deferred(at));
            self.reset();
            return self.say(random, now, "451 4.3.0 later", told);
        }
        if random.chance(self.habits.permanent[MESSAGE]) {
            let told = self.refused();
            self.reset();
            return self.say(random, now, "554 5.6.0 spam", told);
        }
        let size = declared.unwrap_or(data.len() as u64);
        assert_eq!(size, data.len() as u64, "PROTOCOL: SIZE and octets");
        let told = match mail::submitted(&self.recipients[0]) {
            Some(at) => {
                assert_eq!(self.recipients.len(), 1, "PATH: a notice to several");
                oracle.noticed(at, data, now);
                None
            }
            None => Some(oracle.delivered(&reverse_path, &self.recipients, data, self.is_given_up)),
        };
        trace!("smarthost: takes {told:?}");
        self.reset();
        if random.chance(self.habits.drops_behind_dot / 2) {
            self.state = State::Over;
            return;
        }
        self.say(random, now, "250 2.0.0 taken", told);
    }
}

/// Transparency undone (RFC 5321 4.5.2); nothing but CRLF may end a line.
fn unstuffed(data: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(data.len());
    for line in data.split_inclusive(|octet| *octet == b'\n') {
        assert!(line.ends_with(b"\r\n"), "OCTETS: a bare LF: {}", line.escape_ascii());
        assert!(!line[..line.len() - 2].contains(&b'\r'), "OCTETS: a bare CR: {}", line.escape_ascii());
        octets.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    octets
}
