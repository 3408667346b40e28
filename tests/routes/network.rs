//! The network comes up: what waits for it is tried at once, and nothing else is.

use postern::time::Duration;

use crate::world::{DAY, HOUR, MINUTE, Policy, SECOND, World, saying, willing};

/// With rests of a day, so that a try before its time is seen.
fn patient(policies: Vec<Policy>) -> World {
    World::new("[retry]\nroute_longest = \"1d\"\nauth = \"1d\"\n", policies)
}

/// Dead for half a day, so that it would rest for hours more.
fn long_dead() -> World {
    let mut world = patient(vec![willing()]);
    world.hosts[0].is_reachable = false;
    world.submit_all(3);
    world.pass(HOUR);
    world.pass(Duration::from_min(11 * 60));
    assert_eq!((world.taken(), world.waiting()), (vec![0], 3));
    world
}

#[test]
fn a_dead_route_is_tried_at_once() {
    let mut world = long_dead();
    world.hosts[0].is_reachable = true;
    world.pass(MINUTE);
    assert_eq!(world.waiting(), 3, "it rests");
    assert!(world.relay.awaits_network());
    world.relay.network_changed(&world.now);
    world.pass(SECOND);
    assert_eq!((world.taken(), world.waiting()), (vec![3], 0));
    assert!(!world.relay.awaits_network());
}

/// What came up needs a moment more to lead anywhere: the rests begin anew.
#[test]
fn the_tries_after_it_are_close_together() {
    let mut world = long_dead();
    let dialled = world.hosts[0].dialled.len();
    world.relay.network_changed(&world.now);
    world.pass(MINUTE);
    let tries = world.hosts[0].dialled.len() - dialled;
    assert!((4..10).contains(&tries), "{tries} tries in a minute");
    world.hosts[0].is_reachable = true;
    world.pass(Duration::from_min(2));
    assert_eq!(world.waiting(), 0);
}

/// C-4.5.4.1-e: the messages' own waits and ages are as they were.
#[test]
fn no_message_is_charged_and_none_is_hurried() {
    let mut world = patient(vec![saying("RCPT", "451 4.3.0 later")]);
    world.submit_all(1);
    world.pass(HOUR);
    let tried = world.hosts[0].tried.len();
    world.hosts[0].is_reachable = false;
    world.submit_all(1);
    world.pass(SECOND);
    for _ in 0..5 {
        world.relay.network_changed(&world.now);
        world.pass(SECOND);
    }
    assert_eq!(world.hosts[0].tried.len(), tried, "nothing was tried over it");
    world.hosts[0].policy = willing();
    world.hosts[0].is_reachable = true;
    world.relay.network_changed(&world.now);
    world.pass(SECOND);
    assert_eq!((world.taken(), world.waiting()), (vec![1], 1), "the one that was deferred has its own time");
    world.pass(Duration::from_min(130));
    assert_eq!(world.waiting(), 0);
}

/// AUTH-c-h: another network makes no login right, and tries may lock the account.
#[test]
fn what_has_other_reasons_rests_on() {
    for refusal in [
        "530 5.7.0 log in first",
        "554 Email address is not verified",
        "454 Throttling failure: Daily message quota exceeded.",
    ] {
        let mut world = patient(vec![saying("MAIL", refusal)]);
        world.submit_all(2);
        world.pass(Duration::from_min(5));
        assert!(world.relay.routes()[0].rests_for().is_some(), "{refusal}");
        assert!(!world.relay.awaits_network(), "{refusal}");
        let dialled = world.hosts[0].dialled.len();
        for _ in 0..20 {
            world.relay.network_changed(&world.now);
            world.pass(SECOND);
        }
        assert_eq!(world.hosts[0].dialled.len(), dialled, "{refusal}");
    }
}

/// A provider that takes mail from its own lines only: back on that line, it does.
#[test]
fn a_line_that_it_takes_no_mail_from_counts() {
    let mut world = patient(vec![saying("RCPT", "550 5.7.1 Relaying denied")]);
    world.submit_all(2);
    world.pass(HOUR);
    assert_eq!(world.waiting(), 2);
    assert!(world.relay.awaits_network());
    world.hosts[0].policy = willing();
    world.relay.network_changed(&world.now);
    world.pass(SECOND);
    assert_eq!(world.waiting(), 0);
}

#[test]
fn a_route_that_works_costs_nothing() {
    let mut world = patient(vec![willing(), willing()]);
    assert!(!world.relay.awaits_network());
    world.submit_all(2);
    world.pass(SECOND);
    let dialled = world.hosts[0].dialled.len();
    for _ in 0..100 {
        assert!(!world.relay.awaits_network());
        world.relay.network_changed(&world.now);
        world.pass(MINUTE);
    }
    assert_eq!(world.hosts[0].dialled.len(), dialled);
    assert!(world.hosts[1].dialled.is_empty());
    world.pass(DAY);
    assert_eq!(world.relay.deadline(world.now.instant), None, "and nothing wakes up");
}
