//! How a session ends: asked to, by a fault, by silence, or because the connection is gone (RFC 5321
//! 4.1.1.10, 3.8).
//!
//! Invariant: what is written last can be taken neither for mail data nor for its end, is not in plain where
//! TLS was to be, and goes where a command may go: QUIT waits for the replies before it, but in a group (RFC
//! 2920 3.1). Where it may not go the connection ends without it.
use super::attempt::{Ending, kept};
use super::auth::Exchange;
use super::chunks::Chunks;
use super::session::{Session, State, Stop};
use super::{Fault, TlsFault};
use crate::buffer::Buffer;
use crate::smtp::Next;
use crate::time::Now;

impl Session {
    /// The connection is gone. A message that was under way becomes a fault of the route; so does a
    /// connection that ended before the smarthost judged any message.
    pub fn lost(&mut self) {
        match self.state {
            State::Closed | State::Quit => {}
            State::Ready if self.has_served => {}
            State::Handshake { .. } => self.fail(Fault::Tls(TlsFault::Handshake)),
            State::Ready
            | State::Greeting
            | State::Hello { .. }
            | State::StartTls { .. }
            | State::Secret(_)
            | State::Auth
            | State::Transaction(_)
            | State::MailData(_)
            | State::Verdict { .. } => self.fail(Fault::Lost),
        }
        self.login = None;
        self.state = State::Closed;
    }

    /// The deadline has passed: an idle connection is ended politely, any other is given up.
    pub fn expired(&mut self, now: &Now, output: &mut Buffer<'_>) -> Next {
        if now.instant < self.deadline {
            return Next::Continue;
        }
        match self.state {
            State::Ready => self.quit(now, output),
            State::Closed | State::Quit => {
                self.state = State::Closed;
                Next::Close
            }
            State::Handshake { .. }
            | State::Greeting
            | State::Hello { .. }
            | State::StartTls { .. }
            | State::Secret(_)
            | State::Auth
            | State::Transaction(_)
            | State::MailData(_)
            | State::Verdict { .. } => self.stop(Stop::Fault(Fault::Timeout), now, output),
        }
    }

    /// Ends the connection as politely as its state allows. A message under way counts as if the connection
    /// were lost.
    pub fn quit(&mut self, now: &Now, output: &mut Buffer<'_>) -> Next {
        let waits = matches!(self.state, State::Ready) && output.is_empty();
        if waits {
            output.append(b"QUIT\r\n");
            self.state = State::Quit;
            self.arm(now);
            Next::Continue
        } else {
            self.finish(Ending::RouteFault(Fault::Lost));
            self.leave(output);
            Next::Close
        }
    }

    pub(super) fn fail(&mut self, fault: Fault) {
        self.judge_chunks(fault);
        self.fault = Some(fault);
        self.fault_reply = fault.is_told_by_reply().then(|| kept(self.replies.code(), self.replies.text()));
        if self.fault_reply.is_some() {
            let (code, text) = (self.replies.code(), self.replies.text());
            let answered = if self.previous.is_under_way() { &mut self.previous } else { &mut self.record };
            if answered.is_under_way() {
                answered.defer_rest(code, text);
                answered.finish(Ending::Held(fault));
                self.is_answer = true;
            }
        }
        self.finish(Ending::RouteFault(fault));
    }

    /// The message under way has ended so, and with it the one before whose verdict was awaited.
    fn finish(&mut self, ending: Ending) {
        self.record.finish(ending);
        let is_fault = matches!(ending, Ending::RouteFault(_));
        self.previous.finish(if is_fault { ending } else { Ending::RouteFault(Fault::Lost) });
    }

    pub(super) fn stop(&mut self, stop: Stop, now: &Now, output: &mut Buffer<'_>) -> Next {
        match stop {
            // Nothing that comes behind QUIT matters.
            Stop::Fault(_) if matches!(self.state, State::Quit) => {}
            Stop::Fault(fault) => self.fail(fault),
            Stop::Damaged => self.finish(Ending::Damaged),
            Stop::RefusedEarly => self.finish(Ending::Tried),
            // It was not taken, so that nothing speaks against another try at once, behind DATA.
            Stop::NoChunks => {
                self.chunks[self.smarthost] = Chunks::Refused;
                self.record.has_sent_mail_data = false;
                self.previous.has_sent_mail_data = false;
                self.finish(Ending::RouteFault(Fault::Protocol));
            }
            Stop::Farewell => {}
        }
        let is_refused = matches!(stop, Stop::Fault(Fault::Greeting | Fault::Hello));
        if is_refused && output.is_empty() {
            // RFC 5321 3.1: a server that greets with 554 waits for QUIT.
            output.append(b"QUIT\r\n");
            self.state = State::Quit;
            self.arm(now);
            return Next::Continue;
        }
        self.leave(output);
        Next::Close
    }

    /// Says QUIT where it may be said, and is done.
    fn leave(&mut self, output: &mut Buffer<'_>) {
        match self.state {
            // What isn't sent yet of the mail data must not arrive: its end would be an order to deliver.
            State::MailData(_) => output.clear(),
            State::Verdict { .. } if !output.is_empty() => output.clear(),
            _ if self.previous.is_under_way() && !output.is_empty() => output.clear(),
            State::Transaction(transaction) if transaction.is_in_chunk() => output.clear(),
            State::Transaction(transaction) if transaction.is_chunk_awaited() && !output.is_empty() => {
                output.clear();
            }
            // Behind DATA a command could be taken for mail data (RFC 2920 3.1).
            State::Transaction(transaction) if transaction.is_data_awaited() => {}
            // Behind half a line it would be the rest of it.
            State::Auth if !self.login.as_ref().is_some_and(Exchange::is_written) => output.clear(),
            // Nothing goes in plain behind STARTTLS (SEC-tls-c).
            State::Handshake { .. } => output.clear(),
            _ if self.replies_awaited > 0 && !self.is_in_group() => {}
            State::Greeting
            | State::Hello { .. }
            | State::StartTls { .. }
            | State::Secret(_)
            | State::Auth
            | State::Ready
            | State::Transaction(_)
            | State::Verdict { .. } => {
                if output.room() >= b"QUIT\r\n".len() {
                    output.append(b"QUIT\r\n");
                }
            }
            State::Closed | State::Quit => {}
        }
        self.login = None;
        self.state = State::Closed;
    }

    /// True when a command may follow the one before though that is not answered; EHLO, STARTTLS and AUTH end
    /// their group.
    fn is_in_group(&self) -> bool {
        self.extensions.pipelining && matches!(self.state, State::Transaction(_) | State::Verdict { .. })
    }
}
