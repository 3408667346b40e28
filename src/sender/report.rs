//! How a notice is laid out: multipart/report (RFC 6522) of a text, the delivery status (RFC 3464), and the
//! header section of the message.
//!
//! An address beyond ASCII is told in the form of RFC 6533, which is ASCII.
//!
//! Octets that a peer chose can't open a line, a field or a part: its replies and addresses are cut into
//! words of printable ASCII behind a name of ours, and a returned line that starts with a hyphen is indented,
//! so that none is a boundary. Lines that are made here are folded at [`COLUMNS`] where there is a space, and
//! none has more than 998 octets (RFC 5322 2.1.1). Left out: the message's content, and warnings of a delay.
use core::fmt::{self, Write as _};
use core::net::IpAddr;

use super::reason;
use crate::buffer::Buffer;
use crate::config::Config;
use crate::smtp::date::Date;
use crate::smtp::dsn;
use crate::smtp::trace::AddressLiteral;
use crate::spool::{Envelope, KeptReply, MessageId, Recipient};

/// Room that must be in the output before a piece of the notice is written; none is longer.
pub(super) const PIECE_OCTETS_MAX: usize = 1792;
/// Columns at which a line is folded.
const COLUMNS: usize = 78;
/// Octets of a returned line behind which it is folded.
const RETURNED_LINE_OCTETS_MAX: u16 = 900;
/// Octets of the header section that are returned.
const HEADER_SECTION_OCTETS_MAX: u32 = 16 * 1024;
/// Octets of an address in ASCII.
const ADDRESS_OCTETS_MAX: usize = 500;
/// Octets of a Message-ID that is referred to.
const MESSAGE_ID_OCTETS_MAX: usize = 200;
/// Octets of a returned field's name beyond which a line is taken for text.
const FIELD_NAME_OCTETS_MAX: usize = 77;

/// What is to be written next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The notice's own header section.
    Header,
    /// The text up to the recipients.
    Introduction,
    /// The text about the recipient at `next`.
    Text { next: usize },
    /// The delivery status of the recipient at `next`.
    Status { next: usize },
    /// The message's header section.
    HeaderSection(HeaderSection),
    /// The end of the last line and of the last part.
    End(HeaderSection),
    /// Nothing but the end of mail data.
    Done,
}

/// The facts of one notice.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) config: &'a Config,
    /// The host that spoke; none where it may have been another than the one that takes the notice.
    pub(super) smarthost: Option<&'a str>,
    pub(super) envelope: &'a Envelope,
    /// The message's id.
    pub(super) id: MessageId,
    /// Whom the notice goes to.
    pub(super) to: &'a [u8],
    /// When it is sent.
    pub(super) unix_s: u64,
    /// The smarthost takes octets above 127.
    pub(super) is_8bit: bool,
    /// A recipient that is told of has an address beyond ASCII.
    pub(super) has_utf8: bool,
    /// A recipient failed; else all were relayed.
    pub(super) is_of_failure: bool,
}

impl Report<'_> {
    pub(super) fn write_header(&self, original: &MessageIdField, output: &mut Buffer<'_>) {
        let hostname = &self.config.hostname;
        let mut lines = Lines { output, column: 0, fold: "\r\n ", is_utf8_kept: false };
        lines.begin("From:");
        lines.words(b"Mail relay");
        match &self.config.sender_header_from {
            Some(address) => lines.around("<", address.bytes(), ">"),
            None => lines.word(format_args!("<MAILER-DAEMON@{hostname}>")),
        }
        lines.end();
        lines.begin("To:");
        // An address beyond ASCII is written to with SMTPUTF8 only.
        lines.is_utf8_kept = true;
        lines.around("<", self.to.iter().copied(), ">");
        lines.is_utf8_kept = false;
        lines.end();
        lines.begin("Subject:");
        lines.words(if self.is_of_failure { b"Undelivered mail" } else { b"Your mail was relayed" });
        lines.end();
        lines.begin("Date:");
        lines.word(format_args!("{}", Date { unix_s: self.unix_s }));
        lines.end();
        lines.begin("Message-ID:");
        lines.word(format_args!("<notice.{}.{:x}@{hostname}>", self.id, self.unix_s));
        lines.end();
        if !original.0.is_empty() {
            lines.begin("References:");
            lines.words(&original.0);
            lines.end();
        }
        lines.text("Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n");
        lines.text("Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=");
        lines.literal(format_args!("\"{}\"\r\n", Boundary(self.id)));
        lines.text(self.transfer_encoding());
    }

    fn transfer_encoding(&self) -> &'static str {
        if self.is_8bit { "Content-Transfer-Encoding: 8bit\r\n" } else { "" }
    }

    fn write_boundary(&self, lines: &mut Lines<'_, '_>, media_type: &str) {
        lines.literal(format_args!("\r\n--{}\r\nContent-Type: {media_type}\r\n", Boundary(self.id)));
    }

    pub(super) fn write_introduction(&self, output: &mut Buffer<'_>) {
        let mut lines = Lines { output, column: 0, fold: "\r\n", is_utf8_kept: false };
        if self.is_8bit && self.has_utf8 {
            self.write_boundary(&mut lines, "text/plain; charset=utf-8");
            lines.text(self.transfer_encoding());
        } else {
            self.write_boundary(&mut lines, "text/plain; charset=us-ascii");
        }
        lines.text("\r\n");
        lines.begin("This is the mail relay");
        lines.words(self.config.hostname.as_bytes());
        lines.words(b"about the message that it took from");
        lines.word(format_args!("{}", self.envelope.client.in_text()));
        if self.envelope.arrival.is_trusted {
            lines.words(b"on");
            lines.word(format_args!("{}", Date { unix_s: self.envelope.arrival.unix_s }));
        }
        lines.words(b"as");
        lines.word(format_args!("{}.", self.id));
        lines.end();
        lines.text("Its header is below.\r\n");
    }

    /// What became of one recipient, in words.
    pub(super) fn write_text(
        &self,
        recipient: &Recipient,
        reply: Option<&KeptReply>,
        output: &mut Buffer<'_>,
    ) {
        let mut lines = Lines { output, column: 0, fold: "\r\n    ", is_utf8_kept: false };
        lines.text("\r\n");
        lines.begin(" ");
        if self.is_8bit && core::str::from_utf8(&recipient.forward_path).is_ok() {
            lines.is_utf8_kept = true;
            lines.around("<", recipient.forward_path.iter().copied(), ">");
            lines.is_utf8_kept = false;
        } else {
            lines.around("<", ascii(&recipient.forward_path).iter().copied(), ">");
        }
        lines.end();
        lines.begin("   ");
        match reply {
            None => {
                lines.words(b"was relayed to");
                lines.words(self.smarthost.unwrap_or("a smarthost").as_bytes());
                lines.words(b"which does not tell of its delivery.");
            }
            Some(reply) if reason::is_own(reply) => {
                lines.words(b"failed:");
                lines.words(&reply.text);
            }
            Some(reply) => {
                let is_expired = reply.code < 500;
                lines.words(if is_expired {
                    b"was not delivered within the time allowed. The last answer of"
                } else {
                    b"failed. The answer of"
                });
                lines.words(self.smarthost.unwrap_or("the smarthost").as_bytes());
                lines.words(b"was:");
                lines.end();
                lines.begin("   ");
                lines.word(format_args!("{}", reply.code));
                lines.words(&reply.text);
            }
        }
        lines.end();
    }

    /// The delivery status up to the recipients (RFC 3464 2.2).
    pub(super) fn write_status_start(&self, output: &mut Buffer<'_>) {
        let mut lines = Lines { output, column: 0, fold: "\r\n ", is_utf8_kept: false };
        self.write_boundary(&mut lines, "message/delivery-status");
        lines.text("\r\n");
        lines.begin("Reporting-MTA: dns;");
        lines.words(self.config.hostname.as_bytes());
        lines.end();
        if !self.envelope.envid.is_empty() {
            lines.begin("Original-Envelope-Id:");
            lines.around("", dsn::decoded(&self.envelope.envid), "");
            lines.end();
        }
        if self.envelope.arrival.is_trusted {
            lines.begin("Arrival-Date:");
            lines.word(format_args!("{}", Date { unix_s: self.envelope.arrival.unix_s }));
            lines.end();
        }
    }

    /// The delivery status of one recipient (RFC 3464 2.3).
    pub(super) fn write_status(
        &self,
        recipient: &Recipient,
        reply: Option<&KeptReply>,
        output: &mut Buffer<'_>,
    ) {
        let mut lines = Lines { output, column: 0, fold: "\r\n ", is_utf8_kept: false };
        lines.text("\r\n");
        if let Some(at) = recipient.orcpt.iter().position(|octet| *octet == b';') {
            lines.begin("Original-Recipient:");
            lines.around("", recipient.orcpt[..at].iter().copied(), ";");
            lines.around("", dsn::decoded(&recipient.orcpt[at + 1..]), "");
            lines.end();
        }
        let is_ascii = recipient.forward_path.is_ascii();
        lines.begin(if is_ascii { "Final-Recipient: rfc822;" } else { "Final-Recipient: utf-8;" });
        lines.around("", ascii(&recipient.forward_path).iter().copied(), "");
        lines.end();
        let Some(reply) = reply else {
            lines.text("Action: relayed\r\nStatus: 2.0.0\r\n");
            return;
        };
        lines.text("Action: failed\r\n");
        lines.begin("Status:");
        lines.words(status(reply));
        lines.end();
        if reason::is_own(reply) {
            lines.begin("Diagnostic-Code: x-postern;");
        } else {
            if let Some(smarthost) = self.smarthost {
                lines.begin("Remote-MTA: dns;");
                match smarthost.parse::<IpAddr>() {
                    Ok(address) => lines.word(format_args!("{}", AddressLiteral(address))),
                    Err(_) => lines.words(smarthost.as_bytes()),
                }
                lines.end();
            }
            lines.begin("Diagnostic-Code: smtp;");
            lines.word(format_args!("{}", reply.code));
        }
        lines.words(&reply.text);
        lines.end();
    }

    pub(super) fn write_header_section_start(&self, output: &mut Buffer<'_>) {
        let mut lines = Lines { output, column: 0, fold: "\r\n ", is_utf8_kept: false };
        self.write_boundary(&mut lines, "text/rfc822-headers");
        lines.text(self.transfer_encoding());
        lines.text("\r\n");
    }

    pub(super) fn write_end(&self, output: &mut Buffer<'_>) {
        let mut lines = Lines { output, column: 0, fold: "\r\n ", is_utf8_kept: false };
        lines.literal(format_args!("\r\n--{}--\r\n", Boundary(self.id)));
    }
}

/// `path` in ASCII: as it is, or with the rest as `\x{E4}` (utf-8-addr-xtext of RFC 6533 3), which needs no
/// SMTPUTF8; what would get too long so becomes question marks.
fn ascii(path: &[u8]) -> heapless::Vec<u8, ADDRESS_OCTETS_MAX> {
    let mut encoded = heapless::Vec::<u8, ADDRESS_OCTETS_MAX>::new();
    let text = core::str::from_utf8(path).ok().filter(|_| !path.is_ascii());
    let is_encoded = text.is_some_and(|text| {
        text.chars().all(|letter| match letter {
            '\\' | '+' | '=' | '\u{80}'.. => write!(encoded, "\\x{{{:X}}}", u32::from(letter)).is_ok(),
            _ => encoded.write_char(letter).is_ok(),
        })
    });
    if !is_encoded {
        encoded.clear();
        let is_fit = encoded.extend_from_slice(&path[..path.len().min(ADDRESS_OCTETS_MAX)]);
        is_fit.expect("cut to the room there is");
    }
    encoded
}

/// The Message-ID of the message, by which readers file the notice beside it (RFC 3834 3.1.5); empty when it
/// has none that stands early, on one line and is short.
pub(super) struct MessageIdField(heapless::Vec<u8, MESSAGE_ID_OCTETS_MAX>);

impl MessageIdField {
    /// Looks into `octets`, which the message starts with.
    pub(super) fn of(octets: &[u8]) -> Self {
        const NAME: &[u8] = b"message-id:";
        let found = octets
            .split_inclusive(|octet| *octet == b'\n')
            .map_while(|line| line.strip_suffix(b"\r\n").filter(|line| !line.is_empty()))
            .filter_map(|line| line.split_at_checked(NAME.len()))
            .find(|(name, _)| name.eq_ignore_ascii_case(NAME))
            .map_or(&b""[..], |(_, id)| id.trim_ascii());
        let is_id =
            found.starts_with(b"<") && found.ends_with(b">") && found.iter().all(u8::is_ascii_graphic);
        Self(heapless::Vec::from_slice(if is_id { found } else { b"" }).unwrap_or_default())
    }
}

/// What parts the notice: no line of its parts starts with a hyphen.
struct Boundary(MessageId);

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "=_notice-{}", self.0)
    }
}

/// The status of a failed recipient: as the reply has it, when that fits its code; 4.4.7 for one that was
/// deferred until its time was over (RFC 3463 3.5).
fn status(reply: &KeptReply) -> &[u8] {
    if reply.code < 500 {
        return b"4.4.7";
    }
    let word = reply.text.split(|octet| *octet == b' ').next().unwrap_or_default();
    let mut numbers = word.split(|octet| *octet == b'.');
    let is_number = |number: &[u8]| (1..=3).contains(&number.len()) && number.iter().all(u8::is_ascii_digit);
    let is_status = numbers.next() == Some(b"5") && numbers.clone().count() == 2 && numbers.all(is_number);
    if is_status { word } else { b"5.0.0" }
}

/// Lines that are folded between words.
struct Lines<'a, 'b> {
    output: &'a mut Buffer<'b>,
    column: usize,
    /// What a line goes on behind.
    fold: &'static str,
    /// Octets above 127 stay.
    is_utf8_kept: bool,
}

impl Lines<'_, '_> {
    /// Whole lines of ours.
    fn text(&mut self, text: &str) {
        self.output.append(text.as_bytes());
    }

    /// The same with values of ours in them.
    fn literal(&mut self, arguments: fmt::Arguments<'_>) {
        self.output.write_fmt(arguments).expect("the room of a piece was there");
    }

    fn begin(&mut self, start: &str) {
        self.text(start);
        self.column = start.len();
    }

    fn end(&mut self) {
        self.text("\r\n");
        self.column = 0;
    }

    /// One word of ours, bounded by a name and an id. Spaces in it don't part it.
    fn word(&mut self, arguments: fmt::Arguments<'_>) {
        let mut word = heapless::String::<{ crate::limits::DOMAIN_OCTETS_MAX + 64 }>::new();
        word.write_fmt(arguments).expect("a name and an id fit");
        self.around("", word.bytes(), "");
    }

    /// The words of `octets`, whoever wrote them.
    fn words(&mut self, octets: &[u8]) {
        for word in octets.split(|octet| matches!(octet, b' ' | b'\t')).filter(|word| !word.is_empty()) {
            self.around("", word.iter().copied(), "");
        }
    }

    /// One word between `start` and `end`; what is not printable ASCII becomes a question mark.
    fn around(&mut self, start: &str, word: impl Iterator<Item = u8> + Clone, end: &str) {
        let octets = start.len() + word.clone().count() + end.len();
        if self.column + 1 + octets > COLUMNS && self.column > self.fold.len() {
            self.text(self.fold);
            self.column = self.fold.len() - "\r\n".len();
        } else if self.column > 0 {
            self.text(" ");
            self.column += 1;
        }
        self.text(start);
        for octet in word {
            let is_kept = matches!(octet, b' '..=b'~') || self.is_utf8_kept && !octet.is_ascii();
            self.output.append(&[if is_kept { octet } else { b'?' }]);
        }
        self.text(end);
        self.column += octets;
    }
}

/// The place in the message's header section while that is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeaderSection {
    /// Octets of the line so far.
    column: u16,
    octets: u32,
    is_over: bool,
}

impl HeaderSection {
    pub(super) const START: Self = Self { column: 0, octets: 0, is_over: false };

    /// True when all of it is written.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Writes what `octets` have of it, as far as there is room; returns how many were taken.
    pub(super) fn write(&mut self, octets: &[u8], is_8bit: bool, output: &mut Buffer<'_>) -> usize {
        let mut taken = 0;
        // One octet becomes four at most.
        while taken < octets.len() && output.room() >= 4 {
            let octet = octets[taken];
            if self.column == 0 && !is_in_header(&octets[taken..], self.octets == 0)
                || self.octets >= HEADER_SECTION_OCTETS_MAX
            {
                self.is_over = true;
                break;
            }
            taken += 1;
            self.octets += 1;
            match octet {
                b'\n' => {
                    output.append(b"\r\n");
                    self.column = 0;
                    continue;
                }
                b'\r' => continue,
                b'-' if self.column == 0 => output.append(b" "),
                b'.' if self.column == 0 => output.append(b"."),
                _ if self.column >= RETURNED_LINE_OCTETS_MAX => {
                    output.append(b"\r\n ");
                    self.column = 1;
                }
                _ => {}
            }
            let is_kept = octet == b'\t' || !octet.is_ascii_control() && (octet.is_ascii() || is_8bit);
            output.append(&[if is_kept { octet } else { b'?' }]);
            self.column += 1;
        }
        taken
    }

    /// Ends its last line.
    pub(super) fn end(&self, output: &mut Buffer<'_>) {
        if self.column > 0 {
            output.append(b"\r\n");
        }
    }
}

/// True when the line that `octets` start with belongs to a header section: it begins or goes on with a
/// field.
fn is_in_header(octets: &[u8], is_first: bool) -> bool {
    if matches!(octets[0], b' ' | b'\t') {
        return !is_first;
    }
    let name = octets.iter().take(FIELD_NAME_OCTETS_MAX);
    match name.clone().position(|octet| *octet == b':' || !octet.is_ascii_graphic()) {
        Some(end) => octets[end] == b':' && end > 0,
        // The line goes on in the next block.
        None => octets.len() < FIELD_NAME_OCTETS_MAX,
    }
}
