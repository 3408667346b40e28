//! Paths, domains, address literals and clients' names as RFC 5321 4.1.2 and 4.1.3 have them, at their
//! limits.

use postern::limits::PATH_OCTETS_MAX;
use postern::smtp::path::{ClientName, ForwardPath, PathError, ReversePath, Utf8};

fn forward(octets: &[u8]) -> Result<heapless::Vec<u8, PATH_OCTETS_MAX>, PathError> {
    match ForwardPath::parse(octets, Utf8::Refused)? {
        (ForwardPath::Mailbox(mailbox), []) => Ok(mailbox.into_octets()),
        (ForwardPath::Postmaster, []) => Ok(heapless::Vec::from_slice(b"-postmaster-").expect("it is short")),
        (ForwardPath::Unqualified(name), []) => {
            Ok(heapless::Vec::from_slice(name.octets()).expect("a part of a path"))
        }
        (_, _) => Err(PathError::Syntax),
    }
}

fn assert_same(received: &[u8], sent: &[u8]) {
    assert_eq!(forward(received).as_deref(), Ok(sent), "{}", received.escape_ascii());
}

#[test]
fn legal_paths() {
    assert_same(b"<a@b>", b"a@b");
    assert_same(b"<MiXeD@Example.COM>", b"MiXeD@Example.COM");
    assert_same(b"<@a,@b.c:u@d>", b"u@d");
    assert_same(b"<\"bob\"@d>", b"bob@d");
    assert_same(b"<\"b\\ob\"@d>", b"bob@d");
    assert_same(b"<\"a b\"@d>", b"\"a b\"@d");
    assert_same(b"<\"a\\\"b\"@d>", b"\"a\\\"b\"@d");
    assert_same(b"<\"a@b\"@d>", b"\"a@b\"@d");
    assert_same(b"<\"<>\"@d>", b"\"<>\"@d");
    assert_same(b"<\"\"@d>", b"\"\"@d");
    assert_same(b"<\"a..b\"@d>", b"\"a..b\"@d");
    assert_same(b"<a@[127.0.0.1]>", b"a@[127.0.0.1]");
    assert_same(b"<a@[ipv6:::1]>", b"a@[ipv6:::1]");
    assert_same(b"<a@[IPv6:2001:db8::192.0.2.1]>", b"a@[IPv6:2001:db8::192.0.2.1]");
    assert_same(b"<a@old_printer>", b"a@old_printer");
    assert_same(b"<pOSTmaster>", b"-postmaster-");
    assert_same(b"<root>", b"root");
}

#[test]
fn malformed_paths() {
    let malformed: [&[u8]; 30] = [
        b"",
        b"a@b",
        b"<a@b",
        b"a@b>",
        b"<>",
        b"<a@b@c>",
        b"<a@>",
        b"<@b>",
        b"<a@b..>",
        b"<a@b.>",
        b"<a b@c>",
        b"< a@b>",
        b"<a@b >",
        b"<.a@b>",
        b"<a.@b>",
        b"<a..b@c>",
        b"<a@-b>",
        b"<a@b->",
        b"<a@#123>",
        b"<a@b#c>",
        b"<a@[999.1.1.1]>",
        b"<a@[1.2.3]>",
        b"<a@[1.2.3.4>",
        b"<a@[IPv6:zz]>",
        b"<a@[::1]>",
        b"<a@[tag:x]>",
        b"<@a:b>",
        b"<@a,b:c@d>",
        b"<\"a@b>",
        b"<\"a\x01\"@b>",
    ];
    for path in malformed {
        assert_eq!(forward(path), Err(PathError::Syntax), "{}", path.escape_ascii());
    }
    assert_eq!(forward("<é@b>".as_bytes()), Err(PathError::NotAscii));
    assert!(matches!(ReversePath::parse(b"<a>", Utf8::Refused), Ok((ReversePath::Unqualified(_), []))));
    assert!(ReversePath::parse_bare(b"a@b SIZE=1", Utf8::Refused).is_ok());
    for bare in [&b"<a@b>"[..], b"a@b>", b"a@", b"@a:b@c", b"", b" a@b"] {
        assert!(ReversePath::parse_bare(bare, Utf8::Refused).is_err(), "{}", bare.escape_ascii());
    }
    assert!(ReversePath::parse("<é@bé.c>".as_bytes(), Utf8::Accepted).is_ok());
    assert_eq!(ReversePath::parse(b"<\xe9@b>", Utf8::Accepted), Err(PathError::Syntax));
    assert_eq!(ReversePath::parse(b"<> SIZE=1", Utf8::Refused), Ok((ReversePath::Null, &b" SIZE=1"[..])));
}

#[test]
fn limits() {
    let path = |local: usize, labels: &[usize]| {
        let labels: Vec<_> = labels.iter().map(|&octets| "d".repeat(octets)).collect();
        forward(format!("<{}@{}>", "l".repeat(local), labels.join(".")).as_bytes()).map(|octets| octets.len())
    };
    assert_eq!(path(64, &[63]), Ok(128));
    assert_eq!(path(65, &[63]), Err(PathError::TooLong));
    assert_eq!(path(1, &[64]), Err(PathError::TooLong));
    assert_eq!(path(64, &[63, 63, 61]), Ok(PATH_OCTETS_MAX - 2));
    assert_eq!(path(64, &[63, 63, 62]), Err(PathError::TooLong));
    let name = format!("{0}.{0}.{0}.{0}", "d".repeat(63));
    assert!(ClientName::parse(name.as_bytes()).is_ok());
    assert_eq!(ClientName::parse(format!("{name}.d").as_bytes()), Err(PathError::TooLong));
}

#[test]
fn client_names() {
    let name = |argument: &[u8]| ClientName::parse(argument).map(|name| name.octets().to_vec());
    assert_eq!(name(b"printer.lan (HP) 1.0"), Ok(b"printer.lan".to_vec()));
    assert_eq!(name(b"[IPv6:::1]"), Ok(b"[IPv6:::1]".to_vec()));
    for argument in [&b""[..], b"a)b(c", b"[999.1.1.1]", b"[1.2.3.4", b"[1.2.3.4]x", b"a\xe9"] {
        assert_eq!(name(argument), Err(PathError::Syntax), "{}", argument.escape_ascii());
    }
}
