//! Other settings without a restart: all of them are checked against the system before any is changed.
//!
//! Sockets, files and the user stay what they were opened as; a change of one of those is told, and waits for
//! the next start.

use std::io::Error;

use mio::Registry;
use signal_hook::consts::SIGHUP;

use super::super::downstream::Downstream;
use super::super::upstream::Upstream;
use super::super::{StartError, clock, users};
use super::{CLOCK, Driver, EventLoop};
use crate::config::Config;
use crate::receiver::Users;
use crate::time::Now;

/// Settings that were checked, with what they need of the system.
pub(super) struct Prepared {
    config: Config,
    upstream: Upstream,
    downstream: Downstream,
    users: Users,
}

impl Prepared {
    /// # Errors
    /// As at a start.
    fn new(config: Config, registry: &Registry) -> Result<Self, StartError> {
        let upstream = Upstream::new(&config)?;
        let downstream = Downstream::new(&config)?;
        let users = users::read(&config.users)?;
        upstream.watch_clock(registry, CLOCK).map_err(StartError::System)?;
        Ok(Self { config, upstream, downstream, users })
    }
}

impl EventLoop {
    /// Has SIGHUP ask for other settings: see [`EventLoop::takes_reload`].
    ///
    /// # Errors
    /// The kernel does not want to.
    pub fn watch_for_reload(&mut self) -> Result<(), Error> {
        self.driver.signals.add_signal(SIGHUP)
    }

    /// True once after a SIGHUP: call [`EventLoop::reload`] with what the file has now, if that is sound.
    pub fn takes_reload(&mut self) -> bool {
        core::mem::take(&mut self.driver.wants_reload)
    }

    /// Goes by `config` from now on, or says in the log why not.
    pub fn reload(&mut self, config: Config) {
        self.driver.reload(config);
    }
}

impl Driver {
    /// Checks `config`, and goes by it as soon as nobody is in the middle of what it changes.
    pub(super) fn reload(&mut self, mut config: Config) {
        let now = clock::now();
        let kept = keep_what_stays(&mut config, self.relay.config());
        let prepared = match Prepared::new(config, self.poll.registry()) {
            Ok(prepared) => prepared,
            Err(error) => {
                log::error!("reload refused: {error}; the settings stay as they were");
                return;
            }
        };
        for key in kept {
            log::warn!("reload: {key} stays as it was; a change of it takes a restart");
        }
        if self.relay.needs_drain_for(&prepared.config) && !self.relay.is_drained() {
            log::info!("reload: waiting until what is being sent is through");
            self.relay.drain(&now);
            self.pump_touched(&now);
        }
        self.prepared = Some(Box::new(prepared));
        self.take_prepared(&now);
    }

    /// Goes by the settings that are prepared, if that can be now.
    pub(super) fn take_prepared(&mut self, now: &Now) {
        let relay = &mut self.relay;
        let may_take =
            |prepared: &&mut Box<Prepared>| !relay.needs_drain_for(&prepared.config) || relay.is_drained();
        if self.stop_at.is_some() || self.prepared.as_mut().filter(may_take).is_none() {
            return;
        }
        let Some(prepared) = self.prepared.take() else { return };
        let Prepared { config, upstream, downstream, users } = *prepared;
        self.smarthosts = config.smarthosts.iter().map(|host| (host.host.clone(), host.port)).collect();
        let old = std::mem::replace(&mut self.upstream, upstream);
        self.upstream.take_over(old);
        // A login that waits for a token may have to ask anew.
        for smarthost in 0..self.smarthosts.len() {
            self.wake_logins(smarthost);
        }
        self.downstream = downstream;
        self.dials.forget_names();
        self.relay.reload(config, users);
        log::info!("reloaded");
        self.relay.clock_stepped(now);
    }
}

/// Puts into `config` what can't change while we run, from `old`, and names the keys that it had other
/// values for.
fn keep_what_stays(config: &mut Config, old: &Config) -> heapless::Vec<&'static str, 8> {
    let mut kept = heapless::Vec::new();
    let mut keep = |key, is_other| {
        if is_other {
            kept.push(key).expect("there is room for each key");
        }
    };
    keep("listen", config.listen != old.listen);
    keep("run_as", config.run_as != old.run_as);
    keep("spool", config.spool != old.spool);
    keep("control.path", config.control.path != old.control.path);
    keep("submit.path", config.submit.path != old.submit.path);
    keep("log", config.log != old.log);
    if config.listen != old.listen {
        // The certificate goes with the listeners.
        config.listen.clone_from(&old.listen);
        config.listener_tls.clone_from(&old.listener_tls);
    }
    config.run_as.clone_from(&old.run_as);
    config.spool.clone_from(&old.spool);
    config.control.clone_from(&old.control);
    config.submit.clone_from(&old.submit);
    config.log.clone_from(&old.log);
    kept
}
