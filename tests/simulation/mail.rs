//! What clients send: mail data as it goes on the wire, and what must come out at the smarthost.

use crate::disk::Random;
use crate::swarm::Draw;

/// What one message's mail data is.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    /// With transparency, without the final dot.
    pub(crate) wire: Vec<u8>,
    /// What the smarthost must get behind the Received field.
    pub(crate) expected: Vec<u8>,
    /// It has a bare CR, so that it must be refused.
    pub(crate) has_bare_cr: bool,
    /// It has a bare LF: repaired, or refused where the configuration has it so.
    pub(crate) has_bare_lf: bool,
    /// It has octets beyond ASCII.
    pub(crate) is_8bit: bool,
}

/// Octets of content in a full block of the spool: sizes around multiples of it are of interest.
const BLOCK_CONTENT_OCTETS: u64 = 4068;

impl Mail {
    /// The mail data of submission `id`, at most about `octets_max` long; `bare` times out of a thousand with
    /// bare CR or LF.
    pub(crate) fn new(random: &mut Random, id: usize, octets_max: u64, bare: u32) -> Self {
        let mut mail = Self {
            wire: Vec::new(),
            expected: Vec::new(),
            has_bare_cr: false,
            has_bare_lf: false,
            is_8bit: random.chance(100),
        };
        let octets = match random.below(8) {
            0 => return Self { is_8bit: false, ..mail },
            1..=3 => random.between(1, octets_max.min(300)),
            4 => {
                let blocks = random.between(1, 1 + octets_max / BLOCK_CONTENT_OCTETS);
                (blocks * BLOCK_CONTENT_OCTETS).saturating_sub(random.between(0, 700))
            }
            _ => random.between(1, octets_max),
        };
        mail.line(format!("X-Message: {id}\r\n").as_bytes());
        mail.line(b"\r\n");
        let has_bare = random.chance(bare);
        while (mail.expected.len() as u64) < octets {
            if has_bare && random.chance(150) {
                mail.trick(random, id);
            } else {
                mail.text(random, octets);
            }
        }
        if has_bare {
            mail.trick(random, id);
        }
        mail
    }

    /// True when it can be sent without transparency, as it is to come out.
    pub(crate) fn is_of_lines(&self) -> bool {
        !self.has_bare_cr && !self.has_bare_lf
    }

    fn line(&mut self, line: &[u8]) {
        if line.starts_with(b".") {
            self.wire.push(b'.');
        }
        self.wire.extend_from_slice(line);
        self.expected.extend_from_slice(line);
    }

    fn text(&mut self, random: &mut Random, octets: u64) {
        let left = octets - self.expected.len() as u64;
        let length = match random.below(10) {
            0 => 0,
            1 => random.between(79, 998),
            _ => random.between(1, 78),
        };
        let length = length.min(left.saturating_sub(2));
        let mut line: Vec<u8> = Vec::with_capacity(length as usize + 2);
        let mut word = random.next();
        for at in 0..length {
            if at % 8 == 0 {
                word = random.next();
            }
            let octet = (word >> (at % 8 * 8)) as u8;
            let is_high = self.is_8bit && octet >= 0x80;
            line.push(if is_high { octet } else { b' ' + octet % 95 });
        }
        if !line.is_empty() && random.chance(150) {
            line[0] = b'.';
            if random.chance(300) {
                line.truncate(1);
            }
        }
        line.extend_from_slice(b"\r\n");
        self.line(&line);
    }

    /// What a smuggler tries: what looks like the end of the mail data to a lenient server, and commands
    /// behind it. It begins and ends at the start of a line.
    fn trick(&mut self, random: &mut Random, id: usize) {
        let (wire, expected, is_bare_cr): (&[u8], &[u8], bool) = random.pick(&[
            (b".\n", b"\r\n", false),
            (b"x\n.\r\n", b"x\r\n.\r\n", false),
            (b"x\n.\n", b"x\r\n.\r\n", false),
            (b"\n..\r\n", b"\r\n..\r\n", false),
            (b"\n\n", b"\r\n\r\n", false),
            (b"x\r.\r\n", b"", true),
            (b".\r.\r\n", b"", true),
            (b"x\r\r\n", b"", true),
        ]);
        self.wire.extend_from_slice(wire);
        self.expected.extend_from_slice(expected);
        self.has_bare_cr |= is_bare_cr;
        self.has_bare_lf |= !is_bare_cr;
        let commands = format!(
            "MAIL FROM:<s{id}.smuggled@client.example>\r\nRCPT TO:<s{id}.smuggled@dest.example>\r\nDATA\r\n"
        );
        self.wire.extend_from_slice(commands.as_bytes());
        self.expected.extend_from_slice(commands.as_bytes());
    }
}

/// The reverse-path of submission `id`; some have the null one.
pub(crate) fn reverse_path(id: usize) -> String {
    if id % 7 == 3 { String::new() } else { format!("s{id}@client.example") }
}

/// The domain of all recipients.
pub(crate) const DOMAIN: &str = "dest.example";

/// The forward-path of recipient `at` of submission `id`.
pub(crate) fn forward_path(id: usize, at: usize) -> String {
    format!("s{id}.r{at}@{DOMAIN}")
}

/// The submission and the recipient that a forward-path names.
pub(crate) fn named(forward_path: &str) -> Option<(usize, usize)> {
    let local_part = forward_path.strip_suffix(DOMAIN)?.strip_suffix('@')?;
    let (id, at) = local_part.strip_prefix('s')?.split_once(".r")?;
    Some((id.parse().ok()?, at.parse().ok()?))
}

/// The submission that a reverse-path names; none for the null one.
pub(crate) fn submitted(reverse_path: &str) -> Option<usize> {
    reverse_path.strip_suffix("@client.example")?.strip_prefix('s')?.parse().ok()
}
