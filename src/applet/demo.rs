//! `postern demo`: the embedded default. The whole real relay on a free port of the loopback interface, with
//! a temporary spool, a smarthost built in that shows what arrives, and one sample alert.
//!
//! One process and one thread, as on a board: between the turns of the event loop the smarthost and the
//! device that sends the alert have theirs.

use std::fs::DirBuilder;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::demo_alert::{Alert, Standing};
use super::demo_sink::Sink;
use super::{EXIT_CONFIG, EXIT_FAILED, Failure, stderr_log};
use crate::config::Config;
use crate::limits;
use crate::net::{EventLoop, Running, clock};
use crate::time;

/// How long the event loop may wait before smarthost and device have their turns.
const WAIT_MAX: Duration = Duration::from_millis(20);
/// How long the sample may take with `--once`.
const ONCE_MAX: time::Duration = time::Duration::from_s(30);
/// Names that are tried for the temporary folder.
const FOLDERS_MAX: u32 = 100;

/// Runs the demo: to the sample's arrival with `once`, else to a signal.
pub(super) fn run(once: bool) -> Result<(), Failure> {
    let folder = Folder::make().map_err(|error| Failure::io("a temporary folder for the spool", &error))?;
    let mut sink = Sink::start().map_err(|error| Failure::io("the built-in smarthost", &error))?;
    let config = configuration(&folder.path, sink.address())?;
    stderr_log::start(&config.log);
    let mut event_loop = EventLoop::start(config)
        .map_err(|error| Failure { code: error.exit_code(), line: error.to_string() })?;
    let relay = event_loop.addresses()[0];

    let mut stdout = io::stdout();
    let stdout_failed = |error| Failure::io("stdout", &error);
    tell(&mut stdout, relay, &folder.path, sink.address()).map_err(stdout_failed)?;
    let start = clock::now();
    let mut alert =
        Alert::start(relay, start.wall.unix_s).map_err(|error| Failure::io("the sample alert", &error))?;
    let mut is_sent = false;
    let mut is_told = false;
    while event_loop.turn(Some(WAIT_MAX)).map_err(|error| Failure::io("event loop", &error))? == Running::Yes
    {
        sink.turn(&mut stdout).map_err(stdout_failed)?;
        if !is_sent {
            match alert.turn() {
                Standing::UnderWay => {}
                Standing::Sent => is_sent = true,
                Standing::Failed(why) => {
                    return Err(Failure {
                        code: EXIT_FAILED,
                        line: format!("demo: the alert was not taken: {why}"),
                    });
                }
            }
        }
        let is_through = is_sent && sink.messages() > 0;
        if once && is_through {
            return Ok(());
        }
        if once && clock::now().instant.since(start.instant) > ONCE_MAX {
            let line = "demo: the alert did not arrive within 30 s".to_owned();
            return Err(Failure { code: EXIT_FAILED, line });
        }
        if is_through && !is_told {
            writeln!(
                stdout,
                "The alert has gone the whole way. More mail is shown as it arrives; Ctrl-C ends."
            )
            .map_err(stdout_failed)?;
            is_told = true;
        }
    }
    if once {
        return Err(Failure { code: EXIT_FAILED, line: "demo: ended before the alert arrived".to_owned() });
    }
    Ok(())
}

/// The demo's configuration, read as a file of this text would be.
fn configuration(folder: &Path, smarthost: SocketAddr) -> Result<Config, Failure> {
    let text = format!(
        "hostname = \"relay.demo.invalid\"\n\
         admin = \"you@demo.invalid\"\n\
         listen = [\"127.0.0.1:0\"]\n\
         allow = [\"loopback\"]\n\
         log = \"warn\"\n\
         [smarthost]\n\
         host = \"{}\"\n\
         port = {}\n\
         tls = \"none\"\n\
         [spool]\n\
         path = {:?}\n\
         size = \"1MiB\"\n\
         volatile = true\n\
         [control]\n\
         path = {:?}\n\
         [submit]\n\
         path = {:?}\n\
         [retry]\n\
         first = \"1s\"\n\
         route_longest = \"1s\"\n",
        smarthost.ip(),
        smarthost.port(),
        folder.join("spool"),
        folder.join("control.sock"),
        folder.join("submit.sock"),
    );
    let refused = |error: crate::config::ConfigError| Failure { code: EXIT_CONFIG, line: error.to_string() };
    Config::parse(&text, Path::new("demo"), "relay.demo.invalid").map_err(refused)
}

/// Says what runs where, and how to send to it.
fn tell(stdout: &mut impl Write, relay: SocketAddr, folder: &Path, sink: SocketAddr) -> io::Result<()> {
    let (version, board) = (env!("CARGO_PKG_VERSION"), limits::BOARD);
    writeln!(
        stdout,
        "postern {version}, board {board}: one process, one thread\n\
         \x20 the relay listens on   {relay}\n\
         \x20 its spool is           {}\n\
         \x20 its smarthost is       {sink}, built into this demo\n\
         To send it mail from another shell:\n\
         \x20 printf 'Subject: hello\\r\\n\\r\\nIt works.\\r\\n' | curl -sS smtp://{relay} \
         --mail-from ups@demo.invalid \
         --mail-rcpt you@demo.invalid -T -\n\
         Now a sample alert goes from a device through the relay and its spool to the smarthost:\n",
        folder.join("spool").display()
    )?;
    stdout.flush()
}

/// A folder of its own for the spool, removed at the end.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn make() -> io::Result<Self> {
        for number in 0..FOLDERS_MAX {
            let name = format!("postern-demo-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What can't be removed stays; nothing that the demo was for depends on it.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_is_configured_as_a_file_would_be() {
        let config = configuration(Path::new("/tmp/\"x\""), "127.0.0.1:2525".parse().unwrap());
        let config = config.map_err(|failure| failure.line).unwrap();
        assert_eq!(config.smarthosts[0].port, 2525);
        assert_eq!(config.spool.path, Path::new("/tmp/\"x\"/spool"));
        assert!(config.spool.volatile);
    }

    #[test]
    fn the_folder_is_private_and_goes_away() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::make().unwrap();
        let path = folder.path.clone();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(path.join("spool"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
