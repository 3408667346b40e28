//! From the greeting to a session that is ready: EHLO (RFC 5321 3.2), STARTTLS (RFC 3207) and AUTH (RFC
//! 4954).
//!
//! Invariants: where TLS is demanded, nothing but EHLO, STARTTLS and QUIT goes before it. What was learned
//! before TLS is forgotten. AUTH uses what the last EHLO offered, and where TLS is demanded that is the one
//! inside it; there is one login a session.
use super::auth::{Answer, Exchange, LoginFault, Secret, SecretFault};
use super::extensions::Extensions;
use super::session::{COMMAND_OCTETS_MAX, Session, State, Stop};
use super::token::TokenFault;
use super::{Fault, TlsFault};
use crate::buffer::Buffer;
use crate::config::{Config, TlsPolicy};
use crate::smtp::Next;
use crate::smtp::reply_reader::Severity;
use crate::smtp::trace::AddressLiteral;
use crate::spool::KeptReply;
use crate::time::Now;

impl Session {
    /// True when the driver is to set up TLS, once all output is written; it calls [`Session::tls_started`]
    /// or [`Session::tls_failed`].
    pub fn wants_tls(&self) -> bool {
        matches!(self.state, State::Handshake { .. })
    }

    /// TLS stands. What comes from now on is what it carried.
    pub fn tls_started(&mut self, now: &Now) {
        let State::Handshake { is_implicit } = self.state else { unreachable!("TLS was not asked for") };
        self.is_tls = true;
        self.replies.reset();
        self.extensions = Extensions::default();
        self.state =
            if is_implicit { State::Greeting } else { State::Hello { is_helo: false, is_written: false } };
        self.arm(now);
    }

    /// There is no TLS: the connection is to be closed without another octet in plain.
    pub fn tls_failed(&mut self, fault: TlsFault) {
        assert!(self.wants_tls(), "TLS was not asked for");
        self.fail(Fault::Tls(fault));
        self.state = State::Closed;
    }

    /// True when the driver is to hand in the secret of the configured login.
    pub fn wants_secret(&self) -> bool {
        matches!(self.state, State::Secret(_))
    }

    /// The secret, or why there is none. Go on with [`Session::advance`].
    pub fn secret(
        &mut self,
        now: &Now,
        config: &Config,
        secret: Result<Secret, SecretFault>,
        output: &mut Buffer<'_>,
    ) -> Next {
        let State::Secret(mechanism) = self.state else { unreachable!("no secret was asked for") };
        let smarthost = self.smarthost(config);
        let login = smarthost.login.as_ref().expect("a secret is asked for only where there is a login");
        let place = (smarthost.host.as_str(), smarthost.port);
        match secret {
            Ok(secret) => {
                self.login = Some(Exchange::new(mechanism, &login.user, &secret, place));
                self.is_wipe_owed = true;
                self.state = State::Auth;
                self.arm(now);
                Next::Continue
            }
            Err(fault) => self.stop(Stop::Fault(Fault::Login(LoginFault::Secret(fault))), now, output),
        }
    }

    /// There is no access token, for this reason; `told` is what was said of it. Go on with
    /// [`Session::advance`].
    pub fn no_token(
        &mut self,
        now: &Now,
        fault: TokenFault,
        told: Option<KeptReply>,
        output: &mut Buffer<'_>,
    ) -> Next {
        assert!(self.wants_secret(), "no secret was asked for");
        let next = self.stop(Stop::Fault(Fault::Login(LoginFault::Token(fault))), now, output);
        self.fault_reply = told;
        next
    }

    /// The argument is our name where it has dots, else the address of our end (RFC 5321 4.1.1.1 and 4.1.4).
    pub(super) fn write_hello(&mut self, is_helo: bool, config: &Config, output: &mut Buffer<'_>) -> bool {
        if output.room() < COMMAND_OCTETS_MAX {
            return false;
        }
        output.append(if is_helo { b"HELO " } else { b"EHLO " });
        if config.hostname.contains('.') {
            output.append(config.hostname.as_bytes());
        } else {
            core::fmt::write(output, format_args!("{}", AddressLiteral(self.local)))
                .expect("an address literal is shorter than a command");
        }
        output.append(b"\r\n");
        self.replies_awaited += 1;
        self.state = State::Hello { is_helo, is_written: true };
        true
    }

    /// EHLO or HELO was taken: TLS comes next, then the login, then mail.
    pub(super) fn greeted(&mut self, config: &Config) -> Result<(), Stop> {
        let smarthost = self.smarthost(config);
        if smarthost.tls == TlsPolicy::Starttls && !self.is_tls {
            if !self.extensions.starttls {
                return Err(Stop::Fault(Fault::Tls(TlsFault::NotOffered)));
            }
            self.state = State::StartTls { is_written: false };
            return Ok(());
        }
        self.state = match &smarthost.login {
            Some(login) => match self.extensions.auth.choose(login) {
                Some(mechanism) => State::Secret(mechanism),
                None => return Err(Stop::Fault(Fault::Login(LoginFault::NoMechanism))),
            },
            None => State::Ready,
        };
        Ok(())
    }

    pub(super) fn write_starttls(&mut self, output: &mut Buffer<'_>) -> bool {
        if output.room() < COMMAND_OCTETS_MAX {
            return false;
        }
        output.append(b"STARTTLS\r\n");
        self.replies_awaited += 1;
        self.state = State::StartTls { is_written: true };
        true
    }

    pub(super) fn starttls_reply(&mut self, severity: Severity) -> Result<(), Stop> {
        if severity != Severity::Completion {
            return Err(Stop::Fault(Fault::Tls(TlsFault::Refused)));
        }
        self.state = State::Handshake { is_implicit: false };
        Ok(())
    }

    pub(super) fn write_login(&mut self, output: &mut Buffer<'_>) -> bool {
        let Some(login) = &mut self.login else { return false };
        let has_written = login.write(output);
        self.replies_awaited += u16::from(has_written && login.is_written());
        has_written
    }

    pub(super) fn login_reply(&mut self, severity: Severity) -> Result<(), Stop> {
        let login = self.login.as_mut().expect("it is there in this state");
        if !login.is_written() {
            return Err(Stop::Fault(Fault::Protocol));
        }
        match login.reply(severity) {
            Answer::Continue => {}
            Answer::Accepted => {
                self.login = None;
                self.state = State::Ready;
            }
            Answer::Stale => {
                let mechanism = login.mechanism();
                self.login = None;
                self.state = State::Secret(mechanism);
            }
            Answer::Over(fault) => {
                return Err(Stop::Fault(self.told_at_login(fault)));
            }
        }
        Ok(())
    }
}
