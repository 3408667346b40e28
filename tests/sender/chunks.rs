//! Mail data in chunks (RFC 3030): in one flight with MAIL and RCPT, and what becomes of it when a smarthost
//! that offers CHUNKING doesn't mean it.
use postern::sender::{Ending, Fault};
use postern::spool::{BlockIndex, RecipientState};

use crate::disk::Random;
use crate::rig::{Rig, envelope};

const BODY: &[u8] = b"Subject: door\r\n\r\n.open\r\n";
const HELLO: &str = "S: 220 a
    C: EHLO relay.site.example
    S: 250-a
    S: 250-PIPELINING
    S: 250 CHUNKING\n";
const FLIGHT: &str = "C: MAIL FROM:<camera@site.example>
    C: RCPT TO:<a@x.example>
    C: RCPT TO:<b@x.example>
    C: BDAT * LAST
    trace
    C: Subject: door
    C: 
    C: .open\n";
const DATA: &str = "C: MAIL FROM:<camera@site.example>
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
    C: ..open
    C: .
    S: 250 taken\n";

/// Plays `script` behind the greeting for two messages to two recipients, in pieces of 1, 7 and any number of
/// octets.
fn play(script: &str) {
    for piece in [1, 7, usize::MAX] {
        let mut rig = Rig::new(piece);
        for _ in 0..2 {
            rig.message(&envelope(), &["a@x.example", "b@x.example"], BODY);
        }
        rig.play(&format!("{HELLO}{script}"));
    }
}

/// BDAT-a, C-4.1.4-c, PIPE-i: a message costs one round trip, no dot is doubled, and its verdict is the one
/// to the chunk.
#[test]
fn one_flight() {
    play(&format!(
        "begin 0
        {FLIGHT}S: 250 ok
        S: 250 ok
        S: 550 no
        result none
        S: 250 2.0.0 taken
        result tried DF0 550 no
        begin 1
        {FLIGHT}S: 250 ok
        S: 250 ok
        S: 250 ok
        S: 250 2.0.0 taken
        result tried DD
        wait 10
        C: QUIT
        S: 221 bye
        close"
    ));
}

/// SIZE-g, BDAT-a: the octets are those that were announced, whether there is a line's end or not, and
/// whatever is rewritten.
#[test]
fn the_octets_are_those_announced() {
    let mut random = Random(3);
    for round in 0..60 {
        let piece = [1, 100, usize::MAX][round % 3];
        let mut rig = Rig::new(piece);
        if random.below(2) == 0 {
            rig.config.sender_header_from = Some("me@example.com".to_string());
        }
        let octets = random.below(30_000);
        let mut data = b"From: a@nas.lan\r\n\r\n".to_vec();
        data.extend((0..octets).map(|at| b"..x\r\n"[(at + round) % 5]));
        let message = rig.message(&envelope(), &["a@x.example"], &data);
        rig.hello("250-a\r\n250-PIPELINING\r\n250-SIZE\r\n250 CHUNKING\r\n");
        rig.begin(message);
        let size: usize = rig.size().parse().unwrap();
        let written = String::from_utf8(std::mem::take(&mut rig.written)).unwrap();
        let (_, chunk) = written.split_once(&format!("BDAT {size} LAST\r\n")).expect("BDAT of that size");
        assert_eq!(chunk.len(), size);
        let body = chunk.split_once("\r\n\r\n").unwrap().1;
        assert!(body.as_bytes() == &data["From: a@nas.lan\r\n\r\n".len()..]);
        rig.say(b"250 a\r\n250 a\r\n250 a\r\n");
        assert_eq!(rig.result(), "tried D");
    }
}

/// C-4.3.1-b: without PIPELINING each command waits for the reply before, BDAT too.
#[test]
fn without_pipelining() {
    let mut rig = Rig::new(7);
    rig.message(&envelope(), &["a@x.example", "b@x.example"], BODY);
    rig.play(
        "S: 220 a
        C: EHLO relay.site.example
        S: 250-a
        S: 250 CHUNKING
        begin 0
        C: MAIL FROM:<camera@site.example>
        S: 250 ok
        C: RCPT TO:<a@x.example>
        S: 250 ok
        C: RCPT TO:<b@x.example>
        S: 550 no
        C: BDAT * LAST
        trace
        C: Subject: door
        C: 
        C: .open
        S: 250 taken
        result tried DF0 550 no",
    );
}

/// C-4.2.1-a, C-4.2.1-b, C-4.1.4-c: a refused chunk is a verdict on this message; RSET ends what may be left
/// of the transaction.
#[test]
fn a_refused_chunk_is_a_verdict() {
    for (reply, result) in [
        ("452 4.3.1 full", "tried ww later 452 4.3.1 full"),
        ("552 5.3.4 too large", "tried F0F0 552 5.3.4 too large"),
        ("554 5.7.1 spam", "tried F0F0 554 5.7.1 spam"),
        ("550 5.7.1 no", "tried F0F0 550 5.7.1 no"),
    ] {
        let behind_reset = DATA.replace("DATA", "BDAT * LAST").split("S: 250 ok").next().unwrap().to_string();
        play(&format!(
            "begin 0
            {FLIGHT}S: 250 ok
            S: 250 ok
            S: 250 ok
            S: {reply}
            result {result}
            begin 1
            C: RSET
            {behind_reset}trace
            C: Subject: door
            C: 
            C: .open"
        ));
    }
}

/// C-4.1.4-c, PIPE-i: when MAIL or all recipients are refused, what is said to the chunk doesn't matter.
#[test]
fn a_chunk_to_nobody() {
    for verdict in ["554 no valid recipients", "503 5.5.1 no transaction", "451 what?", "250 taken"] {
        for (replies, result) in [
            ("S: 250 ok\nS: 550 no\nS: 551 gone\n", "tried F0F1 550 no 551 gone"),
            ("S: 550 not you\nS: 503 MAIL first\nS: 503 MAIL first\n", "tried F0F0 550 not you"),
            ("S: 451 later\nS: 503 MAIL first\nS: 503 MAIL first\n", "tried ww later 451 later"),
        ] {
            let reset = if verdict.starts_with('2') { "" } else { "C: RSET\n" };
            play(&format!(
                "begin 0
                {FLIGHT}{replies}S: {verdict}
                result {result}
                begin 1
                {reset}{FLIGHT}"
            ));
        }
    }
}

/// BDAT-d: a smarthost that offers CHUNKING and knows no BDAT gets the message behind DATA, at once and over
/// a new connection: what it makes of the chunk's octets is not to be trusted. No message is charged.
#[test]
fn a_smarthost_that_knows_no_chunks() {
    for code in [500, 501, 502, 503, 504] {
        for is_early in [false, true] {
            let mut rig = Rig::new(7);
            rig.window = if is_early { 150 } else { usize::MAX };
            let recipients = ["a@x.example", "b@x.example"];
            let message = rig.message(&envelope(), &recipients, BODY);
            rig.hello("250-a\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
            rig.begin(message);
            rig.say(b"250 ok\r\n250 ok\r\n250 ok\r\n");
            rig.say(format!("{code} what?\r\n").as_bytes());
            assert!(rig.is_closing && rig.session.fault().is_none());
            let attempt = rig.session.attempt().expect("it is over");
            assert!(!attempt.has_sent_mail_data && !attempt.is_changed);
            assert!(attempt.states.iter().all(|state| *state == RecipientState::Waiting));
            assert_eq!(rig.result(), "Protocol ww");
            rig.window = usize::MAX;
            rig.session.lost();
            rig.connect();
            rig.play(&format!("{HELLO}begin 0\n{DATA}result tried DD"));
        }
    }
}

/// BDAT-d: a connection that breaks over the first chunk of all is followed by one with DATA; once a message
/// came through in a chunk, a broken connection is that and no more.
#[test]
fn a_connection_that_breaks_over_a_chunk() {
    for (end, fault) in [("lost", Fault::Lost), ("wait 600", Fault::Timeout)] {
        for has_judged in [false, true] {
            let mut rig = Rig::new(usize::MAX);
            for _ in 0..2 {
                rig.message(&envelope(), &["a@x.example", "b@x.example"], BODY);
            }
            rig.play(HELLO);
            if has_judged {
                rig.play(&format!(
                    "begin 1\n{FLIGHT}S: 250 a\nS: 250 a\nS: 250 a\nS: 250 taken\nresult tried DD"
                ));
            }
            let quit = if end == "lost" { "" } else { "C: QUIT\nclose" };
            rig.play(&format!("begin 0\n{FLIGHT}S: 250 a\nS: 250 a\nS: 250 a\n{end}\n{quit}"));
            assert_eq!(rig.session.fault(), Some(fault));
            assert!(rig.session.attempt().unwrap().has_sent_mail_data);
            assert_eq!(rig.result(), format!("{fault:?} ww"));
            rig.session.lost();
            rig.connect();
            let again = if has_judged { FLIGHT } else { DATA };
            rig.play(&format!("{HELLO}begin 0\n{again}"));
        }
    }
}

/// C-4.2-c: 421 to a command in front of the chunk: the message was not taken.
#[test]
fn closing_in_front_of_a_chunk() {
    for replies in ["", "S: 250 ok\n", "S: 250 ok\nS: 250 ok\n"] {
        let mut rig = Rig::new(7);
        rig.message(&envelope(), &["a@x.example", "b@x.example"], BODY);
        rig.play(&format!("{HELLO}begin 0\n{FLIGHT}{replies}S: 421 closing\nC: QUIT\nclose"));
        assert!(!rig.session.attempt().unwrap().has_sent_mail_data);
        assert_eq!(rig.result(), "held TooBusy ww later 421 closing");
    }
}

/// C-3.3-a, C-3.8-a: much mail data waits until somebody is known to get it; when it is refused on the way
/// the connection ends, and nothing stands behind half a chunk that could be taken for its end.
#[test]
fn much_mail_data_waits() {
    let mut data = b"Subject: x\r\n\r\n".to_vec();
    data.resize(70_000, b'x');
    for refused in [false, true] {
        let mut rig = Rig::new(usize::MAX);
        let message = rig.message(&envelope(), &["a@x.example"], &data);
        rig.hello("250-a\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
        rig.begin(message);
        assert_eq!(rig.written, b"MAIL FROM:<camera@site.example>\r\nRCPT TO:<a@x.example>\r\n");
        rig.say(b"250 ok\r\n");
        rig.written.clear();
        if refused {
            rig.say(b"550 no\r\n");
            assert_eq!(rig.written, b"");
            assert_eq!(rig.result(), "tried F0 550 no");
            continue;
        }
        rig.window = 10_000;
        rig.say(b"250 ok\r\n");
        assert!(rig.written.starts_with(b"BDAT 70"));
        rig.say(b"552 5.3.4 too large\r\n");
        assert!(rig.is_closing);
        rig.window = usize::MAX;
        rig.turn();
        assert_eq!(rig.written.len(), 10_000, "nothing more is written");
        assert_eq!(rig.result(), "tried F0 552 5.3.4 too large");
    }
}

/// C-4.1.1.4-c, C-4.1.1.4-b: a message of no octets leaves with our trace field, in either way.
#[test]
fn a_message_of_no_octets() {
    for hello in ["250-a\r\n250-PIPELINING\r\n250 CHUNKING\r\n", "250-a\r\n250 PIPELINING\r\n"] {
        let mut rig = Rig::new(7);
        let message = rig.message(&envelope(), &["a@x.example"], b"");
        rig.hello(hello);
        rig.begin(message);
        let is_chunk = hello.contains("CHUNKING");
        if is_chunk {
            let written = String::from_utf8_lossy(&rig.written).into_owned();
            let (_, behind) = written.split_once("BDAT ").unwrap();
            let (octets, chunk) = behind.split_once(" LAST\r\n").unwrap();
            assert_eq!(octets.parse(), Ok(chunk.len()));
            rig.written = chunk.as_bytes().to_vec();
        } else {
            rig.written.clear();
        }
        rig.say(if is_chunk { b"250 a\r\n250 a\r\n" } else { b"250 a\r\n250 a\r\n354 a\r\n" });
        rig.trace("the mail data");
        assert_eq!(rig.written, if is_chunk { &b""[..] } else { b".\r\n" });
        rig.say(b"250 taken\r\n");
        assert_eq!(rig.result(), "tried D");
    }
}

/// A block that can't be read ends the connection within the chunk.
#[test]
fn damage_within_a_chunk() {
    let mut data = b"Subject: x\r\n\r\n".to_vec();
    data.resize(20_000, b'x');
    let mut rig = Rig::new(usize::MAX);
    let message = rig.message(&envelope(), &["a@x.example"], &data);
    rig.hello("250-a\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
    let is_middle =
        |at: &BlockIndex| rig.disk.peek(*at).windows(4000).any(|octets| octets == &data[100..4100]);
    let damaged = (0..64).map(BlockIndex).rfind(is_middle).expect("a block of the body");
    rig.disk.make_unreadable(damaged);
    rig.begin(message);
    assert!(rig.is_closing);
    assert!(!rig.written.ends_with(b"QUIT\r\n"));
    assert!(rig.written.len() < 20_000);
    assert_eq!(rig.session.attempt().unwrap().ending, Ending::Damaged);
}
