//! Between releases: how soon a killed program runs again, and what many services cost, beside the least that
//! a supervisor can be in C.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use halley_sup::os::clock;

use crate::world::{World, free_address, kill};
use crate::{measured_for, pss_kib, spread, wake_ups};

/// Writes when it began, and who it is, and waits.
const STAMP: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
int main(int n, char **words) {
    struct timespec now;
    char line[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    int fd = open(words[1], O_WRONLY | O_APPEND | O_CREAT, 0666);
    int bytes = snprintf(line, sizeof line, "%lld %d\n", now.tv_sec * 1000000000LL + now.tv_nsec, getpid());
    if (write(fd, line, bytes) != bytes) return 1;
    close(fd);
    for (;;) pause();
}
"#;

/// Keeps so many of a program running.
const LOOP: &str = r#"
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static pid_t pids[10000];
static int n;
static void start(int i, char **words) {
    if ((pids[i] = fork()) == 0) { execv(words[0], words); _exit(127); }
}
static void stop(int number) {
    for (int i = 0; i < n; i++) kill(pids[i], SIGTERM);
    while (wait(0) > 0) {}
    _exit(0);
}
int main(int count, char **words) {
    n = atoi(words[1]);
    signal(SIGTERM, stop);
    for (int i = 0; i < n; i++) start(i, words + 2);
    for (;;) {
        pid_t ended = wait(0);
        for (int i = 0; i < n; i++) if (pids[i] == ended) start(i, words + 2);
    }
}
"#;

/// How long each of a row of crashes is apart.
const UP: [Duration; 3] =
    [Duration::from_secs(3), Duration::from_millis(1), Duration::from_millis(1)];
const N_ROUNDS: usize = 5;
const QUIET: Duration = Duration::from_secs(20);

struct Programs {
    dir: tempfile::TempDir,
}

impl Programs {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("stamp", STAMP), ("loop", LOOP)] {
            let source = dir.path().join(format!("{name}.c"));
            fs::write(&source, text).unwrap();
            let program = dir.path().join(name);
            let built = Command::new("cc").args(["-O2", "-o"]).arg(program).arg(&source).status();
            assert!(built.unwrap().success());
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn c_loop(&self, n: usize, stamps: &Path) -> Child {
        let mut command = Command::new(self.path("loop"));
        command.arg(n.to_string()).arg(self.path("stamp")).arg(stamps);
        command.stdin(Stdio::null()).spawn().unwrap()
    }

    /// A stack of so many services of this program, without an address and with default settings.
    fn stack(&self, n: usize) -> (World, PathBuf) {
        let mut world = World::asleep(free_address());
        let stamps = world.path("stamps");
        let mut text = "root = \"root\"\n".to_owned();
        for i in 0..n {
            text.push_str(&format!(
                "[service.s{i}]\ncommand = [{:?}, {:?}]\n[service.s{i}.health]\ninterval = \"10ms\"\nrise = 1\n\
                 min_healthy = \"0s\"\n[service.s{i}.bake]\nfor = \"0s\"\n",
                self.path("stamp").display().to_string(),
                stamps.display().to_string()
            ));
        }
        world.configure(&text);
        world.wake();
        let build = world.build_of(&["true"]);
        fs::remove_file(build.join("release.toml")).unwrap();
        for i in 0..n {
            let name = format!("s{i}");
            world.cli(&["release", &name, &build.to_string_lossy()]).expect(0);
        }
        (world, stamps)
    }
}

/// When each start was, and of which process.
fn starts(stamps: &Path) -> Vec<(u64, i32)> {
    let text = fs::read_to_string(stamps).unwrap_or_default();
    let one = |line: &str| {
        let (at, pid) = line.split_once(' ')?;
        Some((at.parse().ok()?, pid.parse().ok()?))
    };
    text.lines().filter_map(one).collect()
}

fn started(stamps: &Path, n: usize) -> (u64, i32) {
    loop {
        let starts = starts(stamps);
        if starts.len() >= n {
            return starts[n - 1];
        }
        std::thread::park_timeout(Duration::from_micros(200));
    }
}

/// Milliseconds from each kill to the start that follows.
fn latencies(stamps: &Path) -> [Vec<f64>; UP.len()] {
    let mut all: [Vec<f64>; UP.len()] = Default::default();
    for _ in 0..N_ROUNDS {
        for (place, up) in UP.iter().enumerate() {
            let n = starts(stamps).len();
            let (_, pid) = started(stamps, n);
            measured_for(*up);
            let killed = clock::monotonic_ns();
            kill(pid, libc::SIGKILL);
            let (at, _) = started(stamps, n + 1);
            all[place].push(at.saturating_sub(killed) as f64 / 1e6);
        }
    }
    all
}

pub fn restart() {
    let programs = Programs::new();
    let stamps = programs.path("stamps");
    let mut least = programs.c_loop(1, &stamps);
    started(&stamps, 1);
    let of_loop = latencies(&stamps);
    let pid = i32::try_from(least.id()).unwrap();
    kill(pid, libc::SIGTERM);
    drop(least.wait());
    let (_world, stamps) = programs.stack(1);
    let ours = latencies(&stamps);
    let what = ["up for 3 s", "the second crash in a row", "the third"];
    for ((what, mut least), mut ours) in what.into_iter().zip(of_loop).zip(ours) {
        println!(
            "restart after kill -9, {what}: {} ms, C loop {} ms",
            spread(&mut ours),
            spread(&mut least)
        );
    }
}

/// Services without an address at rest, their start and their stop.
pub fn services() {
    let programs = Programs::new();
    let asked = std::env::var("HALLEY_SERVICES").ok();
    let numbers = match asked.and_then(|n| n.parse().ok()) {
        Some(n) => vec![n],
        None => vec![1, 10, 100, 300],
    };
    for n in numbers {
        let stamps = programs.path(&format!("stamps{n}"));
        let begun = clock::monotonic_ns();
        let mut least = programs.c_loop(n, &stamps);
        started(&stamps, n);
        let loop_start = since_ms(begun, &stamps, n);
        let begun = clock::monotonic_ns();
        kill(i32::try_from(least.id()).unwrap(), libc::SIGTERM);
        drop(least.wait());
        let loop_stop = (clock::monotonic_ns() - begun) as f64 / 1e6;

        let (mut world, stamps) = programs.stack(n);
        assert!(world.sleep());
        fs::remove_file(&stamps).unwrap();
        let begun = clock::monotonic_ns();
        world.begin_under(&[]);
        started(&stamps, n);
        let start = since_ms(begun, &stamps, n);
        world.wait("it answers", |world| world.cli(&["status"]).code == 0);
        let pids = [world.keeper_pid(), world.supervisor_pid().unwrap()];
        world.wait("the threads of the start have left", |_| {
            pids.iter().all(|pid| fs::read_dir(format!("/proc/{pid}/task")).unwrap().count() == 1)
        });
        measured_for(Duration::from_secs(3));
        let before: Vec<u64> = pids.iter().map(|pid| wake_ups(*pid)).collect();
        measured_for(QUIET);
        let n_wakes: u64 =
            pids.iter().zip(before).map(|(pid, before)| wake_ups(*pid) - before).sum();
        let kib: u32 = pids.iter().map(|pid| pss_kib(*pid)).sum();
        let begun = clock::monotonic_ns();
        assert!(world.sleep());
        let stop = (clock::monotonic_ns() - begun) as f64 / 1e6;
        println!(
            "{n} services without an address: start {start:.0} ms (C loop {loop_start:.0}), stop {stop:.0} ms \
             (C loop {loop_stop:.0}); at rest {n_wakes} wake-ups in {} s, {:.2} MB PSS",
            QUIET.as_secs(),
            f64::from(kib) * 1024.0 / 1e6
        );
    }
}

/// From `begun` to the last of so many starts.
fn since_ms(begun: u64, stamps: &Path, n: usize) -> f64 {
    let last = starts(stamps).iter().take(n).map(|(at, _)| *at).max().unwrap();
    last.saturating_sub(begun) as f64 / 1e6
}
