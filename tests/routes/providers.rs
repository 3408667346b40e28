//! Smarthosts as providers run them: their own replies, limits and moods. No message is bounced or lost for
//! any of it, and all arrive when the provider lets them.

use std::collections::BTreeMap;

use postern::limits::QUEUED_MESSAGES;
use postern::time::{Duration, Instant};

use crate::world::{DAY, HOUR, MINUTE, Mail, Policy, SECOND, World, saying, willing, yes};

/// Messages that wait at once, on the smallest board too: some places are left for those that just left.
const WAITING_MAX: usize = QUEUED_MESSAGES - 4;

/// Hands so many messages in, those that this board can't hold as soon as there is room.
fn submit_in_turn(world: &mut World, count: usize) {
    let mut left = count;
    while left > 0 {
        let now = left.min(WAITING_MAX.saturating_sub(world.waiting()));
        world.submit_all(now);
        left -= now;
        if left > 0 {
            world.pass(SECOND);
        }
    }
}

/// Amazon SES with one verified sender, so many messages a day, and no null reverse-path.
fn ses(verified: &'static str, a_day: usize) -> Policy {
    let mut days: BTreeMap<u64, usize> = BTreeMap::new();
    Box::new(move |line: &str, mail: &Mail, now: Instant| {
        let from = format!("From: {verified}\r\n");
        match line {
            "MAIL FROM:<>" => "501 Invalid MAIL FROM address provided".to_owned(),
            "." if mail.reverse_path != verified || !mail.data.contains(&from) => {
                "554 Message rejected: Email address is not verified. The following identities failed the \
                 check in region EU-WEST-1: camera@localhost"
                    .to_owned()
            }
            "." => {
                let today = days.entry(now.0 / DAY.0).or_default();
                if *today == a_day {
                    return "454 Throttling failure: Daily message quota exceeded.".to_owned();
                }
                *today += 1;
                yes(line)
            }
            _ => yes(line),
        }
    })
}

/// Microsoft 365: so many messages a minute, and then `432`, as its throttling says.
fn microsoft_365(a_minute: usize) -> Policy {
    let mut minutes: BTreeMap<u64, usize> = BTreeMap::new();
    Box::new(move |line: &str, _: &Mail, now: Instant| {
        if line != "." {
            return yes(line);
        }
        let count = minutes.entry(now.0 / MINUTE.0).or_default();
        if *count == a_minute {
            return "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded".to_owned();
        }
        *count += 1;
        yes(line)
    })
}

/// An unverified camera: all its mail waits, unbounced, with one try for all; and leaves when the sender is
/// verified.
#[test]
fn ses_that_does_not_know_the_sender() {
    let mut world = World::new("", vec![ses("alerts@example.org", 1000)]);
    for _ in 0..30 {
        world.submit("camera@example.org", &["a@example.net"]);
    }
    world.pass(DAY);
    assert_eq!((world.waiting(), world.taken()), (30, vec![0]));
    let tried = world.hosts[0].tried.len();
    assert!((280..600).contains(&tried), "{tried} tries in a day for thirty messages");
    world.hosts[0].policy = ses("camera@example.org", 1000);
    world.pass(Duration::from_min(5));
    assert_eq!((world.waiting(), world.taken()), (0, vec![30]));
}

/// One camera of several is unverified: the others' alerts leave within seconds all the while.
#[test]
fn ses_that_knows_one_camera_of_two() {
    let rounds = WAITING_MAX.min(144);
    let mut world = World::new("", vec![ses("ups@example.org", 1000)]);
    let mut worst = Duration(0);
    for _ in 0..rounds {
        world.submit("camera@example.org", &["a@example.net"]);
        world.pass(Duration::from_min(5));
        let begun = world.now.instant;
        world.submit("ups@example.org", &["a@example.net"]);
        world.pass(Duration::from_min(5));
        worst = worst.max(world.hosts[0].taken.last().expect("the UPS's alert leaves").0.since(begun));
    }
    assert_eq!((world.taken(), world.waiting()), (vec![rounds], rounds));
    // Another message probes after 30 s; at every fourth turn a deferred one comes first.
    assert!(worst <= Duration::from_s(61), "an alert waited for {worst:?}");
}

/// A daily quota: what is beyond it waits for the next day, and is asked for at most every hour or so.
#[test]
fn a_daily_quota() {
    let a_day = WAITING_MAX.min(120) * 5 / 12;
    let count = a_day * 2 + a_day / 2;
    for quota in
        ["454 Throttling failure: Daily message quota exceeded.", "550 5.4.5 Daily user sending limit"]
    {
        let mut days: BTreeMap<u64, usize> = BTreeMap::new();
        let policy = move |line: &str, _: &Mail, now: Instant| {
            let today = days.entry(now.0 / DAY.0).or_default();
            match line {
                "." if *today == a_day => quota.to_owned(),
                "." => {
                    *today += 1;
                    yes(line)
                }
                _ => yes(line),
            }
        };
        let mut world = World::new("", vec![Box::new(policy)]);
        world.submit_all(count);
        world.pass(MINUTE);
        assert_eq!(world.taken(), [a_day]);
        let refused = |world: &World| world.hosts[0].tried.len() - world.taken()[0];
        world.pass(HOUR);
        assert!((3..=8).contains(&refused(&world)), "{} in an hour", refused(&world));
        world.pass(DAY);
        assert_eq!((world.taken(), world.waiting()), (vec![2 * a_day], count - 2 * a_day), "{quota}");
        world.pass(DAY);
        assert_eq!((world.taken(), world.waiting()), (vec![count], 0));
        assert!(refused(&world) < 80, "{} refused", refused(&world));
    }
}

/// Thirty messages a minute: the route slows down instead of failing or deferring messages, and all arrive at
/// nearly that rate.
#[test]
fn microsoft_365_takes_thirty_a_minute() {
    let mut world = World::new("", vec![microsoft_365(30)]);
    submit_in_turn(&mut world, 300);
    world.pass(Duration::from_min(20));
    assert_eq!((world.taken(), world.waiting()), (vec![300], 0));
    let refused = world.hosts[0].tried.len() - 300;
    // Some four each time that it tries at full speed again.
    assert!(refused <= 20, "{refused} refusals for 300 messages");
    // A while later mail goes at full speed again.
    world.pass(HOUR);
    world.hosts[0].policy = willing();
    submit_in_turn(&mut world, 200);
    world.pass(Duration::from_min(10));
    assert_eq!(world.waiting(), 0);
    let before = world.now.instant;
    world.submit_all(20);
    world.pass(SECOND);
    assert_eq!(world.hosts[0].taken.last().expect("taken").0, before);
}

/// Microsoft 365's refusals that are about the account: nothing fails, whatever it says and where.
#[test]
fn microsoft_365_refuses_the_account() {
    for (at, reply) in [
        ("MAIL", "530 5.7.57 Client not authenticated to send mail."),
        (".", "550 5.7.30 Basic authentication is not supported for Client Submission."),
        (".", "550 5.7.60 SMTP; Client does not have permissions to send as this sender"),
        (".", "554 5.2.252 SendAsDenied; a@example.org not allowed to send as b@example.org"),
        (".", "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied"),
        (".", "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException"),
        (".", "550 5.2.251 Sender throttled due to continuous mailbox full errors."),
        (".", "550 5.2.254 Sender throttled due to continuous too many recipients errors."),
    ] {
        let mut world = World::new("", vec![saying(at, reply)]);
        world.submit_all(50);
        world.pass(Duration::from_min(3 * 24 * 60));
        assert_eq!((world.waiting(), world.taken()), (50, vec![0]), "{reply}");
        assert!(world.hosts[0].tried.len() < 1100, "{} tries of {reply}", world.hosts[0].tried.len());
        world.hosts[0].policy = willing();
        world.relay.retry_all(&world.now);
        world.pass(SECOND);
        assert_eq!(world.taken(), [50], "{reply}");
    }
}

/// A provider's relay that takes mail from its own lines only, while the board is behind another one's.
#[test]
fn a_relay_denies_after_a_failover() {
    for reply in ["554 5.7.1 <a@example.net>: Relay access denied", "550 relay not permitted"] {
        let mut world = World::new("", vec![saying("RCPT", reply), willing()]);
        world.submit_all(5);
        world.pass(SECOND);
        assert_eq!(world.taken(), [0, 5], "the one that stands in takes it");

        let mut world = World::new("", vec![saying("RCPT", reply)]);
        world.submit_all(5);
        world.pass(Duration::from_min(6 * 24 * 60));
        assert_eq!((world.waiting(), world.taken()), (5, vec![0]));
        world.hosts[0].policy = willing();
        world.pass(Duration::from_min(5));
        assert_eq!(world.taken(), [5]);
    }
}
