//! `postern serve`: the daemon, in the foreground, until SIGTERM; SIGHUP has it read its configuration
//! anew.

use std::path::Path;

use super::{Failure, configuration, stderr_log};
use crate::net::{EventLoop, Running, StartError, privileges};

/// Relays with the configuration `path` until a signal ends it.
pub(super) fn run(path: &Path) -> Result<(), Failure> {
    let config = configuration(path)?;
    stderr_log::start(&config.log);
    privileges::harden().map_err(|error| Failure::io("privileges", &error))?;
    if config.is_on_link_everywhere() {
        log::warn!(
            "listening on all addresses with \"on-link\" allowed: the neighbours on every interface may \
             relay, the uplink's too; name addresses or interfaces in \"listen\", or networks in \"allow\""
        );
    }
    let refused =
        |error: StartError| Failure { code: error.exit_code(), line: format!("{}: {error}", path.display()) };
    let mut event_loop = EventLoop::start(config).map_err(refused)?;
    if privileges::is_root() {
        log::warn!("running as root; name a user in \"run_as\"");
    }
    event_loop.watch_for_reload().map_err(|error| Failure::io("signals", &error))?;
    while event_loop.turn(None).map_err(|error| Failure::io("event loop", &error))? == Running::Yes {
        if event_loop.takes_reload() {
            match configuration(path) {
                Ok(config) => event_loop.reload(config),
                Err(refusal) => {
                    log::error!("reload refused: {}; the settings stay as they were", refusal.line)
                }
            }
        }
    }
    Ok(())
}
