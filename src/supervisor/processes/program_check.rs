//! Whether a program can be started on this machine: it is there, executable, and of this CPU.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::config::model::Settings;

/// Whether the command is there, may be executed, and is for this machine.
pub(crate) fn program(tree: &Path, settings: &Settings) -> Vec<String> {
    let Some(program) = settings.command.first() else {
        let why = "no command: neither the configuration nor release.toml names one";
        return vec![why.to_owned()];
    };
    let path = if program.contains('/') {
        tree.join(program)
    } else {
        match in_path(tree, program, settings) {
            Some(path) => path,
            None => {
                let path = search_path(settings);
                return vec![format!("command {program}: no such program in PATH ({path})")];
            }
        }
    };
    if fs::metadata(&path).is_err() {
        return vec![format!("command {program}: the artifact holds no such file")];
    }
    if !runs(&path) {
        return vec![format!("command {program}: it is not executable (chmod +x)")];
    }
    wrong_kind(program, &start_of(&path)).into_iter().collect()
}

/// The first bytes of a program.
fn start_of(path: &Path) -> Vec<u8> {
    let mut start = vec![0; 256];
    // Whoever owns its directory may have put a FIFO in its place by now.
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let n = opened.and_then(|mut file| file.read(&mut start)).unwrap_or(0);
    start.truncate(n);
    start
}

/// What stands against a hook's command: a hook that cannot be started is found out now, not when
/// its point comes.
pub(crate) fn not_there(
    tree: &Path,
    command: &[String],
    settings: &Settings,
    point: &str,
) -> Option<String> {
    let program = command.first()?;
    let path = match program.contains('/') {
        true => Some(tree.join(program)),
        false => in_path(tree, program, settings),
    };
    (!path.is_some_and(|path| runs(&path)))
        .then(|| format!("hook {point}: {program} is not there, or not executable"))
}

/// The `PATH` that the service's programs have, and are looked up in.
pub(crate) fn search_path(settings: &Settings) -> String {
    let own = settings.env.get("PATH").cloned();
    own.or_else(|| std::env::var("PATH").ok()).filter(|path| !path.is_empty()).unwrap_or_else(
        || "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
    )
}

/// In the tree, where a directory of `PATH` is relative: that is where the program is started.
fn in_path(tree: &Path, program: &str, settings: &Settings) -> Option<PathBuf> {
    let path = search_path(settings);
    std::env::split_paths(&path).map(|dir| tree.join(dir).join(program)).find(|path| runs(path))
}

fn runs(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// What is to be said of a script whose interpreter is neither of the release nor of the system.
pub(crate) fn foreign_interpreter(tree: &Path, settings: &Settings) -> Option<String> {
    let program = settings.command.first().filter(|program| program.contains('/'))?;
    let interpreter = interpreter(&start_of(&tree.join(program)))?;
    let is_usual = ["/usr/", "/bin/", "/sbin/"].iter().any(|dir| interpreter.starts_with(dir));
    (!is_usual).then(|| {
        format!(
            "command {program}: its first line names {interpreter}, which is outside of the release; to \
             run what is in the release: command = {}",
            recipe(program)
        )
    })
}

/// How to start a script by an interpreter of its own tree: those of `pip` and others have the path of where
/// they were installed.
fn recipe(program: &str) -> String {
    let (dir, name) = program.rsplit_once('/').unwrap_or((".", program));
    format!("[\"{dir}/python\", \"{dir}/{name}\"]")
}

/// Why the first bytes cannot be run here: another CPU's ELF file, or a script whose interpreter is
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
    let interpreter = interpreter(start)?;
    (!Path::new(&interpreter).is_file()).then(|| {
        format!(
            "command {program}: its interpreter {interpreter} is not there; to run what is in the release: \
             command = {}",
            recipe(program)
        )
    })
}

/// What the first line of a script names.
fn interpreter(start: &[u8]) -> Option<String> {
    let line = start.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line).trim().to_owned();
    Some(line.split_ascii_whitespace().next()?.to_owned())
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
