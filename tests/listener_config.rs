//! Listeners with TLS and AUTH, as the configuration has them.

use std::path::{Path, PathBuf};

use postern::config::{Auth, Config, KeyPair, ListenerTls};
use postern::limits::TLS_CONNECTIONS;

const KEY_PAIR: &str = "[listener_tls]\ncertificate = \"/etc/postern.pem\"\nkey = \"/etc/postern.key\"\n";
const USERS: &str = "[users]\nprinter = \"/etc/postern.printer\"\n";
const PLAIN: &str = "tls = \"none\"\n";

fn parse(listen: &str, smarthost: &str, tables: &str) -> Result<Config, String> {
    let text = format!("listen = [{listen}]\n[smarthost]\nhost = \"192.0.2.25\"\n{smarthost}{tables}");
    Config::parse(&text, Path::new("postern.toml"), "relay.example").map_err(|error| error.to_string())
}

#[test]
fn each_listener_has_its_own_tls_and_auth() {
    let listen = r#"
        { address = "127.0.0.1:25" },
        { address = "127.0.0.1:26", tls = "starttls" },
        { address = "127.0.0.1:587", tls = "starttls", auth = true },
        { address = "127.0.0.1:588", tls = "starttls", auth = true, allow_plaintext_auth = true },
        { address = "127.0.0.1:465", tls = "implicit", auth = true },
    "#;
    let config = parse(listen, PLAIN, &[KEY_PAIR, USERS].concat()).unwrap();
    let offers: Vec<_> = config.listen.iter().map(|listener| (listener.tls, listener.auth)).collect();
    let expected = [
        (ListenerTls::None, Auth::Absent),
        (ListenerTls::Starttls, Auth::Absent),
        (ListenerTls::Starttls, Auth::InTls),
        (ListenerTls::Starttls, Auth::Anywhere),
        (ListenerTls::Implicit, Auth::InTls),
    ];
    assert_eq!(offers, expected);
    let pair =
        KeyPair { certificate: PathBuf::from("/etc/postern.pem"), key: PathBuf::from("/etc/postern.key") };
    assert_eq!(config.listener_tls, Some(pair));
    assert_eq!(config.tls_clients_max(), TLS_CONNECTIONS);
}

/// The smarthost's connections come first; what they leave is for clients, if that is anything.
#[test]
fn clients_get_what_the_smarthost_leaves() {
    let listen = r#"{ address = "127.0.0.1:25", tls = "starttls" }"#;
    match parse(listen, "", KEY_PAIR) {
        Ok(config) => assert_eq!(config.tls_clients_max(), TLS_CONNECTIONS - 1),
        Err(error) => {
            assert_eq!(TLS_CONNECTIONS, 1, "{error}");
            let expected = "postern.toml:1: listen: tls: this board has room for 1 connections with TLS, and the \
                            smarthost takes 1; listeners without TLS are allowed";
            assert_eq!(error, expected);
        }
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let starttls = r#"{ address = "127.0.0.1:25", tls = "starttls" }"#;
    let half = "[listener_tls]\ncertificate = \"/etc/postern.pem\"\n";
    let cases = [
        (starttls, "", "1: listener_tls.certificate: is missing, and a listener has TLS"),
        (starttls, half, "5: listener_tls.key: is missing, and a listener has TLS"),
        (starttls, "listener_tls.key = \"key\"\n", "5: smarthost.listener_tls: stands in the wrong place"),
        (r#""127.0.0.1:25""#, KEY_PAIR, "5: listener_tls: is without effect; no entry of \"listen\" has tls"),
        (
            r#"{ address = "127.0.0.1:25", tls = "tls" }"#,
            KEY_PAIR,
            "1: listen: tls: is \"tls\"; allowed: \"none\" or \"starttls\" or \"implicit\"",
        ),
        (
            r#"{ address = "127.0.0.1:25", tls = "implicit", auth = true, allow_plaintext_auth = true }"#,
            KEY_PAIR,
            "1: listen: allow_plaintext_auth: is without effect; all is inside TLS here",
        ),
        (
            r#"{ address = "127.0.0.1:25", tls = "implicit", auth = true }"#,
            KEY_PAIR,
            "1: listen: offers AUTH, but nobody may log in",
        ),
    ];
    for (listen, tables, expected) in cases {
        let error = parse(listen, PLAIN, tables).unwrap_err();
        assert!(error.starts_with(&format!("postern.toml:{expected}")), "{error}");
    }
}
