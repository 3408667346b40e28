//! What `admin` is told of damage: once, by a message in the spool that leaves like any other.
//!
//! Requirement SEC-file-b.

use postern::relay::Removal;
use postern::spool::{BlockIndex, DeviceError, MessageId};
use postern::time::Duration;

use crate::disk::{Call, Choice, Disk, Effect, Fault};
use crate::world::World;

const ADMIN: &str = "admin = \"me@site.example\"";

/// A relay with `admin` and these messages, damaged since.
fn damaged(recipients: &[&str]) -> (World, Vec<MessageId>) {
    let mut world = World::over(Disk::new(0), ADMIN);
    let ids = recipients.iter().map(|recipient| world.submit_to(recipient)).collect();
    // What comes later tells them from drafts that were cut off.
    world.submit_to("sound@site.example");
    for recipient in recipients {
        spoil(&world, recipient);
    }
    (restarted(&world), ids)
}

/// Breaks the head of the message to `recipient`.
fn spoil(world: &World, recipient: &str) {
    let holds = |at: &BlockIndex| {
        let block = world.disk.peek(*at);
        block.windows(recipient.len()).any(|octets| octets == recipient.as_bytes())
    };
    let head = (2..256).map(BlockIndex).find(holds).expect("the message's only block");
    world.disk.spoil(head, |block| block[600] ^= 1);
}

fn restarted(world: &World) -> World {
    let disk = world.disk.fork();
    disk.power_cut(Choice::Oldest);
    World::over(disk, ADMIN)
}

/// All that waits, as the smarthost gets it: the recipient's command and the mail data.
fn relayed(world: &mut World) -> Vec<(String, String)> {
    let mut mails = Vec::new();
    world.turn();
    let (at, mut heard) = world.connect();
    while heard.contains("MAIL FROM:") {
        let to = world.say(at, b"250 fine\r\n");
        world.say(at, b"250 fine\r\n");
        let data = world.say(at, b"354 go on\r\n");
        mails.push((heard + &to, data));
        heard = world.say(at, b"250 taken\r\n");
    }
    world.relay.closed(&world.now, at);
    world.wait(Duration::from_s(3));
    mails
}

fn reports(world: &mut World) -> Vec<String> {
    let mails = relayed(world).into_iter();
    let to_admin = mails.filter(|(commands, _)| commands.contains("RCPT TO:<me@site.example>"));
    to_admin
        .map(|(commands, data)| {
            assert!(commands.contains("MAIL FROM:<me@site.example>"), "{commands}");
            data
        })
        .collect()
}

#[test]
fn damage_is_told_once() {
    let (mut world, ids) = damaged(&["a@site.example", "b@site.example"]);
    assert_eq!(world.relay.deadline(world.now.instant), Some(postern::time::Instant(0)), "at once");
    world.turn();
    let waits = world.ids().len();
    world = restarted(&world);
    world.turn();
    assert_eq!(world.ids().len(), waits, "no second one, however soon the power fails");
    let told = reports(&mut world);
    assert_eq!(told.len(), 1, "{told:?}");
    for part in [
        "Received: from relay.example ([127.0.0.1])\r\n",
        "\r\nFrom: Mail relay <MAILER-DAEMON@relay.example>\r\nTo: <me@site.example>\r\n",
        "\r\nSubject: Damaged mail in the spool of relay.example\r\nDate: Tue, 24 Nov 2026 09:00:00 +0000\r\n",
        "\r\nAuto-Submitted: auto-generated\r\n\r\n",
        "\r\n2 messages in its spool are damaged and will not be sent.\r\n",
        &format!("\r\n    postern queue show {0}\r\n    postern queue remove {0}\r\n", ids[0]),
        &format!("\r\n    postern queue show {0}\r\n    postern queue remove {0}\r\n", ids[1]),
    ] {
        assert!(told[0].contains(part), "{part:?} is not in {}", told[0]);
    }
    assert!(!told[0].contains("block"), "{}", told[0]);
    assert!(told[0].split("\r\n").all(|line| line.len() <= 78), "{}", told[0]);
    let mut world = restarted(&world);
    world.turn();
    assert_eq!(world.relay.wants_connection(&world.now), None, "told before");
    assert_eq!(world.ids(), ids, "kept all the same");
}

/// A removal makes room for news, before and behind a start; more of it within an hour waits for its end.
#[test]
fn further_damage_is_told_too() {
    let (mut world, ids) = damaged(&["a@site.example", "b@site.example"]);
    world.turn();
    assert_eq!(reports(&mut world).len(), 1);
    assert_eq!(world.relay.remove(ids[0]), Removal::Removed);
    assert_eq!(world.relay.remove(ids[1]), Removal::Removed);
    world.wait(Duration::from_s(3));
    let later = world.submit_to("c@site.example");
    world.submit_to("d@site.example");
    let mut world = restarted(&world);
    spoil(&world, "c@site.example");
    // Its turn comes, and it can't be read.
    let told = reports(&mut world);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("1 message in its spool is damaged"), "{}", told[0]);
    assert!(told[0].contains(&format!("queue remove {later}\r\n")), "{}", told[0]);
    world.submit_to("e@site.example");
    spoil(&world, "e@site.example");
    relayed(&mut world);
    assert_eq!(world.relay.wants_connection(&world.now), None);
    world.wait(Duration::from_min(61));
    let told = reports(&mut world);
    assert!(told.len() == 1 && told[0].contains("2 messages in its spool are damaged"), "{told:?}");
}

#[test]
fn without_admin_or_a_disk_that_works_nothing_is_told() {
    let (world, ids) = damaged(&["a@site.example"]);
    let mut silent = world.after_power_cut(false);
    assert_eq!(reports(&mut silent), [] as [String; 0]);
    assert_eq!(silent.ids(), ids);
    let due = silent.relay.deadline(silent.now.instant);
    assert!(due.is_some_and(|due| due > silent.now.instant), "nothing is due for ever: {due:?}");
    // A disk that takes nothing: later.
    let mut world = restarted(&world);
    world.disk.fail(Fault {
        call: Call::Write,
        skip: 0,
        times: u64::MAX,
        error: DeviceError::Io,
        effect: Effect::Nothing,
    });
    world.turn();
    assert_eq!(world.ids().len(), 2, "no report");
    world.disk.heal();
    world.wait(Duration::from_min(11));
    let told = reports(&mut world);
    assert!(told.len() == 1 && told[0].contains(&format!("queue show {}\r\n", ids[0])), "{told:?}");
}

#[test]
fn a_full_spool_has_the_report_later() {
    let lines = format!("{ADMIN}\nlimits.spool_share = \"100%\"\nlimits.messages_per_minute = 10000");
    let mut world = World::over(Disk::new(0), &lines);
    let id = world.submit_to("a@site.example");
    let mail = "MAIL FROM:<ups@site.example>\r\nRCPT TO:<b@site.example>\r\nDATA\r\n";
    let text = "0123456789abcdef\r\n".repeat(2000);
    let mut submit = |text: &str| {
        let is_taken = world.hear(mail).contains("354 ");
        is_taken && world.hear(&format!("{text}.\r\n")).contains("Queued")
    };
    while submit(&text) {}
    while submit("x: y\r\n\r\nz\r\n") {}
    spoil(&world, "a@site.example");
    let mut world = restarted(&world);
    world.turn();
    let count = world.ids().len();
    world.wait(Duration::from_min(9));
    assert_eq!(world.ids().len(), count, "no room");
    assert_eq!(reports(&mut world), [] as [String; 0], "it is not tried each turn");
    world.wait(Duration::from_min(2));
    let told = reports(&mut world);
    assert!(told.len() == 1 && told[0].contains(&format!("queue show {id}\r\n")), "{told:?}");
}

#[test]
fn blocks_that_can_not_be_read_are_told_of() {
    let mut world = World::over(Disk::new(0), ADMIN);
    world.submit_to("a@site.example");
    world.submit_to("b@site.example");
    world.disk.spoil(BlockIndex(2), |block| block.fill(0xa5));
    let mut world = restarted(&world);
    world.turn();
    let told = reports(&mut world);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("1 block of its spool can't be read"), "{}", told[0]);
    assert!(!told[0].contains("damaged and will"), "{}", told[0]);
}
