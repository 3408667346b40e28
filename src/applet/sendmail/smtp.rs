//! `sendmail -bs`: stdin and stdout as a connection to the relay, for programs that speak SMTP to a pipe.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};

use super::super::{EXIT_TRY_LATER, Failure};

/// Octets that are carried at once.
const CARRIED_OCTETS: usize = 16 * 1024;

/// Carries octets both ways until the relay closes.
pub(super) fn run(submit_path: &Path) -> Result<(), Failure> {
    let failed = |error: &io::Error| Failure {
        code: EXIT_TRY_LATER,
        line: format!("the relay at {}: {error}", submit_path.display()),
    };
    let mut relay = UnixStream::connect(submit_path).map_err(|error| failed(&error))?;
    let (mut stdin, mut stdout) = (io::stdin().lock(), io::stdout().lock());
    let mut octets = vec![0; CARRIED_OCTETS];
    let mut is_open = true;
    loop {
        let (from_relay, from_stdin) = {
            let mut ends = [PollFd::new(&relay, PollFlags::IN), PollFd::new(&stdin, PollFlags::IN)];
            let watched = if is_open { 2 } else { 1 };
            match poll(&mut ends[..watched], None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(failed(&error.into())),
            }
            (!ends[0].revents().is_empty(), is_open && !ends[1].revents().is_empty())
        };
        if from_relay {
            let count = read(&mut relay, &mut octets).map_err(|error| failed(&error))?;
            if count == 0 {
                return Ok(());
            }
            let wrote = stdout.write_all(&octets[..count]).and_then(|()| stdout.flush());
            wrote.map_err(|error| Failure::io("stdout", &error))?;
        }
        if from_stdin {
            let count = read(&mut stdin, &mut octets).map_err(|error| Failure::io("stdin", &error))?;
            if count == 0 {
                is_open = false;
                let _ = relay.shutdown(Shutdown::Write);
            }
            relay.write_all(&octets[..count]).map_err(|error| failed(&error))?;
        }
    }
}

fn read(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}
