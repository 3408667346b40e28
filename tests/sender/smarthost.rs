//! A smarthost that reacts: it takes commands one by one, judges their order, and answers as its policy says.
use crate::rig::Rig;

/// What a policy answers to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command<'a> {
    Mail,
    Recipient {
        path: &'a str,
        /// Recipients accepted in this transaction before.
        accepted: usize,
    },
    Data,
    EndOfMailData,
}

/// A message that arrived.
pub(crate) struct Arrived {
    pub(crate) recipients: Vec<String>,
    /// Without its Received field, transparency undone.
    pub(crate) mail_data: Vec<u8>,
}

pub(crate) struct Smarthost<P> {
    pub(crate) is_pipelining: bool,
    /// A reply for each command; an empty one: the connection breaks instead.
    pub(crate) policy: P,
    pub(crate) arrived: Vec<Arrived>,
    pub(crate) transactions: usize,
    has_mail: bool,
    recipients: Vec<String>,
    is_in_data: bool,
}

impl<P: FnMut(Command<'_>) -> String> Smarthost<P> {
    /// A smarthost that `rig` has just connected to.
    pub(crate) fn new(is_pipelining: bool, policy: P) -> Self {
        let (arrived, recipients) = (Vec::new(), Vec::new());
        Self {
            is_pipelining,
            policy,
            arrived,
            transactions: 0,
            has_mail: false,
            recipients,
            is_in_data: false,
        }
    }

    /// Greets a new connection.
    pub(crate) fn greet(&mut self, rig: &mut Rig) {
        self.has_mail = false;
        self.is_in_data = false;
        rig.hello(if self.is_pipelining { "250-a\r\n250 PIPELINING\r\n" } else { "250 a\r\n" });
    }

    /// Serves until the session has nothing more to say. False when the connection broke.
    pub(crate) fn serve(&mut self, rig: &mut Rig) -> bool {
        loop {
            rig.turn();
            let end: &[u8] = if self.is_in_data { b"\r\n.\r\n" } else { b"\r\n" };
            let window = rig.window;
            if self.is_in_data && rig.written.starts_with(b".\r\n") {
                rig.written.drain(..3);
                assert!(self.recipients.is_empty(), "no mail data for recipients that were accepted");
                self.is_in_data = false;
                self.has_mail = false;
                rig.say(b"554 nobody\r\n");
                continue;
            }
            let Some(at) = rig.written.windows(end.len()).position(|octets| octets == end) else {
                // A line may be longer than what is read at once.
                rig.window = usize::MAX;
                rig.turn();
                rig.window = window;
                if rig.written.windows(end.len()).any(|octets| octets == end) {
                    continue;
                }
                assert!(rig.written.is_empty(), "{}", rig.written.escape_ascii());
                return true;
            };
            let taken: Vec<u8> = rig.written.drain(..at + end.len()).collect();
            let reply = if self.is_in_data { self.end_of_mail_data(&taken) } else { self.command(&taken) };
            if !self.is_pipelining {
                assert_eq!(rig.written.escape_ascii().to_string(), "", "a command before the reply");
            }
            if reply.is_empty() {
                rig.session.lost();
                return false;
            }
            rig.say(format!("{reply}\r\n").as_bytes());
        }
    }

    fn command(&mut self, line: &[u8]) -> String {
        let line = std::str::from_utf8(line).expect("commands are text").trim_end();
        assert!(line.len() <= 510);
        let is_accepted = |reply: &str| reply.starts_with('2');
        if line.starts_with("MAIL FROM:<") {
            assert!(!self.has_mail, "C-4.1.4-c: MAIL in an open transaction");
            self.transactions += 1;
            self.recipients.clear();
            let reply = (self.policy)(Command::Mail);
            self.has_mail = is_accepted(&reply);
            reply
        } else if let Some(path) = line.strip_prefix("RCPT TO:<").and_then(|path| path.strip_suffix('>')) {
            if !self.has_mail {
                return "503 MAIL first".to_string();
            }
            let reply = (self.policy)(Command::Recipient { path, accepted: self.recipients.len() });
            if is_accepted(&reply) {
                self.recipients.push(path.to_string());
            }
            reply
        } else {
            match line {
                "DATA" if self.recipients.is_empty() || !self.has_mail => "554 no recipients".to_string(),
                "DATA" => {
                    let reply = (self.policy)(Command::Data);
                    self.is_in_data = reply.starts_with('3');
                    reply
                }
                "RSET" => {
                    self.has_mail = false;
                    "250 reset".to_string()
                }
                _ => panic!("no such command: {line}"),
            }
        }
    }

    fn end_of_mail_data(&mut self, sent: &[u8]) -> String {
        self.is_in_data = false;
        self.has_mail = false;
        let recipients = std::mem::take(&mut self.recipients);
        let mut lines = sent.split_inclusive(|octet| *octet == b'\n').peekable();
        assert!(lines.next().expect("there is mail data").starts_with(b"Received: "));
        while lines.next_if(|line| line.starts_with(b"\t")).is_some() {}
        let mut mail_data = Vec::new();
        for line in lines {
            if line == b".\r\n" {
                break;
            }
            mail_data.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        let reply = (self.policy)(Command::EndOfMailData);
        if reply.starts_with('2') {
            self.arrived.push(Arrived { recipients, mail_data });
        }
        reply
    }
}
