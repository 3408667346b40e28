//! `sendmail` as programs call it, against a real relay with a real smarthost behind it: the envelope that it
//! makes (RFC 2821 appendix B), what it does to the message, its exit codes, and what becomes of a message
//! while no relay runs.

mod calls;
mod envelope;
mod replies;
mod spool;
mod world;
