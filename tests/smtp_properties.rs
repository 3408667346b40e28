//! What holds for any octets: parsers that never panic, paths that come back as they went, transparency that
//! is undone whatever the split, ends of mail data that are where a simple reading of RFC 5321 says.

#[path = "fuzz/targets/mod.rs"]
mod targets;

use postern::limits::PATH_OCTETS_MAX;
use postern::smtp::command::{self, AuthTerms, Command, Service, Terms};
use postern::smtp::mail_data::{BareLf, Fault, MailData, Part};
use postern::smtp::path::{ForwardPath, Mailbox, Utf8};
use postern::smtp::quirk::Quirks;
use targets::TARGETS;

const ROUNDS: usize = 20_000;

/// xorshift64: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn pick(&mut self, from: &[u8]) -> u8 {
        from[self.below(from.len())]
    }

    /// Up to `most` pieces of `from`.
    fn pieces(&mut self, most: usize, from: &[&[u8]]) -> Vec<u8> {
        let pieces = self.below(most + 1);
        (0..pieces).flat_map(|_| from[self.below(from.len())]).copied().collect()
    }

    fn octets(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.below(256) as u8).collect()
    }
}

/// What a client says of a message.
#[derive(Debug, PartialEq, Eq)]
struct Received {
    message: Vec<u8>,
    faults: Vec<Fault>,
    /// What stood behind the end.
    rest: Option<Vec<u8>>,
}

/// Receives `octets`, which come in pieces of up to `piece`; no more than two octets may ever wait for more.
fn receive(bare_lf: BareLf, octets: &[u8], piece: usize, random: &mut Random) -> Received {
    let mut mail_data = MailData::new(bare_lf);
    let (mut message, mut faults, mut start, mut end) = (Vec::new(), Vec::new(), 0, 0);
    let rest = loop {
        let (taken, part) = mail_data.next(&octets[start..end]);
        start += taken;
        match part {
            Some(Part::Run(run)) => message.extend_from_slice(run),
            Some(Part::Fault(fault)) => faults.push(fault),
            Some(Part::End) => break Some(octets[start..].to_vec()),
            None if taken > 0 => {}
            None => {
                assert!(end - start <= 2, "{} octets wait", end - start);
                if end == octets.len() {
                    break None;
                }
                end = octets.len().min(end + 1 + random.below(piece));
            }
        }
    };
    assert_eq!(mail_data.octets(), message.len() as u64);
    Received { message, faults, rest }
}

/// RFC 5321 4.5.2, word for word: a dot before each line that has one.
fn stuff(message: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::new();
    for (at, &octet) in message.iter().enumerate() {
        if octet == b'.' && (at == 0 || message[..at].ends_with(b"\r\n")) {
            stuffed.push(b'.');
        }
        stuffed.push(octet);
    }
    stuffed.extend_from_slice(b".\r\n");
    stuffed
}

#[test]
fn what_was_stuffed_comes_back_whatever_the_split() {
    let mut random = Random(0x5eed_0001);
    let parts: [&[u8]; 8] = [b".", b"..", b"\r\n", b"\r\n.", b"x", b"\0", b"Received: y\r\n", &[b'z'; 70]];
    for round in 0..ROUNDS {
        let mut message = random.pieces(30, &parts);
        if !message.is_empty() && !message.ends_with(b"\r\n") {
            message.extend_from_slice(b"\r\n");
        }
        let sent = [stuff(&message), b"QUIT\r\n".to_vec()].concat();
        let received = receive(BareLf::Refuse, &sent, [1, 2, 3, 40, 4000][round % 5], &mut random);
        let expected = Received { message, faults: Vec::new(), rest: Some(b"QUIT\r\n".to_vec()) };
        assert_eq!(received, expected, "round {round}");
    }
}

#[test]
fn every_split_of_every_short_text_says_the_same() {
    // All texts of up to six octets over the alphabet that matters.
    let alphabet = b".\r\nx";
    let mut random = Random(0x5eed_0002);
    for length in 0..=6_u32 {
        for number in 0..4_usize.pow(length) {
            let octet = |at: u32| alphabet[number / 4_usize.pow(at) % 4];
            let text: Vec<u8> = (0..length).map(octet).chain(*b"\r\n.\r\n").collect();
            for bare_lf in [BareLf::Repair, BareLf::Refuse] {
                let whole = receive(bare_lf, &text, text.len(), &mut random);
                for piece in 1..4 {
                    assert_eq!(receive(bare_lf, &text, piece, &mut random), whole, "{}", text.escape_ascii());
                }
                assert_end(&text, &whole);
            }
        }
    }
}

/// The end is behind the first CRLF.CRLF, the start counting as a CRLF; and what is stored holds no bare LF.
fn assert_end(text: &[u8], received: &Received) {
    let framed = [b"\r\n", text].concat();
    let end = framed.windows(5).position(|five| five == b"\r\n.\r\n").expect("each text has an end") + 3;
    assert_eq!(received.rest.as_deref(), Some(&text[end..]), "{}", text.escape_ascii());
    let has_bare_lf = |octets: &[u8]| {
        (0..octets.len()).any(|at| octets[at] == b'\n' && (at == 0 || octets[at - 1] != b'\r'))
    };
    assert!(!has_bare_lf(&received.message) || !received.faults.is_empty(), "{}", text.escape_ascii());
}

/// What the fuzzer asserts of the parsers, for octets that look a little like SMTP.
#[test]
fn no_octets_make_a_parser_panic() {
    let mut random = Random(0x5eed_0003);
    let parts: [&[u8]; 28] = [
        b"MAIL FROM:",
        b"AUTH PLAIN ",
        b"BDAT ",
        b" SMTPUTF8",
        b"==",
        b"RCPT TO:",
        b"EHLO ",
        b"HELO ",
        b"<",
        b">",
        b"@",
        b".",
        b"\"",
        b"\\",
        b"[IPv6:",
        b"]",
        b"[1.2",
        b"::",
        b",",
        b" SIZE=",
        b" BODY=8BITMIME",
        b"99999999999",
        b"\r",
        b"\n",
        b"\xc3\xa9",
        b"250-",
        b"\r\n.\r\n",
        b"a",
    ];
    for round in 0..ROUNDS {
        let octets = if round % 2 == 0 { random.octets(300) } else { random.pieces(20, &parts) };
        for (name, target) in TARGETS {
            if ["address_list", "command", "mail_data", "reply_reader"].contains(&name) {
                target(&octets);
            }
        }
    }
}

/// A legal mailbox as a client may write it, and as it is to be sent on.
fn mailbox(random: &mut Random) -> (Vec<u8>, Vec<u8>) {
    let atext = b"abcXYZ019!#$%&'*+-/=?^_`{|}~";
    let atoms = 1 + random.below(3);
    let mut content = Vec::new();
    for atom in 0..atoms {
        if atom > 0 {
            content.push(b'.');
        }
        content.extend((0..=random.below(6)).map(|_| random.pick(atext)));
    }
    let needs_quotes = random.below(2) == 0;
    if needs_quotes {
        let place = random.below(content.len() + 1);
        content.insert(place, random.pick(b" \"\\@<>()[],;:"));
    }
    let mut received = content.clone();
    if needs_quotes || random.below(2) == 0 {
        received = vec![b'"'];
        for &octet in &content {
            if matches!(octet, b'"' | b'\\') || random.below(4) == 0 {
                received.push(b'\\');
            }
            received.push(octet);
        }
        received.push(b'"');
    }
    let mut sent = content.clone();
    if needs_quotes {
        sent = vec![b'"'];
        for &octet in &content {
            if matches!(octet, b'"' | b'\\') {
                sent.push(b'\\');
            }
            sent.push(octet);
        }
        sent.push(b'"');
    }
    let domains: [&[u8]; 6] =
        [b"example.com", b"B", b"a-b.c_d.E", b"[192.0.2.255]", b"[IPv6:2001:db8::1]", b"1.2.3.4"];
    let domain = [b"@", domains[random.below(domains.len())]].concat();
    ([received, domain.clone()].concat(), [sent, domain].concat())
}

#[test]
fn paths_come_back_with_the_least_quoting() {
    let mut random = Random(0x5eed_0004);
    for _ in 0..ROUNDS {
        let (received, sent) = mailbox(&mut random);
        let route = if random.below(3) == 0 { &b"@one.example,@two:"[..] } else { b"" };
        let line = [b"RCPT TO:<", route, &received, b">"].concat();
        let terms = Terms {
            service: Service::Extended,
            has_starttls: false,
            auth: AuthTerms::Absent,
            tolerated: Quirks::NONE,
        };
        let Ok(Command::Rcpt(rcpt)) = command::parse(&line, &terms, &mut Quirks::default()) else {
            panic!("refused: {}", line.escape_ascii())
        };
        let ForwardPath::Mailbox(mailbox) = rcpt.forward_path else { panic!("{}", line.escape_ascii()) };
        assert_eq!(mailbox.octets().escape_ascii().to_string(), sent.escape_ascii().to_string());
        assert!(mailbox.octets().len() + 2 <= PATH_OCTETS_MAX);
        let parts = [mailbox.local_part(), b"@", mailbox.domain()].concat();
        assert_eq!(parts, mailbox.octets());
        // What is sent on is what comes back.
        assert_eq!(Mailbox::parse(mailbox.octets(), Utf8::Refused), Ok(mailbox.clone()));
    }
}
