//! The lines of a small file of the system, read through one fixed buffer: no allocation, and a bound on how
//! much is read whatever the file holds.

use std::io::{self, Read};

/// Octets of the longest line that is looked at; longer ones are passed over whole.
const LINE_OCTETS_MAX: usize = 1024;
/// Octets after which reading stops.
const FILE_OCTETS_MAX: usize = 1024 * 1024;

/// Calls `visit` with each line of `source`, without its LF, until it returns false.
pub(super) fn visit_lines(mut source: impl Read, mut visit: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut buffer = [0; LINE_OCTETS_MAX];
    let mut used = 0;
    let mut is_too_long = false;
    let mut total = 0;
    while total < FILE_OCTETS_MAX {
        let count = match source.read(&mut buffer[used..]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if count == 0 {
            if used > 0 && !is_too_long {
                visit(&buffer[..used]);
            }
            return Ok(());
        }
        total += count;
        used += count;
        let mut start = 0;
        while let Some(length) = buffer[start..used].iter().position(|&octet| octet == b'\n') {
            if !is_too_long && !visit(&buffer[start..start + length]) {
                return Ok(());
            }
            is_too_long = false;
            start += length + 1;
        }
        buffer.copy_within(start..used, 0);
        used -= start;
        if used == buffer.len() {
            is_too_long = true;
            used = 0;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(source: impl Read) -> Vec<usize> {
        let mut lengths = Vec::new();
        visit_lines(source, |line| {
            lengths.push(line.len());
            true
        })
        .unwrap();
        lengths
    }

    #[test]
    fn lines_at_the_bound_are_seen_and_longer_ones_passed_over() {
        let line = |length: usize| [vec![b'x'; length], vec![b'\n']].concat();
        assert_eq!(lines_of(&[line(3), line(0), line(1023), line(5)].concat()[..]), [3, 0, 1023, 5]);
        assert_eq!(lines_of(&[line(3), line(1024), line(5)].concat()[..]), [3, 5]);
        assert_eq!(lines_of(&[line(5000), line(7)].concat()[..]), [7]);
        assert_eq!(lines_of(&b"a\nno line end"[..]), [1, 11]);
        assert_eq!(lines_of(&vec![b'x'; 5000][..]), [0; 0]);
    }

    #[test]
    fn an_endless_file_ends() {
        visit_lines(io::repeat(b'x'), |_| true).unwrap();
        visit_lines(io::repeat(b'\n'), |_| true).unwrap();
    }
}
