//! What a process and all that descend from it hold: memory, descriptors, threads (`proc(5)`).
//!
//! Read without asking the program, and without stopping it. A process that ends meanwhile counts
//! for nothing.

use std::fs;
use std::io;

use crate::os::{cgroup, proc};

/// What a process tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Resident memory, pages that several share counted for each.
    pub rss_bytes: u64,
    /// CPU time so far, of those that have ended as well.
    pub cpu_ms: u64,
    /// Open descriptors; absent without permission to read them.
    pub n_fds: Option<u64>,
    /// Threads.
    pub n_threads: u64,
    /// Of the process that is nearest to its limit of open files.
    pub fullest: Option<Files>,
}

/// How many files a process has open, and how many it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Files {
    /// It has.
    pub n_open: u64,
    /// `RLIMIT_NOFILE`, the soft one.
    pub limit: u64,
}

/// What each of these processes holds with its descendants; one look at all processes serves them
/// all.
#[must_use]
pub fn of_trees(roots: &[i32]) -> Vec<Usage> {
    let parents = proc::parents();
    let tree = |root: &i32| {
        let mut tree = proc::tree_in(&parents, *root);
        tree.extend(cgroup::beside(*root));
        tree
    };
    roots.iter().map(tree).map(of_all).collect()
}

fn of_all(pids: impl IntoIterator<Item = i32>) -> Usage {
    let mut usage = Usage { n_fds: Some(0), ..Usage::default() };
    for pid in pids {
        usage.rss_bytes += proc::rss_bytes(pid);
        usage.cpu_ms += cpu_ms(pid).unwrap_or(0);
        usage.n_threads += proc::n_threads(pid).unwrap_or(0);
        match n_fds(pid) {
            Ok(n_open) => {
                usage.n_fds = usage.n_fds.map(|n| n + n_open);
                let files = file_limit(pid).map(|limit| Files { n_open, limit });
                let is_fuller = |files: &Files| {
                    let fullest = usage.fullest.unwrap_or(Files { n_open: 0, limit: 1 });
                    u128::from(files.n_open) * u128::from(fullest.limit)
                        >= u128::from(fullest.n_open) * u128::from(files.limit)
                };
                usage.fullest = files.filter(is_fuller).or(usage.fullest);
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => usage.n_fds = None,
            Err(_gone) => {}
        }
    }
    usage
}

/// Its own and that of the children that it has waited for: fields 14 to 17 of `/proc/PID/stat`.
fn cpu_ms(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let ticks: u64 = rest.split(' ').skip(11).take(4).filter_map(|n| n.parse::<u64>().ok()).sum();
    Some(ticks * 1000 / rustix::param::clock_ticks_per_second().max(1))
}

/// The size of the directory is their number since Linux 6.2; before, they are counted.
fn n_fds(pid: i32) -> io::Result<u64> {
    let path = format!("/proc/{pid}/fd");
    match fs::metadata(&path)?.len() {
        0 => Ok(fs::read_dir(&path)?.count() as u64),
        n => Ok(n),
    }
}

fn file_limit(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_holds_is_counted_and_grows_with_it() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = of_trees(&[own])[0];
        assert!(before.rss_bytes > 0 && before.n_threads > 0, "{before:?}");
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let memory = vec![1_u8; 32 << 20];
        let after = of_trees(&[own, own])[1];
        assert!(after.n_fds.unwrap() >= before.n_fds.unwrap() + 50 - 10, "{before:?} {after:?}");
        assert!(after.rss_bytes > before.rss_bytes + (16 << 20), "{before:?} {after:?}");
        let fullest = after.fullest.unwrap();
        assert!(fullest.n_open >= 50 && fullest.limit >= fullest.n_open, "{fullest:?}");
        // Each look takes some.
        let used = || of_trees(&[own])[0].cpu_ms;
        assert!((0..100_000).any(|_| used() > before.cpu_ms), "{before:?}");
        drop((files, memory));
    }

    #[test]
    fn descendants_are_part_of_it() {
        let mut sh = std::process::Command::new("sh");
        let mut child = sh.args(["-c", "sleep 60; true"]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let mut n_threads = 0;
        for _ in 0..100_000 {
            n_threads = of_trees(&[pid])[0].n_threads;
            if n_threads == 2 {
                break;
            }
            std::thread::yield_now();
        }
        for pid in proc::tree(pid) {
            proc::signal(pid, proc::start_ticks(pid).unwrap(), 9).unwrap();
        }
        child.wait().unwrap();
        assert_eq!(n_threads, 2);
    }

    #[test]
    fn a_process_that_is_gone_holds_nothing() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        assert_eq!(of_trees(&[pid])[0], Usage { n_fds: Some(0), ..Usage::default() });
    }
}
