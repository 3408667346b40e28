//! Notices of failure, through the whole relay: who is told, of what, how often, and that nothing is left.
mod disk;
#[path = "notices/world.rs"]
mod world;

use world::{Notice, World, refusing};

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
