//! The wall clock jumps: from 1970 when somebody sets it, and years ahead. Ages and waits go by the queue
//! clock, so nothing expires, nothing bounces, and all is relayed (C-4.5.4.1-g).

use postern::time::{Duration, Instant, Wall};

use crate::world::{MINUTE, SECOND, World, saying, willing};

const IN_1970: Wall = Wall { unix_s: 60, is_trusted: false };
const IN_2026: Wall = Wall { unix_s: 1_795_000_000, is_trusted: true };
const IN_2036: Wall = Wall { unix_s: 2_110_000_000, is_trusted: true };

fn jumps(is_restarted: bool, from: Wall, to: Wall) {
    for is_deferred in [false, true] {
        let mut world = World::new("", vec![willing()]);
        world.now.wall = from;
        if is_deferred {
            world.hosts[0].policy = saying("RCPT", "451 4.3.0 later");
        } else {
            world.hosts[0].is_reachable = false;
        }
        world.submit_all(20);
        world.pass(Duration::from_min(30));
        assert_eq!(world.waiting(), 20);
        let ids = world.ids();
        world.now.wall = to;
        if is_restarted {
            // The board was off: its boot clock begins anew.
            world.restart(Instant(5_000));
            world.now.wall = to;
        }
        world.relay.clock_stepped(&world.now);
        world.pass(Duration::from_min(10));
        assert_eq!(world.ids(), ids, "{from:?} {to:?} {is_restarted} {is_deferred}");
        world.hosts[0].policy = willing();
        world.hosts[0].is_reachable = true;
        world.pass(Duration::from_min(120));
        assert_eq!((world.taken(), world.waiting()), (vec![20], 0));
        let is_notice = |reverse_path: &str| reverse_path != "camera@example.org";
        assert!(world.hosts[0].taken.iter().all(|(_, mail)| !is_notice(&mail.reverse_path)), "a bounce");
    }
}

#[test]
fn from_1970_to_2026() {
    jumps(false, IN_1970, IN_2026);
    jumps(true, IN_1970, IN_2026);
}

#[test]
fn from_2026_to_2036_and_back() {
    jumps(false, IN_2026, IN_2036);
    jumps(true, IN_2026, IN_2036);
    jumps(false, IN_2036, IN_2026);
    jumps(true, IN_2036, IN_1970);
}

/// A route that rests is probed when its time has come, whatever the wall clock does meanwhile.
#[test]
fn rests_go_by_the_boot_clock() {
    let mut world = World::new("", vec![willing()]);
    world.hosts[0].is_reachable = false;
    world.submit_all(1);
    world.pass(MINUTE);
    let dialled = world.hosts[0].dialled.len();
    world.now.wall = IN_2036;
    world.relay.clock_stepped(&world.now);
    world.pass(SECOND);
    assert!(world.hosts[0].dialled.len() <= dialled + 1);
    world.hosts[0].is_reachable = true;
    world.pass(MINUTE);
    assert_eq!(world.waiting(), 0);
}
