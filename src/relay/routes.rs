//! Which smarthost mail goes to, and when: the first one whose route isn't resting after a fault.
//!
//! A fault of one route makes the next one take over at once. A route whose rest is over is probed as soon as
//! there is mail: beside the traffic over the one that stands in for it where there is a slot to spare, else
//! that one's session makes way. Once it works again it is preferred again.
//!
//! Absent on purpose: sharing the load, and another smarthost for a message that one has refused.

use super::{Closing, Connection, Relay, Stage};
use crate::sender::{Fault, Route, RouteState, TlsFault};
use crate::spool::{Device, KeptReply};
use crate::time::{Duration, Instant, Now};

/// What may be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The smarthost of this place, now.
    Open(usize),
    /// One whose rest is over then.
    At(Instant),
    /// None, until something happens.
    Shut,
}

impl<D: Device> Relay<D> {
    /// A connection that should be opened now, to the host and port of [`Relay::smarthost_of`]: call
    /// [`Relay::connected`] or [`Relay::not_connected`] when it is clear.
    pub fn wants_connection(&mut self, now: &Now) -> Option<Connection> {
        if self.begins_nothing() {
            return None;
        }
        // Each round but the last makes a route rest.
        while let Way::Open(smarthost) = self.way(now.instant) {
            let at = self.vacant_sender()?;
            if self.config.smarthosts[smarthost].needs_clock(self.config.clock) && !now.wall.is_trusted {
                self.routes[smarthost].connecting();
                self.ended(now, smarthost, Some((Fault::Tls(TlsFault::ClockUntrusted), None)));
                continue;
            }
            self.senders[at].stage = Stage::Opening;
            self.senders[at].smarthost = smarthost;
            self.routes[smarthost].connecting();
            return Some(Connection::Sender(at));
        }
        None
    }

    /// The place among the configured smarthosts of the one that this connection is for.
    pub fn smarthost_of(&self, at: Connection) -> usize {
        let Connection::Sender(at) = at else { unreachable!("only a smarthost is connected to") };
        self.senders[at].smarthost
    }

    /// The connection stands; `local` is its near end.
    pub fn connected(&mut self, now: &Now, at: Connection, local: core::net::IpAddr) {
        let Connection::Sender(at) = at else { unreachable!("only a smarthost is connected to") };
        self.counters.connections += 1;
        let sender = &mut self.senders[at];
        sender.stage = Stage::Open;
        sender.closing = Closing::No;
        sender.input = Default::default();
        sender.output = Default::default();
        sender.session.connected(now, sender.smarthost, local, &self.config);
    }

    /// The connection could not be made.
    pub fn not_connected(&mut self, now: &Now, at: Connection, fault: Fault) {
        let Connection::Sender(at) = at else { unreachable!("only a smarthost is connected to") };
        self.senders[at].stage = Stage::Vacant;
        self.ended(now, self.senders[at].smarthost, Some((fault, None)));
    }

    pub(super) fn sender_closed(&mut self, now: &Now, at: usize) {
        let sender = &mut self.senders[at];
        match sender.stage {
            Stage::Vacant => return,
            Stage::Opening => {
                self.not_connected(now, Connection::Sender(at), Fault::Connect);
                return;
            }
            Stage::Open => sender.stage = Stage::Vacant,
        }
        sender.session.lost();
        sender.closing = Closing::No;
        sender.output = Default::default();
        let smarthost = sender.smarthost;
        let fault = sender.session.fault().map(|fault| (fault, sender.session.fault_reply().cloned()));
        let is_answer = sender.session.is_fault_an_answer();
        self.ended(now, smarthost, fault);
        if is_answer {
            self.routes[smarthost].was_answered(now.instant);
        }
    }

    /// A connection to `smarthost` is over, or came to nothing.
    fn ended(&mut self, now: &Now, smarthost: usize, fault: Option<(Fault, Option<KeptReply>)>) {
        let told = fault.as_ref().map(|(fault, reply)| (*fault, reply.as_ref()));
        let route = &mut self.routes[smarthost];
        let rest = route.ended(told, now.instant, &self.config.retry, &mut self.jitter);
        if let Some((fault, reply)) = told {
            self.log_fault(smarthost, fault, reply, rest);
            self.give_up_held(now);
        }
    }

    fn log_fault(&self, smarthost: usize, fault: Fault, reply: Option<&KeptReply>, rest: Option<Duration>) {
        let rest_s = rest.map_or(0, |rest| rest.0 / 1000);
        let host = &self.config.smarthosts[smarthost].host;
        match reply {
            Some(reply) => log::warn!(
                "route host={host} fault=\"{fault}\" reply=\"{} {}\" next-try={rest_s}s waiting={}",
                reply.code,
                reply.text.escape_ascii(),
                self.queue.len()
            ),
            None => log::warn!(
                "route host={host} fault=\"{fault}\" next-try={rest_s}s waiting={}",
                self.queue.len()
            ),
        }
    }

    /// The routes to the smarthosts, in the order of the configuration.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// True while mail waits because of the login at `smarthost`: another secret would be worth a try at
    /// once.
    pub fn rests_for_login(&self, smarthost: usize) -> bool {
        let fault = self.routes[smarthost].rests_for();
        !self.queue.is_empty() && fault.is_some_and(Fault::is_about_login)
    }

    /// The secret of the login at `smarthost` has changed.
    pub fn secret_changed(&mut self, now: &Now, smarthost: usize) {
        if self.rests_for_login(smarthost) {
            log::info!("retrying reason=\"the secret's file has changed\"");
            self.routes[smarthost].retry(now.instant);
        }
    }

    /// The wall clock was set: what it forbade may be allowed now.
    pub fn clock_stepped(&mut self, now: &Now) {
        let held = |route: &&mut Route| route.rests_for().is_some_and(Fault::is_about_clock);
        let mut is_held = false;
        for route in self.routes.iter_mut().filter(held) {
            route.retry(now.instant);
            is_held = true;
        }
        if is_held {
            log::info!("retrying reason=\"the clock was set\"");
        }
    }

    /// True while mail waits for a route whose fault may be gone with another network.
    pub fn awaits_network(&self) -> bool {
        !self.queue.is_empty() && self.routes.iter().any(Route::awaits_network)
    }

    /// The network came up, or is another one: routes that may rest for that are tried at once. Messages wait
    /// for their own time.
    pub fn network_changed(&mut self, now: &Now) {
        let ended = self.routes.iter_mut().map(|route| route.network_changed(now.instant));
        // All are told.
        if ended.fold(false, |any, ended| any | ended) {
            log::info!("retrying reason=\"the network has changed\"");
        }
    }

    /// Tries everything that waits at once: somebody asked.
    pub fn retry_all(&mut self, now: &Now) {
        log::info!("retrying messages={}", self.queue.len());
        self.retry_routes(now);
        self.queue.retry_all(self.spool.tick(now.instant));
    }

    /// Ends the rest of all routes.
    pub(super) fn retry_routes(&mut self, now: &Now) {
        for route in &mut self.routes {
            route.retry(now.instant);
        }
    }

    /// What may be connected to, as far as there is mail for it.
    fn way(&self, now: Instant) -> Way {
        let has_mail = self.queue.is_ready(self.spool.tick(now));
        let has_another = self.queue.has_unsuspected(self.spool.tick(now));
        let has_room = self.vacant_sender().is_some();
        let mut earliest: Option<Instant> = None;
        for (smarthost, route) in self.routes.iter().enumerate() {
            // Without mail that waits, only one that is better than those at work is worth a try.
            if !has_mail && !self.is_busy_beyond(smarthost) {
                break;
            }
            let paced_until = Some(route.paced_until()).filter(|until| *until > now);
            let is_served = self.is_served(smarthost);
            if is_served || route.may_connect(now, has_another) {
                if let Some(until) = paced_until.filter(|_| is_served || has_room) {
                    earliest = Some(earliest.map_or(until, |earliest| earliest.min(until)));
                } else if !is_served && has_room && !self.is_full(smarthost) {
                    return Way::Open(smarthost);
                }
                break;
            }
            if !route.is_passed_over() {
                break;
            }
            // Without a slot nothing could begin then.
            if has_room {
                earliest = earliest.into_iter().chain(route.deadline(has_another)).min();
            }
        }
        earliest.map_or(Way::Shut, Way::At)
    }

    /// True when there are as many connections to `smarthost` as there may be.
    fn is_full(&self, smarthost: usize) -> bool {
        let is_its_own =
            |sender: &&super::Sender| sender.stage != Stage::Vacant && sender.smarthost == smarthost;
        self.senders.iter().filter(is_its_own).count() >= self.config.smarthosts[smarthost].connections
    }

    /// A vacant slot; one that still holds a result that the spool could not take is none.
    fn vacant_sender(&self) -> Option<usize> {
        self.senders
            .iter()
            .position(|sender| sender.stage == Stage::Vacant && sender.session.attempt().is_none())
    }

    /// True when a session with `smarthost` could take a message.
    fn is_served(&self, smarthost: usize) -> bool {
        self.senders.iter().any(|sender| {
            sender.stage != Stage::Vacant && sender.smarthost == smarthost && sender.session.is_ready()
        })
    }

    /// True when mail is on its way over a smarthost that comes behind `smarthost`.
    fn is_busy_beyond(&self, smarthost: usize) -> bool {
        let is_busy = |sender: &super::Sender| sender.stage == Stage::Open && sender.session.is_at_work();
        self.senders.iter().any(|sender| is_busy(sender) && sender.smarthost > smarthost)
    }

    /// Ends the session at `at` when the mail should rather go over a smarthost that comes before its own:
    /// true when it takes no message. One that has not served yet takes a message first, so that mail gets on
    /// however often a better route is probed.
    pub(super) fn makes_way(&mut self, now: &Now, at: usize) -> bool {
        let sender = &self.senders[at];
        let may_probe = sender.session.has_served() && self.vacant_sender().is_none();
        let is_better = |route: &Route| {
            route.state() == RouteState::Up || may_probe && route.may_connect(now.instant, false)
        };
        if !self.routes[..sender.smarthost].iter().any(is_better) {
            return false;
        }
        // One that awaits a verdict still waits for that first.
        if sender.session.is_ready() {
            self.quit_sender(now, at);
        }
        true
    }

    /// When relaying wants a turn although nothing comes: a message falls due, or a resting route may be
    /// probed.
    pub(super) fn relaying_due(&self, now: Instant) -> Option<Instant> {
        if self.begins_nothing() {
            return None;
        }
        let tick = self.spool.tick(now);
        if self.queue.is_ready(tick) {
            // What could begin has begun: only the routes' rest holds it back.
            return match self.way(now) {
                Way::Open(_) => Some(now),
                Way::At(until) => Some(until),
                Way::Shut => None,
            };
        }
        let due = now + self.queue.due()?.since(tick);
        // Before the first route's rest is over nothing could begin.
        let rests = || self.routes.iter().map(|route| route.deadline(true));
        let first = if rests().all(|until| until.is_some()) { rests().flatten().min() } else { None };
        Some(first.map_or(due, |until| until.max(due)))
    }
}
