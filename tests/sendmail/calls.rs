//! The command line, the text on stdin, and the exit codes.

use std::io::{Read, Write};

use crate::world::World;

/// SM-a: what other sendmails know is taken in all its forms, and values are no addresses.
#[test]
fn options() {
    let world = World::started("options", "");
    for line in [
        "-i -oi -t -bm -v",
        "-itv -odb -oem -odi -ee -em",
        "-f me@y.example -r me@y.example -F Name -N never -R hdrs -V 1 -B 8BITMIME -h 5 -L tag -p smtp -O Timeout=1m -t",
        "-fme@y.example -rme@y.example -FName -Nsuccess,failure -Rfull -Vid=+1 -B7bit -h5 -Ltag -psmtp -OX=y -t",
        "-X /nonexistent/log -d0.1 -G -U -n -m -c -oQ/x -o i -oIgnoreDots -t",
        "-t -- -x@y.example",
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let ended = world.sendmail(&arguments, b"To: a@x.example\n\nx\n");
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{line}");
        assert_eq!(ended.stdout.starts_with("250 2.0.0 Queued as "), line.starts_with("-i"), "{line}");
        let arrived = world.next();
        assert!(arrived.to.ends_with(&["a@x.example".to_owned()]), "{line}: {:?}", arrived.to);
        assert_eq!(arrived.to[0] == "-x@y.example", line.contains("--"), "{line}");
    }
    let dsn = ["-N", "success,delay", "-R", "hdrs", "-V", "a b+c=d", "a@x.example"];
    let arrived = world.sent(&dsn, b"\nx\n");
    assert!(
        arrived.from.contains(" RET=HDRS") && arrived.from.contains(" ENVID=a+20b+2Bc+3Dd"),
        "{arrived:?}"
    );
    assert_eq!(arrived.parameters, ["NOTIFY=SUCCESS,DELAY"]);
}

/// SM-a, SM-c: what is no such command line is 64, and says why in one line.
#[test]
fn wrong_command_lines() {
    let world = World::started("wrong", "");
    for (line, told) in [
        ("", "no recipient is named"),
        ("-i", "no recipient is named"),
        ("a@x.example -t", "option \"-t\" stands behind an address"),
        ("-f", "option -f lacks a value"),
        ("-y", "there is no option \"-y\""),
        ("--config x", "there is no option \"--\""),
        ("-bd", "option -b is \"d\"; m, s, p or i is allowed; the daemon is \"postern serve\""),
        ("-bv a@x.example", "option -b is \"v\""),
        ("-q30m", "option -q is \"30m\""),
        ("-B binary a@x.example", "option -B is \"binary\""),
        ("-N sometimes a@x.example", "option -N is \"sometimes\""),
        ("-R some a@x.example", "option -R is \"some\""),
        ("-V \u{fc} a@x.example", "option -V is \"\u{fc}\""),
    ] {
        let arguments: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        let ended = world.sendmail(&arguments, b"To: a@x.example\n\nx\n");
        assert_eq!(ended.code, 64, "{line}: {ended:?}");
        assert!(ended.stderr.starts_with(&format!("postern: {told}")), "{line}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{line}");
    }
    world.assert_quiet();
}

/// SM-d: no argument brings a line into a command or a field.
#[test]
fn line_ends_in_arguments_are_refused() {
    let world = World::started("injection", "");
    let refused: [(&[&str], i32); 6] = [
        (&["-f", "a@x.example\nRCPT TO:<v@y.example>", "b@x.example"], 65),
        (&["-f", "a\r\n RCPT TO:<v@y.example>", "b@x.example"], 65),
        (&["-F", "Name\nBcc: v@y.example", "b@x.example"], 64),
        (&["a@x.example>\r\nRCPT TO:<v@y.example"], 65),
        (&["a@x.example,\n v@y.example"], 65),
        (&["-V", "x\r\nRCPT TO:<v@y.example>", "b@x.example"], 64),
    ];
    for (arguments, code) in refused {
        let ended = world.sendmail(arguments, b"Subject: x\n\nx\n");
        assert_eq!((ended.code, ended.stderr.lines().count()), (code, 1), "{arguments:?}: {ended:?}");
    }
    world.assert_quiet();
}

/// SM-b: lines end in CRLF, once; a lone dot ends the message unless `-i` says that it is text.
#[test]
fn text() {
    let world = World::started("text", "");
    let body = |arguments: &[&str], body: &str| {
        let arrived = world.sent(arguments, format!("Subject: x\n\n{body}").as_bytes());
        arrived.body().to_owned()
    };
    for flag in ["-i", "-oi"] {
        let arguments = [flag, "a@x.example"];
        assert_eq!(body(&arguments, "a\n.\nb\n..\n.c\n.\n"), "a\r\n.\r\nb\r\n..\r\n.c\r\n.\r\n");
    }
    assert_eq!(body(&["a@x.example"], "a\n..\n.\nb\n"), "a\r\n..\r\n");
    assert_eq!(body(&["a@x.example"], "a\r\nb\r\n.\r\nc\r\n"), "a\r\nb\r\n");
    assert_eq!(body(&["a@x.example"], "10 %\r20 %\rdone"), "10 %\r\n20 %\r\ndone\r\n");
    assert_eq!(body(&["a@x.example"], ""), "");
    let eight = world.sent(&["a@x.example"], "Subject: x\n\nü\n".as_bytes());
    assert!(eight.from.contains("BODY=8BITMIME") && eight.body() == "Ã¼\r\n", "{eight:?}");
    assert!(!world.sent(&["a@x.example"], b"\nu\n").from.contains("BODY"));
    let utf8 = world.sent(&["j\u{fc}rgen@x.example"], b"\nu\n");
    assert!(utf8.from.contains("SMTPUTF8"), "{}", utf8.from);
}

/// A message of any size up to the limit goes through as it is; one beyond it is 65.
#[test]
fn sizes() {
    let world = World::started("sizes", "[limits]\nmessage_size = \"200KB\"");
    for octets in [100_usize, 64 * 1024 - 1, 64 * 1024 + 1, 190_000] {
        let line = ".23456789012345678901234567890123456789012345678901234567890123456789012345678\r\n";
        let body = line.repeat(octets / line.len());
        let arrived = world.sent(&["-i", "a@x.example"], format!("Subject: x\r\n\r\n{body}").as_bytes());
        assert!(arrived.body() == body, "{octets}");
    }
    let ended = world.sendmail(&["a@x.example"], &b"x\n".repeat(100_000));
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (65, "postern: the message is larger than 200000 octets\n")
    );
    let ended = world.sendmail(&["a@x.example"], "a@x.example, ".repeat(50).as_bytes());
    assert_eq!(ended.code, 0, "a long line is no header section");
    assert!(world.next().body().contains("a@x.example, a@x.example"));
}

/// SM-c: the receiver's refusals, by their codes. None of the recipients gets a message that one is refused
/// for.
#[test]
fn refusals() {
    let world = World::started("refusals", "");
    let config = world.folder.join("postern.toml");
    let text = std::fs::read_to_string(&config).expect("it is there");
    std::fs::write(&config, format!("relay_to = [\"x.example\"]\n{}", text.replace("admin", "# admin")))
        .expect("it is ours");
    let mut world = world;
    world.stop();
    world.start();
    for (arguments, code, told) in [
        (["a@x.example", "root"], 67, "recipient \"root\": 550 5.1.1 "),
        (["a@x.example", "b@y.example"], 77, "recipient \"b@y.example\": 550 5.7.1 "),
    ] {
        let ended = world.sendmail(&arguments, b"Subject: x\n\nx\n");
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.stderr.starts_with(&format!("postern: {told}")), "{}", ended.stderr);
    }
    world.assert_quiet();
}

/// A writer that takes its time holds no session, and no other one up.
#[test]
fn a_slow_writer() {
    let world = World::started("slow", "[limits]\ncommand_timeout = \"4s\"\ndata_timeout = \"4s\"");
    let mut slow = world.command().arg("slow@x.example").spawn().expect("the program is built");
    let mut pipe = slow.stdin.take().expect("it is piped");
    pipe.write_all(b"Subject: begun\n\n").expect("it reads");
    assert_eq!(world.sent(&["quick@x.example"], b"\nx\n").to, ["quick@x.example"]);
    std::thread::sleep(std::time::Duration::from_millis(4200));
    pipe.write_all(b"done\n").expect("it still reads");
    drop(pipe);
    let output = slow.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let arrived = world.next();
    assert_eq!(
        (arrived.to, arrived.data.ends_with("\r\n\r\ndone\r\n")),
        (vec!["slow@x.example".to_owned()], true)
    );
}

/// `-bs` is a connection to the relay.
#[test]
fn smtp_on_stdin() {
    let world = World::started("smtp", "");
    let mut child = world.command().arg("-bs").spawn().expect("the program is built");
    let mut stdin = child.stdin.take().expect("it is piped");
    let commands = "EHLO me\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n";
    stdin.write_all(format!("{commands}Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n").as_bytes()).expect("it reads");
    let mut said = String::new();
    child.stdout.take().expect("it is piped").read_to_string(&mut said).expect("it says UTF-8");
    assert!(child.wait().expect("it ends").success());
    assert!(
        said.starts_with("220 ") && said.contains("\r\n250 2.0.0 Queued as ") && said.contains("\r\n221 ")
    );
    assert_eq!(world.next().to, ["b@x.example"]);
}

/// The names that other programs know, and what they do by them.
#[test]
fn names() {
    let world = World::started("names", "");
    let config = world.folder.join("postern.toml").display().to_string();
    for (name, arguments) in
        [("sendmail", &["-t"][..]), ("newaliases", &[]), ("mailq", &[]), ("sendmail", &["-q"])]
    {
        let link = world.folder.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_postern"), &link).expect("the folder is ours");
        }
        let mut command = std::process::Command::new(link);
        let ended =
            crate::world::ended(command.args(["-C", &config]).args(arguments), b"To: a@x.example\n\nx\n");
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{name}");
        assert_eq!(ended.stdout.contains("127.0.0.1"), name == "mailq", "{}", ended.stdout);
    }
    assert_eq!(world.next().to, ["a@x.example"]);
}
