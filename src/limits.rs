//! The capacities of this build: what the board file says, what the RFCs say, and what both cost in memory.
//!
//! `build.rs` turns `targets/boards/$BOARD.toml` into constants; this file is their only reader. All memory
//! is reserved at start, so its sum is known here: [`RESERVED`] lists it, and the compiler holds it against
//! the board's budget. A capacity below an RFC's minimum (RFC 5321 4.5.3.1) does not compile.
//!
//! What one item costs ([`RECEIVER_SLOT_OCTETS`] and its like) is a ceiling, set here because the types live
//! on floors above; each of them asserts beside its definition that it stays below. So the sums are the same
//! on every target, whatever its pointers cost. TLS is not in them: its library allocates, for at most
//! [`TLS_CONNECTIONS`] connections; a client's takes [`TLS_CLIENT_OCTETS_MAX`] at most, which a test holds.

/// What `build.rs` wrote for this board.
mod board {
    include!(concat!(env!("OUT_DIR"), "/board.rs"));
}

/// The board's name: its file in `targets/boards/` without `.toml`.
pub const BOARD: &str = board::NAME;
/// The target triple that the board is built for; a test build for another machine keeps it.
pub const TRIPLE: &str = board::TRIPLE;
/// Receiver sessions served at once.
pub const RECEIVER_SESSIONS: usize = board::RECEIVER_SESSIONS;
/// Connections to the smarthost held at once.
pub const SENDER_CONNECTIONS: usize = board::SENDER_CONNECTIONS;
/// Connections of either kind that may speak TLS at once.
pub const TLS_CONNECTIONS: usize = board::TLS_CONNECTIONS;
/// Octets of a receiver session's input buffer; holds the longest command line.
pub const INPUT_OCTETS: usize = board::INPUT_OCTETS;
/// Octets of a receiver session's output buffer; holds the longest reply.
pub const OUTPUT_OCTETS: usize = board::OUTPUT_OCTETS;
/// Octets of a sender connection's input buffer; holds the longest reply line.
pub const SENDER_INPUT_OCTETS: usize = board::SENDER_INPUT_OCTETS;
/// Octets of a sender connection's output buffer; holds the longest command line.
pub const SENDER_OUTPUT_OCTETS: usize = board::SENDER_OUTPUT_OCTETS;
/// Messages in the queue at once.
pub const QUEUED_MESSAGES: usize = board::QUEUED_MESSAGES;
/// Recipients of one message.
pub const RECIPIENTS: usize = board::RECIPIENTS;
/// Octets of one message's mail data.
pub const MESSAGE_OCTETS: u64 = board::MESSAGE_OCTETS;
/// Blocks of the largest spool file this build can manage.
pub const SPOOL_BLOCKS: usize = board::SPOOL_BLOCKS;
/// The budget in octets for all that is reserved at start.
pub const MEMORY_OCTETS: usize = board::MEMORY_OCTETS;

/// Octets of a path with its angle brackets (RFC 5321 4.5.3.1.3).
pub const PATH_OCTETS_MAX: usize = 256;
/// Octets of a local-part (RFC 5321 4.5.3.1.1).
pub const LOCAL_PART_OCTETS_MAX: usize = 64;
/// Octets of a domain (RFC 5321 4.5.3.1.2).
pub const DOMAIN_OCTETS_MAX: usize = 255;
/// Octets of a command line with CRLF (RFC 5321 4.5.3.1.4) and the increments of SIZE, BODY, AUTH, DSN and
/// SMTPUTF8, which MAIL may all have at once.
pub const COMMAND_OCTETS_MAX: usize = 512 + 26 + 17 + 500 + 100 + 10;
/// Octets of a reply line with CRLF (RFC 5321 4.5.3.1.5).
pub const REPLY_LINE_OCTETS_MAX: usize = 512;
/// Octets kept of a smarthost's reply text.
pub const REPLY_TEXT_OCTETS_MAX: usize = 250;
/// Received fields beyond which a message is taken for a loop (RFC 5321 6.3).
pub const HOPS_MAX: usize = 100;

/// Octets of a spool block; part of the spool's format.
pub const BLOCK_OCTETS: usize = 4096;
/// Recipients of one message that the spool's format can hold, whatever the board.
pub const RECIPIENTS_FORMAT_MAX: usize = 1000;
/// Octets of mail data that any block of a long message holds at least, its header aside.
pub const BLOCK_MAIL_DATA_OCTETS_MIN: usize = 4000;
/// Blocks that are never mail: the superblock's two slots, and a reserve for the new heads of partly relayed
/// mail.
pub const SPOOL_BLOCKS_RESERVED: usize = 2 + 8;

/// Octets of a receiver session's slot without its buffers and its draft's block, at most.
pub const RECEIVER_SLOT_OCTETS: usize = 1024;
/// Octets of a whole receiver session: slot, input, output, and the block of its draft.
pub const RECEIVER_SESSION_OCTETS: usize = RECEIVER_SLOT_OCTETS + INPUT_OCTETS + OUTPUT_OCTETS + BLOCK_OCTETS;
/// Octets that a receiver session may cost on any board.
pub const RECEIVER_SESSION_OCTETS_MAX: usize = 8192;
/// Octets of a sender connection's slot without its buffers, its block and its recipients' states, at most.
pub const SENDER_SLOT_OCTETS: usize = 6144;
/// Octets of one recipient's state while its message is relayed; a connection may have two under way.
pub const RECIPIENT_STATE_OCTETS: usize = 3;
/// Blocks that the spool works in beside those of its drafts and readers.
pub const SPOOL_WORKING_BLOCKS: usize = 1;
/// Octets of one entry of the spool's next-block map.
pub const NEXT_BLOCK_OCTETS: usize = 4;
/// Bits that the spool keeps of each block beside its next one.
pub const BLOCK_BITS: usize = 3;
/// Octets of one message in the spool's table, at most.
pub const MESSAGE_ENTRY_OCTETS: usize = 48;
/// Octets of one message in the queue, at most.
pub const QUEUE_ENTRY_OCTETS: usize = 26;
/// Different replies that are remembered as the reason why messages wait.
pub const REPLIES_REMEMBERED: usize = match QUEUED_MESSAGES / 256 {
    0..4 => 4,
    64.. => 64,
    replies => replies,
};
/// Octets of one of them, at most.
pub const REPLY_ENTRY_OCTETS: usize = 288;
/// Smarthosts that may be configured: the preferred one, and those that stand in for it.
pub const SMARTHOSTS: usize = 4;
/// Octets of what is known of the route to one of them, at most.
pub const ROUTE_OCTETS: usize = 512;
/// Hosts whose addresses are known or being asked for at once.
pub const RESOLVED_NAMES: usize = 4;
/// Octets of one of them, at most.
pub const RESOLVED_NAME_OCTETS: usize = 2048;

/// Clients that are remembered: twice as many as can be served at once, and some.
pub const LEDGER_CLIENTS: usize = {
    let clients = 8 + 2 * RECEIVER_SESSIONS;
    if clients > u8::MAX as usize { u8::MAX as usize } else { clients }
};
/// Octets from the heap of one client's TLS, at most, the handshake's largest message included.
pub const TLS_CLIENT_OCTETS_MAX: usize = 128 * 1024;
/// Octets of what is remembered of one client, at most.
pub const LEDGER_CLIENT_OCTETS: usize = 104;

/// All that is reserved at start and for good: what, how many, octets of each.
pub const RESERVED: &[(&str, usize, usize)] = &[
    ("receiver slots", RECEIVER_SESSIONS, RECEIVER_SLOT_OCTETS),
    ("receiver input buffers", RECEIVER_SESSIONS, INPUT_OCTETS),
    ("receiver output buffers", RECEIVER_SESSIONS, OUTPUT_OCTETS),
    ("drafts' blocks", RECEIVER_SESSIONS, BLOCK_OCTETS),
    ("sender slots", SENDER_CONNECTIONS, SENDER_SLOT_OCTETS),
    ("sender input buffers", SENDER_CONNECTIONS, SENDER_INPUT_OCTETS),
    ("sender output buffers", SENDER_CONNECTIONS, SENDER_OUTPUT_OCTETS),
    ("readers' blocks", SENDER_CONNECTIONS, BLOCK_OCTETS),
    ("recipients' states", 2 * SENDER_CONNECTIONS * RECIPIENTS, RECIPIENT_STATE_OCTETS),
    ("spool's working blocks", SPOOL_WORKING_BLOCKS, BLOCK_OCTETS),
    ("spool's next-block map", SPOOL_BLOCKS, NEXT_BLOCK_OCTETS),
    ("spool's bits of a block", BLOCK_BITS, SPOOL_BLOCKS.div_ceil(8)),
    ("spool's messages", QUEUED_MESSAGES, MESSAGE_ENTRY_OCTETS),
    ("queue's messages", QUEUED_MESSAGES, QUEUE_ENTRY_OCTETS),
    ("replies remembered", REPLIES_REMEMBERED, REPLY_ENTRY_OCTETS),
    ("clients' ledger", LEDGER_CLIENTS, LEDGER_CLIENT_OCTETS),
    ("clients' shares", 256, 4),
    ("resolved names", RESOLVED_NAMES, RESOLVED_NAME_OCTETS),
    ("routes", SMARTHOSTS, ROUTE_OCTETS),
];

/// Octets reserved at start: the sum of [`RESERVED`].
pub const STATIC_OCTETS: usize = {
    let mut octets = 0;
    let mut row = 0;
    while row < RESERVED.len() {
        octets += RESERVED[row].1 * RESERVED[row].2;
        row += 1;
    }
    octets
};

/// The board's capacities, by their keys in its file.
pub const CAPACITIES: &[(&str, u64)] = &[
    ("receiver_sessions", RECEIVER_SESSIONS as u64),
    ("sender_connections", SENDER_CONNECTIONS as u64),
    ("tls_connections", TLS_CONNECTIONS as u64),
    ("input_octets", INPUT_OCTETS as u64),
    ("output_octets", OUTPUT_OCTETS as u64),
    ("sender_input_octets", SENDER_INPUT_OCTETS as u64),
    ("sender_output_octets", SENDER_OUTPUT_OCTETS as u64),
    ("queued_messages", QUEUED_MESSAGES as u64),
    ("recipients", RECIPIENTS as u64),
    ("message_octets", MESSAGE_OCTETS),
    ("spool_blocks", SPOOL_BLOCKS as u64),
    ("memory_octets", MEMORY_OCTETS as u64),
];

/// All limits with what they cost, as a text to read: what `postern limits` prints.
#[derive(Clone, Copy, Debug)]
pub struct Table;

impl core::fmt::Display for Table {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        writeln!(f, "board {BOARD}, built for {TRIPLE}")?;
        for (key, value) in CAPACITIES {
            writeln!(f, "  {key:<24} {value:>29}")?;
        }
        writeln!(f, "reserved at start              count x octets     octets")?;
        for (what, count, octets) in RESERVED {
            writeln!(f, "  {what:<24} {count:>9} x {octets:>6} {:>10}", count * octets)?;
        }
        writeln!(f, "  in all {STATIC_OCTETS:>47}")?;
        writeln!(f, "one receiver session {RECEIVER_SESSION_OCTETS:>35}")?;
        writeln!(f, "its TLS, from the heap, at most {TLS_CLIENT_OCTETS_MAX:>24}")
    }
}

// What the RFCs ask of every relay.
const _: () = assert!(LOCAL_PART_OCTETS_MAX >= 64, "RFC 5321 4.5.3.1.1");
const _: () = assert!(DOMAIN_OCTETS_MAX >= 255, "RFC 5321 4.5.3.1.2");
const _: () = assert!(PATH_OCTETS_MAX >= 256, "RFC 5321 4.5.3.1.3");
const _: () = assert!(COMMAND_OCTETS_MAX >= 512, "RFC 5321 4.5.3.1.4");
const _: () = assert!(INPUT_OCTETS > COMMAND_OCTETS_MAX, "RFC 5321 4.5.3.1.4: a longer line must show");
const _: () = assert!(REPLY_LINE_OCTETS_MAX >= 512, "RFC 5321 4.5.3.1.5");
const _: () = assert!(OUTPUT_OCTETS >= REPLY_LINE_OCTETS_MAX, "RFC 5321 4.5.3.1.5");
const _: () = assert!(SENDER_INPUT_OCTETS >= REPLY_LINE_OCTETS_MAX, "RFC 5321 4.5.3.1.5");
const _: () = assert!(MESSAGE_OCTETS >= 64 * 1024, "RFC 5321 4.5.3.1.7");
const _: () = assert!(RECIPIENTS >= 100, "RFC 5321 4.5.3.1.8");
const _: () = assert!(HOPS_MAX >= 100, "RFC 5321 6.3");

// How the capacities of a board relate to each other and to what the formats can count.
const _: () = assert!(SENDER_OUTPUT_OCTETS > COMMAND_OCTETS_MAX, "a command is written whole");
const _: () = assert!(REPLY_TEXT_OCTETS_MAX < REPLY_LINE_OCTETS_MAX, "a kept reply fits into a line again");
const _: () = assert!(RECIPIENTS <= RECIPIENTS_FORMAT_MAX, "a spool moves from board to board");
const _: () = assert!(RECEIVER_SESSIONS < u8::MAX as usize, "a draft's place is one octet");
const _: () = assert!(RECEIVER_SESSIONS <= QUEUED_MESSAGES, "each session may have a message in hand");
const _: () = assert!(QUEUED_MESSAGES <= SPOOL_BLOCKS, "a message takes one block at least");
const _: () = assert!(SPOOL_BLOCKS < u32::MAX as usize, "a block's place is 32 bits");
const _: () =
    assert!(TLS_CONNECTIONS <= RECEIVER_SESSIONS + SENDER_CONNECTIONS, "there are no more to speak TLS");
const _: () = assert!(
    MESSAGE_OCTETS + (RECIPIENTS * PATH_OCTETS_MAX) as u64
        <= ((SPOOL_BLOCKS - SPOOL_BLOCKS_RESERVED) * BLOCK_MAIL_DATA_OCTETS_MIN) as u64,
    "the largest message to the most recipients fits into the largest spool"
);

// What it costs.
const _: () =
    assert!(RECEIVER_SESSION_OCTETS <= RECEIVER_SESSION_OCTETS_MAX, "a session costs 8 KiB at most");
const _: () =
    assert!(STATIC_OCTETS <= MEMORY_OCTETS, "more is reserved than the board's memory_octets allow");
