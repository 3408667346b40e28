//! Replies that tell a fault of the route although they answer a message, as `src/sender/faults.rs` has them.

use postern::sender::{Class, FAULT_ROWS, FaultRow, Stage};

use crate::rig::{Rig, envelope};

const ONE: &[&str] = &["a@x.example"];
const TWO: &[&str] = &["a@x.example", "b@x.example"];
const BODY: &[u8] = b"Subject: door\r\n\r\nopen\r\n";
const HELLO: &str = "S: 220 a\nC: EHLO relay.site.example\nS: 250-a\nS: 250 PIPELINING\nbegin 0\n";
const STAGES: [Stage; 3] = [Stage::Mail, Stage::Recipient, Stage::Data];

fn play(recipients: &[&str], script: &str) {
    for piece in [1, 7, usize::MAX] {
        let mut rig = Rig::new(piece);
        rig.message(&envelope(), recipients, BODY);
        rig.play(script);
    }
}

/// A reply that fits the row, and not one above it.
fn reply(row: &FaultRow) -> String {
    let code = if row.codes == (400, 599) { 550 } else { row.codes.1.min(551) };
    let code = if row.codes.1 == 499 { 450 } else { code.max(row.codes.0) };
    let status = row.status.replace('?', "4");
    format!("{code} {status} {} so", row.text.to_uppercase()).replace("  ", " ")
}

/// What a message to one recipient is up to the answer at `stage`.
fn up_to(stage: Stage) -> String {
    let replies = match stage {
        Stage::Mail => "",
        Stage::Recipient => "S: 250 ok\n",
        Stage::Greeting | Stage::Hello | Stage::StartTls | Stage::Auth | Stage::Data => {
            "S: 250 ok\nS: 250 ok\n"
        }
    };
    format!("{HELLO}C: MAIL FROM:<camera@site.example>\nC: RCPT TO:<a@x.example>\nC: DATA\n{replies}")
}

/// Each row holds the message where it says so: nothing fails, nothing is charged, and the connection ends.
/// Of a message that is suspect it is the own fault, and it alone waits.
#[test]
fn each_row_holds_the_message() {
    let mut count = 0;
    for row in FAULT_ROWS {
        let reply = reply(row);
        let fault = match row.class {
            Class::Route if reply.starts_with("421") => "TooBusy",
            Class::Route => "Unwilling",
            Class::Login => "Unauthenticated",
            Class::Sender => "Sender",
            Class::Rate => "Rate",
            Class::Quota => "Quota",
            Class::Message | Class::Recipient => continue,
        };
        for stage in STAGES.into_iter().filter(|stage| row.at.contains(stage)) {
            count += 1;
            play(
                ONE,
                &format!(
                    "{}S: {reply}\nclose\nfault {fault}\nresult held {fault} w later {reply}",
                    up_to(stage)
                ),
            );
            let begin = up_to(stage).replace("begin 0", "begin suspect 0");
            let rest = match stage {
                Stage::Mail => "S: 503 no\nS: 503 no\n",
                Stage::Recipient => "S: 503 no\n",
                Stage::Greeting | Stage::Hello | Stage::StartTls | Stage::Auth | Stage::Data => "",
            };
            let rest = if reply.starts_with("421") { "close\n".to_owned() } else { rest.to_owned() };
            play(ONE, &format!("{begin}S: {reply}\n{rest}result tried w later {reply}"));
        }
    }
    assert!(count > 150, "{count}");
}

/// C-4.3-a: the route is well when one recipient is taken; another one's refusal is its own, whatever it
/// says, and is tried again later. Without one that is taken it is a fault of the route.
#[test]
fn one_taken_recipient_tells_that_the_route_is_well() {
    let begin = format!(
        "{HELLO}C: MAIL FROM:<camera@site.example>\nC: RCPT TO:<a@x.example>\nC: RCPT TO:<b@x.example>\n\
         C: DATA\nS: 250 ok\n"
    );
    for (replies, result) in [
        (["250 ok", "554 5.7.1 Relay access denied"], "tried Dw later 554 5.7.1 Relay access denied"),
        (["554 5.7.1 Relay access denied", "250 ok"], "tried wD later 554 5.7.1 Relay access denied"),
    ] {
        let [first, second] = replies;
        play(
            TWO,
            &format!(
                "{begin}S: {first}\nS: {second}\nS: 354 go\ntrace\nC: Subject: door\nC: \nC: open\nC: .\n\
                 S: 250 done\nresult {result}"
            ),
        );
    }
    play(
        TWO,
        &format!(
            "{begin}S: 554 5.7.1 Relay access denied\nS: 550 5.1.1 nobody\nclose\nfault Unwilling\n\
             result held Unwilling wF0 550 5.1.1 nobody later 550 5.1.1 nobody"
        ),
    );
    // Without PIPELINING.
    let begin = "S: 220 a\nC: EHLO relay.site.example\nS: 250 a\nbegin 0\n\
                 C: MAIL FROM:<camera@site.example>\nS: 250 ok\nC: RCPT TO:<a@x.example>\n";
    play(
        TWO,
        &format!(
            "{begin}S: 554 5.7.1 relaying denied\nC: RCPT TO:<b@x.example>\nS: 554 5.7.1 relaying denied\n\
             C: QUIT\nclose\nfault Unwilling\nresult held Unwilling ww later 554 5.7.1 relaying denied"
        ),
    );
}

/// The fault may stand in any line of the answer.
#[test]
fn all_lines_count() {
    play(
        ONE,
        &format!(
            "{}S: 550-5.4.5 Daily user sending limit exceeded.\nS: 550-see\nS: 550 https://a.example\n\
             close\nfault Quota\nresult held Quota w later 550 https://a.example",
            up_to(Stage::Data)
        ),
    );
    // And is forgotten with it.
    play(
        ONE,
        &format!(
            "{}S: 250-5.4.5 Daily user sending limit exceeded\nS: 250 ok\nS: 550 no\nS: 503 no\n\
             result tried F0 550 no",
            up_to(Stage::Mail)
        ),
    );
}

/// A greeting that says "too many" slows us down.
#[test]
fn too_many_connections() {
    play(ONE, "S: 421 4.7.0 Error: too many connections from 192.0.2.1\nC: QUIT\nfault Rate\nresult none");
    play(ONE, "S: 554 too many connections\nC: QUIT\nfault Rate\nresult none");
}
