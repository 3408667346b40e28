//! The route to one smarthost: when to connect, and when to let it rest after a fault.
//!
//! A fault of the route is not a fault of the message (RFC 5321 4.5.4.1): while the route rests nothing is
//! tried over it and nothing is charged. After a fault one connection probes it, whatever the number of
//! messages that wait; the rest grows from [`BACK_OFF_MIN`] to the configured bound until the smarthost has
//! judged a message again.
use super::fault::Fault;
use super::pacing::{BACK_OFF_MIN, BackOff, OTHER_BACK_OFF_MAX, Pace};
use crate::config::Retry;
use crate::jitter::Jitter;
use crate::limits::ROUTE_OCTETS;
use crate::spool::{KeptReply, MessageIndex};
use crate::time::{Duration, Instant};

const _: () = assert!(size_of::<Route>() <= ROUTE_OCTETS);

/// How it stands with the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No connection, and nothing against making one.
    Closed,
    /// The first connection is being made, up to its first ready session.
    Connecting,
    /// The same, after a rest: to see whether it works again.
    Probing,
    /// There was a ready session, and no fault since.
    Up,
    /// Resting after a fault.
    Waiting {
        /// When one connection may probe it.
        until: Instant,
    },
}

/// The route's state, and its last fault for the log and the administrator.
#[derive(Debug)]
pub struct Route {
    state: State,
    /// Connections that are open or being opened.
    connections: usize,
    /// Faults since the smarthost last judged a message, by their back-off.
    failures: [u32; BackOff::COUNT],
    /// That of the last rest.
    back_off: BackOff,
    last: Option<LastFault>,
    /// The smarthost judged a message, and no fault came since.
    is_proven: bool,
    /// The message that was blamed first since then.
    blamed: Option<MessageIndex>,
    /// When a message that is not suspect may probe it during its rest.
    others_at: Option<Instant>,
    pace: Pace,
}

/// What went wrong last, kept until the smarthost judges a message.
#[derive(Debug)]
struct LastFault {
    fault: Fault,
    /// The reply that told it.
    reply: Option<KeptReply>,
    /// When the first fault came since the smarthost last judged a message.
    since: Instant,
}

impl Default for Route {
    fn default() -> Self {
        Self::new()
    }
}

impl Route {
    /// A route that was never tried.
    pub const fn new() -> Self {
        Self {
            state: State::Closed,
            connections: 0,
            failures: [0; BackOff::COUNT],
            back_off: BackOff::Route,
            last: None,
            is_proven: false,
            blamed: None,
            others_at: None,
            pace: Pace::FREE,
        }
    }

    /// How it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Faults since the smarthost last judged a message.
    pub fn failures(&self) -> u32 {
        self.failures.iter().fold(0, |sum, failures| sum.saturating_add(*failures))
    }

    /// The last fault, with the reply that told it; kept until the smarthost judges a message.
    pub fn last_fault(&self) -> Option<(Fault, Option<&KeptReply>)> {
        self.last.as_ref().map(|last| (last.fault, last.reply.as_ref()))
    }

    /// True when the smarthost judged a message, and no fault came since.
    pub fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// When the next message may be begun, where the smarthost wants mail to come slower; past: at once.
    pub fn paced_until(&self) -> Instant {
        self.pace.next_at
    }

    /// A message is begun.
    pub fn begun(&mut self, now: Instant) {
        self.pace.next_at = now + self.pace.gap;
    }

    /// Since when there are faults without a message that the smarthost judged.
    pub fn faulty_since(&self) -> Option<Instant> {
        self.last.as_ref().map(|last| last.since)
    }

    /// True when a connection may be opened at `now`, as far as the route is concerned; `is_for_another`: for
    /// a message other than those whose answer told a fault.
    pub fn may_connect(&self, now: Instant, is_for_another: bool) -> bool {
        match self.state {
            State::Closed => self.connections == 0,
            State::Connecting | State::Probing => false,
            State::Up => true,
            // What is left of connections from before the fault has to end first: one probe at a time.
            State::Waiting { .. } => self.deadline(is_for_another).is_some_and(|until| now >= until),
        }
    }

    /// True when another smarthost is to take what there is: the route rests, or is only being probed.
    pub fn is_passed_over(&self) -> bool {
        matches!(self.state, State::Waiting { .. } | State::Probing)
    }

    /// When a connection may be opened again; `None` when no time is waited for.
    pub fn deadline(&self, is_for_another: bool) -> Option<Instant> {
        match self.state {
            State::Waiting { until } if self.connections == 0 => {
                Some(self.others_at.filter(|_| is_for_another).map_or(until, |at| at.min(until)))
            }
            State::Closed | State::Connecting | State::Probing | State::Up | State::Waiting { .. } => None,
        }
    }

    /// The fault that it rests for was the answer to one message: another one may probe it soon.
    pub fn was_answered(&mut self, now: Instant) {
        if matches!(self.state, State::Waiting { .. }) && self.back_off == BackOff::Route {
            self.others_at = Some(now + OTHER_BACK_OFF_MAX);
        }
    }

    /// A connection is being opened, which [`Route::may_connect`] allowed. It ends in [`Route::ended`].
    pub fn connecting(&mut self) {
        self.connections += 1;
        self.state = match self.state {
            State::Up => State::Up,
            State::Waiting { .. } | State::Probing => State::Probing,
            State::Closed | State::Connecting => State::Connecting,
        };
    }

    /// A session is ready to take a message.
    pub fn ready(&mut self) {
        if matches!(self.state, State::Connecting | State::Probing) {
            self.state = State::Up;
        }
    }

    /// The smarthost judged a message, whichever way: the route works.
    pub fn worked(&mut self) {
        self.failures = [0; BackOff::COUNT];
        // A rest that another connection's fault began goes on, and for its reason.
        if !matches!(self.state, State::Waiting { .. }) {
            self.last = None;
        }
        self.is_proven = true;
        self.blamed = None;
        self.pace.passed();
    }

    /// The smarthost told a fault that was taken for the own fault of `message`. When it says so of a second
    /// one, the next one's counts.
    pub fn doubted(&mut self, message: MessageIndex) {
        self.is_proven &= *self.blamed.get_or_insert(message) == message;
    }

    /// A connection ended, or was never made; with a fault the route rests. Faults of several connections at
    /// once count as one, but one with a longer back-off outweighs the others: it rests for that, and for as
    /// long. Returns how long it rests, when it is this fault that makes it.
    pub fn ended(
        &mut self,
        fault: Option<(Fault, Option<&KeptReply>)>,
        now: Instant,
        retry: &Retry,
        jitter: &mut Jitter,
    ) -> Option<Duration> {
        assert!(self.connections > 0, "no connection was opened");
        self.connections -= 1;
        let Some((fault, reply)) = fault else {
            if self.connections == 0 && !matches!(self.state, State::Waiting { .. }) {
                self.state = State::Closed;
            }
            return None;
        };
        let back_off = BackOff::of(fault);
        if matches!(self.state, State::Waiting { .. }) && self.back_off >= back_off {
            return None;
        }
        self.is_proven = false;
        let since = self.faulty_since().unwrap_or(now);
        self.last = Some(LastFault { fault, reply: reply.cloned(), since });
        self.back_off = back_off;
        self.others_at = None;
        if back_off == BackOff::Rate && self.failures[back_off as usize] == 0 {
            self.pace.slow_down();
        }
        let (first, longest) = back_off.bounds(retry);
        let failures = &mut self.failures[back_off as usize];
        let rest = Duration(first.0 << (*failures).min(32)).min(longest);
        let rest = Duration(jitter.spread(rest.0)).min(longest).max(BACK_OFF_MIN);
        *failures = failures.saturating_add(1);
        self.state = State::Waiting { until: now + rest };
        Some(rest)
    }

    /// Ends a rest at once: somebody asked for it, or its reason is gone.
    pub fn retry(&mut self, now: Instant) {
        if let State::Waiting { until } = &mut self.state {
            *until = (*until).min(now);
        }
        self.failures = [0; BackOff::COUNT];
    }

    /// True when it rests, or is being tried, after a fault that may be gone with another network.
    pub fn awaits_network(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.fault.is_about_network())
    }

    /// The network is another one: true when that ended a rest. A rest for a fault that has other reasons
    /// goes on.
    pub fn network_changed(&mut self, now: Instant) -> bool {
        if !self.awaits_network() {
            return false;
        }
        // Should a probe be on its way, it began on the old network: the next one comes soon.
        self.failures[BackOff::Route as usize] = 0;
        match &mut self.state {
            State::Waiting { until } if *until > now => {
                *until = now;
                true
            }
            State::Closed | State::Connecting | State::Probing | State::Up | State::Waiting { .. } => false,
        }
    }

    /// The fault that makes it rest.
    pub fn rests_for(&self) -> Option<Fault> {
        let is_resting = matches!(self.state, State::Waiting { .. });
        self.last.as_ref().filter(|_| is_resting).map(|last| last.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::LoginFault;

    const RETRY: Retry = Retry {
        first: Duration::from_min(1),
        longest: Duration::from_min(120),
        route_longest: Duration::from_min(5),
        auth: Duration::from_min(15),
        give_up: Duration::from_min(7200),
        hold: Duration::from_min(43_200),
    };
    const FAULT: Option<(Fault, Option<&KeptReply>)> = Some((Fault::Connect, None));

    /// C-4.5.4.1-e: one probe at a time, less and less often, within bounds.
    #[test]
    fn rests_longer_with_each_fault_up_to_the_bound() {
        let (mut route, mut jitter, mut now) = (Route::new(), Jitter::new(1), Instant(0));
        let mut rests = Vec::new();
        assert_eq!(route.faulty_since(), None);
        for _ in 0..60 {
            assert!(route.may_connect(now, false));
            route.connecting();
            assert!(!route.may_connect(now, false), "one probe at a time");
            let rest = route.ended(FAULT, now, &RETRY, &mut jitter).unwrap();
            assert!(!route.may_connect(now, false));
            assert_eq!(route.deadline(false), Some(now + rest));
            now = now + rest;
            rests.push(rest);
        }
        assert_eq!(route.faulty_since(), Some(Instant(0)));
        assert!(rests[0] < Duration::from_s(2));
        assert!(rests[..8].is_sorted(), "{rests:?}");
        assert!(rests[9..].iter().all(|rest| (Duration::from_s(225)..=RETRY.route_longest).contains(rest)));
    }

    #[test]
    fn only_a_judged_message_makes_the_rests_short_again() {
        let (mut route, mut jitter, mut now) = (Route::new(), Jitter::new(2), Instant(0));
        let mut rests = Vec::new();
        for is_judged in [false, false, false, true] {
            route.connecting();
            route.ready();
            assert_eq!(route.state(), State::Up);
            assert!(route.may_connect(now, false), "a working route takes more connections");
            if is_judged {
                route.worked();
                assert!(route.last_fault().is_none());
            }
            let rest = route.ended(FAULT, now, &RETRY, &mut jitter).unwrap();
            now = now + rest;
            rests.push(rest);
        }
        assert!(rests[2] >= Duration::from_s(3) && rests[3] < Duration::from_s(2), "{rests:?}");
    }

    #[test]
    fn faults_at_once_count_once_and_a_probe_waits_for_the_last_connection() {
        let (mut route, mut jitter) = (Route::new(), Jitter::new(3));
        route.connecting();
        route.ready();
        route.connecting();
        let rest = route.ended(FAULT, Instant(0), &RETRY, &mut jitter).unwrap();
        let later = Instant(0) + rest;
        assert!(!route.may_connect(later, false));
        assert_eq!(route.deadline(false), None);
        assert_eq!(route.ended(FAULT, Instant(0), &RETRY, &mut jitter), None);
        assert_eq!(route.failures(), 1);
        assert!(route.may_connect(later, false));
        route.retry(Instant(0));
        assert!(route.may_connect(Instant(0), false));
    }

    /// AUTH-c-h: who asks, or changes the secret, gets his try though a login from before is refused
    /// meanwhile; what that one tells counts again.
    #[test]
    fn a_retry_outlasts_the_fault_of_a_connection_from_before() {
        const LOGIN: Option<(Fault, Option<&KeptReply>)> = Some((Fault::Login(LoginFault::Refused), None));
        let (mut route, mut jitter, now) = (Route::new(), Jitter::new(5), Instant(1000));
        route.connecting();
        route.ready();
        route.connecting();
        assert!(route.ended(LOGIN, now, &RETRY, &mut jitter).is_some());
        route.retry(now);
        assert!(!route.may_connect(now, false), "one login at a time");
        assert_eq!(route.ended(LOGIN, now, &RETRY, &mut jitter), None);
        assert!(route.may_connect(now, false));
        route.connecting();
        assert!(route.ended(LOGIN, now, &RETRY, &mut jitter) >= Some(Duration::from_min(11)));
        assert!(!route.may_connect(now, false));
    }

    /// AUTH-c-h: whatever else fails at the same time, a refused login has its own, long rest.
    #[test]
    fn a_login_fault_outweighs_the_others() {
        const LOGIN: Option<(Fault, Option<&KeptReply>)> = Some((Fault::Login(LoginFault::Refused), None));
        for faults in [[LOGIN, FAULT], [FAULT, LOGIN]] {
            let (mut route, mut jitter) = (Route::new(), Jitter::new(3));
            route.connecting();
            route.ready();
            route.connecting();
            for fault in faults {
                route.ended(fault, Instant(0), &RETRY, &mut jitter);
            }
            // A connection from before may still be at work.
            route.worked();
            assert_eq!(route.rests_for(), Some(Fault::Login(LoginFault::Refused)));
            assert!(!route.may_connect(Instant(0) + Duration::from_min(11), false));
            assert!(route.may_connect(Instant(0) + Duration::from_min(19), false));
        }
    }

    #[test]
    fn a_polite_end_is_no_fault() {
        let (mut route, mut jitter) = (Route::new(), Jitter::new(4));
        route.connecting();
        route.ready();
        assert_eq!(route.ended(None, Instant(0), &RETRY, &mut jitter), None);
        assert_eq!(route.state(), State::Closed);
        assert!(route.may_connect(Instant(0), false));
    }
}
