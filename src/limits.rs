//! The capacities of this build, in one place. Placeholder values until the board files feed it.

/// Receiver sessions served at once.
pub const RECEIVER_SESSIONS: usize = 64;
/// Connections to the smarthost held at once.
pub const SENDER_CONNECTIONS: usize = 2;
/// Octets of a receiver session's input buffer; holds the longest command line.
pub const INPUT_OCTETS: usize = 2048;
/// Octets of a receiver session's output buffer; holds the longest reply.
pub const OUTPUT_OCTETS: usize = 1024;
/// Octets of a sender connection's input buffer.
pub const SENDER_INPUT_OCTETS: usize = 2048;
/// Octets of a sender connection's output buffer.
pub const SENDER_OUTPUT_OCTETS: usize = 16384;
/// Messages in the queue at once.
pub const QUEUED_MESSAGES: usize = 16384;
/// Recipients of one message.
pub const RECIPIENTS: usize = 1000;
/// Octets of one message's mail data.
pub const MESSAGE_OCTETS: u64 = 10 * 1024 * 1024;
/// Blocks of the largest spool file this build can manage.
pub const SPOOL_BLOCKS: usize = 65536;

/// Octets of a path with its angle brackets (RFC 5321 4.5.3.1.3).
pub const PATH_OCTETS_MAX: usize = 256;
/// Octets of a local-part (RFC 5321 4.5.3.1.1).
pub const LOCAL_PART_OCTETS_MAX: usize = 64;
/// Octets of a domain (RFC 5321 4.5.3.1.2).
pub const DOMAIN_OCTETS_MAX: usize = 255;
/// Octets of a command line with CRLF and the increments of SIZE, BODY, AUTH, DSN and SMTPUTF8 (RFC 5321 4.5.3.1.4).
pub const COMMAND_OCTETS_MAX: usize = 512 + 26 + 17 + 500 + 100 + 10;
/// Octets of a reply line with CRLF (RFC 5321 4.5.3.1.5).
pub const REPLY_LINE_OCTETS_MAX: usize = 512;
/// Octets kept of a smarthost's reply text.
pub const REPLY_TEXT_OCTETS_MAX: usize = 250;
/// Received fields beyond which a message is taken for a loop (RFC 5321 6.3).
pub const HOPS_MAX: usize = 100;

const _: () = assert!(INPUT_OCTETS > COMMAND_OCTETS_MAX);
