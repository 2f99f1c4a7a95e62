//! Programs that leave their parents, their session and their environment behind are not lost sight of.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::isolation::{Held, NOBODY, append};
use crate::ledger_app::{BACKUP, Build, Store, serve_rows, world};
use crate::migrations::{ADD_COLUMN, migrates_by};

/// Leaves its parents, its session and its environment behind, as daemons do, and runs `late` then.
const DAEMON: &str = "shared = os.environ['HALLEY_SHARED']\n\
     if os.fork() == 0:\n\
    \x20   os.setsid()\n\
    \x20   if os.fork(): os._exit(0)\n\
    \x20   null = os.open('/dev/null', os.O_RDWR)\n\
    \x20   for fd in 0, 1, 2: os.dup2(null, fd)\n\
    \x20   late = f'import os, time; os.environ[\"HALLEY_SHARED\"] = \"{shared}\"; import db; {late}'\n\
    \x20   os.execve(sys.executable, [sys.executable, '-c', late], {})\n";

const DELETES: &str = "late = 'time.sleep(33); db.connect().execute(\"DELETE FROM rows\")'\n";

#[test]
fn a_daemon_with_an_environment_of_its_own_is_waited_for() {
    let world = world(BACKUP);
    serve_rows(&world, Store::Sqlite, 1);
    let build = Build { version: 1, ..Build::default() }.write(&world);
    let supervisor = world.supervisor_pid();
    let script = format!("{ADD_COLUMN}\nif on_copy: sys.exit()\n{DELETES}{DAEMON}");
    migrates_by(&build, &script);
    let said = world.release_path(&build).expect(0);
    // What it did late is in the verdict.
    let warnings = said.result()["warnings"].to_string();
    assert!(warnings.contains("rows: 1 fewer (1 before, 0 now)"), "{warnings}");
    assert_eq!(world.supervisor_pid(), supervisor, "a long wait is no silence to the keeper");
}

/// Starts a process that has left its parents, its session and its environment.
const SLEEPER: &str = "import os, subprocess, sys, time\n\
     subprocess.Popen(['/usr/bin/setsid', '-f', '/bin/sleep', sys.argv[1]], env={},\n\
    \x20   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait()\n";

/// Processes that sleep for so long.
pub fn asleep_for(seconds: &str) -> String {
    let pattern = format!("^/bin/sleep {seconds}$");
    let found = Command::new("pgrep").args(["-f", &pattern]).output().unwrap();
    String::from_utf8_lossy(&found.stdout).into_owned()
}

#[test]
fn nothing_that_was_started_on_a_copy_outlives_it() {
    let seconds = format!("3{}", std::process::id());
    let daemon = |after: &str| {
        let text = format!("{SLEEPER}{after}");
        move |build: &Path| {
            fs::write(build.join("damage.py"), &text).unwrap();
            let release = fs::read_to_string(build.join("release.toml")).unwrap();
            let release = release.replace("deadline = \"60s\"", "deadline = \"5s\"");
            fs::write(build.join("release.toml"), release).unwrap();
        }
    };
    let fails = "if 'HALLEY_REHEARSAL' in os.environ: sys.exit('started')\n";
    // As root it is part of the migration; without, it goes with the copy.
    let mut held = Held::new("root/web/shared/app.db", "");
    let without_root = Held::under(&NOBODY, "root/web/shared/app.db", "");
    for (held, told) in [(&held, "in its background for longer"), (&without_root, "started")] {
        let why = held.release(&seconds, daemon(fails)).expect(16).why();
        assert!(why.contains(told), "{why}");
        assert_eq!(asleep_for(&seconds), "", "after a rehearsal");
    }
    drop(without_root);
    // Halley is killed in the middle of one, and nothing else is.
    let wait = "import signal\nif 'HALLEY_REHEARSAL' in os.environ: signal.pause()\n";
    let build = held.world.build(&[]);
    let migrate = ["/usr/bin/python3", "damage.py", &seconds];
    append(&build, &format!("[migrate]\ncommand = {migrate:?}\ndeadline = \"60s\"\n"));
    daemon(wait)(&build);
    let path = build.to_string_lossy().into_owned();
    held.world.cli(&["release", "web", &path, "--detach"]).expect(40);
    held.world.wait("the daemon runs", |_| !asleep_for(&seconds).is_empty());
    held.world.power_cut_sparing(|line| line.contains("damage.py") || line.contains(&seconds));
    assert_ne!(asleep_for(&seconds), "");
    held.world.wake();
    held.world.wait("the copy is gone", |world| {
        fs::read_dir(world.service_path("scratch")).is_ok_and(|dir| dir.count() == 0)
    });
    assert_eq!(asleep_for(&seconds), "", "after the next start");
    let goes_on = held.world.left_behind().into_iter().filter(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|l| l.contains("damage.py"))
    });
    assert_eq!(goes_on.count(), 0, "the migration on the copy goes on");
}
