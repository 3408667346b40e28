//! One message or two over a connection that holds.
use crate::rig::{Rig, envelope};

const BODY: &[u8] = b"Subject: door\r\n\r\nopen\r\n";

/// Plays `script` for messages to `recipients` each, in pieces of 1, 7 and any number of octets.
fn play(recipients: &[&[&str]], script: &str) {
    for piece in [1, 7, usize::MAX] {
        let mut rig = Rig::new(piece);
        for recipients in recipients {
            rig.message(&envelope(), recipients, BODY);
        }
        rig.play(script);
    }
}

const ONE: &[&str] = &["a@x.example"];
const THREE: &[&str] = &["a@x.example", "b@x.example", "c@x.example"];

/// C-3.2-a, C-4.3.1-a, C-4.1.1.1-b, C-4.1.4-a, C-4.1.1-a, C-4.1.1.2-a, C-4.5.4.1-a, C-4.1.1.4-b,
/// C-4.1.1.10-a, PIPE-g, SIZE-g: two messages over one connection, two round trips each, and QUIT when there
/// is no more.
#[test]
fn pipelining() {
    play(
        &[ONE, THREE],
        "S: 220 smarthost
        C: EHLO relay.site.example
        S: 250-smarthost greets you
        S: 250-PIPELINING
        S: 250-SIZE
        S: 250 8BITMIME
        begin 0
        C: MAIL FROM:<camera@site.example> SIZE=*
        C: RCPT TO:<a@x.example>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 354 go on
        trace
        C: Subject: door
        C: 
        C: open
        C: .
        S: 250 2.0.0 taken
        result tried D
        begin 1
        C: MAIL FROM:<camera@site.example> SIZE=*
        C: RCPT TO:<a@x.example>
        C: RCPT TO:<b@x.example>
        C: RCPT TO:<c@x.example>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 251 ok
        S: 250 ok
        S: 354 go on
        trace
        C: Subject: door
        C: 
        C: open
        C: .
        S: 250 2.0.0 taken
        result tried DDD
        wait 9
        wait 1
        C: QUIT
        S: 221 bye
        close",
    );
}

/// SIZE-f, SIZE-g: the number in SIZE is that of the octets sent, our Received field included, transparency
/// not; a message of exactly the size offered is sent, one octet more is not.
#[test]
fn size_is_exact() {
    let body = b"Subject: x\r\n\r\n.dot\r\n";
    let mut rig = Rig::new(usize::MAX);
    let message = rig.message(&envelope(), ONE, body);
    rig.hello("250-a\r\n250-PIPELINING\r\n250 SIZE\r\n");
    rig.begin(message);
    let size: usize = rig.size().parse().unwrap();
    rig.written.clear();
    rig.say(b"250 a\r\n250 a\r\n354 a\r\n");
    assert_eq!(rig.written.len() - ".".len() - ".\r\n".len(), size);
    for (offered, is_sent) in [(size, true), (size - 1, false), (0, true)] {
        let mut rig = Rig::new(usize::MAX);
        let message = rig.message(&envelope(), ONE, body);
        rig.hello(&format!("250-a\r\n250 SIZE {offered}\r\n"));
        rig.begin(message);
        assert_eq!(rig.session.attempt().is_none(), is_sent, "{offered} offered");
        assert_eq!(rig.written.is_empty(), !is_sent);
    }
}

/// C-4.3.1-b, C-4.1.1.3-b: each command waits for the reply before, and nothing is used that wasn't offered.
#[test]
fn no_pipelining() {
    play(
        &[&THREE[..2]],
        "S: 220 smarthost
        C: EHLO relay.site.example
        S: 250 smarthost
        begin 0
        C: MAIL FROM:<camera@site.example>
        S: 250 ok
        C: RCPT TO:<a@x.example>
        S: 250 ok
        C: RCPT TO:<b@x.example>
        S: 250 ok
        C: DATA
        S: 354 go on
        trace
        C: Subject: door
        C: 
        C: open
        C: .
        S: 250 taken
        result tried DD",
    );
}

/// C-3.2-a: a smarthost that knows HELO only.
#[test]
fn no_ehlo() {
    for code in [500, 502, 504, 550] {
        play(
            &[ONE],
            &format!(
                "S: 220 smarthost
                C: EHLO relay.site.example
                S: {code} what?
                C: HELO relay.site.example
                S: 250 PIPELINING
                begin 0
                C: MAIL FROM:<camera@site.example>
                S: 250 ok
                C: RCPT TO:<a@x.example>"
            ),
        );
    }
}

/// C-4.1.1.1-b: a name without dots is no argument of EHLO.
#[test]
fn a_bare_name_becomes_an_address_literal() {
    for (local, argument) in [
        ("192.0.2.1", "[192.0.2.1]"),
        ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ("::ffff:192.0.2.1", "[192.0.2.1]"),
    ] {
        let mut rig = Rig::new(usize::MAX);
        rig.session.lost();
        rig.config.hostname = "router".to_string();
        rig.session.connected(&rig.now, 0, local.parse().unwrap(), &rig.config);
        rig.say(b"220 a\r\n");
        assert_eq!(rig.written, format!("EHLO {argument}\r\n").as_bytes());
    }
}

/// C-4.1.1.3-b: `smarthost.discard` hides what is offered.
#[test]
fn a_discarded_extension_is_not_used() {
    let mut rig = Rig::new(usize::MAX);
    rig.message(&envelope(), ONE, BODY);
    rig.config.smarthosts[0].discard = vec!["PIPELINING".to_string()];
    rig.play(
        "S: 220 a
        C: EHLO relay.site.example
        S: 250-a
        S: 250-SIZE 100000
        S: 250 pipelining
        begin 0
        C: MAIL FROM:<camera@site.example> SIZE=*",
    );
}

/// C-4.2-a, C-4.2-b, C-4.2-e: bare codes, unlisted codes, several lines and odd texts, at each reply.
#[test]
fn only_the_code_decides() {
    play(
        &[ONE, THREE],
        "S: 220-hello
        S: 220-
        S: 220
        C: EHLO relay.site.example
        S: 250-
        S: 250-X
        S: 250 PIPELINING
        begin 0
        C: MAIL FROM:<camera@site.example>
        C: RCPT TO:<a@x.example>
        C: DATA
        S: 299
        S: 250-550 no
        S: 250 250
        S: 354
        trace
        C: Subject: door
        C: 
        C: open
        C: .
        S: 250-554 no
        S: 250
        result tried D
        begin 1
        C: MAIL FROM:<camera@site.example>
        C: RCPT TO:<a@x.example>
        C: RCPT TO:<b@x.example>
        C: RCPT TO:<c@x.example>
        C: DATA
        S: 250 ok
        S: 499 250
        S: 599-250
        S: 599 gone
        S: 299 550
        S: 399
        trace
        C: Subject: door
        C: 
        C: open
        C: .
        S: 299
        result tried wF0D 599 gone later 499 250",
    );
}

/// C-4.3-a, C-4.2.1-a, C-4.2.1-b: each recipient has its own result, and nobody gets it twice.
#[test]
fn mixed_recipients() {
    let mut rig = Rig::new(usize::MAX);
    rig.message(&envelope(), &["a@x.example", "b@x.example", "c@x.example", "d@x.example"], BODY);
    rig.play(
        "S: 220 a
        C: EHLO relay.site.example
        S: 250-a
        S: 250 PIPELINING
        begin 0
        C: MAIL FROM:<camera@site.example>
        C: RCPT TO:<a@x.example>
        C: RCPT TO:<b@x.example>
        C: RCPT TO:<c@x.example>
        C: RCPT TO:<d@x.example>
        C: DATA
        S: 250 ok
        S: 450 4.2.1 busy
        S: 550 5.1.1 unknown
        S: 250 ok
        S: 553 5.1.3 bad
        S: 354 go on
        trace
        C: Subject: door
        C: 
        C: open
        C: .
        S: 250 taken
        result tried wF0DF1 550 5.1.1 unknown 553 5.1.3 bad later 450 4.2.1 busy
        begin 0
        C: MAIL FROM:<camera@site.example>
        C: RCPT TO:<a@x.example>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 354 go on
        trace
        C: Subject: door
        C: 
        C: open
        C: .
        S: 250 taken
        result tried DF0DF1 550 5.1.1 unknown 553 5.1.3 bad",
    );
}

/// C-4.2.1-b: up to four reasons are kept; equal ones once, and a fifth shares the last place.
#[test]
fn reasons_are_kept_within_bounds() {
    let mut rig = Rig::new(7);
    let recipients: Vec<_> = (0..7).map(|n| format!("r{n}@x.example")).collect();
    let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
    let message = rig.message(&envelope(), &recipients, BODY);
    rig.hello("250-a\r\n250 PIPELINING\r\n");
    rig.begin(message);
    rig.say(b"250 a\r\n550 1\r\n550 2\r\n550 1\r\n551 1\r\n550 4\r\n550 5\r\n550 2\r\n554 nobody\r\n");
    assert_eq!(rig.result(), "tried F0F1F0F2F3F3F1 550 1 550 2 551 1 550 4");
}

/// C-4.2.1-a, C-4.2.1-b, C-4.5.4.1-f, C-4.1.4-c: MAIL refused is the verdict on all recipients of this
/// message, and on no other.
#[test]
fn mail_refused() {
    for (reply, result) in [
        ("550 5.7.1 no", "tried F0F0F0 550 5.7.1 no"),
        ("451 4.7.1 grey", "tried www later 451 4.7.1 grey"),
        ("452 4.3.1 full", "tried www later 452 4.3.1 full"),
    ] {
        play(
            &[THREE, ONE],
            &format!(
                "S: 220 a
                C: EHLO relay.site.example
                S: 250-a
                S: 250 PIPELINING
                begin 0
                C: MAIL FROM:<camera@site.example>
                C: RCPT TO:<a@x.example>
                C: RCPT TO:<b@x.example>
                C: RCPT TO:<c@x.example>
                C: DATA
                S: {reply}
                S: 503 MAIL first
                S: 503 MAIL first
                S: 503 MAIL first
                S: 503 MAIL first
                result {result}
                begin 1
                C: MAIL FROM:<camera@site.example>
                C: RCPT TO:<a@x.example>
                C: DATA"
            ),
        );
        play(
            &[THREE, ONE],
            &format!(
                "S: 220 a
                C: EHLO relay.site.example
                S: 250 a
                begin 0
                C: MAIL FROM:<camera@site.example>
                S: {reply}
                result {result}
                begin 1
                C: MAIL FROM:<camera@site.example>"
            ),
        );
    }
}

/// C-3.3-a, PIPE-h, C-4.1.4-c: when all recipients are refused no mail data is sent; a 354 all the same gets
/// a dot.
#[test]
fn all_recipients_refused() {
    let start = "S: 220 a
        C: EHLO relay.site.example
        S: 250-a
        S: 250 PIPELINING
        begin 0
        C: MAIL FROM:<camera@site.example>
        C: RCPT TO:<a@x.example>
        C: DATA
        S: 250 ok
        S: 550 5.1.1 unknown\n";
    for verdict in ["554 nobody", "250 taken", "451 what?"] {
        play(
            &[ONE, ONE],
            &format!(
                "{start}S: 354 go on
                C: .
                S: {verdict}
                result tried F0 550 5.1.1 unknown
                begin 1
                C: MAIL FROM:<camera@site.example>
                C: RCPT TO:<a@x.example>
                C: DATA"
            ),
        );
    }
    play(
        &[ONE, ONE],
        &format!(
            "{start}S: 554 no valid recipients
            result tried F0 550 5.1.1 unknown
            begin 1
            C: RSET
            C: MAIL FROM:<camera@site.example>
            C: RCPT TO:<a@x.example>
            C: DATA
            S: 250 reset
            S: 250 ok
            S: 250 ok
            S: 354 go on
            trace
            C: Subject: door
            C: 
            C: open
            C: .
            S: 250 taken
            result tried D"
        ),
    );
    play(
        &[ONE, ONE],
        "S: 220 a
        C: EHLO relay.site.example
        S: 250 a
        begin 0
        C: MAIL FROM:<camera@site.example>
        S: 250 ok
        C: RCPT TO:<a@x.example>
        S: 450 later
        result tried w later 450 later
        begin 1
        C: RSET
        S: 250 reset
        C: MAIL FROM:<camera@site.example>",
    );
}

/// C-4.1.1.4-a, C-4.2.1-a, C-4.2.1-b: no 354, no mail data.
#[test]
fn data_refused() {
    for (reply, result) in [
        ("451 4.3.0 later", "tried wF0w 550 no later 451 4.3.0 later"),
        ("554 5.3.0 never", "tried F1F0F1 550 no 554 5.3.0 never"),
    ] {
        play(
            &[THREE, ONE],
            &format!(
                "S: 220 a
                C: EHLO relay.site.example
                S: 250-a
                S: 250 PIPELINING
                begin 0
                C: MAIL FROM:<camera@site.example>
                C: RCPT TO:<a@x.example>
                C: RCPT TO:<b@x.example>
                C: RCPT TO:<c@x.example>
                C: DATA
                S: 250 ok
                S: 250 ok
                S: 550 no
                S: 250 ok
                S: {reply}
                result {result}
                begin 1
                C: RSET
                C: MAIL FROM:<camera@site.example>
                C: RCPT TO:<a@x.example>
                C: DATA"
            ),
        );
    }
}

/// C-4.2.1-a, C-4.2.1-b, C-6.1-b: only the reply to the end of mail data settles the recipients.
#[test]
fn mail_data_refused() {
    for (reply, result) in
        [("452 4.3.1 full", "tried ww later 452 4.3.1 full"), ("554 5.7.1 spam", "tried F0F0 554 5.7.1 spam")]
    {
        play(
            &[&THREE[..2], ONE],
            &format!(
                "S: 220 a
                C: EHLO relay.site.example
                S: 250-a
                S: 250 PIPELINING
                begin 0
                C: MAIL FROM:<camera@site.example>
                C: RCPT TO:<a@x.example>
                C: RCPT TO:<b@x.example>
                C: DATA
                S: 250 ok
                S: 250 ok
                S: 250 ok
                S: 354 go on
                trace
                C: Subject: door
                C: 
                C: open
                C: .
                result none
                S: {reply}
                result {result}
                begin 1
                C: MAIL FROM:<camera@site.example>
                C: RCPT TO:<a@x.example>
                C: DATA"
            ),
        );
    }
}

/// SIZE-f, 8BIT-d, U8-c, C-2.4-a, C-4.1.2-a, C-4.5.3.1-a: what can't be sent to this smarthost is not tried.
#[test]
fn unsendable() {
    let cases: &[(&str, &str, &str, &str)] = &[
        ("SIZE 100", "", "a@x.example", "F0 552 5.3.4 the message is larger than the smarthost takes"),
        ("SIZE 200", "8bit", "a@x.example", "F0 554 5.6.3 the smarthost does not offer 8BITMIME"),
        ("8BITMIME", "utf8", "a@x.example", "F0 553 5.6.7 the smarthost does not offer SMTPUTF8"),
        ("SMTPUTF8", "bad", "a@x.example", "F0 553 5.1.7 the reverse-path can't be sent"),
        ("SMTPUTF8", "", "a\r\nDATA@x.example", "F0 553 5.1.3 the forward-path can't be sent"),
        ("SMTPUTF8", "", "\u{e4}@x.example", "F0 553 5.1.3 the forward-path can't be sent"),
    ];
    for (offered, what, recipient, result) in cases {
        let mut rig = Rig::new(usize::MAX);
        let mut envelope = envelope();
        envelope.body_is_8bit = *what == "8bit";
        envelope.utf8 = *what == "utf8";
        if *what == "bad" {
            envelope.reverse_path = heapless::Vec::from_slice(b"a>\r\nQUIT\r\n").unwrap();
        }
        let message = rig.message(&envelope, &[recipient], BODY);
        rig.hello(&format!("250-a\r\n250 {offered}\r\n"));
        rig.begin(message);
        if rig.session.attempt().is_none() {
            assert_eq!(rig.written, b"MAIL FROM:<camera@site.example>\r\n");
            rig.say(b"250 ok\r\n");
            assert_eq!(rig.written, b"MAIL FROM:<camera@site.example>\r\n");
        } else {
            assert_eq!(rig.written, b"");
        }
        assert_eq!(rig.result(), format!("tried {result}"));
        assert!(rig.session.is_ready());
    }
}

/// C-4.5.3.1-a: a path has 256 octets with its brackets, and a longer one is not sent.
#[test]
fn the_longest_path() {
    let path = |octets: usize| format!("a@{}", "x".repeat(octets - "<a@>".len()));
    for (octets, is_sent) in [(256, true), (257, false)] {
        let mut rig = Rig::new(usize::MAX);
        let message = rig.message(&envelope(), &[&path(octets)], BODY);
        rig.hello("250-a\r\n250 PIPELINING\r\n");
        rig.begin(message);
        let written = String::from_utf8(core::mem::take(&mut rig.written)).unwrap();
        let command = format!("RCPT TO:<{}>\r\n", path(octets));
        assert_eq!(written.contains(&command), is_sent, "{written}");
        assert_eq!(written.contains("RCPT"), is_sent, "{written}");
        let rest = if is_sent { "S: 550 no" } else { "" };
        rig.play(&format!("S: 250 ok\n{rest}"));
        if is_sent {
            rig.play("S: 554 nobody\nresult tried F0 550 no");
        } else {
            rig.play("result tried F0 553 5.1.3 the forward-path can't be sent");
        }
    }
}

/// C-4.1.1.4-b: the end of mail data stands in a line of its own, with no CRLF too many in front of it.
#[test]
fn mail_data_without_a_last_line_end() {
    const BODY: &str = "C: \nC: open\n";
    for (mail_data, body) in [("x: y\r\n\r\nopen", BODY), ("x: y\r\n\r\nopen\r\n", BODY), ("x: y", "")] {
        for piece in [1, 7, usize::MAX] {
            let mut rig = Rig::new(piece);
            rig.message(&envelope(), ONE, mail_data.as_bytes());
            rig.play(&format!(
                "S: 220 a
                C: EHLO relay.site.example
                S: 250-a
                S: 250 PIPELINING
                begin 0
                C: MAIL FROM:<camera@site.example>
                C: RCPT TO:<a@x.example>
                C: DATA
                S: 250 ok
                S: 250 ok
                S: 354 go on
                trace
                C: x: y
                {body}C: .
                S: 250 taken
                result tried D"
            ));
        }
    }
}

/// 8BIT-c, U8-c: what was declared is declared, where it is offered.
#[test]
fn parameters_are_handed_on() {
    let mut rig = Rig::new(usize::MAX);
    let mut envelope = envelope();
    (envelope.body_is_8bit, envelope.utf8) = (true, true);
    rig.message(&envelope, &["\u{e4}@x.example"], BODY);
    rig.play(
        "S: 220 a
        C: EHLO relay.site.example
        S: 250-a
        S: 250-SMTPUTF8
        S: 250 8bitmime
        begin 0
        C: MAIL FROM:<camera@site.example> BODY=8BITMIME SMTPUTF8
        S: 250 ok
        C: RCPT TO:<\u{e4}@x.example>",
    );
}

/// C-2.4-b, 8BIT-c, 8BIT-d: octets beyond ASCII that the client did not declare are declared where that is
/// offered, and go nowhere else; a new head and a restart of the spool forget nothing of it.
#[test]
fn undeclared_octets() {
    for octets in [&b"Subject: T\xfcr\r\n\r\nopen\r\n"[..], b"Subject: door\r\n\r\n\xc3\xb6ffen\r\n"] {
        let mut rig = Rig::new(usize::MAX);
        rig.message(&envelope(), &["a@x.example", "b@x.example"], octets);
        rig.play(
            "S: 220 a
            C: EHLO relay.site.example
            S: 250-a
            S: 250-8BITMIME
            S: 250 PIPELINING
            begin 0
            C: MAIL FROM:<camera@site.example> BODY=8BITMIME
            C: RCPT TO:<a@x.example>
            C: RCPT TO:<b@x.example>
            C: DATA
            S: 250 ok
            S: 550 5.1.1 unknown
            S: 450 4.2.0 later
            S: 554 nobody
            result tried F0w 550 5.1.1 unknown later 450 4.2.0 later
            quit
            C: QUIT
            S: 221 bye
            close
            lost",
        );
        rig.restart();
        rig.connect();
        rig.play(
            "S: 220 a
            C: EHLO relay.site.example
            S: 250-a
            S: 250 PIPELINING
            begin 0
            result tried F0F1 550 5.1.1 unknown 554 5.6.3 the smarthost does not offer 8BITMIME",
        );
    }
}

/// C-4.5.3.1.8-a, C-4.5.3.1.10-a: "too many recipients" opens a further transaction at once; the same reply
/// to the first of a transaction is about that recipient.
#[test]
fn too_many_recipients() {
    for code in [452, 552] {
        play(
            &[THREE],
            &format!(
                "S: 220 a
                C: EHLO relay.site.example
                S: 250-a
                S: 250 PIPELINING
                begin 0
                C: MAIL FROM:<camera@site.example>
                C: RCPT TO:<a@x.example>
                C: RCPT TO:<b@x.example>
                C: RCPT TO:<c@x.example>
                C: DATA
                S: 250 ok
                S: 250 ok
                S: {code} too many
                S: {code} too many
                S: 354 go on
                trace
                C: Subject: door
                C: 
                C: open
                C: .
                S: 250 taken
                result none
                C: MAIL FROM:<camera@site.example>
                C: RCPT TO:<b@x.example>
                C: DATA
                S: 250 ok
                S: {code} over quota
                S: 554 nobody
                C: RSET
                C: MAIL FROM:<camera@site.example>
                C: RCPT TO:<c@x.example>
                C: DATA
                S: 250 ok
                S: 250 ok
                S: 250 ok
                S: 354 go on
                trace
                C: Subject: door
                C: 
                C: open
                C: .
                S: 250 taken
                result {}",
                if code == 452 { "tried DwD later 452 over quota" } else { "tried DF0D 552 over quota" }
            ),
        );
        play(
            &[THREE],
            &format!(
                "S: 220 a
                C: EHLO relay.site.example
                S: 250 a
                begin 0
                C: MAIL FROM:<camera@site.example>
                S: 250 ok
                C: RCPT TO:<a@x.example>
                S: 250 ok
                C: RCPT TO:<b@x.example>
                S: {code} too many
                C: DATA
                S: 354 go on
                trace
                C: Subject: door
                C: 
                C: open
                C: .
                S: 250 taken
                C: MAIL FROM:<camera@site.example>
                S: 250 ok
                C: RCPT TO:<b@x.example>"
            ),
        );
    }
}
