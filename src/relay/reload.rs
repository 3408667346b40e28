//! Other settings while the relay is at work.
//!
//! Sessions borrow the configuration for each call, so it can be exchanged between two. What would change
//! under a session with a smarthost (whose it is, the login, how mail leaves) is exchanged only when there is
//! none: [`Relay::drain`] lets those that are ready go, and begins no message, until [`Relay::is_drained`].
//! Clients notice nothing.

use super::{Relay, Stage};
use crate::config::Config;
use crate::receiver::Users;
use crate::sender::Route;
use crate::spool::Device;
use crate::time::Now;

impl<D: Device> Relay<D> {
    /// What the relay goes by now.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// True when `config` changes something that a session with a smarthost goes by.
    pub fn needs_drain_for(&self, config: &Config) -> bool {
        let of_sender = |config: &Config| {
            let Config { hostname, admin, sender_envelope, sender_header_from, hide_received, clock, .. } =
                config.clone();
            (hostname, admin, sender_envelope, sender_header_from, hide_received, clock)
        };
        self.config.smarthosts != config.smarthosts || of_sender(&self.config) != of_sender(config)
    }

    /// Begins no message and no connection any more, until [`Relay::reload`].
    pub fn drain(&mut self, now: &Now) {
        self.is_draining = true;
        self.quit_ready_senders(now);
    }

    /// True when there is no session with a smarthost, and nothing of one that is to be written down.
    pub fn is_drained(&self) -> bool {
        self.senders.iter().all(|sender| sender.stage == Stage::Vacant && sender.session.attempt().is_none())
    }

    /// Goes by `config` from now on, and lets `users` log in. What listens stays as it is: `config.listen`
    /// must be what it was. Mail that waits is tried at once when the smarthosts are others.
    pub fn reload(&mut self, config: Config, users: Users) {
        assert!(!self.needs_drain_for(&config) || self.is_drained(), "sessions are at work");
        assert!(self.config.listen == config.listen, "each session knows its listener by its place");
        if self.config.smarthosts != config.smarthosts {
            self.routes = config.smarthosts.iter().map(|_| Route::new()).collect();
        }
        self.config = config;
        self.admission.users = users;
        self.is_draining = false;
    }

    pub(super) fn quit_ready_senders(&mut self, now: &Now) {
        for at in 0..self.senders.len() {
            if self.senders[at].session.is_ready() {
                self.quit_sender(now, at);
            }
        }
    }

    /// True while nothing may go to a smarthost that isn't on its way already.
    pub(super) fn begins_nothing(&self) -> bool {
        self.is_stopping || self.is_draining || self.spool.is_failing()
    }
}
