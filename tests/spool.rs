//! What the spool promises while nothing fails.
mod disk;
