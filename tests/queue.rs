//! The queue: whose turn it is, how long a message waits, and when it is given up.
use std::collections::BTreeMap;

use postern::config::Retry;
use postern::jitter::Jitter;
use postern::limits::QUEUED_MESSAGES;
use postern::queue::{
    Queue, SMALL_OCTETS_MAX, SMALLS_BEFORE_LARGE_MAX, back_off, is_expired, is_notice_expired,
};
use postern::spool::{Facts, MessageId, MessageIndex};
use postern::time::{Duration, Tick};

const RETRY: Retry = Retry {
    first: Duration::from_min(1),
    longest: Duration::from_min(120),
    route_longest: Duration::from_min(5),
    auth: Duration::from_min(15),
    give_up: Duration::from_min(5 * 24 * 60),
    hold: Duration::from_min(30 * 24 * 60),
};

fn facts(octets: u64, accepted: u64) -> Facts {
    Facts { id: MessageId::default(), accepted: Tick(accepted), octets, recipients: 1, waiting: 1, owed: 0 }
}

fn fresh(queue: &mut Queue, message: u32) {
    queue.push(MessageIndex(message), &facts(2048, 0));
}

/// Takes a message and removes it, as if it had been relayed.
fn relay(queue: &mut Queue, now: Tick) -> Option<u32> {
    let message = queue.next(now)?;
    queue.remove(message);
    Some(message.0)
}

fn deferred(queue: &mut Queue, message: u32, now: Tick) -> Tick {
    queue.push_recovered(MessageIndex(message), &facts(2048, 0));
    assert_eq!(queue.next(now), Some(MessageIndex(message)));
    queue.defer(MessageIndex(message), Tick(0), now, &RETRY, &mut Jitter::new(u64::from(message)))
}

#[test]
fn fresh_mail_goes_in_the_order_of_its_coming() {
    let mut queue = Queue::new();
    for message in [3, 1, 4, 5, 2] {
        fresh(&mut queue, message);
    }
    queue.remove(MessageIndex(4));
    let order: Vec<_> = std::iter::from_fn(|| relay(&mut queue, Tick(0))).collect();
    assert_eq!(order, [3, 1, 5, 2]);
    assert!(queue.is_empty());
}

#[test]
fn small_goes_before_large_within_a_bound() {
    let mut queue = Queue::new();
    queue.push(MessageIndex(18), &facts(SMALL_OCTETS_MAX + 1, 0));
    queue.push(MessageIndex(19), &facts(SMALL_OCTETS_MAX + 1, 0));
    for message in 0..18 {
        queue.push(MessageIndex(message), &facts(SMALL_OCTETS_MAX, 0));
    }
    let order: Vec<_> = std::iter::from_fn(|| relay(&mut queue, Tick(0))).collect();
    let mut expected: Vec<u32> = (0..18).collect();
    expected.insert(usize::from(SMALLS_BEFORE_LARGE_MAX), 18);
    expected.insert(2 * usize::from(SMALLS_BEFORE_LARGE_MAX) + 1, 19);
    assert_eq!(order, expected);
}

#[test]
fn every_fourth_turn_is_for_the_deferred() {
    let mut queue = Queue::new();
    let due = deferred(&mut queue, 10, Tick(0)).max(deferred(&mut queue, 11, Tick(0)));
    for message in 0..10 {
        fresh(&mut queue, message);
    }
    let order: Vec<_> = std::iter::from_fn(|| relay(&mut queue, due)).collect();
    let (first, second) = (order.iter().position(|m| *m >= 10), order.iter().rposition(|m| *m >= 10));
    assert!(first.unwrap() <= 3, "{order:?}");
    assert_eq!(second.unwrap() - first.unwrap(), 4, "{order:?}");
    assert_eq!(order.len(), 12);
}

#[test]
fn deferred_mail_waits_until_it_is_due() {
    let mut queue = Queue::new();
    let due = deferred(&mut queue, 7, Tick(1000));
    assert_eq!(queue.due(), Some(due));
    assert_eq!(queue.due_of(MessageIndex(7)), Some(due));
    assert!(!queue.is_ready(Tick(due.0 - 1)));
    assert_eq!(queue.next(Tick(due.0 - 1)), None);
    assert!(queue.is_ready(due));
    assert_eq!(queue.next(due), Some(MessageIndex(7)));
    assert_eq!(queue.due(), None);
}

#[test]
fn what_start_finds_goes_oldest_first() {
    let mut queue = Queue::new();
    for (message, accepted) in [(1, 300), (2, 100), (3, 200)] {
        queue.push_recovered(MessageIndex(message), &facts(2048, accepted));
    }
    let order: Vec<_> = std::iter::from_fn(|| relay(&mut queue, Tick(1000))).collect();
    assert_eq!(order, [2, 3, 1]);
}

#[test]
fn a_fault_of_the_route_costs_a_message_nothing_but_never_blocks_others() {
    let mut queue = Queue::new();
    fresh(&mut queue, 1);
    fresh(&mut queue, 2);
    let first = queue.next(Tick(0)).unwrap();
    queue.put_back(first);
    assert_eq!(queue.next(Tick(0)), Some(first), "first again");
    queue.put_back(first);
    assert_eq!(queue.next(Tick(0)), Some(MessageIndex(2)), "after two faults another one has its turn");
    queue.put_back(MessageIndex(2));
    assert_eq!(queue.next(Tick(0)), Some(MessageIndex(2)));
    queue.remove(MessageIndex(2));
    assert_eq!(queue.next(Tick(0)), Some(first));
    assert_eq!(queue.due(), None);
}

#[test]
fn retry_all_makes_everything_due() {
    let mut queue = Queue::new();
    for message in 0..20 {
        deferred(&mut queue, message, Tick(0));
    }
    assert_eq!(queue.next(Tick(1)), None);
    queue.retry_all(Tick(1));
    assert_eq!(std::iter::from_fn(|| relay(&mut queue, Tick(1))).count(), 20);
}

/// C-4.5.4.1-b, C-4.5.4.1-c: from the first wait to the longest, growing with age, spread by a quarter.
#[test]
fn the_wait_grows_with_age_within_bounds() {
    let mut jitter = Jitter::new(1);
    for age_s in [0, 1, 59, 60, 61, 600, 3600, 7200, 7201, 86_400, u64::MAX / 1000] {
        let age = Duration::from_s(age_s);
        let middle = age.max(RETRY.first).min(RETRY.longest).0;
        for _ in 0..200 {
            let wait = back_off(age, &RETRY, &mut jitter).0;
            assert!((middle - middle / 4..=middle + middle / 4).contains(&wait), "{wait} at {age_s} s");
        }
    }
    let impatient = Retry { first: Duration(0), longest: Duration(0), ..RETRY };
    assert_eq!(back_off(Duration(0), &impatient, &mut jitter), Duration::from_s(1));
}

/// C-4.5.4.1-b: two tries in the first hour at least, and no more than a dozen in a day with the defaults'
/// growth.
#[test]
fn a_refused_message_is_tried_a_bounded_number_of_times() {
    let mut jitter = Jitter::new(3);
    let (mut now, mut tries, mut in_first_hour) = (Tick(0), 0, 0);
    while now.0 < RETRY.give_up.0 {
        now = now + back_off(now.since(Tick(0)), &RETRY, &mut jitter);
        tries += 1;
        in_first_hour += u32::from(now.0 < 3_600_000);
    }
    assert!((2..=10).contains(&in_first_hour), "{in_first_hour}");
    assert!((50..=90).contains(&tries), "{tries}");
}

/// C-4.5.4.1-c: five days over a working route, thirty over a dead one.
#[test]
fn a_message_is_given_up_by_age_and_route() {
    let accepted = Tick(77);
    let at = |span: Duration| accepted + span;
    assert!(!is_expired(accepted, at(Duration(RETRY.give_up.0 - 1)), true, &RETRY));
    assert!(is_expired(accepted, at(RETRY.give_up), true, &RETRY));
    assert!(!is_expired(accepted, at(RETRY.give_up), false, &RETRY));
    assert!(!is_expired(accepted, at(Duration(RETRY.hold.0 - 1)), false, &RETRY));
    assert!(is_expired(accepted, at(RETRY.hold), false, &RETRY));
    assert!(!is_expired(accepted, Tick(0), true, &RETRY), "a clock behind makes nothing old");
}

/// C-4.5.4.1-d (in RAM): whatever happens, each message is in the queue exactly once and comes out in bounded
/// time.
#[test]
fn no_message_gets_lost_or_doubled() {
    let mut queue = Queue::new();
    let mut random = Jitter::new(11);
    let mut jitter = Jitter::new(12);
    let messages = 40.min(QUEUED_MESSAGES as u64);
    let mut taken = Vec::new();
    let mut there: BTreeMap<u32, bool> = BTreeMap::new();
    let mut now = Tick(0);
    for _ in 0..50_000 {
        now.0 += random.next() % 2000;
        let message = (random.next() % messages) as u32;
        match random.next() % 8 {
            0 | 1 if !there.contains_key(&message) => {
                let octets = 1 + random.next() % (2 * SMALL_OCTETS_MAX);
                queue.push(MessageIndex(message), &facts(octets, now.0));
                there.insert(message, false);
            }
            2 if there.get(&message) == Some(&false) => {
                queue.remove(MessageIndex(message));
                there.remove(&message);
            }
            3 | 4 => {
                let is_ready = queue.is_ready(now);
                let next = queue.next(now);
                assert_eq!(next.is_some(), is_ready);
                if let Some(next) = next {
                    assert_eq!(there.insert(next.0, true), Some(false), "taken twice or never pushed");
                    taken.push(next);
                }
            }
            5 => {
                if let Some(message) = taken.pop() {
                    queue.defer(message, Tick(now.0.saturating_sub(5)), now, &RETRY, &mut jitter);
                    there.insert(message.0, false);
                }
            }
            6 => {
                if let Some(message) = taken.pop() {
                    queue.put_back(message);
                    there.insert(message.0, false);
                }
            }
            7 => {
                if let Some(message) = taken.pop() {
                    queue.remove(message);
                    there.remove(&message.0);
                }
            }
            _ => {}
        }
        assert_eq!(queue.len(), there.len());
    }
    let waiting = there.values().filter(|is_taken| !**is_taken).count();
    queue.retry_all(now);
    assert_eq!(std::iter::from_fn(|| relay(&mut queue, now)).count(), waiting);
    assert_eq!(queue.len(), taken.len());
}

/// A message comes again at once for its notice; when that is deferred, or the route fails, its waiting
/// recipients come before the notice is tried again.
#[test]
fn a_notice_takes_turns_with_its_message() {
    let (mut queue, mut jitter) = (Queue::new(), Jitter::new(1));
    let message = MessageIndex(0);
    fresh(&mut queue, 0);
    fresh(&mut queue, 1);
    assert_eq!(queue.next(Tick(0)), Some(message));
    queue.push_notice(message);
    assert_eq!(relay(&mut queue, Tick(0)), Some(1));
    assert_eq!(queue.next(Tick(0)), Some(message));
    assert!(!queue.was_notice_deferred(message));
    let due = queue.defer_notice(message, Tick(0), Tick(0), &RETRY, &mut jitter);
    assert_eq!((queue.due_of(message), queue.next(Tick(0))), (Some(due), None));
    assert_eq!(queue.next(due), Some(message));
    assert!(queue.was_notice_deferred(message));
    queue.put_back(message);
    assert_eq!(queue.next(due), Some(message));
    assert!(queue.was_notice_deferred(message), "the message was not tried yet");
    queue.push_notice(message);
    assert_eq!(queue.next(due), Some(message));
    assert!(!queue.was_notice_deferred(message));
    queue.put_back_notice(message, false);
    assert_eq!(queue.next(due), Some(message));
    assert!(queue.was_notice_deferred(message));
    queue.remove(message);
    assert!(queue.is_empty());
    assert!(!queue.was_notice_deferred(message));
}

/// C-4.5.4.1-b: recipients that were told "later" keep their time through the notice about the others,
/// whether it is taken or the route fails; a retry of all holds for them too.
#[test]
fn who_waits_keeps_the_time_through_a_notice() {
    let (mut queue, mut jitter) = (Queue::new(), Jitter::new(1));
    let message = MessageIndex(0);
    for is_taken in [true, false] {
        fresh(&mut queue, 0);
        assert_eq!(queue.next(Tick(0)), Some(message));
        let due = queue.defer_behind_notice(message, Tick(0), Tick(0), &RETRY, &mut jitter);
        assert!(due >= Tick(45_000));
        assert_eq!(queue.next(Tick(1)), Some(message), "the notice comes at once");
        assert!(!queue.was_notice_deferred(message));
        if is_taken {
            assert_eq!(queue.resume(message), due);
        } else {
            queue.put_back_notice(message, true);
        }
        assert_eq!((queue.due_of(message), queue.next(Tick(due.0 - 1))), (Some(due), None));
        assert_eq!(queue.next(due), Some(message));
        assert_eq!(queue.was_notice_deferred(message), !is_taken);
        queue.remove(message);
    }
    fresh(&mut queue, 0);
    assert_eq!(queue.next(Tick(0)), Some(message));
    queue.defer_behind_notice(message, Tick(0), Tick(0), &RETRY, &mut jitter);
    assert_eq!(queue.next(Tick(1)), Some(message));
    queue.retry_all(Tick(2));
    assert_eq!(queue.resume(message), Tick(2));
    queue.remove(message);
    // Of a message that takes another's place nothing is known but when it came.
    fresh(&mut queue, 0);
    assert_eq!(queue.next(Tick(0)), Some(message));
    assert_eq!(queue.resume(message), Tick(0));
}

/// A notice has as long again as its message had.
#[test]
fn a_notice_is_given_up_later() {
    let after = |days: u64, works| is_notice_expired(Tick(0), Tick(days * 86_400_000), works, &RETRY);
    assert!(!after(9, true) && after(10, true));
    assert!(!after(59, false) && after(60, false));
}
