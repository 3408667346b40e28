//! Runs `dialogs/*.smtp` against the receiver: one behaviour a file, each citing the requirements it shows.
//!
//! Every dialog runs with its octets whole, octet by octet, all at once (the client doesn't wait for
//! replies), and in seeded pieces with a client that reads in seeded pieces too. The transcript must be the
//! same each time, and each reply must have the form of RFC 5321 4.2 and RFC 2034.
//!
//! ```text
//! # S-3.1-a           a comment; the first line cites what the file shows
//! !config KEY = VALUE a line of the configuration      !client ADDRESS [on-link]    !spool BLOCKS
//! !hello              greeting and EHLO                !client uid NUMBER
//! C: NOOP             a line with CRLF                 C* COUNT LINE                so many of them
//! C~ 'a\r\n' * COUNT  octets as they are, repeated
//! S: 250 2.0.0        the start of the next line; `*` stands for anything     S= 250 x  all of it
//! S* COUNT START      so many lines                    S+ 250                       a reply of any lines
//! S!                  the connection is closed         @+300s                       time passes
//! !drip COUNT 'a' 1s  octets, each followed by a wait  !lost, !evict, !shut-down    the session's other ends
//! !session            another client                   !fail sync|write, !heal      the disk
//! !user NAME PASSWORD one who may log in               !completed                   missing fields are added
//! !tls, !tls-failed   the client's handshake           !crowded         no place for one more with TLS
//! !clock set|unset    whether the wall clock is known  !quirks NAME=COUNT ...       met by the client so far
//! !queued COUNT       messages made durable so far; of the last one:
//! !from, !to, !name   paths and client name            !protocol Esmtp, !8bit, !utf8
//! !data 'octets' * COUNT                               with ID for its id
//! !dsn                RET and ENVID, then NOTIFY and ORCPT of each recipient; `-` for what was not given
//! ```
//! A COUNT is a number or a limit's name, with `+1` or `-12` behind it.

mod disk;
#[path = "dialogs/world.rs"]
mod world;

use std::fmt::Write as _;
use std::path::Path;

use disk::{Call, Effect, Fault, Random};
use postern::limits::{COMMAND_OCTETS_MAX, HOPS_MAX, RECIPIENTS};
use postern::smtp::dsn::ret_word;
use postern::spool::{DeviceError, Envelope, Recipient};
use postern::time::Duration;
use world::{Settings, Travel, World};

const SEEDS: u64 = 8;

/// S-4.2-a, S-4.2-b, S-4.2-c, S-4.2-d, S-4.2-e, S-4.5.3.1.5-a, ENH-a, ENH-b, ENH-c, SEED-A-a, SEED-7.6-a:
/// what every reply must be.
fn judge(transcript: &[u8]) -> Result<(), String> {
    let mut code_before = None;
    for line in transcript.split_inclusive(|&octet| octet == b'\n') {
        let text = line.escape_ascii().to_string();
        let wrong = |what: &str| Err(format!("{what} in {text:?}"));
        let Some(line_octets) = line.strip_suffix(b"\r\n") else { return wrong("no CRLF") };
        if line.len() > 512
            || line.len() < 6
            || !line_octets.iter().all(|octet| (b' '..=b'~').contains(octet))
        {
            return wrong("a length or an octet");
        }
        let (code, rest) = text.split_at(3);
        let codes = "211 214 220 221 235 250 252 334 354 421 450 451 452 454 455 500 501 502 503 504 530 535 538 550 552 553 554 555";
        if !codes.split(' ').any(|known| known == code) || code_before.is_some_and(|before| before != code) {
            return wrong("the code");
        }
        let is_bare = matches!(code, "220" | "334" | "354") || code == "250" && !rest[1..].starts_with("2.");
        let status = rest[1..].split(' ').next().unwrap_or_default();
        let is_status = status.split('.').count() == 3 && status.starts_with(&code[..1]);
        if !is_bare && !is_status {
            return wrong("the enhanced status");
        }
        code_before = match rest.as_bytes()[0] {
            b'-' => Some(code.to_owned()),
            b' ' => None,
            _ => return wrong("what follows the code"),
        };
    }
    if code_before.is_some() { Err("a reply without its last line".to_owned()) } else { Ok(()) }
}

fn count(text: &str) -> usize {
    let at = text.find(['+', '-']).unwrap_or(text.len());
    let base = match &text[..at] {
        "RECIPIENTS" => RECIPIENTS,
        "COMMAND" => COMMAND_OCTETS_MAX,
        "HOPS" => HOPS_MAX,
        number => number.parse().unwrap_or_else(|_| panic!("not a count: {text}")),
    };
    let offset: isize = if at < text.len() { text[at..].parse().expect("a number") } else { 0 };
    base.checked_add_signed(offset).expect("a count")
}

/// `'octets'`, with escapes, and `* COUNT` behind it; several may follow one another.
fn octets(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.trim();
    while let Some(quoted) = rest.strip_prefix('\'') {
        let (literal, behind) = quoted.split_once('\'').expect("a closing quote");
        let mut once = Vec::new();
        let mut chars = literal.bytes();
        while let Some(octet) = chars.next() {
            once.push(match (octet, octet == b'\\') {
                (_, false) => octet,
                (_, true) => match chars.next().expect("an escape") {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'0' => 0,
                    b'q' => b'\'',
                    b'x' => {
                        let hex = [(); 2].map(|()| chars.next().expect("a hex digit"));
                        u8::from_str_radix(&String::from_utf8_lossy(&hex), 16).expect("hex")
                    }
                    escaped => escaped,
                },
            });
        }
        rest = behind.trim_start();
        let mut times = 1;
        if let Some(behind) = rest.strip_prefix('*') {
            let behind = behind.trim_start();
            let end = behind.find(' ').unwrap_or(behind.len());
            times = count(&behind[..end]);
            rest = behind[end..].trim_start();
        }
        octets.extend(once.repeat(times));
    }
    assert!(rest.is_empty(), "not octets: {rest}");
    octets
}

/// True when `line` starts with `pattern`, in which `*` stands for anything.
fn matches(line: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    parts.all(|part| {
        rest.find(part).is_some_and(|at| {
            rest = &rest[at + part.len()..];
            true
        })
    })
}

fn seconds(text: &str) -> Duration {
    Duration::from_s(text.strip_suffix('s').and_then(|s| s.parse().ok()).expect("seconds, as in 300s"))
}

fn expect(world: &mut World, step: &str) -> Result<(), String> {
    if step == "S!" {
        return if world.is_closed { Ok(()) } else { Err("it is still open".to_owned()) };
    }
    let (kind, pattern) = step.split_once(' ').expect("what to expect");
    let (times, pattern) = match kind {
        "S*" => pattern.split_once(' ').map(|(times, rest)| (count(times), rest)).expect("a count"),
        _ => (1, pattern),
    };
    for _ in 0..times {
        let mut line = world.hear()?;
        while kind == "S+" && line.as_bytes().get(3) == Some(&b'-') {
            line = world.hear()?;
        }
        if !matches(&line, pattern) || kind == "S=" && line != pattern {
            return Err(format!("{line:?}"));
        }
    }
    Ok(())
}

fn assert_same(what: &str, is: &str, expected: &str) -> Result<(), String> {
    if is == expected { Ok(()) } else { Err(format!("{what} is {is:?}")) }
}

/// The parameters of RFC 3461 that a message was taken with.
fn notification(envelope: &Envelope, recipients: &[Recipient]) -> String {
    let shown = |octets: &[u8]| match octets {
        [] => "-".to_owned(),
        octets => String::from_utf8_lossy(octets).into_owned(),
    };
    let mut is = format!("{} {}", ret_word(envelope.ret).unwrap_or("-"), shown(&envelope.envid));
    for recipient in recipients {
        let notify = recipient.notify.to_string();
        write!(is, "; {} {}", shown(notify.as_bytes()), shown(&recipient.orcpt)).expect("a String takes all");
    }
    is
}

/// A step that is neither said nor heard.
fn direct(world: &mut World, step: &str) -> Result<(), String> {
    let (verb, argument) = step.split_once(' ').unwrap_or((step, ""));
    match verb {
        "!config" | "!client" | "!spool" | "!user" | "!completed" => {}
        "!crowded" => {}
        "!tls" => world.shake_hands(true),
        "!tls-failed" => world.shake_hands(false),
        "!session" => world.another_session(),
        "!lost" | "!evict" | "!shut-down" => world.end(verb),
        "!drip" => {
            let (times, rest) = argument.split_once(' ').expect("a count");
            let (octet, wait) = rest.rsplit_once(' ').expect("a wait");
            let (times, octet, wait) = (count(times), octets(octet), seconds(wait));
            for _ in 0..times {
                world.pending.extend_from_slice(&octet);
                world.pump();
                world.pass(wait);
            }
        }
        "!fail" => {
            let call = if argument == "sync" { Call::Sync } else { Call::Write };
            let (error, effect) = (DeviceError::Io, Effect::Nothing);
            world.disk.fail(Fault { call, skip: 0, times: u64::MAX, error, effect });
        }
        "!heal" => {
            world.disk.heal();
            world.now.instant = world.now.instant + Duration::from_min(2);
            world.store.commit(world.now.instant);
        }
        "!queued" => return assert_same(verb, &world.committed.len().to_string(), argument),
        "!quirks" => return assert_same(verb, &world.quirks(), argument),
        "!clock" => world.now.wall.is_trusted = argument == "set",
        "!from" | "!name" | "!to" | "!protocol" | "!8bit" | "!utf8" | "!dsn" => {
            let (envelope, recipients, _) = world.last_message();
            let is = match verb {
                "!from" => String::from_utf8_lossy(&envelope.reverse_path).into_owned(),
                "!name" => String::from_utf8_lossy(&envelope.client_name).into_owned(),
                "!to" => {
                    let path = |to: &Recipient| String::from_utf8_lossy(&to.forward_path).into_owned();
                    recipients.iter().map(path).collect::<Vec<_>>().join(" ")
                }
                "!dsn" => notification(&envelope, &recipients),
                "!protocol" => format!("{:?}", envelope.protocol),
                "!utf8" => envelope.utf8.to_string(),
                _ => envelope.body_is_8bit.to_string(),
            };
            return assert_same(verb, &is, argument);
        }
        "!data" => {
            let (is, expected) = (world.last_message().2, octets(argument));
            let is = world.without_id(&is.escape_ascii().to_string());
            return assert_same(verb, &is, &expected.escape_ascii().to_string());
        }
        _ => panic!("not a step: {step}"),
    }
    world.pump();
    Ok(())
}

/// Runs a dialog and gives its transcript.
fn run(dialog: &str, travel: Travel) -> Result<Vec<u8>, String> {
    let mut world = World::new(&Settings::of(dialog), travel);
    let hello = "S: 220 relay.example ESMTP\nC: EHLO client.example\nS: 250-relay.example\nS+ 250";
    let text = dialog.replace("!hello", hello);
    let mut expected = Vec::new();
    world.pump();
    for step in text.lines().chain(["!spool"]).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let fail = |step: &str, what| Err(format!("{step}\n    but {what}"));
        match step.split_at(1).0 {
            "C" => {
                let (kind, rest) = step.split_once(' ').unwrap_or((step, ""));
                let (times, line) = match kind {
                    "C*" => rest.split_once(' ').map(|(times, line)| (count(times), line)).expect("a count"),
                    _ => (1, rest),
                };
                let said = if kind == "C~" { octets(line) } else { format!("{line}\r\n").into_bytes() };
                world.pending.extend(said.repeat(times));
            }
            "S" if travel == Travel::AtOnce => expected.push(step),
            "S" => {
                world.pump();
                if let Err(what) = expect(&mut world, step) {
                    return fail(step, what);
                }
            }
            _ => {
                world.pump();
                for step in expected.drain(..) {
                    if let Err(what) = expect(&mut world, step) {
                        return fail(step, what);
                    }
                }
                let done = match step.strip_prefix("@+") {
                    Some(span) => {
                        world.pass(seconds(span));
                        Ok(())
                    }
                    None => direct(&mut world, step),
                };
                if let Err(what) = done {
                    return fail(step, what);
                }
            }
        }
    }
    let transcript = world.finish()?;
    judge(&transcript)?;
    Ok(transcript)
}

/// The first line of a dialog cites requirements of the catalogue.
fn cites(dialog: &str) -> bool {
    let groups = [
        "S-", "SIZE-", "8BIT-", "PIPE-", "ENH-", "SEED-", "SEC-", "U8-", "BDAT-", "TLS-s-", "AUTH-s-",
        "SUB-", "DSN-",
    ];
    let first = dialog.lines().next().and_then(|line| line.strip_prefix("# "));
    first.is_some_and(|ids| groups.iter().any(|group| ids.starts_with(group)))
}

#[test]
fn every_dialog_goes_as_written_however_its_octets_travel() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "smtp"));
    paths.sort();
    assert!(paths.len() >= 35, "dialogs are missing");
    let mut failures = String::new();
    for path in paths {
        let dialog = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().display();
        assert!(cites(&dialog), "{name} cites no requirement");
        let whole = run(&dialog, Travel::Whole);
        let seeded = (1..=SEEDS).map(Travel::Seeded);
        for travel in [Travel::Whole, Travel::Octets, Travel::AtOnce].into_iter().chain(seeded) {
            match run(&dialog, travel) {
                Ok(transcript) if Ok(&transcript) != whole.as_ref() => {
                    writeln!(failures, "{name}, {travel:?}: another transcript").unwrap();
                }
                Ok(_) => {}
                Err(what) => writeln!(failures, "{name}, {travel:?}: {what}").unwrap(),
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// Any order of legal, illegal and half commands and mail data: no panic, no leak, no malformed reply, and
/// the same transcript and messages whatever the pieces.
#[test]
fn any_session_says_the_same_however_its_octets_travel() {
    let parts: [&[u8]; 26] = [
        b"\r\n.\r\n",
        b"x\r\n.\r\n",
        b"EHLO x\r\n",
        b"HELO y\r\n",
        b"MAIL FROM:<a@b>\r\n",
        b"MAIL FROM:<> SIZE=9 BODY=8BITMIME\r\n",
        b"RCPT TO:<c@d>\r\n",
        b"RCPT TO:<e>\r\n",
        b"DATA\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"HELP\r\n",
        b"VRFY q\r\n",
        b"FOO\r\n",
        b".\r\n",
        b"\r\n.\r\n",
        b"\n.\n",
        b"\n",
        b"\r",
        b".",
        b"\0\xff",
        b"text\r\n",
        b"MAIL FR",
        &[b'x'; 700],
        b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
        b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n",
    ];
    let settings = Settings::of("!config admin = \"admin@example.org\"");
    let (mut random, mut queued) = (Random(0x5eed), 0);
    for _ in 0..300 {
        let said: Vec<u8> =
            (0..random.below(60)).flat_map(|_| parts[random.below(parts.len())]).copied().collect();
        let outcome = |travel| {
            let mut world = World::new(&settings, travel);
            world.pending.extend_from_slice(&said);
            world.pump();
            while world.hear().is_ok() {}
            let messages = world.committed.len();
            let last = if messages > 0 { world.last_message().2 } else { Vec::new() };
            let transcript = world.finish().unwrap_or_else(|what| panic!("{what}: {}", said.escape_ascii()));
            judge(&transcript).unwrap_or_else(|what| panic!("{what}: {}", said.escape_ascii()));
            (transcript, messages, last)
        };
        let whole = outcome(Travel::Whole);
        queued += whole.1;
        for travel in [Travel::Octets, Travel::Seeded(random.next()), Travel::Seeded(random.next())] {
            assert!(outcome(travel) == whole, "{travel:?}: {}", said.escape_ascii());
        }
    }
    assert!(queued >= 100, "only {queued} messages came through");
}

#[test]
fn the_runner_sees_what_is_wrong() {
    for (dialog, what) in [
        ("S: 220\nC: NOOP\nS: 251", "\"250 2.0.0 OK\""),
        ("S: 220\nC: NOOP\nS: 250\nS: 250", "silence"),
        ("S: 220\nC: NOOP", "not expected"),
        ("S: 220\nC: NOOP\nS: 250\nS!", "still open"),
        ("!hello\n!queued 1", "!queued is \"0\""),
    ] {
        for travel in [Travel::Whole, Travel::Octets, Travel::AtOnce] {
            let error = run(dialog, travel).unwrap_err();
            assert!(error.contains(what), "{error} instead of {what}");
        }
    }
    assert!(judge(b"250 2.0.0 OK\r\n500 2.0.0 OK\r\n").is_err());
    assert!(judge(b"250-2.0.0 OK\r\n251 2.0.0 OK\r\n").is_err());
    assert!(judge(b"250 2.0.0 OK\n").is_err());
}
