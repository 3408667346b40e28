//! JSON against serde_json, over made and spoiled texts: both take the same, and read the same.
use postern::jitter::Jitter;
use postern::oauth2::json::{DEPTH_MAX, NotJson, Value, members};

/// The members of `text` that are texts or numbers, `None` for others.
fn read(text: &[u8]) -> Result<Vec<(String, Option<String>)>, NotJson> {
    let mut read = Vec::new();
    members(text, |name, value| {
        let utf8 = |octets: &[u8]| String::from_utf8(octets.to_vec()).expect("texts are UTF-8");
        let value = match value {
            Value::Text(text) => Some(utf8(&text.unescaped())),
            Value::Number(digits) => Some(digits.to_owned()),
            Value::Other => None,
        };
        read.push((utf8(&name.unescaped()), value));
    })
    .map(|()| read)
}

/// The other parser's opinion; it keeps the last of members with one name.
fn read_by_other(text: &[u8]) -> Option<serde_json::Map<String, serde_json::Value>> {
    match serde_json::from_slice(text) {
        Ok(serde_json::Value::Object(members)) => Some(members),
        _ => None,
    }
}

struct Maker {
    jitter: Jitter,
    text: String,
}

impl Maker {
    fn below(&mut self, count: usize) -> usize {
        (self.jitter.next() >> 33) as usize % count
    }

    fn space(&mut self) {
        for _ in 0..self.below(3) {
            let space = [" ", "\t", "\n", "\r"][self.below(4)];
            self.text.push_str(space);
        }
    }

    fn string(&mut self) {
        const PARTS: [&str; 20] = [
            "a",
            "token",
            "ü",
            "€",
            "😀",
            " ",
            "/",
            "\\\"",
            "\\\\",
            "\\/",
            "\\b",
            "\\f",
            "\\n",
            "\\r",
            "\\t",
            "\\u0041",
            "\\u00e4",
            "\\ud83d\\ude00",
            "\\u0000",
            "\\uFFFF",
        ];
        self.text.push('"');
        for _ in 0..self.below(6) {
            let part = PARTS[self.below(PARTS.len())];
            self.text.push_str(part);
        }
        self.text.push('"');
    }

    fn value(&mut self, depth: usize) {
        self.space();
        match self.below(if depth < 5 { 10 } else { 6 }) {
            0..=2 => self.string(),
            3 => {
                let number = ["0", "-0", "3599", "-12.50", "1e3", "2E-2", "0.1e+1"][self.below(7)];
                self.text.push_str(number);
            }
            4 | 5 => {
                let word = ["true", "false", "null"][self.below(3)];
                self.text.push_str(word);
            }
            6 | 7 => self.object(depth + 1),
            _ => {
                self.text.push('[');
                let count = self.below(4);
                for place in 0..count {
                    self.value(depth + 1);
                    self.text.push_str(if place + 1 < count { "," } else { "" });
                }
                self.space();
                self.text.push(']');
            }
        }
        self.space();
    }

    fn object(&mut self, depth: usize) {
        self.text.push('{');
        let count = self.below(5);
        for place in 0..count {
            self.space();
            self.string();
            self.space();
            self.text.push(':');
            self.value(depth);
            self.text.push_str(if place + 1 < count { "," } else { "" });
        }
        self.space();
        self.text.push('}');
    }
}

fn compare(text: &[u8]) -> bool {
    let (own, other) = (read(text), read_by_other(text));
    let shown = text.escape_ascii();
    // Numbers beyond a double are the other's limit, not of the form.
    let Some(other) = other else {
        assert!(own.is_err(), "only we take {shown}");
        return false;
    };
    let own = own.unwrap_or_else(|NotJson| panic!("we refuse {shown}"));
    for (place, (name, value)) in own.iter().enumerate() {
        if own[place + 1..].iter().any(|(later, _)| later == name) {
            continue;
        }
        match (&other[name], value) {
            (serde_json::Value::String(expected), Some(value)) => assert_eq!(value, expected, "{shown}"),
            (serde_json::Value::Number(expected), Some(value)) => {
                assert_eq!(value.parse().ok(), expected.as_f64(), "{shown}");
            }
            (serde_json::Value::String(_) | serde_json::Value::Number(_), None) => panic!("{shown}"),
            (_, value) => assert_eq!(*value, None, "{shown}"),
        }
    }
    let names: std::collections::BTreeSet<&String> = own.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), other.len(), "{shown}");
    true
}

#[test]
fn texts_as_made_and_spoiled_are_read_as_another_parser_reads_them() {
    let mut maker = Maker { jitter: Jitter::new(20_261_124), text: String::new() };
    let (mut sound, mut spoiled) = (0, 0);
    for _ in 0..3000 {
        maker.text.clear();
        maker.space();
        maker.object(0);
        maker.space();
        let made = maker.text.clone().into_bytes();
        assert!(compare(&made), "{}", made.escape_ascii());
        sound += 1;
        for _ in 0..6 {
            let mut text = made.clone();
            let at = maker.below(text.len());
            match maker.below(3) {
                0 => drop(text.remove(at)),
                1 => text.truncate(at),
                _ => {
                    const OCTETS: &[u8] = b"\"\\{}[]:,u0-e.t \n\x00\x7f\x80\xff\xc3";
                    text[at] = OCTETS[maker.below(OCTETS.len())];
                }
            }
            spoiled += usize::from(!compare(&text));
        }
    }
    assert!(sound == 3000 && spoiled > 5000, "{sound} sound, {spoiled} spoiled");
}

#[test]
fn what_is_no_single_whole_object_is_refused() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "[]",
        "[{}]",
        "1",
        "\"a\"",
        "null",
        "{}{}",
        "{} x",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":01}",
        "{\"a\":+1}",
        "{\"a\":.1}",
        "{\"a\":1.}",
        "{\"a\":1e}",
        "{\"a\":-}",
        "{\"a\":0x1}",
        "{\"a\":NaN}",
        "{\"a\":True}",
        "{\"a\":truefalse}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\udc00\"}",
        "{\"a\":\"\\ud800\\u0041\"}",
        "{\"a\":\"\\ud800x\"}",
        "{\"a\":\"\\",
        "{\"a\":\"",
        "{\"a\":[1,]}",
        "{\"a\":[1 2]}",
        "{\"a\":[}",
        "\u{feff}{}",
        "{\"a\":1}\0",
        "{\"a\":\"\\u+123\"}",
    ] {
        assert!(!compare(text.as_bytes()), "{text:?}");
    }
    assert!(read(b"{\"a\":\"\xff\"}").is_err());
}

/// Neither the stack nor the time goes with the depth that somebody sends.
#[test]
fn depth_has_a_bound() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(nested(DEPTH_MAX - 1).as_bytes()).is_ok());
    assert!(read(nested(DEPTH_MAX).as_bytes()).is_err());
    assert!(read("{\"a\":".repeat(100_000).as_bytes()).is_err());
    assert!(read(format!("{{\"a\":{}", "[".repeat(100_000)).as_bytes()).is_err());
}

#[test]
fn a_text_shows_nothing_of_itself() {
    let mut shown = String::new();
    members(b"{\"access_token\":\"hunter2\"}", |name, value| shown = format!("{name:?} {value:?}")).unwrap();
    assert!(!shown.contains("hunter2") && shown.contains("Text"), "{shown}");
}
