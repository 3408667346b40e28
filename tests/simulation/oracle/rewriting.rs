//! What the relay makes of the clients' mail, which has no From of its own: by `sender.header_from`, and of
//! what users of this machine submit.

/// Takes the fields off that the relay has added: From with `address`, and Reply-To where `reverse_path` is
/// not null. Both stand at the end of the header section, and an empty message gets an empty line behind it.
pub(super) fn without_from(rest: &[u8], address: &str, reverse_path: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(rest).into_owned();
    let start = rest.windows(5).position(|octets| octets == b"From:");
    let start = start.unwrap_or_else(|| panic!("OCTETS: no From in {text}"));
    assert!(start == 0 || rest[..start].ends_with(b"\r\n"), "OCTETS: {text}");
    let mut end = start + line_octets(&rest[start..]);
    let from = String::from_utf8_lossy(&rest[start..end]).into_owned();
    assert!(from.contains(&format!("<{address}>")) && from.contains(reverse_path), "OCTETS: {from}");
    if rest[end..].starts_with(b"Reply-To:") {
        let octets = line_octets(&rest[end..]);
        let reply_to = String::from_utf8_lossy(&rest[end..end + octets]);
        assert_eq!(reply_to, format!("Reply-To: <{reverse_path}>\r\n"), "OCTETS");
        end += octets;
    } else {
        assert_eq!(reverse_path, "", "OCTETS: no Reply-To in {text}");
    }
    let rest_of_it =
        if start == 0 { rest[end..].strip_prefix(b"\r\n").unwrap_or(&rest[end..]) } else { &rest[end..] };
    [&rest[..start], rest_of_it].concat()
}

/// Takes the fields off that the relay adds to the mail of this machine's users, which has none of them: Date
/// where the time is known, Message-ID, and From where `sender.header_from` makes none.
pub(super) fn without_added(rest: &[u8], header_from: Option<&str>) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut at = 0;
    let mut seen = [0; 3];
    while at < rest.len() && !rest[at..].starts_with(b"\r\n") {
        let field = &rest[at..at + line_octets(&rest[at..])];
        let names: [&[u8]; 3] = [b"Date:", b"Message-ID:", b"From:"];
        match names.iter().position(|name| field.starts_with(name)) {
            Some(2) if header_from.is_some() => kept.extend_from_slice(field),
            Some(name) => seen[name] += 1,
            None => kept.extend_from_slice(field),
        }
        at += field.len();
    }
    let is_right = seen[0] <= 1 && seen[1] == 1 && seen[2] == i32::from(header_from.is_none());
    assert!(is_right, "OCTETS: fields added so often: {seen:?}, in {}", rest.escape_ascii());
    // An empty message gets an empty line behind them.
    let end = if kept.is_empty() { rest[at..].strip_prefix(b"\r\n") } else { None };
    [&kept, end.unwrap_or(&rest[at..])].concat()
}

/// Octets of the first field, its folds included.
fn line_octets(octets: &[u8]) -> usize {
    let is_end = |place: &usize| {
        octets[*place..].starts_with(b"\r\n") && !matches!(octets.get(place + 2), Some(b' ' | b'\t'))
    };
    (0..octets.len()).find(is_end).map_or(octets.len(), |place| place + 2)
}
