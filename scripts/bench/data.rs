//! Kills spread over every step of what touches data, under clients that count the rows that were
//! acknowledged to them. Each row of the table: an operation, how often it was cut off and in how many
//! different steps, the rows lost beyond what was announced, and where it ended.
//!
//! `HALLEY_KILLS` is the number of kills of each store (300 when absent).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{ChildStdout, Stdio};
use std::time::{Duration, Instant};

use crate::ledger_app::{BACKUP, Build, Store, Writers, get, is_swept, world as sqlite_world};
use crate::postgres;
use crate::up_to_the_kill;
use crate::world::World;

/// How long it may take until everything is settled after a kill.
const SETTLED: Duration = Duration::from_secs(120);

/// What is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Case {
    /// A release with a migration.
    Release,
    /// To the release before.
    Rollback,
    /// By hand.
    Backup,
    /// To a backup with fewer rows.
    Restore,
    /// A restore that was cut off is cut off again while it is undone.
    Undo,
}

const CASES: [Case; 5] = [Case::Release, Case::Rollback, Case::Backup, Case::Restore, Case::Undo];

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Supervisor,
    /// Keeper, supervisor and every process of the service.
    All,
}

/// A step of an operation, as its client is told of it.
#[derive(Debug, Clone)]
struct Step {
    name: String,
    took: Duration,
}

#[derive(Debug, Default)]
struct Row {
    n_tries: u32,
    cut_in: BTreeSet<String>,
    n_lost: u64,
    n_unswept: u32,
    n_damaged: u32,
    ends: BTreeMap<String, u32>,
}

pub fn kills() {
    let n = std::env::var("HALLEY_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    println!("store     operation  kills  steps  lost  damaged  scratch left  ended in");
    campaign("sqlite", n, sqlite_world(BACKUP), Store::Sqlite, &|world| {
        let database = world.service_path("shared/app.db");
        let said = std::process::Command::new("sqlite3")
            .arg(database)
            .args([".timeout 20000", "PRAGMA integrity_check"])
            .output();
        said.is_ok_and(|said| said.stdout.trim_ascii() == b"ok")
    });
    let server = postgres::Server::start();
    campaign("postgres", n, postgres::world(&server), Store::Postgres, &|_| {
        server.sql_in("app", "SELECT count(*) FROM rows").is_ok()
    });
}

fn campaign(name: &str, n: u32, mut world: World, store: Store, is_whole: &dyn Fn(&World) -> bool) {
    let release = |world: &World, version| {
        world.release_path(&Build { version, store, ..Build::default() }.write(world))
    };
    release(&world, 0).expect(0);
    if store == Store::Sqlite {
        // As most programs that write a lot do.
        let database = world.service_path("shared/app.db");
        let mut command = std::process::Command::new("sqlite3");
        command.arg(database).arg("PRAGMA journal_mode = WAL").stdout(Stdio::null());
        assert!(command.status().is_ok_and(|status| status.success()));
    }
    let mut version = 0;
    let mut rows = BTreeMap::<Case, Row>::new();
    let mut steps = BTreeMap::<Case, Vec<Step>>::new();
    // The same places in every run: the steps take turns, and the part of a step's time goes round by
    // a third number.
    for round in 0..n + u32::try_from(CASES.len()).unwrap_or(0) {
        let case = CASES[round as usize % CASES.len()];
        let victim = if (round / 5) % 2 == 0 { Victim::Supervisor } else { Victim::All };
        let is_measured = !steps.contains_key(&case);
        let fraction = f64::from(round.wrapping_mul(61) % 97) / 97.0;
        let row = rows.entry(case).or_default();
        let before = settled(&world);
        let (mut held, mut words) = (Vec::new(), Vec::new());
        let mut floor = None;
        match case {
            Case::Release => {
                let build = Build { version: version + 1, store, ..Build::default() };
                let build = build.write(&world).to_string_lossy().into_owned();
                words = vec!["release".to_owned(), "web".to_owned(), build];
            }
            Case::Rollback => words = vec!["rollback".to_owned(), "web".to_owned()],
            Case::Backup => words = vec!["backup".to_owned(), "web".to_owned()],
            Case::Restore | Case::Undo => {
                // A client that was ended may have left one under way.
                let is_taken = || world.cli(&["backup", "web"]).code == 0;
                assert!(wait_for(is_taken), "no backup: {}", world.run_log());
                let listed = world.cli(&["backup", "web", "--list", "--json"]).expect(0).stdout;
                let newest = listed.lines().next().unwrap_or_default();
                let newest: serde_json::Value = serde_json::from_str(newest).unwrap_or_default();
                let id = newest["id"].as_str().unwrap_or_default().to_owned();
                floor = Some(count(&world));
                for _ in 0..3 {
                    held.push(get(world.address, "/add"));
                }
                let line = ["restore", "web", "--backup", &id, "--yes"];
                words.extend(line.map(str::to_owned));
            }
        }
        let acked_before = count(&world);
        let writers = floor.is_none().then(|| Writers::several(world.address, 2));
        words.push("--json".to_owned());
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut client = world.command(&args);
        client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = client.spawn().expect("the client starts");
        let told = client.stdout.take().expect("a pipe");
        if let Some(steps) = steps.get(&case) {
            let step = &steps[round as usize / CASES.len() % steps.len()];
            let _told = step.wait(told);
            up_to_the_kill(step.took.mul_f64(fraction));
            row.cut_in.insert(step.name.clone());
            cut(&mut world, victim);
            if case == Case::Undo {
                up_to_the_kill(Duration::from_millis(u64::from(round * 37 % 400)));
                cut(&mut world, victim);
            }
        } else {
            steps.insert(case, Step::all(told));
        }
        drop(client.kill());
        drop(client.wait());
        let end = settled(&world);
        let acked = writers.map_or(0, |writers| writers.stop().0);
        let now = count(&world);
        row.n_tries += u32::from(!is_measured);
        // A row may be there whose acknowledgement was cut off, and not the other way round.
        let expected = acked_before + acked;
        row.n_lost += match floor {
            None => expected.saturating_sub(now),
            Some(floor) if now == floor || now >= expected => 0,
            Some(_) => expected.saturating_sub(now),
        };
        row.n_damaged += u32::from(!is_whole(&world));
        row.n_unswept += u32::from(!wait_for(|| is_swept(&world)));
        let outcome = match floor {
            Some(floor) if now == floor => "restored".to_owned(),
            Some(_) => "as before".to_owned(),
            None if end == before => "old".to_owned(),
            None => "new".to_owned(),
        };
        *row.ends.entry(outcome).or_default() += u32::from(!is_measured);
        if case == Case::Release {
            version += u32::from(end != before);
        }
    }
    for (case, row) in rows {
        let ends: Vec<String> = row.ends.iter().map(|(end, n)| format!("{end} {n}")).collect();
        println!(
            "{name:<9} {:<10} {:>5} {:>6} {:>5} {:>8} {:>13}  {}",
            format!("{case:?}").to_ascii_lowercase(),
            row.n_tries,
            row.cut_in.len(),
            row.n_lost,
            row.n_damaged,
            row.n_unswept,
            ends.join(", ")
        );
    }
}

impl Step {
    /// Those of an operation that is let through.
    fn all(told: ChildStdout) -> Vec<Self> {
        let (mut steps, mut begun) = (Vec::new(), Instant::now());
        let mut name = "begin".to_owned();
        for started in starts(told) {
            steps.push(Self { name, took: begun.elapsed() });
            (name, begun) = (started, Instant::now());
        }
        steps.push(Self { name, took: begun.elapsed() });
        // Between the end of one and the begin of the next there is nothing to be cut off. In the last one
        // everything is done, and nobody has been told.
        let last = steps.pop();
        steps.retain(|step| step.took > Duration::from_millis(2));
        steps.extend(last);
        steps
    }

    /// Waits until it begins, or the operation is over; what the client says goes on being read.
    fn wait(&self, told: ChildStdout) -> Option<impl Iterator<Item = String>> {
        let mut starts = starts(told);
        let is_there = self.name == "begin" || starts.any(|started| started == self.name);
        is_there.then_some(starts)
    }
}

/// The names of steps, as they begin.
fn starts(told: ChildStdout) -> impl Iterator<Item = String> {
    BufReader::new(told).lines().map_while(Result::ok).filter_map(|line| {
        let said: serde_json::Value = serde_json::from_str(&line).ok()?;
        match said["state"].as_str()? {
            "start" => Some(said["phase"].as_str()?.to_owned()),
            "ok" => Some(format!("after {}", said["phase"].as_str()?)),
            _ => None,
        }
    })
}

fn cut(world: &mut World, victim: Victim) {
    match victim {
        Victim::Supervisor => {
            if let Some(pid) = world.supervisor_pid() {
                crate::world::kill(pid, libc::SIGKILL);
            }
        }
        Victim::All => {
            world.power_cut();
            world.wake();
        }
    }
}

/// The release that serves, once nothing is under way any more and it answers.
fn settled(world: &World) -> u64 {
    let begun = Instant::now();
    loop {
        let status = world.status();
        let idle = status["operation"].is_null() && status["state"] != "stopped";
        if idle
            && let Some(serving) = status["serving"].as_u64()
            && get(world.address, "/count").is_ok()
        {
            return serving;
        }
        assert!(begun.elapsed() < SETTLED, "never settled: {status}\n{}", world.run_log());
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn count(world: &World) -> u64 {
    get(world.address, "/count").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn wait_for(is_true: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < SETTLED {
        if is_true() {
            return true;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    false
}
