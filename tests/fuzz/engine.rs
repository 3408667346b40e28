//! The fuzzing engine: libFuzzer, calling the target that the environment's FUZZ_TARGET names.
#![no_main]

mod targets;

use std::sync::OnceLock;

use targets::{TARGETS, Target};

static TARGET: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names the target");
        TARGETS.into_iter().find(|(known, _)| *known == name).expect("a target's name").1
    });
    target(octets);
});
