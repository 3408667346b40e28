//! A smarthost's end of TLS and of the login.

use base64ct::{Base64, Encoding as _};

use super::{Reply, Smarthost, State};
use crate::disk::Random;
use crate::net::Ms;
use crate::oracle::Told;
use crate::secure::{ALERT, HELLO};
use crate::swarm::{Draw, USER};

/// A line of a login that is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// The response that did not come with the command.
    Response,
    /// LOGIN: the user's name.
    User,
    /// LOGIN: the password.
    Password,
    /// The answer to a token's error.
    Acknowledgement,
}

impl Smarthost {
    /// What the reply to EHLO has of STARTTLS and AUTH.
    pub(super) fn offer(&self, random: &mut Random) -> String {
        let configured = &self.contact.configured;
        let mut offer = String::new();
        if configured.tls == "starttls" && !self.is_tls && !random.chance(self.habits.starttls / 3) {
            offer += "250-STARTTLS\r\n";
        }
        let is_offered = self.is_tls || configured.tls == "none" || random.chance(100);
        if let Some(auth) = configured.auth.filter(|_| is_offered) {
            let auth = auth.to_ascii_uppercase();
            let has_it = !random.chance(self.habits.logins / 3);
            offer += &format!("250-AUTH CRAM-MD5 {}\r\n", if has_it { &auth } else { "NTLM" });
        }
        offer
    }

    pub(super) fn starttls(&mut self, random: &mut Random, now: Ms) {
        assert!(!self.is_tls, "PROTOCOL: STARTTLS within TLS");
        if random.chance(self.habits.starttls / 3) {
            return self.say(random, now, "454 4.7.0 no TLS now", None);
        }
        let is_tampered = random.chance(self.habits.starttls / 3);
        let reply = if is_tampered { "220 go\r\n250 injected" } else { "220 go" };
        self.say(random, now, reply, None);
        self.state = State::Handshake;
    }

    /// The first octets of a handshake have come.
    pub(super) fn shake_hands(&mut self, random: &mut Random, now: Ms) {
        assert_eq!(self.input, [HELLO], "PLAIN: {}", self.input.escape_ascii());
        self.input.clear();
        if self.goes_wrong(random, now) {
            return;
        }
        let is_refused = random.chance(self.habits.handshakes / 4);
        let answer = if is_refused { ALERT } else { HELLO };
        self.replies.push_back(Reply { at: self.last_at.max(now), octets: vec![answer], told: None });
        self.state = if is_refused { State::Over } else { State::Commands };
        self.is_tls = !is_refused;
        if self.is_tls && self.contact.configured.tls == "implicit" {
            self.greet(random, now);
        }
    }

    /// AUTH: the mechanism, and perhaps the response.
    pub(super) fn auth(&mut self, random: &mut Random, now: Ms, rest: &str) {
        assert!(!self.is_logged_in, "PROTOCOL: AUTH {rest}");
        let (mechanism, response) = rest.split_once(' ').unwrap_or((rest, ""));
        let configured = self.contact.configured.auth.expect("there is a login");
        assert!(mechanism.eq_ignore_ascii_case(configured), "PROTOCOL: AUTH {mechanism}");
        if mechanism == "LOGIN" {
            assert_eq!(response, "", "PROTOCOL: an initial response to LOGIN");
            self.ask(random, now, Exchange::User, "334 VXNlcm5hbWU6");
        } else if response.is_empty() {
            self.ask(random, now, Exchange::Response, "334 ");
        } else {
            self.judge(random, now, response);
        }
    }

    pub(super) fn login_line(&mut self, random: &mut Random, now: Ms, exchange: Exchange, line: &str) {
        match exchange {
            Exchange::User => {
                assert_eq!(decoded(line), USER.as_bytes(), "PROTOCOL: the user");
                self.ask(random, now, Exchange::Password, "334 UGFzc3dvcmQ6");
            }
            Exchange::Response | Exchange::Password => self.judge(random, now, line),
            Exchange::Acknowledgement => {
                assert!(matches!(line, "" | "AQ=="), "PROTOCOL: {line} to a token's error");
                self.refuse_login(random, now);
            }
        }
    }

    fn ask(&mut self, random: &mut Random, now: Ms, exchange: Exchange, challenge: &str) {
        self.state = State::Login(exchange);
        self.say(random, now, challenge, None);
    }

    fn judge(&mut self, random: &mut Random, now: Ms, response: &str) {
        let secret = self.contact.account.secret();
        let (start, end) = match self.contact.configured.auth {
            Some("plain") => (format!("\0{USER}\0"), secret),
            Some("login") => (String::new(), secret),
            Some("xoauth2") => (format!("user={USER}\u{1}auth=Bearer "), format!("{secret}\u{1}\u{1}")),
            _ => (format!("n,a={USER},\u{1}host="), format!("\u{1}auth=Bearer {secret}\u{1}\u{1}")),
        };
        let response = decoded(response);
        assert!(response.starts_with(start.as_bytes()), "PROTOCOL: {}", response.escape_ascii());
        let rest = &response[start.len()..];
        let is_bearer = self.contact.configured.auth == Some("oauthbearer");
        let is_right = if is_bearer { rest.ends_with(end.as_bytes()) } else { rest == end.as_bytes() };
        let is_token = self.contact.configured.auth.is_some_and(|auth| auth.contains("oauth"));
        if random.chance(self.habits.logins / 2) {
            self.state = State::Commands;
            self.say(random, now, "454 4.7.0 can't tell now", None);
        } else if is_right && !random.chance(self.habits.logins / 4) {
            self.state = State::Commands;
            self.is_logged_in = true;
            self.say(random, now, "235 2.7.0 welcome", None);
        } else if is_token {
            self.ask(random, now, Exchange::Acknowledgement, "334 eyJzdGF0dXMiOiI0MDEifQ==");
        } else {
            self.refuse_login(random, now);
        }
    }

    fn refuse_login(&mut self, random: &mut Random, now: Ms) {
        self.state = State::Commands;
        let told = Some(Told::LoginRefused(self.contact.place, self.contact.since));
        self.say(random, now, "535 5.7.8 wrong", told);
    }
}

fn decoded(line: &str) -> Vec<u8> {
    let mut octets = vec![0; line.len()];
    let decoded = Base64::decode(line, &mut octets);
    decoded.unwrap_or_else(|_| panic!("PROTOCOL: {line} is no base64")).to_vec()
}
