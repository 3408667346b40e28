//! Address lists of header fields (SEED-B-7): a table of what RFC 5322 3.4 and 4.4 know, and what holds for
//! any octets: no panic, and no address lost without a word.

use postern::limits::{LOCAL_PART_OCTETS_MAX, PATH_OCTETS_MAX};
use postern::smtp::address_list::{Address, AddressList, Broken};
use postern::smtp::path::PathError;

/// The addresses of `list`, or the text that is none.
fn read(list: &str) -> Result<Vec<String>, String> {
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).expect("paths are UTF-8");
    AddressList::new(list.as_bytes())
        .map(|item| match item {
            Ok(address) => Ok(text(&address.path)),
            Err(broken) => Err(text(&list.as_bytes()[broken.place])),
        })
        .collect()
}

/// SEED-B-7.
#[test]
fn lists() {
    let table: &[(&str, &[&str])] = &[
        ("", &[]),
        (" \r\n\t", &[]),
        (" you@example.com\r\n", &["you@example.com"]),
        ("a@x.example,b@y.example", &["a@x.example", "b@y.example"]),
        (",, a@x.example ,,\r\n\tb@y.example,", &["a@x.example", "b@y.example"]),
        ("You <a@x.example>", &["a@x.example"]),
        ("\"Doe, John\" <a@x.example>, b@y.example", &["a@x.example", "b@y.example"]),
        ("\"a\\\"b, <z@z.example>\"\r\n <a@x.example>", &["a@x.example"]),
        ("J. R. Doe <a@x.example>", &["a@x.example"]),
        ("me@x.example <a@x.example>", &["a@x.example"]),
        ("<a@x.example>", &["a@x.example"]),
        ("a@x.example (Doe, John (the (younger\\)) one))", &["a@x.example"]),
        ("(x)a(y)@(z, b@c)x.example(\\))", &["a@x.example"]),
        ("a . b @ x . example", &["a.b@x.example"]),
        ("<@r.example,@s.example:a@x.example>", &["a@x.example"]),
        ("< @r.example : (c) a @ x.example >", &["a@x.example"]),
        ("\"a b\"@x.example", &["\"a b\"@x.example"]),
        ("\"a\\\"b\"@x.example, \"a,b@c\"@y.example", &["\"a\\\"b\"@x.example", "\"a,b@c\"@y.example"]),
        ("\"ab\"@x.example", &["ab@x.example"]),
        ("a.\"b c\".d@x.example", &["\"a.b c.d\"@x.example"]),
        ("\"a\r\n b\"@x.example", &["\"a b\"@x.example"]),
        ("a@[192.0.2.1], b@[IPv6:2001:db8::1]", &["a@[192.0.2.1]", "b@[IPv6:2001:db8::1]"]),
        ("root", &["root"]),
        ("root (Cron Daemon)", &["root"]),
        ("Cron <root>, \"a b\"", &["root", "\"a b\""]),
        ("postmaster, \"Postmaster\"", &["postmaster", "Postmaster"]),
        ("undisclosed-recipients:;", &[]),
        ("undisclosed-recipients: ;, a@x.example", &["a@x.example"]),
        (
            "Friends: a@x.example, B <b@y.example>;, c@z.example",
            &["a@x.example", "b@y.example", "c@z.example"],
        ),
        ("\"My, group\" (c): , a@x.example ,, ;", &["a@x.example"]),
        ("Not closed: a@x.example", &["a@x.example"]),
        ("A: a@x.example; , B: b@y.example;", &["a@x.example", "b@y.example"]),
        ("=?utf-8?q?J=C3=BCrgen?= <a@x.example>", &["a@x.example"]),
        ("=?utf-8?Q?Doe,_John_<?=\r\n =?utf-8?B?w7w=?= <a@x.example>", &["a@x.example"]),
        ("J\u{fc}rgen <a@x.example>, j\u{fc}rgen@x.example", &["a@x.example", "j\u{fc}rgen@x.example"]),
        ("=?x@x.example", &["=?x@x.example"]),
        ("a_b+c/d=e@x_y.example", &["a_b+c/d=e@x_y.example"]),
    ];
    for (list, paths) in table {
        assert_eq!(read(list).as_deref(), Ok(&paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()[..]));
        let folded = format!("{}\r\n ", list.replace(' ', "\r\n "));
        assert_eq!(read(&folded).map(|found| found.len()), Ok(paths.len()), "{folded:?}");
    }
}

/// SEED-B-7: what is no address is told, whole, and not passed over.
#[test]
fn broken_addresses() {
    for (list, broken) in [
        ("John Doe", "John Doe"),
        ("a@x.example, John Doe, b@y.example", "John Doe"),
        ("a@x.example b@y.example", "a@x.example b@y.example"),
        ("a@x.example b@y.example <c@z.example>", "a@x.example b@y.example <c@z.example>"),
        ("a@x.example; b@y.example", "a@x.example; b@y.example"),
        ("a@x.example: b@y.example;", "a@x.example: b@y.example;"),
        ("<>", "<>"),
        ("a@", "a@"),
        ("@x.example", "@x.example"),
        ("a@@x.example", "a@@x.example"),
        ("a@x..example", "a@x..example"),
        (".a@x.example", ".a@x.example"),
        ("a.@x.example", "a.@x.example"),
        ("a@-x.example", "a@-x.example"),
        ("a@[999.0.2.1]", "a@[999.0.2.1]"),
        ("<a@x.example", "<a@x.example"),
        ("a@x.example>", "a@x.example>"),
        ("<a@x.example> b", "<a@x.example> b"),
        ("<@r.example a@x.example>", "<@r.example a@x.example>"),
        ("\"never closed <a@x.example>", "\"never closed <a@x.example>"),
        ("a@x.example (never closed", "a@x.example (never closed"),
        ("a@x.example )", "a@x.example )"),
        ("A: B: a@x.example;;", "A: B: a@x.example;;"),
        ("A: a@x.example; b@y.example", "A: a@x.example; b@y.example"),
        (": a@x.example;", ": a@x.example;"),
        ("a\\b@x.example", "a\\b@x.example"),
        ("a\0b@x.example", "a\0b@x.example"),
        ("a@\"x\".example", "a@\"x\".example"),
    ] {
        let at = list.find(broken).expect("a part of the list");
        // In a group the element is told.
        let found = read(list).expect_err(list);
        assert!(broken.contains(&found) && !found.is_empty(), "{list:?}: {found:?}");
        assert_eq!(AddressList::new(list.as_bytes()).filter(Result::is_err).count(), 1, "{list:?}");
        assert!(
            at > 0
                || AddressList::new(list.as_bytes())
                    .next()
                    .is_some_and(|first| first.is_err() || found != broken),
            "{list:?}"
        );
    }
    let latin = b"a@x.example, J\xfcrgen@x.example";
    let items: Vec<Result<Address, Broken>> = AddressList::new(latin).collect();
    assert_eq!(items[1], Err(Broken { place: 13..29, error: PathError::Syntax }));
}

#[test]
fn what_is_too_long_is_told_as_such() {
    let local = "l".repeat(LOCAL_PART_OCTETS_MAX);
    assert_eq!(read(&format!("{local}@x.example")), Ok(vec![format!("{local}@x.example")]));
    let error =
        |list: &str| AddressList::new(list.as_bytes()).find_map(Result::err).map(|broken| broken.error);
    assert_eq!(error(&format!("x{local}@x.example")), Some(PathError::TooLong));
    assert_eq!(error(&format!("a@{}x.example", "d.".repeat(PATH_OCTETS_MAX / 2))), Some(PathError::TooLong));
    assert_eq!(error(&"x".repeat(10_000)), Some(PathError::TooLong));
}

#[test]
fn an_address_says_where_it_stands() {
    let list = "x <a@x.example> (c), G: \"b\" @ y.example ;";
    let places: Vec<_> = AddressList::new(list.as_bytes())
        .map(|address| address.expect("it is one"))
        .map(|address| (&list[address.place], &list[address.specification]))
        .collect();
    assert_eq!(places, [("x <a@x.example>", "a@x.example"), ("\"b\" @ y.example", "\"b\" @ y.example")]);
    let domains: Vec<_> = AddressList::new(b"a@X.example, root, \"a@b\"")
        .map(|address| address.expect("it is one").domain().map(<[u8]>::to_vec))
        .collect();
    assert_eq!(domains, [Some(b"X.example".to_vec()), None, None]);
}

/// xorshift64: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const ROUNDS: usize = 30_000;

/// What may stand between tokens.
const BLANKS: &[&str] = &["", " ", "\r\n ", "(c)", " (a, b@c (\\) <d>)) ", "\t"];

/// Lists that are made of known addresses in all their forms come back whole.
#[test]
fn whatever_is_written_around_addresses_all_of_them_come_back() {
    let mut random = Random(1);
    for round in 0..ROUNDS {
        let (mut list, mut expected) = (String::new(), Vec::new());
        let mut is_in_group = false;
        for number in 0..random.below(6) {
            let local = random.pick(&["a", "a.b", "\"a b\"", "\"@,<\"", "root", "\u{fc}"]);
            let domain = random.pick(&["x.example", "[192.0.2.1]", "y"]);
            let mut blank = || random.pick(BLANKS).to_owned();
            let specification = format!("{local}{}@{}{domain}", blank(), blank());
            let around = [blank(), blank(), blank(), blank()];
            let name =
                random.pick(&["", "X", "X Y.", "\"X, Y\"", "=?utf-8?q?a,b?=", "\u{fc}", "z@z.example"]);
            let route = random.pick(&["", "", "@r.example:", "@r.example,@s:"]);
            if number > 0 {
                list.push(',');
            }
            if !is_in_group && random.below(5) == 0 {
                list += random.pick(&["G:", "\"G:,\" (c):", "G H : ,"]);
                is_in_group = true;
            }
            list += &around[0];
            list += &match random.below(3) {
                0 if name.is_empty() => specification.clone(),
                _ => format!("{name}{}<{}{route}{specification}>", around[1], around[2]),
            };
            list += &around[3];
            if is_in_group && random.below(3) == 0 {
                list.push(';');
                is_in_group = false;
            }
            expected.push(format!("{local}@{domain}"));
        }
        assert_eq!(read(&list), Ok(expected), "round {round}: {list:?}");
    }
}

/// The elements of a list by a simple reading: comments are dropped, and what is quoted or in brackets is one
/// letter.
fn elements(list: &str) -> usize {
    let (mut plain, mut close, mut depth, mut is_escaped) = (String::new(), None, 0, false);
    for letter in list.chars() {
        if core::mem::take(&mut is_escaped) {
            continue;
        }
        is_escaped = letter == '\\';
        match (close, letter) {
            (Some(end), _) if letter == end && depth <= 1 => (close, depth) = (None, 0),
            (Some(')'), '(') => depth += 1,
            (Some(')'), ')') => depth -= 1,
            (Some(_), _) => {}
            (None, '(') => (close, depth) = (Some(')'), 1),
            (None, '"') => (close, plain) = (Some('"'), plain + "q"),
            (None, '<') => (close, plain) = (Some('>'), plain + "a"),
            (None, '[') => (close, plain) = (Some(']'), plain + "l"),
            (None, _) => plain.push(letter),
        }
    }
    let names = plain.matches(':').count();
    plain.split([',', ';', ':']).filter(|element| !element.trim().is_empty()).count() - names
}

/// Whatever the list, either something is told to be broken, or as many addresses come as a simple reading
/// finds elements.
#[test]
fn no_address_is_lost_without_a_word() {
    let pieces = [
        "a",
        "b@y.example",
        "@",
        ".",
        ",",
        ";",
        ":",
        "<a@x.example>",
        "<",
        ">",
        "(c)",
        "(",
        ")",
        "\"q\"",
        "\"",
        "\\",
        " ",
        "\r\n ",
        "[192.0.2.1]",
        "[",
        "]",
        "<@r,@s:a@b>",
        "root",
        "\u{fc}",
        "=?utf-8?q?x?=",
        "G:",
        "\0",
    ];
    let mut random = Random(2);
    let mut whole = 0;
    for round in 0..10 * ROUNDS {
        let list: String = (0..random.below(9)).map(|_| random.pick(&pieces)).collect();
        let Ok(found) = read(&list) else { continue };
        whole += usize::from(!found.is_empty());
        assert_eq!(found.len(), elements(&list), "round {round}: {list:?} gave {found:?}");
    }
    assert!(whole > ROUNDS / 10, "only {whole} lists were whole");
}

/// Any octets: no panic, at most one is told to be broken, as the last, and all places are in the list.
#[test]
fn any_octets() {
    let mut random = Random(3);
    for _ in 0..ROUNDS {
        let list: Vec<u8> =
            (0..random.below(60)).map(|_| (random.below(256) & random.below(256)) as u8).collect();
        let items: Vec<_> = AddressList::new(&list).collect();
        for (at, item) in items.iter().enumerate() {
            match item {
                Ok(address) => {
                    assert!(!list[address.specification.clone()].is_empty());
                    assert!(!list[address.place.clone()].is_empty());
                    let again: Vec<_> = AddressList::new(&address.path).flatten().map(|a| a.path).collect();
                    assert_eq!(again, core::slice::from_ref(&address.path));
                }
                Err(broken) => assert!(at + 1 == items.len() && broken.place.end <= list.len()),
            }
        }
    }
}
