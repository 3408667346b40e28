//! Less power than the process was started with: it becomes another user once its ports are bound, keeps no
//! capability, and leaves no memory behind in a core file.
//!
//! The process has one thread, so what is changed for that one is changed for good. The users' files are read
//! as they are: no name service beside them is asked.

use std::fs::File;
use std::io::{Error, Read};
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, geteuid, set_dumpable_behavior, setrlimit, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use rustix::thread::{Gid, Uid, remove_capability_from_bounding_set};

use super::StartError;
use super::lines::visit_lines;
use crate::config::RunAs;
use crate::spool::hand_over;

const USERS_PATH: &str = "/etc/passwd";
const GROUPS_PATH: &str = "/etc/group";
/// Groups of one user beside its own; no more are joined.
const GROUPS_MAX: usize = 32;

/// A user as the kernel knows one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    groups: heapless::Vec<u32, GROUPS_MAX>,
}

/// What holds from the start on, whoever we are: no core file and no debugger for what passes through our
/// memory, files for ourselves only, and no program that we might start gets more than we have.
///
/// # Errors
/// The kernel refuses.
pub fn harden() -> Result<(), Error> {
    umask(Mode::RWXG | Mode::RWXO);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_no_new_privs(true)?;
    Ok(())
}

/// True while we are root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Whom to become by `run_as`, if anybody.
///
/// # Errors
/// Nobody there, or root, or somebody whom we can't become.
pub(super) fn identity(run_as: Option<&RunAs>) -> Result<Option<Identity>, StartError> {
    let identity = run_as.map(look_up).transpose()?;
    if let Some(identity) = &identity
        && !is_root()
        && geteuid().as_raw() != identity.uid
    {
        return Err(StartError::RunAs("only root can become another user; start as root, or leave it out"));
    }
    Ok(identity)
}

fn look_up(run_as: &RunAs) -> Result<Identity, StartError> {
    let open = |path| File::open(path).map_err(|_| StartError::RunAs("can't read the system's users"));
    let user = match run_as {
        RunAs::UserAndGroup(uid, gid) => {
            return Ok(Identity { uid: *uid, gid: *gid, groups: heapless::Vec::new() });
        }
        RunAs::User(uid) => find_user(open(USERS_PATH)?, |_, found| found == *uid),
        RunAs::Name(name) => find_user(open(USERS_PATH)?, |found, _| found == name.as_bytes()),
    };
    let (uid, gid) =
        user.ok_or(StartError::RunAs("no such user in /etc/passwd; add one, or write \"uid:gid\""))?;
    if uid == 0 {
        return Err(StartError::RunAs("this user is root; leave run_as out to stay root"));
    }
    let mut identity = Identity { uid, gid, groups: heapless::Vec::new() };
    if let (RunAs::Name(name), Ok(groups)) = (run_as, File::open(GROUPS_PATH)) {
        identity.groups = groups_of(groups, name.as_bytes());
    }
    Ok(identity)
}

/// Becomes `identity` for good, if any, and keeps no capability unless it stays root; the spool's file at
/// `spool` is made its own before.
///
/// # Errors
/// The kernel refuses, or the spool's file can't be made.
pub(super) fn give_up(identity: Option<&Identity>, spool: &Path) -> Result<(), StartError> {
    if let Some(identity) = identity
        && is_root()
    {
        hand_over(spool, identity.uid, identity.gid)
            .map_err(|error| StartError::Spool { path: spool.to_path_buf(), error })?;
        become_user(identity).map_err(|error| StartError::System(error.into()))?;
    }
    if !is_root() {
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, none).map_err(|error| StartError::System(error.into()))?;
    }
    Ok(())
}

fn become_user(identity: &Identity) -> rustix::io::Result<()> {
    // A kernel may know fewer capabilities than we have names for.
    for capability in CapabilitySet::all().iter() {
        if let Err(error) = remove_capability_from_bounding_set(capability)
            && error != rustix::io::Errno::INVAL
        {
            return Err(error);
        }
    }
    let groups: heapless::Vec<Gid, GROUPS_MAX> =
        identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    assert!(set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_err(), "there is no way back to root");
    Ok(())
}

/// The numbers of the first user in `users` (as passwd(5) has it) that `is_meant` by name and number.
fn find_user(users: impl Read, is_meant: impl Fn(&[u8], u32) -> bool) -> Option<(u32, u32)> {
    let mut found = None;
    let read = visit_lines(users, |line| {
        let mut fields = line.split(|octet| *octet == b':');
        let name = fields.next().unwrap_or_default();
        let mut ids = fields.skip(1).map(number);
        if let (Some(Some(uid)), Some(Some(gid))) = (ids.next(), ids.next())
            && is_meant(name, uid)
        {
            found = Some((uid, gid));
        }
        found.is_none()
    });
    read.ok().and(found)
}

/// The groups in `groups` (as group(5) has it) that `name` is a member of.
fn groups_of(groups: impl Read, name: &[u8]) -> heapless::Vec<u32, GROUPS_MAX> {
    let mut of_user = heapless::Vec::new();
    // What can't be read makes nobody a member.
    let _ = visit_lines(groups, |line| {
        let mut fields = line.split(|octet| *octet == b':').skip(2);
        let gid = fields.next().and_then(number);
        let is_member =
            fields.next().unwrap_or_default().split(|octet| *octet == b',').any(|member| member == name);
        match gid {
            Some(gid) if is_member && gid != 0 => of_user.push(gid).is_ok(),
            _ => true,
        }
    });
    of_user
}

fn number(field: &[u8]) -> Option<u32> {
    core::str::from_utf8(field).ok()?.parse().ok().filter(|number| *number < u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &[u8] = b"root:x:0:0:root:/root:/bin/ash\n#x:x:7:7::/:\nbad:x:y:1::/:\nshort:x:9\n\
        postern:x:463:464:Mail:/var/lib/postern:/bin/false\npostern:x:1:1:again:/:\nother:x:463:5::/:\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        let by_name = |name: &[u8]| find_user(USERS, |found, _| found == name);
        assert_eq!(by_name(b"postern"), Some((463, 464)));
        assert_eq!(find_user(USERS, |_, uid| uid == 463), Some((463, 464)));
        for name in [&b"nobody"[..], b"bad", b"short", b"", b"poster"] {
            assert_eq!(by_name(name), None);
        }
    }

    #[test]
    fn groups_are_those_with_the_name_among_their_members_but_never_roots() {
        let groups =
            b"root:x:0:postern\ndialout:x:20:a,postern,b\nmail:x:8:poster,posterns\npostern:x:464:\n\
            tty:x:5:postern\nbad:x:y:postern\nshort:x:3\n";
        assert_eq!(groups_of(&groups[..], b"postern"), [20, 5]);
        assert!(groups_of(&groups[..], b"").is_empty() || groups_of(&groups[..], b"nobody").is_empty());
    }

    #[test]
    fn nobody_becomes_root_by_a_name() {
        let refused = |run_as| look_up(&run_as).unwrap_err().to_string();
        assert!(refused(RunAs::Name("no-such-user-here".to_owned())).starts_with("run_as: no such user"));
        assert!(refused(RunAs::Name("root".to_owned())).starts_with("run_as: this user is root"));
        let numbers = Identity { uid: 5, gid: 6, groups: heapless::Vec::new() };
        assert_eq!(look_up(&RunAs::UserAndGroup(5, 6)).unwrap(), numbers);
    }
}
