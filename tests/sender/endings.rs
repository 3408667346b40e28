//! Connections that end before their time, and replies that are none: the route's fault, never the message's.
use postern::sender::{Ending, Fault};
use postern::spool::BlockIndex;
use postern::time::Duration;

use crate::disk::Random;
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

/// The end of a connection that was answered behind `steps` steps: with QUIT, but not behind DATA, where it
/// would be mail data (PIPE-g).
fn end(steps: usize) -> &'static str {
    if (4..=7).contains(&steps) { "close" } else { "C: QUIT\nclose" }
}

/// The end of one that was not: with QUIT only in a group, which the greeting and EHLO are not of (C-4.3.1-a,
/// C-4.3.1-b, PIPE-g).
fn end_unanswered(steps: usize) -> &'static str {
    if steps == 9 { "C: QUIT\nclose" } else { "close" }
}

/// What is left of the message: with `fault` where it was begun, unchanged but for what was refused before.
fn expect_fault(rig: &mut Rig, steps: usize, fault: Fault) {
    assert_eq!(rig.session.fault(), Some(fault), "after {steps} steps");
    let result = rig.result();
    // A reply that tells it may be about this message.
    let is_told = matches!(fault, Fault::TooBusy | Fault::Unauthenticated);
    let held = if is_told { "held " } else { "" };
    let result = if is_told { result.split(" later ").next().unwrap_or_default() } else { &result };
    match steps {
        0..=3 => assert_eq!(result, "none"),
        4..=6 => assert_eq!(result, format!("{held}{fault:?} ww")),
        _ => assert_eq!(result, format!("{held}{fault:?} wF0 550 no")),
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
            rig.play(&format!("S: 421 4.3.2 closing\n{}", end(steps)));
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

/// C-4.2-d: 1yz, 6yz and up, and lines without a code end the session; so does a reply that answers nothing,
/// and 2yz to DATA (C-4.1.1.4-a).
#[test]
fn no_reply_at_all_at_each_step() {
    for steps in places() {
        for line in ["150 wait", "650 what", "hello", "", "250-a\\r\\n251 b"] {
            let mut rig = after(steps, 3);
            rig.play(&format!("S~ {line}\\r\\n\n{}", end_unanswered(steps)));
            expect_fault(&mut rig, steps, Fault::Protocol);
        }
    }
    let mut rig = after(7, 3);
    rig.play(&format!("S: 250 go on\n{}", end(7)));
    expect_fault(&mut rig, 7, Fault::Protocol);
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
        rig.play(&format!("wait 1\n{}", end_unanswered(steps)));
        expect_fault(&mut rig, steps, Fault::Timeout);
    }
}

/// C-4.3.1-a, C-4.3.1-b, PIPE-g: a session that is told to stop says QUIT only where no reply is awaited, or
/// in a group: not in front of the greeting, nor behind EHLO, nor, without PIPELINING, within a transaction.
#[test]
fn a_stop_at_each_step() {
    for steps in places() {
        let mut rig = after(steps, usize::MAX);
        rig.play(&format!("quit\n{}", end_unanswered(steps)));
        assert_eq!(rig.result().split(' ').next(), Some(if steps < 4 { "none" } else { "Lost" }));
    }
    let start = "S: 220 a\nC: EHLO relay.site.example\nS: 250 a";
    let transaction = [
        "begin 0\nC: MAIL FROM:<camera@site.example>",
        "S: 250 ok\nC: RCPT TO:<a@x.example>",
        "S: 250 ok\nC: DATA",
        "S: 354 go on\ntrace\nC: Subject: door\nC: \nC: open\nC: .",
    ];
    for steps in 1..=transaction.len() {
        for end in ["quit", "wait 600"] {
            let mut rig = Rig::new(usize::MAX);
            rig.message(&envelope(), &["a@x.example"], BODY);
            rig.play(&format!("{start}\n{}\n{end}\nclose", transaction[..steps].join("\n")));
        }
    }
    Rig::new(usize::MAX).play(&format!("{start}\nquit\nC: QUIT\nS: 221 bye\nclose"));
}

/// C-4.1.1.10-a: a smarthost that refuses us gets QUIT, and some time to answer it.
#[test]
fn a_refusal_to_serve_is_a_fault() {
    for (script, fault) in [
        ("S: 554 no service", Fault::Greeting),
        ("S: 450 later", Fault::Greeting),
        ("S: 354 what", Fault::Greeting),
        ("S: 220 a\nC: EHLO relay.site.example\nS: 450 later", Fault::Hello),
        (
            "S: 220 a\nC: EHLO relay.site.example\nS: 502 a\nC: HELO relay.site.example\nS: 550 no",
            Fault::Hello,
        ),
    ] {
        for end in ["S: 221 bye", "S: rubbish", "wait 5", "lost"] {
            let mut rig = Rig::new(usize::MAX);
            rig.play(&format!("{script}\nC: QUIT\n{end}\nclose"));
            assert_eq!(rig.session.fault(), Some(fault), "{end}");
            assert!(!rig.session.is_connected() && rig.session.deadline().is_none());
        }
    }
}

/// AUTH-c-h: a smarthost that wants a login says nothing about the message.
#[test]
fn a_login_wanted_is_no_failure_of_the_message() {
    for steps in [4, 5, 7] {
        let mut rig = after(steps, usize::MAX);
        rig.play(&format!("S: 530 5.7.0 authentication required\n{}", end(steps)));
        expect_fault(&mut rig, steps, Fault::Unauthenticated);
    }
}

/// C-4.5.4.1-e: a connection that ends between messages is no fault, unless it never served one.
#[test]
fn an_end_between_messages() {
    for (end, is_fault) in
        [("lost", false), ("S: 421 idle\nC: QUIT\nclose", false), ("S: 250 ok\nC: QUIT\nclose", true)]
    {
        let mut rig = after(STEPS.len(), usize::MAX);
        assert_eq!(rig.result(), "tried DF0 550 no");
        rig.play(end);
        assert_eq!(rig.session.fault().is_some(), is_fault, "{end}");
        assert!(!rig.session.is_connected());
    }
    for (end, fault) in [("lost", Fault::Lost), ("S: 421 idle\nC: QUIT\nclose", Fault::TooBusy)] {
        let mut rig = after(3, usize::MAX);
        rig.play(end);
        assert_eq!(rig.session.fault(), Some(fault));
    }
}

/// C-6.1-b: a result waits for the spool as long as it takes, past the end of the connection.
#[test]
fn a_result_outlives_the_connection() {
    let mut rig = after(STEPS.len(), usize::MAX);
    assert!(!rig.session.is_ready(), "not before the result is recorded");
    rig.play("wait 10\nC: QUIT\nS: 221 bye\nclose");
    rig.connect();
    rig.play("S: 220 a\nC: EHLO relay.site.example\nS: 250 a");
    assert!(!rig.session.is_ready());
    assert_eq!(rig.result(), "tried DF0 550 no");
    assert!(rig.session.is_ready());
}

/// Mail data of 200 lines of 200 octets, and the spool's block that holds a line from its second half.
fn long() -> (Vec<u8>, Vec<u8>) {
    let lines: Vec<_> = (0..200).map(|n| format!("{n:0198}\r\n")).collect();
    (lines.concat().into_bytes(), lines[150].clone().into_bytes())
}

/// A rig that has begun to send the long message, of which the smarthost has read the first `window` octets.
fn in_mail_data(window: usize) -> Rig {
    let mut rig = Rig::new(usize::MAX);
    let message = rig.message(&envelope(), &["a@x.example", "b@x.example"], &long().0);
    rig.hello("250-a\r\n250 PIPELINING\r\n");
    rig.begin(message);
    rig.written.clear();
    rig.window = window;
    rig.say(b"250 a\r\n250 a\r\n550 no\r\n354 a\r\n");
    rig
}

/// C-4.5.3.2-c: a transfer that moves is not cut, one that stands still for three minutes is.
#[test]
fn a_slow_transfer_is_not_cut() {
    let mut rig = in_mail_data(0);
    let mut waited = 0;
    while rig.session.attempt().is_none() && !rig.written.ends_with(b"\r\n.\r\n") {
        rig.window = rig.written.len() + 1000;
        rig.turn();
        rig.wait(Duration::from_s(20));
        waited += 20;
        assert!(!rig.is_closing, "after {waited} s");
    }
    assert!(waited > 600);
    rig.say(b"250 taken\r\n");
    assert_eq!(rig.result(), "tried DF0 550 no");
}

/// C-4.5.3.2-b, C-4.1.1.10-a: nothing behind the point where it stood still, no QUIT and above all no end of
/// mail data.
#[test]
fn a_transfer_that_stands_still_is_given_up() {
    let mut rig = in_mail_data(3000);
    let written = rig.written.len();
    rig.wait(Duration::from_s(179));
    assert!(!rig.is_closing);
    rig.wait(Duration::from_s(2));
    assert!(rig.is_closing);
    assert_eq!(rig.written.len(), written);
    assert!(rig.session.attempt().unwrap().has_sent_mail_data);
    assert_eq!(rig.result(), "Timeout wF0 550 no");
}

/// C-4.5.3.2-b: an end of mail data that the smarthost has not taken off in time is not sent any more.
#[test]
fn an_end_of_mail_data_that_was_not_sent_stays_unsent() {
    let mut rig = after(7, usize::MAX);
    rig.window = 50;
    rig.say(b"354 go on\r\n");
    assert_eq!(rig.written.len(), 50);
    rig.wait(Duration::from_min(10));
    assert!(rig.is_closing);
    rig.window = usize::MAX;
    rig.turn();
    assert_eq!(rig.written.len(), 50);
    assert_eq!(rig.result(), "Timeout wF0 550 no");
}

/// C-4.1.1.10-a: without PIPELINING there is no DATA in the way of QUIT.
#[test]
fn quit_in_a_transaction() {
    let mut rig = Rig::new(usize::MAX);
    rig.message(&envelope(), &["a@x.example"], BODY);
    rig.play(
        "S: 220 a
        C: EHLO relay.site.example
        S: 250 a
        begin 0
        C: MAIL FROM:<camera@site.example>
        S: 250 ok
        C: RCPT TO:<a@x.example>
        S: 421 closing
        C: QUIT
        close
        result held TooBusy w later 421 closing",
    );
}

/// A refusal in the middle of the mail data is the verdict: the message is not sent again and again.
#[test]
fn an_early_refusal_counts() {
    for (reply, result) in [
        ("552 5.3.4 too large", "tried F1F0 550 no 552 5.3.4 too large"),
        ("451 4.3.0 broken", "tried wF0 550 no later 451 4.3.0 broken"),
        ("250 fine", "Protocol wF0 550 no"),
        ("421 4.3.2 closing", "held TooBusy wF0 550 no later 421 4.3.2 closing"),
    ] {
        let mut rig = in_mail_data(3000);
        let written = rig.written.len();
        rig.say(format!("{reply}\r\n").as_bytes());
        rig.window = usize::MAX;
        rig.turn();
        assert!(rig.is_closing, "{reply}");
        assert_eq!(rig.written.len(), written, "{reply}");
        assert_eq!(rig.session.fault().is_some(), !result.starts_with("tried"));
        assert_eq!(rig.result(), result);
    }
}

/// A message that can't be read to its end is not ended either: the smarthost throws away what it got.
#[test]
fn damage_in_the_middle() {
    let mut rig = in_mail_data(3000);
    let (_, line) = long();
    let holds_line = |at: &BlockIndex| rig.disk.peek(*at).windows(50).any(|octets| octets == &line[150..]);
    let damaged = (0..100).map(BlockIndex).find(holds_line).expect("the line is on the disk");
    rig.disk.make_unreadable(damaged);
    rig.window = usize::MAX;
    rig.turn();
    assert!(rig.is_closing);
    assert!(!rig.written.windows(5).any(|octets| octets == b"\r\n.\r\n"));
    assert_eq!(rig.session.fault(), None);
    assert_eq!(rig.session.attempt().unwrap().ending, Ending::Damaged);
    assert_eq!(rig.result(), "damaged wF0 550 no");
}

/// C-4.2-e: an endless reply ends at a bound of octets, or of time however it drips.
#[test]
fn endless_replies() {
    let mut rig = after(3, usize::MAX);
    rig.play("begin 0\nC: MAIL FROM:<camera@site.example>\nC: RCPT TO:<a@x.example>\nC: RCPT TO:<b@x.example>\nC: DATA");
    for _ in 0..2000 {
        rig.say(&b"250-and so on and so on\r\n".repeat(40));
    }
    rig.play("close");
    assert_eq!(rig.result(), "Protocol ww");

    let mut rig = after(3, usize::MAX);
    rig.play("begin 0\nC: MAIL FROM:<camera@site.example>\nC: RCPT TO:<a@x.example>\nC: RCPT TO:<b@x.example>\nC: DATA");
    for second in 0..300 {
        assert!(!rig.is_closing, "after {second} s");
        rig.say(b"250-\r\n");
        rig.wait(Duration::from_s(1));
    }
    rig.play("close");
    assert_eq!(rig.result(), "Timeout ww");
}

/// C-4.2-d, SEC-cli-a (and the rule that no octet from the network makes us panic): rubbish of any kind, at
/// each step, in any pieces, leaves the message where it was or with results that the rubbish spelled out.
#[test]
fn rubbish_never_breaks_the_session() {
    let words: [&[u8]; 14] = [
        b"250 ", b"250-", b"354", b"450 a", b"552 b", b"452 c", b"421", b"530", b"\r\n", b"\n", b"\r", b"\0",
        b"\xff", b"25",
    ];
    for seed in 0..3000 {
        let mut random = Random(seed);
        let steps = places().nth(random.below(places().count())).expect("below their number");
        let mut rig = after(steps, 1 + random.below(40));
        for _ in 0..random.below(60) {
            // Lines that are replies are so frequent that many sessions get far.
            let is_line = random.below(3) > 0;
            rig.say(words[random.below(words.len())]);
            if is_line {
                rig.say(b"\r\n");
            }
            rig.written.clear();
            if rig.session.attempt().is_some() {
                rig.result();
                break;
            }
            if random.below(10) == 0 {
                rig.wait(Duration::from_s(200));
            }
        }
        rig.session.lost();
        assert!(!rig.session.is_connected());
    }
}
