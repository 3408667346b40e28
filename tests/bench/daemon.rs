//! The programs under load, on free ports of loopback: the relay built for release, and Postfix's smtp-sink.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Failed;

const START_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(10);

/// A port of loopback where nobody listens, now.
pub(crate) fn closed_port() -> Result<u16, Failed> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// strace can be run.
pub(crate) fn has_strace() -> bool {
    Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// A running relay with an empty spool; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Daemon {
    /// Starts it on a new spool and waits for its greeting. With `is_traced`, strace counts its syncs.
    pub(crate) fn start(folder: &Path, smarthost: u16, log: &str, is_traced: bool) -> Result<Self, Failed> {
        for name in ["spool", "syncs"] {
            match std::fs::remove_file(folder.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        let address = SocketAddr::from(([127, 0, 0, 1], closed_port()?));
        let spool = folder.join("spool");
        let config = folder.join("postern.toml");
        std::fs::write(
            &config,
            format!(
                "hostname = \"relay.test.example\"\nlog = \"{log}\"\nlisten = [\"{address}\"]\n\
                 [smarthost]\nhost = \"127.0.0.1\"\nport = {smarthost}\ntls = \"none\"\n\
                 [spool]\npath = {spool:?}\nsize = \"64MiB\"\n[limits]\nspool_share = \"100%\"\n\
                 [retry]\nfirst = \"1s\"\nlongest = \"1s\"\nroute_longest = \"1s\"\n"
            ),
        )?;
        let binary = env!("CARGO_BIN_EXE_postern");
        let mut command = if is_traced {
            let mut command = Command::new("strace");
            command.args([
                "-D",
                "-f",
                "--seccomp-bpf",
                "-qq",
                "-c",
                "-e",
                "trace=fdatasync,fsync",
                "-e",
                "signal=none",
                "-o",
            ]);
            command.arg(folder.join("syncs")).arg(binary);
            command
        } else {
            Command::new(binary)
        };
        let log = File::create(folder.join("log"))?;
        let child = command
            .args(["serve", "--config"])
            .arg(&config)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut daemon = Self { child, address, folder: folder.to_path_buf() };
        daemon.wait_for_greeting()?;
        Ok(daemon)
    }
    fn wait_for_greeting(&mut self) -> Result<(), Failed> {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                let said = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!("the relay ended at its start ({status}): {said}").into());
            }
            if greets(self.address) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("the relay does not greet".into())
    }
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
    /// Octets of pages that this process alone made dirty; the kernel has written or will write them.
    pub(crate) fn octets_dirtied(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        line.and_then(|octets| octets.trim().parse().ok()).unwrap_or(0)
    }
    /// SIGTERM, and its end.
    pub(crate) fn stop(mut self) -> Result<(), Failed> {
        self.terminate()
    }
    /// The same for a traced relay; returns the number of its syncs, those of its start included.
    pub(crate) fn stop_and_count_syncs(mut self) -> Result<u64, Failed> {
        self.terminate()?;
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            let text = std::fs::read_to_string(self.folder.join("syncs")).unwrap_or_default();
            let counts = text.lines().filter(|line| line.ends_with("sync"));
            let total: u64 =
                counts.filter_map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok()).sum();
            if total > 0 && text.contains("total") {
                return Ok(total);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("strace printed no count of syncs".into())
    }
    fn terminate(&mut self) -> Result<(), Failed> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)?;
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("the relay does not end at SIGTERM".into())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Postfix's smtp-sink; killed when dropped.
pub(crate) struct SmtpSink {
    child: Child,
    address: SocketAddr,
}

impl SmtpSink {
    /// Starts it; `None` when it is not installed.
    pub(crate) fn start() -> Result<Option<Self>, Failed> {
        let address = SocketAddr::from(([127, 0, 0, 1], closed_port()?));
        let path =
            ["/usr/sbin/smtp-sink", "/usr/bin/smtp-sink"].into_iter().find(|path| Path::new(path).exists());
        let Some(path) = path else {
            return Ok(None);
        };
        let mut command = Command::new(path);
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "root"]);
        }
        let child = command
            .args([&address.to_string(), "128"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let sink = Self { child, address };
        let deadline = Instant::now() + START_MAX;
        while !greets(address) {
            if Instant::now() > deadline {
                return Err("smtp-sink does not greet".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(sink))
    }
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn greets(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
        return false;
    };
    let mut greeting = [0; 3];
    stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
        && stream.read_exact(&mut greeting).is_ok()
        && &greeting == b"220"
}
