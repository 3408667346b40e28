//! What the administrator's tools have in common: they ask the running relay over its control socket, and
//! copy the answer.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{EXIT_IO, EXIT_NOT_PERMITTED, EXIT_UNAVAILABLE, Failure, configuration};

/// How long the relay may be silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Octets of the longest last line.
const END_OCTETS_MAX: u64 = 1024;

/// Sends `request` to the relay that the configuration `config` names, and copies its answer to stdout.
pub(super) fn ask(config: &Path, request: &str) -> Result<(), Failure> {
    let path = configuration(config)?.control.path;
    let stream = UnixStream::connect(&path).map_err(|error| not_there(&path, &error))?;
    let lost = |error: io::Error| Failure { code: EXIT_IO, line: format!("{}: {error}", path.display()) };
    stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(lost)?;
    (&stream).write_all(format!("{request}\n").as_bytes()).map_err(lost)?;
    let mut stdout = io::stdout().lock();
    match copy(&mut BufReader::new(&stream), &mut stdout) {
        Ok((0, text)) if text.is_empty() => stdout.flush(),
        Ok((0, text)) => writeln!(stdout, "{text}").and_then(|()| stdout.flush()),
        Ok((code, line)) => {
            // What came before the refusal is worth reading.
            let _ = stdout.flush();
            return Err(Failure { code, line });
        }
        Err(Broken::Stdout(error)) => Err(error),
        Err(Broken::Answer) => {
            let _ = stdout.flush();
            let line = "the answer ends early: the relay was stopped, or waited too long for its reader";
            return Err(Failure { code: EXIT_IO, line: line.to_owned() });
        }
    }
    .or_else(|error| {
        // Whoever read it has seen enough.
        let is_read = error.kind() == ErrorKind::BrokenPipe;
        if is_read { Ok(()) } else { Err(Failure::io("stdout", &error)) }
    })
}

fn not_there(path: &Path, error: &io::Error) -> Failure {
    let at = path.display();
    if error.kind() == ErrorKind::PermissionDenied {
        let line = format!("{at}: not permitted; run it as root, or as the user that the relay runs as");
        return Failure { code: EXIT_NOT_PERMITTED, line };
    }
    let line = format!("no relay is running: nobody listens at {at} ({error})");
    Failure { code: EXIT_UNAVAILABLE, line }
}

/// Why an answer could not be copied.
#[derive(Debug)]
enum Broken {
    /// It is not whole.
    Answer,
    Stdout(io::Error),
}

/// Copies the pieces of an answer, and gives its exit status and last words.
fn copy(answer: &mut impl Read, output: &mut impl Write) -> Result<(u8, String), Broken> {
    let mut piece = Vec::new();
    loop {
        let mut digits = [0; 4];
        answer.read_exact(&mut digits).map_err(|_| Broken::Answer)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(Broken::Answer);
        }
        let digits = str::from_utf8(&digits).map_err(|_| Broken::Answer)?;
        let octets = u16::from_str_radix(digits, 16).map_err(|_| Broken::Answer)?;
        if octets == 0 {
            break;
        }
        piece.resize(usize::from(octets), 0);
        answer.read_exact(&mut piece).map_err(|_| Broken::Answer)?;
        output.write_all(&piece).map_err(Broken::Stdout)?;
    }
    let mut end = String::new();
    answer.take(END_OCTETS_MAX).read_to_string(&mut end).map_err(|_| Broken::Answer)?;
    let (code, text) = end.strip_suffix('\n').and_then(|end| end.split_once(' ')).ok_or(Broken::Answer)?;
    Ok((code.parse().map_err(|_| Broken::Answer)?, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_not() {
        let answer = b"0005a\n000000200000 done\n";
        let mut output = Vec::new();
        let copied = copy(&mut &b"0005a\n00000020\n000066 there is none\n"[..], &mut output).unwrap();
        assert_eq!((copied, &output[..]), ((66, "there is none".to_owned()), &b"a\n0000\n"[..]));
        for end in 0..answer.len() {
            assert!(copy(&mut &answer[..end], &mut Vec::new()).is_err(), "{end}");
        }
        for wrong in
            [&b"+005abcde00000 \n"[..], b"00000\n", b"0000x y\n", b"0000256 y\n", b"\xff\xff\xff\xff"]
        {
            assert!(copy(&mut &wrong[..], &mut Vec::new()).is_err(), "{}", wrong.escape_ascii());
        }
    }
}
