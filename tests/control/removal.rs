//! Removal and retry against delivery: nothing is lost, sent twice or revived.

use postern::queue::Standing;
use postern::relay::{Removal, Retrial};
use postern::spool::{BlockIndex, DeviceError, MessageId};
use postern::time::Duration;

use crate::disk::{Call, Effect, Fault};
use crate::world::World;

#[test]
fn a_removed_message_is_gone_when_its_tombstone_is_durable() {
    let mut world = World::new();
    let kept = world.submit_to("a@b.example");
    let id = world.submit_to("c@d.example");
    assert_eq!(world.ids(), [kept, id]);
    assert_eq!(world.relay.remove(id), Removal::Removed);
    assert_eq!(world.ids(), [kept]);
    assert!(!world.relay.has_durable_removals(), "nothing was synced since");
    assert_eq!(world.after_power_cut(false).ids(), [kept, id]);
    world.turn();
    assert!(world.relay.has_durable_removals());
    assert_eq!(world.after_power_cut(false).ids(), [kept]);
    assert_eq!(world.relay.remove(id), Removal::Unknown);
    let (_, heard) = world.connect();
    assert!(heard.contains("MAIL FROM:<ups@site.example>"), "{heard}");
}

#[test]
fn a_message_on_its_way_is_removed_when_the_attempt_is_over() {
    for reply in ["451 4.3.0 later\r\n", "250 taken\r\n", "550 no\r\n", "421 bye\r\n"] {
        let mut world = World::new();
        let id = world.submit_to("a@b.example");
        let (at, heard) = world.connect();
        assert!(heard.contains("MAIL FROM:"), "{heard}");
        assert_eq!(world.relay.remove(id), Removal::OnItsWay);
        let listed = world.listed()[0];
        let taken = Standing::Taken { is_to_be_removed: true };
        assert_eq!(world.relay.standing(listed.message), taken);
        assert_eq!(world.relay.retry(&world.now, id), Retrial::OnItsWay);
        world.say(at, b"250 fine\r\n");
        world.say(at, b"250 fine\r\n");
        let mail = world.say(at, b"354 go on\r\n");
        assert!(mail.ends_with("z\r\n.\r\n"), "it is not cut short: {mail}");
        assert_eq!(world.ids(), [id]);
        let heard = world.say(at, reply.as_bytes());
        assert_eq!(world.ids(), [], "{reply}");
        assert!(!heard.contains("MAIL"), "no notice of what was removed: {heard}");
        world.wait(Duration::from_s(3));
        assert!(world.relay.has_durable_removals(), "{reply}");
        assert_eq!(world.after_power_cut(false).ids(), []);
    }
}

#[test]
fn all_can_be_removed_while_more_comes() {
    let mut world = World::new();
    for number in 0..20 {
        world.submit_to(&format!("r{number}@b.example"));
    }
    for listed in world.listed() {
        assert_eq!(world.relay.remove_listed(listed), Removal::Removed);
        assert_eq!(world.relay.remove_listed(listed), Removal::Unknown);
    }
    let later = world.submit_to("later@b.example");
    assert_eq!(world.ids(), [later]);
    assert_eq!(world.after_power_cut(true).ids(), [later]);
}

#[test]
fn a_listing_is_in_order_without_what_came_later() {
    let mut world = World::new();
    let ids: Vec<MessageId> = (0..9).map(|n| world.submit_to(&format!("r{n}@b.example"))).collect();
    let spool = world.relay.spool();
    let before = spool.next_id();
    let first = spool.list(None, before)[0];
    assert_eq!(first.id, ids[0]);
    // The shown one leaves, the next one too, and their places are taken by new ones.
    world.relay.remove(ids[0]);
    world.relay.remove(ids[1]);
    world.turn();
    world.submit_to("new@b.example");
    world.submit_to("new@b.example");
    let spool = world.relay.spool();
    let rest: Vec<MessageId> = spool.list(Some(first), before).iter().map(|listed| listed.id).collect();
    assert_eq!(rest, ids[2..]);
    assert_eq!(world.ids().len(), 9);
}

#[test]
fn a_deferred_message_is_tried_when_asked_for() {
    let mut world = World::new();
    let id = world.submit_to("a@b.example");
    let (at, _) = world.connect();
    world.say(at, b"451 4.7.1 greylisted\r\n");
    let message = world.listed()[0].message;
    assert!(matches!(world.relay.standing(message), Standing::Deferred(_)));
    assert_eq!(world.relay.retry(&world.now, id), Retrial::Due);
    let heard = world.say(at, b"");
    assert!(heard.contains("MAIL FROM:"), "{heard}");
    let unknown = MessageId { epoch: 99, counter: 1 };
    assert_eq!(world.relay.retry(&world.now, unknown), Retrial::Unknown);
}

#[test]
fn while_the_disk_fails_nothing_is_removed() {
    let mut world = World::new();
    let id = world.submit_to("a@b.example");
    let fault = Fault { call: Call::Sync, skip: 0, times: 1, error: DeviceError::Io, effect: Effect::Whole };
    world.disk.fail(fault);
    assert_eq!(world.relay.remove(id), Removal::Removed);
    world.turn();
    assert!(!world.relay.has_durable_removals(), "the sync failed");
    assert_eq!(world.relay.remove(id), Removal::Unknown);
    world.wait(Duration::from_s(2));
    world.wait(Duration::from_s(3));
    assert!(world.relay.has_durable_removals());
    assert_eq!(world.after_power_cut(false).ids(), []);
}

#[test]
fn a_damaged_message_is_listed_and_removed_for_good() {
    let mut world = World::new();
    let long = format!("x: y\r\n\r\n{}", "0123456789abcdef\r\n".repeat(600));
    let id = world.submit("MAIL FROM:<ups@site.example>\r\nRCPT TO:<a@b.example>\r\n", &long);
    let other = world.submit_to("c@d.example");
    let written =
        (2..256).map(BlockIndex).find(|at| world.disk.peek(*at).windows(9).any(|w| w == b"abcdef\r\n0"));
    world.disk.spoil(written.expect("the message's first block"), |block| block[2000] ^= 1);
    let mut world = world.after_power_cut(false);
    let aside: Vec<bool> = world.listed().iter().map(|listed| listed.is_aside).collect();
    assert_eq!((world.ids(), aside), (vec![id, other], vec![true, false]));
    assert_eq!(world.relay.retry(&world.now, id), Retrial::Damaged);
    assert_eq!(world.relay.remove(id), Removal::Removed);
    assert_eq!(world.ids(), [other]);
    let world = world.after_power_cut(false);
    assert_eq!(world.ids(), [other]);
    assert!(world.relay.spool().balance().is_even(), "the next start has its blocks back");
}
