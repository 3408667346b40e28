//! After its start the relay allocates nothing while it receives, spools and relays plain messages (design:
//! memory is decided at build time). A counting allocator holds it, over the whole relay and not its parts.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use postern::config::Config;
use postern::limits::{QUEUED_MESSAGES, SENDER_CONNECTIONS};
use postern::queue::NOTICES_TO_ONE_AN_HOUR_MAX;
use postern::receiver::Peer;
use postern::relay::{Connection, Relay};
use postern::spool::{BLOCK_OCTETS, Block, BlockIndex, Device, DeviceError, Start, Store};
use postern::time::{Instant, Now, Wall};

const MESSAGES: u32 = 1000;
const BLOCKS: u32 = 512;
const CONFIG: &str = "hostname = \"relay.example.org\"\n\
                      [smarthost]\nhost = \"127.0.0.1\"\nport = 2525\ntls = \"none\"\n";
const ALERT: &[u8] = b"MAIL FROM:<ups@example.org> BODY=8BITMIME\r\nRCPT TO:<a@example.net>\r\n\
                       RCPT TO:<b@example.net>\r\nDATA\r\n\
                       From: ups@example.org\r\nTo: a@example.net\r\nSubject: on battery\r\n\r\n\
                       ..A line with a dot, and a second one.\r\nThe end.\r\n.\r\n";

/// A disk that is one piece of memory.
struct Memory(Vec<u8>);

impl Memory {
    fn at(&mut self, at: BlockIndex) -> &mut [u8] {
        &mut self.0[at.0 as usize * BLOCK_OCTETS..][..BLOCK_OCTETS]
    }
}

impl Device for Memory {
    fn blocks(&self) -> u32 {
        (self.0.len() / BLOCK_OCTETS) as u32
    }
    fn read(&mut self, at: BlockIndex, into: &mut Block) -> Result<(), DeviceError> {
        into.copy_from_slice(self.at(at));
        Ok(())
    }
    fn write(&mut self, at: BlockIndex, from: &Block) -> Result<(), DeviceError> {
        self.at(at).copy_from_slice(from);
        Ok(())
    }
    fn sync(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
    fn drop_cache(&mut self) {}
    fn resize(&mut self, blocks: u32) -> Result<(), DeviceError> {
        self.0.resize(blocks as usize * BLOCK_OCTETS, 0);
        Ok(())
    }
}

/// The world around the relay, in fixed memory.
struct World {
    relay: Relay<Memory>,
    now: Now,
    client: Connection,
    smarthost: Option<Connection>,
    accepted: u32,
    relayed: u32,
    /// The smarthost refuses the second recipient.
    refuses: bool,
    /// The smarthost offers CHUNKING.
    has_chunking: bool,
    /// The smarthost reads mail data.
    is_in_data: bool,
    /// Octets of a chunk that are still to come.
    chunk: usize,
    /// The last octets of mail data that it read.
    tail: [u8; 5],
}

impl World {
    fn new() -> Self {
        Self::with("")
    }

    /// With this behind the smarthost's keys.
    fn with(keys: &str) -> Self {
        let config = Config::parse(&format!("{CONFIG}{keys}"), Path::new("postern.toml"), "relay")
            .expect("the file is valid");
        let now = Now { instant: Instant(1000), wall: Wall { unix_s: 1_800_000_000, is_trusted: true } };
        let start = Start { blocks: BLOCKS, seed: 1, now: now.instant };
        let (spool, _) = Store::start(Memory(Vec::new()), start).expect("an empty disk becomes a spool");
        let mut relay = Relay::new(config, spool, 1);
        let peer = Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST), true);
        let client = relay.admit(&now, peer).expect("there is room");
        Self {
            relay,
            now,
            client,
            smarthost: None,
            accepted: 0,
            relayed: 0,
            refuses: false,
            has_chunking: false,
            is_in_data: false,
            chunk: 0,
            tail: [0; 5],
        }
    }

    /// Puts all of `octets` in, as far as the relay makes room.
    fn send(&mut self, at: Connection, mut octets: &[u8]) {
        while !octets.is_empty() {
            let space = self.relay.space(at);
            let count = space.len().min(octets.len());
            assert!(count > 0, "the relay stopped reading");
            space[..count].copy_from_slice(&octets[..count]);
            self.relay.filled(&self.now, at, count);
            octets = &octets[count..];
        }
    }

    /// Takes the replies to the client and counts the messages that were taken.
    fn read_replies(&mut self) {
        let output = self.relay.output(self.client);
        let queued = output.windows(9).filter(|line| *line == b"250 2.0.0").count() as u32;
        let count = output.len();
        self.accepted += queued;
        self.relay.sent(&self.now, self.client, count);
    }

    /// A smarthost that takes everything.
    fn serve(&mut self) {
        if self.smarthost.is_none() {
            self.smarthost = self.relay.wants_connection(&self.now);
            let Some(at) = self.smarthost else { return };
            self.relay.connected(&self.now, at, IpAddr::V4(Ipv4Addr::LOCALHOST));
            self.send(at, b"220 smarthost.example.net\r\n");
        }
        let Some(at) = self.smarthost else { return };
        for _ in 0..16 {
            let mut octets = [0; 1024];
            let output = self.relay.output(at);
            let count = output.len().min(octets.len());
            octets[..count].copy_from_slice(&output[..count]);
            if count == 0 {
                return;
            }
            self.relay.sent(&self.now, at, count);
            self.hear(at, &octets[..count]);
        }
    }

    fn hear(&mut self, at: Connection, octets: &[u8]) {
        let mut rest = octets;
        while !rest.is_empty() {
            if self.chunk > 0 {
                let taken = self.chunk.min(rest.len());
                rest = &rest[taken..];
                self.chunk -= taken;
                if self.chunk == 0 {
                    self.relayed += 1;
                    self.send(at, b"250 taken\r\n");
                }
                continue;
            }
            if self.is_in_data {
                for (index, octet) in rest.iter().enumerate() {
                    self.tail.rotate_left(1);
                    self.tail[4] = *octet;
                    if self.tail == *b"\r\n.\r\n" {
                        self.is_in_data = false;
                        self.relayed += 1;
                        self.send(at, b"250 taken\r\n");
                        rest = &rest[index + 1..];
                        break;
                    }
                }
                if self.is_in_data {
                    return;
                }
                continue;
            }
            let end = rest.iter().position(|octet| *octet == b'\n').expect("commands come whole") + 1;
            let (line, more) = rest.split_at(end);
            rest = more;
            match &line[..4] {
                b"EHLO" if self.has_chunking => {
                    self.send(at, b"250-a\r\n250-8BITMIME\r\n250-CHUNKING\r\n250-SIZE\r\n250 PIPELINING\r\n");
                }
                b"BDAT" => {
                    let digits = line[5..].iter().take_while(|octet| octet.is_ascii_digit());
                    self.chunk = digits.fold(0, |octets, digit| octets * 10 + usize::from(digit - b'0'));
                }
                b"EHLO" => self.send(at, b"250-smarthost.example.net\r\n250-8BITMIME\r\n250 PIPELINING\r\n"),
                b"DATA" => {
                    self.is_in_data = true;
                    self.tail = *b"\0\0\0\r\n";
                    self.send(at, b"354 go on\r\n");
                }
                _ if self.refuses && line.starts_with(b"RCPT TO:<b@") => self.send(at, b"550 5.1.1 who?\r\n"),
                _ => self.send(at, b"250 fine\r\n"),
            }
        }
    }

    fn relay_messages(&mut self, count: u32) {
        let (accepted, relayed) = (self.accepted + count, self.relayed + count);
        while self.accepted < accepted {
            self.send(self.client, ALERT);
            self.relay.turn(&self.now);
            while self.relay.next_touched().is_some() {}
            self.read_replies();
            self.serve();
            self.now.instant.0 += 10;
            self.relay.expire(&self.now);
        }
        for _ in 0..100 {
            self.relay.turn(&self.now);
            self.serve();
            self.now.instant.0 += 1000;
        }
        assert_eq!((self.accepted, self.relayed), (accepted, relayed));
    }
}

/// Notices too: of each of the first messages one recipient fails and is told of; then there are too many.
#[test]
fn notices_allocate_nothing() {
    let mut world = World::new();
    world.refuses = true;
    world.send(world.client, b"EHLO ups.example.org\r\n");
    world.read_replies();
    let counted = allocation_counter::measure(|| {
        for _ in 0..100 {
            world.send(world.client, ALERT);
            for _ in 0..4 {
                world.relay.turn(&world.now);
                while world.relay.next_touched().is_some() {}
                world.read_replies();
                world.serve();
                world.now.instant.0 += 10;
            }
        }
    });
    let notices = u32::from(NOTICES_TO_ONE_AN_HOUR_MAX);
    assert_eq!((world.accepted, world.relayed), (100, 100 + notices));
    assert_eq!(world.relay.spool().messages().count(), 0);
    assert_eq!(counted.count_total, 0);
}

/// The same in chunks, and rewritten.
#[test]
fn chunks_and_rewriting_allocate_nothing() {
    let mut world =
        World::with("[sender]\nheader_from = \"me@example.org\"\nenvelope = \"me@example.org\"\n");
    world.has_chunking = true;
    world.send(world.client, b"EHLO ups.example.org\r\n");
    world.read_replies();
    let counted = allocation_counter::measure(|| world.relay_messages(100));
    assert_eq!(counted.count_total, 0);
}

/// A queue that leaves in one go, each message's commands behind the end of the one before.
#[test]
fn a_queue_that_leaves_allocates_nothing() {
    let mut world = World::new();
    world.send(world.client, b"EHLO ups.example.org\r\n");
    world.read_replies();
    let counted = allocation_counter::measure(|| {
        for _ in 0..20 {
            world.send(world.client, ALERT);
            world.relay.turn(&world.now);
            while world.relay.next_touched().is_some() {}
            world.read_replies();
        }
        for _ in 0..100 {
            world.relay.turn(&world.now);
            world.serve();
        }
    });
    assert_eq!((world.accepted, world.relayed), (20, 20));
    assert_eq!(counted.count_total, 0);
}

#[test]
fn a_thousand_messages_allocate_nothing() {
    const _: () = assert!(SENDER_CONNECTIONS > 0 && QUEUED_MESSAGES >= 2);
    let mut world = World::new();
    world.send(world.client, b"EHLO ups.example.org\r\n");
    world.read_replies();
    let counted = allocation_counter::measure(|| world.relay_messages(MESSAGES));
    println!("{MESSAGES} messages, {} allocations, {} octets", counted.count_total, counted.bytes_total);
    assert_eq!(counted.count_total, 0);
}
