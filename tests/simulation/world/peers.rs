//! The peers' coming, acting and going: clients, smarthosts, and the connections to them.

use postern::sender::Fault;
use postern::time::{Instant, Now};

use super::World;
use crate::clients::{Client, Fate, KINDS};
use crate::driver::{Answered, Dialled, Link};
use crate::net::Wire;
use crate::secure;
use crate::smarthosts::{Contact, Smarthost};
use crate::swarm::Draw;
use crate::trace;

impl World {
    pub(super) fn wire(&mut self) -> usize {
        self.wires_made += 1;
        self.wires.insert(self.wires_made, Wire::new(self.swarm.network));
        self.wires_made
    }

    pub(super) fn arrive(&mut self) {
        let habits = self.swarm.clients;
        if self.relay.is_none() || self.clients.len() >= habits.most || !self.random.chance(habits.arrivals) {
            return;
        }
        let mut draw = self.random.below(habits.kinds.iter().sum::<u32>() as usize) as u32;
        let kind = habits.kinds.iter().position(|weight| {
            let is_it = draw < *weight;
            draw = draw.wrapping_sub(*weight);
            is_it
        });
        let kind = KINDS[kind.expect("the draw is below the sum")];
        let wire = self.wire();
        let client = Client::new(&mut self.random, wire, self.run, kind, habits);
        trace!("client {wire} comes: {kind:?}");
        self.driver.backlog.push_back((wire, client.peer()));
        self.clients.push(client);
    }

    /// The peers do what they have to do.
    pub(super) fn act(&mut self) {
        let mut at = 0;
        while at < self.clients.len() {
            let client = &mut self.clients[at];
            let wire = self.wires.get_mut(&client.wire).expect("a client has a wire");
            let fate = client.act(&mut self.random, self.now, wire, self.run, &mut self.oracle);
            if fate == Fate::Stays {
                at += 1;
                continue;
            }
            self.driver.moved += 1;
            let client = self.clients.swap_remove(at);
            trace!("client {} {fate:?}", client.wire);
            if fate == Fate::ComesBack && self.relay.is_some() {
                let wire = self.wire();
                self.driver.backlog.push_back((wire, client.peer()));
                self.clients.push(client.again(wire, self.run));
            }
        }
        let mut at = 0;
        while at < self.smarthosts.len() {
            let smarthost = &mut self.smarthosts[at];
            let wire = self.wires.get_mut(&smarthost.wire).expect("a smarthost has a wire");
            if smarthost.act(&mut self.random, self.now, wire, &mut self.oracle) {
                at += 1;
            } else {
                self.driver.moved += 1;
                self.gone.push(self.smarthosts.swap_remove(at));
            }
        }
        let used: std::collections::BTreeSet<usize> = self
            .clients
            .iter()
            .map(|client| client.wire)
            .chain(self.smarthosts.iter().chain(&self.gone).map(|smarthost| smarthost.wire))
            .chain(self.driver.backlog.iter().map(|(wire, _)| *wire))
            .chain(self.driver.links.iter().filter_map(|link| match link {
                Link::Open { wire, .. } => Some(*wire),
                Link::None | Link::Connecting { .. } => None,
            }))
            .collect();
        self.wires.retain(|wire, _| used.contains(wire));
    }

    /// The relay wants a connection to a smarthost: it is drawn what becomes of that.
    pub(super) fn dialled(&mut self, now: &Now, dialled: Dialled) {
        let habits = &self.swarm.smarthosts[dialled.smarthost];
        let at = Instant(now.instant.0 + self.random.between(0, self.swarm.network.latency_ms));
        let is_never = self.random.chance(habits.refused / 4);
        let fault = if self.random.chance(habits.names) {
            Some(Fault::Resolve(secure::name_fault(&mut self.random)))
        } else {
            self.random.chance(habits.refused).then_some(Fault::Connect)
        };
        self.driver.answer(dialled.slot, (!is_never).then_some((at, fault)));
    }

    /// It is known what becomes of a connection to a smarthost.
    pub(super) fn answer(&mut self, now: &Now, answered: Answered) {
        let Answered { dialled: Dialled { slot, smarthost }, fault, since } = answered;
        let wire = if fault.is_none() { Some(self.wire()) } else { None };
        let Some(relay) = &mut self.relay else { unreachable!("it dialled") };
        let mut turn = turn!(self, relay, *now);
        match (wire, fault) {
            (Some(wire), None) => {
                self.driver.connected(&mut turn, slot, wire);
                let (configured, account) = (self.swarm.configured, self.keys.account.clone());
                let contact = Contact { wire, place: smarthost, since, configured, account };
                let habits = self.swarm.smarthosts[smarthost];
                self.smarthosts.push(Smarthost::new(&mut self.random, contact, habits, self.now));
            }
            (_, fault) => self.driver.not_connected(&mut turn, slot, fault.unwrap_or(Fault::Connect)),
        }
    }

    /// The oracle learns what the relay has read of the smarthosts' replies.
    pub(super) fn tell(&mut self) {
        for smarthost in self.smarthosts.iter_mut().chain(&mut self.gone) {
            smarthost.tell(self.now, self.wires[&smarthost.wire].to_relay.taken, &mut self.oracle);
        }
        let links = &self.driver.links;
        self.gone.retain(|gone| {
            links.iter().any(|link| matches!(link, Link::Open { wire, .. } if *wire == gone.wire))
        });
    }
}
