//! Several messages in one segment, over the whole relay: each gets its own commit (PIPE-a, S-4.1.1.4-e).

mod disk;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use disk::Disk;
use postern::config::Config;
use postern::receiver::Peer;
use postern::relay::Relay;
use postern::spool::{Start, Store};
use postern::time::{Instant, Now, Wall};

const CONFIG: &str = "hostname = \"relay.example\"\n[smarthost]\nhost = \"192.0.2.25\"\ntls = \"none\"\n";
const MESSAGE: &[u8] = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n";

#[test]
fn each_of_several_messages_in_one_segment_waits_for_its_own_sync() {
    let now = Now { instant: Instant(1000), wall: Wall { unix_s: 1_795_510_800, is_trusted: true } };
    let config = Config::parse(CONFIG, Path::new("postern.toml"), "relay").expect("the file is valid");
    let start = Start { blocks: 256, seed: 1, now: now.instant };
    let (spool, _) = Store::start(Disk::new(0), start).expect("an empty disk becomes a spool");
    let mut relay = Relay::new(config, spool, 1);
    let client = relay.admit(&now, Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST), true)).expect("there is room");

    let said = [b"EHLO client.example\r\n", MESSAGE, MESSAGE, MESSAGE, b"QUIT\r\n"].concat();
    relay.space(client)[..said.len()].copy_from_slice(&said);
    relay.filled(&now, client, said.len());
    let syncs = relay.spool().syncs();
    let mut heard = String::new();
    let mut hear = |relay: &mut Relay<Disk>| {
        while !relay.output(client).is_empty() {
            heard.push_str(&String::from_utf8_lossy(relay.output(client)));
            relay.sent(&now, client, relay.output(client).len());
        }
        heard.clone()
    };
    hear(&mut relay);
    for turn in 1..=3 {
        assert!(relay.is_committing(client), "message {turn}");
        // Nobody will send anything more, so the relay itself must want its turn.
        assert!(relay.deadline(now.instant).is_some_and(|due| due <= now.instant), "message {turn}");
        relay.turn(&now);
        let heard = hear(&mut relay);
        assert_eq!(heard.matches("250 2.0.0 Queued").count(), turn);
        assert_eq!(relay.spool().syncs() - syncs, turn as u64);
    }
    let heard = hear(&mut relay);
    assert!(heard.ends_with("221 2.0.0 relay.example closing\r\n"), "{heard}");
    assert!(relay.is_closing(client));
}
