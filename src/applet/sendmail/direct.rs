//! Straight into the spool while no relay runs: the relay's own receiver and store, for the one message,
//! under the spool's lock. Nothing leaves; the next start of the relay finds the message.

use std::io::{self, ErrorKind};

use super::submission::Link;
use crate::config::Config;
use crate::net::clock;
use crate::receiver::Peer;
use crate::relay::{Connection, Relay};
use crate::spool::{BLOCK_OCTETS, OpenError, SpoolFile, Start, start_existing};

/// How often the relay is turned without anything moving before something is wrong.
const IDLE_TURNS_MAX: usize = 100;

/// The relay, and this program as its only client.
pub(super) struct Direct {
    relay: Relay<SpoolFile>,
    at: Connection,
    /// What the receiver has said and nobody has read.
    said: Vec<u8>,
}

impl Direct {
    /// Takes the spool, which must be there already and nobody else's.
    pub(super) fn open(config: &Config) -> Result<Self, OpenError> {
        let now = clock::now();
        let blocks = u32::try_from(config.spool.octets / BLOCK_OCTETS as u64).unwrap_or(u32::MAX);
        let start = Start { blocks, seed: clock::seed(), now: now.instant };
        let (spool, _) = start_existing(&config.spool.path, config.spool.volatile, start)?;
        let mut relay = Relay::new(config.clone(), spool, clock::seed());
        let peer = Peer::local(rustix::process::getuid().as_raw());
        let at = relay.admit(&now, peer).expect("a relay without clients takes the first");
        Ok(Self { relay, at, said: Vec::new() })
    }

    fn turn(&mut self) -> bool {
        let now = clock::now();
        self.relay.turn(&now);
        while self.relay.next_touched().is_some() {}
        let output = self.relay.output(self.at);
        let count = output.len();
        self.said.extend_from_slice(output);
        if count > 0 {
            self.relay.sent(&now, self.at, count);
        }
        count > 0
    }
}

impl Link for Direct {
    fn send(&mut self, mut octets: &[u8]) -> io::Result<()> {
        let mut idle_turns = 0;
        while !octets.is_empty() {
            let space = self.relay.space(self.at);
            let count = space.len().min(octets.len());
            space[..count].copy_from_slice(&octets[..count]);
            octets = &octets[count..];
            if count > 0 {
                self.relay.filled(&clock::now(), self.at, count);
                idle_turns = 0;
            } else if !self.turn() {
                idle_turns += 1;
                if idle_turns == IDLE_TURNS_MAX {
                    return Err(ErrorKind::BrokenPipe.into());
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        for _ in 0..IDLE_TURNS_MAX {
            if !self.said.is_empty() {
                break;
            }
            self.turn();
        }
        let count = self.said.len().min(into.len());
        into[..count].copy_from_slice(&self.said[..count]);
        self.said.drain(..count);
        Ok(count)
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        let now = clock::now();
        self.relay.closed(&now, self.at);
        self.relay.close(&now);
    }
}
