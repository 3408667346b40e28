//! Requests to a relay at work, and their answers, read in large and small pieces.

use postern::buffer::{Buffer, Window};
use postern::relay::control::{ANSWER_OCTETS, Control, Outside, REQUEST_OCTETS_MAX};
use postern::smtp::Next;
use postern::spool::{BlockIndex, DeviceError};
use postern::time::Duration;

use crate::disk::{Call, Effect, Fault};
use crate::world::World;

const OUTSIDE: Outside = Outside {
    resident_octets: 2048 * 1024,
    peak_octets: 4096 * 1024,
    log_lines_dropped: 7,
    is_spool_volatile: true,
};

/// A tool's end of a connection.
pub(crate) struct Tool {
    control: Control,
    input: (Vec<u8>, Window),
    output: (Vec<u8>, Window),
    heard: Vec<u8>,
    is_over: bool,
}

impl Tool {
    fn ask(world: &mut World, line: &str) -> Self {
        let mut tool = Self {
            control: Control::new(),
            input: (vec![0; REQUEST_OCTETS_MAX], Window::default()),
            output: (vec![0; ANSWER_OCTETS], Window::default()),
            heard: Vec::new(),
            is_over: false,
        };
        // A request may come in pieces.
        for octet in line.bytes() {
            Buffer::new(&mut tool.input.0, &mut tool.input.1).append(&[octet]);
            tool.advance(world);
        }
        tool
    }

    fn advance(&mut self, world: &mut World) {
        let mut input = Buffer::new(&mut self.input.0, &mut self.input.1);
        let mut output = Buffer::new(&mut self.output.0, &mut self.output.1);
        let next = self.control.advance(&world.now, &mut input, &mut output, &mut world.relay, |_| OUTSIDE);
        self.is_over = next == Next::Close;
    }

    /// Reads at most so many octets of the answer; false at its end.
    fn read(&mut self, world: &mut World, octets: usize) -> bool {
        let mut output = Buffer::new(&mut self.output.0, &mut self.output.1);
        let count = output.len().min(octets);
        self.heard.extend_from_slice(&output.octets()[..count]);
        output.consume(count);
        if self.is_over {
            return count > 0;
        }
        let was_waiting = count == 0 && !self.control.is_runnable();
        assert!(!was_waiting || self.control.is_committing(), "it waits for nothing");
        if self.control.is_committing() {
            world.turn();
        }
        self.advance(world);
        true
    }

    fn read_all(mut self, world: &mut World, octets: usize) -> (String, String) {
        let mut reads = 0;
        while self.read(world, octets) {
            reads += 1;
            assert!(reads < 1_000_000, "it never ends");
        }
        split(&self.heard)
    }
}

/// The body and the last line of an answer.
fn split(mut heard: &[u8]) -> (String, String) {
    let mut body = Vec::new();
    loop {
        let (digits, rest) = heard.split_at(4);
        let octets = usize::from_str_radix(std::str::from_utf8(digits).expect("digits"), 16).expect("digits");
        if octets == 0 {
            let end = String::from_utf8(rest.to_vec()).expect("our own words");
            let body = String::from_utf8_lossy(&body).into_owned();
            return (body, end.strip_suffix('\n').expect("a line").to_owned());
        }
        body.extend_from_slice(&rest[..octets]);
        heard = &rest[octets..];
    }
}

fn answer(world: &mut World, line: &str) -> (String, String) {
    let tool = Tool::ask(world, line);
    tool.read_all(world, usize::MAX)
}

#[test]
fn an_empty_queue() {
    let mut world = World::new();
    let (body, end) = answer(&mut world, "queue\n");
    assert_eq!(body, "smarthost 192.0.2.25: not connected, nothing is against it\nno message waits\n");
    assert_eq!(end, "0 ");
    let (body, _) = answer(&mut world, "queue json\n");
    let route = r#"{"host":"192.0.2.25","state":"closed","next_try_s":null,"faulty_for_s":null,"fault":null,"reply":null}"#;
    let rest = r#""waiting":0,"damaged":0,"disk_fails":false,"messages":[]}"#;
    assert_eq!(body, format!("{{\"routes\":[{route}],\n{rest}\n"));
}

#[test]
fn why_each_message_waits() {
    let mut world = World::new();
    let paths = "MAIL FROM:<ups@site.example>\r\nRCPT TO:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n";
    let id = world.submit(paths, "x: y\r\n\r\nz\r\n");
    let (at, _) = world.connect();
    world.say(at, b"250 fine\r\n");
    world.say(at, b"550 5.1.1 no \"such\" user\x07\r\n");
    world.say(at, b"451 4.7.1 greylisted\r\n");
    let other = world.submit_to("e@f.example");
    world.now.instant = world.now.instant + Duration::from_s(30);
    let (body, end) = answer(&mut world, "queue\n");
    let of = "from 192.0.2.7 (ups.example) <ups@site.example>";
    let expected = format!(
        "smarthost 192.0.2.25: works\n2 messages wait\n\
         \n{id}  30s old, 11 octets, {of}\n    is being sent now; notices owed: 1\n    \
         last reply: 451 4.7.1 greylisted\n    failed    <a@b.example>: 550 5.1.1 no \"such\" user?\n    \
         waiting   <c@d.example>\n\
         \n{other}  30s old, 11 octets, {of}\n    goes as soon as the route is there\n    \
         waiting   <e@f.example>\n"
    );
    assert_eq!(body, expected);
    assert_eq!(end, "0 ");
    let (json, _) = answer(&mut world, "queue json\n");
    for part in [
        r#""last_reply":"451 4.7.1 greylisted","recipients":[{"forward_path":"a@b.example","state":"failed","#,
        r#""reply":"550 5.1.1 no \"such\" user?"},{"forward_path":"c@d.example","state":"waiting","#,
        r#""octets":11,"state":"ready","next_try_s":0,"client":"192.0.2.7","client_name":"ups.example","#,
    ] {
        assert!(json.contains(part), "{json}");
    }
}

/// Whatever the size of the reads, and whatever comes and goes between them: each message once, and no later
/// one.
#[test]
fn a_long_answer_under_changes() {
    for octets in [1, 7, 100, 4096] {
        let mut world = World::new();
        let ids: Vec<_> = (0..30).map(|n| world.submit_to(&format!("r{n}@b.example"))).collect();
        let mut tool = Tool::ask(&mut world, "queue\n");
        let mut turns = 0_usize;
        while tool.read(&mut world, octets) {
            turns += 1;
            if turns % (8000 / octets).max(1) == 1 && turns < 100_000 {
                let later = world.submit_to("later@b.example");
                assert_eq!(world.relay.remove(later), postern::relay::Removal::Removed);
                world.submit_to("later@b.example");
            }
        }
        let (body, end) = split(&tool.heard);
        assert_eq!(end, "0 ");
        for id in ids {
            assert_eq!(body.matches(&format!("\n{id}  ")).count(), 1, "{body}");
        }
        assert!(!body.contains("later"), "{body}");
    }
}

#[test]
fn a_message_that_leaves_while_it_is_shown() {
    let mut world = World::new();
    let recipients: String = (0..150).map(|n| format!("RCPT TO:<recipient-{n}@b.example>\r\n")).collect();
    let id = world.submit(&format!("MAIL FROM:<ups@site.example>\r\n{recipients}"), "x\r\n");
    for line in ["queue\n", "queue json\n"] {
        let mut tool = Tool::ask(&mut world, line);
        assert!(tool.read(&mut world, 100));
        assert_eq!(world.relay.remove(id), postern::relay::Removal::Removed);
        let (body, end) = tool.read_all(&mut world, 100);
        let left = if line == "queue\n" { "    has left meanwhile\n" } else { "],\"has_left\":true}]}\n" };
        assert!(body.ends_with(left), "{body}");
        assert_eq!(end, "0 ");
        world.turn();
        world = World::new();
        world.submit(&format!("MAIL FROM:<ups@site.example>\r\n{recipients}"), "x\r\n");
    }
    let mut world = World::new();
    let id = world.submit(
        "MAIL FROM:<ups@site.example>\r\nRCPT TO:<a@b.example>\r\n",
        &"0123456789abcdef\r\n".repeat(1000),
    );
    let mut tool = Tool::ask(&mut world, &format!("show {id}\n"));
    assert!(tool.read(&mut world, 100));
    world.relay.remove(id);
    let (_, end) = tool.read_all(&mut world, 100);
    assert_eq!(end, format!("75 {id} has left the spool meanwhile"));
}

#[test]
fn a_message_is_shown_as_it_stands() {
    let mut world = World::new();
    let data = format!("x: y\r\n\r\n{}", "0000 \x04\x1b[2J\r\n".repeat(2000));
    let id = world.submit("MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n", &data);
    for octets in [13, 4096] {
        let tool = Tool::ask(&mut world, &format!("show {id}\n"));
        let (body, end) = tool.read_all(&mut world, octets);
        assert!(body == data, "{}", body.len());
        assert_eq!(end, "0 ");
    }
    assert_eq!(
        answer(&mut world, "show 99-1\n"),
        (String::new(), "66 there is no message 99-1 in the spool".into())
    );
}

#[test]
fn what_is_left_of_a_damaged_message() {
    let mut world = World::new();
    let id = world.submit(
        "MAIL FROM:<ups@site.example>\r\nRCPT TO:<a@b.example>\r\n",
        &"0123456789abcdef\r\n".repeat(1000),
    );
    let first = (2..256).map(BlockIndex).find(|at| world.disk.peek(*at).windows(7).any(|w| w == b"abcdef\r"));
    world.disk.spoil(first.expect("the message's first block"), |block| block[2000] ^= 1);
    world.submit_to("c@d.example");
    let mut world = world.after_power_cut(false);
    let (body, _) = answer(&mut world, "queue\n");
    assert!(body.contains("\n1 message waits\n1 damaged: never sent; "), "{body}");
    assert!(body.contains(&format!("\n{id}  damaged\n")), "{body}");
    let (json, _) = answer(&mut world, "queue json\n");
    assert!(json.contains(&format!("{{\"id\":\"{id}\",\"state\":\"damaged\",\"recipients\":[]}}")), "{json}");
    let (body, end) = answer(&mut world, &format!("show {id}\n"));
    assert_eq!(end, format!("65 {id} is damaged: this is what is left"));
    assert!(body.contains(", damaged]\n") && body.contains(", as it was written]\n"), "{body}");
    let whole = body.matches("0123456789abcdef").count();
    assert!((990..1000).contains(&whole), "{whole} lines of 1,000 are there and not over a block's end");
    let (_, end) = answer(&mut world, &format!("remove {id}\n"));
    assert_eq!(end, format!("0 {id} is removed"));
}

#[test]
fn removals_are_confirmed_when_they_are_durable() {
    let mut world = World::new();
    let ids: Vec<_> = (0..40).map(|n| world.submit_to(&format!("r{n}@b.example"))).collect();
    let (_, end) = answer(&mut world, &format!("remove {}\n", ids[7]));
    assert_eq!(end, format!("0 {} is removed", ids[7]));
    assert_eq!(world.after_power_cut(false).ids().len(), 39);
    let (at, _) = world.connect();
    let (_, end) = answer(&mut world, &format!("remove {}\n", ids[0]));
    let text = "is being sent now; what is left of it is removed when that is over";
    assert_eq!(end, format!("75 {} {text}", ids[0]));
    let (_, end) = answer(&mut world, "remove all\n");
    let text = "being sent now: what is left is removed when that is over";
    assert_eq!(end, format!("75 removed 38 messages; 1 more {text}"));
    assert_eq!(world.after_power_cut(false).ids(), [ids[0]]);
    world.say(at, b"451 later\r\n");
    assert_eq!(world.ids(), []);
    let (_, end) = answer(&mut world, "remove all\n");
    assert_eq!(end, "0 removed 0 messages");
}

#[test]
fn a_removal_on_a_failing_disk_is_not_confirmed() {
    let mut world = World::new();
    let id = world.submit_to("a@b.example");
    world.submit_to("c@d.example");
    let fault = Fault { call: Call::Sync, skip: 0, times: 99, error: DeviceError::Io, effect: Effect::Whole };
    world.disk.fail(fault);
    let mut tool = Tool::ask(&mut world, &format!("remove {id}\n"));
    assert!(tool.control.is_committing());
    world.turn();
    tool.advance(&mut world);
    assert!(tool.control.is_committing());
    let (_, end) = answer(&mut world, "remove all\n");
    assert_eq!(end, "74 the disk fails: nothing can be removed now");
    world.now.instant = tool.control.deadline().expect("it has an end");
    tool.advance(&mut world);
    let (_, end) = tool.read_all(&mut world, 4096);
    let text = "the disk fails: what was removed is not sent, but may be back after a restart";
    assert_eq!(end, format!("74 {text}"));
}

#[test]
fn retries() {
    let mut world = World::new();
    let id = world.submit_to("a@b.example");
    let (at, _) = world.connect();
    assert_eq!(answer(&mut world, &format!("retry {id}\n")).1, format!("0 {id} is being sent already"));
    world.say(at, b"451 4.7.1 greylisted\r\n");
    let (body, _) = answer(&mut world, "queue\n");
    assert!(
        body.contains("    next try in ") && body.contains("    last reply: 451 4.7.1 greylisted\n"),
        "{body}"
    );
    assert_eq!(answer(&mut world, &format!("retry {id}\n")).1, format!("0 {id} is tried now"));
    world.say(at, b"");
    assert_eq!(answer(&mut world, "retry\n").1, "0 trying 1 message now");
    assert_eq!(answer(&mut world, "retry 99-1\n").1, "66 there is no message 99-1 in the spool");
}

#[test]
fn what_is_no_request() {
    let mut world = World::new();
    for line in ["\n", "help\n", "queue\r\n", "remove *\n", "GET / HTTP/1.1\n"] {
        assert_eq!(answer(&mut world, line).1, "64 this version does not know the request", "{line}");
    }
    let long = "x".repeat(REQUEST_OCTETS_MAX);
    assert_eq!(answer(&mut world, &long).1, "64 the request is too long");
}

#[test]
fn how_the_relay_is() {
    let mut world = World::new();
    world.submit("MAIL FROM: <ups@site.example>\r\nRCPT TO:<a@b.example>\r\n", "x: y\r\n\r\nz\r\n");
    let (at, _) = world.connect();
    world.say(at, b"250 fine\r\n");
    world.say(at, b"250 fine\r\n");
    world.say(at, b"354 go on\r\n");
    world.say(at, b"250 taken\r\n");
    world.submit_to("c@d.example");
    world.hear("BDAT\r\nRCPT TO:<x@y>\r\n");
    world.now.instant = world.now.instant + Duration::from_s(90);
    let (body, end) = answer(&mut world, "status\n");
    assert_eq!(end, "0 ");
    let version = env!("CARGO_PKG_VERSION");
    let board = postern::limits::BOARD;
    let start = format!("postern {version} on board {board}, up for 1m\nspool /var/spool/postern/spool: ");
    assert!(body.starts_with(&start), "{body}");
    for part in [
        " of 256 blocks in use, 1 of ",
        " messages wait, 0 damaged\n    it is in memory: the mail in it is lost with the power\n",
        "\n1 of ",
        " clients connected, 1 of ",
        "\nsince the start: received 2, relayed 1, deferred 0, failed 0, bounced 0, expired 0, removed 0, \
         damaged 0, refused 2, sessions 1, evicted 0, connections 1, syncs ",
        "\nmemory: 2048 KiB, at most 4096 KiB; ",
        "\n7 lines of the log were dropped: its reader is slow\n",
        "\nsmarthost 192.0.2.25: works\n",
        "\n192.0.2.7: seen 1m ago, messages 2, connected 1, quirks space_after_colon 1\n    \
         refused 2, last: 503 5.5.1 MAIL first\n",
    ] {
        assert!(body.contains(part), "{part} is not in {body}");
    }
    let (json, end) = answer(&mut world, "status json\n");
    assert_eq!(end, "0 ");
    for part in [
        "\"up_s\":90,\"clock_is_set\":true,\n\"spool\":{\"path\":\"/var/spool/postern/spool\",\"blocks\":256,",
        ",\"waiting\":1,\"damaged\":0,\"volatile\":true,\"fails\":false},\n\"damaged_messages\":[],\n\
         \"unreadable_blocks\":{\"count\":0,\"first\":[]},\n\"clients_connected\":1,",
        "\"counters\":{\"received\":2,\"relayed\":1,",
        "},\n\"resident_octets\":2097152,\"peak_octets\":4194304,",
        ",\"log_lines_dropped\":7,\n\"routes\":[{\"host\":\"192.0.2.25\",",
        "],\n\"clients\":[\n{\"client\":\"192.0.2.7\",\"seen_s\":90,\"messages\":2,\"tls\":false,\"connected\":1,\
         \"refused\":2,\"last_refusal\":\"503 5.5.1 MAIL first\",\"quirks\":{\"space_after_colon\":1}}]}\n",
    ] {
        assert!(json.contains(part), "{part} is not in {json}");
    }
}

/// SEC-crash-a: whoever asks how the relay is hears of each damaged message, and of blocks that can't be
/// read.
#[test]
fn what_the_spool_could_not_read() {
    let mut world = World::new();
    let count = 20;
    let ids: Vec<_> = (0..count).map(|n| world.submit_to(&format!("r{n}@b.example"))).collect();
    let mut heads: Vec<BlockIndex> = (2..256)
        .map(BlockIndex)
        .filter(|at| world.disk.peek(*at).windows(10).any(|window| window == b"@b.example"))
        .collect();
    assert_eq!(heads.len(), count);
    let last = heads.pop().expect("a head");
    world.disk.spoil(last, |block| block.fill(0xa5));
    for head in &heads {
        world.disk.spoil(*head, |block| block[600] ^= 1);
    }
    world.submit_to("c@d.example");
    let mut world = world.after_power_cut(false);
    let (body, _) = answer(&mut world, "status\n");
    assert!(body.contains(", 1 of ") && body.contains(" messages wait, 19 damaged\n"), "{body}");
    let first = format!(
        "\n    {id} in block {} is damaged and never sent: see what is left of it by \"queue show {id}\", \
         then \"queue remove {id}\"\n",
        heads[0].0,
        id = ids[0]
    );
    assert!(body.contains(&first), "{first} is not in {body}");
    assert_eq!(body.matches("is damaged and never sent").count(), 16);
    assert!(body.contains("\n    and 3 more: see \"queue\"\n    1 block could not be read"), "{body}");
    let told = format!("    1 block could not be read at the start: {}; not used until it can be\n", last.0);
    assert!(body.contains(&told), "{told} is not in {body}");
    let (json, _) = answer(&mut world, "status json\n");
    let first = format!("\n\"damaged_messages\":[{{\"id\":\"{}\",\"block\":{}}},{{", ids[0], heads[0].0);
    assert!(json.contains(&first), "{first} is not in {json}");
    let unreadable = format!("}}],\n\"unreadable_blocks\":{{\"count\":1,\"first\":[{}]}},", last.0);
    assert!(json.contains(&unreadable), "{unreadable} is not in {json}");
    for id in &ids[..count - 1] {
        assert_eq!(answer(&mut world, &format!("remove {id}\n")).1, format!("0 {id} is removed"));
    }
    let (body, _) = answer(&mut world, "status\n");
    assert!(body.contains(" messages wait, 0 damaged\n") && !body.contains("never sent"), "{body}");
    assert!(body.contains(&told), "{body}");
}

#[test]
fn a_message_that_cannot_be_read_now() {
    let mut world = World::new();
    let id = world.submit_to("a@b.example");
    let block =
        (2..256).map(BlockIndex).find(|at| world.disk.peek(*at).windows(9).any(|w| w == b"a@b.examp"));
    world.disk.make_unreadable(block.expect("the message's block"));
    let (body, end) = answer(&mut world, "queue\n");
    assert!(body.ends_with(&format!("\n{id}  unreadable\n")), "{body}");
    assert_eq!(end, "0 ");
    let (body, _) = answer(&mut world, "queue json\n");
    let shown = format!("{{\"id\":\"{id}\",\"state\":\"unreadable\",\"recipients\":[]}}]}}\n");
    assert!(body.ends_with(&shown), "{body}");
    let (_, end) = answer(&mut world, &format!("show {id}\n"));
    assert_eq!(end, format!("65 {id} is damaged: this is what is left"));
    let (_, end) = answer(&mut world, &format!("remove {id}\n"));
    assert_eq!(end, format!("0 {id} is removed"));
    assert_eq!(world.after_power_cut(false).ids(), []);
}
