//! Mail over several smarthosts that fail as providers do, on a clock that jumps from deadline to deadline.
mod clock;
#[path = "../disk/mod.rs"]
mod disk;
mod failover;
mod network;
mod providers;
mod world;
