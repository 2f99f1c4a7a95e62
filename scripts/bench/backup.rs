//! What a backup of a large SQLite database costs, against the database's own tool: time, bytes read
//! and written for each byte of the database, and room on the disk.
//!
//! `HALLEY_BACKUP_MB` is the database's size in megabytes (2000 when absent), `HALLEY_BACKUP_ROUNDS`
//! the number of rounds (3 when absent).

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::spread;
use crate::world::{World, config, free_address};

const BACKUP: &str =
    "[service.web.backup]\ndriver = \"sqlite\"\npath = \"app.db\"\nkeep = 1\ndeadline = \"1h\"";
/// Bytes of a row, with its entry in the index.
const ROW_BYTES: u64 = 1_050;

/// What a piece of work has cost.
struct Cost {
    took: Duration,
    read: u64,
    written: u64,
    /// Bytes that it had on the disk at the most.
    peak: u64,
}

pub fn large() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let wanted = number("HALLEY_BACKUP_MB", 2_000) * 1_000_000;
    let n_rounds = number("HALLEY_BACKUP_ROUNDS", 3);
    let mut world = World::asleep(free_address());
    let text = config(world.address, BACKUP).replace("deadline = \"5s\"", "deadline = \"60s\"");
    world.configure(&text);
    world.wake();
    let database = world.service_path("shared/app.db");
    fill(&database, wanted);
    world.release(&[]).expect(0);
    let size = fs::metadata(&database).unwrap().len();
    println!("a SQLite database of {:.2} GB, {n_rounds} rounds in turn:", size as f64 / 1e9);
    let (mut times, mut last) = (Vec::new(), Vec::new());
    let mut release_times = Vec::new();
    for _ in 0..n_rounds {
        let tool = by_tool(&world, &database);
        let backup = by_halley(&world, || drop(world.cli(&["backup", "web"]).expect(0)));
        let release = by_halley(&world, || drop(world.release(&[]).expect(0)));
        times.push(backup.took.as_secs_f64() / tool.took.as_secs_f64());
        release_times.push(release.took.as_secs_f64() / tool.took.as_secs_f64());
        last =
            vec![("sqlite3 .backup", tool), ("halley-sup backup", backup), ("a release", release)];
    }
    println!("time, halley-sup backup : sqlite3 .backup: {}", spread(&mut times));
    println!(
        "time, a release with its rehearsal : sqlite3 .backup: {}",
        spread(&mut release_times)
    );
    let ratio = |bytes: u64| bytes as f64 / size as f64;
    for (name, cost) in last {
        println!(
            "{name:<18} reads {:.2}, writes {:.2}, at most {:.2} on the disk beside the database (in databases)",
            ratio(cost.read),
            ratio(cost.written),
            ratio(cost.peak)
        );
    }
}

/// Rows that look like an application's: a key with an index, and a payload that does not shrink.
fn fill(database: &Path, wanted: u64) {
    let n = wanted / ROW_BYTES;
    let script = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;\n\
         CREATE TABLE rows (id INTEGER PRIMARY KEY, key TEXT, payload BLOB);\n\
         WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {n})\n\
         INSERT INTO rows SELECT n, hex(randomblob(8)), randomblob(920) FROM c;\n\
         CREATE INDEX by_key ON rows (key);\nPRAGMA wal_checkpoint(TRUNCATE);"
    );
    sqlite(database, &script);
}

fn sqlite(database: &Path, script: &str) {
    let mut command = Command::new("sqlite3");
    command.arg("-bail").arg(database).arg(script).stdout(Stdio::null());
    assert!(command.status().is_ok_and(|status| status.success()));
}

/// The database's own tool, and `sync`: a backup that is not on the disk is none.
fn by_tool(world: &World, database: &Path) -> Cost {
    let copy = world.path("copy.db");
    let script = format!(
        "sqlite3 '{}' \".backup '{}'\" && sync -f '{1}'",
        database.display(),
        copy.display()
    );
    let watch = Watch::begin(world);
    let begun = Instant::now();
    let before = io(std::process::id());
    let status = Command::new("sh").args(["-ec", &script]).status();
    assert!(status.is_ok_and(|status| status.success()));
    let (took, after) = (begun.elapsed(), io(std::process::id()));
    let peak = watch.end();
    fs::remove_file(copy).unwrap();
    Cost { took, read: after.0 - before.0, written: after.1 - before.1, peak }
}

/// What keeper and supervisor read and write themselves, and what the tools did that they waited for:
/// the kernel adds that up at the parent (`proc_pid_io(5)`).
fn by_halley(world: &World, work: impl FnOnce()) -> Cost {
    let pids = [world.keeper_pid(), world.supervisor_pid().unwrap()]
        .map(|pid| u32::try_from(pid).unwrap());
    let all = || {
        let each = pids.map(io);
        (each[0].0 + each[1].0, each[0].1 + each[1].1)
    };
    let watch = Watch::begin(world);
    let (begun, before) = (Instant::now(), all());
    work();
    let (took, after) = (begun.elapsed(), all());
    Cost { took, read: after.0 - before.0, written: after.1 - before.1, peak: watch.end() }
}

/// Bytes that a process and its ended children have read and written.
fn io(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let field = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (field("rchar:"), field("wchar:"))
}

/// How often the disk is looked at.
const SAMPLED_EVERY: Duration = Duration::from_millis(50);

/// Looks at what lies on the disk as long as it lives.
struct Watch {
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    before: u64,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    fn begin(world: &World) -> Self {
        let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, highest, dir) = (Arc::clone(&stop), Arc::clone(&peak), world.path(""));
        let before = on_disk(&dir);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                highest.fetch_max(on_disk(&dir), Ordering::Relaxed);
                std::thread::park_timeout(SAMPLED_EVERY);
            }
        });
        Self { stop, peak, before, thread }
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.peak.load(Ordering::Relaxed).saturating_sub(self.before)
    }
}

fn on_disk(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => on_disk(&entry.path()),
        Ok(meta) => std::os::unix::fs::MetadataExt::blocks(&meta) * 512,
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}
