//! The configuration of a run, as the file that the relay would read.

use std::path::Path;

use postern::config::Config;
use postern::limits::{RECEIVER_SESSIONS, SENDER_CONNECTIONS};

use crate::names;
use crate::swarm::{Clients, Configured, Swarm, USER};

/// What the draws come to.
pub(crate) fn of(swarm: &Swarm) -> Config {
    let sessions = swarm.sessions.min(RECEIVER_SESSIONS);
    let connections = swarm.connections.min(SENDER_CONNECTIONS);
    let give_up = swarm.give_up_s;
    let of_client = swarm.sessions_of_client.min(sessions);
    let (listen, listener_tls) = listeners(&swarm.clients);
    let (names, aliases) = if swarm.clients.calls_names { names::settings() } else { Default::default() };
    let bare_lf = if swarm.refuses_bare_lf { "refuse" } else { "repair" };
    let text = format!(
        "hostname = \"relay.example\"\n{listen}\nallow = [\"192.0.2.0/24\"]\n{names}\
         [limits]\nsessions = {sessions}\nsessions_per_client = {of_client}\nspool_share = \"100%\"\n\
         [quirks]\nbare_lf = \"{bare_lf}\"\nmissing_fields = false\n[retry]\ngive_up = \"{give_up}s\"\n\
         {aliases}{listener_tls}{}",
        smarthosts(&swarm.configured, connections)
    );
    Config::parse(&text, Path::new("simulation.toml"), names::HOSTNAME)
        .unwrap_or_else(|error| panic!("the configuration is valid: {error}"))
}

/// What clients come in by: `listen`, and the tables of users and of the listeners' TLS.
fn listeners(clients: &Clients) -> (&'static str, &'static str) {
    match clients.tls {
        0 => ("listen = [\"192.0.2.254:25\"]", ""),
        _ => (
            "listen = [\"192.0.2.254:25\", \
             { address = \"192.0.2.254:587\", tls = \"starttls\", auth = true }, \
             { address = \"192.0.2.254:465\", tls = \"implicit\", auth = true }]",
            "[users]\ncamera = \"/etc/camera\"\n\
             [listener_tls]\ncertificate = \"/etc/certificate\"\nkey = \"/etc/key\"\n",
        ),
    }
}

/// The tables of the smarthosts and of what their mail is rewritten to.
fn smarthosts(configured: &Configured, connections: usize) -> String {
    let Configured { tls, .. } = configured;
    let mut table = format!("tls = \"{tls}\"\nconnections = {connections}\n");
    if *tls != "none" && configured.is_pinned {
        table += "pins = [\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]\n";
    }
    if let Some(auth) = configured.auth {
        let file = if auth.contains("oauth") { "token_file" } else { "password_file" };
        table += &format!("auth = \"{auth}\"\nuser = \"{USER}\"\n{file} = \"/etc/secret\"\n");
        if *tls == "none" {
            table += "allow_plaintext_auth = true\n";
        }
    }
    let table = |at: usize| format!("[[smarthost]]\nhost = \"198.51.100.{}\"\n{table}", at + 1);
    let key = |(key, value): (&str, Option<&str>)| {
        value.map_or_else(String::new, |value| format!("{key} = \"{value}\"\n"))
    };
    let sender = [("envelope", configured.envelope), ("header_from", configured.header_from)].map(key);
    (0..configured.count).map(table).chain(["[sender]\n".to_owned()]).chain(sender).collect()
}
