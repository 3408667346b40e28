//! The Received field (RFC 5321 4.4), rendered from plain values when a message leaves.
//!
//! There is no FOR clause, so that no blind copy shows (RFC 5321 7.2). The client's name is already known to
//! be a domain or an address literal; anything else in it is replaced, so that nothing can open a comment or
//! a new field.

use core::fmt::{self, Display};
use core::net::{IpAddr, Ipv4Addr};

use super::date::Date;

/// Columns at which a line is folded where it can be (RFC 5322 2.1.1).
const COLUMNS: usize = 78;

/// What stands for a client that isn't told: a name that nobody has (RFC 2606 2).
const HIDDEN: &str = "hidden.invalid";

/// Octets that a Received field takes at most: three names of 255, the id, the date and the words between.
pub const RECEIVED_OCTETS_MAX: usize = 1024;

/// Where a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A client in the network; never an IPv4-mapped address.
    Address(IpAddr),
    /// A user of this machine, by the number that the kernel vouches for.
    User(u32),
}

impl Origin {
    /// Nobody yet.
    pub const NOWHERE: Self = Self::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

    /// The same for people to read: `[192.0.2.1]`, `uid 1000`.
    pub fn in_text(self) -> impl Display {
        InText(self)
    }
}

struct InText(Origin);

impl Display for InText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Origin::Address(address) => AddressLiteral(address).fmt(f),
            Origin::User(uid) => write!(f, "uid {uid}"),
        }
    }
}

impl From<IpAddr> for Origin {
    /// An IPv4-mapped address is held as IPv4.
    fn from(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }
}

impl Display for Origin {
    /// As one word: `192.0.2.1`, `uid:1000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::User(uid) => write!(f, "uid:{uid}"),
        }
    }
}

/// One Received field; its `Display` gives it whole, folded, with the last CRLF.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a, Id> {
    /// Who the client is.
    pub client: Origin,
    /// The name that it gave in EHLO or HELO.
    pub client_name: &'a [u8],
    /// Our own name.
    pub hostname: &'a str,
    /// The word after WITH (RFC 3848), such as `ESMTP`.
    pub protocol: &'a str,
    /// The message's id; at most 40 octets of letters, digits and hyphens.
    pub id: Id,
    /// The client's name and address are nobody's business (RFC 5321 7.5): neither is told.
    pub is_client_hidden: bool,
    /// When it came, in seconds since 1970-01-01 00:00:00 UTC.
    pub arrival_unix_s: u64,
}

impl<Id: Display> Received<'_, Id> {
    /// Octets of the field, its CRLFs included; at most [`RECEIVED_OCTETS_MAX`].
    pub fn octets(&self) -> usize {
        Octets::of(self)
    }
}

impl<Id: Display> Display for Received<'_, Id> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.client.in_text();
        let fold = |is_needed| if is_needed { "\r\n\t" } else { " " };
        f.write_str("Received: from ")?;
        if self.is_client_hidden {
            write!(f, "{HIDDEN}\r\n\tby ")?;
        } else {
            write_name(f, self.client_name)?;
            let columns = "Received: from  ()".len() + self.client_name.len() + Octets::of(&client);
            write!(f, "{}({client})\r\n\tby ", fold(columns > COLUMNS))?;
        }
        write_name(f, self.hostname.as_bytes())?;
        let with = self.protocol.len() + Octets::of(&self.id);
        let columns = "\tby  with  id ;".len() + self.hostname.len() + with;
        write!(f, "{}with {} id {};", fold(columns > COLUMNS), self.protocol, self.id)?;
        write!(f, "\r\n\t{}\r\n", Date { unix_s: self.arrival_unix_s })
    }
}

/// An address as RFC 5321 4.1.3 writes it: `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
#[derive(Clone, Copy, Debug)]
pub struct AddressLiteral(pub IpAddr);

impl Display for AddressLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "[{address}]"),
            IpAddr::V6(address) => write!(f, "[IPv6:{address}]"),
        }
    }
}

/// Writes what may stand in a domain or an address literal, and `?` for the rest.
fn write_name(f: &mut fmt::Formatter<'_>, name: &[u8]) -> fmt::Result {
    let is_legal = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.:[]".contains(&octet);
    match core::str::from_utf8(name) {
        Ok(text) if name.iter().all(|&octet| is_legal(octet)) => f.write_str(text),
        _ => name.iter().try_for_each(|&octet| {
            fmt::Write::write_char(f, if is_legal(octet) { char::from(octet) } else { '?' })
        }),
    }
}

/// Counts what a value's `Display` writes.
struct Octets(usize);

impl Octets {
    fn of(value: &impl Display) -> usize {
        let mut octets = Self(0);
        fmt::write(&mut octets, format_args!("{value}")).expect("counting can't fail");
        octets.0
    }
}

impl fmt::Write for Octets {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(client: &str, client_name: &[u8], hostname: &str) -> String {
        let client = client.parse::<IpAddr>().unwrap().into();
        let arrival_unix_s = 1_795_510_800;
        let received = Received {
            client,
            client_name,
            hostname,
            protocol: "ESMTP",
            id: "1-2a",
            is_client_hidden: false,
            arrival_unix_s,
        };
        assert_eq!(received.octets(), received.to_string().len());
        received.to_string()
    }

    #[test]
    fn short_names_take_three_lines() {
        let field = "Received: from printer ([192.0.2.1])\r\n\tby relay.lan with ESMTP id 1-2a;\r\n\t\
                     Tue, 24 Nov 2026 09:00:00 +0000\r\n";
        assert_eq!(received("192.0.2.1", b"printer", "relay.lan"), field);
        assert!(
            received("2001:db8::1", b"[IPv6:::1]", "r").contains("from [IPv6:::1] ([IPv6:2001:db8::1])\r\n")
        );
    }

    #[test]
    fn a_user_is_told_by_number() {
        let field = Received {
            client: Origin::User(1000),
            client_name: b"relay.lan",
            hostname: "relay.lan",
            protocol: "ESMTP",
            id: "1-2a",
            is_client_hidden: false,
            arrival_unix_s: 1_795_510_800,
        };
        assert!(field.to_string().starts_with("Received: from relay.lan (uid 1000)\r\n\tby relay.lan with"));
        assert_eq!(field.octets(), field.to_string().len());
        assert_eq!(format!("{} {}", field.client, Origin::NOWHERE), "uid:1000 0.0.0.0");
    }

    /// SEED-7.5-a.
    #[test]
    fn a_hidden_client_is_not_told() {
        let field = Received {
            client: Origin::User(0),
            client_name: b"printer",
            hostname: "relay.example",
            protocol: "ESMTP",
            id: "1-2a",
            is_client_hidden: true,
            arrival_unix_s: 1_795_510_800,
        };
        let told = "Received: from hidden.invalid\r\n\tby relay.example with ESMTP id 1-2a;\r\n\t\
                    Tue, 24 Nov 2026 09:00:00 +0000\r\n";
        assert_eq!((field.to_string().as_str(), field.octets()), (told, told.len()));
    }

    /// HDR-b.
    #[test]
    fn long_names_are_folded_and_fit() {
        let name = format!("{0}.{0}.{0}.{0}", "d".repeat(63));
        let field = received("2001:db8:1111:2222:3333:4444:5555:6666", name.as_bytes(), &name);
        assert!(field.contains("\r\n\t([IPv6:") && field.contains("\r\n\twith ESMTP"));
        assert!(field.len() <= RECEIVED_OCTETS_MAX);
        let name = "d".repeat(40);
        let field = received("2001:db8:1111:2222:3333:4444:5555:6666", name.as_bytes(), &name);
        assert!(field.split("\r\n").all(|line| line.len() <= COLUMNS));
    }

    #[test]
    fn nothing_in_a_name_can_break_the_field() {
        assert!(received("::1", b"a)b(c\r\nX: \xe9\0", "r").starts_with("Received: from a?b?c??X:??? ("));
    }
}
