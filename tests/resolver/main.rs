//! From names to addresses: the packets, the order of asking, and the sockets, against servers that misbehave
//! in every way (C-5.1-a: all addresses, in order; C-5.1-b: aliases are followed).

mod asking;
mod dials;
mod packets;
mod servers;
mod wire;
