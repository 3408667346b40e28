//! The folders that a supervisor makes for a service and tells it in its environment, as systemd does
//! (systemd.exec(5)): a name alone in the configuration stands for a file in one of them.
//!
//! Without the variable it is the folder that our own unit has, so that the administrator's tools, which run
//! outside of the unit, read the same file in the same way.

use std::ffi::OsString;
use std::path::PathBuf;

/// One of these folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The variable that tells it.
    pub variable: &'static str,
    /// Its whole path.
    pub path: PathBuf,
}

/// All that are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// Of secrets and keys, which are only read.
    pub credentials: Folder,
    /// Of what is written: the spool, a refresh token.
    pub state: Folder,
}

impl Folders {
    /// The folders as `variable` gives the environment's values.
    pub fn new(variable: impl Fn(&'static str) -> Option<OsString>) -> Self {
        let folder = |name, default: &str| {
            let given = variable(name).unwrap_or_default();
            // A unit may have several of a kind, with colons between them.
            let first = std::env::split_paths(&given).next().filter(|path| path.is_absolute());
            Folder { variable: name, path: first.unwrap_or_else(|| default.into()) }
        };
        Self {
            credentials: folder("CREDENTIALS_DIRECTORY", "/run/credentials/postern.service"),
            state: folder("STATE_DIRECTORY", "/var/lib/postern"),
        }
    }
}

impl Default for Folders {
    /// Those of our own unit.
    fn default() -> Self {
        Self::new(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_folders_and_our_unit_the_rest() {
        let folders = Folders::new(|name| (name == "STATE_DIRECTORY").then(|| "/a/b:/c".into()));
        assert_eq!(folders.state.path, PathBuf::from("/a/b"));
        assert_eq!(folders.credentials.path, PathBuf::from("/run/credentials/postern.service"));
        for odd in ["", "relative", ":/a"] {
            assert_eq!(Folders::new(|_| Some(odd.into())), Folders::default(), "{odd:?}");
        }
    }
}
