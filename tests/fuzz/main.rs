//! Replays what the fuzzer has kept: every file under `tests/fuzz/corpus/TARGET/` goes through its target
//! again, so that what was once found stays mended. `tests/fuzz/run` looks for more.

mod targets;

use std::path::Path;

use targets::TARGETS;

#[test]
fn the_corpus_is_borne() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
        let files =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut count = 0;
        for file in files {
            let path = file.expect("a folder can be read").path();
            let octets = std::fs::read(&path).expect("a file can be read");
            // A panic's message doesn't say which file; the last of these lines, shown with it, does.
            println!("{}", path.display());
            target(&octets);
            count += 1;
        }
        for octets in [&b""[..], b"\0", b"\r\n", &[0xff; 64], &[0x80; 9000]] {
            target(octets);
        }
        assert!(count > 0, "{} is empty", folder.display());
    }
}
