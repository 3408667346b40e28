//! What an administrator asks of a running relay, and what it answers.

#[path = "control/answers.rs"]
mod answers;
#[path = "control/damage_report.rs"]
mod damage_report;
#[path = "control/reload.rs"]
mod reload;
#[path = "control/removal.rs"]
mod removal;
#[path = "control/world.rs"]
mod world;

mod disk;
