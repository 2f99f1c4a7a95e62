//! What a program writes is in its log, whatever becomes of the supervisor and the keeper meanwhile.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::world::{World, config, free_address, kill, supervisor_of};

/// What stands in a line behind its number.
const REST: &str = "and some more text, so that it gets longer";

/// A worker that writes numbered lines as fast as it can, once there is a file `go`.
pub fn writes(n_lines: u32) -> World {
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
         \"{REST}\" }}'; exec sleep 1000",
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
    /// Lines that a rotation has torn.
    n_torn: u32,
}

impl Reader {
    fn open(path: PathBuf) -> Self {
        let file = BufReader::new(File::open(&path).unwrap());
        Self { path, file, line: String::new(), n_torn: 0 }
    }

    /// The next whole line, once it is there; none when no more comes for long.
    fn next(&mut self) -> Option<String> {
        let begun = Instant::now();
        loop {
            self.file.read_line(&mut self.line).unwrap();
            if self.line.ends_with('\n') {
                return Some(std::mem::take(&mut self.line).trim_end().to_owned());
            }
            let inode = |file: &File| file.metadata().unwrap().ino();
            let next = File::open(&self.path);
            let moved = next.is_ok_and(|next| inode(&next) != inode(self.file.get_ref()));
            // Rotated, it is not written to any more; what came before that was seen is still read.
            if moved && self.file.read_line(&mut self.line).unwrap() == 0 {
                let rotated = File::open(self.path.with_extension("log.1")).unwrap();
                let own = inode(self.file.get_ref());
                assert_eq!(inode(&rotated), own, "it was rotated twice: read it faster");
                self.n_torn += u32::from(!std::mem::take(&mut self.line).is_empty());
                self.file = BufReader::new(File::open(&self.path).unwrap());
            }
            if begun.elapsed() > Duration::from_secs(60) {
                return None;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// The number of the next line of the program's; none of one that is no such line.
    fn number(&mut self) -> Option<Option<u32>> {
        loop {
            let line = self.next()?;
            // Of Halley's own, about processes.
            if line.contains(" halley: ") {
                continue;
            }
            let rest = line.split_once(" 0 line ").and_then(|(_, rest)| rest.split_once(' '));
            let number = rest.filter(|(_, text)| *text == REST).and_then(|(n, _)| n.parse().ok());
            if number.is_none() {
                eprintln!("no line of the program's: {line}");
            }
            return Some(number);
        }
    }
}

/// What became of the lines of a program.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub n_once: u32,
    pub n_lost: u32,
    /// There again, or later than one that was written after it.
    pub n_repeated: u32,
    pub n_torn: u32,
    pub n_killed: u32,
}

/// Reads what a program writes, while processes are killed at even distances: beside it, or a log would
/// be rotated twice before it is read.
pub fn kept(world: &World, n_lines: u32, n_kills: u32, kill: impl Fn(&World, u32)) -> Kept {
    let log = world.service_path("logs/1.log");
    world.wait("there is a log", |_| log.exists());
    let (n_read, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let _end = AtEnd(|| is_over.store(true, Ordering::Relaxed));
            read(log, n_lines, &n_read)
        });
        let mut n_killed = 0;
        while !is_over.load(Ordering::Relaxed) && n_killed < n_kills {
            if n_read.load(Ordering::Relaxed) > n_lines / (n_kills + 1) * (n_killed + 1) {
                kill(world, n_killed);
                n_killed += 1;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        Kept { n_killed, ..reader.join().unwrap() }
    })
}

fn read(log: PathBuf, n_lines: u32, n_read: &AtomicU32) -> Kept {
    let mut reader = Reader::open(log);
    let mut kept = Kept::default();
    let mut next = 1;
    while next <= n_lines {
        match reader.number() {
            Some(Some(n)) if n >= next => {
                kept.n_lost += n - next;
                kept.n_once += 1;
                next = n + 1;
                n_read.store(n, Ordering::Relaxed);
            }
            Some(Some(_)) => kept.n_repeated += 1,
            Some(None) => kept.n_torn += 1,
            None => break,
        }
    }
    kept.n_lost += n_lines + 1 - next;
    kept.n_torn += reader.n_torn;
    kept
}

/// How often, by a variable for those who want more.
fn number(name: &str, usual: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn a_killed_supervisor_loses_tears_and_repeats_no_line() {
    are_all_there(|world, _| world.kill_supervisor());
}

#[test]
fn a_supervisor_and_a_keeper_killed_in_turn_lose_tear_and_repeat_no_line() {
    are_all_there(kill_in_turn);
}

/// Both, one after the other.
pub fn kill_in_turn(world: &World, n: u32) {
    if n.is_multiple_of(2) {
        return world.kill_supervisor();
    }
    // What was kept comes in one go, so that this one follows at once: a supervisor that has not greeted
    // its keeper has nothing yet that it could go on with.
    world.wait("another supervisor answers", |world| {
        world.supervisor_pid().is_some() && world.cli(&["status"]).code == 0
    });
    world.kill_keeper();
}

/// Kills while a program writes.
pub fn are_all_there(kill: impl Fn(&World, u32)) {
    let n_lines = number("HALLEY_LINES", 120_000);
    let n_kills = number("HALLEY_KILLS", 5);
    let world = writes(n_lines);
    fs::write(world.path("go"), "").unwrap();
    let kept = kept(&world, n_lines, n_kills, kill);
    // What was kept meanwhile comes in one go, past the place of a later kill.
    assert!(kept.n_killed > n_kills / 2, "{kept:?}");
    assert_eq!(Kept { n_killed: 0, ..kept }, Kept { n_once: n_lines, ..Kept::default() });
    world.wait("it is managed again", |world| world.status()["state"] == "running");
}

/// Done when it is dropped.
struct AtEnd<F: Fn()>(F);

impl<F: Fn()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
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
        // Also when something is not as it should be: a test that fails ends.
        let _end = AtEnd(|| done.store(true, Ordering::Relaxed));
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
    });
    world.wait("all of it is in the log", |_| output().contains(&format!(" line {n_lines} and")));
    assert_eq!(output().matches(" line ").count(), n_lines as usize);
}
