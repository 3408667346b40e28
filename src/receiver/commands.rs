//! Command lines and what they do (RFC 5321 4.1.1, 4.1.4): all transitions but those inside of a message or
//! of a login.

use core::mem;

use super::session::{BAD_COMMANDS_MAX, CLOSING_TIMEOUT, Session, State, Turn};
use crate::buffer::Buffer;
use crate::config::Config;
use crate::smtp::command::{self, AuthTerms, Command, Service, Terms};
use crate::smtp::line::{self, Line};
use crate::smtp::login::LOGIN_LINE_OCTETS_MAX;
use crate::smtp::path::ClientName;
use crate::smtp::quirk::{Quirk, Quirks};
use crate::smtp::reply::{self, Farewell, Offer, Reply};
use crate::spool::Device;

/// What of the input is not to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drops {
    Nothing,
    /// The rest of a command line, which was answered.
    Line,
    /// A line of a login that is too long for anybody's password, so many octets of it up to now; its answer
    /// comes at its end.
    LoginLine(usize),
    /// So many octets of a chunk whose BDAT was refused.
    Chunk(u64),
}

impl Drops {
    /// So many octets of a chunk, which may be none.
    pub(super) const fn chunk(octets: u64) -> Self {
        if octets == 0 { Self::Nothing } else { Self::Chunk(octets) }
    }
}

impl Session {
    /// True for a client whose mail goes anywhere: one of ours.
    pub(super) fn may_relay(&self, config: &Config) -> bool {
        self.is_logged_in || self.peer.may_relay(&config.allow)
    }

    /// Takes one command line; false when there is nothing to take.
    pub(super) fn read_command<D: Device>(&mut self, input: &mut Buffer, turn: &mut Turn<D>) -> bool {
        let terms = Terms {
            service: self.service,
            has_starttls: self.has_starttls(turn.config),
            auth: self.auth_terms(turn.config),
            tolerated: turn.config.quirks.tolerated,
        };
        let mut met = Quirks::NONE;
        let (octets, parsed) = match line::next_line(input.octets()) {
            Line::Partial => return false,
            Line::Whole(line) => (line.len() + 2, command::parse(line, &terms, &mut met)),
            Line::TooLong if self.may_log_in(&terms) && command::is_auth(input.octets()) => {
                self.drops = Drops::LoginLine(0);
                return true;
            }
            Line::TooLong => (0, Err(reply::C500_LINE_TOO_LONG)),
            Line::BareLf => (0, Err(reply::C500_BARE_LF)),
        };
        input.consume(octets);
        if octets == 0 {
            self.drops = Drops::Line;
        }
        match parsed {
            Ok(command) => {
                self.make_progress(turn.now, turn.config);
                self.met(met, turn);
                self.obey(command, turn);
            }
            Err(reply) => {
                self.await_command(turn.now, turn.config);
                self.refuse(reply, turn);
            }
        }
        true
    }

    /// Drops what is to be dropped as far as it came; false when nothing came.
    pub(super) fn drop_octets<D: Device>(&mut self, input: &mut Buffer, turn: &mut Turn<D>) -> bool {
        match self.drops {
            Drops::Nothing => false,
            Drops::Line => {
                let (octets, is_whole) = line::rest_of_line(input.octets());
                input.consume(octets);
                if is_whole {
                    self.drops = Drops::Nothing;
                }
                is_whole
            }
            Drops::LoginLine(before) => {
                let (octets, is_whole) = line::rest_of_line(input.octets());
                input.consume(octets);
                let octets = before.saturating_add(octets);
                self.drops = if is_whole { Drops::Nothing } else { Drops::LoginLine(octets) };
                if is_whole && octets > LOGIN_LINE_OCTETS_MAX {
                    self.end_login();
                    self.refuse(reply::C500_LINE_TOO_LONG, turn);
                } else if is_whole {
                    self.await_command(turn.now, turn.config);
                    self.login_failed(turn);
                }
                is_whole
            }
            Drops::Chunk(left) => {
                let octets = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                input.consume(octets);
                let left = left - octets as u64;
                self.drops = Drops::chunk(left);
                if left == 0 {
                    self.await_command(turn.now, turn.config);
                }
                left == 0
            }
        }
    }

    /// Counts the habits that were tolerated.
    pub(super) fn met<D>(&self, met: Quirks, turn: &mut Turn<D>) {
        turn.admission.ledger.met(self.place, met);
        for quirk in met.iter() {
            log::debug!("tolerated client={} quirk={}", self.peer.origin, quirk.name());
        }
    }

    /// In the order of RFC 5321 4.1.1.
    fn obey<D: Device>(&mut self, command: Command, turn: &mut Turn<D>) {
        let state = mem::replace(&mut self.state, State::Closing);
        let is_early = mem::take(&mut self.is_early);
        self.state = match (state, command) {
            (State::Login(_) | State::Data(_) | State::Chunk(..) | State::Committing(_), _)
            | (State::TlsAsked(_) | State::Handshake(_) | State::Closing, _) => {
                unreachable!("no command is read in these states")
            }
            (state, Command::Ehlo(name)) => {
                let offer = Offer {
                    size: turn.message_octets_max(self.place),
                    starttls: self.has_starttls(turn.config) && !self.is_tls,
                    auth: self.auth_terms(turn.config) == AuthTerms::Offered,
                };
                reply::write_ehlo(turn.output, &turn.config.hostname, &offer);
                self.introduced(state, name, Service::Extended, turn)
            }
            (state, Command::Helo(name)) => {
                reply::write_helo(turn.output, &turn.config.hostname);
                self.introduced(state, name, Service::Basic, turn)
            }
            (State::Greeted, Command::Mail(_)) => unchanged(State::Greeted, reply::C503_EHLO_FIRST, turn),
            (State::Ready, Command::Mail(mail)) => self.mail(mail, turn),
            (state @ State::Transaction(_), Command::Mail(_)) => {
                unchanged(state, reply::C503_MAIL_ALREADY, turn)
            }
            (State::Transaction(transaction), Command::Rcpt(rcpt)) => self.rcpt(transaction, rcpt, turn),
            (State::Transaction(transaction), Command::Data) => self.data(transaction, turn),
            (state @ (State::Greeted | State::Ready), Command::Rcpt(_) | Command::Data) => {
                unchanged(state, reply::C503_MAIL_FIRST, turn)
            }
            (state @ State::Chunks(_), Command::Mail(_) | Command::Rcpt(_) | Command::Data) => {
                unchanged(state, reply::C503_BDAT_GOES_ON, turn)
            }
            (state, Command::Bdat(bdat)) => self.bdat(state, bdat, turn),
            (state, Command::StartTls) => self.starttls(state, turn),
            (state, Command::Auth(mechanism, response)) => self.auth(state, mechanism, response, turn),
            (state, Command::Rset) => {
                turn.say(reply::C250_OK);
                state.without_transaction(turn.spool)
            }
            (state, Command::Vrfy) => unchanged(state, reply::C252_CANNOT_VERIFY, turn),
            (state, Command::Help) => unchanged(state, reply::C214_HELP, turn),
            (state, Command::Noop) => unchanged(state, reply::C250_OK, turn),
            (state, Command::Quit) => {
                if is_early {
                    let mut met = Quirks::NONE;
                    met.insert(Quirk::EarlyQuit);
                    self.met(met, turn);
                }
                self.leave(state, Farewell::Quit, turn)
            }
            (state, Command::Http) => self.leave(state, Farewell::NotSmtp, turn),
        };
    }

    /// Answers a bad command; one too many ends the session.
    pub(super) fn refuse<D: Device>(&mut self, reply: &Reply, turn: &mut Turn<D>) {
        self.bad_commands += 1;
        if self.bad_commands < BAD_COMMANDS_MAX {
            turn.say(reply);
        } else {
            let state = mem::replace(&mut self.state, State::Closing);
            self.state = self.leave(state, Farewell::TooManyErrors, turn);
        }
    }

    fn introduced<D: Device>(
        &mut self,
        state: State,
        name: ClientName,
        service: Service,
        turn: &mut Turn<D>,
    ) -> State {
        self.client_name = name;
        self.service = service;
        state.give_up(turn.spool);
        State::Ready
    }

    /// Says why, and closes.
    pub(super) fn leave<D: Device>(&mut self, state: State, farewell: Farewell, turn: &mut Turn<D>) -> State {
        if farewell != Farewell::Quit {
            log::info!("closed client={} reason={farewell:?}", self.peer.origin);
        }
        reply::write_farewell(turn.output, &turn.config.hostname, farewell);
        self.deadline = turn.now.instant + CLOSING_TIMEOUT;
        state.give_up(turn.spool);
        State::Closing
    }
}

/// Says `reply` and leaves everything as it is.
pub(super) fn unchanged<D: Device>(state: State, reply: &Reply, turn: &mut Turn<D>) -> State {
    turn.say(reply);
    state
}
