//! Many recipients, much mail data, and many messages with replies left to chance.
use std::collections::BTreeMap;

use postern::limits::RECIPIENTS;
use postern::spool::RecipientState;

use crate::disk::Random;
use crate::rig::{Rig, envelope};
use crate::smarthost::{Command, Smarthost};

const BODY: &[u8] = b"Subject: door\r\n\r\nopen\r\n";

fn accept(command: Command<'_>) -> String {
    match command {
        Command::Mail | Command::Recipient { .. } | Command::EndOfMailData => "250 ok".to_string(),
        Command::Data => "354 go on".to_string(),
    }
}

fn recipients(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("r{n}@{}.example", "x".repeat(n % 60))).collect()
}

/// Relays one message to `count` recipients, and returns how many transactions that took.
fn relay(
    rig: &mut Rig,
    count: usize,
    smarthost: &mut Smarthost<impl FnMut(Command<'_>) -> String>,
) -> String {
    let recipients = recipients(count);
    let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
    let message = rig.message(&envelope(), &recipients, BODY);
    smarthost.greet(rig);
    rig.begin(message);
    assert!(smarthost.serve(rig));
    let mut arrived: Vec<_> =
        smarthost.arrived.iter().flat_map(|arrived| arrived.recipients.clone()).collect();
    for arrived in &smarthost.arrived {
        assert_eq!(arrived.mail_data, BODY);
    }
    arrived.sort_unstable();
    let mut expected: Vec<_> = recipients.iter().map(ToString::to_string).collect();
    expected.sort_unstable();
    assert_eq!(arrived, expected, "each recipient once");
    rig.result()
}

/// PIPE-i, C-4.5.3.1.8-a, C-4.5.4.1-a, C-2.3.8-a, C-2.2.2-a, C-4.5.3.1.4-a (the smarthost takes lines of 510
/// octets at most, and only the verbs that it knows): as many recipients as there may be, in groups of a
/// hundred, to a smarthost that reads little at once and answers octet by octet.
#[test]
fn as_many_recipients_as_there_may_be() {
    for (window, piece) in [(600, 1), (5000, 1000), (usize::MAX, usize::MAX)] {
        for is_pipelining in [true, false] {
            let mut rig = Rig::new(piece);
            rig.window = window;
            let mut smarthost = Smarthost::new(is_pipelining, accept);
            let result = relay(&mut rig, RECIPIENTS, &mut smarthost);
            assert_eq!(result, format!("tried {}", "D".repeat(RECIPIENTS)));
            assert_eq!(smarthost.transactions, RECIPIENTS.div_ceil(100));
        }
    }
}

/// C-4.5.3.1.8-a: a smarthost with a bound of its own, down to one recipient a message; once it is known, no
/// more are asked than it takes.
#[test]
fn a_bound_on_recipients_is_learned() {
    for bound in [1, 2, 30, 100, 150] {
        let mut asked = 0;
        let mut smarthost = Smarthost::new(true, |command| match command {
            Command::Recipient { accepted, .. } => {
                asked += 1;
                if accepted >= bound { "452 4.5.3 too many" } else { "250 ok" }.to_string()
            }
            Command::Mail | Command::Data | Command::EndOfMailData => accept(command),
        });
        let mut rig = Rig::new(usize::MAX);
        assert_eq!(relay(&mut rig, RECIPIENTS, &mut smarthost), format!("tried {}", "D".repeat(RECIPIENTS)));
        assert_eq!(smarthost.transactions, RECIPIENTS.div_ceil(bound.min(100)));
        assert!(asked < RECIPIENTS + 100, "{asked}");
    }
}

/// C-4.5.2-a, C-4.1.1.4-b: five mebioctets, each line with a dot in front, arrive as they were stored.
#[test]
fn much_mail_data_with_dots() {
    let mut mail_data = b"Subject: dots\r\n\r\n".to_vec();
    let mut random = Random(7);
    while mail_data.len() < 5 << 20 {
        let dots = 1 + random.below(4);
        mail_data.resize(mail_data.len() + dots, b'.');
        let octets = random.below(90);
        mail_data.extend((0..octets).map(|n| b'a' + (n % 26) as u8));
        mail_data.extend_from_slice(b"\r\n");
    }
    for piece in [1000, usize::MAX] {
        let mut rig = Rig::with_blocks(piece, 1500);
        let message = rig.message(&envelope(), &["a@x.example"], &mail_data);
        rig.hello("250-a\r\n250 PIPELINING\r\n");
        rig.begin(message);
        rig.written.clear();
        rig.say(b"250 a\r\n250 a\r\n354 a\r\n");
        rig.trace("behind 354");
        assert!(rig.written.ends_with(b"\r\n.\r\n"));
        let mut lines: Vec<_> = rig.written.split_inclusive(|octet| *octet == b'\n').collect();
        assert_eq!(lines.pop(), Some(&b".\r\n"[..]));
        let unstuffed: Vec<_> =
            lines.iter().flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied().collect();
        assert!(unstuffed == mail_data, "the mail data has changed");
        rig.say(b"250 taken\r\n");
        assert_eq!(rig.result(), "tried D");
    }
}

/// C-4.3-a, C-3.8-a, C-6.1-b, C-4.1.4-c: whatever is answered, and wherever the connection breaks but behind
/// the end of mail data, each recipient gets the message once or has failed, and nobody is forgotten.
#[test]
fn each_recipient_gets_it_once_whatever_is_answered() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let count = 1 + random.below(RECIPIENTS.min(230));
        let mut rig = Rig::new([1, 50, usize::MAX][random.below(3)]);
        let recipients = recipients(count);
        let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
        let message = rig.message(&envelope(), &recipients, BODY);
        let mut failed = BTreeMap::new();
        let is_pipelining = random.below(2) == 0;
        let mut smarthost = Smarthost::new(is_pipelining, |command| {
            let chance = random.below(400);
            let reply = match (command, chance) {
                (Command::Mail | Command::Recipient { .. } | Command::Data, 0) => "",
                (Command::Mail | Command::Data | Command::EndOfMailData, 1..100) => "450 later",
                (Command::Recipient { accepted: 1.., .. }, 1..4) => "452 too many",
                (Command::Recipient { .. }, 4..40) => "450 busy",
                (Command::Recipient { path, .. }, 40..60) => {
                    assert_eq!(failed.insert(path.to_string(), ()), None, "tried again after its failure");
                    "550 unknown"
                }
                (Command::Data, _) => "354 go on",
                (Command::Mail | Command::Recipient { .. } | Command::EndOfMailData, _) => "250 ok",
            };
            reply.to_string()
        });
        smarthost.greet(&mut rig);
        let mut attempts = 0;
        loop {
            attempts += 1;
            assert!(attempts < 1000, "seed {seed}: the message never ends");
            rig.begin(message);
            let is_up = smarthost.serve(&mut rig);
            let attempt = rig.session.attempt().expect("the attempt has ended");
            let is_waiting = attempt.states.contains(&RecipientState::Waiting);
            rig.result();
            if !is_waiting {
                break;
            }
            if !is_up {
                rig.connect();
                smarthost.greet(&mut rig);
            }
        }
        let mut outcome: BTreeMap<_, _> = BTreeMap::new();
        for path in smarthost.arrived.iter().flat_map(|arrived| &arrived.recipients) {
            assert_eq!(outcome.insert(path.clone(), ()), None, "seed {seed}: {path} got it twice");
        }
        drop(smarthost);
        for path in failed.into_keys() {
            assert_eq!(outcome.insert(path.clone(), ()), None, "seed {seed}: {path} failed and got it");
        }
        assert_eq!(outcome.len(), count, "seed {seed}");
    }
}
