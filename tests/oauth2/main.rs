//! The pure part of OAuth 2.0: JSON against another parser, responses in pieces and out of bounds, and what a
//! token endpoint means. No socket.
mod devices;
mod grants;
mod json;
mod responses;
mod settings;
