//! `postern check`: judges the configuration without starting anything.

use std::path::Path;

use super::{Failure, configuration, print};

/// Prints `ok` when `path` is a configuration that this version can honour.
pub(super) fn run(path: &Path) -> Result<(), Failure> {
    configuration(path)?;
    print("ok\n")
}
