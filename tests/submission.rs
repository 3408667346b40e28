//! The submission socket of the real program: who may come in, by which name, and what becomes of its file.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// An empty folder of this name on the disk that the tests are built on, short enough for a socket's path.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("postern-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    folder
}

/// A configuration whose clients in the network may not relay.
fn configuration(folder: &Path, submit: &Path) -> PathBuf {
    let text = format!(
        "hostname = \"relay.example\"\nlisten = [\"127.0.0.1:0\"]\nallow = []\n\
         [smarthost]\nhost = \"192.0.2.25\"\ntls = \"none\"\n\
         [spool]\npath = \"{}\"\nsize = \"256KiB\"\nvolatile = true\n[submit]\npath = \"{}\"\n",
        folder.join("spool").display(),
        submit.display()
    );
    let path = folder.join("postern.toml");
    std::fs::write(&path, text).expect("the folder is writable");
    path
}

fn serve(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.args(["serve", "--config"]).arg(config).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A relay that has said that it listens, and what it says from then on.
fn started(config: &Path) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut relay = serve(config).spawn().expect("the program is built");
    let mut lines = BufReader::new(relay.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("listening address=")), "it starts");
    (relay, lines)
}

fn terminate(mut relay: Child) {
    let told = Command::new("kill").arg(relay.id().to_string()).status().expect("there is kill");
    assert!(told.success());
    assert_eq!(relay.wait().expect("it ends").code(), Some(0));
}

/// SUB-a: the mail of a user is taken although nobody in the network may relay, by the uid that the kernel
/// tells, and is in the log by it.
#[test]
fn a_user_hands_in_by_the_socket() {
    let folder = folder("submission");
    let path = folder.join("run/submit.sock");
    let (relay, mut lines) = started(&configuration(&folder, &path));
    let metadata = path.metadata().expect("the socket and its folder are made");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o666);
    let mut stream = UnixStream::connect(&path).expect("it listens");
    let commands = "EHLO board\r\nMAIL FROM:<root>\r\nRCPT TO:<you@example.com>\r\nDATA\r\n";
    for part in [commands, "Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n"] {
        stream.write_all(part.as_bytes()).expect("it reads");
    }
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("it closes after QUIT");
    assert!(said.contains("\r\n250 2.0.0 Queued as "), "{said}");
    let received = lines.find(|line| line.contains("received id=")).expect("it is in the log");
    let uid = folder.metadata().expect("it is there").uid();
    assert!(received.contains(&format!(" client=uid:{uid} ")), "{received}");
    terminate(relay);
    assert!(!path.exists(), "it goes with the relay");
    std::fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn a_socket_that_a_crash_left_is_replaced_and_one_in_use_is_not() {
    let folder = folder("stale");
    let path = folder.join("submit.sock");
    drop(UnixListener::bind(&path).expect("the folder is writable"));
    let config = configuration(&folder, &path);
    let (relay, _lines) = started(&config);
    UnixStream::connect(&path).expect("it listens");
    terminate(relay);
    let holder = UnixListener::bind(&path).expect("the name is free");
    let refused = serve(&config).output().expect("it ends by itself");
    assert_eq!(refused.status.code(), Some(78));
    let said = String::from_utf8(refused.stderr).expect("it prints UTF-8");
    let expected = format!("submit.path: {}: in use by another process; ", path.display());
    assert!(said.contains(&expected) && said.lines().count() == 1, "{said}");
    UnixStream::connect(&path).expect("the other one still listens");
    drop(holder);
    std::fs::remove_dir_all(folder).expect("it is ours");
}
