//! A spool in memory, and a relay over it.

use std::path::Path;

use postern::config::Config;
use postern::relay::Relay;
use postern::spool::{Memory, Start, Store};
use postern::time::{Duration, Instant, Now, Wall};

pub(super) const BLOCKS: u32 = 64;
/// Blocks beyond which a file does not grow, whatever its superblock says.
pub(super) const BLOCKS_MAX: u32 = 1024;

pub(super) const fn at(instant_ms: u64) -> Now {
    Now { instant: Instant(instant_ms), wall: Wall { unix_s: 1_795_510_800, is_trusted: true } }
}

/// A store on an empty disk.
pub(super) fn store() -> Store<Memory> {
    let start = Start { blocks: BLOCKS, seed: 1, now: at(1000).instant };
    Store::start(Memory::new(BLOCKS_MAX), start).expect("an empty disk becomes a spool").0
}

/// A relay with these keys above `[smarthost]` and in it.
pub(super) fn relay(keys: &str, smarthost: &str) -> Relay<Memory> {
    let toml = format!(
        "hostname = \"relay.example\"\nadmin = \"admin@example.com\"\n{keys}\n[smarthost]\n\
         host = \"192.0.2.25\"\ntls = \"none\"\n{smarthost}\n"
    );
    let config = Config::parse(&toml, Path::new("postern.toml"), "relay").expect("the file is valid");
    Relay::new(config, store(), 1)
}

/// Lets a store that nothing holds any more come to rest, and counts its blocks.
pub(super) fn assert_even(relay: &mut Relay<Memory>, now: &mut Now) {
    for _ in 0..4 {
        now.instant = now.instant + Duration::from_s(10);
        relay.turn(now);
        while relay.next_touched().is_some() {}
    }
    let balance = relay.spool().balance();
    assert!(balance.is_even(), "{balance:?}");
    assert_eq!((balance.drafts, balance.in_drafts), (0, 0), "{balance:?}");
}
