//! The program: one binary, whose applets are chosen by its name or its first argument.

use std::process::ExitCode;

fn main() -> ExitCode {
    postern::applet::run(std::env::args_os())
}
