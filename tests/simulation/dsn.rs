//! What clients ask to hear of their mail (DSN, RFC 3461 4): the parameters of each submission and recipient,
//! which follow from their numbers, so that both ends and the oracle know them.

/// What NOTIFY asks for; empty: it is not given.
const NOTIFY: [&str; 8] =
    ["", "NEVER", "SUCCESS", "FAILURE", "SUCCESS,FAILURE", "DELAY", "SUCCESS,DELAY", "FAILURE,DELAY"];

fn notify(id: usize, at: usize) -> &'static str {
    NOTIFY[(5 * id + 3 * at) % NOTIFY.len()]
}

/// True when a failure is to be told.
pub(crate) fn wants_failure(id: usize, at: usize) -> bool {
    notify(id, at).is_empty() || notify(id, at).contains("FAILURE")
}

/// True when a success is to be told.
pub(crate) fn wants_success(id: usize, at: usize) -> bool {
    notify(id, at).contains("SUCCESS")
}

/// What stands behind MAIL.
pub(crate) fn of_mail(id: usize) -> String {
    let ret = ["", " RET=HDRS", " RET=FULL"][id % 3];
    let envid = if id.is_multiple_of(2) { format!(" ENVID=e+2B{id}") } else { String::new() };
    format!("{ret}{envid}")
}

/// What stands behind RCPT.
pub(crate) fn of_recipient(id: usize, at: usize) -> String {
    let notify = Some(notify(id, at)).filter(|notify| !notify.is_empty());
    let notify = notify.map_or_else(String::new, |notify| format!(" NOTIFY={notify}"));
    let orcpt =
        if at.is_multiple_of(2) { format!(" ORCPT=rfc822;r+2B{at}@orig.example") } else { String::new() };
    format!("{notify}{orcpt}")
}

/// The line of a notice that ENVID asks for.
pub(crate) fn envelope_line(id: usize) -> Option<String> {
    id.is_multiple_of(2).then(|| format!("Original-Envelope-Id: e+{id}"))
}

/// The line of a notice that ORCPT asks for.
pub(crate) fn recipient_line(at: usize) -> Option<String> {
    at.is_multiple_of(2).then(|| format!("Original-Recipient: rfc822; r+{at}@orig.example"))
}
