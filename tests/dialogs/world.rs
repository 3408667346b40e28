//! A receiver session over a spool in memory, and the client's side of its connection.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use postern::buffer::{Buffer, Window};
use postern::config::Config;
use postern::limits::{INPUT_OCTETS, OUTPUT_OCTETS, RECEIVER_SESSIONS};
use postern::receiver::{Admission, Peer, Place, Session};
use postern::smtp::Next;
use postern::spool::{Envelope, MessageIndex, Protocol, Reader, Recipient, Start, Store};
use postern::time::{Duration, Instant, Now, Wall};

use crate::disk::{Disk, Random};

/// How the octets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Travel {
    Whole,
    Octets,
    /// All that is sent up to the next step that is neither C nor S, before any reply is looked at.
    AtOnce,
    Seeded(u64),
}

/// The relay's end of the conversation, and the client's ear.
pub(crate) struct World {
    config: Config,
    pub(crate) disk: Disk,
    pub(crate) store: Store<Disk>,
    pub(crate) now: Now,
    peer: Peer,
    pub(crate) session: Session,
    pub(crate) admission: Admission,
    place: Place,
    input: (Box<[u8]>, Window),
    output: (Box<[u8]>, Window),
    travel: Travel,
    random: Random,
    pub(crate) pending: Vec<u8>,
    transcript: Vec<u8>,
    /// How much of the transcript was expected.
    heard: usize,
    pub(crate) is_closed: bool,
    pub(crate) committed: Vec<MessageIndex>,
    blocks_free: u32,
    is_tls_crowded: bool,
}

fn buffer(side: &mut (Box<[u8]>, Window)) -> Buffer<'_> {
    Buffer::new(&mut side.0, &mut side.1)
}

impl World {
    pub(crate) fn new(settings: &Settings, travel: Travel) -> Self {
        let toml = format!(
            "hostname = \"relay.example\"\n{}{}[smarthost]\nhost = \"192.0.2.25\"\ntls = \"none\"\n{}",
            if settings.is_completed { "" } else { "quirks.missing_fields = false\n" },
            settings.config,
            settings.tables
        );
        let config = Config::parse(&toml, Path::new("dialog"), "board")
            .unwrap_or_else(|error| panic!("{error} in\n{toml}"));
        let now = Now { instant: Instant(0), wall: Wall { unix_s: 1_795_510_800, is_trusted: true } };
        let disk = Disk::new(0);
        let start = Start { blocks: settings.blocks, seed: 1, now: now.instant };
        let (store, _) = Store::start(disk.clone(), start).expect("an empty disk becomes a spool");
        let mut output = (vec![0; OUTPUT_OCTETS].into_boxed_slice(), Window::default());
        let mut admission = Admission::default();
        for (name, password) in &settings.users {
            assert!(admission.users.add(name.as_bytes(), password.as_bytes()), "a user");
        }
        let place = admission.ledger.place_of(settings.peer.origin, now.instant, |_| false);
        let session = Session::new(settings.peer, place, &now, &config, &mut buffer(&mut output));
        Self {
            blocks_free: store.blocks_free(),
            peer: settings.peer,
            is_tls_crowded: settings.is_tls_crowded,
            session,
            admission,
            place,
            input: (vec![0; INPUT_OCTETS].into_boxed_slice(), Window::default()),
            output,
            random: Random(if let Travel::Seeded(seed) = travel { seed } else { 0 }),
            config,
            disk,
            store,
            now,
            travel,
            pending: Vec::new(),
            transcript: Vec::new(),
            heard: 0,
            is_closed: false,
            committed: Vec::new(),
        }
    }

    pub(crate) fn another_session(&mut self) {
        self.output.1 = Window::default();
        self.input.1 = Window::default();
        let mut output = buffer(&mut self.output);
        self.session = Session::new(self.peer, self.place, &self.now, &self.config, &mut output);
        self.is_closed = false;
    }

    /// Carries octets both ways until nothing moves.
    pub(crate) fn pump(&mut self) {
        for _ in 0..10_000_000 {
            let has_heard = self.client_reads();
            let has_sent = !self.is_closed && self.relay_reads();
            let is_idle = (self.pending.is_empty() || self.is_closed) && buffer(&mut self.output).is_empty();
            if !has_heard && !has_sent && is_idle {
                self.pending.clear();
                return;
            }
        }
        panic!("nothing moves any more: a deadlock");
    }

    fn client_reads(&mut self) -> bool {
        let mut output = buffer(&mut self.output);
        let mut octets = output.len();
        if let Travel::Seeded(_) = self.travel {
            octets = self.random.below(octets + 1);
        }
        self.transcript.extend_from_slice(&output.octets()[..octets]);
        output.consume(octets);
        octets > 0
    }

    fn relay_reads(&mut self) -> bool {
        if self.session.wants_tls_place() {
            let (mut input, mut output) = (buffer(&mut self.input), buffer(&mut self.output));
            let buffers = (&mut input, &mut output);
            let next = self.session.grant_tls(!self.is_tls_crowded, &self.now, &self.config, buffers);
            self.is_closed = next == Next::Close;
            return true;
        }
        if self.session.wants_tls() {
            // What comes in plain now is no handshake; who sends it has no TLS.
            self.pending.clear();
            return false;
        }
        let mut input = buffer(&mut self.input);
        let piece = match self.travel {
            Travel::Whole | Travel::AtOnce => usize::MAX,
            Travel::Octets => 1,
            Travel::Seeded(_) => 1 + self.random.below(40),
        };
        let before = input.len();
        let space = input.space();
        let octets = piece.min(space.len()).min(self.pending.len());
        space[..octets].copy_from_slice(&self.pending[..octets]);
        input.filled(octets);
        self.pending.drain(..octets);
        let mut output = buffer(&mut self.output);
        let shared = (&mut self.store, &mut self.admission);
        let next = self.session.advance(&self.now, &self.config, &mut input, &mut output, shared);
        self.is_closed = next == Next::Close;
        if self.session.is_committing() {
            self.store.commit(self.now.instant);
            self.session.committed(&self.now, &self.config, &mut output, &mut self.store);
            self.committed.extend(std::iter::from_fn(|| self.store.next_committed()));
            return true;
        }
        octets > 0 || input.len() != before + octets
    }

    /// One of the session's ends that the client has no part in.
    pub(crate) fn end(&mut self, how: &str) {
        let mut output = buffer(&mut self.output);
        let next = match how {
            "!evict" => self.session.evict(&self.config, &mut output, &mut self.store),
            "!shut-down" => self.session.shut_down(&self.config, &mut output, &mut self.store),
            _ => {
                self.session.lost(&mut self.store);
                Next::Close
            }
        };
        self.is_closed = next == Next::Close;
    }

    /// The client's handshake, good or bad.
    pub(crate) fn shake_hands(&mut self, is_good: bool) {
        assert!(self.session.wants_tls() && buffer(&mut self.output).is_empty(), "no handshake is due");
        if is_good {
            let (mut input, mut output) = (buffer(&mut self.input), buffer(&mut self.output));
            self.session.tls_started(&self.now, &self.config, &mut input, &mut output);
        } else {
            self.session.tls_failed();
            self.is_closed = true;
        }
    }

    pub(crate) fn pass(&mut self, span: Duration) {
        self.now.instant = self.now.instant + span;
        if !self.is_closed && self.session.deadline() <= self.now.instant {
            let mut output = buffer(&mut self.output);
            let next = self.session.expired(&self.config, &mut output, &mut self.store);
            self.is_closed = next == Next::Close;
        }
        self.pump();
    }

    /// The next line of the transcript.
    pub(crate) fn hear(&mut self) -> Result<String, String> {
        let rest = &self.transcript[self.heard..];
        let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else {
            return Err(format!("silence ({:?})", rest.escape_ascii().to_string()));
        };
        self.heard += end + 2;
        Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
    }

    pub(crate) fn last_message(&mut self) -> (Envelope, Vec<Recipient>, Vec<u8>) {
        let message = *self.committed.last().expect("a message was queued");
        let mut reader = Reader::new();
        let envelope = reader.open(&mut self.store, message).expect("no damage");
        let (mut recipients, mut mail_data) = (Vec::new(), Vec::new());
        while let Some(recipient) = reader.next_recipient(&mut self.store).expect("no damage") {
            recipients.push(recipient);
        }
        loop {
            let run = reader.mail_data(&mut self.store).expect("no damage");
            if run.is_empty() {
                return (envelope, recipients, mail_data);
            }
            mail_data.extend_from_slice(run);
            let octets = run.len();
            reader.consume(octets);
        }
    }

    /// How often the client's habits were met.
    pub(crate) fn quirks(&self) -> String {
        let clients = self.admission.ledger.clients().flat_map(|client| client.quirks());
        clients.map(|(quirk, count)| format!("{}={count}", quirk.name())).collect::<Vec<_>>().join(" ")
    }

    /// `text` with the last message's id replaced.
    pub(crate) fn without_id(&self, text: &str) -> String {
        let message = *self.committed.last().expect("a message was queued");
        text.replace(&format!("<{}@", self.store.facts(message).id), "<ID@")
    }

    /// Nothing may be left over: no draft, no block, no half reply.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, String> {
        if !self.is_closed {
            self.session.lost(&mut self.store);
        }
        self.disk.heal();
        for _ in 0..4 {
            self.now.instant = self.now.instant + Duration::from_min(10);
            self.store.commit(self.now.instant);
        }
        if self.committed.is_empty() && self.store.blocks_free() != self.blocks_free {
            return Err(format!("{} of {} blocks are free", self.store.blocks_free(), self.blocks_free));
        }
        let envelope = Envelope {
            client: self.peer.origin,
            client_name: heapless::Vec::new(),
            protocol: Protocol::Smtp,
            arrival: self.now.wall,
            reverse_path: heapless::Vec::new(),
            body_is_8bit: false,
            utf8: false,
            is_submission: false,
            ret: 0,
            envid: heapless::Vec::new(),
        };
        let drafts: Vec<_> =
            (0..RECEIVER_SESSIONS).map_while(|_| self.store.begin(&envelope, None).ok()).collect();
        let count = drafts.len();
        drafts.into_iter().for_each(|draft| self.store.discard(draft));
        if count < RECEIVER_SESSIONS.min(self.store.blocks_free() as usize - 8) {
            return Err(format!("a draft was leaked: {count} of {RECEIVER_SESSIONS} can be had"));
        }
        if self.heard < self.transcript.len() {
            return Err(format!("not expected: {:?}", self.hear()));
        }
        Ok(self.transcript)
    }
}

/// What a dialog says before it begins.
pub(crate) struct Settings {
    config: String,
    tables: String,
    users: Vec<(String, String)>,
    is_completed: bool,
    peer: Peer,
    blocks: u32,
    /// Others speak TLS, as many as can.
    is_tls_crowded: bool,
}

impl Settings {
    pub(crate) fn of(dialog: &str) -> Self {
        let key_pair = "[listener_tls]\ncertificate = \"/etc/postern.pem\"\nkey = \"/etc/postern.key\"\n";
        let has_tls = dialog.contains("tls = \"starttls\"") || dialog.contains("tls = \"implicit\"");
        let loopback = Peer::new(Ipv4Addr::LOCALHOST.into(), true);
        let mut settings = Self {
            config: String::new(),
            tables: if has_tls { key_pair.to_owned() } else { String::new() },
            users: Vec::new(),
            is_completed: false,
            peer: loopback,
            blocks: 256,
            is_tls_crowded: dialog.contains("\n!crowded"),
        };
        for line in dialog.lines() {
            if let Some(setting) = line.strip_prefix("!config ") {
                writeln!(settings.config, "{setting}").expect("a String takes all");
            } else if let Some(user) = line.strip_prefix("!user ") {
                let (name, password) = user.split_once(' ').expect("a name and a password");
                writeln!(settings.tables, "[users]\n{name} = \"/etc/postern.{name}\"").expect("as above");
                settings.users.push((name.to_owned(), password.to_owned()));
            } else if line == "!completed" {
                settings.is_completed = true;
            } else if let Some(uid) = line.strip_prefix("!client uid ") {
                settings.peer = Peer::local(uid.parse().expect("a number"));
            } else if let Some(client) = line.strip_prefix("!client ") {
                let address = client.trim_end_matches(" on-link");
                settings.peer = Peer::new(address.parse().expect("an address"), address != client);
            } else if let Some(blocks) = line.strip_prefix("!spool ") {
                settings.blocks = blocks.parse().expect("a number");
            }
        }
        settings
    }
}
