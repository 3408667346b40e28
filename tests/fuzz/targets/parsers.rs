//! The parsers: nothing panics, nothing that is kept could end a line, and how the octets are cut changes
//! nothing.

use postern::buffer::{Buffer, Window};
use postern::limits::{COMMAND_OCTETS_MAX, REPLY_TEXT_OCTETS_MAX};
use postern::smtp::address_list::AddressList;
use postern::smtp::command::{self, AuthTerms, Command, Service, Terms};
use postern::smtp::line::{self, Line};
use postern::smtp::login::Response;
use postern::smtp::mail_data::{BareLf, Fault, MailData, Part};
use postern::smtp::path::{ClientName, ForwardPath, Mailbox, ReversePath, Utf8};
use postern::smtp::quirk::Quirks;
use postern::smtp::reply_reader::{ReplyLine, ReplyReader};

use super::Input;

/// One line of a client, whatever it is (RFC 5321 4.1).
pub(super) fn command(octets: &[u8]) {
    match line::next_line(octets) {
        Line::Whole(line) => assert!(line.len() + 2 <= COMMAND_OCTETS_MAX && !line.contains(&b'\n')),
        Line::Partial | Line::TooLong | Line::BareLf => {}
    }
    assert!(line::rest_of_line(octets).0 <= octets.len());
    for service in [Service::Basic, Service::Extended] {
        for tolerated in [Quirks::ALL, Quirks::NONE] {
            let terms = Terms { service, has_starttls: true, auth: AuthTerms::Offered, tolerated };
            if let Ok(Command::Mail(mail)) = command::parse(octets, &terms, &mut Quirks::default()) {
                assert_clean(mail.reverse_path.octets(), mail.utf8);
            }
        }
    }
    let _ = Response::decode(octets, Quirks::ALL, &mut Quirks::default());
    if let Ok(name) = ClientName::parse(octets) {
        assert_clean(name.octets(), false);
    }
    for utf8 in [Utf8::Refused, Utf8::Accepted] {
        let _ = ForwardPath::parse(octets, utf8);
        let _ = ReversePath::parse(octets, utf8);
        let _ = ForwardPath::parse_bare(octets, utf8);
        let _ = ReversePath::parse_bare(octets, utf8);
        if let Ok(mailbox) = Mailbox::parse(octets, utf8) {
            assert_clean(mailbox.octets(), utf8 == Utf8::Accepted);
            assert_eq!(Mailbox::parse(mailbox.octets(), utf8), Ok(mailbox.clone()), "it comes back");
        }
    }
}

/// SEC-inj-a: nothing that is kept of a command can end a line or a field.
fn assert_clean(octets: &[u8], may_be_utf8: bool) {
    let is_clean = |octet: &u8| (b' '..=b'~').contains(octet) || may_be_utf8 && !octet.is_ascii();
    assert!(octets.iter().all(is_clean), "{}", octets.escape_ascii());
    assert!(core::str::from_utf8(octets).is_ok());
}

/// A field's address list (RFC 5322 3.4): each address can stand in a command and is read again as itself,
/// and what is none is told once, as the last.
pub(super) fn address_list(octets: &[u8]) {
    let items: Vec<_> = AddressList::new(octets).collect();
    for (at, item) in items.iter().enumerate() {
        match item {
            Ok(address) => {
                assert_clean(&address.path, true);
                assert!(!octets[address.specification.clone()].is_empty());
                let again: Vec<_> =
                    AddressList::new(&address.path).flatten().map(|again| again.path).collect();
                assert_eq!(again, core::slice::from_ref(&address.path), "it comes back");
            }
            Err(broken) => assert!(at + 1 == items.len() && broken.place.end <= octets.len()),
        }
    }
}

/// A line as it was read: what it is, its code, its text; nothing: malformed.
type Read = Option<(ReplyLine, u16, Vec<u8>)>;

/// A server's octets read as replies, whole and in pieces (RFC 5321 4.2).
pub(super) fn reply_reader(octets: &[u8]) {
    let mut input = Input(octets);
    let piece = 1 + usize::from(input.octet());
    let whole = replies(input.0, input.0.len().max(1));
    assert_eq!(replies(input.0, piece), whole);
    for (_, code, text) in whole.into_iter().flatten() {
        assert!((200..600).contains(&code) && text.len() <= REPLY_TEXT_OCTETS_MAX);
        assert!(text.iter().all(|octet| !octet.is_ascii_control()), "{}", text.escape_ascii());
    }
}

fn replies(octets: &[u8], piece: usize) -> Vec<Read> {
    let (mut memory, mut window) = (vec![0; octets.len().max(1)], Window::default());
    let (mut reader, mut read) = (ReplyReader::new(), Vec::new());
    for piece in octets.chunks(piece) {
        let mut input = Buffer::new(&mut memory, &mut window);
        input.append(piece);
        loop {
            match reader.read(&mut input) {
                Ok(Some(line)) => read.push(Some((line, reader.code(), reader.text().to_vec()))),
                Ok(None) => break,
                Err(_) => {
                    read.push(None);
                    return read;
                }
            }
        }
    }
    read
}

/// Mail data behind DATA and in chunks, whole and in pieces (RFC 5321 4.5.2, RFC 3030).
pub(super) fn mail_data(octets: &[u8]) {
    let mut input = Input(octets);
    let bare_lf = if input.octet() % 2 == 0 { BareLf::Repair } else { BareLf::Refuse };
    let piece = 1 + usize::from(input.octet() % 16);
    let octets = input.0;
    let whole = receive(bare_lf, octets, octets.len().max(1));
    assert_eq!(receive(bare_lf, octets, piece), whole);
    let (message, faults, rest) = whole;
    // Only CRLF.CRLF ends it, the start counting as a CRLF.
    let framed = [b"\r\n", octets].concat();
    let end = framed.windows(5).position(|five| five == b"\r\n.\r\n").map(|at| at + 3);
    assert_eq!(rest.as_deref(), end.map(|end| &octets[end..]));
    assert!(!has_bare_lf(&message) || !faults.is_empty(), "{}", message.escape_ascii());
    let chunk = receive_chunk(bare_lf, octets, octets.len().max(1));
    assert_eq!(receive_chunk(bare_lf, octets, piece), chunk);
}

fn has_bare_lf(octets: &[u8]) -> bool {
    (0..octets.len()).any(|at| octets[at] == b'\n' && (at == 0 || octets[at - 1] != b'\r'))
}

fn receive(bare_lf: BareLf, octets: &[u8], piece: usize) -> (Vec<u8>, Vec<Fault>, Option<Vec<u8>>) {
    let mut mail_data = MailData::new(bare_lf);
    let (mut message, mut faults, mut start, mut end) = (Vec::new(), Vec::new(), 0, 0);
    loop {
        let (taken, part) = mail_data.next(&octets[start..end]);
        start += taken;
        match part {
            Some(Part::Run(run)) => message.extend_from_slice(run),
            Some(Part::Fault(fault)) => faults.push(fault),
            Some(Part::End) => return (message, faults, Some(octets[start..].to_vec())),
            None if taken > 0 => {}
            None if end == octets.len() => return (message, faults, None),
            None => {
                assert!(end - start <= 2, "{} octets wait", end - start);
                end = octets.len().min(end + piece);
            }
        }
    }
}

fn receive_chunk(bare_lf: BareLf, octets: &[u8], piece: usize) -> (Vec<u8>, Vec<Fault>) {
    let mut mail_data = MailData::new(bare_lf);
    let (mut message, mut faults) = (Vec::new(), Vec::new());
    let mut take = |part: Part<'_>| match part {
        Part::Run(run) => message.extend_from_slice(run),
        Part::Fault(fault) => faults.push(fault),
        Part::End => panic!("a chunk has no end of its own"),
    };
    for piece in octets.chunks(piece) {
        let mut taken = 0;
        loop {
            let (octets, part) = mail_data.next_of_chunk(&piece[taken..]);
            taken += octets;
            match part {
                Some(part) => take(part),
                None if taken == piece.len() => break,
                None => {}
            }
        }
    }
    if let Some(part) = mail_data.end_of_chunks() {
        take(part);
    }
    assert_eq!(mail_data.octets(), message.len() as u64);
    assert!(message.is_empty() || message.ends_with(b"\r\n") || faults.contains(&Fault::BareCr));
    (message, faults)
}
