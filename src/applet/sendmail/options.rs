//! The command line of `sendmail`, as programs have called it for forty years: options of one letter, values
//! behind them or in the next argument, recipients last.
//!
//! What changes nothing here (queue intervals, error modes, tags, `-v` of a debugger) is taken and without
//! effect. What would ask for something else than handing in a message (`-bd`, `-bt`, `-bv`) is refused.
//!
//! The first argument that is no option ends them; one behind that which begins with a hyphen is refused
//! unless `--` says that it is an address: `sendmail you@example.com -t` means something else than it does.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::super::Failure;
use crate::config;
use crate::smtp::dsn::{self, ENVID_OCTETS_MAX, Notify};

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Hand in the message on stdin (`-bm`).
    #[default]
    Submit,
    /// Speak SMTP on stdin and stdout (`-bs`).
    Smtp,
    /// Show the queue (`-bp`).
    List,
    /// Try all waiting mail now (`-q`).
    Retry,
    /// There is no alias database to make (`-bi`).
    Aliases,
    /// Say how to call it.
    Help,
}

/// The command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) mode: Mode,
    /// Recipients stand in the header section, too (`-t`).
    pub(super) reads_recipients: bool,
    /// A line of a dot is text (`-i`).
    pub(super) is_dot_text: bool,
    pub(super) is_verbose: bool,
    /// Who sends (`-f`, `-r`), not looked at yet; `<>` or nothing is the null reverse-path.
    pub(super) reverse_path: Option<Vec<u8>>,
    /// The name that stands in a From field which is missing (`-F`).
    pub(super) full_name: Option<Vec<u8>>,
    /// What is to be told of the recipients (`-N`).
    pub(super) notify: Notify,
    /// How much of the message a notice is to have (`-R`): nothing, 1 the header section, 2 all.
    pub(super) ret: u8,
    /// A name for the message in notices (`-V`), as xtext.
    pub(super) envid: Vec<u8>,
    /// The configuration (`-C`).
    pub(super) config: Option<PathBuf>,
    /// Arguments with recipients, not looked at yet.
    pub(super) recipients: Vec<Vec<u8>>,
}

/// Options whose value is the rest of the argument, or else the next one.
const VALUED: &[u8] = b"ABCFLNORVXbfhopre";
/// Options without a value.
const FLAGS: &[u8] = b"GIUcimntv";
/// Options whose value, if any, is the rest of the argument.
const OPEN: &[u8] = b"dq";

impl Options {
    /// Reads the arguments behind the program's name.
    pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Failure> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        let mut is_over = false;
        while let Some(argument) = arguments.next() {
            let octets = argument.as_bytes();
            match octets {
                _ if is_over => options.recipients.push(argument.into_vec()),
                b"--" => is_over = true,
                b"--help" => options.mode = Mode::Help,
                [b'-', letters @ ..] if !letters.is_empty() => {
                    if !options.recipients.is_empty() {
                        let what = format_args!(
                            "option {} stands behind an address; put it in front, or \"--\" if it is one",
                            shown(octets)
                        );
                        return Err(Failure::usage(what));
                    }
                    options.cluster(letters, &mut arguments)?;
                }
                _ => options.recipients.push(argument.into_vec()),
            }
        }
        Ok(options)
    }

    /// The configuration that is meant.
    pub(super) fn config_path(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(config::PATH_DEFAULT))
    }

    /// The letters of one argument.
    fn cluster(
        &mut self,
        letters: &[u8],
        arguments: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), Failure> {
        for (at, &letter) in letters.iter().enumerate() {
            let rest = &letters[at + 1..];
            if FLAGS.contains(&letter) {
                self.flag(letter);
                continue;
            }
            if OPEN.contains(&letter) {
                return self.value(letter, rest);
            }
            if !VALUED.contains(&letter) {
                return Err(Failure::usage(format_args!("there is no option {}", shown(&[b'-', letter]))));
            }
            if !rest.is_empty() {
                return self.value(letter, rest);
            }
            let Some(value) = arguments.next() else {
                return Err(Failure::usage(format_args!("option -{} lacks a value", char::from(letter))));
            };
            return self.value(letter, value.as_bytes());
        }
        Ok(())
    }

    fn flag(&mut self, letter: u8) {
        match letter {
            b't' => self.reads_recipients = true,
            b'i' => self.is_dot_text = true,
            b'v' => self.is_verbose = true,
            b'I' => self.mode = Mode::Aliases,
            _ => {}
        }
    }

    fn value(&mut self, letter: u8, value: &[u8]) -> Result<(), Failure> {
        let refused = |allowed: &str| {
            Err(Failure::usage(format_args!("option -{} is {}; {allowed}", char::from(letter), shown(value))))
        };
        match letter {
            b'f' | b'r' => self.reverse_path = Some(value.to_vec()),
            b'F' if value.iter().any(u8::is_ascii_control) => return refused("a line of text is allowed"),
            b'F' => self.full_name = Some(value.to_vec()),
            b'C' => self.config = Some(OsStr::from_bytes(value).into()),
            b'b' => match mode_of(value) {
                Some(mode) => self.mode = mode,
                None => return refused("m, s, p or i is allowed; the daemon is \"postern serve\""),
            },
            b'o' => self.is_dot_text |= value == b"i" || value.eq_ignore_ascii_case(b"IgnoreDots"),
            b'O' => {
                let is_true = value.rsplit(|octet| *octet == b'=').next().is_some_and(is_truth);
                let is_dots = value.len() > 10 && value[..10].eq_ignore_ascii_case(b"IgnoreDots");
                self.is_dot_text |= is_dots && is_true;
            }
            b'B' if !matches!(&*value.to_ascii_uppercase(), b"7BIT" | b"8BITMIME") => {
                return refused("7BIT or 8BITMIME is allowed");
            }
            b'N' => match Notify::parse(value) {
                Some(notify) => self.notify = notify,
                None => return refused("never, or success, failure and delay with commas are allowed"),
            },
            b'R' => match dsn::ret(value) {
                Some(ret) => self.ret = ret,
                None => return refused("hdrs or full is allowed"),
            },
            b'V' => match xtext(value) {
                Some(envid) => self.envid = envid,
                None => return refused("up to 100 printable characters are allowed"),
            },
            b'q' if value.first().is_some_and(u8::is_ascii_digit) => {
                return refused("an interval is for the daemon, which is \"postern serve\"");
            }
            b'q' => self.mode = Mode::Retry,
            _ => {}
        }
        Ok(())
    }
}

fn mode_of(value: &[u8]) -> Option<Mode> {
    Some(match value {
        b"m" => Mode::Submit,
        b"s" => Mode::Smtp,
        b"p" => Mode::List,
        b"i" => Mode::Aliases,
        _ => return None,
    })
}

/// What sendmail(8) takes for true.
fn is_truth(value: &[u8]) -> bool {
    matches!(value.first(), None | Some(b't' | b'T' | b'y' | b'Y' | b'1'))
}

/// RFC 3461 4.
fn xtext(value: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(value.len());
    for octet in value {
        match octet {
            b'+' | b'=' | b' ' => text.extend_from_slice(format!("+{octet:02X}").as_bytes()),
            b'!'..=b'~' => text.push(*octet),
            _ => return None,
        }
    }
    (!text.is_empty() && text.len() <= ENVID_OCTETS_MAX).then_some(text)
}

/// An argument as it can stand in a line of text.
pub(super) fn shown(argument: &[u8]) -> String {
    const SHOWN_MAX: usize = 200;
    let end = argument.len().min(SHOWN_MAX);
    let text = String::from_utf8_lossy(&argument[..end]);
    let text: String = text.chars().flat_map(|c| c.escape_debug()).collect();
    if end < argument.len() { format!("\"{text}...\"") } else { format!("\"{text}\"") }
}
