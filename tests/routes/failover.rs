//! Which smarthost takes the mail, and when the preferred one is preferred again.

use postern::time::Duration;

use crate::world::{DAY, HOUR, MINUTE, Mail, Policy, SECOND, World, saying, willing, yes};

/// A fault of the first makes the next one take over at once; when the first is well, it is preferred again.
#[test]
fn the_next_one_stands_in() {
    let mut world = World::new("", vec![willing(), willing(), willing()]);
    world.submit_all(3);
    world.pass(SECOND);
    assert_eq!(world.taken(), [3, 0, 0]);
    world.pass(MINUTE);
    world.hosts[0].is_reachable = false;
    world.submit_all(3);
    world.pass(SECOND);
    assert_eq!(world.taken(), [3, 3, 0], "within a second");
    world.pass(MINUTE);
    world.hosts[1].is_reachable = false;
    world.submit_all(2);
    world.pass(SECOND);
    assert_eq!(world.taken(), [3, 3, 2]);

    // Mail every other second: the first is probed, and within its longest rest mail goes over it again.
    world.hosts[0].is_reachable = true;
    let back = world.now.instant;
    for _ in 0..160 {
        world.submit_all(1);
        world.pass(Duration::from_s(2));
        assert_eq!(world.waiting(), 0, "no probe holds mail up");
    }
    let first = world.hosts[0].taken.iter().find(|(at, _)| *at > back).expect("it took mail again").0;
    assert!(first.since(back) <= Duration::from_min(5), "{first:?} {back:?}");
    let taken = world.taken();
    world.submit_all(5);
    world.pass(SECOND);
    assert_eq!(world.taken(), [taken[0] + 5, taken[1], taken[2]]);
}

/// Each route has its own back-off, and an idle relay wakes up for none of them.
#[test]
fn each_route_rests_for_itself() {
    let mut world = World::new("", vec![willing(), willing()]);
    for host in &mut world.hosts {
        host.is_reachable = false;
    }
    world.submit_all(20);
    world.pass(DAY);
    for host in &world.hosts {
        assert!((280..600).contains(&host.dialled.len()), "{} probes in a day", host.dialled.len());
    }
    world.hosts[1].is_reachable = true;
    world.pass(Duration::from_min(5));
    assert_eq!(world.taken(), [0, 20]);
    let dialled = world.hosts[0].dialled.len();
    world.pass(DAY);
    assert!(world.hosts[0].dialled.len() <= dialled + 1, "nothing is probed without mail");
}

/// A login that is refused at the first rests there for as long as ever, whatever the second one does.
#[test]
fn a_refused_login_of_the_first_is_tried_seldom() {
    let mut world = World::new("", vec![saying("MAIL", "530 5.7.0 log in first"), willing()]);
    for _ in 0..24 * 6 {
        world.submit_all(1);
        world.pass(Duration::from_min(10));
        assert_eq!(world.waiting(), 0);
    }
    let tries = world.hosts[0].tried.len();
    assert!((20..=30).contains(&tries), "{tries} tries in a day");
    assert_eq!(world.taken(), [0, 24 * 6]);
}

/// C-4.2.1-a, C-4.2.1-b: what the first says about a message holds for all: it is not tried at the second.
#[test]
fn a_refusal_of_the_message_holds_for_all() {
    let mut world = World::new("", vec![saying("RCPT TO:<a@", "550 5.1.1 nobody"), willing()]);
    world.submit("", &["a@example.net"]);
    world.pass(SECOND);
    assert_eq!((world.waiting(), world.taken()), (0, vec![0, 0]));

    let mut world = World::new("", vec![saying("RCPT TO:<a@", "450 4.2.0 greylisted"), willing()]);
    world.submit("camera@example.org", &["a@example.net"]);
    world.pass(Duration::from_s(40));
    assert_eq!((world.hosts[0].tried.len(), world.waiting()), (1, 1), "it waits for its own time");
    world.hosts[0].policy = willing();
    world.pass(Duration::from_min(2));
    assert_eq!(world.taken(), [1, 0]);
}

/// C-4.5.4.1-c, B-4.2.5-a: a message is given up after a try over a working route of any smarthost, and not
/// before there is one.
#[test]
fn time_is_over_where_any_route_works() {
    let mut world = World::new("", vec![willing(), saying("RCPT", "450 4.2.1 later")]);
    for host in &mut world.hosts {
        host.is_reachable = false;
    }
    world.submit("", &["a@example.net"]);
    world.pass(Duration::from_min(6 * 24 * 60));
    assert_eq!(world.waiting(), 1, "six days old, and never tried");
    world.hosts[1].is_reachable = true;
    world.pass(Duration::from_min(10));
    assert_eq!((world.waiting(), world.hosts[1].tried.len()), (0, 1));
}

/// C-4.5.4.1-c, C-4.5.4.1-d, C-1123-a: a route that is dead for longer than `retry.hold` bounds a message's
/// time, however it is dead; the notice has as long again, and what is younger leaves as soon as there is a
/// route.
#[test]
fn a_dead_route_holds_a_message_for_thirty_days() {
    for is_reachable in [false, true] {
        let mut world = World::new("", vec![saying("EHLO", "451 4.3.2 no"), willing()]);
        world.hosts[0].is_reachable = is_reachable;
        world.hosts[1].is_reachable = false;
        world.submit("camera@example.org", &["a@example.net", "b@example.net"]);
        world.submit_all(20);
        world.pass(Duration(20 * DAY.0));
        world.submit("young@example.org", &["c@example.net"]);
        world.pass(Duration(10 * DAY.0 - HOUR.0));
        assert_eq!((world.waiting(), world.relay.counters().expired), (22, 0));
        // The queue clock is written once an hour.
        world.restart(world.now.instant);
        world.pass(Duration(3 * HOUR.0));
        assert_eq!((world.waiting(), world.relay.counters().expired), (22, 21), "their notices wait");
        world.hosts[1].is_reachable = true;
        world.pass(Duration(HOUR.0));
        assert_eq!(world.waiting(), 0);
        let (notices, mail): (Vec<_>, Vec<_>) =
            world.hosts[1].taken.iter().partition(|(_, mail)| mail.reverse_path.is_empty());
        assert_eq!(mail.len(), 1);
        assert_eq!(mail[0].1.reverse_path, "young@example.org");
        assert_eq!(notices.len(), 12, "as many as one address gets in an hour");
        assert!(notices.iter().all(|(_, mail)| mail.recipients == ["camera@example.org"]));
        assert!(notices[0].1.data.contains("b@example.net") && notices[0].1.data.contains("5.4.7"));
    }
}

/// The same for twice as long: nothing is left, not even the notices, and the room is free.
#[test]
fn a_dead_route_holds_a_notice_for_as_long_again() {
    let mut world = World::new("", vec![willing()]);
    world.hosts[0].is_reachable = false;
    world.submit_all(20);
    world.pass(Duration(60 * DAY.0 - HOUR.0));
    assert_eq!(world.waiting(), 20);
    world.pass(Duration(2 * HOUR.0));
    assert_eq!(world.waiting(), 0);
    assert!(world.relay.spool().balance().is_even());
}

/// A smarthost that closes with 421 whenever it meets one message, and takes all others.
fn allergic() -> Policy {
    Box::new(|line: &str, mail: &Mail, _| match line {
        "." if mail.recipients[0].starts_with("poison") => "421 4.3.0 bye".to_owned(),
        _ => yes(line),
    })
}

/// C-4.2-c: one message that always meets 421 holds up no other, and is neither lost nor tried without end.
#[test]
fn a_message_that_always_meets_421_holds_nothing_up() {
    let mut world = World::new("", vec![allergic()]);
    world.submit("camera@example.org", &["poison@example.net"]);
    world.submit_all(10);
    world.pass(Duration::from_s(5));
    assert_eq!((world.taken(), world.waiting()), (vec![10], 1));
    let mut worst = Duration(0);
    for _ in 0..24 * 6 {
        let begun = world.now.instant;
        world.submit_all(1);
        world.pass(Duration::from_min(10));
        worst = worst.max(world.hosts[0].taken.last().expect("it was taken").0.since(begun));
    }
    assert!(worst <= Duration::from_s(31), "another message waited for {worst:?}");
    let poison = world.hosts[0].tried.len() - world.taken()[0];
    assert!((10..60).contains(&poison), "tried {poison} times in a day");
    assert_eq!(world.waiting(), 1);

    // Alone it is tried as seldom as a broken route.
    let mut world = World::new("", vec![allergic()]);
    world.submit("camera@example.org", &["poison@example.net"]);
    world.pass(HOUR);
    assert!((10..40).contains(&world.hosts[0].tried.len()), "{}", world.hosts[0].tried.len());
    world.hosts[0].policy = willing();
    world.pass(Duration::from_min(5));
    assert_eq!(world.waiting(), 0);
}

/// C-4.5.4.1-e: one probe for the host, not one for each message.
#[test]
fn one_probe_for_all_messages() {
    let mut world = World::new("", vec![saying("", "421 4.3.2 not now")]);
    world.submit_all(20);
    world.pass(MINUTE);
    let dialled = world.hosts[0].dialled.len();
    assert!((4..=9).contains(&dialled), "{dialled} connections in a minute");
}

/// C-4.2-c: a notice that always meets 421 brings no recipient that waits its turn before its time.
#[test]
fn a_notice_that_meets_421_hurries_nobody() {
    let policy: Policy = Box::new(|line: &str, mail: &Mail, _| match line {
        "RCPT TO:<none@example.net>" => "550 5.1.1 unknown".to_owned(),
        "RCPT TO:<slow@example.net>" => "451 4.7.1 later".to_owned(),
        "." if mail.reverse_path.is_empty() => "421 4.3.0 bye".to_owned(),
        _ => yes(line),
    });
    let mut world = World::new("", vec![policy]);
    world.submit("camera@example.org", &["none@example.net", "slow@example.net"]);
    world.pass(HOUR);
    let of = |sender: &str| -> Vec<_> {
        world.hosts[0].tried.iter().filter(|(_, from)| from == sender).map(|(at, _)| *at).collect()
    };
    let tries = of("camera@example.org");
    assert!(tries.len() >= 3 && of("").len() >= 3, "{tries:?}");
    for pair in tries.windows(2) {
        assert!(pair[1].since(pair[0]) >= Duration::from_s(45), "{tries:?}");
    }
}
