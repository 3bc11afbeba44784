//! Who may connect: the broker's own user, root, and whom the settings name.
//!
//! 1. The broker's own user and root always may: they can read its memory and end it in any case. Nobody else may end it.
//! 2. Anybody else may who is among the allowed users, or is in one of the allowed groups, be it the process's own group or a
//!    supplementary one: as the kernel knew it when it connected (`SO_PEERCRED`, `SO_PEERGROUPS`).
//! 3. Exactly these can enter the directory (not list it) and open the socket: by access control lists. On a file system that has
//!    none everybody can, and what is said on connecting keeps the others out. When nobody else is allowed, only the broker's user can.
//!
//! Directories above the broker's are their owner's business: a client must be able to pass them.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ringway_shm_protocol::control::socket::Peer;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The attribute that holds an access control list.
const ACL: &str = "system.posix_acl_access";
/// Its version.
const ACL_VERSION: u32 = 2;
/// The "id" of entries that are of nobody in particular.
const NO_ID: u32 = u32::MAX;
/// Groups of a peer that a refusal names.
const GROUPS_SHOWN_MAX: usize = 16;

/// To pass a directory.
const ENTER: u16 = 0o1;
/// To connect to a socket is to write to it.
const CONNECT: u16 = 0o2;

/// Whose an entry of a list is.
#[derive(Clone, Copy)]
enum Tag {
    Owner = 0x01,
    User = 0x02,
    OwningGroup = 0x04,
    Group = 0x08,
    Mask = 0x10,
    Others = 0x20,
}

/// Who may connect: see the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Admission {
    own: u32,
    uids: Vec<u32>,
    gids: Vec<u32>,
}

impl Admission {
    /// Admits the user of this process, root, and these.
    pub(crate) fn new(uids: &[u32], gids: &[u32]) -> Self {
        let own = rustix::process::geteuid().as_raw();
        let others = uids.iter().copied().filter(|uid| *uid != own && *uid != 0).collect();
        Self { own, uids: others, gids: gids.to_vec() }
    }

    /// Whether this user may do everything.
    pub(crate) fn is_owner(&self, uid: u32) -> bool {
        uid == self.own || uid == 0
    }

    /// Refuses whoever is not admitted, with what to tell them.
    pub(crate) fn check(&self, peer: &Peer) -> Result<(), String> {
        let groups = || peer.groups.iter().chain([&peer.gid]);
        if self.is_owner(peer.uid)
            || self.uids.contains(&peer.uid)
            || groups().any(|group| self.gids.contains(group))
        {
            return Ok(());
        }
        let list =
            |ids: &mut dyn Iterator<Item = &u32>| ids.map(u32::to_string).collect::<Vec<_>>().join(", ");
        let mut allowed = format!("user {}, root", self.own);
        if !self.uids.is_empty() {
            allowed += &format!(", users {}", list(&mut self.uids.iter()));
        }
        if !self.gids.is_empty() {
            allowed += &format!(", members of groups {}", list(&mut self.gids.iter()));
        }
        let (pid, uid, groups) = (peer.pid, peer.uid, list(&mut groups().take(GROUPS_SHOWN_MAX)));
        Err(format!(
            "process {pid} of user {uid} (groups {groups}) may not use this broker, which serves {allowed}: run it as one of \
             these, or name user {uid} in allowed_uids, or one of its groups in allowed_gids, of the broker's settings"
        ))
    }

    /// Lets exactly those enter a directory who may connect. One that was not `made` by this broker keeps what it allows beyond.
    pub(crate) fn open_directory(&self, path: &Path, made: bool) -> io::Result<()> {
        let mut mode = std::fs::metadata(path)?.permissions().mode();
        // What a broker with other settings may have left; with a list, the bits of the group are its mask.
        if made || remove_list(path)? {
            mode = 0o700;
            std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        self.open(path, mode, ENTER)
    }

    /// Lets exactly those connect to a socket who may.
    pub(crate) fn open_socket(&self, path: &Path) -> io::Result<()> {
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        self.open(path, 0o600, CONNECT)
    }

    fn open(&self, path: &Path, mode: u32, right: u16) -> io::Result<()> {
        if self.uids.is_empty() && self.gids.is_empty() {
            return Ok(());
        }
        let bits = |shift: u32| (mode >> shift & 0o7) as u16;
        let mut list = vec![(Tag::Owner, bits(6), NO_ID)];
        list.extend(sorted(&self.uids).map(|uid| (Tag::User, right, uid)));
        list.push((Tag::OwningGroup, bits(3), NO_ID));
        list.extend(sorted(&self.gids).map(|gid| (Tag::Group, right, gid)));
        list.extend([(Tag::Mask, bits(3) | right, NO_ID), (Tag::Others, bits(0), NO_ID)]);
        let entry = |(tag, rights, id): (Tag, u16, u32)| {
            [&(tag as u16).to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let bytes = [ACL_VERSION.to_le_bytes().to_vec(), list.into_iter().flat_map(entry).collect()].concat();
        match rustix::fs::setxattr(path, ACL, &bytes, XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) => {
                let everybody = u32::from(right) * 0o011;
                std::fs::set_permissions(path, Permissions::from_mode(mode & 0o777 | everybody))
            }
            set => Ok(set?),
        }
    }
}

/// The kernel wants them in order, and none twice.
fn sorted(ids: &[u32]) -> impl Iterator<Item = u32> {
    ids.iter().copied().collect::<std::collections::BTreeSet<_>>().into_iter()
}

/// Whether there was a list.
fn remove_list(path: &Path) -> io::Result<bool> {
    // Removing what is not there would succeed.
    match rustix::fs::getxattr(path, ACL, &mut [0; 0]) {
        Ok(_) => Ok(rustix::fs::removexattr(path, ACL).map(|()| true)?),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_shm_protocol::control::socket;

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        Peer { uid, gid, groups: groups.to_vec(), ..socket::peer(&one).unwrap() }
    }

    fn admission(uids: &[u32], gids: &[u32]) -> Admission {
        Admission { own: 7, ..Admission::new(uids, gids) }
    }

    #[test]
    fn the_own_user_and_root_may_connect_and_nobody_else_when_nothing_is_said() {
        let admission = admission(&[], &[]);
        assert!(admission.check(&peer(7, 1, &[])).is_ok() && admission.check(&peer(0, 1, &[])).is_ok());
        let refused = admission.check(&peer(8, 7, &[0, 7])).unwrap_err();
        assert!(
            refused.contains("of user 8 (groups 0, 7, 7)") && refused.contains("serves user 7, root:"),
            "{refused}"
        );
        assert!(admission.is_owner(7) && admission.is_owner(0) && !admission.is_owner(8));
    }

    #[test]
    fn who_is_named_may_connect_by_user_by_group_and_by_supplementary_group() {
        let admission = admission(&[8, 9], &[70]);
        for allowed in [peer(8, 1, &[]), peer(9, 1, &[]), peer(5, 70, &[]), peer(5, 1, &[2, 70])] {
            assert_eq!(admission.check(&allowed), Ok(()));
            assert!(!admission.is_owner(allowed.uid));
        }
        let refused = admission.check(&peer(70, 8, &[9])).unwrap_err();
        assert!(refused.contains("serves user 7, root, users 8, 9, members of groups 70:"), "{refused}");
        assert!(refused.contains("allowed_uids") && refused.contains("allowed_gids"), "{refused}");
    }

    #[test]
    fn a_directory_is_open_to_nobody_who_is_not_allowed_and_closed_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mode = || std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        Admission::new(&[], &[]).open_directory(path, true).unwrap();
        assert_eq!(mode(), 0o700);
        let own = rustix::process::geteuid().as_raw();
        Admission::new(&[own, 0], &[]).open_directory(path, true).unwrap();
        assert_eq!(mode(), 0o700, "nobody else was named");
        Admission::new(&[own + 1, own + 1], &[70]).open_directory(path, false).unwrap();
        // The bits of the group are the mask of the list; where there are no lists, everybody may pass.
        assert!([0o710, 0o711].contains(&mode()), "{:o}", mode());
        if mode() == 0o710 {
            Admission::new(&[], &[]).open_directory(path, false).unwrap();
            assert_eq!(mode(), 0o700);
        }
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        Admission::new(&[], &[]).open_directory(path, false).unwrap();
        assert_eq!(mode(), 0o755, "that of a directory that was there is its owner's");
    }
}
