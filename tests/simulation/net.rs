//! The simulated network: one connection is two pipes, and a pipe is pieces with the time at which they
//! arrive.
//!
//! A piece is split off at random, is late at random, and stalls at random, but the order stays. A reader
//! gets one piece a call at most. An end comes behind the pieces, or, as a reset, instead of some of them.

use std::collections::VecDeque;

use crate::disk::Random;
use crate::swarm::{Draw, Network};

/// Milliseconds since the run began.
pub(crate) type Ms = u64;

/// How a direction of a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its writer has written all.
    Finished,
    /// It broke.
    Reset,
}

/// What a read gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// Nothing now.
    Nothing,
    /// So many octets.
    Octets(usize),
    /// The end.
    End(End),
}

/// One direction of a connection.
#[derive(Debug)]
pub(crate) struct Pipe {
    network: Network,
    pieces: VecDeque<(Ms, Vec<u8>)>,
    in_flight: usize,
    last_at: Ms,
    end: Option<(Ms, End)>,
    is_deaf: bool,
    /// Octets written so far.
    pub(crate) written: u64,
    /// Octets read so far.
    pub(crate) taken: u64,
}

impl Pipe {
    fn new(network: Network) -> Self {
        Self {
            network,
            pieces: VecDeque::new(),
            in_flight: 0,
            last_at: 0,
            end: None,
            is_deaf: false,
            written: 0,
            taken: 0,
        }
    }

    /// How many octets a write would take now.
    pub(crate) fn room(&self) -> usize {
        if self.end.is_some() { 0 } else { self.network.window_octets.saturating_sub(self.in_flight) }
    }

    /// True when the other end is gone: a write finds the connection broken.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_deaf || matches!(self.end, Some((_, End::Reset)))
    }

    /// Sends what there is room for, and returns how many octets that were.
    pub(crate) fn write(&mut self, now: Ms, octets: &[u8], random: &mut Random) -> usize {
        let count = octets.len().min(self.room());
        let mut rest = &octets[..count];
        while !rest.is_empty() {
            let most = rest.len().min(self.network.piece_octets);
            let (piece, later) = rest.split_at(1 + random.below(most));
            let mut at = now + random.between(0, self.network.latency_ms);
            if random.chance(self.network.stalls) {
                at += random.between(0, self.network.stall_ms);
            }
            self.last_at = self.last_at.max(at);
            self.pieces.push_back((self.last_at, piece.to_vec()));
            rest = later;
        }
        self.in_flight += count;
        self.written += count as u64;
        if count > 0 && random.chance(self.network.resets) {
            self.finish(now, End::Reset, random);
        }
        count
    }

    /// Nothing more will be written. A reset may overtake what is on its way.
    pub(crate) fn finish(&mut self, now: Ms, end: End, random: &mut Random) {
        if self.end.is_some() {
            return;
        }
        if end == End::Reset && random.chance(500) {
            self.pieces.truncate(random.below(self.pieces.len() + 1));
            self.in_flight = self.pieces.iter().map(|(_, piece)| piece.len()).sum();
        }
        self.last_at = self.last_at.max(now + random.between(0, self.network.latency_ms));
        self.end = Some((self.last_at, end));
    }

    /// The reader is gone.
    pub(crate) fn abandon(&mut self) {
        self.is_deaf = true;
        self.pieces.clear();
        self.in_flight = 0;
    }

    /// When there is something to read, if ever as things stand.
    pub(crate) fn ready_at(&self) -> Option<Ms> {
        self.pieces.front().map(|(at, _)| *at).or(self.end.map(|(at, _)| at))
    }

    /// When the reader sees the end, if it looks.
    pub(crate) fn ends_at(&self) -> Option<Ms> {
        self.end.map(|(at, _)| at)
    }

    /// Reads at most one piece.
    pub(crate) fn read(&mut self, now: Ms, into: &mut [u8]) -> Got {
        let Some((at, piece)) = self.pieces.front_mut() else {
            return match self.end {
                Some((at, end)) if at <= now => Got::End(end),
                Some(_) | None => Got::Nothing,
            };
        };
        if *at > now || into.is_empty() {
            return Got::Nothing;
        }
        let count = piece.len().min(into.len());
        into[..count].copy_from_slice(&piece[..count]);
        if count == piece.len() {
            self.pieces.pop_front();
        } else {
            piece.drain(..count);
        }
        self.in_flight -= count;
        self.taken += count as u64;
        Got::Octets(count)
    }

    /// From now on the network is good: what is on its way arrives, whatever held it up.
    pub(crate) fn mend(&mut self, now: Ms) {
        self.network = Network::GOOD;
        self.last_at = self.last_at.min(now);
        for (at, _) in &mut self.pieces {
            *at = (*at).min(now);
        }
        if let Some((at, _)) = &mut self.end {
            *at = (*at).min(now);
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire {
    /// What the relay reads.
    pub(crate) to_relay: Pipe,
    /// What the relay writes.
    pub(crate) from_relay: Pipe,
}

impl Wire {
    pub(crate) fn new(network: Network) -> Self {
        Self { to_relay: Pipe::new(network), from_relay: Pipe::new(network) }
    }

    /// The relay's end is closed; with octets unread the other end sees a reset (RFC 9293 3.10.4).
    pub(crate) fn closed_by_relay(&mut self, now: Ms, random: &mut Random) {
        let has_unread = self.to_relay.in_flight > 0;
        self.from_relay.finish(now, if has_unread { End::Reset } else { End::Finished }, random);
        self.to_relay.abandon();
    }

    /// The other end is closed.
    pub(crate) fn closed_by_peer(&mut self, now: Ms, end: End, random: &mut Random) {
        self.to_relay.finish(now, end, random);
        self.from_relay.abandon();
    }
}
