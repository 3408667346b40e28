//! What is remembered of each client: its sessions, how much it sends, its failed logins, and the habits that
//! were tolerated.
//!
//! The table has a fixed number of places. When all are taken, the client unseen for longest that has neither
//! a session nor mail in the spool leaves; when there is none, further clients share the last place, with
//! everything that is counted there.

use crate::limits::{LEDGER_CLIENT_OCTETS, LEDGER_CLIENTS};
use crate::smtp::quirk::{Quirk, Quirks};
use crate::smtp::trace::Origin;
use crate::time::{Duration, Instant};

/// The span over which messages are counted.
const MINUTE: Duration = Duration::from_min(1);
/// Failed logins of one client within [`LOGINS_REST`], at which it may try no more until that is over.
pub const FAILED_LOGINS_MAX: u16 = 20;
/// How long failed logins are remembered.
pub const LOGINS_REST: Duration = Duration::from_min(10);

const _: () = assert!(size_of::<Client>() <= LEDGER_CLIENT_OCTETS);
const _: () = assert!(LEDGER_CLIENTS >= 2 && LEDGER_CLIENTS <= u8::MAX as usize);

/// A client's place in the table, as long as it has a session or mail in the spool. Never 0 for a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place(u8);

/// One client.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    origin: Origin,
    is_known: bool,
    sessions: u8,
    failed_logins: u16,
    quirks: [u16; Quirk::ALL.len()],
    messages: u32,
    seen: Instant,
    minute_began: Instant,
    login_failed: Instant,
    /// Messages taken from it.
    taken: u32,
    /// 4yz and 5yz to it.
    refusals: u32,
    /// The last of them.
    refusal: Option<&'static str>,
    /// Its last message came over TLS.
    has_tls: bool,
}

/// All clients.
#[derive(Debug)]
pub struct Ledger {
    clients: Box<[Client]>,
    /// 4yz and 5yz to all clients, also those that are forgotten.
    refusals: u64,
}

impl Place {
    /// Its number: 1 to [`LEDGER_CLIENTS`], 0 for nobody's.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl Client {
    const NOBODY: Self = Self {
        origin: Origin::NOWHERE,
        is_known: false,
        sessions: 0,
        failed_logins: 0,
        quirks: [0; Quirk::ALL.len()],
        messages: 0,
        seen: Instant(0),
        minute_began: Instant(0),
        login_failed: Instant(0),
        taken: 0,
        refusals: 0,
        refusal: None,
        has_tls: false,
    };

    /// Who it is.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Its sessions now.
    pub fn sessions(&self) -> u8 {
        self.sessions
    }

    /// When it was heard of last.
    pub fn seen(&self) -> Instant {
        self.seen
    }

    /// Messages taken from it.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// True when its last message came over TLS.
    pub fn has_tls(&self) -> bool {
        self.has_tls
    }

    /// How often it got a 4yz or 5yz, and the last one.
    pub fn refusals(&self) -> (u32, Option<&'static str>) {
        (self.refusals, self.refusal)
    }

    /// How often each habit was met, up to 65,535.
    pub fn quirks(&self) -> impl Iterator<Item = (Quirk, u16)> + '_ {
        Quirk::ALL.into_iter().zip(self.quirks).filter(|(_, count)| *count > 0)
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// An empty one.
    pub fn new() -> Self {
        Self { clients: vec![Client::NOBODY; LEDGER_CLIENTS].into_boxed_slice(), refusals: 0 }
    }

    /// The place of a client, found or made. `has_mail` says whether the mail of a place is in
    /// the spool.
    pub fn place_of(&mut self, origin: Origin, now: Instant, has_mail: impl Fn(Place) -> bool) -> Place {
        let place = |at: usize| Place(at as u8 + 1);
        let found = self.clients.iter().position(|client| client.is_known && client.origin == origin);
        if let Some(at) = found {
            self.clients[at].seen = now;
            return place(at);
        }
        let last = self.clients.len() - 1;
        let leaves = |(at, client): &(usize, &Client)| {
            !client.is_known || client.sessions == 0 && !has_mail(place(*at))
        };
        let free = self.clients[..last]
            .iter()
            .enumerate()
            .filter(leaves)
            .min_by_key(|(_, client)| (client.is_known, client.seen))
            .map(|(at, _)| at);
        let Some(at) = free else { return place(last) };
        self.clients[at] = Client { origin, is_known: true, seen: now, ..Client::NOBODY };
        place(at)
    }

    /// The client has one more session.
    pub fn came(&mut self, place: Place) {
        if let Some(client) = self.client(place) {
            client.sessions = client.sessions.saturating_add(1);
        }
    }

    /// A session of the client is over.
    pub fn left(&mut self, place: Place) {
        if let Some(client) = self.client(place) {
            client.sessions = client.sessions.saturating_sub(1);
        }
    }

    /// Counts a message, if the client may begin one more of `per_minute` now.
    pub fn may_begin(&mut self, place: Place, now: Instant, per_minute: Option<u32>) -> bool {
        let Some(client) = self.client(place) else { return true };
        if client.minute_began + MINUTE <= now {
            client.minute_began = now;
            client.messages = 0;
        }
        if per_minute.is_some_and(|most| client.messages >= most) {
            return false;
        }
        client.messages = client.messages.saturating_add(1);
        true
    }

    /// True when the client may try to log in.
    pub fn may_log_in(&mut self, place: Place, now: Instant) -> bool {
        let Some(client) = self.client(place) else { return true };
        if client.login_failed + LOGINS_REST <= now {
            client.failed_logins = 0;
        }
        client.failed_logins < FAILED_LOGINS_MAX
    }

    /// A login of the client failed.
    pub fn login_failed(&mut self, place: Place, now: Instant) {
        if let Some(client) = self.client(place) {
            client.failed_logins = client.failed_logins.saturating_add(1);
            client.login_failed = now;
        }
    }

    /// Counts the habits that were met.
    pub fn met(&mut self, place: Place, quirks: Quirks) {
        if let Some(client) = self.client(place) {
            for quirk in quirks.iter() {
                let count = &mut client.quirks[quirk as usize];
                *count = count.saturating_add(1);
            }
        }
    }

    /// A message of the client was taken, over TLS or not.
    pub fn took(&mut self, place: Place, now: Instant, is_tls: bool) {
        if let Some(client) = self.client(place) {
            client.taken = client.taken.saturating_add(1);
            client.has_tls = is_tls;
            client.seen = now;
        }
    }

    /// The client got so many 4yz or 5yz, `reason` last.
    pub fn refused(&mut self, place: Place, now: Instant, count: u32, reason: &'static str) {
        self.refusals = self.refusals.saturating_add(u64::from(count));
        if let Some(client) = self.client(place) {
            client.refusals = client.refusals.saturating_add(count);
            client.refusal = Some(reason);
            client.seen = now;
        }
    }

    /// 4yz and 5yz to all clients so far.
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    /// The clients that are known.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        self.clients.iter().filter(|client| client.is_known)
    }

    fn client(&mut self, place: Place) -> Option<&mut Client> {
        self.clients.get_mut(usize::from(place.0.checked_sub(1)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(number: u32) -> Origin {
        Origin::User(number)
    }

    #[test]
    fn who_is_unseen_for_longest_leaves_and_who_has_mail_stays() {
        let mut ledger = Ledger::new();
        let last = LEDGER_CLIENTS - 1;
        for number in 0..last as u32 {
            ledger.place_of(origin(number), Instant(u64::from(number)), |_| false);
        }
        let first = ledger.place_of(origin(0), Instant(1000), |_| false);
        assert_eq!(first.number(), 1);
        let new = ledger.place_of(origin(5000), Instant(1001), |place| place.number() == 2);
        assert_eq!(new.number(), if last > 2 { 3 } else { 1 });
        let crowded = ledger.place_of(origin(5001), Instant(1002), |_| true);
        assert_eq!(usize::from(crowded.number()), LEDGER_CLIENTS);
        assert_eq!(ledger.place_of(origin(5002), Instant(1003), |_| true), crowded);
    }

    #[test]
    fn a_minute_has_so_many_messages() {
        let mut ledger = Ledger::new();
        let place = ledger.place_of(origin(1), Instant(0), |_| false);
        let mut may = |at: Instant| ledger.may_begin(place, at, Some(2));
        assert!(may(Instant(70_000)) && may(Instant(70_001)) && !may(Instant(129_999)));
        assert!(may(Instant(130_000)));
        assert!((0..9).all(|_| ledger.may_begin(place, Instant(130_001), None)));
    }

    #[test]
    fn failed_logins_are_forgotten_in_time() {
        let mut ledger = Ledger::new();
        let place = ledger.place_of(origin(1), Instant(0), |_| false);
        for _ in 0..FAILED_LOGINS_MAX {
            assert!(ledger.may_log_in(place, Instant(5)));
            ledger.login_failed(place, Instant(5));
        }
        assert!(!ledger.may_log_in(place, Instant(600_004)));
        assert!(ledger.may_log_in(place, Instant(600_005)));
    }

    #[test]
    fn quirks_are_counted() {
        let mut ledger = Ledger::new();
        let place = ledger.place_of(origin(1), Instant(0), |_| false);
        let mut quirks = Quirks::NONE;
        quirks.insert(Quirk::BareLf);
        for _ in 0..3 {
            ledger.met(place, quirks);
        }
        ledger.took(place, Instant(5), true);
        ledger.refused(place, Instant(6), 2, "550 5.7.1 no");
        ledger.refused(Place::default(), Instant(6), 1, "550 5.7.1 no");
        let client = ledger.clients().next().unwrap();
        assert_eq!(
            (client.taken(), client.refusals(), client.seen()),
            (1, (2, Some("550 5.7.1 no")), Instant(6))
        );
        assert!(client.has_tls());
        assert_eq!(ledger.refusals(), 3);
        assert_eq!((client.origin(), client.quirks().collect()), (origin(1), vec![(Quirk::BareLf, 3)]));
        ledger.met(Place::default(), quirks);
    }
}
