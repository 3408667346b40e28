//! What a relay may say to `sendmail`, by a script: each reply has its exit code, and a busy relay is asked
//! again.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;

use crate::world::{Ended, World};

/// Runs `sendmail` against a relay that gives these replies, one a command and one for the mail data, a
/// connection a script; it closes where a script ends. An empty reply is none.
fn against(scripts: &[&[&str]], world: &World) -> Ended {
    let path = world.folder.join("submit.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("the folder is ours");
    let scripts: Vec<Vec<String>> =
        scripts.iter().map(|script| script.iter().map(|reply| (*reply).to_owned()).collect()).collect();
    let relay = std::thread::spawn(move || {
        for script in scripts {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
            for (at, reply) in script.iter().enumerate() {
                let is_behind_data = at > 0 && script[at - 1].starts_with("354");
                let ends = |line: &String| !is_behind_data || line == ".";
                if at > 0 && !lines.by_ref().map_while(Result::ok).any(|line| ends(&line)) {
                    break;
                }
                if !reply.is_empty() {
                    stream.write_all(format!("{reply}\r\n").as_bytes()).expect("it listens");
                }
            }
        }
    });
    let ended = world.sendmail(&["-f", "me@y.example", "a@x.example"], b"Subject: x\n\nx\n");
    relay.join().expect("the script was followed");
    ended
}

/// SM-c.
#[test]
fn each_refusal_has_its_exit_code() {
    let world = World::new("replies", "");
    let (hello, yes, go) = ("220 box.example", "250 2.1.0 ok", "354 go");
    for (script, code, told) in [
        (&[hello, yes, "552 5.3.4 too large"][..], 65, "sender \"me@y.example\": 552 5.3.4 too large"),
        (&[hello, yes, "452 4.3.1 full"], 75, "sender \"me@y.example\": 452 4.3.1 full"),
        (&[hello, yes, yes, "550 5.1.1 no"], 67, "recipient \"a@x.example\": 550 5.1.1 no"),
        (&[hello, yes, yes, "550 no"], 67, "recipient \"a@x.example\": 550 no"),
        (&[hello, yes, yes, "550 5.1.2 no"], 68, "recipient \"a@x.example\": 550 5.1.2 no"),
        (
            &[hello, yes, yes, "550-5.7.1 no\r\n550 5.7.1 never"],
            77,
            "recipient \"a@x.example\": 550 5.7.1 never",
        ),
        (&[hello, yes, yes, "450 4.2.1 later"], 75, "recipient \"a@x.example\": 450 4.2.1 later"),
        (&[hello, yes, yes, yes, "554 5.5.1 no"], 69, "the message: 554 5.5.1 no"),
        (&[hello, yes, yes, yes, go, "554 5.6.0 no"], 65, "the message: 554 5.6.0 no"),
        (&[hello, yes, yes, yes, go, "451 4.3.0 later"], 75, "the message: 451 4.3.0 later"),
        (&["554 5.0.0 no"], 69, "the relay: 554 5.0.0 no"),
        (&["hello"], 74, "the relay speaks no SMTP"),
        (
            &[hello, yes, yes, yes, go, ""],
            75,
            "the relay closed the connection; the message may have been taken all the same",
        ),
    ] {
        let ended = against(&[script], &world);
        assert_eq!((ended.code, ended.stderr), (code, format!("postern: {told}\n")), "{script:?}");
    }
}

/// A relay that is busy, or goes away before it has the message, is asked again; nothing is lost and nothing
/// sent twice.
#[test]
fn a_busy_relay_is_asked_again() {
    let world = World::new("busy", "");
    let (hello, yes, go) = ("220 box.example", "250 2.1.0 ok", "354 go");
    let busy = "421 4.3.2 busy";
    let all = [hello, yes, yes, yes, go, "250 2.0.0 taken"];
    let scripts: [&[&str]; 6] =
        [&[busy], &[hello, yes, busy], &[hello, yes, yes], &[hello, yes, yes, yes, go, busy], &[], &all];
    let ended = against(&scripts, &world);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
}
