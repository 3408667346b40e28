//! The mail transactions of a smarthost, from MAIL to the reply to the message.

use super::{DATA, MAIL, MESSAGE, RCPT, Smarthost, State};
use crate::disk::Random;
use crate::net::Ms;
use crate::oracle::{Oracle, Taken, Told};
use crate::swarm::Draw;
use crate::{dsn, mail, names, trace};

impl Smarthost {
    pub(super) fn mail(&mut self, random: &mut Random, now: Ms, rest: &str, oracle: &mut Oracle) {
        assert!(self.reverse_path.is_none(), "PROTOCOL: MAIL within a transaction");
        assert!(self.is_logged_in, "PROTOCOL: MAIL without the login");
        let (path, parameters) = rest.split_once('>').expect("PROTOCOL: MAIL without a path");
        let (mut declared, mut is_8bit) = (None, false);
        self.dsn.clear();
        for parameter in parameters.split_ascii_whitespace() {
            match parameter.split_once('=') {
                Some(("SIZE", octets)) => declared = Some(octets.parse().expect("PROTOCOL: SIZE")),
                Some(("BODY", "8BITMIME")) => is_8bit = true,
                Some(("RET" | "ENVID", _)) => self.dsn += &format!(" {parameter}"),
                _ => panic!("PROTOCOL: MAIL with {parameter}"),
            }
        }
        assert!(self.has_8bit || !is_8bit, "PROTOCOL: BODY, though it is not offered");
        if random.chance(self.habits.login_wanted) {
            return self.say(random, now, "530 5.7.0 log in first", None);
        }
        if random.chance(self.habits.transient[MAIL]) {
            oracle.said_later(mail::submitted(path), None);
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
        (self.declared, self.is_8bit) = (declared, is_8bit);
        self.say(random, now, "250 2.1.0 ok", None);
    }

    /// What the client asked to hear is handed on, to a smarthost that offers DSN.
    pub(super) fn check_dsn(&self, path: &str, parameters: &str, oracle: &Oracle) {
        let named = mail::named(path).filter(|(at, _)| self.has_dsn && oracle.submission(*at).has_dsn);
        let asked = named.map(|(at, recipient)| (dsn::of_mail(at), dsn::of_recipient(at, recipient)));
        let (of_mail, of_recipient) = asked.unwrap_or_default();
        assert_eq!(parameters, of_recipient, "NOTIFY: behind RCPT to {path}");
        assert!(self.dsn == of_mail || self.reverse_path.is_none(), "NOTIFY: {:?} behind MAIL", self.dsn);
    }

    pub(super) fn rcpt(&mut self, random: &mut Random, now: Ms, path: &str, oracle: &mut Oracle) {
        if self.reverse_path.is_none() {
            assert!(self.has_pipelining, "PROTOCOL: RCPT behind a refused MAIL");
            return self.say(random, now, "503 5.5.1 MAIL first", None);
        }
        // A notice goes to a reverse-path.
        let is_notice = self.reverse_path.as_deref() == Some("") && mail::submitted(path).is_some();
        let named = mail::named(path);
        assert!(named.is_some() || is_notice || path == names::ADMIN, "PATH: nobody sent to {path}");
        if let Some(named) = named.filter(|_| !self.is_given_up) {
            oracle.tried(named.0, now);
        }
        if self.recipients.len() >= self.recipients_max {
            let refusal = random.pick(&["452 4.5.3 too many", "552 5.5.3 too many"]);
            return self.say(random, now, refusal, None);
        }
        if random.chance(self.habits.transient[RCPT]) {
            if let Some((at, recipient)) = named {
                oracle.said_later(Some(at), Some(recipient));
            }
            let refusal = random.pick(&["450 4.2.1 greylisted", "452 4.2.2 full", "451 4.7.1 later"]);
            return self.say(random, now, refusal, None);
        }
        if random.chance(self.habits.permanent[RCPT]) {
            if let Some(at) = mail::submitted(path) {
                oracle.notice_refused(at);
            }
            return self.say(random, now, "550 5.1.1 nobody", named.map(|named| Told::Refused(vec![named])));
        }
        self.recipients.push(path.to_owned());
        self.say(random, now, "250 2.1.5 ok", None);
    }

    /// All that the transaction is for is refused for good.
    fn refused(&self, oracle: &mut Oracle) -> Option<Told> {
        if let Some(at) = self.recipients.iter().find_map(|path| mail::submitted(path)) {
            oracle.notice_refused(at);
        }
        Some(Told::Refused(self.recipients.iter().filter_map(|path| mail::named(path)).collect()))
    }

    /// The message that the transaction is about; of a notice none.
    fn submission(&self) -> Option<usize> {
        self.recipients.iter().find_map(|path| mail::named(path)).map(|(at, _)| at)
    }

    pub(super) fn data(&mut self, random: &mut Random, now: Ms, oracle: &mut Oracle) {
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
            if let Some(at) = self.submission() {
                oracle.said_later(Some(at), None);
            }
            return self.say(random, now, "451 4.3.0 later", None);
        }
        if random.chance(self.habits.permanent[DATA]) {
            let told = self.refused(oracle);
            return self.say(random, now, "554 5.6.0 no data from you", told);
        }
        self.state = State::Data { is_void: false };
        self.say(random, now, "354 go on", None);
    }

    /// A refusal before the mail data has ended; what still comes is not looked at.
    pub(super) fn early_refusal(&mut self, random: &mut Random, now: Ms, oracle: &mut Oracle) {
        if self.input.is_empty() || !random.chance(self.habits.early) {
            return;
        }
        let is_transient = random.chance(500);
        if let Some(at) = self.submission() {
            oracle.said_later(Some(at), None);
        }
        let told = if is_transient { None } else { self.refused(oracle) };
        self.say(random, now, if is_transient { "452 4.3.1 full" } else { "552 5.3.4 too large" }, told);
        self.state = State::Over;
    }

    /// The mail data has ended.
    pub(super) fn message(
        &mut self,
        random: &mut Random,
        now: Ms,
        data: &[u8],
        is_void: bool,
        oracle: &mut Oracle,
    ) {
        self.take_or_refuse(random, now, &unstuffed(data), is_void, oracle);
    }

    pub(super) fn bdat(&mut self, random: &mut Random, now: Ms, argument: &str) {
        assert!(self.has_chunking, "PROTOCOL: BDAT, though it is not offered");
        let octets = argument.strip_suffix(" LAST").expect("PROTOCOL: a chunk that is not the last");
        let octets = octets.parse().expect("PROTOCOL: BDAT without octets");
        assert!(self.has_pipelining || !self.recipients.is_empty(), "PROTOCOL: BDAT for nobody");
        if random.chance(self.habits.bad_chunks) {
            let unknown = random.pick(&["500 5.5.2 what?", "502 5.5.1 no such command", "503 5.5.1 no"]);
            self.say(random, now, unknown, None);
            self.state = State::Over;
            return;
        }
        self.state = State::Chunk { octets };
    }

    /// A whole message came in a chunk. One that is refused leaves its transaction open.
    pub(super) fn chunk(&mut self, random: &mut Random, now: Ms, data: &[u8], oracle: &mut Oracle) {
        if self.recipients.is_empty() {
            let refusal = random.pick(&["554 5.5.1 no valid recipients", "503 5.5.1 no transaction"]);
            return self.say(random, now, refusal, None);
        }
        let text = String::from_utf8_lossy(data).replace("\r\n", "");
        assert!(!text.contains(['\r', '\n']), "OCTETS: a bare CR or LF in a chunk");
        let path = self.reverse_path.clone();
        if !self.take_or_refuse(random, now, data, false, oracle) {
            self.reverse_path = path;
        }
    }

    /// All of a message has come: true when it is taken.
    fn take_or_refuse(
        &mut self,
        random: &mut Random,
        now: Ms,
        data: &[u8],
        is_void: bool,
        oracle: &mut Oracle,
    ) -> bool {
        let declared = self.declared;
        let reverse_path = self.reverse_path.clone().expect("DATA was taken in a transaction");
        if is_void {
            assert!(data.is_empty(), "PROTOCOL: mail data for nobody");
            self.reset();
            self.say(random, now, "554 5.5.1 no valid recipients", None);
            return false;
        }
        if random.chance(self.habits.drops_behind_dot / 2) {
            trace!("smarthost: drops the message");
            self.state = State::Over;
            return false;
        }
        if self.goes_wrong(random, now) {
            return false;
        }
        if random.chance(self.habits.transient[MESSAGE]) {
            let told = self.submission().map(Told::Deferred);
            if let Some(at) = self.submission() {
                oracle.said_later(Some(at), None);
            }
            self.reset();
            self.say(random, now, "451 4.3.0 later", told);
            return false;
        }
        if random.chance(self.habits.permanent[MESSAGE]) {
            let told = self.refused(oracle);
            self.reset();
            self.say(random, now, "554 5.6.0 spam", told);
            return false;
        }
        assert!(self.is_8bit || data.is_ascii(), "PROTOCOL: octets beyond ASCII that were not declared");
        let size = declared.unwrap_or(data.len() as u64);
        assert_eq!(size, data.len() as u64, "PROTOCOL: SIZE and octets");
        let told = match mail::submitted(&self.recipients[0]) {
            Some(at) => {
                assert_eq!(self.recipients.len(), 1, "PATH: a notice to several");
                oracle.noticed(at, data, now, self.is_given_up);
                None
            }
            None if self.recipients[0] == names::ADMIN => {
                oracle.admin_told(&reverse_path, data, now);
                None
            }
            None => {
                let envelope = Taken {
                    reverse_path: &reverse_path,
                    forward_paths: &self.recipients,
                    has_dsn: self.has_dsn,
                };
                Some(oracle.delivered(&envelope, data, self.is_given_up))
            }
        };
        trace!("smarthost: takes {told:?}");
        self.reset();
        if random.chance(self.habits.drops_behind_dot / 2) {
            self.state = State::Over;
            return true;
        }
        self.say(random, now, "250 2.0.0 taken", told);
        true
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
