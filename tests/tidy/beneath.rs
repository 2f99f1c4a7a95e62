//! Where root works in directories that other users can write to, no function of the standard
//! library that follows a path is used: `os::beneath` does it by descriptors. That holds everywhere,
//! but for the files that are listed here with what they work in.

use super::File;
use super::code::has_word;
use super::paths::without_tests;

/// What works by descriptors itself.
pub const ROOM: &str = "src/os/beneath/";

/// Each follows its path anew.
const FOLLOWING: &[&str] = &[
    "File::open",
    "File::create",
    "File::options",
    "OpenOptions",
    "read_dir",
    "canonicalize",
    "chown",
    "lchown",
    "create_dir_all",
    "remove_dir_all",
    "fs::copy",
    "fs::hard_link",
    "fs::metadata",
    "fs::read",
    "fs::read_link",
    "fs::read_to_string",
    "fs::remove_dir",
    "fs::remove_file",
    "fs::rename",
    "fs::set_permissions",
    "fs::symlink_metadata",
    "fs::write",
];

/// Files that may, with the reason: what they work in belongs to Halley alone.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("src/cli/doctor.rs", "/proc and /sys"),
    ("src/cli/release.rs", "the client opens what its own user may read"),
    ("src/cli/unit.rs", "units of systemd"),
    ("src/cli/upgrade.rs", "the client opens what its own user may read"),
    ("src/config/files.rs", "the administrator's configuration"),
    ("src/config/mod.rs", "/proc"),
    ("src/decode/mod.rs", "/dev/null"),
    ("src/demo/ailment.rs", "/dev/null; a program of the demo"),
    ("src/demo/service.rs", "a program of the demo, as its own user"),
    ("src/demo/show.rs", "the demo's own directory, as the user who runs it"),
    ("src/demo/stream.rs", "a program of the demo, as its own user"),
    ("src/keeper/estate/record.rs", "the record, in the root"),
    ("src/os/addresses.rs", "/etc/resolv.conf"),
    ("src/os/apart.rs", "/proc"),
    ("src/os/cgroup.rs", "/proc, and groups below Halley's own, which no other user makes"),
    ("src/os/diag.rs", "/proc"),
    ("src/os/fs.rs", "directories of Halley's own; the others are worked in by os/beneath"),
    ("src/os/holders.rs", "/proc"),
    ("src/os/in_place.rs", "/proc, and the program that Halley was started as"),
    ("src/os/intercept.rs", "/proc"),
    ("src/os/isolate.rs", "scratch directories that no other user can enter; /proc"),
    ("src/os/listen.rs", "/proc"),
    ("src/os/local.rs", "/proc"),
    ("src/os/mark.rs", "/proc"),
    ("src/os/mounts.rs", "/proc"),
    ("src/os/proc.rs", "/proc"),
    ("src/os/recover.rs", "/proc"),
    ("src/os/running.rs", "/proc, and the configuration's path"),
    ("src/os/stderr.rs", "its own descriptors, in /proc"),
    ("src/os/stranger.rs", "/proc"),
    ("src/os/usage.rs", "/proc"),
    ("src/os/wish.rs", "/proc"),
    ("src/store/aside.rs", "releases/, staging/ and incoming/"),
    ("src/store/damage.rs", "the service's own directory, and the names of its directories"),
    ("src/store/history.rs", "the history, in the root"),
    ("src/store/intake.rs", "incoming/ and staging/; a tree that comes in is read by descriptors"),
    ("src/store/journal.rs", "ops/"),
    ("src/store/last_config.rs", "a file in the root"),
    ("src/store/layout.rs", "the names in a directory of the root"),
    ("src/store/migration.rs", "ops/"),
    ("src/store/outbox.rs", "the outbox, in the root"),
    ("src/store/rebuild.rs", "the service's own directory"),
    ("src/store/receipt.rs", "backups/ and the receipts in it; data/ is read by descriptors"),
    ("src/store/release.rs", "meta/"),
    ("src/store/reserve.rs", "the reserve, in the service's own directory"),
    ("src/store/restoration.rs", "the services' own directories"),
    ("src/store/salvage.rs", "ops/"),
    ("src/store/seal.rs", "sealing a tree in staging/; other trees are read by descriptors"),
    ("src/store/state.rs", "the service's own directory"),
    ("src/store/trial.rs", "the service's own directory"),
    ("src/supervisor/bake/error_lines.rs", "logs/"),
    ("src/supervisor/control/server.rs", "the control socket, in the administrator's directory"),
    ("src/supervisor/notify/deliver.rs", "a secret that the administrator names"),
    ("src/supervisor/operation/phases/preflight.rs", "/proc"),
    ("src/supervisor/operation/repair_work.rs", "damaged files in the service's own directory"),
    ("src/supervisor/processes/log_files.rs", "logs/"),
    ("src/supervisor/processes/log_lines.rs", "logs/"),
    ("src/supervisor/processes/log_pipe.rs", "a FIFO in run/"),
    ("src/supervisor/processes/printed.rs", "oneshots/, the output of commands"),
    (
        "src/supervisor/processes/program_check.rs",
        "looks at a program, waits for no FIFO, changes nothing",
    ),
    ("src/supervisor/proxy/caddy.rs", "/proc"),
    ("src/supervisor/proxy/nginx_include.rs", "the include, in the administrator's directory"),
    ("src/supervisor/service/notices.rs", "a mark in the service's own directory"),
    ("src/supervisor/sockets/backend_address.rs", "/proc"),
    ("src/supervisor/tasks/task.rs", "oneshots/, the output of commands"),
];

/// Functions that follow a path where none may.
pub fn complaints(file: &File) -> Vec<String> {
    let is_excepted = file.path.starts_with(ROOM)
        || is_of_tests(file)
        || EXCEPTIONS.iter().any(|(path, _)| *path == file.path);
    if is_excepted { Vec::new() } else { following(file) }
}

/// A file that is a module of tests as a whole.
fn is_of_tests(file: &File) -> bool {
    ["/tests.rs", "/test_service.rs", "/test_keeper.rs", "/test_host.rs", "/races.rs"]
        .iter()
        .any(|name| file.path.ends_with(name))
}

/// Exceptions that no file needs.
pub fn unused(files: &[File]) -> Vec<String> {
    let needs =
        |path: &str| files.iter().any(|file| file.path == path && !following(file).is_empty());
    let idle = EXCEPTIONS.iter().filter(|(path, _)| !needs(path));
    idle.map(|(path, _)| format!("{path} follows no path")).collect()
}

fn following(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    for (index, line) in without_tests(file.code.text()).lines().enumerate() {
        let here = FOLLOWING.iter().filter(|word| has_word(line, word));
        found.extend(here.map(|word| {
            format!("{}: {word} follows a path: another user may exchange it", index + 1)
        }));
    }
    found
}

#[test]
fn a_function_that_follows_a_path_is_seen() {
    let files = super::example(&[
        ("src/supervisor/data/a.rs", "fn f() { std::fs::copy(a, b); }"),
        ("src/supervisor/data/b.rs", "use std::fs;\nfn f() { fs::rename(a, b) }"),
        ("src/supervisor/data/c.rs", "fn f() { dir.rename(a, b); fs::copy_tree(a) } // fs::copy"),
        ("src/supervisor/data/d.rs", "mod tests {\n fn f() { std::fs::write(a, b) }\n}"),
        ("src/store/journal.rs", "fn f() { File::open(a) }"),
        ("src/keeper/a.rs", "fn f() { std::fs::read(a); }"),
        ("src/os/beneath/a.rs", "fn f() { std::fs::read(a); }"),
    ]);
    let found: Vec<_> = files.iter().map(complaints).collect();
    let n_found: Vec<_> = found.iter().map(Vec::len).collect();
    assert_eq!(n_found, [1, 1, 0, 0, 0, 1, 0], "{found:?}");
    assert!(found[1][0].starts_with("2: fs::rename follows a path"), "{found:?}");
    let unused = unused(&files);
    assert_eq!(unused.len(), EXCEPTIONS.len() - 1, "{unused:?}");
}
