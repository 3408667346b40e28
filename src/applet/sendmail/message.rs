//! The message on stdin, read to its end before anything is handed in: its size and octets decide how, and
//! whoever writes it may take hours (cron hands over what a job prints while it runs).
//!
//! The fields stand in memory, which bounds them; so does the start of the body. A longer body goes to a
//! temporary file without a name.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::super::{EXIT_DATA, Failure};
use super::fields::{Field, Fields};
use super::text::Text;
use crate::smtp::header::{HeaderSection, Names, Part};

/// Octets of the largest header section: 1,000 recipients of the longest addresses, twice.
pub(super) const HEADER_OCTETS_MAX: usize = 512 * 1024;
/// Octets of a body that stay in memory.
const BODY_MEMORY_OCTETS: usize = 64 * 1024;
/// Octets that are read at once.
const READ_OCTETS: usize = 16 * 1024;
/// Names that are tried for the temporary file.
const FILES_MAX: u32 = 100;
/// What an mbox has in front of each message, and old programs hand over with it.
const MBOX_START: &[u8] = b"From ";

/// A whole message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) fields: Fields,
    pub(super) body: Body,
    /// It has octets above 127.
    pub(super) is_8bit: bool,
}

impl Message {
    /// Reads `input` to its end, or to a lone dot unless that `is_dot_text`.
    ///
    /// # Errors
    /// A header section or a message that is too large; an input or a temporary file that fails.
    pub(super) fn read(input: &mut impl Read, is_dot_text: bool, octets_max: u64) -> Result<Self, Failure> {
        let mut text = Text::new(is_dot_text);
        let mut reading = Reading::new(octets_max);
        let mut octets = vec![0; READ_OCTETS];
        let mut lines = Vec::with_capacity(2 * READ_OCTETS);
        loop {
            let count = match input.read(&mut octets) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::io("stdin", &error)),
            };
            let goes_on = text.take(&octets[..count], &mut lines);
            reading.take(&lines)?;
            lines.clear();
            if !goes_on {
                break;
            }
        }
        text.end(&mut lines);
        reading.take(&lines)?;
        reading.end()
    }
}

/// What has been read of a message.
#[derive(Debug)]
struct Reading {
    octets_max: u64,
    octets: u64,
    /// The start of the first line, until it shows what it is.
    first: Option<Vec<u8>>,
    is_skipping_line: bool,
    section: HeaderSection,
    fields: Vec<Field>,
    body: Body,
    is_8bit: bool,
    /// Octets still to come of the empty line between the header section and the body.
    separator_octets: usize,
}

impl Reading {
    fn new(octets_max: u64) -> Self {
        Self {
            octets_max,
            octets: 0,
            first: Some(Vec::new()),
            is_skipping_line: false,
            section: HeaderSection::new(Names::Usual),
            fields: Vec::new(),
            body: Body::default(),
            is_8bit: false,
            separator_octets: 0,
        }
    }

    fn take(&mut self, lines: &[u8]) -> Result<(), Failure> {
        let Some(mut first) = self.first.take() else { return self.take_lines(lines) };
        first.extend_from_slice(lines);
        if first.len() < MBOX_START.len() {
            self.first = Some(first);
            return Ok(());
        }
        self.is_skipping_line = first.starts_with(MBOX_START);
        self.take_lines(&first)
    }

    fn take_lines(&mut self, mut lines: &[u8]) -> Result<(), Failure> {
        if self.is_skipping_line {
            let Some(end) = lines.iter().position(|octet| *octet == b'\n') else { return Ok(()) };
            self.is_skipping_line = false;
            lines = &lines[end + 1..];
        }
        self.octets += lines.len() as u64;
        if self.octets > self.octets_max {
            let line = format!("the message is larger than {} octets", self.octets_max);
            return Err(Failure { code: EXIT_DATA, line });
        }
        self.is_8bit |= !lines.is_ascii();
        loop {
            let (taken, part) = self.section.next(lines);
            lines = &lines[taken..];
            let Some(part) = part else { return Ok(()) };
            match part {
                Part::Name(name) => self.fields.push(Field::new(name)),
                Part::Field(octets) => {
                    if let Some(field) = self.fields.last_mut() {
                        field.append(octets);
                    }
                    if self.octets > HEADER_OCTETS_MAX as u64 {
                        let line = format!("the header section is longer than {HEADER_OCTETS_MAX} octets");
                        return Err(Failure { code: EXIT_DATA, line });
                    }
                }
                Part::End { is_unparted: true } => {}
                Part::End { is_unparted: false } => self.separator_octets = b"\r\n".len(),
                Part::Body(octets) => append(&mut self.body, octets, &mut self.separator_octets)?,
            }
        }
    }

    fn end(mut self) -> Result<Message, Failure> {
        if let Some(first) = self.first.take() {
            self.take_lines(&first)?;
        }
        while let Some(part) = self.section.end() {
            if let Part::Body(octets) = part {
                append(&mut self.body, octets, &mut self.separator_octets)?;
            }
        }
        Ok(Message { fields: Fields::new(self.fields), body: self.body, is_8bit: self.is_8bit })
    }
}

fn append(body: &mut Body, octets: &[u8], separator_octets: &mut usize) -> Result<(), Failure> {
    let skipped = octets.len().min(*separator_octets);
    *separator_octets -= skipped;
    body.append(&octets[skipped..]).map_err(|error| Failure::io("a temporary file for the message", &error))
}

/// A body with CRLF line ends.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// All of it, or what follows the file.
    memory: Vec<u8>,
    file: Option<File>,
    octets: u64,
}

impl Body {
    /// Octets of it.
    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    fn append(&mut self, octets: &[u8]) -> io::Result<()> {
        self.octets += octets.len() as u64;
        self.memory.extend_from_slice(octets);
        if self.memory.len() > BODY_MEMORY_OCTETS {
            let file = match &mut self.file {
                Some(file) => file,
                None => self.file.insert(nameless_file()?),
            };
            file.write_all(&self.memory)?;
            self.memory.clear();
        }
        Ok(())
    }

    /// Gives all of it to `give`, in order; may be called again.
    pub(super) fn replay<E: From<io::Error>>(
        &mut self,
        mut give: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(file) = &mut self.file {
            file.rewind()?;
            let mut octets = vec![0; READ_OCTETS];
            loop {
                match file.read(&mut octets) {
                    Ok(0) => break,
                    Ok(count) => give(&octets[..count])?,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        give(&self.memory)
    }
}

/// A temporary file that nobody else can find, and that goes with the process.
fn nameless_file() -> io::Result<File> {
    for number in 0..FILES_MAX {
        let name = format!("postern-sendmail-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut options = OpenOptions::new();
        match options.read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}
