//! The world: sockets, clocks, signals and the system's files.

pub mod clock;
mod event_loop;
pub mod hosts;
mod lines;
pub mod on_link;

pub use event_loop::{EventLoop, Running, StartError};
