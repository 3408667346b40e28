//! Mail data on its way in: octets of the wire -> runs of the message's octets (RFC 5321 4.1.1.4, 4.5.2,
//! 2.3.8).
//!
//! Only CRLF.CRLF ends it, or .CRLF right at its start: no other order of CR, LF and dot does, in any mode
//! and in any split of the octets over reads. A line begins behind CRLF only, so what follows a bare LF keeps
//! its dot. A fault is told once and reading goes on to the true end, so that mail data never becomes
//! commands.
//!
//! What can't be judged yet (a CR, or a dot at the start of a line, at the end of the input) is left in the
//! input: at most two octets. So the only state is whether a line begins here, and runs are as long as the
//! input allows.

/// The next part of the mail data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Octets of the message, transparency undone.
    Run(&'a [u8]),
    /// Something that makes the message unacceptable; told once for each kind.
    Fault(Fault),
    /// The end of the mail data.
    End,
}

/// What makes mail data unacceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A CR that no LF follows.
    BareCr,
    /// An LF that no CR precedes, where such is refused.
    BareLf,
}

/// Octets of a line of text with CRLF, its stuffed dot not counted (RFC 5321 4.5.3.1.6).
pub const TEXT_LINE_OCTETS_MAX: usize = 1000;

/// What becomes of an LF that no CR precedes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BareLf {
    /// It becomes CRLF, and still ends no data and begins no line whose dot would be undone.
    Repair,
    /// It is a fault.
    Refuse,
}

/// The receiver of one message's mail data.
#[derive(Debug)]
pub struct MailData {
    bare_lf: BareLf,
    line_begins: bool,
    told: [bool; 2],
    octets: u64,
    hops: HopCount,
    /// The last octet of the chunk before was a CR, which can't be judged without the next.
    has_cr: bool,
    /// Octets of the line that isn't at its end.
    line_octets: u64,
    has_long_lines: bool,
    has_bare_lf: bool,
}

impl MailData {
    /// Right behind the 354.
    pub fn new(bare_lf: BareLf) -> Self {
        Self {
            bare_lf,
            line_begins: true,
            told: [false; 2],
            octets: 0,
            hops: HopCount::new(),
            has_cr: false,
            line_octets: 0,
            has_long_lines: false,
            has_bare_lf: false,
        }
    }

    /// Octets of the message in the runs so far: CRLFs counted, stuffed dots and the end not (RFC 1870 3).
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Received fields in the header section so far.
    pub fn hops(&self) -> usize {
        self.hops.count
    }

    /// A line was longer than RFC 5321 4.5.3.1.6 has it.
    pub fn has_long_lines(&self) -> bool {
        self.has_long_lines
    }

    /// An LF without its CR was repaired.
    pub fn has_bare_lf(&self) -> bool {
        self.has_bare_lf
    }

    /// How many octets of `input` the next part takes, and the part. Octets may be taken without a part; when
    /// none are taken, more input is needed. At most two octets are ever left then.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> (usize, Option<Part<'a>>) {
        let dots = match input {
            [b'.'] | [b'.', b'\r'] if self.line_begins => return (0, None),
            [b'.', b'\r', b'\n', ..] if self.line_begins => return (3, Some(Part::End)),
            [b'.', ..] if self.line_begins => 1,
            _ => 0,
        };
        let (run, stop) = run(&input[dots..]);
        if !run.is_empty() {
            self.line_begins = run.ends_with(b"\r\n");
            return (dots + run.len(), Some(self.message(run)));
        }
        let part = match stop {
            // Behind an undone dot there is always something to take, so it can't be undone twice.
            Stop::Input => return (0, None),
            Stop::BareCr => self.fault(Fault::BareCr),
            Stop::BareLf => self.line_feed(),
        };
        self.line_begins = false;
        (dots + 1, part)
    }

    /// The same for a chunk, which has no transparency and whose end is known by its count alone (RFC 3030
    /// 2). It takes all octets, one CR at its end included.
    pub fn next_of_chunk<'a>(&mut self, input: &'a [u8]) -> (usize, Option<Part<'a>>) {
        if self.has_cr && !input.is_empty() {
            self.has_cr = false;
            return match input {
                [b'\n', ..] => (1, Some(self.message(b"\r\n"))),
                _ => (0, self.fault(Fault::BareCr)),
            };
        }
        let (run, stop) = run(input);
        if !run.is_empty() {
            return (run.len(), Some(self.message(run)));
        }
        match (stop, input) {
            (Stop::Input, []) => (0, None),
            (Stop::Input, _) => {
                self.has_cr = true;
                (1, None)
            }
            (Stop::BareCr, _) => (1, self.fault(Fault::BareCr)),
            (Stop::BareLf, _) => (1, self.line_feed()),
        }
    }

    /// What the end of the last chunk lacks: a line ends with CRLF, whoever wrote it.
    pub fn end_of_chunks(&mut self) -> Option<Part<'static>> {
        if core::mem::take(&mut self.has_cr) {
            return self.fault(Fault::BareCr);
        }
        (self.line_octets > 0).then(|| self.message(b"\r\n"))
    }

    fn line_feed(&mut self) -> Option<Part<'static>> {
        if self.bare_lf == BareLf::Refuse {
            return self.fault(Fault::BareLf);
        }
        self.has_bare_lf = true;
        Some(self.message(b"\r\n"))
    }

    fn message<'a>(&mut self, run: &'a [u8]) -> Part<'a> {
        self.octets += run.len() as u64;
        self.hops.count(run);
        self.measure(run);
        Part::Run(run)
    }

    /// Looks for lines that are too long. A run that is short, or in a message that has one, needs no look.
    fn measure(&mut self, run: &[u8]) {
        let line_octets = self.line_octets;
        let behind = match run.iter().rposition(|&octet| octet == b'\n') {
            Some(last) => run.len() - 1 - last,
            None => run.len() + line_octets as usize,
        };
        self.line_octets = behind as u64;
        if self.has_long_lines || line_octets + (run.len() as u64) <= TEXT_LINE_OCTETS_MAX as u64 {
            return;
        }
        let mut before = line_octets as usize;
        self.has_long_lines = run.split_inclusive(|&octet| octet == b'\n').any(|line| {
            let octets = core::mem::take(&mut before) + line.len();
            octets > TEXT_LINE_OCTETS_MAX
        });
    }

    fn fault(&mut self, fault: Fault) -> Option<Part<'static>> {
        let told = &mut self.told[fault as usize];
        let is_new = !*told;
        *told = true;
        is_new.then_some(Part::Fault(fault))
    }
}

/// What stops a run.
enum Stop {
    /// The end of the input, or the start of a line that may begin with a dot.
    Input,
    BareCr,
    BareLf,
}

/// The octets at the start of `text` that can be taken as they are, and what stops them.
fn run(text: &[u8]) -> (&[u8], Stop) {
    let mut at = 0;
    while let Some(found) = find_line_octet(&text[at..]) {
        at += found;
        match text[at..] {
            [b'\r', b'\n', b'.', ..] => return (&text[..at + 2], Stop::Input),
            [b'\r', b'\n', ..] => at += 2,
            [b'\r'] => return (&text[..at], Stop::Input),
            [b'\r', ..] => return (&text[..at], Stop::BareCr),
            _ => return (&text[..at], Stop::BareLf),
        }
    }
    (text, Stop::Input)
}

/// Where the first CR or LF is. Looks at 32 octets at a time, which the compiler turns into vector
/// instructions.
fn find_line_octet(octets: &[u8]) -> Option<usize> {
    let is_line_octet = |octet: u8| (octet == b'\r') | (octet == b'\n');
    let (chunks, _) = octets.as_chunks::<32>();
    let without = chunks
        .iter()
        .take_while(|chunk| !chunk.iter().fold(false, |found, &octet| found | is_line_octet(octet)))
        .count();
    let from = without * 32;
    octets[from..].iter().position(|&octet| is_line_octet(octet)).map(|at| from + at)
}

/// Counts the Received fields of the header section, which ends at its first empty line.
#[derive(Debug)]
struct HopCount {
    place: Place,
    count: usize,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// In a line whose first so many octets are those of [`HopCount::FIELD`].
    Name(usize),
    /// In a line of another kind, or behind the name.
    Skip,
    /// Behind the header section.
    Body,
}

impl HopCount {
    const FIELD: &'static [u8] = b"received:";

    const fn new() -> Self {
        Self { place: Place::Name(0), count: 0 }
    }

    fn count(&mut self, run: &[u8]) {
        let mut rest = run;
        while let Some(&octet) = rest.first() {
            let taken = match self.place {
                Place::Body => return,
                Place::Skip => match rest.iter().position(|&octet| octet == b'\n') {
                    Some(end) => {
                        self.place = Place::Name(0);
                        end + 1
                    }
                    None => return,
                },
                Place::Name(0) if octet == b'\r' => {
                    self.place = Place::Body;
                    return;
                }
                Place::Name(matched) if octet.to_ascii_lowercase() == Self::FIELD[matched] => {
                    self.place = Place::Name(matched + 1);
                    if matched + 1 == Self::FIELD.len() {
                        self.count += 1;
                        self.place = Place::Skip;
                    }
                    1
                }
                Place::Name(_) => {
                    self.place = Place::Skip;
                    0
                }
            };
            rest = &rest[taken..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message, the faults, and what was left behind the end, if there was one.
    fn receive(bare_lf: BareLf, octets: &[u8], piece: usize) -> (Vec<u8>, Vec<Fault>, Option<Vec<u8>>) {
        let (mut mail_data, mut message, mut faults) = (MailData::new(bare_lf), Vec::new(), Vec::new());
        let (mut start, mut end) = (0, 0);
        loop {
            let (taken, part) = mail_data.next(&octets[start..end]);
            start += taken;
            match part {
                Some(Part::Run(run)) => message.extend_from_slice(run),
                Some(Part::Fault(fault)) => faults.push(fault),
                Some(Part::End) => return (message, faults, Some(octets[start..].to_vec())),
                None if taken == 0 && end == octets.len() => return (message, faults, None),
                None if taken == 0 => end = octets.len().min(end + piece),
                None => {}
            }
        }
    }

    fn assert_received(sent: &[u8], message: &[u8], faults: &[Fault], has_end: bool) {
        for piece in [1, 2, 3, sent.len().max(1)] {
            let received = receive(BareLf::Repair, sent, piece);
            assert_eq!(received.0.escape_ascii().to_string(), message.escape_ascii().to_string());
            assert_eq!(
                (received.1.as_slice(), received.2.is_some()),
                (faults, has_end),
                "{}",
                sent.escape_ascii()
            );
        }
    }

    #[test]
    fn transparency() {
        assert_received(b".\r\n", b"", &[], true);
        assert_received(b"\r\n.\r\n", b"\r\n", &[], true);
        assert_received(b"..x\r\n..\r\n.x\r\na.b\r\n.\r\n", b".x\r\n.\r\nx\r\na.b\r\n", &[], true);
        assert_received(b"...\r\n\0\t\x7f\xff\r\n.\r\nQUIT", b"..\r\n\0\t\x7f\xff\r\n", &[], true);
    }

    #[test]
    fn nothing_but_the_end_is_the_end() {
        for (sent, message) in [
            (&b"a\n.\nb"[..], &b"a\r\n.\r\nb"[..]),
            (b"a\n.\r\nb", b"a\r\n.\r\nb"),
            (b"a\r\n.\nb", b"a\r\n\r\nb"),
            (b".\n.\r\nb", b"\r\n.\r\nb"),
            (b"a\r\n\0.\r\nb", b"a\r\n\0.\r\nb"),
        ] {
            assert_received(sent, message, &[], false);
        }
        for sent in [&b"a\r.\r\nb"[..], b"a\r\n.\rb", b"a\r.\rb", b"a\n\r.\r\nb", b"a\r\r\n.\rb", b".\r\r\nb"]
        {
            let received = receive(BareLf::Repair, sent, sent.len());
            assert_eq!((received.1, received.2), (vec![Fault::BareCr], None), "{}", sent.escape_ascii());
        }
        let received = receive(BareLf::Refuse, b"a\n.\r\nb\rc\n\r\n.\r\nNOOP", 1);
        assert_eq!((received.1, received.2.unwrap()), (vec![Fault::BareLf, Fault::BareCr], b"NOOP".to_vec()));
    }

    #[test]
    fn hops_are_those_of_the_header_section() {
        let sent = b"Received: a\r\n b\r\nRECEIVED:c\r\nX-Received: d\r\nReceive\r\n\r\nReceived: e\r\n.\r\n";
        for piece in [1, 7, sent.len()] {
            let (mut mail_data, mut start, mut end) = (MailData::new(BareLf::Repair), 0, 0);
            while !matches!(mail_data.next(&sent[start..end]), (taken, part) if {
                start += taken;
                end = sent.len().min(end + if taken == 0 { piece } else { 0 });
                part == Some(Part::End)
            }) {}
            assert_eq!((mail_data.hops(), mail_data.octets()), (2, sent.len() as u64 - 3));
        }
    }
}
