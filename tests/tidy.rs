//! Reads the source tree and holds what a reviewer would else have to ask for: who may use whom, what may
//! stand where, how long things may be. The rules are the tables; the last test shows that each finds what it
//! is for.
use std::fs;
use std::path::Path;

/// The house, top floor first. A module uses what stands on lower floors, never its neighbours or what is
/// above.
const FLOORS: &[&[&str]] = &[
    &["main"],
    &["applet"],
    &["net"],
    &["relay"],
    &["receiver", "sender", "queue"],
    &["spool", "config"],
    &["smtp", "oauth2", "jitter"],
    &["limits", "time", "buffer"],
];

/// What only some places may name: the word, the starts of the paths where it may stand, and the rule.
const KEPT_TO: &[(&str, &[&str], &str)] = &[
    ("rustls", &["src/net/tls.rs", "src/net/tls/"], "only net/tls.rs knows the TLS library"),
    ("domain::base", &["src/net/resolver/packet.rs"], "only net/resolver/packet.rs knows the DNS library"),
    ("Instant::now", &["src/net/"], "only net/ reads clocks"),
    ("SystemTime", &["src/net/"], "only net/ reads clocks"),
    ("clock_gettime", &["src/net/"], "only net/ reads clocks"),
    ("AtomicU64", &["tests/"], "ARMv5 has no 64-bit atomics"),
    ("include!", &["src/limits.rs"], "only limits.rs reads the board's constants"),
];

/// The pure part, whose effects are its arguments, and what it therefore can't name.
const PURE: &[&str] =
    &["relay", "receiver", "sender", "queue", "smtp", "oauth2", "limits", "time", "buffer", "jitter"];
const WORLD: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time",
    "mio",
    "rustix",
    "signal_hook",
    "getrandom",
];

/// What stands in no code, and the marks of unfinished work that stand in no comment.
const NEVER_IN_CODE: &[&str] = &["todo!", "unimplemented!", "dbg!", "[allow", "[expect"];
const NEVER_IN_COMMENTS: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];

/// Words that say nothing, so they are no part of a name; and verbs that no function's name begins with.
const EMPTY_WORDS: &[&str] = &["util", "utils", "manager", "handler", "common", "helper", "helpers"];
const EMPTY_VERBS: &[&str] = &["get", "do", "process"];

const COLUMNS_MAX: usize = 110;
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// One source file, with its code and its comments apart: each is the whole file with the rest blanked out.
struct Source<'a> {
    path: &'a str,
    text: &'a str,
    code: String,
    comments: String,
}

impl<'a> Source<'a> {
    fn new(path: &'a str, text: &'a str) -> Self {
        let (code, comments) = split(text);
        Self { path, text, code, comments }
    }

    /// The floor's module that the file belongs to; empty for lib.rs and what is not in src/.
    fn module(&self) -> &str {
        let name = self.path.strip_prefix("src/").unwrap_or_default();
        name.split(['/', '.']).next().filter(|name| *name != "lib").unwrap_or_default()
    }

    fn is_src(&self) -> bool {
        self.path.starts_with("src/")
    }

    /// `path:line: problem`, for a place in `code` or `comments`.
    fn at(&self, place: usize, problem: &str) -> String {
        let line = self.code.bytes().take(place).filter(|octet| *octet == b'\n').count() + 1;
        format!("{}:{line}: {problem}", self.path)
    }
}

/// `text` as code, with comments and literals blanked, and as comments, with the rest blanked. Both are ASCII
/// and have their line breaks at the same places.
fn split(text: &str) -> (String, String) {
    let text: Vec<char> = text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let mut at = 0;
    let starts = |at: usize, what: &str| what.chars().enumerate().all(|(i, c)| text.get(at + i) == Some(&c));
    while at < text.len() {
        let rest = text.len() - at;
        let (is_comment, length) = if starts(at, "//") {
            (true, text[at..].iter().position(|c| *c == '\n').unwrap_or(rest))
        } else if starts(at, "/*") {
            (true, (2..rest).find(|i| starts(at + i - 2, "*/")).unwrap_or(rest))
        } else if text[at] == '"' {
            let hashes = code.chars().rev().take_while(|c| *c == '#').count();
            let is_raw = code.chars().rev().nth(hashes) == Some('r');
            let end = format!("\"{}", "#".repeat(if is_raw { hashes } else { 0 }));
            let mut length = 1;
            while length < rest && !starts(at + length, &end) {
                length += if text[at + length] == '\\' && !is_raw { 2 } else { 1 };
            }
            (false, length + end.len())
        } else if starts(at, "'\\") {
            (false, (3..rest).find(|i| text[at + i] == '\'').unwrap_or(rest) + 1)
        } else if text[at] == '\'' && starts(at + 2, "'") {
            (false, 3)
        } else {
            code.push(text[at]);
            comments.push(if text[at] == '\n' { '\n' } else { ' ' });
            at += 1;
            continue;
        };
        for c in &text[at..(at + length).min(text.len())] {
            let blank = if *c == '\n' { '\n' } else { ' ' };
            code.push(blank);
            comments.push(if is_comment { *c } else { blank });
        }
        at += length;
    }
    (code, comments)
}

/// True for what a name is made of.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Where `what` stands in `text` as a word of its own on the sides where it is a word.
fn places<'a>(text: &'a str, what: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(what).map(|(place, _)| place).filter(move |place| {
        let before = text[..*place].chars().next_back().filter(|_| what.starts_with(is_word));
        let after = text[place + what.len()..].chars().next().filter(|_| what.ends_with(is_word));
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The word at the start of `text`.
fn word(text: &str) -> &str {
    text.split(|c| !is_word(c)).next().unwrap_or_default()
}

/// The length of the part of `text` that its first character, an opening bracket, encloses, brackets
/// included.
fn enclosed(text: &str) -> usize {
    let mut depth = 0;
    for (place, c) in text.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return place + 1;
        }
    }
    text.len()
}

/// The names that a path goes on with behind its `::`: one, or the first of each path in a group in braces.
fn path_heads(rest: &str) -> Vec<&str> {
    if !rest.starts_with('{') {
        return vec![word(rest)];
    }
    let group = &rest[1..enclosed(rest) - 1];
    let mut depth = 0;
    let entries = group.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    entries.map(|entry| word(entry.trim())).collect()
}

/// The floor of `module`, counted from the top.
fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Modules use only what stands on lower floors.
fn layers(source: &Source, findings: &mut Vec<String>) {
    let module = source.module();
    if module.is_empty() {
        return;
    }
    let Some(own) = floor(module) else {
        findings.push(source.at(0, &format!("module `{module}` stands on no floor of the house")));
        return;
    };
    // From a file of this depth so many `super::` lead to the root of the crate.
    let folders = source.path.matches('/').count() - usize::from(source.path.ends_with("/mod.rs"));
    let up = "super::".repeat(folders);
    for root in ["crate::", "postern::", &up] {
        for place in places(&source.code, root) {
            for used in path_heads(&source.code[place + root.len()..]) {
                if used != module && floor(used).is_some_and(|floor| floor <= own) {
                    findings.push(
                        source.at(place, &format!("`{module}` can't use `{used}`: not on a lower floor")),
                    );
                }
            }
        }
    }
}

/// Some words are kept to some places.
fn words(source: &Source, findings: &mut Vec<String>) {
    for what in WORLD.iter().filter(|_| PURE.contains(&source.module())) {
        for place in places(&source.code, what) {
            findings.push(source.at(place, &format!("`{what}`: this part is pure")));
        }
    }
    for (what, allowed, rule) in KEPT_TO.iter().filter(|_| source.is_src()) {
        if !allowed.iter().any(|start| source.path.starts_with(start)) {
            let found = places(&source.code, what);
            findings.extend(found.map(|place| source.at(place, &format!("`{what}`: {rule}"))));
        }
    }
    for (text, banned) in [(&source.code, NEVER_IN_CODE), (&source.comments, NEVER_IN_COMMENTS)] {
        for what in banned {
            findings.extend(places(text, what).map(|place| source.at(place, &format!("`{what}` is left"))));
        }
    }
}

/// Names say what a thing is.
fn names(source: &Source, findings: &mut Vec<String>) {
    for part in source.path.split(['/', '.', '_']).filter(|part| EMPTY_WORDS.contains(part)) {
        findings.push(source.at(0, &format!("a file's name says more than `{part}`")));
    }
    for keyword in ["fn ", "struct ", "enum ", "trait ", "mod ", "type ", "const ", "static "] {
        for place in places(&source.code, keyword) {
            let name = word(&source.code[place + keyword.len()..]);
            let mut spaced = String::new();
            for c in name.chars() {
                if c.is_ascii_uppercase() && name.contains(|c: char| c.is_ascii_lowercase()) {
                    spaced.push('_');
                }
                spaced.push(c.to_ascii_lowercase());
            }
            let parts: Vec<&str> = spaced.split('_').filter(|part| !part.is_empty()).collect();
            let is_empty_verb = keyword == "fn " && parts.len() > 1 && EMPTY_VERBS.contains(&parts[0]);
            if is_empty_verb || parts.iter().any(|part| EMPTY_WORDS.contains(part)) {
                findings.push(source.at(place, &format!("the name `{name}` has an empty word in it")));
            }
        }
    }
}

/// Nothing is longer than a reader takes in, and each file says first what it is.
fn lengths(source: &Source, findings: &mut Vec<String>) {
    for (index, line) in source.text.lines().enumerate() {
        let columns = line.chars().count();
        // The formatter leaves a literal whole; in tests it is a text to compare with, and stays so.
        let is_text_of_a_test = !source.is_src() && line.contains('"');
        if columns > COLUMNS_MAX && !is_text_of_a_test {
            findings.push(format!("{}:{}: {columns} columns, at most {COLUMNS_MAX}", source.path, index + 1));
        }
    }
    if !source.is_src() && source.path != "build.rs" {
        return;
    }
    if !source.text.starts_with("//!") {
        findings.push(source.at(0, "the file does not begin with `//!` and what it is"));
    }
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(source.at(0, &format!("{lines} lines, at most {FILE_LINES_MAX}")));
    }
    for place in places(&source.code, "fn ") {
        let lines = source.code[place..place + function(&source.code[place..])].lines().count();
        if lines > FUNCTION_LINES_MAX {
            findings.push(
                source.at(place, &format!("a function of {lines} lines, at most {FUNCTION_LINES_MAX}")),
            );
        }
    }
}

/// The length of the function at the start of `code`: to the end of its body, or of its declaration without
/// one.
fn function(code: &str) -> usize {
    let mut place = 0;
    while let Some(c) = code[place..].chars().next() {
        let is_argument = code[..place].trim_end().ends_with(['<', ',', '=']);
        match c {
            '{' if !is_argument => return place + enclosed(&code[place..]),
            '{' | '(' | '[' => place += enclosed(&code[place..]),
            ';' => return place,
            _ => place += 1,
        }
    }
    place
}

/// All that is wrong with one file.
fn findings(path: &str, text: &str) -> Vec<String> {
    let source = Source::new(path, text);
    let mut findings = Vec::new();
    for rule in [layers, words, names, lengths] {
        rule(&source, &mut findings);
    }
    findings
}

/// Adds the findings of all Rust files in `folder` and below, and returns how many there are.
fn walk(folder: &Path, into: &mut Vec<String>) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("the source tree is there") {
        let path = entry.expect("the source tree can be read").path();
        if path.is_dir() && !path.ends_with("target") {
            count += walk(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("source is UTF-8");
            let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("it is below");
            into.extend(findings(path.to_str().expect("paths are UTF-8"), &text));
            count += 1;
        }
    }
    count
}

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = findings("build.rs", &fs::read_to_string(root.join("build.rs")).unwrap());
    assert!(walk(&root.join("src"), &mut all) > 10);
    assert!(walk(&root.join("tests"), &mut all) > 1);
    all.sort();
    assert!(all.is_empty(), "{} findings\n{}", all.len(), all.join("\n"));
}

#[test]
fn code_and_comments_are_told_apart() {
    let text = "a \"//\\\" b\" c // d 'e'\n'\"' f '\\'' g<'h> /* i\n */ r#\"j\" \\\"# k b'\\\\' l ä\n/// m";
    let (code, comments) = split(text);
    assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), "a c f g<'h> r# k b l ?");
    assert_eq!(comments.split_whitespace().collect::<Vec<_>>().join(" "), "// d 'e' /* i */ /// m");
    assert_eq!(code.len(), comments.len());
    assert_eq!(code.lines().count(), 4);
}

#[test]
fn what_is_right_has_no_findings() {
    for (path, text) in [
        (
            "src/smtp/path.rs",
            "//! x\nuse crate::limits::{A, B};\nuse super::relay;\nuse crate::smtp::queue;\n",
        ),
        (
            "src/relay.rs",
            "//! x\nuse crate::{queue::Q, spool::{S, net}};\n// uses crate::net\nlet a = \"todo!\";\n",
        ),
        ("src/net/tls.rs", "//! x\nuse rustls::C;\nlet x = std::time::Instant::now();\n"),
        ("src/main.rs", "//! x\nuse postern::applet;\nmod args;\n"),
        (
            "src/spool/file.rs",
            "//! x\nuse rustix::fs;\nfn get(&self) {}\nfn target_do() {}\nstruct Utility;\n",
        ),
        ("src/lib.rs", "//! x\npub mod net;\n"),
        ("tests/x.rs", "use postern::net;\nlet x = std::time::Instant::now();\n"),
    ] {
        assert_eq!(findings(path, text), [""; 0]);
    }
    let text = format!("//! x\nfn a() -> V<u8, {{ N }}> {{\n{}}}\n", "x;\n".repeat(68));
    assert_eq!(findings("src/time.rs", &text), [""; 0]);
}

#[test]
fn each_rule_finds_what_it_is_for() {
    let path = "src/queue/retry.rs";
    for (path, text, expected) in [
        (path, "use crate::sender::S;", "2: `queue` can't use `sender`"),
        (path, "use crate::{\n    time::{A, B},\n    net::N,\n};", "2: `queue` can't use `net`"),
        (path, "fn a(b: crate::relay::R) {}", "2: `queue` can't use `relay`"),
        (path, "use super::super::receiver;", "2: `queue` can't use `receiver`"),
        ("src/queue/mod.rs", "use super::receiver;", "2: `queue` can't use `receiver`"),
        ("src/buffer.rs", "use super::time;", "2: `buffer` can't use `time`"),
        ("src/time.rs", "use crate::limits;", "2: `time` can't use `limits`"),
        ("src/dns.rs", "", "1: module `dns` stands on no floor"),
        ("src/net/event_loop.rs", "\nuse rustls::A;", "3: `rustls`: only net/tls.rs"),
        ("src/spool/file.rs", "let t = SystemTime::now();", "2: `SystemTime`: only net/"),
        ("src/applet/demo.rs", "let t = Instant::now();", "2: `Instant::now`: only net/"),
        ("src/config.rs", "include!(\"x\");", "2: `include!`: only limits.rs"),
        ("src/net/log_lines.rs", "static N: AtomicU64;", "2: `AtomicU64`: ARMv5"),
        (path, "use std::fs::File;", "2: `std::fs`: this part is pure"),
        (path, "use mio::Token;", "2: `mio`: this part is pure"),
        (path, "fn a() { todo!() }", "2: `todo!` is left"),
        (path, "#[allow(dead_code)]\nfn a() {}", "2: `[allow` is left"),
        (path, "// TODO: more", "2: `TODO` is left"),
        ("tests/x.rs", "//! x\n/// FIXME", "3: `FIXME` is left"),
        ("src/net/util.rs", "", "1: a file's name says more than `util`"),
        (path, "struct QueueManager;", "2: the name `QueueManager` has"),
        (path, "pub fn process_mail() {}", "2: the name `process_mail` has"),
        (path, "const COMMON_OCTETS: u8 = 0;", "2: the name `COMMON_OCTETS` has"),
        (path, &"x".repeat(111), "2: 111 columns"),
        (path, &"x;\n".repeat(500), "1: 501 lines"),
        (path, &format!("fn a() -> V<u8, {{ N }}> {{\n{}}}", "x;\n".repeat(69)), "2: a function of 71 lines"),
    ] {
        let found = findings(path, &format!("//! x\n{text}"));
        let expected = format!("{path}:{expected}");
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{expected}: {found:?}");
    }
    assert_eq!(
        findings("src/time.rs", "\n"),
        ["src/time.rs:1: the file does not begin with `//!` and what it is"]
    );
}
