//! Connections that end before their time, and replies that are none: the route's fault, never the message's.
use postern::sender::Fault;

use crate::rig::{Rig, envelope};

const BODY: &[u8] = b"Subject: door\r\n\r\nopen\r\n";

/// The steps of a whole message, the replies among them at places where anything may happen instead.
const STEPS: &[&str] = &[
    "S: 220 a",
    "C: EHLO relay.site.example",
    "S: 250-a
    S: 250 PIPELINING",
    "begin 0
    C: MAIL FROM:<camera@site.example>
    C: RCPT TO:<a@x.example>
    C: RCPT TO:<b@x.example>
    C: DATA",
    "S: 250 ok",
    "S: 250 ok",
    "S: 550 no",
    "S: 354 go on",
    "trace
    C: Subject: door
    C: 
    C: open
    C: .",
    "S: 250 taken",
];

/// A rig that has gone through the first `steps` steps; a message to two recipients is spooled.
fn after(steps: usize, piece: usize) -> Rig {
    let mut rig = Rig::new(piece);
    rig.message(&envelope(), &["a@x.example", "b@x.example"], BODY);
    rig.play(&STEPS[..steps].join("\n"));
    rig
}

/// The steps behind which the smarthost may do as it likes instead of the reply that comes next.
fn places() -> impl Iterator<Item = usize> {
    (0..STEPS.len()).filter(|step| STEPS[*step].starts_with("S:"))
}

/// What is left of the message: with `fault` where it was begun, unchanged but for what was refused before.
fn expect_fault(rig: &mut Rig, steps: usize, fault: Fault) {
    assert_eq!(rig.session.fault(), Some(fault), "after {steps} steps");
    let result = rig.result();
    match steps {
        0..=3 => assert_eq!(result, "none"),
        4..=6 => assert_eq!(result, format!("{fault:?} ww")),
        _ => assert_eq!(result, format!("{fault:?} wF0 550 no")),
    }
    assert!(!rig.session.is_ready());
    // The next connection starts afresh, and relays what is left.
    if rig.session.is_connected() {
        rig.session.lost();
    }
    rig.connect();
    assert_eq!(rig.session.fault(), None);
    let again = STEPS.join("\n").replace("C: RCPT TO:<b@x.example>\n", "").replace("S: 550 no\n", "");
    let begun = if steps <= 6 { STEPS.join("\n") } else { again };
    rig.play(&begun);
    assert_eq!(rig.result(), "tried DF0 550 no");
}

/// C-4.2-c: after 421, to any command, the session stops, and the mail stays queued.
#[test]
fn closing_421_at_each_step() {
    for piece in [1, usize::MAX] {
        for steps in places() {
            let mut rig = after(steps, piece);
            rig.play("S: 421 4.3.2 closing\nC: QUIT\nclose");
            let reply = rig.session.fault_reply().unwrap();
            assert_eq!((reply.code, reply.text.as_slice()), (421, &b"4.3.2 closing"[..]));
            expect_fault(&mut rig, steps, Fault::TooBusy);
        }
    }
}

/// C-3.8-a: a connection lost at any point is a reason to try again, and no more.
#[test]
fn lost_at_each_step() {
    for steps in places() {
        let mut rig = after(steps, usize::MAX);
        rig.play("lost");
        expect_fault(&mut rig, steps, Fault::Lost);
    }
}

/// C-4.2-d: 1yz, 6yz and up, and lines without a code end the session; so does a reply that answers nothing, and 2yz to
/// DATA (C-4.1.1.4-a).
#[test]
fn no_reply_at_all_at_each_step() {
    for steps in places() {
        for line in ["150 wait", "650 what", "hello", "", "250-a\\r\\n251 b"] {
            let mut rig = after(steps, 3);
            rig.play(&format!("S~ {line}\\r\\n\nC: QUIT\nclose"));
            expect_fault(&mut rig, steps, Fault::Protocol);
        }
    }
}

/// C-4.5.3.2-a, C-4.5.3.2-b: each wait has its own end, none shorter than RFC 5321 4.5.3.2 has it.
#[test]
fn silence_at_each_step() {
    for steps in places() {
        let minutes = match STEPS[steps] {
            "S: 354 go on" => 2,
            "S: 250 taken" => 10,
            _ => 5,
        };
        let mut rig = after(steps, usize::MAX);
        rig.play(&format!("wait {}", minutes * 60 - 1));
        assert!(!rig.is_closing, "after {steps} steps");
        rig.play("wait 1\nC: QUIT\nclose");
        expect_fault(&mut rig, steps, Fault::Timeout);
    }
}
