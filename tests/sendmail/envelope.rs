//! The envelope and the fields, by RFC 2821 appendix B.

use crate::world::{Arrived, World, user};

/// SEED-B-1, SEED-B-7: the fields' text and the recipients that it names, in order.
#[test]
fn recipients_of_fields() {
    let world = World::started("recipients", "");
    let table: &[(&str, &[&str])] = &[
        ("To: a@x.example\n", &["a@x.example"]),
        (
            "to : a@x.example\nCC: b@x.example\nbcc: c@x.example\n",
            &["a@x.example", "b@x.example", "c@x.example"],
        ),
        ("To: a@x.example,\n b@x.example,\n\tc@x.example\n", &["a@x.example", "b@x.example", "c@x.example"]),
        ("To: a@x.example\nTo: b@x.example\n", &["a@x.example", "b@x.example"]),
        (
            "To: G: a@x.example, B <b@x.example>;, c@x.example\n",
            &["a@x.example", "b@x.example", "c@x.example"],
        ),
        ("To: undisclosed-recipients:;\nBcc: a@x.example\n", &["a@x.example"]),
        ("To: a@x.example (Doe, J (x@y.example))\n", &["a@x.example"]),
        ("To: \"Doe, J <x@y.example>\" <a@x.example>\n", &["a@x.example"]),
        ("To: =?utf-8?q?Doe,_J?= <a@x.example>\n", &["a@x.example"]),
        ("To: <@r.example,@s.example:a@x.example>\n", &["a@x.example"]),
        ("To: \"a b\"@x.example\n", &["\"a b\"@x.example"]),
        (
            "To: a@x.example, A <a@X.EXAMPLE>\nCc: (again) a@x.example, A@x.example\n",
            &["a@x.example", "A@x.example"],
        ),
        ("To: root, ups (The UPS)\n", &["admin@example.org"]),
        ("Date: 24 Nov 2026 09:00 +0000\nTo: a@x.example\n", &["a@x.example"]),
        ("From root Tue Nov 24\nTo: a@x.example\n", &["a@x.example"]),
        // RFC 5322 3.6.6: who sends it on decides; an earlier sending is over.
        (
            "Resent-To: a@x.example\nResent-Bcc: b@x.example\nResent-To: old@x.example\nTo: c@x.example\n",
            &["a@x.example", "b@x.example"],
        ),
        ("Resent-From: a@x.example\nTo: c@x.example\n", &["c@x.example"]),
    ];
    for (fields, recipients) in table {
        let arrived = world.sent(&["-t"], format!("{fields}Subject: x\n\nx\n").as_bytes());
        let mut found = arrived.to.clone();
        // Two local names have one mailbox.
        found.dedup();
        assert_eq!(found, *recipients, "{fields}");
    }
    let arrived = world.sent(&["-t", "b@x.example, A <a@x.example>"], b"To: a@x.example, c@x.example\n\nx\n");
    assert_eq!(arrived.to, ["b@x.example", "a@x.example", "c@x.example"]);
    // Without -t the fields name nobody.
    assert_eq!(world.sent(&["b@x.example"], b"To: a@x.example\n\nx\n").to, ["b@x.example"]);
}

/// SEED-B-7: a broken address is told with its field, and nobody gets the message.
#[test]
fn broken_addresses_are_told() {
    let world = World::started("broken", "");
    for (fields, told) in [
        ("To: a@x.example, John Doe\n", "To: \"John Doe\": no address"),
        ("To: a@x.example\nCc: b@x.example c@x.example\n", "Cc: \"b@x.example c@x.example\": no address"),
        ("Bcc: a@x..example\n", "Bcc: \"a@x..example\": no address"),
        ("To: a@x.example; b@x.example\n", "To: \"a@x.example; b@x.example\": no address"),
        ("To: <a@x.example\n", "To: \"<a@x.example\": no address"),
        ("To: a@x.example (never closed\n", "To: \"a@x.example (never closed\": no address"),
        ("Resent-To: <>\nTo: a@x.example\n", "Resent-To: \"<>\": no address"),
        ("Subject: x\n", "no recipient is named in To, Cc or Bcc, or on the command line"),
        ("To: undisclosed-recipients:;\n", "no recipient is named in To, Cc or Bcc, or on the command line"),
    ] {
        let ended = world.sendmail(&["-t"], format!("{fields}\nx\n").as_bytes());
        assert_eq!((ended.code, ended.stderr), (65, format!("postern: {told}\n")), "{fields}");
    }
    let long = format!("To: {}@x.example\n\nx\n", "l".repeat(65));
    let ended = world.sendmail(&["-t"], long.as_bytes());
    assert!(ended.code == 65 && ended.stderr.ends_with(": longer than an address may be\n"), "{ended:?}");
    world.assert_quiet();
}

/// SEED-B-2, SEED-B-3: blind copies don't show, and an empty Bcc stands for recipients that no field names.
#[test]
fn blind_copies() {
    let world = World::started("blind", "");
    let table = [
        ("To: a@x.example\nBcc: b@x.example,\n  c@x.example\nbCC : d@x.example\nSubject: x\n", None),
        ("Cc: a@x.example\nBcc: b@x.example\n", None),
        ("Bcc: b@x.example\nSubject: x\n", Some("")),
        ("Resent-To: b@x.example\nResent-Bcc: c@x.example\nTo: a@x.example\n", None),
    ];
    for (fields, bcc) in table {
        let arrived = world.sent(&["-t"], format!("{fields}\nBcc: body@x.example\n").as_bytes());
        assert_eq!(arrived.fields("Bcc"), bcc.into_iter().collect::<Vec<_>>(), "{fields}");
        assert!(arrived.fields("Resent-Bcc").is_empty());
        let header = arrived.header();
        assert!(!["c@x.example", "d@x.example"].iter().any(|hidden| header.contains(hidden)), "{header}");
        assert_eq!(arrived.body(), "Bcc: body@x.example\r\n");
    }
    // The same where the envelope comes from the command line.
    let arrived = world.sent(&["a@x.example"], b"Bcc: b@x.example\nSubject: x\n\nx\n");
    assert_eq!((arrived.to, arrived.data.contains("b@x.example")), (vec!["a@x.example".to_owned()], false));
}

/// SEED-B-4, SEED-B-5: the return path and Sender are the user's, whatever From says; with `-f` the user has
/// said who sends, and Sender stays as it is.
#[test]
fn the_users_identity() {
    let world = World::started("identity", "");
    let me = format!("{}@box.example", user());
    let path = format!("<{me}>");
    let with = |from: &str, sender: &str| {
        let fields = format!("{from}{sender}To: a@x.example\nSubject: x\n\nx\n");
        world.sent(&["-t"], fields.as_bytes())
    };
    let old = "Sender: old@y.example\n";
    let is = |arrived: &Arrived, from: &str, sender: Option<&str>| {
        assert!(arrived.from.starts_with(&path), "{}", arrived.from);
        assert_eq!(arrived.fields("From"), [from]);
        assert_eq!(arrived.fields("Sender"), sender.into_iter().collect::<Vec<_>>());
    };
    is(&with("From: You <you@y.example>\n", ""), "You <you@y.example>", Some(&me));
    is(&with("From: You <you@y.example>\n", old), "You <you@y.example>", Some(&me));
    is(&with("From: a@y.example, b@y.example\n", old), "a@y.example, b@y.example", Some(&me));
    is(&with("From: nonsense in here\n", old), "nonsense in here", Some(&me));
    for mine in
        [&me, &format!("Me ({me}) <{me}>"), &format!("{} (Cron Daemon)", user()), &me.replace("box", "BOX")]
    {
        is(&with(&format!("From: {mine}\n"), old), mine, None);
    }
    is(&with("", old), &me, None);
    // What was sent on stays as it came.
    is(
        &with("Resent-From: you@y.example\nFrom: you@y.example\n", old),
        "you@y.example",
        Some("old@y.example"),
    );

    let given = world.sent(&["-t", "-f", "ups@y.example"], b"From: you@y.example\nTo: a@x.example\n\nx\n");
    assert!(given.from.starts_with("<ups@y.example>"), "{}", given.from);
    assert!(given.fields("Sender").is_empty());
    let null = world.sent(&["-f", "<>", "a@x.example"], b"From: you@y.example\n\nx\n");
    assert!(null.from.starts_with("<>"), "{}", null.from);
}

/// Unqualified names get the configured domain.
#[test]
fn the_domain_completes() {
    let world = World::started("domain", "");
    let config = world.folder.join("postern.toml");
    let text = std::fs::read_to_string(&config).expect("it is there");
    std::fs::write(&config, format!("domain = \"site.example\"\n{text}")).expect("it is ours");
    let arrived = world.sent(&["-f", "ups", "a@x.example"], b"Subject: x\n\nx\n");
    assert!(arrived.from.starts_with("<ups@site.example>"), "{}", arrived.from);
    assert_eq!(arrived.fields("From"), ["ups@site.example"]);
}

/// What a message lacks is added, and nothing that is there is changed.
#[test]
fn what_is_missing_is_added() {
    let world = World::started("missing", "[quirks]\nmissing_fields = false");
    let me = format!("{}@box.example", user());
    let bare = world.sent(&["a@x.example"], b"disk full: 99 %\n");
    assert_eq!(bare.body(), "disk full: 99 %\r\n");
    let bare = world.sent(&["-F", "The \"UPS\"", "a@x.example"], b"the disk is full\n");
    assert_eq!(bare.body(), "the disk is full\r\n");
    assert_eq!(bare.fields("From"), [format!("\"The \\\"UPS\\\"\" <{me}>")]);
    assert_eq!((bare.fields("Date").len(), bare.fields("Message-ID").len()), (1, 1));
    let named = world.sent(&["-FJürgen", "a@x.example"], b"\nx\n");
    assert_eq!(named.fields("From"), [format!("=?utf-8?B?SsO8cmdlbg==?= <{me}>")]);
    let whole = "Date: Tue, 24 Nov 2026 09:00:00 +0000\nMessage-ID: <1@x>\nTo: a@x.example\n";
    let whole = format!("{whole}From: {me}\nX-Empty:\nSubject: =?utf-8?q?=C3=BC?=\n  folded\n");
    let arrived = world.sent(&["-t", "-FNobody"], format!("{whole}\nx\n").as_bytes());
    assert_eq!(format!("{}\r\n", arrived.header()), whole.replace('\n', "\r\n"));
}
