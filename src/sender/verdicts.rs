//! What a refusal is about: the route, or what it answers; by the table in `faults.rs`.
//!
//! A message that was refused before with a fault of the route, while others have passed since, is suspect:
//! it is then the message that the smarthost means, whatever it says. It waits for itself, as one that was
//! refused with 4yz, and the route goes on.
use super::auth::LoginFault;
use super::faults::Stage;
use super::session::{Session, State, Stop};
use super::{Ending, Fault};
use crate::smtp::reply_reader::Severity;

impl Session {
    /// What tells a fault of the route is taken for the own fault of the message that was just begun.
    pub fn suspect(&mut self) {
        self.record.is_suspect = true;
    }

    /// True when the fault was the answer to a message.
    pub fn is_fault_an_answer(&self) -> bool {
        self.is_answer
    }

    /// The fault of the route that the reply read last tells, as an answer at `stage`.
    pub(super) fn told(&self, stage: Stage) -> Option<Fault> {
        let class = self.hits.class(stage)?;
        Fault::of_reply(class, self.replies.code())
    }

    /// What an answer at `stage` of this severity comes to for the message, or the fault of the route.
    pub(super) fn judged(&mut self, stage: Stage, severity: Severity) -> Result<Severity, Fault> {
        match self.told(stage) {
            None => Ok(severity),
            Some(_) if self.record.is_suspect => {
                self.record.is_blamed = true;
                Ok(Severity::Transient)
            }
            Some(fault) => Err(fault),
        }
    }

    /// 421: the smarthost closes the connection (RFC 5321 3.8).
    pub(super) fn closed_by_reply(&mut self) -> Stop {
        if self.has_served && matches!(self.state, State::Ready) {
            return Stop::Farewell;
        }
        let (code, text) = (self.replies.code(), self.replies.text());
        let answered = if self.previous.is_under_way() { &mut self.previous } else { &mut self.record };
        if answered.is_suspect && answered.is_under_way() {
            answered.is_blamed = true;
            answered.defer_rest(code, text);
            answered.finish(Ending::Tried);
            // One that was begun behind it was not answered.
            self.record.finish(Ending::RouteFault(Fault::TooBusy));
            return Stop::RefusedEarly;
        }
        let is_login = matches!(self.state, State::Auth) && self.told(Stage::Auth) != Some(Fault::TooBusy);
        Stop::Fault(if is_login {
            self.told_at_login(LoginFault::Unavailable)
        } else {
            self.told(Stage::Data).unwrap_or(Fault::TooBusy)
        })
    }

    /// What a refusal of the login comes to, which is else `fault`.
    pub(super) fn told_at_login(&self, fault: LoginFault) -> Fault {
        match (self.told(Stage::Auth), fault) {
            (Some(Fault::Unauthenticated), LoginFault::Unavailable) => Fault::Login(LoginFault::TooMany),
            (Some(Fault::Unauthenticated) | None, fault) => Fault::Login(fault),
            (Some(told), _) => told,
        }
    }
}
