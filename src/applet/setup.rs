//! `postern setup`: asks what can't be guessed, checks it against the smarthost, and writes the configuration
//! (0644) and the secret (0600).
//!
//! Nothing is overwritten: a file that is there is a reason to end. What was written when the check fails is
//! taken back unless the person wants to keep it. The password is asked for without being shown.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, BufRead, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::termios::{LocalModes, OptionalActions, isatty, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::check::{self, Check};
use super::{EXIT_IO, Failure, configuration, print};

/// The person has ended it (EX_USAGE is not it: nothing was wrong).
const EXIT_LEFT: u8 = 1;
/// Tries at one question.
const TRIES_MAX: usize = 5;
/// Octets of one answer.
const ANSWER_OCTETS_MAX: usize = 1024;
/// The interface that OpenWrt gives its LAN.
const LAN_BRIDGE: &str = "br-lan";

/// The answers.
struct Answers {
    host: String,
    port: Option<u16>,
    user: Option<String>,
    password: Zeroizing<String>,
    admin: String,
}

/// Asks, checks, writes `config` and the secret beside it.
pub(super) fn run(config: &Path) -> Result<(), Failure> {
    let secret = config.with_extension("secret");
    for path in [config, &secret] {
        if path.exists() {
            let line = format!("{}: is there already; remove it first, or edit it", path.display());
            return Err(Failure { code: super::EXIT_CONFIG, line });
        }
    }
    print("postern setup: four questions, then a check. Nothing is sent.\n\n")?;
    let mut input = io::stdin().lock();
    let answers = ask_all(&mut input)?;
    let text = answers.configuration(&secret);
    if answers.user.is_some() {
        write(&secret, format!("{}\n", *answers.password).as_bytes(), 0o600)?;
    }
    let written = write(config, text.as_bytes(), 0o644).and_then(|()| make_spool_folder(config));
    if let Err(failure) = written {
        take_back(config, &secret);
        return Err(failure);
    }
    print(&format!("\n{text}\n"))?;
    match Check::new(config.to_path_buf()).run() {
        Ok(()) => {}
        Err(failure) => {
            let keeps = ask(&mut input, "\nWrite it anyway? [y/N] ", |answer| {
                Ok(matches!(answer, "y" | "Y" | "yes"))
            })?;
            if !keeps {
                take_back(config, &secret);
                return Err(failure);
            }
        }
    }
    let paths = match answers.user {
        Some(_) => format!("{} and {}", config.display(), secret.display()),
        None => config.display().to_string(),
    };
    print(&format!(
        "\nWritten: {paths}.\nNext: postern check --send {}; then postern serve, as a service.\n",
        answers.admin
    ))
}

fn take_back(config: &Path, secret: &Path) {
    for path in [config, secret] {
        // What isn't there needs no removal.
        let _ = fs::remove_file(path);
    }
}

/// The spool's folder, so that the relay can start.
fn make_spool_folder(config: &Path) -> Result<(), Failure> {
    let spool = configuration(config)?.spool.path;
    let Some(folder) = spool.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists())
    else {
        return Ok(());
    };
    fs::create_dir_all(folder)
        .and_then(|()| fs::set_permissions(folder, Permissions::from_mode(0o700)))
        .map_err(|error| Failure { code: EXIT_IO, line: format!("{}: {error}", folder.display()) })
}

/// Writes a new file with `mode`, whatever the umask.
fn write(path: &Path, octets: &[u8], mode: u32) -> Result<(), Failure> {
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
            file.write_all(octets)?;
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()
        });
    written.map_err(|error| Failure { code: EXIT_IO, line: format!("{}: {error}", path.display()) })
}

fn ask_all(input: &mut impl BufRead) -> Result<Answers, Failure> {
    let (host, port) = ask(input, "Smarthost (as in smtp.example.com, or smtp.example.com:465): ", place)?;
    let user = ask(input, "User to log in as (empty: without a login): ", |answer| {
        let is_plain = !answer.chars().any(char::is_control);
        if is_plain { Ok((!answer.is_empty()).then(|| answer.to_owned())) } else { Err("a user's name") }
    })?;
    let password = match &user {
        None => Zeroizing::new(String::new()),
        Some(_) => ask_hidden(input, "Password (for Gmail and others an app password): ")?,
    };
    let proposal = user.as_deref().filter(|user| is_address(user));
    let question = match proposal {
        Some(user) => format!("Who is told when mail can't be delivered [{user}]: "),
        None => String::from("Who is told when mail can't be delivered (an address): "),
    };
    let admin = ask(input, &question, |answer| match (answer, proposal) {
        ("", Some(user)) => Ok(user.to_owned()),
        (answer, _) if is_address(answer) => Ok(answer.to_owned()),
        _ => Err("an address, as in you@example.com"),
    })?;
    Ok(Answers { host, port, user, password, admin })
}

/// A host, and a port if one is given.
fn place(answer: &str) -> Result<(String, Option<u16>), &'static str> {
    const WANTED: &str = "a host's name or address, and \":\" with a port if it isn't 587";
    let (host, port) = match answer.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port.parse().map_err(|_| WANTED)?)),
        _ => (answer, None),
    };
    let is_host = host.bytes().all(|octet| octet.is_ascii_alphanumeric() || b".-:".contains(&octet));
    if is_host && !host.is_empty() { Ok((host.to_owned(), port)) } else { Err(WANTED) }
}

fn is_address(text: &str) -> bool {
    check::recipient(text.as_ref()).is_ok()
}

/// Asks until `judge` takes the answer.
fn ask<T>(
    input: &mut impl BufRead,
    question: &str,
    judge: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<T, Failure> {
    for _ in 0..TRIES_MAX {
        print(question)?;
        let line = read_line(input)?;
        match judge(line.trim()) {
            Ok(answer) => return Ok(answer),
            Err(wanted) => print(&format!("  wanted: {wanted}\n"))?,
        }
    }
    Err(left("setup: no usable answer"))
}

/// Asks for what is not to be seen.
fn ask_hidden(input: &mut impl BufRead, question: &str) -> Result<Zeroizing<String>, Failure> {
    let stdin = io::stdin();
    let shown = isatty(&stdin).then(|| tcgetattr(&stdin).ok()).flatten();
    if let Some(shown) = &shown {
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // A terminal that can't hide it is no reason not to go on.
        let _ = tcsetattr(&stdin, OptionalActions::Now, &hidden);
    }
    let answer = ask(input, question, |answer| {
        if answer.is_empty() { Err("a password") } else { Ok(Zeroizing::new(answer.to_owned())) }
    });
    if let Some(shown) = &shown {
        let _ = tcsetattr(&stdin, OptionalActions::Now, shown);
        print("\n")?;
    }
    answer
}

fn read_line(input: &mut impl BufRead) -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::new());
    let mut limited = io::Read::take(input, ANSWER_OCTETS_MAX as u64);
    let count = limited.read_line(&mut line).map_err(|error| Failure::io("stdin", &error))?;
    if count == 0 { Err(left("setup: left before the end; nothing was written")) } else { Ok(line) }
}

fn left(line: &str) -> Failure {
    Failure { code: EXIT_LEFT, line: line.to_owned() }
}

impl Answers {
    /// The configuration that the answers make.
    fn configuration(&self, secret: &Path) -> String {
        let mut text = String::from("# Made by postern setup; see README for every key.\n");
        text += &format!("admin = {}\n", quoted(&self.admin));
        text += &match lan() {
            true => format!("listen = [\"127.0.0.1:25\", \"{LAN_BRIDGE}:25\"]\n"),
            false => String::from(
                "# For devices of the network, add the interface that they come in by, as in \"eth0:25\".\n\
                 listen = [\"127.0.0.1:25\"]\n",
            ),
        };
        text += &format!("\n[smarthost]\nhost = {}\n", quoted(&self.host));
        if let Some(port) = self.port {
            text += &format!("port = {port}\n");
        }
        if let Some(user) = &self.user {
            let secret = quoted(&secret.display().to_string());
            text += &format!("user = {}\npassword_file = {secret}\n", quoted(user));
            if is_address(user) {
                let user = quoted(user);
                text += &format!(
                    "\n# Most providers take mail from the login's address alone; the device stays visible.\n\
                     [sender]\nenvelope = {user}\nheader_from = {user}\n"
                );
            }
        }
        if let Some(path) = spool_path() {
            text += &format!("\n[spool]\npath = {}\n", quoted(&path.display().to_string()));
        }
        text
    }
}

/// True on a router with OpenWrt's name for its LAN.
fn lan() -> bool {
    Path::new("/sys/class/net").join(LAN_BRIDGE).exists()
}

/// Another place for the spool than the default, where that one is in memory.
fn spool_path() -> Option<PathBuf> {
    let is_openwrt = Path::new("/etc/openwrt_release").exists();
    is_openwrt.then(|| PathBuf::from("/etc/postern/spool"))
}

/// As TOML has a text.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn answered(said: &str) -> Result<Answers, (u8, String)> {
        ask_all(&mut said.as_bytes()).map_err(|failure| (failure.code, failure.line))
    }

    #[test]
    fn answers_make_a_configuration() {
        for (said, user, admin) in [
            ("smtp.example.com\nme@example.com\npw\n\n", Some("me@example.com"), "me@example.com"),
            ("smtp.example.com:465\nme\npw\nx\nyou@example.com\n", Some("me"), "you@example.com"),
            ("not a name\n192.0.2.1\n\nyou@example.com\n", None, "you@example.com"),
            (
                "smtp.example.com\na\"b\\c@example.com\npw\nyou@example.com\n",
                Some("a\"b\\c@example.com"),
                "you@example.com",
            ),
        ] {
            let answers = answered(said).map_err(|(_, line)| line).expect(said);
            assert_eq!((answers.user.as_deref(), answers.admin.as_str()), (user, admin), "{said}");
            let text = answers.configuration(Path::new("/etc/postern.secret"));
            let config = Config::parse(&text, Path::new("postern.toml"), "router").expect(&text);
            assert_eq!(config.admin.as_deref(), Some(admin), "{text}");
            let login = config.smarthosts[0].login.as_ref().map(|login| login.user.as_str());
            assert_eq!(login, user, "{text}");
            assert!(!text.contains("pw"), "{text}");
        }
    }

    #[test]
    fn an_early_end_writes_nothing() {
        assert_eq!(answered("smtp.example.com\n").map(|_| ()).unwrap_err().0, EXIT_LEFT);
        assert_eq!(answered(&"bad name\n".repeat(9)).map(|_| ()).unwrap_err().0, EXIT_LEFT);
    }
}
