//! What changes on the way out: the reverse-path, From, Sender, and the dates of mail from before the clock
//! was set. All else stays as it is, octet by octet.
use postern::config::Config;
use postern::limits::PATH_OCTETS_MAX;
use postern::spool::Envelope;
use postern::time::{Duration, Wall};

use crate::disk::Random;
use crate::rig::{Rig, envelope};

const ME: &str = "me@example.com";
const BODY: &str = "\r\nFrom: body\r\n.dot\r\nSender: body\r\n";

/// Relays `message` in pieces of `piece` octets under `keys` of `[sender]`; what left behind our Received
/// field, transparency undone, and MAIL. The SIZE that was declared is right.
fn relayed(piece: usize, keys: &str, envelope: &Envelope, message: &str) -> (String, String) {
    let mut rig = Rig::with_blocks(piece, 256);
    let text = format!("[smarthost]\nhost = \"192.0.2.25\"\ntls = \"none\"\n[sender]\n{keys}\n");
    rig.config =
        Config::parse(&text, std::path::Path::new("postern.toml"), "relay.site.example").expect("valid");
    let message = rig.message(envelope, &["a@x.example", "b@x.example"], message.as_bytes());
    rig.hello("250-a\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE\r\n");
    rig.begin(message);
    let size: usize = rig.size().parse().expect("SIZE");
    let mail = String::from_utf8(std::mem::take(&mut rig.written)).expect("UTF-8");
    rig.say(b"250 a\r\n250 a\r\n250 a\r\n354 a\r\n");
    let sent = String::from_utf8(std::mem::take(&mut rig.written)).expect("UTF-8");
    let sent = sent.strip_suffix(".\r\n").expect("the end of mail data");
    let unstuffed: String =
        sent.split_inclusive('\n').map(|line| line.strip_prefix('.').unwrap_or(line)).collect();
    assert_eq!(unstuffed.len(), size, "SIZE is exact");
    let end = unstuffed.find("+0000\r\n").expect("our Received field") + "+0000\r\n".len();
    (mail.lines().next().expect("MAIL").to_string(), unstuffed[end..].to_string())
}

/// The message that leaves with `header_from`, whatever the pieces.
fn rewritten(header: &str) -> String {
    let keys = format!("header_from = \"{ME}\"");
    let message = format!("{header}{BODY}");
    let (mail, whole) = relayed(usize::MAX, &keys, &envelope(), &message);
    assert!(mail.starts_with("MAIL FROM:<camera@site.example> "), "{mail}");
    for piece in [1, 7] {
        assert_eq!(relayed(piece, &keys, &envelope(), &message).1, whole, "{header:?} by {piece}");
    }
    whole
}

/// The address in From is replaced, the device stays visible, and all else stays: folded, encoded, missing,
/// doubled, group-syntax, over-long, 8-bit and broken fields.
#[test]
fn from_is_replaced() {
    let long = "x".repeat(300);
    let words = "word ".repeat(60);
    let first = "word ".repeat(25);
    let cases: &[(&str, &str)] = &[
        (
            "From: camera@localhost\r\nTo: a@b.c\r\n",
            "From: \"camera@localhost\" <me@example.com>\r\nTo: a@b.c\r\n",
        ),
        (
            "To: x\r\nFROM :\r\n Front Door\r\n\tCamera <camera@localhost>\r\nsubject:y\r\n",
            "To: x\r\nFrom: \"Front Door Camera (camera@localhost)\" <me@example.com>\r\nsubject:y\r\n",
        ),
        (
            "From: =?utf-8?q?T=C3=BCr?= =?utf-8?b?dg==?= eins <c@nas.lan>\r\n",
            "From: =?utf-8?q?T=C3=BCr?= =?utf-8?b?dg==?= \"eins (c@nas.lan)\"\r\n <me@example.com>\r\n",
        ),
        ("From: T\u{fc}r <c@nas.lan>\r\n", "From: \"T\u{fc}r (c@nas.lan)\" <me@example.com>\r\n"),
        ("From: A: b@nas.lan, c@nas.lan;\r\n", "From: \"b@nas.lan\" <me@example.com>\r\n"),
        ("From: Cameras:;\r\n", "From: \"Cameras\" <me@example.com>\r\n"),
        ("From:\r\n", "From: <me@example.com>\r\n"),
        ("From: <>\r\n", "From: <me@example.com>\r\n"),
        ("From: \u{7f}\r\n", "From: <me@example.com>\r\n"),
        ("From: a\\b\"c\r\n", "From: \"a\\\\bc\" <me@example.com>\r\n"),
        ("From: Me <ME@example.com>\r\n", "From: \"Me\" <me@example.com>\r\n"),
        // One From, no Sender.
        (
            "From: a@nas.lan\r\nFrom: b\r\n folded\r\nSender: c\r\n\tfolded\r\nX: y\r\nSender : d\r\n",
            "From: \"a@nas.lan\" <me@example.com>\r\nX: y\r\n",
        ),
        (
            "Sender: root@nas.lan\r\nFrom-X: y\r\n",
            "From-X: y\r\nFrom: \"camera@site.example\" <me@example.com>\r\nReply-To: <camera@site.example>\r\n",
        ),
        // Replies go to the device's address where it can be reached.
        (
            "From: Ups <ups@example.org>, b@c.d\r\nX: y\r\n",
            "From: \"Ups (ups@example.org)\" <me@example.com>\r\nX: y\r\nReply-To: <ups@example.org>\r\n",
        ),
        (
            "Reply-to: x\r\nFrom: ups@example.org\r\n",
            "Reply-to: x\r\nFrom: \"ups@example.org\" <me@example.com>\r\n",
        ),
        ("From: x@relay.site.example\r\n", "From: \"x@relay.site.example\" <me@example.com>\r\n"),
        ("From: x@[192.0.2.1]\r\n", "From: \"x@[192.0.2.1]\" <me@example.com>\r\n"),
        (
            "From: x y@example.org\r\n",
            "From: \"xy@example.org\" <me@example.com>\r\nReply-To: <xy@example.org>\r\n",
        ),
        // Cut where it must be.
        (&format!("From: {long}@b.c\r\n"), "From: <me@example.com>\r\n"),
        (
            &format!("From: {words}<c@nas.lan>\r\n"),
            &format!("From:\r\n \"{first}(c@nas.lan)\"\r\n <me@example.com>\r\n"),
        ),
    ];
    for (header, expected) in cases {
        assert_eq!(rewritten(header), format!("{expected}{BODY}"), "{header:?}");
    }
}

/// SUB-d: a message without a header section gets one, and its text stays text; where the section ends
/// without an empty line, what is added doesn't become body, and the body doesn't become a field.
#[test]
fn bodies_stay_bodies() {
    let added = "From: \"camera@site.example\" <me@example.com>\r\nReply-To: <camera@site.example>\r\n";
    let keys = format!("header_from = \"{ME}\"");
    for (message, expected) in [
        ("disk full\r\n", format!("{added}\r\ndisk full\r\n")),
        (" disk full\r\n", format!("{added}\r\n disk full\r\n")),
        ("From me Mon\r\nFrom: x\r\n", format!("{added}\r\nFrom me Mon\r\nFrom: x\r\n")),
        ("\r\nFrom: x\r\n", format!("{added}\r\nFrom: x\r\n")),
        ("Subject: x\r\n.disk full\r\n", format!("Subject: x\r\n{added}\r\n.disk full\r\n")),
        (
            "_x: y\r\nFrom: a@nas.lan\r\n\r\n",
            "_x: y\r\nFrom: \"a@nas.lan\" <me@example.com>\r\n\r\n".to_string(),
        ),
        ("", added.to_string()),
        ("\r\n", format!("{added}\r\n")),
    ] {
        for piece in [1, usize::MAX] {
            assert_eq!(relayed(piece, &keys, &envelope(), message).1, expected, "{message:?}");
        }
    }
}

/// A header section without an end is not read for ever: it leaves as it came.
#[test]
fn an_endless_header_section_leaves_as_it_came() {
    let keys = format!("header_from = \"{ME}\"");
    let message = format!("From: a@nas.lan\r\n{}", "X: y\r\n".repeat(50_000));
    let mut rig = Rig::with_blocks(usize::MAX, 256);
    rig.config.sender_header_from = Some(ME.to_string());
    let index = rig.message(&envelope(), &["a@x.example"], message.as_bytes());
    rig.hello("250-a\r\n250 PIPELINING\r\n");
    rig.begin(index);
    rig.say(b"250 a\r\n250 a\r\n");
    rig.written.clear();
    rig.say(b"354 a\r\n");
    rig.trace("behind 354");
    assert!(rig.written == format!("{message}.\r\n").as_bytes(), "it has changed");
    let short = message.replace(&"X: y\r\n".repeat(25_000), "");
    assert!(relayed(usize::MAX, &keys, &envelope(), &short).1.starts_with("From: \"a@nas.lan\" <me@"));
}

/// SEED-7.2-b, B-6.1-c: the reverse-path is replaced where that is asked for, and stays null where it is;
/// without the keys nothing changes.
#[test]
fn the_reverse_path_is_replaced() {
    let message = format!("From: a@nas.lan\r\nSender: b\r\n{BODY}");
    let mut null = envelope();
    null.reverse_path.clear();
    for (keys, envelope, expected) in [
        ("envelope = \"me@example.com\"", envelope(), "MAIL FROM:<me@example.com> SIZE="),
        ("envelope = \"me@example.com\"", null, "MAIL FROM:<> SIZE="),
        ("", envelope(), "MAIL FROM:<camera@site.example> SIZE="),
    ] {
        let (mail, left) = relayed(7, keys, &envelope, &message);
        assert!(mail.starts_with(expected), "{mail}");
        assert_eq!(left, message);
    }
    let long = format!("{}@site.example", "x".repeat(PATH_OCTETS_MAX - 16));
    let mut unsendable = envelope();
    unsendable.reverse_path = heapless::Vec::from_slice(long.as_bytes()).unwrap();
    assert!(relayed(7, "envelope = \"me@example.com\"", &unsendable, &message).0.contains("<me@"));
}

/// C-4.5.4.1-g, HDR-a, HDR-c, SUB-a: what came while the clock said 1970 has the right dates when it leaves:
/// ours in Received, and Date where our own device sent none; as long as nobody knows, none is added.
#[test]
fn dates_from_before_the_clock_was_set() {
    let date = "Date: Tue, 24 Nov 2026 08:58:20 +0000\r\n";
    let without = "Subject: x\r\n\r\nbody\r\n";
    let with = "Date: now\r\n\r\nbody\r\n";
    let relayed = "Received: from x\r\nSubject: x\r\n\r\nbody\r\n";
    for (is_submission, is_set, message, expected) in [
        (true, true, without, format!("Subject: x\r\n{date}\r\nbody\r\n")),
        (true, true, with, with.to_string()),
        (true, true, relayed, relayed.to_string()),
        (true, true, "body text\r\n", format!("{date}\r\nbody text\r\n")),
        (false, true, without, without.to_string()),
        (true, false, without, without.to_string()),
    ] {
        let mut rig = Rig::new(7);
        let mut envelope = envelope();
        envelope.is_submission = is_submission;
        envelope.arrival = Wall { unix_s: 30, is_trusted: false };
        let message = rig.message(&envelope, &["a@x.example"], message.as_bytes());
        rig.now.instant = rig.now.instant + Duration::from_min(4);
        rig.now.wall = Wall { unix_s: if is_set { 1_795_510_940 } else { 270 }, is_trusted: is_set };
        rig.hello("250-a\r\n250-PIPELINING\r\n250 SIZE\r\n");
        rig.begin(message);
        let size: usize = rig.size().parse().unwrap();
        rig.say(b"250 a\r\n250 a\r\n");
        rig.written.clear();
        rig.say(b"354 a\r\n");
        let sent = String::from_utf8(std::mem::take(&mut rig.written)).unwrap();
        assert_eq!(sent.len() - ".\r\n".len(), size);
        let (trace, rest) = sent.split_once("+0000\r\n").unwrap();
        let arrival = if is_set { "Tue, 24 Nov 2026 08:58:20 " } else { "Thu, 01 Jan 1970 00:00:30 " };
        assert!(trace.ends_with(arrival), "{trace}");
        assert_eq!(rest, format!("{expected}.\r\n"));
    }
}

/// Whatever stands in a message, in whatever pieces it moves: its body and its other fields stay octet by
/// octet, there is one From, and no line is too long (C-4.5.3.1.6-a).
#[test]
fn the_rest_stays_whatever_stands_there() {
    const WORDS: &[&str] = &[
        "From: ",
        "from :",
        "Sender:",
        "Reply-To: ",
        "Date:",
        "X: ",
        "\r\n",
        "\r\n ",
        "\r\n\t",
        "\"",
        "(",
        ")",
        "<",
        ">",
        ",",
        ";",
        ":",
        "\\",
        "@",
        "a@b.c",
        "camera@localhost",
        "=?utf-8?q?x?=",
        "=?u?b?",
        "\u{e4}",
        " ",
        ".",
        "[1]",
        "Front Door",
        "\u{1}",
        "\r\n\r\n",
        "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
    ];
    let keys = format!("header_from = \"{ME}\"");
    for seed in 0..400 {
        let mut random = Random(seed);
        let count = random.below(60);
        let mut message: String = (0..count).map(|_| WORDS[random.below(WORDS.len())]).collect();
        message.push_str("\r\n");
        let piece = [1, 3, 50, 1000, usize::MAX][random.below(5)];
        let (_, left) = relayed(piece, &keys, &envelope(), &message);
        assert_eq!(left, relayed(usize::MAX, &keys, &envelope(), &message).1, "seed {seed}, by {piece}");
        let (kept, body) = judged(&message);
        let (mut left_kept, left_body) = judged(&left);
        assert_eq!(
            left_body.trim_start_matches("\r\n"),
            body.trim_start_matches("\r\n"),
            "seed {seed}: {message:?}"
        );
        let is_from = |field: &String| field.starts_with("From: ") || field.starts_with("From:\r\n");
        let froms: Vec<_> = left_kept.iter().filter(|field| is_from(field)).cloned().collect();
        assert_eq!(froms.len(), 1, "seed {seed}: {left:?}");
        assert!(froms[0].contains(&format!(" <{ME}>\r\n")), "seed {seed}: {left:?}");
        assert!(froms[0].split("\r\n").all(|line| line.len() <= 998));
        left_kept.retain(|field| !is_from(field));
        let had_reply_to = kept.iter().any(|field| named(field, "reply-to"));
        if !had_reply_to {
            left_kept.retain(|field| !named(field, "reply-to"));
        }
        assert_eq!(left_kept, kept, "seed {seed}: {message:?} -> {left:?}");
    }
}

fn named(field: &str, name: &str) -> bool {
    field.split(':').next().unwrap_or_default().trim_end().eq_ignore_ascii_case(name)
}

/// A message's fields but From and Sender, each with its folded lines, and what comes behind them: read line
/// by line, in another way than the relay reads it.
fn judged(message: &str) -> (Vec<String>, String) {
    let mut fields: Vec<String> = Vec::new();
    let mut rest = message;
    while !rest.is_empty() && !rest.starts_with("\r\n") {
        let (line, behind) = rest.split_at(rest.find('\n').map_or(rest.len(), |at| at + 1));
        let name = line.split_once(':').map(|(name, _)| name.trim_end_matches([' ', '\t']));
        let is_name =
            name.is_some_and(|name| !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic()));
        match fields.last_mut() {
            Some(field) if line.starts_with([' ', '\t']) => field.push_str(line),
            // A line that begins with a name of more than 78 octets is a field in a header section only.
            None if name.is_some_and(|name| name.len() > 78) => break,
            _ if is_name && !line.starts_with([' ', '\t']) => fields.push(line.to_string()),
            _ => break,
        }
        rest = behind;
    }
    fields.retain(|field| {
        !named(field, "sender") && (!named(field, "from") || field.contains(&format!("<{ME}>")))
    });
    (fields, rest.to_string())
}
