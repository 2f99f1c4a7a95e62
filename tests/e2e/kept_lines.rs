//! What a program writes is in its log, whatever becomes of the supervisor and the keeper meanwhile.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::world::{World, config, free_address, kill, supervisor_of};

/// A worker that writes numbered lines as fast as it can.
fn writes(n_lines: u32) -> World {
    let mut world = World::asleep(free_address());
    let text = config(world.address, "")
        .replace(&format!("listen = [\"tcp://{}\"]", world.address), "strategy = \"replace\"")
        .replace("http = \"/healthz\"", "");
    world.configure(&text);
    world.wake();
    let go = world.path("go");
    let script = format!(
        "while [ ! -e {} ]; do sleep 0.02; done; \
         awk 'BEGIN {{ for (i = 1; i <= {n_lines}; i++) print \"line\", i, \
         \"and some more text, so that it gets longer\" }}'; exec sleep 1000",
        go.display()
    );
    let build = world.build_of(&["/bin/sh", "-c", &script]);
    world.release_path(&build).expect(0);
    world
}

/// Reads a log line by line, over its rotations.
struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    line: String,
}

impl Reader {
    fn open(path: PathBuf) -> Self {
        let file = BufReader::new(File::open(&path).unwrap());
        Self { path, file, line: String::new() }
    }

    /// The next whole line, once it is there.
    fn next(&mut self) -> String {
        let begun = Instant::now();
        loop {
            self.file.read_line(&mut self.line).unwrap();
            if self.line.ends_with('\n') {
                return std::mem::take(&mut self.line).trim_end().to_owned();
            }
            let inode = |file: &File| file.metadata().unwrap().ino();
            let next = File::open(&self.path);
            let moved = next.is_ok_and(|next| inode(&next) != inode(self.file.get_ref()));
            // Rotated, it is not written to any more; what came before that was seen is still read.
            if moved && self.file.read_line(&mut self.line).unwrap() == 0 {
                let rotated = File::open(self.path.with_extension("log.1")).unwrap();
                let own = inode(self.file.get_ref());
                assert_eq!(inode(&rotated), own, "it was rotated twice: read it faster");
                assert_eq!(self.line, "", "a line is torn by a rotation");
                self.file = BufReader::new(File::open(&self.path).unwrap());
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "no more lines: {:?}", self.line);
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// How often, by a variable for those who want more.
fn number(name: &str, usual: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn a_killed_supervisor_loses_tears_and_repeats_no_line() {
    are_all_there(World::kill_supervisor);
}

/// Kills while a program writes.
pub fn are_all_there(kill: impl Fn(&World)) {
    let n_lines = number("HALLEY_LINES", 120_000);
    let n_kills = number("HALLEY_KILLS", 5);
    let world = writes(n_lines);
    fs::write(world.path("go"), "").unwrap();
    world.wait("there is a log", |world| world.service_path("logs/1.log").exists());
    let mut reader = Reader::open(world.service_path("logs/1.log"));
    let mut n_killed = 0;
    for n in 1..=n_lines {
        let mut line = reader.next();
        // Of Halley's own, about processes.
        while line.contains(" halley: ") {
            line = reader.next();
        }
        let wanted = format!(" 0 line {n} and some more text, so that it gets longer");
        assert!(line.ends_with(&wanted), "line {n} is not there, but: {line}");
        if n > n_lines / (n_kills + 1) * (n_killed + 1) && n_killed < n_kills {
            n_killed += 1;
            kill(&world);
        }
    }
    assert_eq!(n_killed, n_kills);
    world.wait("it is managed again", |world| world.status()["state"] == "running");
}

/// As long as no supervisor comes up, the keeper reads.
#[test]
fn a_program_does_not_wait_for_a_supervisor_that_is_away() {
    let n_lines = 100_000;
    let world = writes(n_lines);
    let output = || fs::read_to_string(world.service_path("logs/1.log")).unwrap_or_default();
    // Each one dies before it has read anything.
    let (done, keeper) = (AtomicBool::new(false), world.keeper_pid());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                supervisor_of(keeper).into_iter().for_each(|pid| kill(pid, libc::SIGKILL));
            }
        });
        let own = world.left_behind();
        fs::write(world.path("go"), "").unwrap();
        // What is written is more than a pipe holds, five times.
        world.wait("it has written all", |world| {
            own.iter().chain(&world.left_behind()).all(|pid| {
                let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                !line.starts_with("awk") && !line.starts_with("/bin/sh")
            })
        });
        assert!(output().matches(" line ").count() < n_lines as usize, "a supervisor has read it");
        done.store(true, Ordering::Relaxed);
    });
    world.wait("all of it is in the log", |_| output().contains(&format!(" line {n_lines} and")));
    assert_eq!(output().matches(" line ").count(), n_lines as usize);
}
