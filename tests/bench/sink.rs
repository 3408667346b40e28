//! A smarthost that keeps up: takes all, stores nothing, answers pipelined commands with one write.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Failed;

const INPUT_OCTETS: usize = 256 * 1024;

/// What a drain showed.
pub(crate) struct Drained {
    /// From the first connection to the last message's reply.
    pub(crate) took: Duration,
    /// Connections that were open at once.
    pub(crate) connections: usize,
}

/// Listens on `port` until `messages` have come, at most `longest`.
pub(crate) fn drain(port: u16, messages: usize, longest: Duration) -> Result<Drained, Failed> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    listener.set_nonblocking(true)?;
    let taken = Arc::new(AtomicUsize::new(0));
    let open = Arc::new(AtomicUsize::new(0));
    let deadline = Instant::now() + longest;
    let mut first = None;
    let mut connections = 0;
    while taken.load(Ordering::Acquire) < messages {
        if Instant::now() > deadline {
            return Err(format!(
                "{} of {messages} messages were relayed in {longest:?}",
                taken.load(Ordering::Acquire)
            )
            .into());
        }
        if let Ok((stream, _)) = listener.accept() {
            first.get_or_insert_with(Instant::now);
            stream.set_nonblocking(false)?;
            stream.set_nodelay(true)?;
            connections = connections.max(open.fetch_add(1, Ordering::AcqRel) + 1);
            let (taken, open) = (Arc::clone(&taken), Arc::clone(&open));
            thread::spawn(move || {
                let _ = serve(stream, &taken);
                open.fetch_sub(1, Ordering::AcqRel);
            });
        }
        thread::sleep(Duration::from_micros(500));
    }
    let took = first.map_or(Duration::ZERO, |first| first.elapsed());
    Ok(Drained { took, connections })
}

/// One session, until the relay closes it.
fn serve(mut stream: TcpStream, taken: &AtomicUsize) -> std::io::Result<()> {
    stream.write_all(b"220 sink.test.example ESMTP\r\n")?;
    let mut input = vec![0; INPUT_OCTETS];
    let mut filled = 0;
    let mut is_data = false;
    let mut output = Vec::new();
    loop {
        let octets = stream.read(&mut input[filled..])?;
        if octets == 0 {
            return Ok(());
        }
        filled += octets;
        let used = answer(&input[..filled], &mut is_data, &mut output, taken);
        input.copy_within(used..filled, 0);
        filled -= used;
        stream.write_all(&output)?;
        output.clear();
    }
}

/// Answers all that is whole in `input`; returns how many octets that was. Of unfinished mail data the last
/// four are kept.
fn answer(input: &[u8], is_data: &mut bool, output: &mut Vec<u8>, taken: &AtomicUsize) -> usize {
    let mut at = 0;
    loop {
        let rest = &input[at..];
        if *is_data {
            let Some(end) = rest.windows(5).position(|octets| octets == b"\r\n.\r\n") else {
                return at + rest.len().saturating_sub(4);
            };
            at += end + 5;
            *is_data = false;
            taken.fetch_add(1, Ordering::AcqRel);
            output.extend_from_slice(b"250 2.0.0 taken\r\n");
            continue;
        }
        let Some(end) = rest.iter().position(|octet| *octet == b'\n') else {
            return at;
        };
        let line = &rest[..end];
        at += end + 1;
        match line.get(..4).unwrap_or(line) {
            b"EHLO" => output.extend_from_slice(
                b"250-sink.test.example\r\n250-PIPELINING\r\n250-SIZE 20000000\r\n250 8BITMIME\r\n",
            ),
            b"DATA" => {
                *is_data = true;
                output.extend_from_slice(b"354 go on\r\n");
            }
            b"QUIT" => output.extend_from_slice(b"221 2.0.0 bye\r\n"),
            _ => output.extend_from_slice(b"250 2.0.0 ok\r\n"),
        }
    }
}
