//! Every key of the configuration file, and what this version does with it.
//!
//! The list is the file's contract: a key that is not here is a mistake in the file, and a key that is here
//! but not built in this version is refused with its reason, because a setting that is silently without
//! effect (a rewriting, a certificate of ours) is worse than a relay that doesn't start.

/// What this version does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is read.
    Built,
    /// It is refused, for this reason; the text ends with what to do instead.
    Later(&'static str),
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its table, empty for the top of the file.
    pub(super) table: &'static str,
    /// Its name in that table; a table of the file is a key of the top.
    pub(super) name: &'static str,
    /// What becomes of it.
    pub(super) standing: Standing,
}

const NO_LISTENER_TLS: Standing = Standing::Later("this version's listeners offer no TLS; leave it out");

const fn built(table: &'static str, name: &'static str) -> Key {
    Key { table, name, standing: Standing::Built }
}

const fn later(table: &'static str, name: &'static str, standing: Standing) -> Key {
    Key { table, name, standing }
}

/// All keys, in the order in which README and messages show them.
pub(super) const KEYS: &[Key] = &[
    built("", "hostname"),
    built("", "admin"),
    built("", "domain"),
    built("", "run_as"),
    built("", "log"),
    built("", "log_to"),
    built("", "listen"),
    built("", "allow"),
    built("", "relay_to"),
    built("", "announce"),
    built("", "smarthost"),
    built("", "spool"),
    built("", "retry"),
    built("", "limits"),
    built("", "quirks"),
    built("", "clock"),
    built("", "sender"),
    built("", "aliases"),
    built("", "control"),
    built("", "submit"),
    later("", "listener_tls", NO_LISTENER_TLS),
    built("", "users"),
    built("smarthost", "host"),
    built("smarthost", "port"),
    built("smarthost", "tls"),
    built("smarthost", "connections"),
    built("smarthost", "discard"),
    built("smarthost", "auth"),
    built("smarthost", "allow_plaintext_auth"),
    built("smarthost", "user"),
    built("smarthost", "password_file"),
    built("smarthost", "token_file"),
    built("smarthost", "ca_file"),
    built("smarthost", "pins"),
    built("spool", "path"),
    built("spool", "size"),
    built("spool", "volatile"),
    built("retry", "first"),
    built("retry", "longest"),
    built("retry", "route_longest"),
    built("retry", "give_up"),
    built("retry", "hold"),
    built("retry", "auth"),
    built("limits", "message_size"),
    built("limits", "sessions"),
    built("limits", "sessions_per_client"),
    built("limits", "command_timeout"),
    built("limits", "data_timeout"),
    built("limits", "messages_per_minute"),
    built("limits", "spool_share"),
    built("quirks", "missing_brackets"),
    built("quirks", "space_after_colon"),
    built("quirks", "helo_junk"),
    built("quirks", "long_lines"),
    built("quirks", "auth_login"),
    built("quirks", "missing_fields"),
    built("quirks", "bare_lf"),
    built("clock", "untrusted"),
    built("sender", "envelope"),
    built("sender", "header_from"),
    built("sender", "hide_received"),
    built("control", "path"),
    built("submit", "path"),
    later("listener_tls", "certificate", NO_LISTENER_TLS),
    later("listener_tls", "key", NO_LISTENER_TLS),
];

/// True for a table whose keys are names that the administrator chooses.
pub(super) fn has_free_keys(table: &str) -> bool {
    matches!(table, "aliases" | "users")
}

/// The key `name` of `table`.
pub(super) fn find(table: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.table == table && key.name == name)
}

/// True when `name` is one of the file's tables.
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
    for key in KEYS.iter().filter(|key| key.table == table && key.standing == Standing::Built) {
        let comma = if allowed.is_empty() { "" } else { ", " };
        allowed += &format!("{comma}{}", key.name);
    }
    format!("is not a key of this version; allowed here: {allowed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// README's table has every key that is read, and no other.
    #[test]
    fn readme_has_every_key() {
        let readme = include_str!("../../README.md");
        let rows: Vec<&str> =
            readme.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        for key in KEYS.iter().filter(|key| !(key.table.is_empty() && is_table(key.name))) {
            let dot = if key.table.is_empty() { "" } else { "." };
            let full = format!("{}{dot}{}", key.table, key.name);
            assert_eq!(rows.contains(&full.as_str()), key.standing == Standing::Built, "{full}");
        }
    }
}
