//! Each requirement, on the server's side and the client's, has a test that cites it: prints the table
//! id -> tests, and fails for one without.
//!
//! `requirements.txt` has the ids, each with its level (M must, S should, Y may, X beyond the RFCs) and, for
//! one that no test here can hold, why not. A dialog cites in its first line, before the colon; any other
//! test in its comments, or in a string. In the sources, only what stands in their tests counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The files below `folder` of one of `kinds`, `tests/requirements.rs` aside.
fn files(folder: &Path, kinds: &[&str], into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, kinds, into);
        } else if path.extension().is_some_and(|kind| kinds.iter().any(|known| kind == *known))
            && !path.ends_with("requirements.rs")
        {
            into.push(path);
        }
    }
}

/// The words of `text` that have the form of an id.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-' || letter == '.'))
        .map(|word| word.trim_end_matches('.'))
}

/// What a file cites: a dialog in its first line only, a source of the relay in its tests only.
fn cited(path: &Path, text: &str) -> BTreeSet<String> {
    let is_dialog = path.extension().is_some_and(|kind| kind == "smtp");
    let first = text.lines().next().unwrap_or_default();
    let place = if is_dialog {
        first.split(':').next().unwrap_or_default()
    } else if path.starts_with("src") {
        text.split_once("#[cfg(test)]").map_or("", |(_, tests)| tests)
    } else {
        text
    };
    words(place).map(str::to_owned).collect()
}

#[test]
fn each_requirement_has_a_test() {
    let mut paths = Vec::new();
    files(&folder("tests"), &["smtp", "rs", "py"], &mut paths);
    files(&folder("src"), &["rs"], &mut paths);
    paths.sort();
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).expect("a source is text");
        let path = path.strip_prefix(folder("")).expect("below the project");
        for id in cited(path, &text) {
            tests.entry(id).or_default().push(path.display().to_string());
        }
    }
    let list = std::fs::read_to_string(folder("tests/requirements.txt")).expect("the list of ids");
    let (mut missing, mut count) = (Vec::new(), 0);
    for line in list.lines() {
        let (id, rest) = line.split_once(' ').expect("an id and its level");
        let (level, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        count += 1;
        match tests.get(id) {
            Some(names) => {
                println!("{id:<18} {level}  {}", names.join(" "));
                assert!(reason.is_empty(), "{id} is held by {} now: the reason may go", names.join(" "));
            }
            None if reason.is_empty() => missing.push(id),
            None => println!("{id:<18} {level}  not held: {reason}"),
        }
    }
    assert!(count >= 320, "only {count} requirements are listed");
    assert!(missing.is_empty(), "no test cites {}", missing.join(", "));
}

#[test]
fn ids_are_whole_words_and_a_dialog_cites_in_its_first_line() {
    let dialog = "# S-3.1-a, SEED-D.1: S-9.9-z is not cited\nC: S-8.8-y\n";
    let words_of =
        |words: BTreeSet<String>| -> Vec<_> { words.into_iter().filter(|word| word.contains('-')).collect() };
    assert_eq!(words_of(cited(Path::new("a.smtp"), dialog)), ["S-3.1-a", "SEED-D.1"]);
    assert!(cited(Path::new("a.rs"), "//! PIPE-a, (S-4.2-b).").contains("S-4.2-b"));
    assert!(!cited(Path::new("a.rs"), "//! S-4.2-bc").contains("S-4.2-b"));
    let source = "// C-9.9-z\n#[cfg(test)]\n// C-4.2-a\n";
    assert_eq!(words_of(cited(Path::new("src/a.rs"), source)), ["C-4.2-a"]);
}
