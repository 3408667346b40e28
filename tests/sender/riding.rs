//! The next message's commands behind the end of the last one's mail data, whose verdict is still to come
//! (RFC 2920 3.1).
use postern::sender::Fault;

use crate::rig::{Rig, envelope};

const BODY: &[u8] = b"Subject: door\r\n\r\nopen\r\n";
const HELLO: &str = "S: 220 a
    C: EHLO relay.site.example
    S: 250-a
    S: 250-PIPELINING\n";
const COMMANDS: &str = "C: MAIL FROM:<camera@site.example>
    C: RCPT TO:<a@x.example>
    C: RCPT TO:<b@x.example>
    C: DATA\n";
const MAIL_DATA: &str = "trace
    C: Subject: door
    C: 
    C: open
    C: .\n";
const ACCEPTED: &str = "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go on\n";

/// A rig with three messages to two recipients each.
fn rig(piece: usize) -> Rig {
    let mut rig = Rig::new(piece);
    for _ in 0..3 {
        rig.message(&envelope(), &["a@x.example", "b@x.example"], BODY);
    }
    rig
}

fn play(script: &str) {
    for piece in [1, 7, usize::MAX] {
        rig(piece).play(script);
    }
}

/// Up to where the first message's verdict is awaited and the second one's commands are out.
fn riding() -> String {
    format!(
        "{HELLO}S: 250 SIZE\nbegin 0\n{}",
        COMMANDS.replace(".example>\n    C: RCPT TO:<a", ".example> SIZE=*\n    C: RCPT TO:<a")
    ) + ACCEPTED
        + MAIL_DATA
        + "follow 1\n"
        + &COMMANDS.replace(".example>\n    C: RCPT TO:<a", ".example> SIZE=*\n    C: RCPT TO:<a")
}

/// PIPE-g, PIPE-i: without CHUNKING a message costs one round trip where more mail waits.
#[test]
fn mail_rides_along_with_the_dot() {
    play(&format!(
        "{}S: 250 2.0.0 taken
        {}result tried DD
        {}{MAIL_DATA}result none
        S: 250 2.0.0 taken too
        result tried DD
        ready",
        riding(),
        "",
        ACCEPTED,
    ));
}

/// C-4.3-a, C-4.2.1-a, C-4.2.1-b: each reply is for its own message, whichever verdict comes first.
#[test]
fn each_verdict_is_for_its_own_message() {
    for (verdict, result) in [
        ("250 taken", "tried DD"),
        ("451 4.3.0 later", "tried ww later 451 4.3.0 later"),
        ("554 5.7.1 spam", "tried F0F0 554 5.7.1 spam"),
    ] {
        play(&format!(
            "{}S: {verdict}
            result {result}
            S: 250 ok
            S: 550 no
            S: 250 ok
            S: 354 go on
            {MAIL_DATA}S: 250 taken
            result tried F0D 550 no",
            riding()
        ));
        // The second message's refusal, before the first one's result is recorded.
        play(&format!(
            "{}S: {verdict}
            S: 550 5.7.1 not you
            S: 503 MAIL first
            S: 503 MAIL first
            S: 503 MAIL first
            result {result}
            result tried F0F0 550 5.7.1 not you
            ready",
            riding()
        ));
    }
}

/// C-3.8-a, C-4.2-c, C-4.2-d: when the connection ends, both messages wait on; none is charged.
#[test]
fn both_wait_when_the_connection_ends() {
    for (end, fault) in [
        ("lost", Fault::Lost),
        ("S: 421 closing\nclose", Fault::TooBusy),
        ("S: hello\nclose", Fault::Protocol),
        ("S: 354 what\nclose", Fault::Protocol),
        ("wait 600\nclose", Fault::Timeout),
    ] {
        let mut rig = rig(7);
        rig.play(&format!("{}{end}", riding()));
        assert_eq!(rig.session.fault(), Some(fault));
        assert!(rig.session.attempt().unwrap().has_sent_mail_data);
        // 421 is the answer to the first of them.
        let is_told = fault == Fault::TooBusy;
        let first = if is_told { "held TooBusy ww later 421 closing" } else { &format!("{fault:?} ww") };
        assert_eq!(rig.result(), first);
        assert!(!rig.session.attempt().unwrap().has_sent_mail_data);
        assert_eq!(rig.result(), format!("{fault:?} ww"));
        assert!(!rig.session.is_at_work());
    }
    // Behind the first verdict one of them is through.
    let mut rig = rig(7);
    rig.play(&format!("{}S: 250 taken\nS: 250 ok\nlost", riding()));
    assert_eq!((rig.result(), rig.result()), ("tried DD".to_string(), "Lost ww".to_string()));
}

/// C-4.5.3.2-b: the verdict is waited for ten minutes, whatever rides behind it.
#[test]
fn the_verdict_is_waited_for() {
    play(&format!(
        "{}wait 599\nS: 250 taken\nresult tried DD\n{ACCEPTED}{MAIL_DATA}S: 250 a\nresult tried DD",
        riding()
    ));
}

/// Nothing rides along where it may not: without PIPELINING, behind mail data for nobody, when the message
/// has recipients left, or when two are under way.
#[test]
fn what_does_not_ride_along() {
    let start = "S: 220 a
        C: EHLO relay.site.example
        S: 250 a
        begin 0
        C: MAIL FROM:<camera@site.example>
        S: 250 ok
        C: RCPT TO:<a@x.example>
        S: 250 ok
        C: RCPT TO:<b@x.example>
        S: 250 ok
        C: DATA
        S: 354 go on\n";
    let may_begin = |script: &str| {
        let mut rig = rig(7);
        rig.play(script);
        rig.session.may_begin()
    };
    assert!(!may_begin(&format!("{start}{MAIL_DATA}")));
    let pipelined = format!("{HELLO}S: 250 X\nbegin 0\n{COMMANDS}");
    assert!(!may_begin(&pipelined));
    assert!(may_begin(&format!("{pipelined}{ACCEPTED}{MAIL_DATA}")));
    assert!(!may_begin(&format!("{pipelined}S: 250 a\nS: 550 a\nS: 550 a\nS: 354 a\nC: .")));
    assert!(!may_begin(&format!("{pipelined}S: 250 a\nS: 250 a\nS: 452 many\nS: 354 a\n{MAIL_DATA}")));
    assert!(!may_begin(&riding()));
    assert!(!may_begin(&format!("{}S: 250 a\n{ACCEPTED}{MAIL_DATA}", riding())), "the first is not recorded");
}

/// A message that can't be sent to this smarthost, or is damaged, is decided without a word behind another's
/// end; the verdict before it still counts, and more may follow.
#[test]
fn what_is_decided_without_a_word() {
    let mut rig = rig(7);
    let mut utf8 = envelope();
    utf8.utf8 = true;
    rig.message(&utf8, &["a@x.example"], BODY);
    rig.play(&format!(
        "{HELLO}S: 250 X
        begin 0
        {COMMANDS}{ACCEPTED}{MAIL_DATA}follow 3
        result tried F0 553 5.6.7 the smarthost does not offer SMTPUTF8
        follow 1
        {COMMANDS}S: 250 taken
        result tried DD
        {ACCEPTED}{MAIL_DATA}S: 250 taken
        result tried DD
        ready"
    ));
    let mut rig = self::rig(7);
    rig.message(&utf8, &["a@x.example"], BODY);
    rig.play(&format!(
        "{HELLO}S: 250 X
        begin 0
        {COMMANDS}{ACCEPTED}{MAIL_DATA}follow 3
        S: 250 taken
        result tried DD
        result tried F0 553 5.6.7 the smarthost does not offer SMTPUTF8
        begin 1
        {COMMANDS}"
    ));
}

/// C-4.1.4-c: behind a chunk the next message starts with RSET, since a refused one may leave its transaction
/// open.
#[test]
fn behind_a_chunk() {
    let mut data = b"Subject: x\r\n\r\n".to_vec();
    data.resize(70_000, b'x');
    for (verdict, result) in [("250 taken", "tried D"), ("554 5.7.1 spam", "tried F0 554 5.7.1 spam")] {
        for follows in [true, false] {
            let mut rig = rig(usize::MAX);
            rig.message(&envelope(), &["a@x.example"], &data);
            rig.play(&format!("{HELLO}S: 250 CHUNKING\nbegin 3\nC: MAIL FROM:<camera@site.example>\nC: RCPT TO:<a@x.example>"));
            rig.say(b"250 ok\r\n250 ok\r\n");
            assert!(rig.written.starts_with(b"BDAT 70"));
            rig.written.clear();
            let next = "C: MAIL FROM:<camera@site.example>
                C: RCPT TO:<a@x.example>
                C: RCPT TO:<b@x.example>
                C: BDAT * LAST
                trace
                C: Subject: door
                C: 
                C: open\n";
            if follows {
                rig.play(&format!(
                    "follow 0
                    C: RSET
                    {next}S: {verdict}
                    result {result}
                    S: 250 reset
                    S: 250 ok
                    S: 250 ok
                    S: 250 ok
                    S: 250 taken
                    result tried DD"
                ));
            } else {
                let reset = if verdict.starts_with('2') { "" } else { "C: RSET\n" };
                rig.play(&format!("S: {verdict}\nresult {result}\nbegin 0\n{reset}{next}"));
            }
        }
    }
}
