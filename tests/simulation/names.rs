//! What clients call recipients: by the whole address; without its domain, which `domain` completes; by a
//! local name, which `aliases` lead to it. At the smarthost all are the address.
//!
//! Which it is follows from the numbers of submission and recipient, as the address does, so that the oracle
//! need not know.

use postern::config::ALIASES_COUNT_MAX;

use crate::mail;

/// The relay's own name.
pub(crate) const HOSTNAME: &str = "relay.example";

/// Who gets notices that have nowhere else to go, and reports of damage.
pub(crate) const ADMIN: &str = "admin@site.example";

/// The lines of `admin` and `domain`, and the table of `aliases`: one for the first recipient of each of the
/// first submissions.
pub(crate) fn settings() -> (String, String) {
    let alias = |id| format!("{} = \"{}\"\n", local_name(id), mail::forward_path(id, 0));
    let aliases = ["[aliases]\n".to_owned()].into_iter().chain((0..ALIASES_COUNT_MAX).map(alias)).collect();
    (format!("admin = \"{ADMIN}\"\ndomain = \"{}\"\n", mail::DOMAIN), aliases)
}

fn local_name(id: usize) -> String {
    format!("Device{id}")
}

/// What the recipient `at` of submission `id` is called where names are.
pub(crate) fn called(id: usize, at: usize) -> String {
    if at == 0 && id < ALIASES_COUNT_MAX {
        let name = local_name(id);
        return match id % 4 {
            0 => name,
            1 => format!("{}@{HOSTNAME}", name.to_lowercase()),
            2 => format!("{name}@LOCALHOST"),
            _ => mail::forward_path(id, at),
        };
    }
    let address = mail::forward_path(id, at);
    let local_part = address.split_once('@').map_or("", |(local_part, _)| local_part);
    if (id + at).is_multiple_of(3) { local_part.to_owned() } else { address }
}
