//! What a seed draws before its run: which features are on, and how much of each. Some are off, some extreme,
//! so that rare pairs meet and none hides the others.

use postern::limits::{SENDER_CONNECTIONS, SMARTHOSTS, TLS_CONNECTIONS};

use crate::disk::Random;

/// Whom the relay logs in as.
pub(crate) const USER: &str = "relay@example.com";

/// Draws beyond those of [`Random`].
pub(crate) trait Draw {
    /// True so many times out of a thousand.
    fn chance(&mut self, per_mille: u32) -> bool;
    /// A number from `low` to `high`, both included.
    fn between(&mut self, low: u64, high: u64) -> u64;
    /// One of `items`.
    fn pick<T: Copy>(&mut self, items: &[T]) -> T;
    /// A weight up to `most`: half the time 0, a third small, else anything.
    fn weight(&mut self, most: u32) -> u32;
}

impl Draw for Random {
    fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < per_mille as usize
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    fn weight(&mut self, most: u32) -> u32 {
        match self.below(6) {
            0..=2 => 0,
            3 | 4 => 1 + self.below(most as usize / 8 + 1) as u32,
            _ => 1 + self.below(most as usize) as u32,
        }
    }
}

/// The network of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    /// The longest way of a piece, in ms.
    pub(crate) latency_ms: u64,
    /// Octets of the largest piece.
    pub(crate) piece_octets: usize,
    /// Octets that may be on their way, the reader's buffer included.
    pub(crate) window_octets: usize,
    /// Pieces out of a thousand that take `stall_ms` longer.
    pub(crate) stalls: u32,
    /// How long a stall lasts.
    pub(crate) stall_ms: u64,
    /// Writes out of a thousand after which the writer's end breaks.
    pub(crate) resets: u32,
}

/// How often the world breaks, in steps out of a thousand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// The power fails between two steps.
    pub(crate) power_cuts: u32,
    /// The process is killed.
    pub(crate) kills: u32,
    /// The power fails, or the process is killed, at one of the next disk calls.
    pub(crate) freezes: u32,
    /// The process is told to stop.
    pub(crate) stops: u32,
    /// Writes fail.
    pub(crate) writes: u32,
    /// Syncs fail.
    pub(crate) syncs: u32,
    /// No space is left below the file.
    pub(crate) no_space: u32,
    /// A block rots, or can't be read for a while: the oracle is weaker in these runs.
    pub(crate) rot: u32,
    /// The wall clock jumps.
    pub(crate) wall_jumps: u32,
    /// The board sleeps, or the process was not scheduled.
    pub(crate) sleeps: u32,
    /// Somebody asks for a retry, of all or of one message.
    pub(crate) retries: u32,
    /// Somebody removes a message.
    pub(crate) removals: u32,
    /// The secret changes, or its file.
    pub(crate) secrets: u32,
    /// The network is another one.
    pub(crate) network_changes: u32,
    /// The configuration is another one, and the relay told to go by it.
    pub(crate) reloads: u32,
}

/// Clients by kind, as weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clients {
    /// Steps out of a thousand in which one comes.
    pub(crate) arrivals: u32,
    /// How many there are at most.
    pub(crate) most: usize,
    /// See [`crate::clients::Kind`], in its order.
    pub(crate) kinds: [u32; 9],
    /// Messages of one client at most.
    pub(crate) messages: u64,
    /// Octets of the largest message.
    pub(crate) message_octets: u64,
    /// Recipients at most.
    pub(crate) recipients: u64,
    /// Mail data out of a thousand with bare CR or LF in it.
    pub(crate) bare: u32,
    /// Clients out of a thousand that send chunks.
    pub(crate) chunks: u32,
    /// Messages out of a thousand with parameters of DSN.
    pub(crate) dsn: u32,
    /// Clients out of a thousand that are users of this machine, and come by the submission socket.
    pub(crate) local: u32,
    /// Clients out of a thousand that come in where TLS may be, and log in.
    pub(crate) tls: u32,
    /// Handshakes of clients out of a thousand that fail.
    pub(crate) handshakes: u32,
    /// Some recipients are called by a local name, or without a domain.
    pub(crate) calls_names: bool,
}

/// What the smarthost does, in events out of a thousand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Smarthosts {
    /// Connections refused, at once or late.
    pub(crate) refused: u32,
    /// Greetings and replies to EHLO that are refusals.
    pub(crate) hello: u32,
    /// 4yz to MAIL, RCPT, DATA, the message.
    pub(crate) transient: [u32; 4],
    /// 5yz to MAIL, RCPT, DATA, the message.
    pub(crate) permanent: [u32; 4],
    /// 421 instead of a reply.
    pub(crate) busy: u32,
    /// The connection ends instead of a reply.
    pub(crate) drops: u32,
    /// It ends behind the dot, the message not taken, or taken.
    pub(crate) drops_behind_dot: u32,
    /// No reply comes any more.
    pub(crate) silence: u32,
    /// A refusal in the middle of the mail data.
    pub(crate) early: u32,
    /// Octets that are no reply, or one reply too many.
    pub(crate) garbage: u32,
    /// Connections out of a thousand without PIPELINING.
    pub(crate) no_pipelining: u32,
    /// Connections out of a thousand without 8BITMIME.
    pub(crate) no_8bit: u32,
    /// Connections out of a thousand with CHUNKING.
    pub(crate) chunking: u32,
    /// BDAT commands out of a thousand that are refused as unknown.
    pub(crate) bad_chunks: u32,
    /// Connections out of a thousand with DSN.
    pub(crate) dsn: u32,
    /// Connections out of a thousand with a limit of recipients.
    pub(crate) recipient_limit: u32,
    /// Look-ups of its name that give no address.
    pub(crate) names: u32,
    /// Connections without STARTTLS, or that refuse it, or have somebody between.
    pub(crate) starttls: u32,
    /// Handshakes that fail, certificates above all.
    pub(crate) handshakes: u32,
    /// Logins refused or put off whatever the secret, and connections without a mechanism.
    pub(crate) logins: u32,
    /// Secrets that are access tokens to be asked for, and answers that are none.
    pub(crate) tokens: u32,
    /// A login is wanted at MAIL (530).
    pub(crate) login_wanted: u32,
    /// The longest time to a reply, in ms.
    pub(crate) delay_ms: u64,
}

/// How the smarthosts are configured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Configured {
    /// How many there are.
    pub(crate) count: usize,
    /// `tls`.
    pub(crate) tls: &'static str,
    /// The key's pin stands for the certificate, so that the clock doesn't matter.
    pub(crate) is_pinned: bool,
    /// `auth`; none: there is no login.
    pub(crate) auth: Option<&'static str>,
    /// `sender.envelope`.
    pub(crate) envelope: Option<&'static str>,
    /// `sender.header_from`.
    pub(crate) header_from: Option<&'static str>,
}

/// How many smarthosts a run has at most.
pub(crate) const SMARTHOSTS_MAX: usize = if SMARTHOSTS < 3 { SMARTHOSTS } else { 3 };

/// All that a seed draws.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Swarm {
    pub(crate) network: Network,
    pub(crate) faults: Faults,
    pub(crate) clients: Clients,
    pub(crate) configured: Configured,
    /// Each smarthost for itself.
    pub(crate) smarthosts: [Smarthosts; SMARTHOSTS_MAX],
    /// Blocks of the spool.
    pub(crate) blocks: u32,
    /// Receiver sessions that the configuration allows; the board may allow fewer.
    pub(crate) sessions: usize,
    /// Sessions of one client.
    pub(crate) sessions_of_client: usize,
    /// A bare LF is refused instead of repaired.
    pub(crate) refuses_bare_lf: bool,
    /// Connections to the smarthost; the board may allow fewer.
    pub(crate) connections: usize,
    /// When a message is given up.
    pub(crate) give_up_s: u64,
}

impl Swarm {
    /// The draws of a seed.
    pub(crate) fn new(random: &mut Random) -> Self {
        let is_calm = random.chance(150);
        let faults = if is_calm { Faults::NONE } else { Faults::new(random) };
        let mut swarm = Self {
            network: Network::new(random),
            faults,
            clients: Clients::new(random),
            configured: Configured::new(random),
            smarthosts: [(); SMARTHOSTS_MAX].map(|()| Smarthosts::new(random)),
            blocks: random.pick(&[24, 40, 80, 160, 320]),
            sessions: random.pick(&[1, 2, 5, 64]),
            sessions_of_client: random.pick(&[1, 3, 64]),
            refuses_bare_lf: random.chance(200),
            connections: random.pick(&[1, 2]),
            give_up_s: if random.chance(150) { 600 } else { 20 * 86_400 },
        };
        // Drawn last, so that a seed keeps all that it drew before there was any of this.
        for smarthost in &mut swarm.smarthosts {
            smarthost.chunking = random.pick(&[0, 500, 1000]);
            smarthost.bad_chunks = if random.chance(200) { 300 } else { 0 };
            smarthost.dsn = random.pick(&[0, 500, 1000]);
        }
        swarm.clients.dsn = random.pick(&[0, 500, 1000]);
        swarm.clients.local = random.pick(&[0, 200, 1000]);
        swarm.faults.network_changes = if is_calm { 0 } else { random.weight(40) };
        if random.chance(40) {
            swarm.make_about_logins(random);
        }
        swarm
    }

    /// TLS and logins of clients, reloads, local names: by draws of their own, so that a run without them is
    /// what it was before there were any.
    pub(crate) fn draw_later_additions(&mut self, random: &mut Random) {
        if self.has_room_for_tls() {
            self.clients.tls = random.pick(&[0, 0, 300, 1000]);
            self.clients.handshakes = random.weight(200);
        }
        if self.faults.stops + self.faults.kills > 0 {
            self.faults.reloads = random.pick(&[0, 0, 3, 30]);
        }
        // With them comes `admin`, who is to be told of rot.
        self.clients.calls_names = random.chance(if self.faults.rot > 0 { 800 } else { 300 });
    }

    /// False where a small board has no room for clients with TLS beside the smarthosts.
    fn has_room_for_tls(&self) -> bool {
        let of_smarthosts = self.configured.count * self.connections;
        self.configured.tls == "none" || of_smarthosts.min(SENDER_CONNECTIONS) < TLS_CONNECTIONS
    }

    /// Another configuration: what may change while the relay is at work, and the oracle does not go by. None
    /// where the draw is not to be had on this board.
    pub(crate) fn reconfigured(&self, random: &mut Random) -> Option<Self> {
        let mut other = *self;
        if random.chance(600) {
            let Configured { envelope, header_from, .. } = self.configured;
            other.configured = Configured { envelope, header_from, ..Configured::new(random) };
            other.connections = random.pick(&[1, 2]);
        }
        other.sessions = random.pick(&[1, 2, 5, 64]);
        other.sessions_of_client = random.pick(&[1, 3, 64]);
        (other.clients.tls == 0 || other.has_room_for_tls()).then_some(other)
    }

    /// Goes by the configuration of `other`.
    pub(crate) fn configure(&mut self, other: &Self) {
        let Self { configured, connections, sessions, sessions_of_client, .. } = *other;
        *self = Self { configured, connections, sessions, sessions_of_client, ..*self };
    }

    /// Little goes wrong but logins, over several connections, while somebody has all tried and the secret
    /// changes.
    fn make_about_logins(&mut self, random: &mut Random) {
        self.configured.auth = Some(random.pick(&["plain", "login", "xoauth2", "oauthbearer"]));
        self.configured.count = 1 + random.below(self.smarthosts.len().min(2));
        self.connections = 2;
        let (retries, secrets) = (random.pick(&[5, 30]), random.pick(&[5, 30]));
        self.faults = Faults { retries, secrets, network_changes: random.pick(&[0, 30]), ..Faults::NONE };
        self.smarthosts = self.smarthosts.map(|_| Smarthosts {
            logins: random.pick(&[100, 300, 600]),
            tokens: random.weight(200),
            delay_ms: random.pick(&[20, 2000]),
            busy: random.weight(30),
            drops: random.weight(30),
            login_wanted: random.weight(40),
            ..Smarthosts::GOOD
        });
    }
}

impl Configured {
    fn new(random: &mut Random) -> Self {
        let auth = random.pick(&[None, Some("plain"), Some("login"), Some("xoauth2"), Some("oauthbearer")]);
        Self {
            count: if random.chance(600) { 1 } else { 1 + random.below(SMARTHOSTS_MAX) },
            tls: random.pick(&["none", "none", "starttls", "starttls", "implicit"]),
            is_pinned: random.chance(500),
            auth: auth.filter(|_| random.chance(700)),
            envelope: random.chance(200).then_some(USER),
            header_from: random.chance(200).then_some(USER),
        }
    }
}

impl Network {
    /// No stalls, no resets: the network once the faults have stopped.
    pub(crate) const GOOD: Self =
        Self { latency_ms: 1, piece_octets: 1460, window_octets: 65_536, stalls: 0, stall_ms: 0, resets: 0 };

    fn new(random: &mut Random) -> Self {
        Self {
            latency_ms: random.pick(&[0, 1, 30, 400]),
            piece_octets: random.pick(&[1, 7, 100, 1460, 1460, 1460, 16_384, 16_384]),
            window_octets: random.pick(&[64, 1024, 16_384, 65_536]),
            stalls: random.weight(60),
            stall_ms: random.pick(&[1000, 20_000, 400_000]),
            resets: random.weight(30),
        }
    }
}

impl Faults {
    /// None at all.
    pub(crate) const NONE: Self = Self {
        power_cuts: 0,
        kills: 0,
        freezes: 0,
        stops: 0,
        writes: 0,
        syncs: 0,
        no_space: 0,
        rot: 0,
        wall_jumps: 0,
        sleeps: 0,
        retries: 0,
        removals: 0,
        secrets: 0,
        network_changes: 0,
        reloads: 0,
    };

    fn new(random: &mut Random) -> Self {
        Self {
            power_cuts: random.weight(30),
            kills: random.weight(30),
            freezes: random.weight(60),
            stops: random.weight(40),
            writes: random.weight(40),
            syncs: random.weight(40),
            no_space: random.weight(30),
            rot: if random.chance(100) { 1 + random.weight(20) } else { 0 },
            wall_jumps: random.weight(30),
            sleeps: random.weight(15),
            retries: random.weight(30),
            removals: if random.chance(300) { random.weight(60) } else { 0 },
            secrets: random.weight(20),
            network_changes: 0,
            reloads: 0,
        }
    }
}

impl Clients {
    fn new(random: &mut Random) -> Self {
        let mut kinds = [(); 9].map(|()| random.weight(20));
        // Floods cost a client nothing and tell the oracle little.
        kinds[0] += 15;
        kinds[1] += 10;
        kinds[2] += 3;
        Self {
            arrivals: 20 + random.below(400) as u32,
            most: random.pick(&[1, 3, 8, 12]),
            kinds,
            messages: random.pick(&[1, 3, 3, 10]),
            message_octets: random.pick(&[200, 2000, 5000, 20_000]),
            recipients: random.pick(&[1, 2, 5, 5, 130]),
            bare: random.weight(400),
            chunks: random.pick(&[0, 200, 1000]),
            dsn: 0,
            local: 0,
            tls: 0,
            handshakes: 0,
            calls_names: false,
        }
    }
}

impl Smarthosts {
    /// Takes everything at once.
    pub(crate) const GOOD: Self = Self {
        refused: 0,
        hello: 0,
        transient: [0; 4],
        permanent: [0; 4],
        busy: 0,
        drops: 0,
        drops_behind_dot: 0,
        silence: 0,
        early: 0,
        garbage: 0,
        no_pipelining: 0,
        no_8bit: 0,
        chunking: 0,
        bad_chunks: 0,
        dsn: 0,
        recipient_limit: 0,
        names: 0,
        starttls: 0,
        handshakes: 0,
        logins: 0,
        tokens: 0,
        login_wanted: 0,
        delay_ms: 0,
    };

    fn new(random: &mut Random) -> Self {
        Self {
            refused: random.weight(500),
            hello: random.weight(200),
            transient: [(); 4].map(|()| random.weight(300)),
            permanent: if random.chance(350) { [(); 4].map(|()| random.weight(200)) } else { [0; 4] },
            busy: random.weight(60),
            drops: random.weight(60),
            drops_behind_dot: random.weight(300),
            silence: random.weight(30),
            early: random.weight(100),
            garbage: random.weight(30),
            no_pipelining: random.weight(1000),
            no_8bit: if random.chance(100) { 300 } else { 0 },
            chunking: 0,
            bad_chunks: 0,
            dsn: 0,
            recipient_limit: random.weight(600),
            names: random.weight(300),
            starttls: random.weight(200),
            handshakes: random.weight(300),
            logins: random.weight(300),
            tokens: random.weight(500),
            login_wanted: if random.chance(100) { 1 + random.weight(60) } else { 0 },
            delay_ms: random.pick(&[0, 0, 20, 2000]),
        }
    }
}
