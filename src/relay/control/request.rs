//! The line that a tool sends.

use crate::spool::MessageId;

/// What it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// All messages and the routes.
    Queue {
        /// For programs.
        is_json: bool,
    },
    /// One message as it stands in the spool.
    Show(MessageId),
    /// Everything is to be tried now.
    RetryAll,
    /// One message is.
    Retry(MessageId),
    /// One message is to go.
    Remove(MessageId),
    /// All are.
    RemoveAll,
    /// How the relay is.
    Status {
        /// For programs.
        is_json: bool,
    },
}

impl Request {
    /// The request in a line without its LF; nothing for what is none.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|octet| *octet == b' ');
        let request = (words.next()?, words.next());
        if words.next().is_some() {
            return None;
        }
        match request {
            (b"queue", None) => Some(Self::Queue { is_json: false }),
            (b"queue", Some(b"json")) => Some(Self::Queue { is_json: true }),
            (b"show", Some(id)) => MessageId::parse(id).map(Self::Show),
            (b"retry", None) => Some(Self::RetryAll),
            (b"retry", Some(id)) => MessageId::parse(id).map(Self::Retry),
            (b"remove", Some(b"all")) => Some(Self::RemoveAll),
            (b"remove", Some(id)) => MessageId::parse(id).map(Self::Remove),
            (b"status", None) => Some(Self::Status { is_json: false }),
            (b"status", Some(b"json")) => Some(Self::Status { is_json: true }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_and_nothing_else() {
        let id = MessageId { epoch: 1, counter: 0x2a };
        let requests = [
            ("queue", Request::Queue { is_json: false }),
            ("queue json", Request::Queue { is_json: true }),
            ("show 1-2a", Request::Show(id)),
            ("retry", Request::RetryAll),
            ("retry 1-2A", Request::Retry(id)),
            ("remove all", Request::RemoveAll),
            ("status", Request::Status { is_json: false }),
            ("status json", Request::Status { is_json: true }),
            ("remove 1-2a", Request::Remove(id)),
        ];
        for (line, request) in requests {
            assert_eq!(Request::parse(line.as_bytes()), Some(request), "{line}");
        }
        let wrong = ["", " ", "queue ", "queue xml", "remove", "remove ", "show", "show all", "retry all"];
        let more = ["remove 1-2a ", "remove 1-2a 1-2b", "QUEUE", "queue\r", "remove *", "\u{ff}"];
        for line in wrong.into_iter().chain(more) {
            assert_eq!(Request::parse(line.as_bytes()), None, "{line}");
        }
    }
}
