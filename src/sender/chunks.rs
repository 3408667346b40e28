//! Mail data in a chunk (RFC 3030), where the smarthost offers CHUNKING: all of a message behind one BDAT, in
//! one flight with MAIL and RCPT, so that a message costs one round trip.
//!
//! BDAT has no go-ahead: its octets are on their way before anybody said that they are wanted. So a smarthost
//! that offers CHUNKING without meaning it takes them for commands. Invariant: what it says then is not
//! believed, the connection ends, and it gets DATA from then on; the message is not charged.
use super::Fault;
use super::mail_data::MailData;
use super::session::{Session, State, Stop};
use super::transaction::{Step, Transaction};
use crate::buffer::Buffer;
use crate::config::Config;
use crate::smtp::reply_reader::Severity;
use crate::spool::{Device, Store};

/// Octets of mail data that are sent in one flight with MAIL and RCPT, at most: if nobody gets them they are
/// sent in vain.
const UNASKED_OCTETS_MAX: u64 = 64 * 1024;

/// What is known of a smarthost that offers CHUNKING, over all connections to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// Nothing.
    Untried,
    /// It judged a message that came in a chunk.
    Judged,
    /// It refused BDAT as such, or the connection broke over the first one: DATA is used instead.
    Refused,
}

/// True for a reply that is about BDAT as such: there are smarthosts that offer CHUNKING and mean nothing by
/// it, or firewalls in front of them that know no such command.
pub(super) const fn is_of_the_command(code: u16) -> bool {
    matches!(code, 500..=504)
}

impl Session {
    /// True when the next command may be written though a reply is awaited. Much mail data is held back until
    /// somebody is known to get it.
    pub(super) fn may_go_on(&self, transaction: &Transaction) -> bool {
        let is_much = self.uses_chunks() && self.octets > UNASKED_OCTETS_MAX;
        self.extensions.pipelining && !(transaction.step == Step::Data && is_much)
    }

    /// A message leaves in a chunk where the smarthost takes it so; of a notice nobody knows the octets
    /// before.
    fn uses_chunks(&self) -> bool {
        let is_offered = self.extensions.chunking && self.chunks[self.smarthost] != Chunks::Refused;
        is_offered && !self.record.is_notice()
    }

    /// Writes what is still to be written behind BDAT, as far as the output has room.
    pub(super) fn write_chunk<D: Device>(
        &mut self,
        transaction: &mut Transaction,
        config: &Config,
        output: &mut Buffer<'_>,
        spool: &mut Store<D>,
    ) -> Result<bool, Stop> {
        let Some(mut mail_data) = transaction.chunk else { return Ok(false) };
        let had = output.len();
        // Should it break here, nothing else may be written.
        self.state = State::Transaction(*transaction);
        let has_ended = self.write_octets(&mut mail_data, config, output, spool)?;
        transaction.chunk = (!has_ended).then_some(mail_data);
        Ok(output.len() > had || has_ended)
    }

    pub(super) fn write_data(&mut self, transaction: &mut Transaction, output: &mut Buffer<'_>) {
        if self.uses_chunks() {
            core::fmt::write(output, format_args!("BDAT {} LAST\r\n", self.octets))
                .expect("the room of a command was there");
            transaction.is_chunk = true;
            transaction.chunk = Some(MailData::chunk(self.octets));
        } else {
            output.append(b"DATA\r\n");
        }
        self.replies_awaited += 1;
        transaction.is_data_awaited = true;
    }

    /// A reply to BDAT before all of the chunk is written. Where nobody gets it, the rest is sent for the
    /// smarthost to drop it.
    pub(super) fn early_chunk_reply(
        &mut self,
        mut transaction: Transaction,
        code: u16,
        severity: Severity,
    ) -> Result<(), Stop> {
        let is_void = transaction.accepted == 0;
        match severity {
            Severity::Completion | Severity::Intermediate => return Err(Stop::Fault(Fault::Protocol)),
            Severity::Transient | Severity::Permanent if is_void => {}
            Severity::Permanent if is_of_the_command(code) => return Err(Stop::NoChunks),
            Severity::Transient | Severity::Permanent => {
                self.refuse_accepted(code, severity)?;
                return Err(Stop::RefusedEarly);
            }
        }
        transaction.is_data_awaited = false;
        self.is_reset_owed = true;
        self.go_on(transaction)
    }

    /// A connection that breaks over the first chunk of all is reason enough to use none.
    pub(super) fn judge_chunks(&mut self, fault: Fault) {
        let is_before =
            matches!(self.state, State::Transaction(transaction) if transaction.is_chunk_awaited());
        let is_verdict = matches!(self.state, State::Verdict { is_chunk: true, .. });
        let is_previous = self.previous.is_under_way() && self.is_previous_chunk;
        if !is_before && !is_verdict && !is_previous {
            return;
        }
        if fault.is_told_by_reply() {
            // Said to a command before it, it tells that the message was not taken.
            self.record.has_sent_mail_data &= !is_before;
        } else if self.chunks[self.smarthost] == Chunks::Untried {
            self.chunks[self.smarthost] = Chunks::Refused;
        }
    }
}
