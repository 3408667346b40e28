//! A relay on a spool of its own, a smarthost that keeps what it gets, and `sendmail` beside them.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the smarthost got.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// Behind `MAIL FROM:`.
    pub(crate) from: String,
    /// The forward-paths, without angle brackets.
    pub(crate) to: Vec<String>,
    /// The RCPT commands behind the paths.
    pub(crate) parameters: Vec<String>,
    /// The mail data with its dots undone; Latin-1, so that every octet is a letter.
    pub(crate) data: String,
}

impl Arrived {
    /// The header section behind our trace field.
    pub(crate) fn header(&self) -> &str {
        let (header, _) = self.data.split_once("\r\n\r\n").expect("an empty line");
        let end = header.match_indices("\r\n").find(|(at, _)| !header[at + 2..].starts_with('\t'));
        &header[end.expect("a field behind Received").0 + 2..]
    }

    /// What stands behind the empty line.
    pub(crate) fn body(&self) -> &str {
        self.data.split_once("\r\n\r\n").expect("an empty line").1
    }

    /// The bodies of all fields of that name, as they stand there.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        let start = format!("{name}:");
        let mut found = Vec::new();
        let mut rest = self.header();
        while !rest.is_empty() {
            let end = rest.match_indices("\r\n").find(|(at, _)| !rest[at + 2..].starts_with([' ', '\t']));
            let (field, behind) = end.map_or((rest, ""), |(at, _)| (&rest[..at], &rest[at + 2..]));
            if field.len() >= start.len() && field[..start.len()].eq_ignore_ascii_case(&start) {
                found.push(field[start.len()..].trim());
            }
            rest = behind;
        }
        found
    }
}

/// How `sendmail` ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// All of it.
pub(crate) struct World {
    pub(crate) folder: PathBuf,
    config: PathBuf,
    relay: Option<Child>,
    arrived: Receiver<Arrived>,
}

impl World {
    /// A relay that isn't running yet, with `more` in its configuration.
    pub(crate) fn new(name: &str, more: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("postern-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (sender, arrived) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sender = sender.clone();
                std::thread::spawn(move || serve(stream, &sender));
            }
        });
        let path = |name: &str| folder.join(name).display().to_string();
        let text = format!(
            "hostname = \"box.example\"\nadmin = \"admin@example.org\"\nlisten = [\"127.0.0.1:0\"]\n\
             [smarthost]\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n\
             [spool]\npath = \"{}\"\nsize = \"1MiB\"\nvolatile = true\n[control]\npath = \"{}\"\n{more}\n",
            path("spool"),
            path("control.sock"),
        );
        let config = folder.join("postern.toml");
        std::fs::write(&config, text).expect("the folder is writable");
        Self { folder, config, relay: None, arrived }
    }

    /// The same, running.
    pub(crate) fn started(name: &str, more: &str) -> Self {
        let mut world = Self::new(name, more);
        world.start();
        world
    }

    pub(crate) fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(["serve", "--config"]).arg(&self.config).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut relay = command.spawn().expect("the program is built");
        let mut lines =
            BufReader::new(relay.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("listening address=")), "it starts");
        std::thread::spawn(move || lines.for_each(drop));
        self.relay = Some(relay);
    }

    pub(crate) fn stop(&mut self) {
        let mut relay = self.relay.take().expect("it runs");
        let told = Command::new("kill").arg(relay.id().to_string()).status().expect("there is kill");
        assert!(told.success());
        assert_eq!(relay.wait().expect("it ends").code(), Some(0));
    }

    /// `sendmail` with this configuration, to be run by the caller.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.arg("sendmail").arg("-C").arg(&self.config);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn sendmail(&self, arguments: &[&str], message: &[u8]) -> Ended {
        ended(self.command().args(arguments), message)
    }

    /// The next message that comes to the smarthost.
    pub(crate) fn next(&self) -> Arrived {
        self.arrived.recv_timeout(PATIENCE).expect("a message comes")
    }

    /// The same for a message that `sendmail` must have taken.
    pub(crate) fn sent(&self, arguments: &[&str], message: &[u8]) -> Arrived {
        let ended = self.sendmail(arguments, message);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{arguments:?}");
        self.next()
    }

    /// Nothing has come that nobody has looked at.
    pub(crate) fn assert_quiet(&self) {
        let Arrived { to, .. } = self.sent(&["last@x.example"], b"\nx\n");
        assert_eq!(to, ["last@x.example"]);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut relay) = self.relay.take() {
            let _ = relay.kill();
            let _ = relay.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Runs a command with that on its stdin.
pub(crate) fn ended(command: &mut Command, stdin: &[u8]) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program is built");
    let mut pipe = child.stdin.take().expect("it is piped");
    // One that refuses its command line ends without reading.
    let _ = pipe.write_all(stdin);
    drop(pipe);
    let output = child.wait_with_output().expect("it ends");
    let text = |octets: Vec<u8>| String::from_utf8(octets).expect("it prints UTF-8");
    Ended {
        code: output.status.code().expect("it ends by itself"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// The name of the user who runs the tests.
pub(crate) fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("there is id");
    String::from_utf8(output.stdout).expect("a name").trim().to_owned()
}

pub(crate) fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("there is id");
    output.stdout.starts_with(b"0\n")
}

/// A path of the world that all users may read.
pub(crate) fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
}

fn serve(mut stream: TcpStream, arrived: &Sender<Arrived>) {
    let reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    let mut lines = reader.split(b'\n').map_while(Result::ok).map(|mut line| {
        assert_eq!(line.pop(), Some(b'\r'), "a line ends in CRLF");
        line.iter().map(|octet| char::from(*octet)).collect::<String>()
    });
    let empty = || Arrived { from: String::new(), to: vec![], parameters: vec![], data: String::new() };
    let mut now = empty();
    let mut say = |text: &str| stream.write_all(text.as_bytes()).is_ok();
    say("220 sink.example\r\n");
    while let Some(line) = lines.next() {
        let is = |verb: &str| line.get(..verb.len()).is_some_and(|start| start.eq_ignore_ascii_case(verb));
        if is("EHLO") {
            say("250-sink.example\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250 SIZE\r\n");
        } else if is("MAIL FROM:") {
            now = empty();
            line["MAIL FROM:".len()..].clone_into(&mut now.from);
            say("250 ok\r\n");
        } else if is("RCPT TO:") {
            let (path, parameters) = line["RCPT TO:<".len()..].rsplit_once('>').expect("a path");
            now.to.push(path.to_owned());
            now.parameters.push(parameters.trim().to_owned());
            say("250 ok\r\n");
        } else if is("DATA") {
            say("354 go\r\n");
            for line in lines.by_ref().take_while(|line| line != ".") {
                now.data += line.strip_prefix('.').unwrap_or(&line);
                now.data += "\r\n";
            }
            say("250 ok\r\n");
            let _ = arrived.send(core::mem::replace(&mut now, empty()));
        } else if is("QUIT") {
            say("221 bye\r\n");
            return;
        } else {
            say("250 ok\r\n");
        }
    }
}
