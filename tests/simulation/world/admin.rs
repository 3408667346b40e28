//! The administrator: sets the clock, changes the secret, the network and the configuration, has mail tried
//! now, and removes some.

use postern::queue::Standing;
use postern::relay::{Removal, Retrial};
use postern::sender::{Fault, LoginFault, Route, RouteState};
use postern::spool::{MessageId, MessageIndex};

use super::{RELEASED_UNIX_S, World};
use crate::configuration;
use crate::driver::Prepared;
use crate::smarthosts::Smarthost;
use crate::swarm::Draw;
use crate::trace;

impl World {
    /// The wall clock is set, which the driver is told of.
    pub(super) fn set_wall(&mut self, unix_s: u64) {
        self.wall = (unix_s, self.now);
        let now = self.clocks();
        if let Some(relay) = &mut self.relay {
            relay.clock_stepped(&now);
        }
    }

    /// The network is another one, which the driver is told of: a route that rests for want of a way is tried
    /// at once, one that rests for another reason is not. Messages wait, and a refused login, as the oracle
    /// knows.
    pub(super) fn change_network(&mut self) {
        let now = self.clocks();
        let Some(relay) = &mut self.relay else { return };
        trace!("the network is another one");
        let rest = |route: &Route| (route.rests_for(), route.state());
        let before: Vec<_> = relay.routes().iter().map(rest).collect();
        relay.network_changed(&now);
        for ((fault, before), route) in before.into_iter().zip(relay.routes()) {
            let (Some(fault), RouteState::Waiting { until }) = (fault, route.state()) else { continue };
            match fault {
                Fault::Resolve(_) | Fault::Connect | Fault::Timeout | Fault::Lost => {
                    assert!(until <= now.instant, "NETWORK: the route rests on after {fault:?}");
                }
                Fault::Login(LoginFault::Refused) | Fault::Unauthenticated => {
                    assert_eq!(route.state(), before, "NETWORK: tried anew after {fault:?}");
                }
                Fault::Greeting
                | Fault::Hello
                | Fault::Tls(_)
                | Fault::Login(_)
                | Fault::Sender
                | Fault::Rate
                | Fault::Quota
                | Fault::Unwilling
                | Fault::TooBusy
                | Fault::Protocol => {}
            }
        }
    }

    /// The driver has seen that the secret's file is another.
    pub(super) fn tell_of_secret(&mut self) {
        let now = self.clocks();
        let Some(relay) = &mut self.relay else { return };
        for smarthost in 0..self.swarm.configured.count {
            relay.secret_changed(&now, smarthost);
        }
        self.oracle.secret_changed();
    }

    /// Clock and secret are put right.
    pub(super) fn mend_secrets(&mut self) {
        if self.clocks().wall.unix_s < RELEASED_UNIX_S {
            self.set_wall(RELEASED_UNIX_S + 86_400);
        }
        self.keys.mend();
        self.tell_of_secret();
    }

    /// The file of the configuration is another one, and the relay is told: what changes under a session with
    /// a smarthost waits until there is none.
    pub(super) fn reload(&mut self) {
        let Some(swarm) = self.swarm.reconfigured(&mut self.random) else { return };
        let config = configuration::of(&swarm);
        let now = self.clocks();
        let Some(relay) = &mut self.relay else { return };
        trace!(
            "reload: {:?}, {} connections, {} sessions",
            swarm.configured, swarm.connections, swarm.sessions
        );
        self.figures.reloads += 1;
        if relay.needs_drain_for(&config) && !relay.is_drained() {
            relay.drain(&now);
            let mut turn = turn!(self, relay, now);
            self.driver.pump_touched(&mut turn);
        }
        self.prepared = Some(Prepared { swarm, config });
    }

    /// What was prepared is what the relay goes by, or begins with the next time.
    pub(super) fn reloaded(&mut self, prepared: Prepared) {
        if prepared.config.smarthosts != self.config.smarthosts {
            // Routes to others remember no refused login.
            self.oracle.secret_changed();
        }
        self.swarm.configure(&prepared.swarm);
        self.config = prepared.config;
    }

    /// Asks for all mail to be tried, or for one message.
    pub(super) fn retry(&mut self) {
        let now = self.clocks();
        let id = self.any_message();
        let Some(relay) = &mut self.relay else { return };
        if self.random.chance(500) {
            relay.retry_all(&now);
            self.oracle.retried(None);
        } else if let Some(id) = id {
            let retrial = relay.retry(&now, id);
            trace!("retry {id}: {retrial:?}");
            if retrial == Retrial::Due {
                self.oracle.retried(Some((id.epoch, id.counter)));
            }
        }
    }

    /// Removes a message, or one that is not there.
    pub(super) fn remove(&mut self) {
        let id = self.any_message();
        let Some(relay) = &mut self.relay else { return };
        let Some(id) = id else {
            assert_eq!(relay.remove(MessageId { epoch: 0, counter: 0 }), Removal::Unknown, "REMOVED: nobody");
            return;
        };
        let removal = relay.remove(id);
        trace!("remove {id}: {removal:?}");
        match removal {
            Removal::Removed | Removal::OnItsWay => {
                self.figures.removed += 1;
                self.figures.removed_on_way += u64::from(removal == Removal::OnItsWay);
                let at = self.oracle.submission_of((id.epoch, id.counter));
                let has_it = |smarthost: &Smarthost| at.is_some_and(|at| smarthost.has_taken(at));
                self.figures.removed_behind_dot += u64::from(self.smarthosts.iter().any(has_it));
                self.oracle.removal_asked((id.epoch, id.counter), self.run);
            }
            Removal::Refused => assert!(relay.spool().is_failing(), "REMOVED: refused for no reason"),
            Removal::Unknown => panic!("REMOVED: {id} was there"),
        }
    }

    /// One of the messages that the oracle knows by their ids; half the time one that is on its way.
    fn any_message(&mut self) -> Option<MessageId> {
        let relay = self.relay.as_ref()?;
        let spool = relay.spool();
        let known = |message: &MessageIndex| {
            let MessageId { epoch, counter } = spool.facts(*message).id;
            self.oracle.knows((epoch, counter))
        };
        let mut messages: Vec<MessageIndex> = spool.messages().filter(known).collect();
        let is_on_its_way =
            |message: &MessageIndex| matches!(relay.standing(*message), Standing::Taken { .. });
        if self.random.chance(500) && messages.iter().any(is_on_its_way) {
            messages.retain(is_on_its_way);
        }
        let ids: Vec<MessageId> = messages.into_iter().map(|message| spool.facts(message).id).collect();
        if ids.is_empty() { None } else { Some(self.random.pick(&ids)) }
    }

    /// What was to be removed is never tried anew: it is gone as soon as the attempt is over that had it.
    pub(super) fn look_for_removed(&self) {
        let Some(relay) = &self.relay else { return };
        for (epoch, counter) in self.oracle.removals_asked(self.run) {
            for listed in relay.spool().find(MessageId { epoch, counter }).filter(|listed| !listed.is_aside) {
                let standing = relay.standing(listed.message);
                assert!(matches!(standing, Standing::Taken { .. }), "REMOVED: {} is {standing:?}", listed.id);
            }
        }
    }
}
