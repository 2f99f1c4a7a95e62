//! What a process and all that descend from it carry, whatever they make of their environment, their
//! session and their parents; nobody but root can shed it.
//!
//! A marked process is in a namespace of host names of its own (`uts_namespaces(7)`), in which all
//! names are the host's, but the NIS domain is the mark. One that is tried out on a copy is known by
//! its mounts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::core::ordered::Ordered as _;
use crate::os::{mounts, proc};

/// What the kernel calls a NIS domain that is none.
const NO_DOMAIN: &[u8] = b"(none)";

/// Marks this process. As any user but root, and on a host with a NIS domain, nothing is done.
///
/// # Errors
/// The kernel's, other than that it is not allowed here.
pub(super) fn put_on(mark: &str) -> io::Result<()> {
    let system = rustix::system::uname();
    let is_free = [NO_DOMAIN, b""].contains(&system.domainname().to_bytes());
    if !is_free || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    // SAFETY: no descriptor table is unshared, so no owner of a descriptor is affected.
    match unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUTS) } {
        Err(rustix::io::Errno::PERM | rustix::io::Errno::NOSPC) => Ok(()),
        unshared => {
            unshared?;
            Ok(rustix::system::setdomainname(domain(mark).as_bytes())?)
        }
    }
}

/// A domain has at most 64 bytes, a mark any number.
fn domain(mark: &str) -> String {
    format!("halley-{:016x}", hash(mark.as_bytes()))
}

/// What a long name is known by where only a short one fits (FNV-1a).
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Processes that carry this mark.
#[must_use]
pub fn carriers(mark: &str) -> BTreeSet<i32> {
    let wanted = domain(mark);
    let mut domains = BTreeMap::new();
    let mut carriers = BTreeSet::new();
    for (pid, space) in elsewhere("uts") {
        let domain =
            domains.entry(space).or_insert_with(|| domain_of(pid).unwrap_or_default().into_bytes());
        if *domain == wanted.as_bytes() {
            carriers.insert(pid);
        }
    }
    carriers
}

/// The NIS domain where another process is.
fn domain_of(pid: i32) -> io::Result<String> {
    let space = File::open(format!("/proc/{pid}/ns/uts"))?;
    // A namespace of host names is a thread's own.
    let looked = std::thread::Builder::new().spawn(move || {
        move_into_link_name_space(
            space.as_fd(),
            Some(LinkNameSpaceType::HostNameAndNISDomainName),
        )?;
        Ok(rustix::system::uname().domainname().to_string_lossy().into_owned())
    })?;
    looked.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

/// Processes that are tried out on the copy in this directory, by the mounts that they see.
#[must_use]
pub fn on_copy(dir: &Path) -> BTreeSet<i32> {
    let mut gone = dir.as_os_str().to_owned();
    gone.push("//deleted");
    let has_it =
        |pid: i32| mounts::places(pid).iter().any(|at| at == dir || at.as_os_str() == gone);
    elsewhere("mnt").into_iter().map(|(pid, _)| pid).filter(|pid| has_it(*pid)).into_set()
}

/// Processes in another namespace of this kind than this one's, with the namespace.
fn elsewhere(kind: &str) -> Vec<(i32, PathBuf)> {
    let space = |pid: &dyn std::fmt::Display| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    let Ok(own) = space(&"self") else { return Vec::new() };
    let all = proc::all().into_iter().filter_map(|pid| Some((pid, space(&pid).ok()?)));
    all.filter(|(_, space)| *space != own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_of_any_length_is_a_domain_of_its_own() {
        let long = "/srv/".repeat(40);
        assert_eq!(domain(&long).len(), "halley-0123456789abcdef".len());
        assert_ne!(domain("/srv/ops/0000001/live"), domain("/srv/ops/0000002/live"));
    }
}
