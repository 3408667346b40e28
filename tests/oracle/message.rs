//! Messages whose every octet follows from their number: whatever the spool mixes up, comes to light.
use core::net::{IpAddr, Ipv4Addr};

use postern::smtp::trace::Origin;
use postern::spool::{Device, Envelope, MessageIndex, Notify, Protocol, Reader, Recipient, Store};
use postern::time::Wall;

use crate::disk::Random;

/// The number and size of a message; all else follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Octets of mail data.
    pub(crate) octets: usize,
    /// Forward-paths.
    pub(crate) recipients: u16,
}

/// The envelope of message `number`.
pub(crate) fn envelope(number: u32) -> Envelope {
    Envelope {
        client: origin(number),
        client_name: text(&format!("device-{number:06}.example")),
        protocol: if number.is_multiple_of(2) { Protocol::Esmtp } else { Protocol::Smtp },
        arrival: Wall { unix_s: 1_700_000_000 + u64::from(number), is_trusted: number.is_multiple_of(3) },
        reverse_path: text(&format!("sender-{number:06}@example.com")),
        body_is_8bit: number.is_multiple_of(5),
        utf8: number.is_multiple_of(7),
        is_submission: number.is_multiple_of(4),
        ret: (number % 3) as u8,
        envid: text(&format!("ENVID{number:06}")),
    }
}

fn origin(number: u32) -> Origin {
    match number % 4 {
        0 => Origin::User(number),
        _ => Origin::Address(Ipv4Addr::from(0x0a00_0000 + number).into()),
    }
}

/// The forward-path `place` of message `number`.
pub(crate) fn recipient(number: u32, place: u16) -> Recipient {
    Recipient {
        forward_path: text(&format!("r{place:04}.m{number:06}@example.net")),
        notify: Notify((number % 8) as u8),
        orcpt: text(&format!("rfc822;o{place:04}.m{number:06}@example.net")),
    }
}

/// The mail data of message `number`.
pub(crate) fn mail_data(number: u32, octets: usize) -> Vec<u8> {
    let mut random = Random(u64::from(number) << 32 | octets as u64);
    (0..octets.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(octets).collect()
}

fn text<const N: usize>(text: &str) -> heapless::Vec<u8, N> {
    heapless::Vec::from_slice(text.as_bytes()).expect("shorter than any limit of the format")
}

/// What the spool gives back of a message.
pub(crate) enum Found {
    /// All of message `number`, octet by octet.
    Whole(u32, Shape),
    /// The spool says itself that it is damaged.
    Damaged,
    /// Something that was never written like this.
    Mixed(String),
}

/// Reads a message and tells which it is.
pub(crate) fn identify<D: Device>(store: &mut Store<D>, index: MessageIndex) -> Found {
    let mut reader = Reader::new();
    let Ok(envelope_found) = reader.open(store, index) else { return Found::Damaged };
    let number = match envelope_found.client {
        Origin::Address(IpAddr::V4(client)) => u32::from(client).wrapping_sub(0x0a00_0000),
        Origin::Address(IpAddr::V6(_)) => return Found::Mixed("client".into()),
        Origin::User(uid) => uid,
    };
    let mut recipients = 0;
    loop {
        match reader.next_recipient(store) {
            Err(_) => return Found::Damaged,
            Ok(None) => break,
            Ok(Some(found)) if found == recipient(number, recipients) => recipients += 1,
            Ok(Some(found)) => return Found::Mixed(format!("m{number}, recipient {recipients}: {found:?}")),
        }
    }
    let mut found = Vec::new();
    loop {
        let octets = match reader.mail_data(store) {
            Err(_) => return Found::Damaged,
            Ok([]) => break,
            Ok(octets) => octets,
        };
        found.extend_from_slice(octets);
        let octets = octets.len();
        reader.consume(octets);
    }
    if found != mail_data(number, found.len()) {
        return Found::Mixed(format!("mail data of m{number}, {} octets", found.len()));
    }
    let mut expected = envelope(number);
    expected.body_is_8bit |= !found.is_ascii();
    if envelope_found != expected {
        return Found::Mixed(format!("envelope of m{number}: {envelope_found:?}"));
    }
    Found::Whole(number, Shape { octets: found.len(), recipients })
}
