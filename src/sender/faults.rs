//! Replies that tell a fault of the route, of the login or of the configuration although they may come as the
//! answer to a message (RFC 5321 4.2, RFC 3463): one table.
//!
//! All else is about what it answers: a 4yz or 5yz to MAIL or to the mail data about that message, one to
//! RCPT about that recipient. What a fault of each class makes the route do stands in `route.rs`.
//!
//! Providers change their words; the codes and fragments here are those of their own pages and of replies
//! that users quote. A false hit can't hold mail up for ever: a message that alone is refused while others
//! pass is dealt with by itself, see [`super::Session::suspect`].
use core::fmt;

/// What a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The connection itself.
    Greeting,
    /// EHLO or HELO.
    Hello,
    /// STARTTLS.
    StartTls,
    /// A line of the login.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Recipient,
    /// DATA, or the mail data.
    Data,
}

/// What a reply is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The way to the smarthost, or the smarthost as a whole.
    Route,
    /// The login: somebody has to put it right.
    Login,
    /// As whom we send: somebody has to put it right, or only some senders may.
    Sender,
    /// Mail comes too fast.
    Rate,
    /// An allowance is used up.
    Quota,
    /// The message.
    Message,
    /// The recipient.
    Recipient,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Route => "route",
            Self::Login => "login",
            Self::Sender => "sender",
            Self::Rate => "rate",
            Self::Quota => "quota",
            Self::Message => "message",
            Self::Recipient => "recipient",
        })
    }
}

/// One row of the table: a reply fits that fits all of it.
#[derive(Debug)]
pub struct Row {
    /// Where it may come.
    pub at: &'static [Stage],
    /// The least and the greatest code.
    pub codes: (u16, u16),
    /// The enhanced status code; empty: any, or none. A `?` stands for one digit.
    pub status: &'static str,
    /// What the text has in it, whatever its case; empty: anything.
    pub text: &'static str,
    /// What it is about.
    pub class: Class,
    /// Who says so.
    pub source: &'static str,
}

const ANYWHERE: &[Stage] = &[
    Stage::Greeting,
    Stage::Hello,
    Stage::StartTls,
    Stage::Auth,
    Stage::Mail,
    Stage::Recipient,
    Stage::Data,
];
const MESSAGE: &[Stage] = &[Stage::Mail, Stage::Recipient, Stage::Data];
const AUTH: &[Stage] = &[Stage::Auth];
const RECIPIENT: &[Stage] = &[Stage::Recipient];

const fn row(
    at: &'static [Stage],
    codes: (u16, u16),
    status: &'static str,
    text: &'static str,
    class: Class,
    source: &'static str,
) -> Row {
    Row { at, codes, status, text, class, source }
}

const LATER: (u16, u16) = (400, 499);
const NEVER: (u16, u16) = (500, 599);
const EITHER: (u16, u16) = (400, 599);

/// The table. The first row that fits counts.
pub const ROWS: &[Row] = &[
    // What looks like a limit of ours and is the recipient's.
    row(RECIPIENT, EITHER, "", "you are trying to contact", Class::Recipient, "Gmail"),
    row(RECIPIENT, EITHER, "", "the recipient", Class::Recipient, "Yandex"),
    // Who we are.
    row(MESSAGE, (530, 530), "", "", Class::Login, "RFC 4954 6, RFC 3207 4"),
    row(ANYWHERE, NEVER, "5.7.57", "", Class::Login, "Microsoft 365: not authenticated"),
    row(ANYWHERE, NEVER, "5.7.30", "", Class::Login, "Microsoft 365: passwords are switched off"),
    row(ANYWHERE, NEVER, "5.1.8", "outbound sender", Class::Login, "Microsoft 365: the account is blocked"),
    row(MESSAGE, NEVER, "", "authentication required", Class::Login, "Google, hosters"),
    row(MESSAGE, NEVER, "", "authorization required", Class::Login, "mail.ru"),
    row(MESSAGE, NEVER, "", "sending paused", Class::Login, "Amazon SES"),
    row(MESSAGE, NEVER, "", "sending suspended", Class::Login, "Amazon SES"),
    row(AUTH, EITHER, "", "too many login", Class::Login, "Gmail: 454 4.7.0"),
    row(AUTH, EITHER, "", "too many failed", Class::Login, "Dovecot, hosters"),
    // As whom we send.
    row(MESSAGE, (554, 554), "5.2.252", "", Class::Sender, "Microsoft 365: SendAsDenied"),
    row(MESSAGE, NEVER, "", "sendasdenied", Class::Sender, "Microsoft 365: 554 5.2.0"),
    row(MESSAGE, NEVER, "5.7.60", "", Class::Sender, "Microsoft 365, Exchange"),
    row(MESSAGE, NEVER, "", "to send as this sender", Class::Sender, "Exchange: 550 5.7.1"),
    row(MESSAGE, NEVER, "", "not verified", Class::Sender, "Amazon SES: 554"),
    row(MESSAGE, NEVER, "", "verified sender", Class::Sender, "SendGrid: 550"),
    row(MESSAGE, NEVER, "", "not owned by", Class::Sender, "Postfix, Yandex: 553 5.7.1"),
    row(MESSAGE, NEVER, "", "relaying disallowed as", Class::Sender, "Zoho: 553"),
    row(MESSAGE, NEVER, "", "sender address is not allowed", Class::Sender, "GMX: 550"),
    row(MESSAGE, NEVER, "", "not one of your addresses", Class::Sender, "iCloud: 550 5.7.0"),
    // An allowance that is used up.
    row(
        MESSAGE,
        (550, 550),
        "5.2.25?",
        "",
        Class::Quota,
        "Microsoft 365: throttled after 5.2.251 to 5.2.255",
    ),
    row(MESSAGE, (554, 554), "5.2.0", "quotaexceeded", Class::Quota, "Microsoft 365: recipients a day"),
    row(MESSAGE, (554, 554), "5.2.2", "storedrv", Class::Quota, "Microsoft 365: our mailbox is full"),
    row(MESSAGE, (550, 550), "5.4.5", "", Class::Quota, "Gmail: mail a day"),
    row(MESSAGE, NEVER, "5.7.1", "relay limit", Class::Quota, "Google's relay: mail a day"),
    row(MESSAGE, (454, 454), "", "daily", Class::Quota, "Amazon SES: mail a day"),
    row(ANYWHERE, EITHER, "", "maximum credits", Class::Quota, "SendGrid: 451"),
    row(MESSAGE, EITHER, "", "sending quota", Class::Quota, "Gmail, hosters"),
    row(MESSAGE, EITHER, "", "sending limit", Class::Quota, "Gmail, hosters"),
    row(MESSAGE, EITHER, "", "daily limit", Class::Quota, "hosters"),
    row(MESSAGE, EITHER, "", "daily message limit", Class::Quota, "Emailit: 452 4.5.3"),
    row(MESSAGE, EITHER, "", "hourly limit", Class::Quota, "hosters"),
    row(MESSAGE, EITHER, "", "hour limit", Class::Quota, "hosters"),
    row(MESSAGE, EITHER, "", "per day", Class::Quota, "hosters"),
    row(MESSAGE, EITHER, "", "per hour", Class::Quota, "cPanel, hosters"),
    row(MESSAGE, EITHER, "", "per 24 hours", Class::Quota, "hosters"),
    row(MESSAGE, EITHER, "", "outgoing email quota", Class::Quota, "hosters"),
    // Too fast.
    row(ANYWHERE, (432, 432), "4.3.2", "", Class::Rate, "Microsoft 365: connections, 30 messages a minute"),
    row(ANYWHERE, EITHER, "", "submission rate", Class::Rate, "Exchange: 421 4.4.2"),
    row(ANYWHERE, EITHER, "", "thread limit", Class::Rate, "Microsoft 365: 4.3.2"),
    row(ANYWHERE, LATER, "4.7.500", "", Class::Rate, "Microsoft 365: server busy"),
    row(ANYWHERE, LATER, "4.7.65?", "", Class::Rate, "Microsoft: connections"),
    row(ANYWHERE, LATER, "4.7.28", "", Class::Rate, "Google: an unusual rate"),
    row(ANYWHERE, LATER, "", "unusual rate", Class::Rate, "Google: 421 4.7.0"),
    row(MESSAGE, (450, 450), "4.2.1", "relay limit", Class::Rate, "Google's relay: peaks"),
    row(MESSAGE, (454, 454), "", "throttling", Class::Rate, "Amazon SES: mail a second"),
    row(ANYWHERE, EITHER, "", "too many connections", Class::Rate, "Postfix and many others"),
    row(ANYWHERE, EITHER, "", "too many concurrent", Class::Rate, "many"),
    row(ANYWHERE, EITHER, "", "maximum number of connections", Class::Rate, "many"),
    row(ANYWHERE, EITHER, "", "connections limit", Class::Rate, "many"),
    row(ANYWHERE, EITHER, "", "connection limit", Class::Rate, "many"),
    row(ANYWHERE, EITHER, "", "too frequent", Class::Rate, "many"),
    row(MESSAGE, EITHER, "", "too much mail", Class::Rate, "Postfix: 450 4.7.1"),
    row(MESSAGE, EITHER, "", "too many messages", Class::Rate, "many"),
    row(MESSAGE, EITHER, "", "too many emails", Class::Rate, "OVH"),
    row(MESSAGE, EITHER, "", "too many recipients from", Class::Rate, "Postfix: 450 4.7.1"),
    row(MESSAGE, EITHER, "", "per minute", Class::Rate, "many"),
    row(MESSAGE, EITHER, "", "per second", Class::Rate, "Emailit: 452 4.4.5"),
    row(ANYWHERE, EITHER, "", "rate limit", Class::Rate, "many"),
    row(MESSAGE, EITHER, "", "sending rate", Class::Rate, "many"),
    row(ANYWHERE, LATER, "", "throttled", Class::Rate, "many"),
    row(ANYWHERE, LATER, "", "slow down", Class::Rate, "many"),
    // The smarthost, or where we come to it from, as behind another provider's line.
    row(MESSAGE, EITHER, "", "relay access denied", Class::Route, "Postfix: 554 or 454 5.7.1"),
    row(MESSAGE, EITHER, "", "relaying denied", Class::Route, "Sendmail: 550 5.7.1"),
    row(MESSAGE, EITHER, "", "relay denied", Class::Route, "providers' relays"),
    row(MESSAGE, EITHER, "", "relay not permitted", Class::Route, "Exim: 550"),
    row(MESSAGE, EITHER, "", "not permitted to relay", Class::Route, "cPanel: 550"),
    row(MESSAGE, EITHER, "", "relaying not allowed", Class::Route, "providers' relays"),
    row(MESSAGE, EITHER, "", "relaying is not allowed", Class::Route, "providers' relays"),
    row(MESSAGE, EITHER, "", "unable to relay", Class::Route, "Exchange: 550 5.7.54"),
    row(MESSAGE, EITHER, "", "credentials for relay", Class::Route, "Google's relay: an unknown address"),
    row(MESSAGE, NEVER, "5.7.708", "", Class::Route, "Microsoft 365: our address is not trusted"),
    row(MESSAGE, (454, 454), "", "", Class::Route, "RFC 4954, RFC 3207: never about a message"),
    row(ANYWHERE, (421, 421), "", "", Class::Route, "RFC 5321 3.8: it closes the connection"),
    // All else.
    row(RECIPIENT, EITHER, "", "", Class::Recipient, "all else"),
    row(MESSAGE, EITHER, "", "", Class::Message, "all else"),
];
const _: () = assert!(ROWS.len() <= Hits::ROWS_MAX, "each row has its bit");

impl Row {
    /// True when a line of a reply fits, wherever it came.
    fn fits(&self, code: u16, text: &[u8]) -> bool {
        (self.codes.0..=self.codes.1).contains(&code)
            && (self.status.is_empty() || is_status(status(text), self.status.as_bytes()))
            && (self.text.is_empty() || has(text, self.text.as_bytes()))
    }
}

/// The rows that lines of one reply fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hits(u128);

impl Hits {
    const ROWS_MAX: usize = u128::BITS as usize;

    /// No line was read yet.
    pub(super) const NONE: Self = Self(0);

    /// Adds what a line of the reply fits.
    pub(super) fn add(&mut self, code: u16, text: &[u8]) {
        if code >= 400 {
            for (place, _) in ROWS.iter().enumerate().filter(|(_, row)| row.fits(code, text)) {
                self.0 |= 1 << place;
            }
        }
    }

    /// What the reply is about, as an answer at `stage`; `None`: nothing out of the ordinary.
    pub(super) fn class(self, stage: Stage) -> Option<Class> {
        let hits = ROWS.iter().enumerate().filter(|(place, _)| self.0 & 1 << place != 0);
        hits.map(|(_, row)| row).find(|row| row.at.contains(&stage)).map(|row| row.class)
    }
}

/// The enhanced status code that a text begins with; empty without one.
fn status(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|octet| !octet.is_ascii_digit() && *octet != b'.').unwrap_or(text.len());
    let status = &text[..end];
    if status.iter().filter(|octet| **octet == b'.').count() == 2 { status } else { &[] }
}

fn is_status(status: &[u8], pattern: &[u8]) -> bool {
    status.len() == pattern.len()
        && status.iter().zip(pattern).all(|(octet, expected)| expected == octet || *expected == b'?')
}

/// True when `fragment`, in lower case, stands somewhere in `text`.
fn has(text: &[u8], fragment: &[u8]) -> bool {
    text.windows(fragment.len()).any(|part| part.eq_ignore_ascii_case(fragment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(stage: Stage, reply: &str) -> Option<Class> {
        let mut hits = Hits::NONE;
        for line in reply.lines() {
            let code = line[..3].parse().unwrap();
            hits.add(code, &line.as_bytes()[4..]);
        }
        hits.class(stage)
    }

    /// Replies as the providers give them.
    #[test]
    fn replies_of_providers() {
        use Class::{Login, Quota, Rate, Route, Sender};
        use Stage::{Auth, Data, Mail};
        for (stage, reply, expected) in [
            (Mail, "530 5.7.57 Client not authenticated to send mail. [BN1.OUTLOOK.COM]", Login),
            (Mail, "530 5.7.0 Authentication Required", Login),
            (Data, "550 5.7.57 SMTP; Client was not authenticated to send anonymous mail", Login),
            (Data, "550 5.7.30 Basic authentication is not supported for Client Submission.", Login),
            (Auth, "550 5.7.30 Basic authentication is not supported for Client Submission.", Login),
            (Data, "550 5.1.8 Access denied, bad outbound sender AS(42004)", Login),
            (Data, "550 5.7.60 SMTP; Client does not have permissions to send as this sender", Sender),
            (Data, "550 5.7.1 Client does not have permissions to send as this sender", Sender),
            (Data, "554 5.2.252 SendAsDenied; a@b.example not allowed to send as c@d.example", Sender),
            (
                Data,
                "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; x",
                Sender,
            ),
            (Data, "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", Quota),
            (
                Data,
                "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.Mapi",
                Quota,
            ),
            (Data, "550 5.2.251 Sender throttled due to continuous mailbox full errors.", Quota),
            (Data, "550 5.2.255 Sender throttled due to continuous invalid recipients errors.", Quota),
            (Data, "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", Rate),
            (Mail, "432 4.3.2 Concurrent connections limit exceeded.", Rate),
            (Mail, "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77714)", Rate),
            (Mail, "421 4.4.2 Message submission rate for this client has exceeded the limit", Rate),
            (Mail, "550-5.4.5 Daily user sending limit exceeded. For more\n550 5.4.5 https://x", Quota),
            (Data, "550 5.4.5 Daily user sending quota exceeded. o65sm25351206pga.71 - gsmtp", Quota),
            (Auth, "454 4.7.0 Too many login attempts, please try again later. k1 - gsmtp", Login),
            (Mail, "550 5.7.1 Daily SMTP relay limit exceeded for customer.", Quota),
            (Mail, "450 4.2.1 Peak SMTP relay limit exceeded for this customer.", Rate),
            (Mail, "421 4.7.0 Temporary System Problem.  Try again later.", Route),
            (Mail, "550-5.7.1 Invalid credentials for relay [192.0.2.1]. The IP address\n550 5.7.1 x", Route),
            (Data, "454 Throttling failure: Maximum sending rate exceeded.", Rate),
            (Data, "454 Throttling failure: Daily message quota exceeded.", Quota),
            (
                Data,
                "554 Message rejected: Email address is not verified. The following identities failed",
                Sender,
            ),
            (Data, "554 Message rejected: Sending paused for this account.", Login),
        ] {
            assert_eq!(class(stage, reply), Some(expected), "{reply}");
        }
    }

    #[test]
    fn replies_of_relays() {
        use Class::{Quota, Rate, Recipient, Route, Sender};
        use Stage::{Auth, Greeting};
        for (stage, reply, expected) in [
            (Stage::Recipient, "554 5.7.1 <a@b.example>: Relay access denied", Route),
            (Stage::Recipient, "454 4.7.1 <a@b.example>: Relay access denied", Route),
            (Stage::Recipient, "550 5.7.1 a@b.example... Relaying denied", Route),
            (Stage::Recipient, "550 relay not permitted", Route),
            (
                Stage::Recipient,
                "550-Please turn on SMTP Authentication in your mail client, or login to the\n\
                 550-[192.0.2.1]:42630 is not permitted to relay through this server without\n\
                 550 authentication.",
                Route,
            ),
            (
                Stage::Recipient,
                "553 5.7.1 <a@b.example>: Sender address rejected: not owned by user c",
                Sender,
            ),
            (Stage::Recipient, "450 4.7.1 Error: too much mail from 192.0.2.1", Rate),
            (Greeting, "421 4.7.0 mx.example Error: too many connections from 192.0.2.1", Rate),
            (Greeting, "554 Too many connections, try later", Rate),
            (Auth, "451 Authentication failed: Maximum credits exceeded", Quota),
            (
                Stage::Recipient,
                "450 4.2.1 The user you are trying to contact is receiving mail too quickly.",
                Recipient,
            ),
            (
                Stage::Recipient,
                "451 4.5.1 The recipient <a@b.example> has exceeded their message rate limit.",
                Recipient,
            ),
        ] {
            assert_eq!(class(stage, reply), Some(expected), "{reply}");
        }
    }

    /// What is about a message or a recipient stays theirs.
    #[test]
    fn ordinary_refusals() {
        for reply in [
            "550 5.1.1 <a@b.example>: Recipient address rejected: User unknown",
            "550 5.7.1 This message violates example.com email policy. - gcdp x - gsmtp",
            "552 5.2.2 Mailbox full",
            "452 4.2.2 The email account that you tried to reach is over quota.",
            "452 4.5.3 Error: too many recipients",
            "552 5.3.4 Message too big",
            "450 4.2.0 <a@b.example>: Recipient address rejected: Greylisted",
            "451 4.3.0 Temporary lookup failure",
            "554 5.7.1 Spam message rejected",
            "553 5.1.8 <a@b.example>: Sender address rejected: Domain not found",
            "501 Invalid MAIL FROM address provided",
            "550",
        ] {
            let reply = format!("{reply} ");
            assert_eq!(class(Stage::Mail, &reply), Some(Class::Message), "{reply}");
            assert_eq!(class(Stage::Recipient, &reply), Some(Class::Recipient), "{reply}");
            assert_eq!(class(Stage::Data, &reply), Some(Class::Message), "{reply}");
        }
        assert_eq!(class(Stage::Auth, "535 5.7.8 Authentication credentials invalid"), None);
        assert_eq!(class(Stage::Greeting, "554 5.7.1 Relay access denied"), None);
        assert_eq!(class(Stage::Mail, "250 too many connections"), None);
    }

    /// README has the same table.
    #[test]
    fn readme_has_every_row() {
        let readme = include_str!("../../README.md");
        let place = |at: &[Stage]| match at {
            [Stage::Auth] => "AUTH",
            [Stage::Recipient] => "RCPT",
            at if at.len() == 3 => "MAIL, RCPT, data",
            _ => "anywhere",
        };
        let mut table = String::new();
        for row in ROWS {
            let codes = match row.codes {
                LATER => "4yz".to_owned(),
                NEVER => "5yz".to_owned(),
                EITHER => "4yz, 5yz".to_owned(),
                (code, _) => code.to_string(),
            };
            table += &format!(
                "| {} | {codes} | {} | {} | {} | {} |\n",
                place(row.at),
                row.status,
                row.text,
                row.class,
                row.source
            );
        }
        assert!(readme.contains(&table), "the table is to be:\n{table}");
    }
}
