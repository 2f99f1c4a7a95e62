//! The limits, the rank and the capabilities of a program: plain values, and how the launcher that
//! becomes the program sets them.

use std::io;

use rustix::thread::{self, CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use super::proc;

/// The resources of `setrlimit(2)`, by their names in the configuration.
pub const RESOURCES: [&str; 7] = [
    "open_files",
    "processes",
    "core_size",
    "locked_memory",
    "address_space",
    "file_size",
    "stack_size",
];

/// The value of a resource that has no limit.
pub const UNLIMITED: u64 = u64::MAX;

/// What the programs of a service are limited to; what is absent stays as Halley has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessLimits {
    /// The bits that new files do not get.
    pub umask: Option<u32>,
    /// -20 to 19: the greater, the less often it runs.
    pub nice: Option<i32>,
    /// Rank at the disk, as `ioprio_set(2)` takes it.
    pub io_priority: Option<u32>,
    /// -1000 to 1000: the greater, the sooner it is killed when memory runs out.
    pub oom_score_adj: Option<i32>,
    /// ProcessLimits of `setrlimit(2)`, soft and hard alike, by their names in the configuration.
    pub resources: Vec<(String, u64)>,
    /// No program that it starts gains rights (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privs: bool,
    /// The capabilities it keeps, one bit each; as its user has them when absent.
    pub capabilities: Option<u64>,
}

impl ProcessLimits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The number of a resource by its name in the configuration.
fn number(name: &str) -> Option<libc::__rlimit_resource_t> {
    Some(match name {
        "open_files" => libc::RLIMIT_NOFILE,
        "processes" => libc::RLIMIT_NPROC,
        "core_size" => libc::RLIMIT_CORE,
        "locked_memory" => libc::RLIMIT_MEMLOCK,
        "address_space" => libc::RLIMIT_AS,
        "file_size" => libc::RLIMIT_FSIZE,
        "stack_size" => libc::RLIMIT_STACK,
        _ => return None,
    })
}

/// A step that failed.
pub type Failed = (&'static str, io::Error);

/// What only root may raise, before the user changes.
///
/// # Errors
/// The first step that the kernel refuses.
pub fn set(limits: &ProcessLimits) -> Result<(), Failed> {
    let step = |name: &'static str| move |error: io::Error| (name, error);
    if let Some(umask) = limits.umask {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
    }
    if let Some(nice) = limits.nice {
        rustix::process::setpriority_process(None, nice)
            .map_err(io::Error::from)
            .map_err(step("setting nice"))?;
    }
    if let Some(value) = limits.io_priority {
        set_io_priority(value).map_err(step("setting ionice"))?;
    }
    if let Some(score) = limits.oom_score_adj {
        proc::adjust_oom_score(score).map_err(step("setting oom_score_adj"))?;
    }
    if let Some(keep) = limits.capabilities {
        drop_capabilities(keep).map_err(step("dropping capabilities"))?;
    }
    for (name, most) in &limits.resources {
        set_resource(name, *most).map_err(step("setting limits"))?;
    }
    Ok(())
}

/// The least `nice` that this process may give: 20 less its limit (getrlimit(2)).
#[must_use]
pub fn least_nice() -> i32 {
    let most = hard(libc::RLIMIT_NICE).unwrap_or(0).min(40);
    20 - i32::try_from(most).unwrap_or(0)
}

/// The hard limit of a resource, by its name in the configuration.
#[must_use]
pub fn hard_limit(name: &str) -> Option<u64> {
    hard(number(name)?)
}

fn hard(number: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is a live value of the type that getrlimit(2) writes.
    let is_read = unsafe { libc::getrlimit(number, &raw mut limit) } == 0;
    let hard = (limit.rlim_max != libc::RLIM_INFINITY).then_some(limit.rlim_max);
    #[allow(clippy::useless_conversion, reason = "a 32-bit system has another type")]
    is_read.then(|| hard.map_or(UNLIMITED, u64::from))
}

fn set_resource(name: &str, most: u64) -> io::Result<()> {
    let of = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
    let number = number(name).ok_or_else(|| of(io::ErrorKind::Unsupported.into()))?;
    // A 32-bit system has greater numbers than its own type.
    let most = match most {
        UNLIMITED => libc::RLIM_INFINITY,
        most => libc::rlim_t::try_from(most).unwrap_or(libc::RLIM_INFINITY),
    };
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the limit is a live value of the type that setrlimit(2) reads.
    match unsafe { libc::setrlimit(number, &raw const limit) } {
        0 => Ok(()),
        _ => Err(of(io::Error::last_os_error())),
    }
}

fn set_io_priority(value: u32) -> io::Result<()> {
    /// Of `<linux/ioprio.h>`: one process.
    const WHO_PROCESS: libc::c_int = 1;
    // SAFETY: ioprio_set(2) takes three numbers; process 0 is the calling one.
    match unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// No program that this process becomes or starts can have others than these. They outlive the change
/// of the user.
fn drop_capabilities(keep: u64) -> io::Result<()> {
    let keep = CapabilitySet::from_bits_truncate(keep);
    for one in CapabilitySet::all().difference(keep).iter() {
        // An error: this kernel does not know it.
        if thread::capability_is_in_bounding_set(one).unwrap_or(false) {
            thread::remove_capability_from_bounding_set(one)?;
        }
    }
    Ok(thread::set_keep_capabilities(true)?)
}

/// The kept ones are the program's own, whatever its user. The last step before the program.
///
/// # Errors
/// When this process does not have one of them.
pub fn keep_capabilities(keep: u64) -> io::Result<()> {
    let keep = CapabilitySet::from_bits_truncate(keep);
    thread::set_capabilities(
        None,
        CapabilitySets { effective: keep, permitted: keep, inheritable: keep },
    )?;
    for one in keep.iter() {
        thread::configure_capability_in_ambient_set(one, true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_resource_of_the_configuration_is_known() {
        assert!(RESOURCES.iter().all(|name| number(name).is_some()));
    }
}
