//! The board files: each parses and keeps the RFC minima, and each way to break one is told with its line.
#[path = "../build.rs"]
mod build;

use build::{Board, CAPACITIES, boards, constants, load, parse};
use postern::limits;

const FOLDER: &str = "targets/boards";

/// A board file without a fault; the tests below break it.
const WHOLE: &str = "\
# a board
triple = \"armv7-unknown-linux-musleabihf\" # its target

receiver_sessions = 2
sender_connections = 1
tls_connections = 1
input_octets = 1_166
output_octets = 512
sender_input_octets = 512
sender_output_octets = 2048
queued_messages = 64
recipients = 100
message_octets = 65536
spool_blocks = 2_048
memory_octets=65_536";

fn value(board: &Board, key: &str) -> u64 {
    board.values[CAPACITIES.iter().position(|capacity| capacity.key == key).expect("a test names a key")]
}

/// The message for `WHOLE` with the line that contains `old` replaced by `new`; the path in it is `b.toml`.
fn refusal(old: &str, new: &str) -> String {
    let broken = WHOLE.lines().map(|line| if line.contains(old) { new } else { line }).collect::<Vec<_>>();
    assert_ne!(broken.join("\n"), WHOLE);
    parse("b.toml", &broken.join("\n")).err().expect("the file is broken")
}

#[test]
fn every_board_parses_and_keeps_the_minima() {
    let names = boards(FOLDER).unwrap();
    for name in ["host", "pi", "pizero", "router", "router32", "tiny"] {
        assert!(names.iter().any(|other| other == name), "{name} is missing");
    }
    for name in names {
        let board = load(FOLDER, &name).unwrap();
        // RFC 5321 4.5.3.1.8, 4.5.3.1.7, 4.5.3.1.4 with the increments of RFC 1870, 6152, 4954, 3461 and
        // 6531, and 4.5.3.1.5; written out again, so that a slip in limits.rs shows.
        assert!(value(&board, "recipients") >= 100, "{name}");
        assert!(value(&board, "message_octets") >= 65_536, "{name}");
        assert!(value(&board, "input_octets") > 512 + 26 + 17 + 500 + 100 + 10, "{name}");
        assert!(value(&board, "output_octets") >= 512, "{name}");
        assert!(value(&board, "sender_input_octets") >= 512, "{name}");
        // A receiver session with its draft's block, and everything else it has in 1 KiB.
        let session = 4096 + 1024 + value(&board, "input_octets") + value(&board, "output_octets");
        assert!(session <= 8192, "{name}: {session}");
    }
}

#[test]
fn host_and_tiny_are_what_they_are_for() {
    let host = load(FOLDER, "host").unwrap();
    assert_eq!(value(&host, "receiver_sessions"), 64);
    assert_eq!(value(&host, "queued_messages"), 16_384);
    let tiny = load(FOLDER, "tiny").unwrap();
    assert_eq!(value(&tiny, "receiver_sessions"), 2);
    assert_eq!(value(&tiny, "spool_blocks") * 4096, 8 * 1024 * 1024);
    assert!(value(&tiny, "message_octets") >= 5 * 1024 * 1024);
    assert!(value(&tiny, "recipients") >= 200);
}

#[test]
fn this_build_has_its_boards_values() {
    let board = load(FOLDER, limits::BOARD).unwrap();
    assert_eq!(limits::TRIPLE, board.triple);
    let sum: usize = limits::RESERVED.iter().map(|(_, count, octets)| count * octets).sum();
    assert_eq!(limits::STATIC_OCTETS, sum);
    assert!(sum <= limits::MEMORY_OCTETS);
    for (capacity, (key, number)) in CAPACITIES.iter().zip(limits::CAPACITIES) {
        assert_eq!((capacity.key, value(&board, key)), (*key, *number));
    }
    assert_eq!(limits::CAPACITIES.len(), CAPACITIES.len());
    let table = limits::Table.to_string();
    assert!(table.contains(&format!("in all {sum:>47}\n")), "{table}");
    assert!(table.contains(&format!("one receiver session {:>35}\n", limits::RECEIVER_SESSION_OCTETS)));
}

#[test]
fn a_whole_file_is_read() {
    let board = parse("b.toml", WHOLE).ok().unwrap();
    assert_eq!(board.triple, "armv7-unknown-linux-musleabihf");
    assert_eq!(board.values, [2, 1, 1, 1166, 512, 512, 2048, 64, 100, 65_536, 2048, 65_536]);
    let source = constants("b", &board);
    assert_eq!(source.lines().count(), 2 + CAPACITIES.len());
    assert!(source.starts_with("pub(super) const NAME: &str = \"b\";\n"));
    assert!(source.contains("pub(super) const MESSAGE_OCTETS: u64 = 65536;\n"));
    assert!(source.ends_with("pub(super) const MEMORY_OCTETS: usize = 65536;\n"));
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_keys() {
    let message = refusal("tls_connections", "tls_connection = 1");
    assert!(
        message.starts_with("b.toml:6: unknown key `tls_connection`; allowed: triple, receiver_"),
        "{message}"
    );
    assert!(message.ends_with(", memory_octets"), "{message}");
}

#[test]
fn a_missing_key_is_told_at_the_last_line() {
    for capacity in &CAPACITIES {
        let message =
            refusal(&format!("{} =", capacity.key).replace("memory_octets =", "memory_octets="), "");
        let line = if capacity.key == "memory_octets" { 14 } else { 15 };
        let start =
            format!("b.toml:{line}: `{}` is missing; a board file names each of: triple", capacity.key);
        assert!(message.starts_with(&start), "{message}");
    }
    assert!(refusal("triple", "").starts_with("b.toml:15: `triple` is missing"));
    assert!(parse("b.toml", "").err().unwrap().starts_with("b.toml:1: `triple` is missing"));
}

#[test]
fn a_doubled_key_is_told_at_its_second_line() {
    let doubled = format!("{WHOLE}\nrecipients = 100\n");
    let message = parse("b.toml", &doubled).err().unwrap();
    assert_eq!(message, "b.toml:16: `recipients` stands here a second time; each key is given once");
    let message = refusal("receiver_sessions", "triple = \"arm-unknown-linux-musleabi\"");
    assert!(message.starts_with("b.toml:4: `triple` stands here a second time"), "{message}");
}

#[test]
fn a_bad_number_is_told_with_its_bounds() {
    for bad in [
        "",
        "-1",
        "+100",
        "0",
        "99",
        "1001",
        "1_00_",
        "_100",
        "1__00",
        "0100",
        "0x64",
        "1e2",
        "100.0",
        "100 KiB",
        "\"100\"",
        "true",
        "1 00",
        "18446744073709551616",
        "[100]",
        "100 = 100",
        "१००",
    ] {
        let message = refusal("recipients", &format!("recipients = {bad}"));
        let expected = format!("b.toml:12: `recipients = {bad}`: allowed is a whole number from 100 to 1000");
        assert_eq!(message, expected);
    }
}

#[test]
fn the_bounds_themselves_are_allowed() {
    for capacity in &CAPACITIES {
        for number in [capacity.min, capacity.max] {
            let line = format!("{} = {number}", capacity.key);
            let start = format!("{} ", capacity.key).replace("memory_octets ", "memory_octets=");
            let text = WHOLE
                .lines()
                .map(|old| if old.starts_with(&start) { &line } else { old })
                .collect::<Vec<_>>();
            assert_eq!(value(&parse("b.toml", &text.join("\n")).ok().unwrap(), capacity.key), number);
        }
        for number in [capacity.min - 1, capacity.max + 1] {
            let start = format!("{} =", capacity.key).replace("memory_octets =", "memory_octets=");
            let message = refusal(&start, &format!("{} = {number}", capacity.key));
            assert!(message.contains(&format!("from {} to {}", capacity.min, capacity.max)), "{message}");
        }
    }
}

#[test]
fn a_bad_triple_is_told() {
    for bad in
        ["armv7-unknown-linux-musleabihf", "\"armv7\"", "\"\"", "\"a-b-c", "\"a b-c-d\"", "\"a-b-c\" x", "5"]
    {
        let message = refusal("triple", &format!("triple = {bad}"));
        let expected = format!("b.toml:2: `triple = {bad}`: allowed is a target triple in double quotes");
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn what_is_no_statement_is_told() {
    for bad in ["[limits]", "receiver_sessions", "receiver_sessions: 2"] {
        let message = refusal("receiver_sessions", bad);
        assert_eq!(message, format!("b.toml:4: `{bad}`: a line is `key = value` or a comment"));
    }
    assert!(refusal("receiver_sessions", "= 2").starts_with("b.toml:4: unknown key ``; allowed: triple, "));
}

#[test]
fn an_unknown_board_is_told_with_the_boards_there_are() {
    for name in ["toaster", "", "../boards/tiny", "tiny.toml"] {
        let message = load(FOLDER, name).err().unwrap();
        let start = format!("BOARD={name}: there is no targets/boards/{name}.toml; allowed: ");
        assert!(message.starts_with(&start), "{message}");
        assert!(message.ends_with(&boards(FOLDER).unwrap().join(", ")), "{message}");
    }
}
