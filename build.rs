//! The build script: one board file becomes the capacities of this build.
//!
//! `BOARD` names a file of `targets/boards/` (default `host`); its values are written as constants to
//! `OUT_DIR`, where `src/limits.rs`, and nothing else, reads them. A board file is the flat part of TOML that
//! [`parse`] describes: data, and no parser to depend on. What is unknown, missing, doubled or out of range
//! stops the build with the file, the line, and what is allowed. How capacities must relate is asserted in
//! `src/limits.rs`.
//!
//! `tests/boards.rs` includes this file too.

/// A number that every board file must name.
pub(crate) struct Capacity {
    /// The key in the board file; the constant has the same name in upper case.
    pub(crate) key: &'static str,
    /// The constant's type.
    pub(crate) rust_type: &'static str,
    /// The least that is legal: an RFC's minimum, or what the code can't do without.
    pub(crate) min: u64,
    /// The most that the formats in memory and on disk can count.
    pub(crate) max: u64,
}

/// A capacity that counts what memory holds.
const fn count(key: &'static str, min: u64, max: u64) -> Capacity {
    Capacity { key, rust_type: "usize", min, max }
}

/// Every number of a board file, in the order of `src/limits.rs`.
pub(crate) const CAPACITIES: [Capacity; 12] = [
    count("receiver_sessions", 1, 250),
    count("sender_connections", 1, 16),
    count("tls_connections", 1, 266),
    count("input_octets", 1_166, 65_536),
    count("output_octets", 512, 65_536),
    count("sender_input_octets", 512, 65_536),
    count("sender_output_octets", 2_048, 1_048_576),
    count("queued_messages", 1, 1_000_000),
    count("recipients", 100, 1_000),
    Capacity { key: "message_octets", rust_type: "u64", min: 65_536, max: 1_073_741_824 },
    count("spool_blocks", 64, 16_777_216),
    count("memory_octets", 16_384, 1_073_741_824),
];

/// The one text of a board file: what `targets/build` builds for.
const TRIPLE: &str = "triple";

/// What a board file says.
pub(crate) struct Board {
    /// The target triple.
    pub(crate) triple: String,
    /// One value for each of [`CAPACITIES`], in its order.
    pub(crate) values: [u64; CAPACITIES.len()],
}

/// Reads the board file `text`, which stands at `path`.
///
/// A line is empty, a comment (`#` to its end), or `key = value`. A value is a whole number, in which `_` may
/// stand between digits, or, for `triple` alone, a text in double quotes. Each key stands there exactly once,
/// in any order. The error is `path:line: ` and what is allowed; a missing key is reported at the last line.
pub(crate) fn parse(path: &str, text: &str) -> Result<Board, String> {
    let mut triple = None;
    let mut values = [None; CAPACITIES.len()];
    let mut line_number = 0;
    for line in text.lines() {
        line_number += 1;
        let at = |problem: String| format!("{path}:{line_number}: {problem}");
        let statement = line.split('#').next().unwrap_or_default().trim();
        if statement.is_empty() {
            continue;
        }
        let Some((key, value)) = statement.split_once('=') else {
            return Err(at(format!("`{statement}`: a line is `key = value` or a comment")));
        };
        let (key, value) = (key.trim(), value.trim());
        let is_new = if key == TRIPLE {
            triple.replace(text_value(value).map_err(at)?).is_none()
        } else {
            let Some(index) = CAPACITIES.iter().position(|capacity| capacity.key == key) else {
                return Err(at(format!("unknown key `{key}`; allowed: {}", keys())));
            };
            values[index].replace(number_value(value, &CAPACITIES[index]).map_err(at)?).is_none()
        };
        if !is_new {
            return Err(at(format!("`{key}` stands here a second time; each key is given once")));
        }
    }
    let missing = |key: &str| {
        format!("{path}:{}: `{key}` is missing; a board file names each of: {}", line_number.max(1), keys())
    };
    let mut board = Board { triple: triple.ok_or_else(|| missing(TRIPLE))?, values: [0; CAPACITIES.len()] };
    for (index, capacity) in CAPACITIES.iter().enumerate() {
        board.values[index] = values[index].ok_or_else(|| missing(capacity.key))?;
    }
    Ok(board)
}

/// All keys, as a list to read.
fn keys() -> String {
    let mut keys = vec![TRIPLE];
    keys.extend(CAPACITIES.iter().map(|capacity| capacity.key));
    keys.join(", ")
}

/// The number in `value`, within the bounds of `capacity`.
fn number_value(value: &str, capacity: &Capacity) -> Result<u64, String> {
    let Capacity { key, min, max, .. } = *capacity;
    let digits = value.split('_').collect::<Vec<_>>();
    let is_number = digits.iter().all(|part| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit()))
        && (value == "0" || !value.starts_with('0'));
    digits
        .concat()
        .parse::<u64>()
        .ok()
        .filter(|number| is_number && (min..=max).contains(number))
        .ok_or_else(|| format!("`{key} = {value}`: allowed is a whole number from {min} to {max}"))
}

/// The triple in `value`.
fn text_value(value: &str) -> Result<String, String> {
    value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .filter(|triple| {
            triple.split('-').count() >= 3
                && triple.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
        })
        .map(str::to_owned)
        .ok_or_else(|| {
            format!("`{TRIPLE} = {value}`: allowed is a target triple in double quotes, as rustc names it")
        })
}

/// The Rust source of `board`'s constants, for the module in `src/limits.rs` that includes it.
pub(crate) fn constants(name: &str, board: &Board) -> String {
    let mut source = format!(
        "pub(super) const NAME: &str = {name:?};\npub(super) const TRIPLE: &str = {:?};\n",
        board.triple
    );
    for (capacity, value) in CAPACITIES.iter().zip(board.values) {
        let (key, rust_type) = (capacity.key.to_uppercase(), capacity.rust_type);
        source.push_str(&format!("pub(super) const {key}: {rust_type} = {value};\n"));
    }
    source
}

/// The board file of the board called `name`, found in `folder` and named in messages as `folder` is.
pub(crate) fn load(folder: &str, name: &str) -> Result<Board, String> {
    let path = format!("{folder}/{name}.toml");
    let boards = boards(folder)?;
    if !boards.iter().any(|board| board == name) {
        return Err(format!("BOARD={name}: there is no {path}; allowed: {}", boards.join(", ")));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    parse(&path, &text)
}

/// The names of the boards in `folder`, sorted.
pub(crate) fn boards(folder: &str) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{folder}: {error}"))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("{folder}: {error}"))?.path();
        if path.extension().is_some_and(|extension| extension == "toml")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Writes the constants of the board that the environment names.
#[cfg(not(test))]
fn main() {
    const FOLDER: &str = "targets/boards";
    println!("cargo::rerun-if-env-changed=BOARD");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={FOLDER}");
    let name = std::env::var("BOARD").unwrap_or_else(|_| "host".to_owned());
    match load(FOLDER, &name) {
        Ok(board) => {
            let folder = std::env::var_os("OUT_DIR").expect("cargo sets it for a build script");
            std::fs::write(std::path::Path::new(&folder).join("board.rs"), constants(&name, &board))
                .expect("OUT_DIR is there to be written to");
        }
        Err(problem) => println!("cargo::error={problem}"),
    }
}
