//! What to do about a step of `postern check` that failed, in plain words: a table, and nothing else.

use std::io::ErrorKind;

use super::check::Stage;
use crate::config::TlsPolicy;
use crate::sender::{Fault, LoginFault, TlsFault, Unresolved};

/// What is known of a failure.
#[derive(Debug)]
pub(super) struct Failed<'a> {
    pub(super) stage: Stage,
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) tls: Option<TlsPolicy>,
    pub(super) fault: Option<Fault>,
    /// What the last address said to a connection.
    pub(super) socket: Option<ErrorKind>,
    /// The smarthost's last line.
    pub(super) reply: &'a str,
    /// Of the key that it has shown.
    pub(super) pin: Option<&'a str>,
    /// Its address is one of our own network's.
    pub(super) is_private: bool,
}

impl Failed<'_> {
    pub(super) const fn at(stage: Stage) -> Self {
        Self {
            stage,
            host: "",
            port: 0,
            tls: None,
            fault: None,
            socket: None,
            reply: "",
            pin: None,
            is_private: false,
        }
    }

    fn says(&self, words: &[&str]) -> bool {
        let reply = self.reply.to_ascii_lowercase();
        words.iter().any(|word| reply.contains(word))
    }

    fn is_of(&self, domains: &[&str]) -> bool {
        let host = self.host.to_ascii_lowercase();
        domains.iter().any(|domain| host == *domain || host.ends_with(&format!(".{domain}")))
    }
}

const GOOGLE: [&str; 2] = ["gmail.com", "google.com"];
const MICROSOFT: [&str; 2] = ["office365.com", "outlook.com"];
const AMAZON: [&str; 1] = ["amazonaws.com"];

/// What to do, a line each.
pub(super) fn of(failed: &Failed<'_>) -> Vec<String> {
    match failed.stage {
        Stage::Spool => vec!["make it, on a disk that keeps its files: mkdir -p".to_owned()],
        Stage::Secret => {
            vec!["write the password, alone on its line, into that file, and chmod 600 it".to_owned()]
        }
        Stage::Clock => vec![
            "set the clock (ntpd), and the mail that waits leaves".to_owned(),
            "a site without NTP can set clock.untrusted = \"ignore-dates\"".to_owned(),
        ],
        Stage::Resolve => resolve(failed),
        Stage::Connect => connect(failed),
        Stage::Greeting => greeting(failed),
        Stage::Tls => tls(failed),
        Stage::Login => login(failed),
        Stage::Sender | Stage::Recipient | Stage::Data => refused(failed),
    }
}

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

fn resolve(failed: &Failed<'_>) -> Vec<String> {
    match failed.fault {
        Some(Fault::Resolve(Unresolved::NoSuchName | Unresolved::NoAddress | Unresolved::NoName)) => {
            lines(&["look at the spelling of smarthost.host"])
        }
        _ => lines(&[
            "no name server answers: see /etc/resolv.conf, and whether the network is up",
            "an address can stand in smarthost.host too; its certificate must then name it, or use pins",
        ]),
    }
}

fn connect(failed: &Failed<'_>) -> Vec<String> {
    match failed.socket {
        Some(ErrorKind::ConnectionRefused) => lines(&[
            "nothing listens on that port there: it is 587 for tls = \"starttls\", 465 for \"implicit\"",
        ]),
        Some(ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable) => lines(&[
            "there is no route to it: is the network up, and does this machine have a default route?",
        ]),
        _ if failed.port == 25 => lines(&[
            "many providers let nobody connect to port 25: use port 587 with tls = \"starttls\" and a login",
        ]),
        _ => lines(&["it doesn't answer: a firewall may drop the packets, or smarthost.port is wrong"]),
    }
}

fn greeting(failed: &Failed<'_>) -> Vec<String> {
    match (failed.fault, failed.tls) {
        (
            Some(Fault::Timeout | Fault::Protocol | Fault::Lost),
            Some(TlsPolicy::Starttls | TlsPolicy::None),
        ) if failed.reply.is_empty() => {
            lines(&["it may wait for TLS from the first octet: set tls = \"implicit\" (port 465)"])
        }
        (Some(Fault::Protocol), _) => lines(&["is it a mail server at all? See smarthost.host and .port"]),
        _ if failed.says(&["block", "reject", "denied", "spamhaus", "policy", "reputation"]) => lines(&[
            "it does not take mail from this address: use the provider's submission port, 587, with a login",
        ]),
        _ => lines(&["it does not want this connection now: wait, or ask who runs it"]),
    }
}

fn tls(failed: &Failed<'_>) -> Vec<String> {
    let pin = failed
        .pin
        .map(|pin| format!("or trust this key alone, if you know it is theirs: pins = [\"{pin}\"]"));
    let mut advice = match failed.fault {
        Some(Fault::Tls(TlsFault::NotOffered)) => lines(&[
            "it has no STARTTLS on this port: use 587, or 465 with tls = \"implicit\"",
            "somebody between may take the offer away; tls = \"none\" would send all in plain",
        ]),
        Some(Fault::Tls(TlsFault::UnknownAuthority)) => {
            let own = "the certificate is self-signed, or from a CA of its own: name that in ca_file";
            let public = "the CA certificates of this machine may be old or missing: install ca-certificates";
            lines(&[own, public][..if failed.is_private { 1 } else { 2 }])
        }
        Some(Fault::Tls(TlsFault::WrongName)) => {
            lines(&["set smarthost.host to the name that the certificate has"])
        }
        Some(Fault::Tls(TlsFault::Expired)) => {
            lines(&["if this machine's date is right, who runs the server must renew its certificate"])
        }
        Some(Fault::Tls(TlsFault::NotYetValid)) => lines(&["is this machine's date right?"]),
        Some(Fault::Tls(TlsFault::Pin)) => lines(&["the server has a new key, or it is another server"]),
        Some(Fault::Tls(TlsFault::Version)) => lines(&["it is too old: TLS 1.2 is the least that is safe"]),
        Some(Fault::Tls(TlsFault::Handshake)) if failed.tls == Some(TlsPolicy::Implicit) => {
            lines(&["it may want STARTTLS: set tls = \"starttls\" (port 587)"])
        }
        _ => lines(&["see smarthost.tls, .port and .ca_file"]),
    };
    let is_about_trust = matches!(
        failed.fault,
        Some(Fault::Tls(
            TlsFault::UnknownAuthority | TlsFault::WrongName | TlsFault::Expired | TlsFault::Pin
        ))
    );
    advice.extend(pin.filter(|_| is_about_trust));
    advice
}

fn login(failed: &Failed<'_>) -> Vec<String> {
    if failed.fault == Some(Fault::Login(LoginFault::NoMechanism)) {
        return lines(&[
            "it offers no AUTH for the secret there is: is this its port for submission, 587 or 465?",
            "a server that takes mail by address wants no login: leave user and password_file out",
        ]);
    }
    if failed.fault == Some(Fault::Login(LoginFault::Unavailable)) || failed.says(&["too many login"]) {
        return lines(&["it can't judge the login now, or has seen too many: wait some minutes"]);
    }
    if let Some(Fault::Login(LoginFault::Token(_))) = failed.fault {
        return lines(&[
            "see [smarthost.oauth2]; \"postern login\" gets a new refresh token where there is one",
        ]);
    }
    if failed.is_of(&GOOGLE) || failed.says(&["gsmtp"]) {
        return lines(&[
            "Google takes an app password, not the account's own: turn on 2-step verification, then make one",
            "at myaccount.google.com/apppasswords, and write its 16 letters into the password file",
        ]);
    }
    if failed.says(&["5.7.30", "basic authentication is not supported"]) {
        return lines(&[
            "Microsoft takes no passwords for this any more: use [smarthost.oauth2], see README",
        ]);
    }
    if failed.is_of(&MICROSOFT) || failed.says(&["5.7.139", "smtpclientauthentication is disabled"]) {
        return lines(&[
            "SMTP AUTH may be off for this mailbox: its administrator turns on \"Authenticated SMTP\"",
            "where passwords are refused altogether, use [smarthost.oauth2]; see README",
        ]);
    }
    if failed.is_of(&AMAZON) {
        return lines(&[
            "SES has users and passwords of its own for SMTP, made in its console: not IAM keys",
        ]);
    }
    lines(&["see smarthost.user and the password's file; some providers want an app password"])
}

fn refused(failed: &Failed<'_>) -> Vec<String> {
    if matches!(failed.fault, Some(Fault::Lost | Fault::Timeout)) {
        return lines(&["it went away in the middle: try again"]);
    }
    if failed.says(&["quota", "limit", "too many", "rate", "5.4.5", "5.2.2"]) {
        return lines(&[
            "the account has sent too much for now: the relay waits and goes on later by itself",
        ]);
    }
    if failed.says(&[
        "not verified",
        "5.7.60",
        "send as",
        "sendas",
        "not allowed to send",
        "sender address rejected",
    ]) {
        return lines(&[
            "it takes mail only from addresses that are yours: set sender.envelope and sender.header_from",
            "to the address of the login, or to one that is verified there",
        ]);
    }
    if failed.says(&["authentication required", "530 ", "5.7.57"]) {
        return lines(&["it wants a login: set smarthost.user and .password_file"]);
    }
    if failed.says(&["relay", "5.7.1"]) {
        return lines(&[
            "it does not relay for this machine: it wants a login, or this address allowed there",
        ]);
    }
    if failed.stage == Stage::Recipient {
        lines(&["it does not take this recipient: see \"admin\", or the address behind --send"])
    } else if failed.stage == Stage::Sender {
        lines(&["it does not take this sender: set sender.envelope to an address that is yours"])
    } else {
        lines(&["its own words say why; it may want another From: see sender.header_from"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The causes that people meet most, and the word that each advice must have.
    #[test]
    fn each_cause_is_named() {
        let at = Failed::at;
        let tls = |fault| Failed { fault: Some(Fault::Tls(fault)), pin: Some("abc="), ..at(Stage::Tls) };
        let said = |stage, host, reply| Failed { host, reply, ..at(stage) };
        let table = [
            (Failed { socket: Some(ErrorKind::ConnectionRefused), ..at(Stage::Connect) }, "587"),
            (Failed { socket: Some(ErrorKind::NetworkUnreachable), ..at(Stage::Connect) }, "default route"),
            (Failed { socket: Some(ErrorKind::TimedOut), port: 25, ..at(Stage::Connect) }, "port 25"),
            (
                Failed { fault: Some(Fault::Resolve(Unresolved::NoSuchName)), ..at(Stage::Resolve) },
                "spelling",
            ),
            (Failed { fault: Some(Fault::Resolve(Unresolved::Silent)), ..at(Stage::Resolve) }, "resolv.conf"),
            (tls(TlsFault::UnknownAuthority), "pins = [\"abc=\"]"),
            (tls(TlsFault::WrongName), "smarthost.host"),
            (tls(TlsFault::Expired), "renew"),
            (tls(TlsFault::NotOffered), "STARTTLS"),
            (at(Stage::Clock), "ntpd"),
            (Failed { fault: Some(Fault::Login(LoginFault::NoMechanism)), ..at(Stage::Login) }, "no AUTH"),
            (
                said(Stage::Login, "smtp.gmail.com", "535-5.7.8 Username and Password not accepted"),
                "app password",
            ),
            (
                said(Stage::Login, "smtp.office365.com", "535 5.7.139 Authentication unsuccessful"),
                "Authenticated SMTP",
            ),
            (
                said(Stage::Login, "smtp.office365.com", "535 5.7.30 Basic authentication is not supported"),
                "oauth2",
            ),
            (
                said(
                    Stage::Login,
                    "email-smtp.eu-west-1.amazonaws.com",
                    "535 Authentication Credentials Invalid",
                ),
                "SES",
            ),
            (
                said(Stage::Data, "", "554 Message rejected: Email address is not verified."),
                "sender.envelope",
            ),
            (
                said(Stage::Sender, "", "550 5.7.60 SMTP; Client does not have permissions to send as"),
                "sender.envelope",
            ),
            (said(Stage::Recipient, "", "554 5.7.1 <x@y>: Relay access denied"), "login"),
            (said(Stage::Recipient, "", "550 5.1.1 no such user"), "recipient"),
            (said(Stage::Data, "", "550 5.4.5 Daily user sending limit exceeded"), "too much"),
            (said(Stage::Sender, "", "530 5.7.0 Authentication required"), "smarthost.user"),
        ];
        for (failed, word) in table {
            let advice = of(&failed).join("\n");
            assert!(advice.contains(word), "{failed:?}: {advice}");
        }
    }
}
