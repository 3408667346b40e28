//! While no relay runs: straight into the spool, or 75.

use std::process::Command;

use crate::world::{World, ended, is_root, open_to_all};

/// SM-c: what is handed in while no relay runs is there when it starts; nothing is made that wasn't there.
#[test]
fn a_message_waits_in_the_spool_for_the_relay() {
    let mut world = World::new("waits", "");
    let spool = world.folder.join("spool");
    let early = world.sendmail(&["a@x.example"], b"\nx\n");
    assert_eq!(early.code, 75);
    let expected = format!("the spool {}: not made yet; start the relay first\n", spool.display());
    assert!(early.stderr.starts_with("postern: no relay listens at ") && early.stderr.ends_with(&expected));
    assert!(!spool.exists());

    world.start();
    world.stop();
    let octets = spool.metadata().expect("it was made").len();
    let body = "A line of the message that is as long as usual, more or less.\r\n".repeat(1000);
    for number in 0..3 {
        let to = format!("a{number}@x.example");
        let ended = world.sendmail(&["-v", &to], format!("Subject: x\r\n\r\n{body}").as_bytes());
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
        assert!(ended.stdout.starts_with("250 2.0.0 Queued as "), "{}", ended.stdout);
    }
    // A refusal leaves nothing behind.
    assert_eq!(world.sendmail(&["a3@x.example", "\"a b\"c@y.example"], b"\nx\n").code, 65);
    assert_eq!(spool.metadata().expect("it was made").len(), octets);
    world.start();
    // Two connections carry them: which is through first is open.
    let mut all: Vec<_> = (0..3).map(|_| world.next()).collect();
    all.sort_by(|one, other| one.to.cmp(&other.to));
    for (number, arrived) in all.iter().enumerate() {
        assert_eq!(arrived.to, [format!("a{number}@x.example")]);
        assert_eq!(arrived.body(), body);
        let uid = if is_root() { "(uid 0)" } else { "(uid " };
        assert!(arrived.data.starts_with("Received: from box.example (uid ") && arrived.data.contains(uid));
        assert_eq!(arrived.fields("Message-ID").len(), 1);
    }
    world.assert_quiet();
}

/// SM-c: a file that is no spool is left alone.
#[test]
fn a_foreign_file_is_left_alone() {
    let world = World::new("foreign", "");
    let spool = world.folder.join("spool");
    for octets in [&b""[..], b"precious", &[0x5a; 8192]] {
        std::fs::write(&spool, octets).expect("the folder is ours");
        let ended = world.sendmail(&["a@x.example"], b"\nx\n");
        assert_eq!(ended.code, 75, "{ended:?}");
        assert_eq!(std::fs::read(&spool).expect("it is there"), octets);
    }
    assert_eq!(std::fs::read_dir(&world.folder).expect("it is ours").count(), 2, "nothing else was made");
}

/// SM-c: who may not write to the spool gets 75, and through the socket everybody gets in.
#[test]
fn another_user() {
    if !is_root() {
        return;
    }
    let mut world = World::new("another", "");
    open_to_all(&world.folder);
    let program = world.folder.join("postern");
    std::fs::copy(env!("CARGO_BIN_EXE_postern"), &program).expect("the folder is ours");
    let config = world.folder.join("postern.toml").display().to_string();
    let call = |world: &World| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        let _ = world;
        ended(command.args(["sendmail", "-C", &config, "a@x.example"]), b"\nx\n")
    };
    world.start();
    assert_eq!((call(&world).code, world.next().data.contains("(uid 65534)")), (0, true));
    world.stop();
    let refused = call(&world);
    assert_eq!(refused.code, 75);
    assert!(refused.stderr.contains("Permission denied"), "{}", refused.stderr);
}
