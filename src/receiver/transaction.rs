//! The mail transaction up to its mail data: MAIL, RCPT, DATA (RFC 5321 3.3, 4.1.1.2 to 4.1.1.4).

use super::admission::{RecipientRefusal, relayed_path};
use super::data::{Data, message_refusal};
use super::session::{Session, State, Turn};
use crate::limits::RECIPIENTS;
use crate::smtp::command::{Body, Mail, Rcpt, Service};
use crate::smtp::reply;
use crate::spool::{Device, Draft, Envelope, Protocol, Recipient, Refusal};

/// An open transaction.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) draft: Draft,
    /// Recipients accepted, at most [`RECIPIENTS`].
    recipients: u16,
}

const _: () = assert!(RECIPIENTS <= u16::MAX as usize);

impl Session {
    /// RFC 5321 4.1.1.2; a refused MAIL leaves no transaction.
    pub(super) fn mail<D: Device>(&self, mail: Mail, turn: &mut Turn<D>) -> State {
        if mail.size.is_some_and(|octets| octets > turn.message_octets_max()) {
            turn.say(reply::C552_TOO_LARGE);
            return State::Ready;
        }
        let envelope = Envelope {
            client: self.peer.address,
            client_name: self.client_name.to_octets(),
            protocol: match self.service {
                Service::Basic => Protocol::Smtp,
                Service::Extended => Protocol::Esmtp,
            },
            arrival: turn.now.wall,
            reverse_path: mail.reverse_path.into_octets(),
            body_is_8bit: mail.body == Some(Body::EightBitMime),
            utf8: false,
            ret: mail.ret.unwrap_or_default(),
            envid: mail.envid.unwrap_or_default(),
        };
        match turn.spool.begin(&envelope, mail.size) {
            Ok(draft) => {
                turn.say(reply::C250_REVERSE_PATH);
                State::Transaction(Transaction { draft, recipients: 0 })
            }
            Err(refusal) => {
                turn.say(message_refusal(refusal));
                State::Ready
            }
        }
    }

    /// RFC 5321 4.1.1.3; a refused RCPT leaves the others as they are.
    pub(super) fn rcpt<D: Device>(
        &mut self,
        mut transaction: Transaction,
        rcpt: Rcpt,
        turn: &mut Turn<D>,
    ) -> State {
        match relayed_path(rcpt.forward_path, &self.peer, turn.config) {
            Err(RecipientRefusal::MayNotRelay) => {
                if !self.is_refusal_logged {
                    log::info!("refused client={} reply=550 reason=\"may not relay\"", self.peer.address);
                }
                self.is_refusal_logged = true;
                reply::write_may_not_relay(turn.output, self.peer.address);
            }
            Err(RecipientRefusal::NoAdmin) => turn.say(reply::C550_NO_ADMIN),
            Ok(_) if usize::from(transaction.recipients) >= RECIPIENTS => {
                turn.say(reply::C452_TOO_MANY_RECIPIENTS);
            }
            Ok(forward_path) => {
                let recipient = Recipient {
                    forward_path,
                    notify: rcpt.notify.unwrap_or_default(),
                    orcpt: rcpt.orcpt.unwrap_or_default(),
                };
                let reply = match turn.spool.add_recipient(&mut transaction.draft, &recipient) {
                    Ok(()) => {
                        transaction.recipients += 1;
                        reply::C250_FORWARD_PATH
                    }
                    Err(Refusal::TooManyRecipients) => reply::C452_TOO_MANY_RECIPIENTS,
                    // For a recipient 552 would be read as "too many" (RFC 5321 4.5.3.1.10).
                    Err(Refusal::Full | Refusal::NeverFits) => reply::C452_STORAGE_FULL,
                    Err(Refusal::Failing) => reply::C451_SPOOL_FAILING,
                };
                turn.say(reply);
            }
        }
        State::Transaction(transaction)
    }

    /// RFC 5321 4.1.1.4.
    pub(super) fn data<D: Device>(&mut self, transaction: Transaction, turn: &mut Turn<D>) -> State {
        if transaction.recipients == 0 {
            turn.say(reply::C503_RCPT_FIRST);
            return State::Transaction(transaction);
        }
        turn.say(reply::C354_MAIL_DATA);
        self.await_mail_data(turn.now, turn.config);
        let Transaction { draft, recipients } = transaction;
        State::Data(Data::new(draft, recipients, turn.now.instant, turn.config))
    }
}
