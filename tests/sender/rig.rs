//! A session over a real spool on a disk in memory, and the other end of its connection as a script.
//!
//! A script is a text, a step a line:
//!
//! | step | what it does |
//! | --- | --- |
//! | `C: x` | the session has written the line `x` next; a `*` within `x` stands for any number |
//! | `trace` | the session has written a Received field next |
//! | `S: x` | the session has written nothing else so far; the smarthost writes the line `x` |
//! | `S~ x` | the smarthost writes `x` as it stands, with `\n` and `\r` for octets |
//! | `begin N` | the session is ready, and begins message N |
//! | `follow N` | the session awaits a verdict and no more, and begins message N behind it |
//! | `wait N` | N seconds go by; a deadline that they reach expires |
//! | `quit` | the session is told to stop |
//! | `lost` | the connection breaks |
//! | `close` | the session has asked for the end of the connection |
//! | `tls` | the session wants TLS, and gets it |
//! | `no tls X` | the session wants TLS, and there is none because of X |
//! | `secret X` | the session wants the secret, and gets X |
//! | `kept secret X` | the same, with one that may be renewed |
//! | `no token X` | the session wants the secret, and there is no access token because of X |
//! | `no secret` | the session wants the secret, and its file is gone |
//! | `ready` | a message might be begun |
//! | `fault X` | the session has asked for the end of the connection, because of fault X |
//! | `result X` | the finished attempt's [`Rig::result`] is `X`; it is recorded |
use std::path::Path;

use postern::buffer::{Buffer, Window};
use postern::config::Config;
use postern::limits::{SENDER_INPUT_OCTETS, SENDER_OUTPUT_OCTETS};
use postern::oauth2::Denial;
use postern::sender::{Ending, Secret, SecretFault, Session, TlsFault, TokenFault};
use postern::smtp::Next;
use postern::spool::{
    Envelope, KeptReply, MessageIndex, Protocol, Recipient, RecipientState, Settled, Start, Store,
};
use postern::time::{Duration, Instant, Now, Tick, Wall};

use zeroize::Zeroizing;

use crate::disk::Disk;

/// What a new rig says of a message unless told otherwise.
pub(crate) fn envelope() -> Envelope {
    Envelope {
        client: "192.0.2.7".parse::<std::net::IpAddr>().expect("an address").into(),
        client_name: heapless::Vec::from_slice(b"camera").expect("a short name"),
        protocol: Protocol::Esmtp,
        arrival: Wall { unix_s: 1_795_510_800, is_trusted: true },
        reverse_path: heapless::Vec::from_slice(b"camera@site.example").expect("a short path"),
        body_is_8bit: false,
        utf8: false,
        is_submission: false,
        ret: 0,
        envid: heapless::Vec::new(),
    }
}

pub(crate) struct Rig {
    pub(crate) session: Session,
    pub(crate) store: Store<Disk>,
    pub(crate) disk: Disk,
    pub(crate) config: Config,
    pub(crate) now: Now,
    input: (Vec<u8>, Window),
    output: (Vec<u8>, Window),
    /// What the session has written and nobody has looked at.
    pub(crate) written: Vec<u8>,
    /// Octets that move at once, each way.
    pub(crate) piece: usize,
    /// Octets in `written` beyond which the smarthost does not read.
    pub(crate) window: usize,
    pub(crate) is_closing: bool,
    messages: Vec<MessageIndex>,
}

impl Rig {
    /// The same with other keys for [smarthost], of which TLS and login are some.
    pub(crate) fn secure(piece: usize, keys: &str) -> Self {
        let mut rig = Self::new(piece);
        let text = format!("[smarthost]\nhost = \"smtp.site.example\"\n{keys}\n");
        rig.config = Config::parse(&text, Path::new("postern.toml"), "relay.site.example").expect("valid");
        rig.session.lost();
        rig.connect();
        rig
    }

    /// What the output's memory holds, in use or not.
    pub(crate) fn output_memory(&self) -> &[u8] {
        &self.output.0
    }

    /// A rig whose octets move in pieces of `piece`, with a connection that has just been made.
    pub(crate) fn new(piece: usize) -> Self {
        Self::with_blocks(piece, 64)
    }

    /// The same over a spool of so many blocks.
    pub(crate) fn with_blocks(piece: usize, blocks: u32) -> Self {
        let disk = Disk::new(0);
        let now = Now { instant: Instant(1_000_000), wall: Wall { unix_s: 1_795_510_900, is_trusted: true } };
        let start = Start { blocks, seed: 1, now: now.instant };
        let (store, _) = Store::start(disk.clone(), start).expect("the disk works");
        let text = "admin = \"admin@site.example\"\n[smarthost]\nhost = \"192.0.2.25\"\ntls = \"none\"\n";
        let mut rig = Self {
            session: Session::new(),
            store,
            disk,
            config: Config::parse(text, Path::new("postern.toml"), "relay.site.example")
                .expect("it is valid"),
            now,
            input: (vec![0; SENDER_INPUT_OCTETS], Window::default()),
            output: (vec![0; SENDER_OUTPUT_OCTETS], Window::default()),
            written: Vec::new(),
            piece,
            window: usize::MAX,
            is_closing: false,
            messages: Vec::new(),
        };
        rig.connect();
        rig
    }

    pub(crate) fn connect(&mut self) {
        self.input.1 = Window::default();
        self.output.1 = Window::default();
        self.written.clear();
        self.is_closing = false;
        self.session.connected(&self.now, 0, "192.0.2.1".parse().expect("an address"), &self.config);
    }

    /// Spools a message.
    pub(crate) fn message(
        &mut self,
        envelope: &Envelope,
        recipients: &[&str],
        mail_data: &[u8],
    ) -> MessageIndex {
        let mut draft = self.store.begin(envelope, None).expect("there is room");
        for recipient in recipients {
            let forward_path = heapless::Vec::from_slice(recipient.as_bytes()).expect("a short path");
            let recipient = Recipient { forward_path, ..Recipient::default() };
            self.store.add_recipient(&mut draft, &recipient).expect("there is room");
        }
        self.store.append(&mut draft, mail_data).expect("there is room");
        let ended = self.store.end(draft, Tick(0)).expect("there is room");
        self.store.commit(self.now.instant);
        let _ = self.store.receipt(ended).expect("the disk works");
        let message = self.store.next_committed().expect("the message is committed");
        self.messages.push(message);
        message
    }

    /// The spool is started anew, and its messages are numbered as it finds them.
    pub(crate) fn restart(&mut self) {
        let start = Start { blocks: 64, seed: 1, now: self.now.instant };
        self.store = Store::start(self.disk.clone(), start).expect("the disk works").0;
        self.messages = self.store.messages().collect();
    }

    /// The smarthost greets and answers EHLO with `reply`.
    pub(crate) fn hello(&mut self, reply: &str) {
        self.say(b"220 a\r\n");
        self.say(reply.as_bytes());
        assert_eq!(self.written, b"EHLO relay.site.example\r\n");
        self.written.clear();
    }

    /// Calls the session and takes what it writes, until nothing moves.
    pub(crate) fn turn(&mut self) {
        loop {
            let mut output = Buffer::new(&mut self.output.0, &mut self.output.1);
            if !self.is_closing {
                let mut input = Buffer::new(&mut self.input.0, &mut self.input.1);
                let (config, now) = (&self.config, &self.now);
                let next = self.session.advance(now, config, &mut input, &mut output, &mut self.store);
                self.is_closing = next == Next::Close;
            }
            let count = output.len().min(self.piece).min(self.window.saturating_sub(self.written.len()));
            self.written.extend_from_slice(&output.octets()[..count]);
            output.consume(count);
            if count == 0 {
                break;
            }
        }
    }

    /// The smarthost writes `octets`.
    pub(crate) fn say(&mut self, octets: &[u8]) {
        for piece in octets.chunks(self.piece.min(SENDER_INPUT_OCTETS)) {
            let mut input = Buffer::new(&mut self.input.0, &mut self.input.1);
            if self.is_closing {
                break;
            }
            input.append(piece);
            self.turn();
        }
    }

    pub(crate) fn begin(&mut self, message: MessageIndex) {
        assert!(self.session.may_begin(), "not ready");
        self.session.begin(message, &self.now, &self.config, &mut self.store).expect("it can be read");
        self.turn();
    }

    pub(crate) fn begin_suspect(&mut self, message: MessageIndex) {
        assert!(self.session.is_ready(), "not ready");
        self.session.begin(message, &self.now, &self.config, &mut self.store).expect("it can be read");
        self.session.suspect();
        self.turn();
    }

    /// So much time goes by in steps of a second; deadlines expire.
    pub(crate) fn wait(&mut self, span: Duration) {
        for _ in 0..span.0 / 1000 {
            self.now.instant = self.now.instant + Duration::from_s(1);
            if self.session.deadline().is_some_and(|deadline| deadline <= self.now.instant) {
                let mut output = Buffer::new(&mut self.output.0, &mut self.output.1);
                self.is_closing |= self.session.expired(&self.now, &mut output) == Next::Close;
                if self.is_closing {
                    self.written.extend_from_slice(output.octets());
                    output.clear();
                }
            }
            self.turn();
        }
    }

    fn quit(&mut self) {
        let mut output = Buffer::new(&mut self.output.0, &mut self.output.1);
        self.is_closing |= self.session.quit(&self.now, &mut output) == Next::Close;
        self.turn();
    }

    /// The finished attempt in a line: its ending, a letter for each recipient (`D`elivered, `F`ailed and
    /// which reply, `w`aiting), the replies kept, and the deferral behind `later`; recorded.
    pub(crate) fn result(&mut self) -> String {
        let Some(attempt) = self.session.attempt() else { return "none".to_string() };
        let mut line = match attempt.ending {
            Ending::Tried => "tried ".to_string(),
            Ending::RouteFault(fault) => format!("{fault:?} "),
            Ending::Held(fault) => format!("held {fault:?} "),
            Ending::Damaged => "damaged ".to_string(),
        };
        for state in attempt.states {
            match state {
                RecipientState::Waiting => line.push('w'),
                RecipientState::Delivered => line.push('D'),
                RecipientState::Failed { reply } => line.push_str(&format!("F{reply}")),
                RecipientState::Noticed => line.push('N'),
                RecipientState::Relayed => line.push('R'),
            }
        }
        for reply in attempt.replies {
            line.push_str(&format!(" {} {}", reply.code, String::from_utf8_lossy(&reply.text)));
        }
        if let Some(reply) = attempt.deferral {
            line.push_str(&format!(" later {} {}", reply.code, String::from_utf8_lossy(&reply.text)));
        }
        let has_waiting = attempt.states.contains(&RecipientState::Waiting);
        let has_failed = attempt.states.iter().any(|state| state.owes_notice());
        if attempt.is_changed {
            let settled =
                self.store.settle(attempt.message, attempt.states, attempt.replies).expect("there is room");
            let expected = match (has_waiting, has_failed) {
                (true, _) => Settled::Waiting,
                (false, true) => Settled::Failed,
                (false, false) => Settled::Removed,
            };
            assert_eq!(settled, expected);
        } else {
            assert!(has_waiting);
        }
        self.session.recorded();
        line
    }

    /// Plays `script`.
    pub(crate) fn play(&mut self, script: &str) {
        for (number, step) in script.lines().enumerate() {
            let step = step.trim_start();
            self.step(step, &format!("step {number}, {step:?}, pieces of {}", self.piece));
        }
        assert_eq!(self.written.escape_ascii().to_string(), "", "written at the end");
    }

    fn step(&mut self, step: &str, place: &str) {
        let nothing_left = |written: &[u8]| assert_eq!(written.escape_ascii().to_string(), "", "{place}");
        if let Some(line) = step.strip_prefix("C: ") {
            let mut line = format!("{line}\r\n");
            if let Some(at) = line.find('*').filter(|at| *at > 0) {
                let digits = self.written.iter().skip(at).take_while(|octet| octet.is_ascii_digit());
                let digits: String = digits.map(|octet| char::from(*octet)).collect();
                line = line.replacen('*', &digits, 1);
            }
            let written = self.written.escape_ascii().to_string();
            assert!(self.written.starts_with(line.as_bytes()), "{place}: written is {written}");
            self.written.drain(..line.len());
        } else if let Some(line) = step.strip_prefix("S: ") {
            nothing_left(&self.written);
            assert!(!self.is_closing, "{place}: closed");
            self.say(format!("{line}\r\n").as_bytes());
        } else if let Some(octets) = step.strip_prefix("S~ ") {
            nothing_left(&self.written);
            self.say(octets.replace("\\r", "\r").replace("\\n", "\n").as_bytes());
        } else if let Some(index) = step.strip_prefix("begin suspect ") {
            let index: usize = index.parse().expect("a number");
            nothing_left(&self.written);
            self.begin_suspect(self.messages[index]);
        } else if let Some(index) = step.strip_prefix("begin ") {
            let index: usize = index.parse().expect("a number");
            nothing_left(&self.written);
            assert!(self.session.is_ready(), "{place}: not ready");
            self.begin(self.messages[index]);
        } else if let Some(index) = step.strip_prefix("follow ") {
            let index: usize = index.parse().expect("a number");
            nothing_left(&self.written);
            assert!(!self.session.is_ready() && self.session.may_begin(), "{place}: it may not follow");
            self.begin(self.messages[index]);
        } else if let Some(fault) = step.strip_prefix("no tls ") {
            let fault = match fault {
                "handshake" => TlsFault::Handshake,
                "expired" => TlsFault::Expired,
                _ => panic!("{place}: no such fault"),
            };
            assert!(self.session.wants_tls(), "{place}");
            self.session.tls_failed(fault);
            self.turn();
        } else if let Some(secret) = step.strip_prefix("secret ") {
            nothing_left(&self.written);
            self.secret(Secret::new(Zeroizing::new(secret.as_bytes().to_vec())), place);
        } else if let Some(secret) = step.strip_prefix("kept secret ") {
            nothing_left(&self.written);
            let secret = Secret::new(Zeroizing::new(secret.as_bytes().to_vec()));
            self.secret(secret.map(Secret::renewable), place);
        } else if let Some(fault) = step.strip_prefix("no token ") {
            let fault = match fault {
                "refused" => TokenFault::Denied(Denial::Grant),
                "silent" => TokenFault::Timeout,
                _ => panic!("{place}: no such fault"),
            };
            nothing_left(&self.written);
            self.no_token(fault, place);
        } else if let Some(expected) = step.strip_prefix("fault ") {
            assert!(self.is_closing, "{place}: not closed");
            assert_eq!(format!("{:?}", self.session.fault().expect("a fault")), expected, "{place}");
        } else if let Some(seconds) = step.strip_prefix("wait ") {
            self.wait(Duration::from_s(seconds.parse().expect("a number")));
        } else if let Some(expected) = step.strip_prefix("result ") {
            assert_eq!(self.result(), expected, "{place}");
        } else {
            match step {
                "" => {}
                "trace" => self.trace(place),
                "quit" => self.quit(),
                "lost" => {
                    nothing_left(&self.written);
                    self.session.lost();
                    self.is_closing = true;
                }
                "tls" => {
                    nothing_left(&self.written);
                    assert!(self.session.wants_tls(), "{place}");
                    self.session.tls_started(&self.now);
                    self.turn();
                }
                "no secret" => self.secret(Err(SecretFault::Missing), place),
                "ready" => {
                    nothing_left(&self.written);
                    assert!(self.session.is_ready(), "{place}: not ready");
                }
                "close" => assert!(self.is_closing, "{place}: not closed"),
                _ => panic!("{place}: no such step"),
            }
        }
    }

    fn secret(&mut self, secret: Result<Secret, SecretFault>, place: &str) {
        assert!(self.session.wants_secret(), "{place}: no secret is wanted");
        let mut output = Buffer::new(&mut self.output.0, &mut self.output.1);
        self.is_closing = self.session.secret(&self.now, &self.config, secret, &mut output) == Next::Close;
        self.turn();
    }

    fn no_token(&mut self, fault: TokenFault, place: &str) {
        assert!(self.session.wants_secret(), "{place}: no secret is wanted");
        let text = heapless::Vec::from_slice(b"invalid_grant: it is over").expect("a short text");
        let told = (fault == TokenFault::Denied(Denial::Grant)).then_some(KeptReply { code: 400, text });
        let mut output = Buffer::new(&mut self.output.0, &mut self.output.1);
        self.is_closing = self.session.no_token(&self.now, fault, told, &mut output) == Next::Close;
        self.turn();
    }

    /// The digits behind the first `SIZE=` written.
    pub(crate) fn size(&self) -> String {
        let written = String::from_utf8_lossy(&self.written);
        let digits = written.split("SIZE=").nth(1).unwrap_or_default();
        digits.chars().take_while(char::is_ascii_digit).collect()
    }

    /// Takes a Received field off what was written.
    pub(crate) fn trace(&mut self, place: &str) {
        let text = String::from_utf8_lossy(&self.written).into_owned();
        let start = "Received: from camera ([192.0.2.7])\r\n\tby relay.site.example with ESMTP id ";
        assert!(text.starts_with(start), "{place}: {text:?}");
        let date = "\r\n\tTue, 24 Nov 2026 09:00:00 +0000\r\n";
        let end = text.find(date).expect("the date stands at the end") + date.len();
        self.written.drain(..end);
    }
}
