//! The world: sockets, clocks, signals and the system's files.

pub mod hosts;
mod lines;
pub mod on_link;
