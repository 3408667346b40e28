//! Notices of failure, through the whole relay: who is told, of what, how often, and that nothing is left.
mod disk;
#[path = "notices/world.rs"]
mod world;

use postern::queue::{NOTICES_AN_HOUR_MAX, NOTICES_TO_ONE_AN_HOUR_MAX};
use postern::time::Duration;
use world::{Arrived, Notice, World, refusing, yes};

const NO_ADMIN: &str = "hostname = \"relay.site.example\"\n";
const REFUSED: &[(&str, &str)] = &[("RCPT TO:<a@x.example>", "550 5.1.1 no such user")];

/// What came to the smarthost, by its recipients.
fn to(world: &World) -> Vec<&str> {
    world.arrived.iter().flat_map(|arrived| arrived.recipients.iter().map(String::as_str)).collect()
}

/// Those of the arrived that are notices.
fn notices(world: &World) -> Vec<&Arrived> {
    world.arrived.iter().filter(|arrived| arrived.text().contains("multipart/report")).collect()
}

/// B-6.1-a, B-6.1-b, B-6.1-d, B-3464-a to -d, B-3834-a: a refused recipient is told to the reverse-path
/// through the same smarthost, and the spool is empty afterwards.
#[test]
fn one_recipient_refused() {
    let mut world = World::new(refusing(&[("RCPT TO:<a@x.example>", "550 5.1.1 no such user")]));
    world.alert("<@hop.example:ups@example.com>", &["<a@x.example>"]);
    world.run();
    assert_eq!(world.arrived.len(), 1);
    let arrived = &world.arrived[0];
    assert_eq!(arrived.mail, "<> BODY=8BITMIME");
    assert_eq!(arrived.recipients, ["<ups@example.com>"]);
    let notice = Notice::of(arrived);
    for field in [
        "From: Mail relay <MAILER-DAEMON@relay.site.example>\r\n",
        "To: <ups@example.com>\r\n",
        "Subject: Undelivered mail\r\n",
        "Date: Tue, 24 Nov 2026 09:00:00 +0000\r\n",
        "References: <1@ups>\r\n",
        "Auto-Submitted: auto-replied\r\n",
        "MIME-Version: 1.0\r\n",
        "Content-Type: multipart/report; report-type=delivery-status;",
    ] {
        assert!(notice.header.contains(field), "{field} in {}", notice.header);
    }
    assert!(notice.text.contains("<a@x.example>") && notice.text.contains("550 5.1.1 no such user"));
    assert_eq!(notice.status.len(), 2);
    assert_eq!(notice.field(0, "Reporting-MTA"), Some("dns; relay.site.example"));
    assert_eq!(notice.field(0, "Arrival-Date"), Some("Tue, 24 Nov 2026 09:00:00 +0000"));
    assert_eq!(notice.field(0, "Original-Envelope-Id"), None);
    assert_eq!(notice.field(1, "Original-Recipient"), None);
    assert_eq!(notice.field(1, "Final-Recipient"), Some("rfc822; a@x.example"));
    assert_eq!(notice.field(1, "Action"), Some("failed"));
    assert_eq!(notice.field(1, "Status"), Some("5.1.1"));
    assert_eq!(notice.field(1, "Remote-MTA"), Some("dns; [192.0.2.25]"));
    assert_eq!(notice.field(1, "Diagnostic-Code"), Some("smtp; 550 5.1.1 no such user"));
    assert_eq!(notice.returned, "Subject: on battery\r\nMessage-ID: <1@ups>\r\n");
    world.expect_empty();
}

/// B-6.1-e: one notice tells of all recipients that failed, each with its own reason, and of nobody else.
#[test]
fn several_recipients_refused() {
    let mut world = World::new(refusing(&[
        ("RCPT TO:<a@", "550 5.1.1 no such user"),
        ("RCPT TO:<c@", "551 not here"),
        ("RCPT TO:<d@", "550 5.1.1 no such user"),
    ]));
    world.alert("<ups@example.com>", &["<a@x.example>", "<b@x.example>", "<c@x.example>", "<d@x.example>"]);
    world.run();
    assert_eq!(to(&world), ["<b@x.example>", "<ups@example.com>"]);
    let notice = Notice::of(&world.arrived[1]);
    let told: Vec<_> = (1..notice.status.len()).map(|at| notice.field(at, "Final-Recipient")).collect();
    assert_eq!(told, [Some("rfc822; a@x.example"), Some("rfc822; c@x.example"), Some("rfc822; d@x.example")]);
    assert_eq!(notice.field(2, "Status"), Some("5.0.0"));
    assert_eq!(notice.field(2, "Diagnostic-Code"), Some("smtp; 551 not here"));
    assert!(!world.arrived[1].text().contains("b@x.example"));
    world.expect_empty();
}

/// B-6.1-e, S-4.4-k: a recipient that fails while another waits is told of at once; the other is tried on,
/// and when it fails too, there is a second notice about it alone.
#[test]
fn partly_failed_partly_deferred() {
    let mut world = World::new(refusing(&[
        ("RCPT TO:<a@x.example>", "550 5.1.1 no such user"),
        ("RCPT TO:<b@x.example>", "451 4.7.1 later"),
    ]));
    world.alert("<ups@example.com>", &["<a@x.example>", "<b@x.example>"]);
    world.run();
    assert_eq!(to(&world), ["<ups@example.com>"]);
    assert_eq!(Notice::of(&world.arrived[0]).status.len(), 2);
    world.policy = refusing(&[("RCPT TO:<b@x.example>", "550 5.7.1 never")]);
    world.pass(Duration::from_min(240));
    assert_eq!(to(&world), ["<ups@example.com>", "<ups@example.com>"]);
    let second = Notice::of(&world.arrived[1]);
    assert_eq!(second.status.len(), 2);
    assert_eq!(second.field(1, "Final-Recipient"), Some("rfc822; b@x.example"));
    world.expect_empty();
}

/// B-6.1-a: MAIL, DATA and the mail data may be what is refused; a message that can't be sent to this
/// smarthost at all has no upstream reply to show (B-3464-c).
#[test]
fn refused_at_each_step() {
    for (step, reply) in
        [("MAIL FROM:<u", "554 5.7.1 no"), ("DATA", "554 5.7.1 no"), (".", "554 5.7.1 no"), ("SIZE", "")]
    {
        let mut world = World::new(Box::new(yes_but(step, reply)));
        if step == "SIZE" {
            world.extensions = vec!["SIZE 10"];
        }
        world.alert("<ups@example.com>", &["<a@x.example>", "<b@x.example>"]);
        world.run();
        assert_eq!(to(&world), ["<ups@example.com>"], "{step}");
        let notice = Notice::of(&world.arrived[0]);
        assert_eq!(notice.status.len(), 3, "{step}");
        if step == "SIZE" {
            assert_eq!(notice.field(1, "Status"), Some("5.3.4"));
            assert_eq!(notice.field(1, "Remote-MTA"), None);
            assert!(notice.field(1, "Diagnostic-Code").is_some_and(|code| code.starts_with("x-postern; ")));
        } else {
            assert_eq!(notice.field(2, "Diagnostic-Code"), Some("smtp; 554 5.7.1 no"), "{step}");
        }
        world.expect_empty();
    }
}

/// A policy that refuses once what begins like `step`.
fn yes_but(step: &'static str, reply: &'static str) -> impl FnMut(&str, &Arrived) -> String {
    let mut is_over = false;
    move |line, _| {
        if is_over || step == "SIZE" || !line.starts_with(step) {
            return yes(line);
        }
        is_over = true;
        reply.to_string()
    }
}

/// B-6.1-c, C-4.5.4-a: a failure with a null reverse-path is told to `admin`, once; one of a message that
/// says it is a notice itself, to nobody. A success is never told.
#[test]
fn null_reverse_path() {
    let mut world = World::new(refusing(REFUSED));
    world.alert("<>", &["<a@x.example>"]);
    world.pass(Duration::from_min(120));
    assert_eq!((world.tried, to(&world)), (2, vec!["<admin@example.com>"]));
    assert!(world.arrived[0].mail.starts_with("<>"));
    assert_eq!(Notice::of(&world.arrived[0]).field(1, "Final-Recipient"), Some("rfc822; a@x.example"));
    world.expect_empty();
    let mut world = World::with(NO_ADMIN, 64, refusing(REFUSED));
    world.alert("<>", &["<a@x.example>"]);
    world.run();
    assert_eq!((world.tried, world.arrived.len()), (1, 0));
    world.expect_empty();
    // The field may stand in a later block.
    let fields = format!("X: {}\r\n", "y".repeat(70)).repeat(100);
    for field in [
        "Auto-Submitted: auto-replied",
        "Content-Type: multipart/report; report-type=delivery-status",
        "Precedence: bulk",
    ] {
        for before in ["", fields.as_str()] {
            let mut world = World::new(refusing(REFUSED));
            let data = format!("{before}{field}\r\n\r\nx\r\n");
            let replies = world.submit("<>", &["<a@x.example>"], &data);
            assert!(replies.last().unwrap().starts_with("250"), "{replies:?}");
            world.run();
            assert_eq!((world.tried, world.arrived.len()), (1, 0), "{field}");
            world.expect_empty();
        }
    }
}

/// B-3464-c: of several smarthosts the one that spoke may not be the one that takes the notice: none is
/// named.
#[test]
fn several_smarthosts() {
    let second = "[[smarthost]]\nhost = \"192.0.2.26\"\ntls = \"none\"\n";
    let mut world = World::with_another(second, refusing(REFUSED));
    world.alert("<ups@example.com>", &["<a@x.example>"]);
    world.run();
    assert_eq!(to(&world), ["<ups@example.com>"]);
    let notice = Notice::of(&world.arrived[0]);
    assert_eq!(notice.field(1, "Remote-MTA"), None);
    assert_eq!(notice.field(1, "Diagnostic-Code"), Some("smtp; 550 5.1.1 no such user"));
    assert!(notice.text.replace("\r\n    ", " ").contains("The answer of the smarthost was:"));
    assert!(!world.arrived[0].text().contains("192.0.2.2"));
    world.expect_empty();
}

/// A reverse-path that only the site knows would be refused: `admin` is told, or nobody where there is none.
#[test]
fn local_reverse_paths_go_to_admin() {
    for path in ["camera@localhost", "camera@nas", "camera@door.lan", "root@relay.site.example"] {
        let mut world = World::new(refusing(REFUSED));
        world.alert(&format!("<{path}>"), &["<a@x.example>"]);
        world.run();
        assert_eq!(to(&world), ["<admin@example.com>"], "{path}");
        assert!(Notice::of(&world.arrived[0]).header.contains("To: <admin@example.com>\r\n"));
        world.expect_empty();
        let mut world = World::with(NO_ADMIN, 64, refusing(REFUSED));
        world.alert(&format!("<{path}>"), &["<a@x.example>"]);
        world.run();
        assert!(world.arrived.is_empty(), "{path}");
        world.expect_empty();
    }
}

/// A smarthost that refuses the null reverse-path (SES does) gets the notice from `admin`; without one the
/// notice dies (B-3834-b).
#[test]
fn refused_null_reverse_path() {
    const SES: &[(&str, &str)] =
        &[("MAIL FROM:<>", "501 5.1.7 Invalid MAIL FROM address"), ("RCPT TO:<a@x", "550 no")];
    for extensions in [vec![], vec!["PIPELINING"], vec!["PIPELINING", "DSN"]] {
        let mut world = World::new(refusing(SES));
        world.extensions.clone_from(&extensions);
        world.alert("<ups@example.com>", &["<a@x.example>"]);
        world.run();
        assert_eq!(world.arrived.len(), 1, "{extensions:?}");
        assert_eq!(world.arrived[0].mail, "<admin@example.com>");
        // It is never noticed itself: the smarthost is told so where it can be.
        let is_quiet = extensions.contains(&"DSN");
        let expected = if is_quiet { "<ups@example.com> NOTIFY=NEVER" } else { "<ups@example.com>" };
        assert_eq!(world.arrived[0].recipients, [expected]);
        assert!(Notice::of(&world.arrived[0]).header.contains("Auto-Submitted: auto-replied\r\n"));
        assert_eq!(world.tried, 3);
        world.expect_empty();
    }
    let mut world = World::with(NO_ADMIN, 64, refusing(SES));
    world.alert("<ups@example.com>", &["<a@x.example>"]);
    world.run();
    assert_eq!((world.tried, world.arrived.len()), (2, 0));
    world.expect_empty();
}

/// U8-c, B-3464-b (RFC 6533): an address beyond ASCII is told in ASCII, and for people as it is; a notice
/// goes to such an address where the smarthost offers SMTPUTF8, else to `admin`.
#[test]
fn addresses_beyond_ascii() {
    const REFUSED: &[(&str, &str)] = &[("RCPT TO:<\u{e4}+b@x.example>", "550 5.1.1 no such user")];
    for (extensions, from, mail, told, code) in [
        (
            vec!["PIPELINING", "8BITMIME", "SMTPUTF8"],
            "ups@example.com",
            "<> BODY=8BITMIME",
            "<ups@example.com>",
            "smtp; 550 5.1.1 no such user",
        ),
        (
            vec!["PIPELINING", "8BITMIME", "SMTPUTF8"],
            "\u{f6}@example.com",
            "<> BODY=8BITMIME SMTPUTF8",
            "<\u{f6}@example.com>",
            "smtp; 550 5.1.1 no such user",
        ),
        (
            vec!["8BITMIME"],
            "\u{f6}@example.com",
            "<> BODY=8BITMIME",
            "<admin@example.com>",
            "x-postern; 5.6.7 the smarthost does not offer SMTPUTF8",
        ),
        (
            vec![],
            "ups@example.com",
            "<>",
            "<ups@example.com>",
            "x-postern; 5.6.7 the smarthost does not offer SMTPUTF8",
        ),
    ] {
        let mut world = World::new(refusing(REFUSED));
        world.extensions.clone_from(&extensions);
        world.alert(&format!("<{from}> SMTPUTF8"), &["<\u{e4}+b@x.example>"]);
        world.run();
        assert_eq!(to(&world), [told], "{extensions:?}");
        assert_eq!(world.arrived[0].mail, mail);
        let notice = Notice::of(&world.arrived[0]);
        assert!(notice.header.contains(&format!("To: {told}\r\n")), "{}", notice.header);
        assert_eq!(notice.field(1, "Final-Recipient"), Some("utf-8; \\x{E4}\\x{2B}b@x.example"));
        assert_eq!(notice.field(1, "Diagnostic-Code"), Some(code));
        let shown =
            if extensions.is_empty() { "<\\x{E4}\\x{2B}b@x.example>" } else { "<\u{e4}+b@x.example>" };
        assert!(notice.text.contains(shown), "{}", notice.text);
        world.expect_empty();
    }
    // One so long that its other form would be too long is told with question marks.
    let long = format!("{}@{}.example", "\u{e4}".repeat(32), "\u{e4}.".repeat(50).trim_end_matches('.'));
    let mut world = World::new(refusing(&[("RCPT TO:<\u{e4}", "550 no")]));
    world.extensions = vec!["8BITMIME", "SMTPUTF8"];
    world.alert("<ups@example.com> SMTPUTF8", &[&format!("<{long}>")]);
    world.run();
    let notice = Notice::of(&world.arrived[0]);
    let told: String =
        long.bytes().map(|octet| if octet.is_ascii() { char::from(octet) } else { '?' }).collect();
    assert_eq!(notice.field(1, "Final-Recipient"), Some(format!("utf-8; {told}").as_str()));
}

/// A smarthost that knows one sender only, as SES with one verified address: with its address as
/// `sender.envelope` and `sender.header_from` the first alert of a camera leaves, and the notice, too.
#[test]
fn a_smarthost_that_knows_one_sender() {
    let ses = |line: &str, arrived: &Arrived| {
        let is_verified = arrived.text().contains("<me@example.com>\r\n");
        match line {
            "MAIL FROM:<>" => "501 5.1.7 Invalid MAIL FROM address provided".to_string(),
            "RCPT TO:<a@x.example>" => "550 5.1.1 no such user".to_string(),
            "." if !is_verified => "554 Message rejected: Email address is not verified.".to_string(),
            _ if line.starts_with("MAIL FROM:") && !line.starts_with("MAIL FROM:<me@example.com>") => {
                "554 Message rejected: Email address is not verified.".to_string()
            }
            _ => yes(line),
        }
    };
    let keys = "admin = \"admin@example.com\"\nsender.envelope = \"me@example.com\"\n\
                sender.header_from = \"me@example.com\"\n";
    let mut world = World::with(keys, 64, Box::new(ses));
    world.alert("<camera@localhost>", &["<a@x.example>", "<b@x.example>"]);
    world.run();
    assert_eq!(to(&world), ["<b@x.example>", "<admin@example.com>"]);
    assert_eq!(world.arrived[0].mail, "<me@example.com>");
    let from = "From: \"camera@localhost\" <me@example.com>\r\n";
    assert!(world.arrived[0].text().contains(from), "{}", world.arrived[0].text());
    assert_eq!(world.arrived[1].mail, "<me@example.com> BODY=8BITMIME");
    let header = Notice::of(&world.arrived[1]).header;
    assert!(header.contains("From: Mail relay <me@example.com>\r\n"), "{header}");
    assert!(header.contains("Auto-Submitted: auto-replied\r\n"), "{header}");
    world.expect_empty();
}

/// B-3834-b: a notice that is refused for good dies, whichever command is refused.
#[test]
fn a_refused_notice_dies_quietly() {
    for rules in [
        &[("RCPT TO:", "550 5.1.1 no such user")][..],
        &[("RCPT TO:<a@x", "550 no"), ("DATA", "554 no")],
        &[("RCPT TO:<a@x", "550 no"), (".", "554 no")],
        &[("MAIL FROM:", "550 5.7.1 no")],
    ] {
        let mut world = World::new(refusing(rules));
        world.alert("<ups@example.com>", &["<a@x.example>"]);
        world.run();
        assert!(world.arrived.is_empty());
        assert!(world.tried <= 3, "{}", world.tried);
        world.expect_empty();
    }
}

/// A notice that is deferred waits like any mail, and has an end like any mail.
#[test]
fn a_deferred_notice_waits_and_expires() {
    const LATER: &[(&str, &str)] = &[("RCPT TO:<a@x", "550 no"), ("RCPT TO:<ups", "451 4.2.1 greylisted")];
    let mut world = World::new(refusing(LATER));
    world.alert("<ups@example.com>", &["<a@x.example>"]);
    world.pass(Duration::from_min(120));
    assert!(world.arrived.is_empty() && world.tried > 3);
    world.policy = refusing(REFUSED);
    world.pass(Duration::from_min(240));
    assert_eq!(to(&world), ["<ups@example.com>"]);
    world.expect_empty();

    let mut world = World::new(refusing(LATER));
    world.alert("<ups@example.com>", &["<a@x.example>"]);
    world.pass(Duration::from_min(47 * 60));
    assert_eq!(world.relay.spool().messages().count(), 1);
    world.pass(Duration::from_min(4 * 60));
    assert!(world.arrived.is_empty());
    world.expect_empty();
}

/// A notice that the smarthost keeps deferring does not hold up the message's other recipients.
#[test]
fn a_deferred_notice_holds_nobody_up() {
    let mut world = World::new(refusing(&[
        ("RCPT TO:<a@x", "550 no"),
        ("RCPT TO:<b@x", "451 later"),
        ("RCPT TO:<ups", "451 greylisted"),
    ]));
    world.alert("<ups@example.com>", &["<a@x.example>", "<b@x.example>"]);
    world.run();
    world.policy = refusing(&[("RCPT TO:<ups", "451 greylisted")]);
    world.pass(Duration::from_min(240));
    assert_eq!(to(&world), ["<b@x.example>"]);
    world.policy = refusing(&[]);
    world.pass(Duration::from_min(240));
    assert_eq!(to(&world), ["<b@x.example>", "<ups@example.com>"]);
    world.expect_empty();
}

/// A smarthost that closes at each null reverse-path: the message's other recipients get it all the same.
#[test]
fn a_notice_that_breaks_the_route_holds_nobody_up() {
    let mut is_first = true;
    let mut world = World::new(Box::new(move |line, _| match line {
        "RCPT TO:<a@x.example>" => "550 no".to_string(),
        "RCPT TO:<b@x.example>" if core::mem::take(&mut is_first) => "451 later".to_string(),
        "MAIL FROM:<> BODY=8BITMIME" => "421 4.7.0 not from you".to_string(),
        _ => yes(line),
    }));
    world.alert("<ups@example.com>", &["<a@x.example>", "<b@x.example>"]);
    world.pass(Duration::from_min(60));
    assert_eq!(to(&world), ["<b@x.example>"]);
    world.alert("<ups@example.com>", &["<c@x.example>"]);
    world.pass(Duration::from_min(60));
    assert_eq!(to(&world), ["<b@x.example>", "<c@x.example>"]);
    world.policy = refusing(&[]);
    world.pass(Duration::from_min(60));
    assert_eq!(to(&world), ["<b@x.example>", "<c@x.example>", "<ups@example.com>"]);
    world.expect_empty();
}

/// B-4.2.5-a, B-3464-d: mail whose time is over is told of, with the last reason. B-5321-a: that it waits is
/// told to nobody, asked for or not.
#[test]
fn expiry() {
    let mut world = World::new(refusing(&[("RCPT TO:<a@x", "451 4.3.0 mailbox busy")]));
    world.alert("<ups@example.com>", &["<a@x.example> NOTIFY=FAILURE,DELAY"]);
    world.pass(Duration::from_min(23 * 60));
    assert!(world.arrived.is_empty());
    world.pass(Duration::from_min(4 * 60));
    let notice = Notice::of(&world.arrived[0]);
    assert_eq!(notice.field(1, "Action"), Some("failed"));
    assert_eq!(notice.field(1, "Status"), Some("4.4.7"));
    assert_eq!(notice.field(1, "Diagnostic-Code"), Some("smtp; 451 4.3.0 mailbox busy"));
    assert!(notice.text.replace("\r\n    ", " ").contains("not delivered within the time allowed"));
    world.expect_empty();
}

/// B-3464-f: a reply can't open a field, a part or a line, whatever is in it, nor make a line too long.
#[test]
fn hostile_replies() {
    let mut hostile = vec![
        "550 5.1.1 \x1b[31mred\x1b[0m\x07 \u{e9}\u{202e}".to_string(),
        "550-no\r\n550-\r\n550 X-Injected: yes".to_string(),
        "550 a\rX-Injected: yes\r\r".to_string(),
        "550 =_notice-1-0 --=_notice-1-0--".to_string(),
        "550 5.1.1.1.1 5.999999.1".to_string(),
        "550".to_string(),
        format!("550 {}", "x".repeat(2000)),
        format!("550 {}", "word ".repeat(400)),
    ];
    hostile.push("550 5.7.1 \u{0}\u{8}\u{7f} end".to_string());
    for reply in hostile {
        let said = reply.clone();
        let policy = move |line: &str, _: &Arrived| {
            if line.starts_with("RCPT TO:<a@x") { said.clone() } else { yes(line) }
        };
        let mut world = World::new(Box::new(policy));
        world.alert("<ups@example.com>", &["<a@x.example>"]);
        world.run();
        let notice = Notice::of(&world.arrived[0]);
        assert_eq!(notice.status.len(), 2, "{reply:?}");
        let names: Vec<_> = notice.status[1].iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code"]);
        assert!(notice.field(1, "Status").is_some_and(|status| status.starts_with("5.")));
        assert!(world.arrived[0].data.iter().all(|octet| matches!(octet, b'\r' | b'\n' | b' '..=b'~')));
        let long = world.arrived[0].text().lines().filter(|line| line.len() > 78).count();
        assert!(long <= 2 && (long == 0 || reply.contains("xxx")), "{reply:?}: {long}");
        world.expect_empty();
    }
}

/// B-3464-a, B-3464-g: of the message the header section alone comes back, whatever is in it, labelled when
/// it may have octets above 127.
#[test]
fn what_is_returned() {
    let long = format!("X-Long: {}\r\n", "y".repeat(3000));
    let cases: &[(&str, &str, &str)] = &[
        (
            "Subject: \u{e9}\r\n\tmore\r\n\r\nbody\r\n",
            "Subject: \u{e9}\r\n\tmore\r\n",
            "Subject: ??\r\n\tmore\r\n",
        ),
        ("no header: at all\r\n\r\nx\r\n", "", ""),
        ("\r\nbody\r\n", "", ""),
        ("", "", ""),
        (
            "--=_notice-1-0: x\r\nA: b\r\n\r\n",
            " --=_notice-1-0: x\r\nA: b\r\n",
            " --=_notice-1-0: x\r\nA: b\r\n",
        ),
        ("A: b\r\n..c: d\r\nbody without an empty line\r\n", "A: b\r\n.c: d\r\n", "A: b\r\n.c: d\r\n"),
        ("A: \x1b[2J\x01\r\n\r\n", "A: ?[2J?\r\n", "A: ?[2J?\r\n"),
    ];
    for is_8bit in [true, false] {
        for (data, with_8bit, without) in cases {
            let mut world = World::new(refusing(REFUSED));
            world.extensions = if is_8bit { vec!["8BITMIME"] } else { vec![] };
            let replies = world.submit("<ups@example.com>", &["<a@x.example>"], data);
            assert!(replies.last().unwrap().starts_with("250 2.0.0 Q"), "{replies:?}");
            world.run();
            let arrived = &world.arrived[0];
            assert_eq!(arrived.mail, if is_8bit { "<> BODY=8BITMIME" } else { "<>" });
            let notice = Notice::of(arrived);
            assert_eq!(notice.returned, if is_8bit { *with_8bit } else { *without }, "{data:?}");
            assert_eq!(notice.header.contains("Content-Transfer-Encoding: 8bit"), is_8bit);
            world.expect_empty();
        }
    }
    let mut world = World::new(refusing(REFUSED));
    let header = long.repeat(20);
    let _ = world.submit("<ups@example.com>", &["<a@x.example>"], &format!("{header}\r\nbody\r\n"));
    world.run();
    let notice = Notice::of(&world.arrived[0]);
    assert!((15_000..20_000).contains(&notice.returned.len()));
    world.expect_empty();
}

/// RFC 3834 3.1.5: a notice refers to its message, if that has a name that can be copied.
#[test]
fn references() {
    let long = format!("Message-ID: <{}@ups>\r\n\r\n", "i".repeat(300));
    for (data, is_named) in [
        ("A: b\r\nMESSAGE-id:<1@ups> \r\n\r\n", true),
        ("A: b\r\n\r\nMessage-ID: <1@ups>\r\n", false),
        ("Message-ID: <1@ups> X: y\r\n\r\n", false),
        ("Message-ID: <1@u\x1bps>\r\n\r\n", false),
        ("Message-ID:\r\n <1@ups>\r\n\r\n", false),
        ("Message-ID\r\n", false),
        (long.as_str(), false),
    ] {
        let mut world = World::new(refusing(REFUSED));
        let _ = world.submit("<ups@example.com>", &["<a@x.example>"], data);
        world.run();
        let header = Notice::of(&world.arrived[0]).header;
        assert_eq!(header.contains("\r\nReferences: <1@ups>\r\n"), is_named, "{data:?}");
        assert_eq!(header.contains("References"), is_named, "{data:?}");
    }
}

/// The notice's pieces meet the bound of the output at every place.
#[test]
fn header_sections_of_every_length() {
    let mut world = World::new(Box::new(|line, open| {
        // Of another sender each time: one address is told twelve times an hour at most.
        if open.mail.starts_with("<u") { "550 5.1.1 no".to_string() } else { yes(line) }
    }));
    for octets in (0..2600).chain(13_000..15_600) {
        let fields = format!("A: {}\r\n", "x".repeat(75)).repeat(octets / 80);
        let header = format!("{fields}B: {}\r\n", "y".repeat(octets % 80));
        let data = format!("{header}\r\nbody\r\n");
        let _ = world.submit(&format!("<u{octets}@example.com>"), &["<a@x.example>"], &data);
        world.turns(1);
        if let Some(arrived) = world.arrived.pop() {
            assert_eq!(Notice::of(&arrived).returned, header);
        }
        world.now.instant = world.now.instant + Duration::from_min(2);
    }
    world.run();
    world.expect_empty();
}

/// DSN-d: without DSN at the smarthost NEVER makes no notice at all, FAILURE is the default, and a SUCCESS is
/// told as relayed.
#[test]
fn notify_without_dsn_at_the_smarthost() {
    for (notify, is_told) in
        [("", true), (" NOTIFY=FAILURE", true), (" NOTIFY=NEVER", false), (" NOTIFY=SUCCESS,DELAY", false)]
    {
        let mut world = World::new(refusing(REFUSED));
        world.alert("<ups@example.com>", &[&format!("<a@x.example>{notify}")]);
        world.run();
        assert_eq!(world.arrived.len(), usize::from(is_told), "{notify}");
        world.expect_empty();
    }
    let mut world = World::new(refusing(REFUSED));
    world.alert(
        "<ups@example.com> ENVID=QQ+2B1",
        &["<a@x.example> NOTIFY=NEVER", "<b@x.example> NOTIFY=SUCCESS ORCPT=rfc822;B+3Db@y", "<c@x.example>"],
    );
    world.run();
    assert_eq!(to(&world), ["<b@x.example>", "<c@x.example>", "<ups@example.com>"]);
    let notice = Notice::of(&world.arrived[1]);
    assert!(notice.header.contains("Subject: Your mail was relayed\r\n"));
    assert_eq!(notice.status.len(), 2);
    assert_eq!(notice.field(0, "Original-Envelope-Id"), Some("QQ+1"));
    assert_eq!(notice.field(1, "Original-Recipient"), Some("rfc822; B=b@y"));
    assert_eq!(notice.field(1, "Final-Recipient"), Some("rfc822; b@x.example"));
    assert_eq!(notice.field(1, "Action"), Some("relayed"));
    assert_eq!(notice.field(1, "Status"), Some("2.0.0"));
    world.expect_empty();
    let mut world = World::new(refusing(&[]));
    world.alert("<>", &["<b@x.example> NOTIFY=SUCCESS"]);
    world.run();
    assert_eq!(world.arrived.len(), 1);
    world.expect_empty();
}

/// DSN-c: what the client asked for is handed on to a smarthost that offers DSN, which tells of successes.
#[test]
fn dsn_is_handed_on() {
    let envid = "x".repeat(100);
    let orcpt = format!("rfc822;{}", "+2B".repeat(164));
    let path = format!("{}@{}.example", "l".repeat(64), [&*"d".repeat(60); 2].join("."));
    let mut world = World::new(refusing(&[]));
    world.extensions = vec!["PIPELINING", "DSN", "SIZE"];
    world.alert(
        &format!("<ups@example.com> RET=FULL ENVID={envid} SIZE=100"),
        &[&format!("<{path}> NOTIFY=DELAY,SUCCESS,FAILURE ORCPT={orcpt}"), "<b@x.example>"],
    );
    world.run();
    assert_eq!(world.arrived.len(), 1);
    assert!(world.arrived[0].mail.starts_with("<ups@example.com> SIZE="));
    assert!(world.arrived[0].mail.ends_with(&format!(" RET=FULL ENVID={envid}")));
    let first = format!("<{path}> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT={orcpt}");
    assert_eq!(world.arrived[0].recipients, [first.as_str(), "<b@x.example>"]);
    world.expect_empty();
}

/// B-3464-e: ORCPT and ENVID come back decoded, in a failure too, at their longest.
#[test]
fn envid_and_orcpt_at_their_longest() {
    let envid = "x".repeat(100);
    let address = "o".repeat(493);
    let path = format!("{}@{}.example", "l".repeat(64), [&*"d".repeat(59); 3].join("."));
    let policy = |line: &str, _: &Arrived| {
        let is_refused = line.starts_with("RCPT TO:<lll");
        if is_refused { format!("550 5.1.1 {}", "r".repeat(240)) } else { yes(line) }
    };
    let mut world = World::new(Box::new(policy));
    world.alert(
        &format!("<ups@example.com> ENVID={envid}"),
        &[&format!("<{path}> ORCPT=rfc822;{address}"), "<b@x.example> ORCPT=rfc822;b@y"],
    );
    world.run();
    let notice = Notice::of(&world.arrived[1]);
    assert_eq!(notice.field(0, "Original-Envelope-Id"), Some(envid.as_str()));
    assert_eq!(notice.field(1, "Original-Recipient"), Some(format!("rfc822; {address}").as_str()));
    assert_eq!(notice.field(1, "Final-Recipient"), Some(format!("rfc822; {path}").as_str()));
    assert_eq!(notice.status.len(), 2);
    world.expect_empty();
}

/// A crash at any point: what was refused is told, twice at worst, and once when no crash comes between the
/// smarthost's reply and the record of it.
#[test]
fn a_crash_between_loses_no_notice() {
    // The smarthost refuses, and the connection breaks before the notice is taken.
    let mut world = World::new(refusing(&[("RCPT TO:<a@x", "550 no"), ("MAIL FROM:<>", "")]));
    world.alert("<ups@example.com>", &["<a@x.example>"]);
    world.run();
    assert!(world.arrived.is_empty());
    world.crash();
    world.policy = refusing(&[("RCPT TO:<a@x", "550 no")]);
    world.run();
    assert_eq!(to(&world), ["<ups@example.com>"]);
    world.run();
    world.crash();
    world.pass(Duration::from_min(120));
    assert_eq!(to(&world), ["<ups@example.com>"]);
    world.expect_empty();

    // The notice was taken, and the free of its message is not durable yet.
    let mut world = World::new(refusing(REFUSED));
    world.alert("<ups@example.com>", &["<a@x.example>"]);
    world.turns(1);
    assert_eq!(to(&world), ["<ups@example.com>"]);
    world.crash();
    world.run();
    let count = world.arrived.len();
    assert!((1..=2).contains(&count) && notices(&world).len() == count);
    world.expect_empty();
}

/// A notice is a state of its message: a full spool can't hold it up, and it makes room.
#[test]
fn a_full_spool_still_tells() {
    let mut world = World::new(refusing(&[("RCPT TO:<a@x", "451 later")]));
    let mut count = 0;
    loop {
        let replies = world.submit("<ups@example.com>", &["<a@x.example>"], "Subject: x\r\n\r\n");
        if !replies.last().unwrap().starts_with("250") {
            assert!(replies.iter().any(|reply| reply.starts_with("452 4.3.1")), "{replies:?}");
            break;
        }
        count += 1;
    }
    assert!(count > 40, "{count}");
    world.policy = refusing(REFUSED);
    world.pass(Duration::from_min(240));
    assert_eq!(world.arrived.len(), usize::from(NOTICES_TO_ONE_AN_HOUR_MAX));
    world.expect_empty();
    world.alert("<ups@example.com>", &["<b@x.example>"]);
    world.run();
    world.expect_empty();
}

/// B-6.2-a, SEC-back-a: bad mail makes a bounded number of notices an hour; nothing of it stays.
#[test]
fn notices_are_bounded() {
    let mut world = World::new(refusing(REFUSED));
    for _ in 0..100 {
        world.alert("<ups@example.com>", &["<a@x.example>"]);
        world.turns(3);
    }
    assert_eq!(world.arrived.len(), usize::from(NOTICES_TO_ONE_AN_HOUR_MAX));
    for number in 0..100 {
        world.alert(&format!("<c{number}@example.com>"), &["<a@x.example>"]);
        world.turns(3);
    }
    assert_eq!(world.arrived.len(), NOTICES_AN_HOUR_MAX);
    world.pass(Duration::from_min(60));
    world.alert("<ups@example.com>", &["<a@x.example>"]);
    world.run();
    assert_eq!(world.arrived.len(), NOTICES_AN_HOUR_MAX + 1);
    world.expect_empty();
}

/// SEC-loop-a, B-6.1-c: two relays, each the other's smarthost, whose mail is refused: no mail is left.
#[test]
fn two_relays_end_with_no_mail() {
    let refused = &[("RCPT TO:<a@x", "550 no"), ("RCPT TO:<ups", "550 5.1.1 no such user")];
    let mut first = World::new(refusing(&[]));
    let mut second = World::new(refusing(refused));
    first.alert("<ups@example.com>", &["<a@x.example>"]);
    for _ in 0..10 {
        first.run();
        for arrived in core::mem::take(&mut first.arrived) {
            let recipients: Vec<_> = arrived.recipients.iter().map(String::as_str).collect();
            let _ = second.submit(&arrived.mail, &recipients, &arrived.text());
        }
        second.run();
        for arrived in core::mem::take(&mut second.arrived) {
            let recipients: Vec<_> = arrived.recipients.iter().map(String::as_str).collect();
            let _ = first.submit(&arrived.mail, &recipients, &arrived.text());
        }
        second.policy = refusing(&[("RCPT TO:<a@x", "550 no")]);
    }
    assert!(first.tried + second.tried <= 6, "{} and {}", first.tried, second.tried);
    first.expect_empty();
    second.expect_empty();
}
