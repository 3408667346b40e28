//! The real program: what its applets print, and the exit code and the one line with which they end.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn postern(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = postern(arguments).output().expect("the program is built");
    let code = status.code().expect("it ends by itself");
    let text = |octets| String::from_utf8(octets).expect("it prints UTF-8");
    (code, text(stdout), text(stderr))
}

/// An empty folder of this name on the disk that the tests are built on.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the build folder is writable");
    folder
}

/// A configuration that could be served, with `listen` and `path`, and `more` behind it.
fn configuration(listen: &str, path: &Path, more: &str) -> String {
    let path = path.display();
    format!(
        "listen = [\"{listen}\"]\n[smarthost]\nhost = \"192.0.2.25\"\ntls = \"none\"\n\
         [spool]\npath = \"{path}\"\nsize = \"256KiB\"\nvolatile = true\n{more}\n"
    )
}

/// `postern demo --once` in a clone, as README says: the alert goes the whole way and is shown as it arrived.
#[test]
fn the_demo_shows_the_alert_with_its_received_line_on_top() {
    let (code, stdout, stderr) = run(&["demo", "--once"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    let (_, message) =
        stdout.split_once("=== message 1 from <ups@demo.invalid> to <you@demo.invalid>\n").unwrap();
    assert!(message.starts_with("Received: from ups.demo.invalid ([127.0.0.1])\n"), "{message}");
    assert!(message.contains("\nSubject: UPS on battery\n"), "{message}");
    assert!(message.contains("\n\nUtility power failed."), "{message}");
    assert!(message.contains("=== end of message 1, "), "{message}");
    let spool = stdout.lines().find_map(|line| line.trim().strip_prefix("its spool is")).unwrap();
    let folder = Path::new(spool.trim()).parent().unwrap();
    assert!(!folder.exists(), "{} is left behind", folder.display());
}

#[test]
fn the_demo_goes_on_until_it_is_interrupted() {
    let mut demo = postern(&["demo"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(demo.stdout.take().unwrap());
    let through = stdout.lines().map_while(Result::ok).find(|line| line.contains("gone the whole way"));
    assert!(through.is_some());
    assert!(demo.try_wait().unwrap().is_none(), "it goes on");
    let killed = Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(demo.wait().unwrap().code(), Some(0));
    let mut stderr = String::new();
    demo.stderr.unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "");
}

/// A bad configuration ends with one line that names file, key and what is allowed, and with EX_CONFIG.
#[test]
fn a_bad_configuration_ends_with_one_line_and_78() {
    let folder = folder("bad-configuration");
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use = busy.local_addr().unwrap();
    let spool = folder.join("spool");
    let missing = folder.join("missing/spool");
    let free = "127.0.0.1:0";
    let cases = [
        (
            "unknown key",
            configuration(free, &spool, "sise = 5"),
            ":9: spool.sise: is not a key",
            "allowed here: path",
        ),
        (
            "wrong type",
            configuration(free, &spool, "[quirks]\nbare_lf = 1"),
            ":10: quirks.bare_lf: is 1; ",
            "\"refuse\"",
        ),
        (
            "bad network",
            format!("allow = [\"0.0.0.0/0\"]\n{}", configuration(free, &spool, "")),
            ":1: allow: is \"0.0.0.0/0\", which makes an open relay; ",
            "/8 or longer",
        ),
        (
            "spool in a missing folder",
            configuration(free, &missing, ""),
            ": spool.path: ",
            "make it, or set another",
        ),
        (
            "port in use",
            configuration(&in_use.to_string(), &spool, ""),
            ": listen: 127.0.0.1:",
            "set another port",
        ),
        (
            "an interface that is not there",
            configuration("no-such-if:0", &spool, ""),
            ": listen: no-such-if:0: ",
            "",
        ),
    ];
    for (what, text, start, allowed) in cases {
        let path = folder.join("postern.toml");
        std::fs::write(&path, &text).unwrap();
        let path = path.to_str().unwrap();
        let (code, stdout, stderr) = run(&["serve", "--config", path]);
        let [line] = stderr.lines().collect::<Vec<_>>()[..] else { panic!("{what}: not one line: {stderr}") };
        assert!(line.starts_with(&format!("postern: {path}{start}")), "{what}: {line}");
        assert!(line.contains(allowed), "{what}: {line}");
        assert_eq!((code, stdout.as_str()), (78, ""), "{what}");
    }
}

#[test]
fn a_file_that_is_no_configuration_ends_with_one_line_and_78() {
    let folder = folder("no-configuration");
    let path = folder.join("postern.toml");
    let shown = path.display().to_string();
    let check = |octets: &[u8]| {
        std::fs::write(&path, octets).unwrap();
        run(&["check", "--offline", "--config", &shown])
    };
    let missing = folder.join("missing.toml");
    let (code, _, stderr) = run(&["serve", "--config", missing.to_str().unwrap()]);
    assert_eq!(code, 78);
    assert!(stderr.starts_with(&format!("postern: {}: can't be opened (", missing.display())), "{stderr}");
    assert!(stderr.ends_with("; name the configuration with --config FILE\n"), "{stderr}");
    let expected = format!("postern: {shown}:2: is not UTF-8, as TOML must be\n");
    assert_eq!(check(b"log = \"info\"\n# \xff\n"), (78, String::new(), expected));
    let expected = format!("postern: {shown}: is too long; at most 65536 octets are allowed\n");
    assert_eq!(check(&[b'#'; 65_537]), (78, String::new(), expected));
    let good = configuration("127.0.0.1:0", &folder.join("spool"), "");
    assert_eq!(check(good.as_bytes()), (0, "ok\n".to_owned(), String::new()));
    assert!(!folder.join("spool").exists(), "a check changes nothing");
}

/// SEC-file-a: a check finds what a start would refuse in the certificate that clients are shown.
#[test]
fn a_check_reads_the_certificate_of_listeners() {
    let folder = folder("listener-certificate");
    let (certificate, key) = (folder.join("own.pem"), folder.join("own.key"));
    let table = format!("[listener_tls]\ncertificate = {certificate:?}\nkey = {key:?}");
    let path = folder.join("postern.toml");
    let text = configuration("127.0.0.1:0", &folder.join("spool"), &table);
    let listener = r#"{ address = "127.0.0.1:0", tls = "starttls" }"#;
    std::fs::write(&path, text.replace(r#""127.0.0.1:0""#, listener)).unwrap();
    let check = || run(&["check", "--offline", "--config", path.to_str().unwrap()]);
    let refusal = |key: &str, file: &Path, what: &str| {
        let line = format!("postern: {}: listener_tls.{key}: {}: {what}\n", path.display(), file.display());
        (78, String::new(), line)
    };
    let pair = |name: &str, end: &str| {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/tls/{name}.{end}"))).unwrap()
    };
    let write_key = |octets: &[u8], mode: u32| {
        std::fs::write(&key, octets).unwrap();
        std::fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
    };
    assert_eq!(check(), refusal("certificate", &certificate, "does not exist"));
    std::fs::write(&certificate, pair("ec", "pem")).unwrap();
    assert_eq!(check(), refusal("key", &key, "does not exist"));
    write_key(&pair("rsa", "key"), 0o600);
    assert_eq!(check(), refusal("key", &key, "is not the key of the certificate"));
    write_key(&pair("ec", "key"), 0o644);
    assert_eq!(check(), refusal("key", &key, "may be read by others; set its mode to 0600 or 0640"));
    write_key(&pair("ec", "key"), 0o640);
    assert_eq!(check(), (0, "ok\n".to_owned(), String::new()));
    std::fs::write(&certificate, "no certificate\n").unwrap();
    assert_eq!(check(), refusal("certificate", &certificate, "has no certificate in PEM"));
    assert!(!folder.join("spool").exists(), "a check changes nothing");
}

#[test]
fn what_the_command_line_can_ask_for() {
    let (code, stdout, _) = run(&["--version"]);
    assert_eq!(code, 0);
    assert!(stdout.starts_with(&format!("postern {} (board ", env!("CARGO_PKG_VERSION"))), "{stdout}");
    let (code, stdout, _) = run(&["limits"]);
    assert_eq!(code, 0);
    assert!(stdout.starts_with(&format!("board {},", postern::limits::BOARD)), "{stdout}");
    let (code, stdout, _) = run(&["--help"]);
    assert!(code == 0 && stdout.contains("postern demo"), "{stdout}");
    let (code, stdout, stderr) = run(&["frobnicate"]);
    assert_eq!((code, stdout.as_str()), (64, ""));
    assert_eq!(stderr, "postern: there is no applet \"frobnicate\"; see postern --help\n");
}
