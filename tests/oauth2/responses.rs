//! Responses whole, octet by octet and in pieces of every size; too long, malformed, cut short.
use postern::oauth2::{BODY_OCTETS_MAX, HEAD_OCTETS_MAX, Malformed, Response};

/// What becomes of the response `octets`, which comes in pieces of `piece`: status and body, or `None` when
/// the connection ended too early.
fn played(octets: &[u8], piece: usize) -> Result<Option<(u16, Vec<u8>)>, Malformed> {
    let mut response = Response::new();
    let mut is_whole = false;
    for piece in octets.chunks(piece) {
        is_whole = response.take(piece)?;
    }
    let is_whole = is_whole || response.ended();
    Ok(is_whole.then(|| (response.status(), response.body().to_vec())))
}

fn outcome(text: &str) -> Result<Option<(u16, Vec<u8>)>, Malformed> {
    let whole = played(text.as_bytes(), usize::MAX);
    for piece in 1..=9 {
        assert_eq!(played(text.as_bytes(), piece), whole, "{text:?} in pieces of {piece}");
    }
    whole
}

fn whole(text: &str, status: u16, body: &str) {
    assert_eq!(outcome(text), Ok(Some((status, body.as_bytes().to_vec()))), "{text:?}");
}

#[test]
fn the_body_ends_by_length_by_chunks_or_with_the_connection() {
    for (text, status, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, "{}"),
        ("HTTP/1.1 200 OK\r\ncontent-length:2\r\nX: y\r\n\r\n{}behind it", 200, "{}"),
        ("HTTP/1.1 200 \r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 200, "{}"),
        ("HTTP/1.0 400 Bad Request\r\n\r\n{\"error\":\"x\"}", 400, "{\"error\":\"x\"}"),
        ("HTTP/1.1 503\r\n\r\n", 503, ""),
        ("HTTP/1.1 204 No\r\n\r\nbehind it", 204, ""),
        ("HTTP/1.1 500 a\r\nContent-Length: 0\r\n\r\n", 500, ""),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", 200, "{}"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\nContent-Encoding: identity\r\n\r\n\
             00a ;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
            200,
            "0123456789",
        ),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, "x"),
        (
            "HTTP/1.1 103 a\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
            200,
            "x",
        ),
    ] {
        whole(text, status, body);
    }
}

#[test]
fn what_is_cut_short_is_not_whole() {
    let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    for octets in 0..text.len() {
        assert_eq!(outcome(&text[..octets]), Ok(None), "{octets}");
    }
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n",
        "HTTP/1.1 200 OK\r\n",
    ] {
        assert_eq!(outcome(text), Ok(None), "{text:?}");
    }
}

#[test]
fn what_is_not_understood_is_malformed() {
    let fields = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
    let chunks = |chunks: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    for text in [
        "220 smtp.example.com ESMTP\r\n".to_owned(),
        "\r\n\r\n".to_owned(),
        "<html>\r\n".to_owned(),
        "HTTP/2 200\r\n".to_owned(),
        "HTTP/1.1 2000\r\n".to_owned(),
        "HTTP/1.1 099 a\r\n".to_owned(),
        "HTTP/1.1 600 a\r\n".to_owned(),
        "HTTP/1.1 +20 a\r\n".to_owned(),
        "HTTP/1.1 200 OK\n".to_owned(),
        "HTTP/1.1 200 \rOK\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\r\n".to_owned(),
        "HTTP/1.1 100 a\r\n\r\n".repeat(5),
        fields("no colon"),
        fields(": nameless"),
        fields("a b: c"),
        fields(" folded: x"),
        fields("Content-Length: 1\r\nContent-Length: 2"),
        fields("Content-Length: 1\r\nTransfer-Encoding: chunked"),
        fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        fields("Transfer-Encoding: gzip, chunked"),
        fields("Content-Encoding: gzip"),
        fields("Content-Length: "),
        fields("Content-Length: -1"),
        fields("Content-Length: 1, 1"),
        fields("Content-Length: 99999999999999999999"),
        fields(&format!("Content-Length: {}", BODY_OCTETS_MAX + 1)),
        chunks("\r\n"),
        chunks("x\r\n"),
        chunks("-1\r\n"),
        chunks("1000000\r\n"),
        chunks("1\r\nxy\r\n"),
        chunks("ffffff\r\n"),
    ] {
        let is_refused = match outcome(&text) {
            Err(Malformed) => true,
            // An announced length is only a claim until its octets come.
            Ok(None) => text.contains("ffffff"),
            Ok(Some(_)) => false,
        };
        assert!(is_refused, "{text:?}");
    }
}

/// The bounds: one octet more is malformed, and nothing is kept of what is passed over.
#[test]
fn head_and_body_have_a_bound() {
    let head = "HTTP/1.1 200 OK\r\n";
    let body = |octets: usize| format!("{head}\r\n{}", "x".repeat(octets));
    let chunked = |octets: usize| {
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
        let rest = octets % 0x1000;
        let last = if rest > 0 { format!("{rest:x}\r\n{}\r\n", "x".repeat(rest)) } else { String::new() };
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{}{last}0\r\n\r\n", chunk.repeat(octets / 0x1000))
    };
    for text in [body(BODY_OCTETS_MAX), chunked(BODY_OCTETS_MAX)] {
        whole(&text, 200, &"x".repeat(BODY_OCTETS_MAX));
    }
    for text in [body(BODY_OCTETS_MAX + 1), chunked(BODY_OCTETS_MAX + 1)] {
        assert_eq!(outcome(&text), Err(Malformed));
    }
    let long = |octets: usize| format!("{head}Set-Cookie: {}\r\n\r\n", "x".repeat(octets));
    let overhead = long(0).len();
    whole(&long(HEAD_OCTETS_MAX - overhead), 200, "");
    assert_eq!(outcome(&long(HEAD_OCTETS_MAX - overhead + 1)), Err(Malformed));
    let trailers = format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\n{}", "A: b\r\n".repeat(4000));
    assert_eq!(outcome(&trailers), Err(Malformed));
    let many = format!("{head}{}", "A: b\r\n".repeat(4000));
    assert_eq!(outcome(&many), Err(Malformed));
}

/// A response shows nothing of what it says, and takes nothing behind its end.
#[test]
fn a_response_shows_no_token_and_ends_once() {
    let mut response = Response::new();
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nhunter2";
    assert_eq!(response.take(text), Ok(true));
    assert_eq!(response.take(b"HTTP/1.1 500 another\r\n"), Ok(true));
    assert_eq!((response.status(), response.body()), (200, &b"hunter2"[..]));
    assert!(!format!("{response:?}").contains("hunter2"));
    assert!(!Response::new().ended());
}
