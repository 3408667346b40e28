//! postern (map to be written)
pub mod applet;
pub mod buffer;
pub mod config;
pub mod limits;
pub mod net;
pub mod queue;
pub mod receiver;
pub mod sender;
pub mod smtp;
pub mod spool;
pub mod time;
