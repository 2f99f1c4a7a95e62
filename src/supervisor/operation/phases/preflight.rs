//! All that can be known before the first side effect, and all failures at once.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::api::Event;
use crate::config::model::{Settings, Strategy};
use crate::core::operation::machine::Event as Step;
use crate::os::{fs as disk, proc};
use crate::supervisor::data::backup;
use crate::supervisor::operation::admission;
use crate::supervisor::operation::context::{Extent, Force, Job, Performed, refuse};
use crate::supervisor::operation::dry_run;
use crate::supervisor::operation::phases::hold;
use crate::supervisor::proxy;
use crate::supervisor::rollback_readiness::schema;
use crate::supervisor::service::Service;
use crate::supervisor::service::operation::Operation;
use crate::text;

/// Disk space that an operation leaves to others.
const SPARE_BYTES: u64 = 16 * 1024 * 1024;
/// Files that it leaves to others.
const SPARE_INODES: u64 = 1_000;

/// Looks, and refuses with everything that is wrong.
pub async fn preflight(
    service: &Rc<Service>,
    operation: &Rc<Operation>,
    job: &mut Job,
) -> Performed {
    let Some(staged) = &job.staged else { return refuse(job, 11, "nothing was staged") };
    let mut failures: Vec<(u8, String)> = Vec::new();
    if let Some(why) = frozen(service, job, &staged.listing.digest) {
        failures.push((9, why));
    }
    failures.extend(admission::frozen(service, job.terms.force).into_iter().map(|why| (9, why)));
    failures.extend(room(service, staged.listing.n_files).into_iter().map(|why| (13, why)));
    failures.extend(program(&staged.dir, &staged.settings).into_iter().map(|why| (10, why)));
    for hook in &staged.settings.hooks {
        let missing = not_there(&staged.dir, &hook.command, hook.point.name());
        failures.extend(missing.into_iter().map(|why| (10, why)));
    }
    if let Some(user) = &staged.settings.user
        && proc::user(user).is_none()
    {
        failures.push((10, format!("there is no user {user:?}")));
    }
    let config = service.config();
    // The address is taken before the start, so that a stranger on it stops nothing but this.
    if let Err(error) = service.slots.open(service.link(), &config).await {
        failures.push((10, error.to_string()));
    }
    if config.strategy == Strategy::Hold {
        failures.extend(hold::too_many(service).into_iter().map(|why| (10, why)));
    }
    if let Some(proxy) = &config.proxy
        && let Err(error) = proxy::check(proxy, usize::from(config.settings.instances)).await
    {
        failures.push((10, error.to_string()));
    }
    failures.extend(backup::no_room(service).into_iter().map(|why| (13, why)));
    failures.extend(backup::obstacles(service).await.into_iter().map(|why| (10, why)));
    failures.extend(schema::contract(service, job, &staged.settings).into_iter().map(|w| (10, w)));
    if failures.is_empty() {
        let plan = dry_run::of(service, job, &staged.settings, staged.listing.size_bytes);
        let detail = dry_run::text(&plan);
        operation.tell(Event::Plan(Box::new(plan)));
        // A dry run ends here.
        return match job.terms.extent {
            Extent::Plan => Performed::not(Step::Abort, detail),
            Extent::Whole => Performed::ok(detail),
        };
    }
    // One kind of failure keeps its own code; several together are a refusal.
    let first = failures[0].0;
    let exit = if failures.iter().all(|(code, _)| *code == first) { first } else { 10 };
    let texts: Vec<String> = failures.into_iter().map(|(_, why)| why).collect();
    refuse(job, exit, &texts.join("\n"))
}

fn frozen(service: &Service, job: &Job, digest: &str) -> Option<String> {
    let state = service.state.borrow();
    let frozen = state.frozen(digest).filter(|_| job.terms.force == Force::No)?;
    Some(format!(
        "this artifact was release {} and is frozen since {}: {}; --force releases it all the same",
        frozen.release, frozen.at, frozen.why
    ))
}

/// Room on the disk and in memory for one more.
fn room(service: &Service, n_files: u64) -> Vec<String> {
    let mut failures = Vec::new();
    match disk::free(service.paths.dir()) {
        Ok(free) => {
            if free.bytes < SPARE_BYTES {
                failures.push(format!("the disk has {} left", text::size(free.bytes)));
            }
            if free.inodes < n_files.saturating_add(SPARE_INODES) {
                failures.push(format!("the disk has room for {} more files", free.inodes));
            }
        }
        Err(error) => failures.push(format!("{}: {error}", service.paths.dir().display())),
    }
    let needed: u64 = service.live_crew().map_or(0, |crew| {
        crew.instances().iter().filter_map(|i| i.pid()).map(proc::rss_bytes).sum()
    });
    if let Some(available) = memory_available().filter(|available| *available < needed) {
        failures.push(format!(
            "memory for two: {} are free, the running release uses {}",
            text::size(available),
            text::size(needed)
        ));
    }
    failures
}

fn memory_available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Whether the command is there, may be executed, and is for this machine.
pub fn program(tree: &Path, settings: &Settings) -> Vec<String> {
    let Some(program) = settings.command.first() else {
        let why = "no command: neither the configuration nor release.toml names one";
        return vec![why.to_owned()];
    };
    let path = if program.contains('/') {
        tree.join(program)
    } else {
        match in_path(program) {
            Some(path) => path,
            None => return vec![format!("command {program}: no such program in PATH")],
        }
    };
    let Ok(meta) = fs::metadata(&path) else {
        return vec![format!("command {program}: the artifact holds no such file")];
    };
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return vec![format!("command {program}: it is not executable (chmod +x)")];
    }
    let mut start = [0; 256];
    let n = File::open(&path).and_then(|mut file| file.read(&mut start)).unwrap_or(0);
    wrong_kind(program, &start[..n]).into_iter().collect()
}

/// What stands against a hook's command: a hook that cannot be started is found out now, not when
/// its point comes.
fn not_there(tree: &Path, command: &[String], point: &str) -> Option<String> {
    let program = command.first()?;
    let path = if program.contains('/') { Some(tree.join(program)) } else { in_path(program) };
    let meta = path.and_then(|path| fs::metadata(path).ok());
    let runs = meta.is_some_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    (!runs).then(|| format!("hook {point}: {program} is not there, or not executable"))
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// What the first bytes say against it: another CPU's ELF file, or a script whose interpreter is
/// not there.
fn wrong_kind(program: &str, start: &[u8]) -> Option<String> {
    if start.starts_with(b"\x7fELF") {
        let found = elf_machine(start)?;
        let own = File::open("/proc/self/exe").ok().and_then(|mut file| {
            let mut start = [0; 20];
            file.read_exact(&mut start).ok()?;
            elf_machine(&start)
        })?;
        let runs = found == own || (own == "x86_64" && found == "x86");
        return (!runs)
            .then(|| format!("command {program}: it is built for {found}, this machine is {own}"));
    }
    let line = start.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line).trim().to_owned();
    let interpreter = line.split_ascii_whitespace().next()?.to_owned();
    (!Path::new(&interpreter).is_file())
        .then(|| format!("command {program}: its interpreter {interpreter} is not there"))
}

/// `e_machine` of an ELF header (elf.h), by its usual name.
fn elf_machine(start: &[u8]) -> Option<String> {
    let bytes = [*start.get(18)?, *start.get(19)?];
    let machine = if start.get(5) == Some(&2) {
        u16::from_be_bytes(bytes)
    } else {
        u16::from_le_bytes(bytes)
    };
    let known = [(3, "x86"), (40, "arm"), (62, "x86_64"), (183, "aarch64"), (243, "riscv")];
    let name = known.iter().find(|(number, _)| *number == machine).map(|(_, name)| *name);
    Some(name.map_or_else(|| format!("machine {machine}"), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_for_another_cpu_is_named_with_both() {
        let mut header = [0; 64];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[18] = 243;
        let why = wrong_kind("./bin/web", &header).unwrap();
        assert!(why.contains("built for riscv, this machine is"), "{why}");
        let own = fs::read("/proc/self/exe").unwrap();
        assert_eq!(wrong_kind("self", &own[..64]), None);
    }

    #[test]
    fn a_script_without_its_interpreter_is_found_out() {
        let why = wrong_kind("./run", b"#!/no/such/python3 -u\nprint()").unwrap();
        assert!(why.contains("/no/such/python3 is not there"), "{why}");
        assert_eq!(wrong_kind("./run", b"#! /bin/sh\n"), None);
    }
}
