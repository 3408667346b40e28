//! postern: a mail relay small enough to flash onto a router and trusted enough to carry the alarm that
//! matters.
//!
//! ```text
//!  devices ──SMTP──▶ receiver session ──draft──▶ spool ──▶ sender session ──SMTP──▶ smarthost
//!                        (pure)       group commit = receipt    (pure)
//!                           ▲                 │                    ▲
//!                           └──── relay: slots, queue, route ──────┘
//!                                         ▲
//!                      net: one mio loop, the only clock, the only sockets
//! ```
//!
//! The way in, for reading: this page, [`receiver`] (the session), [`spool`] (the store), [`queue`],
//! [`sender`] (the session), [`relay`], [`net`] (the loop). Then the whole has been seen.
//!
//! # The floors
//!
//! Each module uses only what stands below it; a test reads the `use crate::` lines.
//!
//! | floor | who |
//! | --- | --- |
//! | 8 | `main` |
//! | 7 | [`applet`]: serve, sendmail, queue, status, setup, check, login, demo, limits |
//! | 6 | [`net`]: the world |
//! | 5 | [`relay`]: the whole relay as one value, for the loop and the simulator |
//! | 4 | [`receiver`], [`sender`], [`queue`]: side by side, not knowing each other; pure |
//! | 3 | [`spool`]: the one flat file; [`config`]: the run-time settings |
//! | 2 | [`smtp`]: the protocol as data; [`oauth2`]: that of tokens; [`jitter`] |
//! | 1 | [`limits`], [`time`], [`buffer`] |
//!
//! # The one rule
//!
//! Effects that answer at once are parameters (the disk); effects that take time are inputs and outputs (the
//! network, the clock). Nothing in `smtp`, `receiver`, `sender` and `queue` names a socket, a file, a clock
//! or a source of randomness.
//!
//! # Invariants
//!
//! - A `250` after mail data needs a [`spool::Receipt`], and only a sync makes one.
//! - Mail data never becomes commands: a refused message is read to its true end.
//! - Only CRLF.CRLF ends mail data, for everyone.
//! - No queue, buffer or loop is without a bound, and the compiler knows their sum ([`limits`]).
//! - After the start, receiving, spooling and relaying allocate nothing.
//! - A fault of the route is not charged to a message.
//! - Whoever's mail fails is told, by a state of that mail and no new one; nobody is told of a notice.
//! - Ages and waits go by the queue clock, which no change of the wall clock moves.
//!
//! # Absent on purpose
//!
//! Mailboxes, MX look-ups, content filters, plugins, cargo features, threads, an async runtime, a shutdown
//! that anything depends on.
pub mod applet;
pub mod buffer;
pub mod config;
pub mod jitter;
pub mod limits;
pub mod net;
pub mod oauth2;
pub mod queue;
pub mod receiver;
pub mod relay;
pub mod sender;
pub mod smtp;
pub mod spool;
pub mod time;
