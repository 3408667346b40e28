//! What a client does about TLS and a login before its first mail, by the entrance that it comes in at.
//!
//! One that floods, or does not read, speaks in plain wherever it comes in: where TLS is awaited that is
//! rubbish. Some send commands in plain right behind STARTTLS, which must never be carried out once TLS
//! stands: nobody awaits a reply to them then (SEC-tls-a). Some end the handshake themselves.

use base64ct::{Base64, Encoding as _};

use super::{Awaited, Client, Kind};
use crate::disk::Random;
use crate::oracle::Oracle;
use crate::secure::{self, ALERT, HELLO, PASSWORD, USER_OF_CLIENTS};
use crate::swarm::{self, Draw};

/// Where a client comes in, in the order of `listen` in `swarm.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entrance {
    /// By a listener without TLS, or by the submission socket.
    Plain,
    /// STARTTLS is offered.
    StartTls,
    /// TLS from the first octet.
    Implicit,
}

/// How far TLS is on the client's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    None,
    /// The other end is to say hello.
    Handshaking,
    /// What stands in the output from this place on goes through it.
    Up {
        from: usize,
    },
}

/// A client's TLS and login.
#[derive(Debug)]
pub(super) struct Security {
    entrance: Entrance,
    /// It logs in, with this password.
    password: Option<&'static str>,
    /// It sends commands in plain behind STARTTLS.
    injects: bool,
    /// What it says to the other end's hello.
    answer: u8,
    layer: Layer,
    has_asked: bool,
    is_logged_in: bool,
}

impl Security {
    /// Plain.
    pub(super) const NONE: Self = Self {
        entrance: Entrance::Plain,
        password: None,
        injects: false,
        answer: HELLO,
        layer: Layer::None,
        has_asked: false,
        is_logged_in: false,
    };

    /// Nothing is drawn in a run in which no client has any of it.
    pub(super) fn new(random: &mut Random, habits: &swarm::Clients) -> Self {
        if !random.chance(habits.tls) {
            return Self::NONE;
        }
        let password = random.pick(&[None, Some(PASSWORD), Some(PASSWORD), Some("wrong")]);
        Self {
            entrance: random.pick(&[Entrance::Plain, Entrance::StartTls, Entrance::Implicit]),
            password,
            injects: random.chance(100),
            answer: if random.chance(habits.handshakes) { ALERT } else { HELLO },
            ..Self::NONE
        }
    }

    /// The same for a new connection.
    pub(super) fn again(&self) -> Self {
        Self { layer: Layer::None, has_asked: false, is_logged_in: false, answer: HELLO, ..*self }
    }

    /// Its entry of `listen`.
    pub(super) fn listener(&self) -> u8 {
        self.entrance as u8
    }

    /// The letters behind ESMTP (RFC 3848).
    pub(super) fn letters(&self) -> &'static str {
        match (self.is_up(), self.is_logged_in) {
            (false, false) => "",
            (true, false) => "S",
            (false, true) => "A",
            (true, true) => "SA",
        }
    }

    fn is_up(&self) -> bool {
        matches!(self.layer, Layer::Up { .. })
    }

    /// The next octets of `rest`, which begins at the place `at` of the output, as they go over the wire.
    pub(super) fn veiled(&self, rest: &[u8], at: usize) -> Vec<u8> {
        let Layer::Up { from } = self.layer else { return rest.to_vec() };
        let plain = from.saturating_sub(at).min(rest.len());
        if plain > 0 {
            return rest[..plain].to_vec();
        }
        let mut octets = rest.to_vec();
        secure::veil(&mut octets);
        octets
    }

    /// All of the output is written, and it is empty.
    pub(super) fn is_written(&mut self) {
        if let Layer::Up { from } = &mut self.layer {
            *from = 0;
        }
    }
}

impl Client {
    /// TLS comes first where the entrance has it so, for those who care.
    pub(super) fn begin(&mut self) {
        let is_rude = matches!(self.kind, Kind::Flooding | Kind::Deaf);
        if self.security.entrance == Entrance::Implicit && !is_rude {
            self.output.push(self.security.answer);
            self.security.layer = Layer::Handshaking;
        }
    }

    /// The next octet of a reply, if it is one.
    pub(super) fn unveil(&mut self, octet: u8) -> Option<u8> {
        match self.security.layer {
            Layer::None => Some(octet),
            Layer::Up { .. } => {
                let mut octets = [octet];
                secure::veil(&mut octets);
                Some(octets[0])
            }
            Layer::Handshaking if octet == HELLO => {
                self.security.layer = Layer::Up { from: self.output.len() };
                if self.security.entrance == Entrance::StartTls {
                    self.say_hello();
                }
                None
            }
            Layer::Handshaking => {
                // Too many clients, or too many with TLS: it is told so without TLS.
                let is_told = self.security.entrance == Entrance::Implicit;
                assert!(is_told, "TLS: {octet:#x} in plain behind STARTTLS");
                self.security.layer = Layer::None;
                Some(octet)
            }
        }
    }

    /// The greeting has come.
    pub(super) fn greeted(&mut self) {
        let is_as_meant = self.security.entrance != Entrance::Implicit || self.security.is_up();
        assert!(is_as_meant, "TLS: a greeting in plain where TLS comes first");
        self.say_hello();
    }

    fn say_hello(&mut self) {
        self.say(&self.hello(), Awaited::Hello);
    }

    /// EHLO or HELO was answered, or a refusal in what follows from it was: the next step to the first mail.
    pub(super) fn come_in(&mut self, random: &mut Random, oracle: &mut Oracle) {
        let security = &mut self.security;
        let may_ask = self.is_extended && security.entrance == Entrance::StartTls;
        if may_ask && !security.is_up() && !security.has_asked {
            security.has_asked = true;
            let injects = security.injects;
            self.say("STARTTLS", Awaited::StartTls);
            if injects {
                self.say("NOOP", Awaited::Other);
                self.say("MAIL FROM:<smuggled@example.org>", Awaited::Other);
                self.say("RSET", Awaited::Other);
            }
            return;
        }
        let has_auth = self.is_extended && security.entrance != Entrance::Plain;
        match security.password.filter(|_| has_auth && !security.is_logged_in) {
            Some(password) => {
                let response = format!("\0{USER_OF_CLIENTS}\0{password}");
                let mut base64 = [0; 64];
                let response = Base64::encode(response.as_bytes(), &mut base64).expect("room enough");
                self.say(&format!("AUTH PLAIN {response}"), Awaited::Login);
            }
            None => self.next_message(random, oracle),
        }
    }

    /// STARTTLS was answered.
    pub(super) fn starttls_answered(&mut self, random: &mut Random, code: u16, oracle: &mut Oracle) {
        match code {
            220 => {
                // What was said in plain behind it is never answered.
                self.awaited.clear();
                self.output.push(self.security.answer);
                self.security.layer = Layer::Handshaking;
            }
            454 => self.come_in(random, oracle),
            _ => {
                assert_eq!(code, 421, "REPLY: to STARTTLS");
                self.say("QUIT", Awaited::Quit);
            }
        }
    }

    /// AUTH was answered.
    pub(super) fn login_answered(&mut self, random: &mut Random, code: u16, oracle: &mut Oracle) {
        let (is_up, is_right) = (self.security.is_up(), self.security.password == Some(PASSWORD));
        let is_possible = match code {
            235 => is_up && is_right,
            535 => is_up && !is_right,
            538 => !is_up,
            // Too many of its logins failed, or it took too long.
            454 | 421 => true,
            _ => false,
        };
        assert!(is_possible, "REPLY: {code} to AUTH, in TLS {is_up}, the password right {is_right}");
        self.security.is_logged_in = code == 235;
        if !self.security.is_logged_in {
            self.security.password = None;
        }
        if code == 421 {
            self.say("QUIT", Awaited::Quit);
        } else {
            self.next_message(random, oracle);
        }
    }
}
