//! AUTH (RFC 4954): PLAIN, and LOGIN as devices speak it.
//!
//! A failed login doesn't say what was wrong. A few of them end the session, and many of one client shut it
//! out for a while. What was said is forgotten as soon as it was compared, and never printed.

use core::mem;

use super::commands::unchanged;
use super::session::{Session, State, Turn};
use crate::buffer::Buffer;
use crate::smtp::command::{AuthTerms, Service, Terms, without_white_space_behind};
use crate::smtp::line::{self, Line};
use crate::smtp::login::{Mechanism, Response};
use crate::smtp::quirk::Quirks;
use crate::smtp::reply::{self, Farewell, Reply};
use crate::spool::Device;

use super::commands::Drops;

/// Failed logins at which a session is closed.
pub const SESSION_FAILED_LOGINS_MAX: u8 = 3;

/// What the next response is.
#[derive(Debug)]
pub(super) enum Exchange {
    /// PLAIN's only one.
    Plain,
    /// The user's name.
    User,
    /// The password of the user who was named.
    Password(Response),
}

impl Session {
    /// True when the next line may be a login.
    pub(super) fn may_log_in(&self, terms: &Terms) -> bool {
        terms.auth == AuthTerms::Offered
            && terms.service == Service::Extended
            && !self.is_logged_in
            && matches!(self.state, State::Ready)
    }

    /// RFC 4954 4.
    pub(super) fn auth<D: Device>(
        &mut self,
        state: State,
        mechanism: Mechanism,
        response: Option<Response>,
        turn: &mut Turn<D>,
    ) -> State {
        if self.is_logged_in {
            return unchanged(state, reply::C503_LOGGED_IN, turn);
        }
        if !matches!(state, State::Ready) || self.service == Service::Basic {
            let is_in_transaction = matches!(state, State::Transaction(_) | State::Chunks(_));
            let reply =
                if is_in_transaction { reply::C503_AUTH_IN_TRANSACTION } else { reply::C503_EHLO_NEEDED };
            return unchanged(state, reply, turn);
        }
        if !turn.admission.ledger.may_log_in(self.place, turn.now.instant) {
            return unchanged(state, reply::C454_LOGINS_LIMITED, turn);
        }
        match (mechanism, response) {
            (Mechanism::Plain, None) => ask(Exchange::Plain, turn),
            (Mechanism::Login, None) => ask(Exchange::User, turn),
            (Mechanism::Login, Some(user)) => ask(Exchange::Password(user), turn),
            (Mechanism::Plain, Some(response)) => {
                self.state = State::Ready;
                self.judge_plain(&response, turn);
                mem::replace(&mut self.state, State::Closing)
            }
        }
    }

    /// Takes one line as a response; false when there is nothing to take.
    pub(super) fn read_response<D: Device>(&mut self, input: &mut Buffer, turn: &mut Turn<D>) -> bool {
        let mut met = Quirks::NONE;
        let (octets, response) = match line::next_line(input.octets()) {
            Line::Partial => return false,
            Line::TooLong => {
                self.drops = Drops::LoginLine(0);
                return true;
            }
            Line::BareLf => (0, Err(reply::C500_BARE_LF)),
            Line::Whole(line) => {
                let base64 = without_white_space_behind(line);
                let response = match base64 {
                    b"*" => Err(reply::C501_CANCELLED),
                    _ => Response::decode(base64, turn.config.quirks.tolerated, &mut met)
                        .ok_or(reply::C501_BASE64),
                };
                (line.len() + 2, response)
            }
        };
        input.consume(octets);
        if octets == 0 {
            self.drops = Drops::Line;
        }
        self.await_command(turn.now, turn.config);
        match response {
            Ok(response) => {
                self.met(met, turn);
                self.respond(response, turn);
            }
            Err(reply) => {
                self.end_login();
                self.refuse(reply, turn);
            }
        }
        true
    }

    fn respond<D: Device>(&mut self, response: Response, turn: &mut Turn<D>) {
        let State::Login(exchange) = mem::replace(&mut self.state, State::Ready) else {
            unreachable!("a response is read in Login only")
        };
        match exchange {
            Exchange::Plain => self.judge_plain(&response, turn),
            Exchange::User => self.state = ask(Exchange::Password(response), turn),
            Exchange::Password(user) => {
                let is_right = match (user.octets(), response.octets()) {
                    (Some(user), Some(password)) => turn.admission.users.are(user, password),
                    _ => false,
                };
                self.judge(is_right, turn);
            }
        }
    }

    fn judge_plain<D: Device>(&mut self, response: &Response, turn: &mut Turn<D>) {
        let is_right =
            response.plain().is_some_and(|(user, password)| turn.admission.users.are(user, password));
        self.judge(is_right, turn);
    }

    fn judge<D: Device>(&mut self, is_right: bool, turn: &mut Turn<D>) {
        if !is_right {
            self.login_failed(turn);
            return;
        }
        self.is_logged_in = true;
        self.make_progress(turn.now, turn.config);
        turn.say(reply::C235_LOGGED_IN);
    }

    /// A wrong name or password, or a response that can't be anybody's.
    pub(super) fn login_failed<D: Device>(&mut self, turn: &mut Turn<D>) {
        self.end_login();
        self.failed_logins += 1;
        turn.admission.ledger.login_failed(self.place, turn.now.instant);
        log::warn!("login failed client={}", self.peer.origin);
        if self.failed_logins < SESSION_FAILED_LOGINS_MAX {
            turn.say(reply::C535_LOGIN_FAILED);
        } else {
            let state = mem::replace(&mut self.state, State::Closing);
            self.state = self.leave(state, Farewell::TooManyLogins, turn);
        }
    }

    /// Back to commands.
    pub(super) fn end_login(&mut self) {
        if matches!(self.state, State::Login(_)) {
            self.state = State::Ready;
        }
    }
}

/// Asks for the next response.
fn ask<D: Device>(exchange: Exchange, turn: &mut Turn<D>) -> State {
    let reply: &Reply = match exchange {
        Exchange::Plain => reply::C334_RESPONSE,
        Exchange::User => reply::C334_USER,
        Exchange::Password(_) => reply::C334_PASSWORD,
    };
    turn.say(reply);
    State::Login(exchange)
}
