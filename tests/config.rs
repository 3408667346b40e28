//! The configuration file: what each key may be, and the exact line that refuses what it may not be.
//!
//! Ids in comments are those of the requirements catalogue (SEC-relay-a: no open relay; SEC-loop-a: no relay
//! to itself; S-4.5.3.1.7-a: 64 KiB messages; S-4.5.3.2.7-a: the command timeout).

use std::path::Path;

use postern::config::{
    Alias, Auth, BareLf, Config, Folders, Listen, Listener, ListenerTls, Network, RelayTo, SecretFile,
    UntrustedClock, User,
};
use postern::limits;
use postern::smtp::quirk::Quirk;
use postern::time::Duration;

const SMALLEST: &str = "[smarthost]\nhost = \"192.0.2.25\"\ntls = \"none\"\n";

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("postern.toml"), "router").map_err(|error| error.to_string())
}

/// The line that refuses `text`, which must be one line.
fn refusal(text: &str) -> String {
    match parse(text) {
        Ok(config) => panic!("accepted: {text}\n{config:?}"),
        Err(line) => {
            assert!(!line.chars().any(char::is_control), "not one line: {line:?}");
            line
        }
    }
}

/// A text that is broken over lines in this file, as one line.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `lines` above the smallest configuration's table.
fn refusal_of_top(lines: &str) -> String {
    refusal(&format!("{lines}\n{SMALLEST}"))
}

/// `lines` in the smallest configuration's table and below.
fn refusal_below(lines: &str) -> String {
    refusal(&format!("{SMALLEST}{lines}\n"))
}

#[test]
fn the_smallest_file_has_the_documented_defaults() {
    let config = parse(SMALLEST).unwrap();
    assert_eq!(config.hostname, "router");
    assert_eq!(config.admin, None);
    let listen = Listen::Address("127.0.0.1:25".parse().unwrap());
    assert_eq!(config.listen, [Listener { listen, tls: ListenerTls::None, auth: Auth::Absent }]);
    assert_eq!(config.allow, [Network::Loopback, Network::OnLink]);
    assert_eq!((config.smarthosts[0].host.as_str(), config.smarthosts[0].port), ("192.0.2.25", 25));
    assert_eq!(config.smarthosts[0].connections, 1);
    assert!(config.smarthosts[0].discard.is_empty());
    assert_eq!(config.spool.path, Path::new("/var/spool/postern/spool"));
    assert_eq!(config.spool.octets, (4 << 20).min(limits::SPOOL_BLOCKS as u64 * 4096));
    assert!(!config.spool.volatile);
    assert_eq!(config.retry.first, Duration::from_min(1));
    assert_eq!(config.retry.longest, Duration::from_min(120));
    assert_eq!(config.retry.route_longest, Duration::from_min(5));
    assert_eq!(config.retry.auth, Duration::from_min(15));
    assert_eq!(config.retry.give_up, Duration::from_min(5 * 24 * 60));
    assert_eq!(config.retry.hold, Duration::from_min(30 * 24 * 60));
    assert_eq!(config.limits.message_octets, limits::MESSAGE_OCTETS);
    assert_eq!(config.limits.sessions, limits::RECEIVER_SESSIONS);
    assert_eq!(config.limits.sessions_per_client, limits::RECEIVER_SESSIONS);
    assert!(config.limits.command_timeout >= Duration::from_min(5));
    assert!(config.limits.data_timeout >= Duration::from_min(3));
    assert_eq!(config.quirks.bare_lf, BareLf::Repair);
    assert!(config.announce);
    assert_eq!(config.log, "info");
    assert_eq!(config.clock, UntrustedClock::Wait);
}

#[test]
fn every_key_of_this_version_is_read() {
    let text = r#"
hostname = "alerts.example.com"
admin    = "you@example.com"
log      = "warn,postern::net=debug"
log_to   = "stderr"
listen   = ["127.0.0.1:0", "[::1]:2525", "br-lan:25",
            { address = "192.168.1.1:25", tls = "none", auth = false }]
allow    = ["loopback", "192.168.1.0/24", "fd00::/8", "10.0.0.7", "2001:db8::7"]
announce = false

[[smarthost]]
host = "mail.example.com."
port = 2500
tls = "none"
auth = "none"
allow_plaintext_auth = false
connections = 1
discard = ["chunking", "Size"]

[spool]
path = "/overlay/postern/spool"
size = "1MB"
volatile = true

[retry]
first = "30s"
longest = "1h"
route_longest = "2m"
auth = "20m"
give_up = "4d"
hold = "10d"

[limits]
message_size = "64KiB"
sessions = 2
sessions_per_client = 1
command_timeout = "10m"
data_timeout = "90s"

[quirks]
bare_lf = "refuse"

[clock]
untrusted = "ignore-dates"
"#;
    let config = parse(text).unwrap();
    assert_eq!(config.hostname, "alerts.example.com");
    assert_eq!(config.admin.as_deref(), Some("you@example.com"));
    assert_eq!(config.log, "warn,postern::net=debug");
    let listen: Vec<String> = config.listen.iter().map(Listener::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:0", "[::1]:2525", "br-lan:25", "192.168.1.1:25"]);
    let prefix = |address: &str, bits| Network::Prefix { address: address.parse().unwrap(), bits };
    let allow = [
        Network::Loopback,
        prefix("192.168.1.0", 24),
        prefix("fd00::", 8),
        prefix("10.0.0.7", 32),
        prefix("2001:db8::7", 128),
    ];
    assert_eq!(config.allow, allow);
    assert!(!config.announce);
    assert_eq!((config.smarthosts[0].host.as_str(), config.smarthosts[0].port), ("mail.example.com", 2500));
    assert_eq!(config.smarthosts[0].discard, ["CHUNKING", "SIZE"]);
    assert_eq!(config.spool.path, Path::new("/overlay/postern/spool"));
    assert_eq!(config.spool.octets, 999_424, "whole blocks of 4,096");
    assert!(config.spool.volatile);
    assert_eq!(config.retry.first, Duration::from_s(30));
    assert_eq!(config.retry.longest, Duration::from_min(60));
    assert_eq!(config.retry.route_longest, Duration::from_s(120));
    assert_eq!(config.retry.auth, Duration::from_min(20));
    assert_eq!(config.retry.give_up, Duration::from_min(4 * 24 * 60));
    assert_eq!(config.retry.hold, Duration::from_min(10 * 24 * 60));
    assert_eq!(config.limits.message_octets, 65_536);
    assert_eq!((config.limits.sessions, config.limits.sessions_per_client), (2, 1));
    assert_eq!(config.limits.command_timeout, Duration::from_min(10));
    assert_eq!(config.limits.data_timeout, Duration::from_s(90));
    assert_eq!(config.quirks.bare_lf, BareLf::Refuse);
    assert_eq!(config.clock, UntrustedClock::IgnoreDates);
}

#[test]
fn sizes_are_octets_or_have_a_unit() {
    for (size, octets) in
        [("262144", 262_144), ("\"256KiB\"", 262_144), ("\"1MiB\"", 1 << 20), ("0x40000", 262_144)]
    {
        let config = parse(&format!("{SMALLEST}[spool]\nsize = {size}\n")).unwrap();
        assert_eq!(config.spool.octets, octets, "{size}");
    }
}

#[test]
fn what_is_not_toml_is_refused_at_its_line() {
    assert_eq!(
        refusal("hostname = \"a\"\nadmin = \n"),
        "postern.toml:2: admin: not TOML: string values must be quoted, expected literal string"
    );
    assert_eq!(refusal("log = \"info\"\nlog = \"warn\"\n"), "postern.toml:2: log: not TOML: duplicate key");
}

#[test]
fn unknown_and_misplaced_keys_are_refused() {
    assert_eq!(
        refusal_of_top("admin = \"a@example.com\"\nhostnam = \"router\""),
        "postern.toml:2: hostnam: is not a key of this version; allowed here: hostname, admin, domain, \
         run_as, log, log_to, listen, allow, relay_to, announce, smarthost, spool, retry, limits, quirks, \
         clock, sender, aliases, control, submit, listener_tls, users"
    );
    assert_eq!(
        refusal_below("[spool]\npath = \"/s\"\nsise = 5"),
        "postern.toml:6: spool.sise: is not a key of this version; allowed here: path, size, volatile"
    );
    assert_eq!(
        refusal_below("admin = \"a@example.com\""),
        "postern.toml:4: smarthost.admin: stands in the wrong place; it belongs at the top of the file, \
        above the \
         first [table]"
    );
    assert_eq!(
        refusal_of_top("host = \"192.0.2.1\""),
        "postern.toml:1: host: stands in the wrong place; it belongs in [smarthost]"
    );
    assert_eq!(
        refusal_of_top("path = \"/s\""),
        "postern.toml:1: path: stands in the wrong place; it belongs in [spool] or in [control] or in \
        [submit]"
    );
    assert_eq!(
        refusal_below("[smarthost.retry]\nfirst = \"1m\""),
        "postern.toml:4: smarthost.retry: stands in the wrong place; it belongs at the start of a line as \
        [retry]"
    );
    assert_eq!(
        refusal_of_top("\"a\\nb\" = 1").split(';').next(),
        Some(r"postern.toml:1: a\nb: is not a key of this version")
    );
}

/// The first mistake of the file is named, whatever the order of the alphabet.
#[test]
fn the_first_mistake_is_named() {
    assert!(refusal_of_top("zzz = 1\naaa = 1").starts_with("postern.toml:1: zzz: "));
    assert!(refusal_below("zzz = 1\n[spool]\naaa = 1").starts_with("postern.toml:4: smarthost.zzz: "));
}

/// What would be silently without effect is refused.
#[test]
fn what_is_not_built_is_refused() {
    let top = [("log_to = \"syslog\"", "log_to")];
    for (line, key) in top {
        let refusal = refusal_of_top(line);
        assert!(refusal.starts_with(&format!("postern.toml:1: {key}: ")), "{refusal}");
        assert!(refusal.contains("this version") && refusal.contains("; "), "{refusal}");
    }
    let below = [("limits.x = 1", "smarthost.limits")];
    for (line, key) in below {
        let refusal = refusal_below(line);
        assert!(refusal.starts_with(&format!("postern.toml:4: {key}: ")), "{refusal}");
    }
    assert_eq!(
        refusal("smarthost = []\n"),
        "postern.toml:1: smarthost: is not a table; write [smarthost] on a line and its keys below"
    );
    assert_eq!(
        refusal("smarthost = \"192.0.2.1\"\n"),
        "postern.toml:1: smarthost: is not a table; write [smarthost] on a line and its keys below"
    );
    assert_eq!(
        refusal("announce = true\n"),
        "postern.toml:1: smarthost: is missing; write [smarthost] on a line, and host, user and password_file \
        below"
    );
    assert_eq!(
        refusal("[smarthost]\ntls = \"none\"\n"),
        "postern.toml:1: smarthost.host: is missing; set host = \"NAME or ADDRESS\" under [smarthost]"
    );
}

#[test]
fn a_wrong_type_or_value_is_refused_with_what_is_allowed() {
    let cases = [
        ("announce = \"yes\"", r#"announce: is "yes"; true or false is allowed"#),
        ("hostname = 5", "hostname: is 5; a text in quotes is allowed"),
        ("hostname = \"\"", "hostname: is empty; leave it out or give it a value"),
        (
            "hostname = \"my router\"",
            r#"hostname: is "my router"; letters, digits, hyphens and dots are allowed, as
             "router.example.com""#,
        ),
        ("admin = \"root\"", r#"admin: is "root"; a full address is allowed, as "you@example.com""#),
        (
            "admin = \"a@b.c\\r\\nRCPT TO:<x@y.z>\"",
            r#"admin: is "a@b.c\r\nRCPT TO:<x@y.z>"; a full address is allowed, as "you@example.com""#,
        ),
        ("log_to = \"file\"", r#"log_to: is "file"; allowed: "stderr" or "syslog""#),
        (
            "log = \"inof\"",
            r#"log: is "inof"; allowed: "off", "error", "warn", "info", "debug", "trace", or
             "target=level" with commas"#,
        ),
        ("listen = \"127.0.0.1:25\"", r#"listen: must be a list, as in ["..."]"#),
        ("listen = []", r#"listen: is empty; name one "address:port" at least"#),
        ("listen = [\"127.0.0.1:25\", \"127.0.0.1:25\"]", "listen: names the same twice; once is enough"),
        (
            "listen = [\"127.0.0.1\"]",
            r#"listen: is "127.0.0.1" without a port; write
             "address:port" or "interface:port", as "127.0.0.1:25" or "br-lan:25""#,
        ),
        (
            "listen = [\"br-lan:99999\"]",
            r#"listen: is "br-lan:99999", whose port is not 0 to 65535; write
             "address:port" or "interface:port", as "127.0.0.1:25" or "br-lan:25""#,
        ),
        ("listen = [\"::1:25\"]", r#"listen: is "::1:25"; an IPv6 address stands in brackets: "[::1]:25""#),
        ("listen = [\"*:25\"]", r#"listen: is "*:25"; write the address: "0.0.0.0:25""#),
        ("listen = [\"localhost:25\"]", r#"listen: is "localhost:25"; write the address: "127.0.0.1:25""#),
        (
            "listen = [\"192.168.1.300:25\"]",
            r#"listen: is "192.168.1.300:25", neither an address nor an interface; write
             "address:port" or "interface:port", as "127.0.0.1:25" or "br-lan:25""#,
        ),
        (
            "listen = [\"[::ffff:127.0.0.1]:25\"]",
            r#"listen: is "[::ffff:127.0.0.1]:25"; write the IPv4 address as such: "127.0.0.1:25""#,
        ),
        (
            "listen = [{ address = \"127.0.0.1:25\", port = 25 }]",
            "listen: port: is not a key of a listener; allowed here: address, tls, auth, allow_plaintext_auth",
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(refusal_of_top(line), format!("postern.toml:1: {}", joined(expected)));
    }
}

#[test]
fn a_wrong_value_in_a_table_is_refused_with_what_is_allowed() {
    let blocks_octets = limits::SPOOL_BLOCKS as u64 * 4096;
    let message_octets = limits::MESSAGE_OCTETS;
    let never_raise = "(settings can lower a capacity, never raise it)";
    let (sessions, connections) = (limits::RECEIVER_SESSIONS, limits::SENDER_CONNECTIONS);
    let cases = [
        (
            "[spool]\npath = \"var/spool\"",
            r#"spool.path: is "var/spool"; a file's whole path is allowed, beginning with "/", or a name alone:
               a file in /var/lib/postern ($STATE_DIRECTORY)"#
                .to_owned(),
        ),
        (
            "[spool]\nsize = \"4 miles\"",
            format!(
                r#"spool.size: is "4 miles"; write octets, or "64KiB", "4MiB", "10MB", 262144 to
                 {blocks_octets} octets"#
            ),
        ),
        ("[spool]\nsize = 4096", format!("spool.size: is 4096; allowed: 262144 to {blocks_octets} octets")),
        (
            "[spool]\nsize = \"1000GB\"",
            format!(
                "spool.size: is \"1000GB\", above this board's capacity; allowed: 262144 to \
                {blocks_octets} octets \
                 {never_raise}"
            ),
        ),
        (
            "[limits]\nmessage_size = \"63KiB\"",
            format!("limits.message_size: is \"63KiB\"; allowed: 65536 to {message_octets} octets"),
        ),
        (
            "[limits]\nmessage_size = \"1GiB\"",
            format!(
                "limits.message_size: is \"1GiB\", above this board's capacity; allowed: 65536 to \
                {message_octets} \
                 octets {never_raise}"
            ),
        ),
        (
            "[limits]\nsessions = 100000",
            format!(
                "limits.sessions: is 100000, above this board's capacity; allowed: 1 to {sessions} \
                {never_raise}"
            ),
        ),
        ("[limits]\nsessions = 0", format!("limits.sessions: is 0; a number is allowed, 1 to {sessions}")),
        (
            "[limits]\nsessions = \"2\"",
            format!("limits.sessions: is \"2\"; a number is allowed, 1 to {sessions}"),
        ),
        (
            "[limits]\nsessions_per_client = 100000",
            format!(
                "limits.sessions_per_client: is 100000; allowed: 1 to {sessions}, within limits.sessions"
            ),
        ),
        (
            "[limits]\ncommand_timeout = 300",
            r#"limits.command_timeout: is 300; write "30s", "1m", "2h" or "5d""#.to_owned(),
        ),
        (
            "[limits]\ncommand_timeout = \"0s\"",
            r#"limits.command_timeout: is "0s"; allowed: "1s" to "1d""#.to_owned(),
        ),
        ("[retry]\nhold = \"400d\"", r#"retry.hold: is "400d"; allowed: "1s" to "365d""#.to_owned()),
        (
            "[retry]\nlongest = \"30s\"",
            "retry.longest: is shorter than retry.first; as long or longer is allowed".to_owned(),
        ),
        (
            "[retry]\nhold = \"1h\"",
            "retry.hold: is shorter than retry.give_up; as long or longer is allowed".to_owned(),
        ),
        ("[quirks]\nbare_lf = true", r#"quirks.bare_lf: is true; allowed: "repair" or "refuse""#.to_owned()),
        (
            "[clock]\nuntrusted = \"no\"",
            r#"clock.untrusted: is "no"; allowed: "wait" or "ignore-dates""#.to_owned(),
        ),
    ];
    for (lines, expected) in cases {
        assert_eq!(refusal_below(lines), format!("postern.toml:5: {}", joined(&expected)));
    }
    let cases = [
        ("port = 0", "smarthost.port: is 0; allowed: 1 to 65535, a TCP port".to_owned()),
        (
            "port = \"25\"",
            "smarthost.port: is \"25\"; a number is allowed, 1 to 65535, a TCP \
        port"
                .to_owned(),
        ),
        (
            "connections = 1000",
            format!(
                "smarthost.connections: is 1000, above this board's capacity; allowed: 1 to {connections} \
                {never_raise}"
            ),
        ),
        (
            "discard = [\"x\"]",
            "smarthost.discard: is \"x\"; allowed: pipelining, size, 8bitmime, smtputf8, \
            enhancedstatuscodes, dsn, \
             chunking, starttls, auth"
                .to_owned(),
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(refusal_below(line), format!("postern.toml:4: {}", joined(&expected)));
    }
    for (host, expected) in [
        ("a b", r#"is "a b"; write a name or an address, as "smtp.example.com" or "192.0.2.25""#),
        (
            "192.0.2.256",
            r#"is "192.0.2.256"; write a name or an address, as "smtp.example.com" or "192.0.2.25""#,
        ),
        ("mail.example.com:25", r#"is "mail.example.com:25"; the port has a key of its own, smarthost.port"#),
        (
            "0.0.0.0",
            r#"is "0.0.0.0", which is no host's address; write a name or an address, as
             "smtp.example.com" or "192.0.2.25""#,
        ),
    ] {
        let line = refusal(&format!("[smarthost]\ntls = \"none\"\nhost = \"{host}\"\n"));
        assert_eq!(line, format!("postern.toml:3: smarthost.host: {}", joined(expected)));
    }
}

/// A list's value is refused at its own line.
#[test]
fn a_list_over_several_lines_names_the_line_of_the_value() {
    let refusal = refusal_of_top("allow = [\n  \"loopback\",\n  \"192.168.1.1/24\",\n]");
    assert_eq!(
        refusal,
        "postern.toml:3: allow: is \"192.168.1.1/24\", which has bits set beyond its prefix; write \
        \"192.168.1.0/24\""
    );
    let many: String = (0..33).map(|host| format!("\"10.0.0.{host}\",")).collect();
    let refusal = refusal_of_top(&format!("allow = [{many}]"));
    assert_eq!(refusal, "postern.toml:1: allow: has 33 entries; at most 32 are allowed");
}

/// SEC-relay-a: a file that would let strangers relay is refused at start.
#[test]
fn an_open_relay_is_refused() {
    let open = "which makes an open relay; a prefix of /8 or longer (IPv6: /16) is allowed";
    for network in
        ["0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "64.0.0.0/7", "2000::/3", "::/64", "::/16"]
    {
        let refusal = refusal_of_top(&format!("allow = [\"loopback\", \"{network}\"]"));
        assert_eq!(refusal, format!("postern.toml:1: allow: is \"{network}\", {open}"));
    }
    let refusal = refusal_of_top("allow = [\"::ffff:0.0.0.0/96\"]");
    assert_eq!(
        refusal,
        "postern.toml:1: allow: is \"::ffff:0.0.0.0/96\"; write the IPv4 network as such: \"0.0.0.0/0\""
    );
    for network in ["10.0.0.0/8", "fc00::/7", "fd00::/8", "2001::/16", "0.0.0.1", "::1", "fe80::/10"] {
        let with = format!("allow = [\"{network}\"]\n{SMALLEST}");
        assert!(parse(&with).is_ok(), "{network}");
    }
    let wrong = r#"write "loopback", "on-link", an address, or a network as "192.168.1.0/24""#;
    for network in ["all", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "fd00::/129", "10.0.0/8", "br-lan"] {
        let refusal = refusal_of_top(&format!("allow = [\"{network}\"]"));
        assert_eq!(refusal, format!("postern.toml:1: allow: is \"{network}\"; {wrong}"));
    }
}

/// SEC-loop-a: a smarthost that is this relay itself is refused.
#[test]
fn a_smarthost_that_is_ourselves_is_refused() {
    let file = |listen: &str, host: &str, port: u16| {
        format!(
            "hostname = \"r.example\"\nlisten = [\"{listen}\"]\n[smarthost]\ntls = \"none\"\nhost = \
            \"{host}\"\nport = {port}\n"
        )
    };
    for (listen, host, port) in [
        ("127.0.0.1:25", "127.0.0.1", 25),
        ("127.0.0.1:2525", "::ffff:127.0.0.1", 2525),
        ("0.0.0.0:25", "127.0.0.1", 25),
        ("[::]:25", "::1", 25),
        ("127.0.0.1:25", "localhost", 25),
        ("[::1]:25", "LOCALHOST", 25),
        ("br-lan:25", "R.example", 25),
    ] {
        assert_eq!(
            refusal(&file(listen, host, port)),
            format!(
                "postern.toml:5: smarthost.host: {host} port {port} is this relay itself (it listens on \
                {listen}); name \
                 the host that takes mail onward"
            )
        );
    }
    for (listen, host, port) in [
        ("127.0.0.1:25", "127.0.0.1", 26),
        ("192.168.1.1:25", "127.0.0.1", 25),
        ("127.0.0.1:25", "192.168.1.2", 25),
        ("[::]:25", "127.0.0.1", 25),
        ("127.0.0.1:0", "127.0.0.1", 25),
    ] {
        assert!(parse(&file(listen, host, port)).is_ok(), "{listen} {host} {port}");
    }
}

#[test]
fn a_system_without_a_usable_name_must_be_given_one() {
    let parse =
        |text: &str| Config::parse(text, Path::new("postern.toml"), "(none)").map_err(|e| e.to_string());
    assert_eq!(
        parse(SMALLEST).map(|_| ()),
        Err("postern.toml:1: hostname: the system's name \"(none)\" is no domain name; set hostname"
            .to_owned())
    );
    assert!(parse(&format!("hostname = \"router\"\n{SMALLEST}")).is_ok());
}

#[test]
fn on_link_on_all_addresses_is_worth_a_warning() {
    assert!(!parse(SMALLEST).unwrap().is_on_link_everywhere());
    assert!(parse(&format!("listen = [\"0.0.0.0:25\"]\n{SMALLEST}")).unwrap().is_on_link_everywhere());
    let named = format!("listen = [\"0.0.0.0:25\"]\nallow = [\"10.0.0.0/8\"]\n{SMALLEST}");
    assert!(!parse(&named).unwrap().is_on_link_everywhere());
}

/// No text makes the parser panic, and each refusal is one line.
#[test]
fn damaged_files_are_refused_in_one_line() {
    let whole = format!("hostname = \"r\"\nallow = [\"10.0.0.0/8\"]\nlisten = [\"br-lan:25\"]\n{SMALLEST}");
    assert!(parse(&whole).is_ok());
    for position in 0..whole.len() {
        for octet in ["", "\0", "\"", "[", "=", "\n", "9", "ü", "{"] {
            let mut damaged = whole.clone();
            damaged.replace_range(position..=position, octet);
            if let Err(line) = parse(&damaged) {
                assert!(!line.chars().any(char::is_control), "not one line: {line:?}");
            }
        }
    }
}

#[test]
fn the_first_configuration_of_readme_is_one() {
    let readme = include_str!("../README.md");
    let (_, behind) = readme.split_once("```toml\n").unwrap();
    let (text, _) = behind.split_once("```").unwrap();
    let config = parse(text).unwrap();
    assert_eq!(config.admin.as_deref(), Some("you@example.com"));
    assert_eq!(config.listen[1].to_string(), "br-lan:25");
}

/// What is admitted, and how addresses are completed.
#[test]
fn users_aliases_and_what_may_be_relayed_to() {
    let text = r#"
domain = "example.com"
relay_to = ["example.com", ".example.org", "you@example.net"]
listen = [{ address = "127.0.0.1:25", auth = true, allow_plaintext_auth = true }, "[::1]:25"]
aliases.root = "admin@example.com"
aliases.Postmaster = "post@example.com"
sender.hide_received = true
sender.envelope = "router@example.com"
sender.header_from = "alerts@example.com"
limits.messages_per_minute = 60
limits.spool_share = "25%"
quirks.long_lines = false
users.printer = "/etc/postern.printer"
[smarthost]
host = "192.0.2.25"
tls = "none"
"#;
    let config = parse(text).unwrap();
    assert_eq!(config.domain.as_deref(), Some("example.com"));
    let relay_to = [
        RelayTo::Domain("example.com".to_owned()),
        RelayTo::Below(".example.org".to_owned()),
        RelayTo::Mailbox("you@example.net".to_owned()),
    ];
    assert_eq!(config.relay_to, relay_to);
    assert_eq!(
        config.listen.iter().map(|listener| listener.auth).collect::<Vec<_>>(),
        [Auth::Anywhere, Auth::Absent]
    );
    let alias = |name: &str, address: &str| Alias { name: name.to_owned(), address: address.to_owned() };
    assert_eq!(config.aliases.len(), 2);
    assert!(config.aliases.contains(&alias("root", "admin@example.com")));
    assert!(config.aliases.contains(&alias("Postmaster", "post@example.com")));
    let password_file = Path::new("/etc/postern.printer").to_path_buf();
    assert_eq!(config.users, [User { name: "printer".to_owned(), password_file }]);
    assert!(config.hide_received);
    assert_eq!(config.sender_envelope.as_deref(), Some("router@example.com"));
    assert_eq!(config.sender_header_from.as_deref(), Some("alerts@example.com"));
    assert_eq!((config.limits.messages_per_minute, config.limits.spool_share_percent), (Some(60), 25));
    assert!(!config.quirks.tolerated.contains(Quirk::LongLines));
    assert!(config.quirks.tolerated.contains(Quirk::MissingBrackets));
}

#[test]
fn a_name_alone_is_a_file_in_the_folder_that_the_supervisor_gives() {
    // The smallest board has TLS for clients only where the smarthost needs none.
    let text = "listen = [{ address = \"127.0.0.1:25\", tls = \"starttls\", auth = true }]\n\
                [smarthost]\nhost = \"mx.example.com\"\ntls = \"none\"\nallow_plaintext_auth = true\n\
                user = \"u\"\npassword_file = \"smarthost\"\n\
                [spool]\npath = \"spool\"\n[users]\nups = \"ups\"\n\
                [listener_tls]\ncertificate = \"chain.pem\"\nkey = \"/etc/key.pem\"\n";
    let parsed = |folders: &Folders| {
        Config::parse_in(text, Path::new("postern.toml"), "router", folders).expect("valid")
    };
    let given = Folders::new(|name| Some(format!("/run/{name}").into()));
    for (folders, credentials, state) in [
        (Folders::default(), "/run/credentials/postern.service", "/var/lib/postern"),
        (given, "/run/CREDENTIALS_DIRECTORY", "/run/STATE_DIRECTORY"),
    ] {
        let config = parsed(&folders);
        let credential = |name| Path::new(credentials).join(name);
        let login = config.smarthosts[0].login.as_ref().expect("a login");
        assert_eq!(login.secret, SecretFile::Password(credential("smarthost")));
        assert_eq!(config.users[0].password_file, credential("ups"));
        let pair = config.listener_tls.as_ref().expect("a certificate");
        assert_eq!(pair.certificate, credential("chain.pem"));
        assert_eq!(pair.key, Path::new("/etc/key.pem"));
        assert_eq!(config.spool.path, Path::new(state).join("spool"));
    }
}

#[test]
fn wrong_users_aliases_and_limits_are_refused() {
    let auth = "listen = [{ address = \"127.0.0.1:25\", auth = true, allow_plaintext_auth = true }]";
    let cases = [
        ("listen = [{ address = \"127.0.0.1:25\", auth = true }]", "listen: auth: sends passwords"),
        (
            "listen = [{ address = \"127.0.0.1:25\", allow_plaintext_auth = true }]",
            "listen: allow_plaintext_auth:",
        ),
        (auth, "listen: offers AUTH, but nobody may log in; add [users]"),
        ("users.ups = \"/etc/ups.secret\"", "users: are without effect"),
        ("users.ups = \"a/secret\"", "users.ups: is \"a/secret\"; a file's whole path is allowed"),
        ("users.ups = \"..\"", "users.ups: is \"..\"; a file's whole path is allowed"),
        ("aliases.\"root@here\" = \"a@example.com\"", "aliases.root@here: is not a local name"),
        ("aliases.root = \"admin\"", "aliases.root: is \"admin\"; a full address is allowed"),
        ("relay_to = [\"@example.com\"]", "relay_to: is \"@example.com\"; write a domain"),
        ("limits.spool_share = \"0%\"", "limits.spool_share: is \"0%\"; \"1%\" to \"100%\" is allowed"),
        (
            "limits.spool_share = \"2%\"",
            "limits.spool_share: leaves one client 83886 octets of the spool; 98304",
        ),
        ("limits.spool_share = 50", "limits.spool_share: is 50; \"1%\" to \"100%\" is allowed"),
        ("limits.messages_per_minute = 0", "limits.messages_per_minute: is 0; allowed: 1 to 100000"),
        ("sender.envelope = \"\"", "sender.envelope: is empty; leave it out or give it a value"),
        ("sender.header_from = \"me\"", "sender.header_from: is \"me\"; a full address is allowed"),
        ("quirks.long_lines = \"no\"", "quirks.long_lines: is \"no\"; true or false is allowed"),
    ];
    for (line, expected) in cases {
        let refusal = refusal_of_top(line);
        assert!(refusal.starts_with(&format!("postern.toml:1: {expected}")), "{refusal}");
    }
}
