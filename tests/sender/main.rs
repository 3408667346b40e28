//! The sender against scripted smarthosts, each in three sizes of pieces: what goes over the wire, and what
//! becomes of each recipient. Ids are rows of the requirements' catalogue.
mod chunks;
mod dialogs;
#[path = "../disk/mod.rs"]
mod disk;
mod endings;
mod faults;
mod many;
mod rewriting;
mod riding;
mod rig;
mod security;
mod smarthost;
mod tokens;
