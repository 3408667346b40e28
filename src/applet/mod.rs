//! The applets: what the program does for the one who starts it.
//!
//! The applet is the program's name (as a link to it has it) or the first argument. Each ends with an exit
//! code of sysexits.h, and what went wrong is one line on stderr, `postern: ...`.

mod advice;
mod check;
mod demo;
mod demo_alert;
mod demo_sink;
mod login;
mod queue;
mod sendmail;
mod serve;
mod setup;
mod stderr_log;
mod tool;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt as _;

use crate::config::{self, Config, Folders};
use crate::limits;
use check::Check;
use login::Login;
use queue::Queue;

/// The demo's sample did not arrive.
const EXIT_FAILED: u8 = 1;
/// The command line is wrong (EX_USAGE).
const EXIT_USAGE: u8 = 64;
/// An address or a message is wrong (EX_DATAERR).
const EXIT_DATA: u8 = 65;
/// There is no such recipient (EX_NOUSER).
const EXIT_NO_USER: u8 = 67;
/// There is no such domain (EX_NOHOST).
const EXIT_NO_HOST: u8 = 68;
/// No relay is running, or it refuses (EX_UNAVAILABLE).
const EXIT_UNAVAILABLE: u8 = 69;
/// The disk or a socket failed (EX_IOERR).
const EXIT_IO: u8 = 74;
/// It may work later (EX_TEMPFAIL).
const EXIT_TRY_LATER: u8 = 75;
/// The caller may not ask the relay, or it may not do this (EX_NOPERM).
const EXIT_NOT_PERMITTED: u8 = 77;
/// The configuration is wrong or can't be read (EX_CONFIG).
const EXIT_CONFIG: u8 = 78;

const HELP: &str = "\
postern: a durable SMTP alert relay

  postern serve [--config FILE]            relay until SIGTERM
  postern queue [--json]                   what waits, and why
  postern queue show ID                    the message
  postern queue retry [ID]                 try it, or everything, now
  postern queue remove ID|--all [--yes]    remove it, or everything, unsent
  postern status [--json]                  figures, the way to the smarthost, each client
  postern setup                            asks four questions and writes a configuration
  postern check [--send ADDRESS]           the way of a message, a step a line; --send: one for real
  postern check --offline                  read the configuration only: \"ok\", or what is wrong
  postern login [--host NAME]              a login by OAuth 2.0: a code to type in elsewhere
  postern limits                           this board's capacities and what they cost
  postern sendmail [-t] [ADDRESS...]       hand in the message on stdin; also by the name sendmail
  postern demo [--once]                    a relay and its smarthost, to try; --once: one alert, then end
  postern --version
  postern --help

FILE is /etc/postern.toml unless given; \"queue\" and \"status\" find the relay by it. RUST_LOG wins over the
file's \"log\".
Exit codes: 0 done, 1 the demo's alert did not arrive, the login was refused or setup was left, 10 to 20 a
step of the check failed, 64 usage, 65 damaged, 66 no such message, 69 no relay is running, 74 disk or
network, 75 not yet, 77 not permitted, 78 configuration.
";

/// What ends an applet early: its exit code and one line.
#[derive(Debug)]
struct Failure {
    code: u8,
    line: String,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Applet {
    Serve { config: PathBuf },
    Check(Check),
    Setup { config: PathBuf },
    Queue(Queue),
    Status { config: PathBuf, is_json: bool },
    Login(Login),
    Limits,
    Sendmail(Vec<OsString>),
    Demo { once: bool },
    Version,
    Help,
}

/// Runs the applet that `arguments` (the program's name first) ask for, to its end.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let end = parse(arguments).and_then(|applet| match applet {
        Applet::Serve { config } => serve::run(&config),
        Applet::Check(check) => check.run(),
        Applet::Setup { config } => setup::run(&config),
        Applet::Queue(queue) if queue.is_for_help() => print(HELP),
        Applet::Queue(queue) => queue.run(),
        Applet::Status { config, is_json } => {
            tool::ask(&config, if is_json { "status json" } else { "status" })
        }
        Applet::Login(login) => login.run(),
        Applet::Limits => print(&limits::Table.to_string()),
        Applet::Sendmail(arguments) => sendmail::run(arguments),
        Applet::Demo { once } => demo::run(once),
        Applet::Version => {
            print(&format!("postern {} (board {})\n", env!("CARGO_PKG_VERSION"), limits::BOARD))
        }
        Applet::Help => print(HELP),
    });
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell when stderr is closed too.
            let _ = writeln!(io::stderr(), "postern: {}", failure.line);
            ExitCode::from(failure.code)
        }
    }
}

impl Failure {
    fn usage(what: impl core::fmt::Display) -> Self {
        Self { code: EXIT_USAGE, line: format!("{what}; see postern --help") }
    }

    fn io(what: &str, error: &io::Error) -> Self {
        Self { code: EXIT_IO, line: format!("{what}: {error}") }
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::usage(error)
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Applet, Failure> {
    let mut arguments = arguments.into_iter();
    let program = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    if let Some(applet) = sendmail_of(&program, &arguments) {
        return Ok(applet);
    }
    let mut parser = lexopt::Parser::from_args(arguments);
    let by_name = Path::new(&program).file_name().and_then(|name| name.to_str()).and_then(applet_of);
    let mut applet = match by_name {
        Some(applet) => applet,
        None => match parser.next()? {
            None => return Err(Failure::usage("no applet is given")),
            Some(Value(name)) => match name.to_str().and_then(applet_of) {
                Some(applet) => applet,
                None => return Err(Failure::usage(format_args!("there is no applet {name:?}"))),
            },
            Some(Long("version") | Short('V')) => Applet::Version,
            Some(Long("help") | Short('h')) => Applet::Help,
            Some(other) => return Err(other.unexpected().into()),
        },
    };
    if let Applet::Queue(_) = applet {
        return Ok(Applet::Queue(Queue::parse(&mut parser)?));
    }
    while let Some(argument) = parser.next()? {
        match (argument, &mut applet) {
            (Long("help") | Short('h'), _) => return Ok(Applet::Help),
            (
                Long("config"),
                Applet::Serve { config }
                | Applet::Setup { config }
                | Applet::Check(Check { config, .. })
                | Applet::Status { config, .. },
            ) => {
                *config = parser.value()?.into();
            }
            (Long("config"), Applet::Login(login)) => login.config = parser.value()?.into(),
            (Long("host"), Applet::Login(login)) => login.host = Some(parser.value()?.string()?),
            (Long("json"), Applet::Status { is_json, .. }) => *is_json = true,
            (Long("offline"), Applet::Check(check)) => check.is_offline = true,
            (Long("send"), Applet::Check(check)) => check.send_to = Some(check::recipient(&parser.value()?)?),
            (Long("once"), Applet::Demo { once }) => *once = true,
            (other, _) => return Err(other.unexpected().into()),
        }
    }
    Ok(applet)
}

fn applet_of(name: &str) -> Option<Applet> {
    let config = || PathBuf::from(config::PATH_DEFAULT);
    match name {
        "serve" => Some(Applet::Serve { config: config() }),
        "login" => Some(Applet::Login(Login { config: config(), host: None })),
        "setup" => Some(Applet::Setup { config: config() }),
        "check" => Some(Applet::Check(Check::new(config()))),
        "queue" => Some(Applet::Queue(Queue::list(config()))),
        "status" => Some(Applet::Status { config: config(), is_json: false }),
        "limits" => Some(Applet::Limits),
        "demo" => Some(Applet::Demo { once: false }),
        _ => None,
    }
}

/// `sendmail` by one of its names, or as the first argument: its options are its own.
fn sendmail_of(program: &OsStr, arguments: &[OsString]) -> Option<Applet> {
    let mode = |name: &OsStr| match name.to_str() {
        Some("sendmail") => Some(""),
        Some("mailq") => Some("-bp"),
        Some("newaliases") => Some("-bi"),
        _ => None,
    };
    let (mode, arguments) = match Path::new(program).file_name().and_then(mode) {
        Some(mode) => (mode, arguments),
        None => (mode(arguments.first()?)?, &arguments[1..]),
    };
    let mode = Some(mode).filter(|mode| !mode.is_empty()).map(OsString::from);
    Some(Applet::Sendmail(mode.into_iter().chain(arguments.iter().cloned()).collect()))
}

/// Reads and judges the configuration `path`.
fn configuration(path: &Path) -> Result<Config, Failure> {
    let refuse = |what: String| Failure { code: EXIT_CONFIG, line: format!("{}: {what}", path.display()) };
    let mut octets = Vec::new();
    let file = File::open(path).map_err(|error| {
        refuse(format!("can't be opened ({error}); name the configuration with --config FILE"))
    })?;
    file.take(config::FILE_OCTETS_MAX + 1)
        .read_to_end(&mut octets)
        .map_err(|error| refuse(format!("can't be read ({error})")))?;
    if octets.len() as u64 > config::FILE_OCTETS_MAX {
        return Err(refuse(format!("is too long; at most {} octets are allowed", config::FILE_OCTETS_MAX)));
    }
    let text = String::from_utf8(octets).map_err(|error| {
        let sound = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + sound.iter().filter(|&&octet| octet == b'\n').count();
        Failure {
            code: EXIT_CONFIG,
            line: format!("{}:{line}: is not UTF-8, as TOML must be", path.display()),
        }
    })?;
    let folders = Folders::new(std::env::var_os);
    Config::parse_in(&text, path, &system_name(), &folders)
        .map_err(|error| Failure { code: EXIT_CONFIG, line: error.to_string() })
}

/// The host name of this system; what is not UTF-8 in it is no name.
fn system_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Writes `text` to stdout.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::io("stdout", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Applet, (u8, String)> {
        parse(line.split(' ').map(OsString::from)).map_err(|failure| (failure.code, failure.line))
    }

    #[test]
    fn applets_are_chosen_by_name_or_first_argument() {
        let (default, other) = (PathBuf::from("/etc/postern.toml"), PathBuf::from("x"));
        assert_eq!(parsed("postern serve"), Ok(Applet::Serve { config: default.clone() }));
        assert_eq!(parsed("/usr/sbin/postern serve --config x"), Ok(Applet::Serve { config: other.clone() }));
        assert_eq!(
            parsed("/usr/bin/check --offline --config=x"),
            Ok(Applet::Check(Check { is_offline: true, ..Check::new(other) }))
        );
        assert_eq!(parsed("postern queue"), Ok(Applet::Queue(Queue::list(default.clone()))));
        assert_eq!(
            parsed("postern check --offline"),
            Ok(Applet::Check(Check { is_offline: true, ..Check::new(default.clone()) }))
        );
        let config = default.clone();
        assert_eq!(parsed("postern status --json"), Ok(Applet::Status { config, is_json: true }));
        assert_eq!(parsed("postern limits"), Ok(Applet::Limits));
        let host = Some("a.example".to_owned());
        let login = Login { config: PathBuf::from("x"), host };
        assert_eq!(parsed("postern login --config x --host a.example"), Ok(Applet::Login(login)));
        assert_eq!(parsed("postern demo"), Ok(Applet::Demo { once: false }));
        assert_eq!(parsed("demo --once"), Ok(Applet::Demo { once: true }));
        assert_eq!(parsed("postern --version"), Ok(Applet::Version));
        assert_eq!(parsed("postern --help"), Ok(Applet::Help));
        assert_eq!(parsed("postern serve --help"), Ok(Applet::Help));
    }

    /// The manual page has every applet that the help has.
    #[test]
    fn the_manual_page_is_whole() {
        let page = include_str!("../../targets/postern.8");
        let applets = HELP.lines().filter_map(|line| line.strip_prefix("  postern ")?.split(' ').next());
        for applet in applets.filter(|applet| !applet.starts_with('-')) {
            let is_there =
                page.contains(&format!(".It Cm {applet}")) || page.contains(&format!(".Nm {applet}"));
            assert!(is_there, "{applet}");
        }
    }

    #[test]
    fn a_wrong_command_line_is_one_line_and_64() {
        for line in [
            "postern",
            "postern mend",
            "postern serve --once",
            "postern serve --config",
            "postern serve x",
            "postern limits --config x",
            "postern --once demo",
            "postern check --send",
            "postern check --send nobody",
            "postern demo --once=yes",
        ] {
            let (code, text) = parsed(line).unwrap_err();
            assert_eq!(code, EXIT_USAGE, "{line}");
            assert!(text.ends_with("; see postern --help") && !text.contains('\n'), "{text}");
        }
    }
}
