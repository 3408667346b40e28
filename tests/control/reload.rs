//! Other settings while mail is on its way.

use postern::receiver::Users;

use crate::world::{World, config};

#[test]
fn what_is_on_its_way_is_not_disturbed() {
    let mut world = World::new();
    let id = world.submit_to("a@b.example");
    let (at, heard) = world.connect();
    assert!(heard.contains("MAIL FROM:"), "{heard}");
    let mut other = config("domain = \"site.example\"");
    assert!(!world.relay.needs_drain_for(&other));
    world.relay.reload(other.clone(), Users::default());
    assert_eq!(world.relay.config().domain.as_deref(), Some("site.example"));
    other.smarthosts[0].host = "192.0.2.26".to_owned();
    assert!(world.relay.needs_drain_for(&other));
    assert!(!world.relay.is_drained());
    world.relay.drain(&world.now);
    let later = world.submit_to("c@d.example");
    world.say(at, b"250 fine\r\n");
    world.say(at, b"250 fine\r\n");
    world.say(at, b"354 go on\r\n");
    let heard = world.say(at, b"250 taken\r\n");
    assert_eq!(heard, "QUIT\r\n", "no further message over a smarthost that is to change");
    assert_eq!(world.ids(), [later], "{id} is relayed");
    assert!(!world.relay.is_drained());
    world.say(at, b"221 bye\r\n");
    world.relay.closed(&world.now, at);
    assert!(world.relay.is_drained());
    assert_eq!(world.relay.wants_connection(&world.now), None);
    assert_eq!(world.relay.deadline(world.now.instant).filter(|due| *due <= world.now.instant), None);
    world.relay.reload(other, Users::default());
    let at = world.relay.wants_connection(&world.now).expect("mail waits");
    assert_eq!(world.relay.smarthost_of(at), 0);
    assert_eq!(world.relay.config().smarthosts[0].host, "192.0.2.26");
}

#[test]
fn a_rest_ends_with_the_smarthost_it_was_for() {
    let mut world = World::new();
    world.submit_to("a@b.example");
    let at = world.relay.wants_connection(&world.now).expect("mail waits");
    world.relay.not_connected(&world.now, at, postern::sender::Fault::Connect);
    assert_eq!(world.relay.wants_connection(&world.now), None);
    assert!(world.relay.is_drained());
    let mut other = config("");
    world.relay.reload(other.clone(), Users::default());
    assert_eq!(world.relay.wants_connection(&world.now), None, "nothing has changed for it");
    other.smarthosts[0].port = 26;
    world.relay.reload(other, Users::default());
    assert!(world.relay.wants_connection(&world.now).is_some());
}
