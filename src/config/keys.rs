//! Every key of the configuration file.
//!
//! The list is the file's contract: a key that is not here is a mistake in the file, and refused, because a
//! setting that is silently without effect (a rewriting, a certificate of ours) is worse than a relay that
//! doesn't start.

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its table, empty for the top of the file.
    pub(super) table: &'static str,
    /// Its name in that table; a table of the file is a key of the top.
    pub(super) name: &'static str,
}

/// The one table within another.
pub(super) const OAUTH2: &str = "smarthost.oauth2";

const fn key(table: &'static str, name: &'static str) -> Key {
    Key { table, name }
}

/// All keys, in the order in which README and messages show them.
pub(super) const KEYS: &[Key] = &[
    key("", "hostname"),
    key("", "admin"),
    key("", "domain"),
    key("", "run_as"),
    key("", "log"),
    key("", "log_to"),
    key("", "listen"),
    key("", "allow"),
    key("", "relay_to"),
    key("", "announce"),
    key("", "smarthost"),
    key("", "spool"),
    key("", "retry"),
    key("", "limits"),
    key("", "quirks"),
    key("", "clock"),
    key("", "sender"),
    key("", "aliases"),
    key("", "control"),
    key("", "submit"),
    key("", "listener_tls"),
    key("", "users"),
    key("smarthost", "host"),
    key("smarthost", "port"),
    key("smarthost", "tls"),
    key("smarthost", "connections"),
    key("smarthost", "discard"),
    key("smarthost", "auth"),
    key("smarthost", "allow_plaintext_auth"),
    key("smarthost", "user"),
    key("smarthost", "password_file"),
    key("smarthost", "token_file"),
    key("smarthost", "oauth2"),
    key("smarthost", "ca_file"),
    key("smarthost", "pins"),
    key(OAUTH2, "grant"),
    key(OAUTH2, "token_url"),
    key(OAUTH2, "client_id"),
    key(OAUTH2, "client_secret_file"),
    key(OAUTH2, "refresh_token_file"),
    key(OAUTH2, "scope"),
    key(OAUTH2, "device_url"),
    key("spool", "path"),
    key("spool", "size"),
    key("spool", "volatile"),
    key("retry", "first"),
    key("retry", "longest"),
    key("retry", "route_longest"),
    key("retry", "give_up"),
    key("retry", "hold"),
    key("retry", "auth"),
    key("limits", "message_size"),
    key("limits", "sessions"),
    key("limits", "sessions_per_client"),
    key("limits", "command_timeout"),
    key("limits", "data_timeout"),
    key("limits", "messages_per_minute"),
    key("limits", "spool_share"),
    key("quirks", "missing_brackets"),
    key("quirks", "space_after_colon"),
    key("quirks", "helo_junk"),
    key("quirks", "long_lines"),
    key("quirks", "auth_login"),
    key("quirks", "missing_fields"),
    key("quirks", "bare_lf"),
    key("clock", "untrusted"),
    key("sender", "envelope"),
    key("sender", "header_from"),
    key("sender", "hide_received"),
    key("control", "path"),
    key("submit", "path"),
    key("listener_tls", "certificate"),
    key("listener_tls", "key"),
];

/// True for a table whose keys are names that the administrator chooses.
pub(super) fn has_free_keys(table: &str) -> bool {
    matches!(table, "aliases" | "users")
}

/// True when `table` has the key `name`.
pub(super) fn is_key(table: &str, name: &str) -> bool {
    KEYS.iter().any(|key| key.table == table && key.name == name)
}

/// True when `name` is the full name of one of the file's tables.
pub(super) fn is_table(name: &str) -> bool {
    has_free_keys(name) || KEYS.iter().any(|key| !key.table.is_empty() && key.table == name)
}

/// Says where the unknown key `name` of `table` belongs, or else which keys that table has.
pub(super) fn where_instead(table: &str, name: &str) -> String {
    let elsewhere = KEYS.iter().filter(|key| key.name == name && key.table != table);
    let mut places = String::new();
    for key in elsewhere {
        let or = if places.is_empty() { "" } else { " or " };
        match key.table {
            "" if is_table(name) => places += &format!("{or}at the start of a line as [{name}]"),
            "" => places += &format!("{or}at the top of the file, above the first [table]"),
            table => places += &format!("{or}in [{table}]"),
        }
    }
    if !places.is_empty() {
        return format!("stands in the wrong place; it belongs {places}");
    }
    let mut allowed = String::new();
    for key in KEYS.iter().filter(|key| key.table == table) {
        let comma = if allowed.is_empty() { "" } else { ", " };
        allowed += &format!("{comma}{}", key.name);
    }
    format!("is not a key of this version; allowed here: {allowed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// README's table has every key.
    #[test]
    fn readme_has_every_key() {
        let readme = include_str!("../../README.md");
        let rows: Vec<&str> =
            readme.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let full_name = |key: &Key| {
            let dot = if key.table.is_empty() { "" } else { "." };
            format!("{}{dot}{}", key.table, key.name)
        };
        for full in KEYS.iter().map(full_name).filter(|full| !is_table(full)) {
            assert!(rows.contains(&full.as_str()), "{full}");
        }
    }
}
