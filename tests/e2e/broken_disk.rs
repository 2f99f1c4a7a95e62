//! A disk that refuses a write: each call that changes something below the root is answered with an error,
//! once or from then on, while a release, a rollback, a stop, a start, a restart or a boot is under way.
//! `HALLEY_TRIES` is the number of places of each.

use std::os::unix::fs::symlink;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use halley_sup::demo::load::Shape;
use serde_json::Value;

use crate::passthrough::{Fault, Passthrough};
use crate::world::{World, config, free_address};

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Release,
    /// To the process that served before, which still runs.
    RollbackWarm,
    /// To a release that has to be started.
    RollbackCold,
    Restart,
    Stop,
    Start,
    /// Everything is gone at once, and begins anew.
    Boot,
    /// The supervisor is gone, and the next one begins.
    Return,
    /// The same, in the middle of a release.
    Resume,
}

pub const ERRORS: [i32; 4] = [libc::EIO, libc::EDQUOT, libc::ENOSPC, libc::EROFS];

/// How long a work may wait for a broken disk until that is mended. It is no limit: what waits says so.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A stack whose root can fail.
pub struct Broken {
    pub world: World,
    pub disk: Passthrough,
}

/// What came of a work.
#[derive(Debug)]
pub struct Done {
    /// What the disk was asked, and what it refused.
    pub asked: Vec<&'static str>,
    pub failed: Vec<&'static str>,
    /// Where it waits for the disk, what `status` says to that.
    pub waits: Option<String>,
    output: Output,
}

impl Done {
    pub fn code(&self) -> i32 {
        self.output.status.code().unwrap_or(-1)
    }

    fn result(&self) -> Value {
        let text = String::from_utf8_lossy(&self.output.stdout).into_owned();
        serde_json::from_str(text.lines().last().unwrap_or("null")).unwrap_or(Value::Null)
    }
}

impl Broken {
    /// A bake in whose middle something happens is long enough to be met.
    pub fn new(work: Work) -> Self {
        let broken = Self::baking_for(if work == Work::Resume { "2s" } else { "200ms" });
        for _ in 0..2 {
            broken.world.release(&[]).expect(0);
        }
        broken
    }

    /// With one release; those that follow bake for so long.
    fn baking_for(bake: &str) -> Self {
        let disk = Passthrough::new();
        let mut world = World::asleep(free_address());
        symlink(disk.path(), world.path("root")).unwrap();
        let text = config(world.address, "[service.web.keep]\nreleases = 3");
        let baking = text.replace("for = \"200ms\"", &format!("for = {bake:?}"));
        world.configure(&text);
        world.wake();
        world.release(&[]).expect(0);
        world.reload(&baking);
        Self { world, disk }
    }

    /// What has to be so before.
    pub fn prepare(&self, work: Work) {
        let is_stopped = self.world.status()["state"] == "stopped";
        match work {
            Work::RollbackWarm | Work::RollbackCold => {
                self.world.release(&[]).expect(0);
                self.world.release(&[]).expect(0);
                if work == Work::RollbackCold {
                    for verb in ["stop", "start"] {
                        self.world.cli(&[verb, "web"]).expect(0);
                    }
                }
            }
            Work::Start if !is_stopped => drop(self.world.cli(&["stop", "web"]).expect(0)),
            Work::Start => {}
            _ if is_stopped => drop(self.world.cli(&["start", "web"]).expect(0)),
            _ => {}
        }
    }

    /// Does it with the fault. The disk is whole afterwards.
    pub fn perform(&mut self, work: Work, fault: Fault) -> Done {
        self.disk.set(fault);
        let begun = Instant::now();
        match work {
            Work::Boot => {
                self.world.power_cut();
                self.world.begin_under(&[]);
            }
            Work::Return => self.world.kill_supervisor(),
            Work::Resume => {
                self.disk.set(Fault::None);
                let build = self.world.build(&[]).to_string_lossy().into_owned();
                self.world.cli(&["release", "web", &build, "--detach"]).expect(40);
                let is_on_trial = |world: &World| world.status()["operation"]["phase"] == "bake";
                self.world.wait("it is on trial", is_on_trial);
                self.disk.set(fault);
                self.world.kill_supervisor();
            }
            _ => {}
        }
        let mut waits = None;
        let mut all = (Vec::new(), Vec::new());
        let mut mend = |disk: &Passthrough| {
            let (asked, failed) = disk.set(Fault::None);
            all.0.extend(asked);
            all.1.extend(failed);
        };
        // Nobody waits at the socket: asked again until a supervisor answers.
        while matches!(work, Work::Boot | Work::Return | Work::Resume)
            && self.world.cli(&["status"]).code != 0
            && waits.is_none()
        {
            if self.world.has_left() || begun.elapsed() > PATIENCE {
                waits = Some(self.world.run_log());
                mend(&self.disk);
            }
        }
        if self.world.has_left() {
            self.world.wake();
        }
        let mut client = self.client(work);
        while client.try_wait().unwrap().is_none() {
            if begun.elapsed() > PATIENCE && waits.is_none() {
                let status = self.world.status();
                // One that is only slow says nothing, and ends.
                if !status["why"].is_null() || begun.elapsed() > 20 * PATIENCE {
                    waits = Some(format!("{} {}", status["operation"]["phase"], status["why"]));
                    mend(&self.disk);
                }
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let output = client.wait_with_output().unwrap();
        mend(&self.disk);
        self.world.wait("nothing is under way", |world| {
            let status = world.status();
            status["operation"].is_null() && status["state"] != "down"
        });
        Done { asked: all.0, failed: all.1, waits, output }
    }

    fn client(&self, work: Work) -> std::process::Child {
        let build = self.world.build(&[]).to_string_lossy().into_owned();
        let words: &[&str] = match work {
            Work::Release => &["release", "web", &build, "--json"],
            Work::RollbackWarm | Work::RollbackCold => &["rollback", "web", "--json"],
            Work::Restart => &["restart", "web", "--json"],
            Work::Stop => &["stop", "web", "--json"],
            Work::Start => &["start", "web", "--json"],
            Work::Boot | Work::Return | Work::Resume => &["start", "web", "--json"],
        };
        let mut command = self.world.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What is wrong after a work, that served `before`.
    fn complaint(&self, work: Work, before: &Value, done: &Done) -> Option<String> {
        let status = self.world.status();
        let (serving, good) = (&status["serving"], &status["last_good"]);
        let result = done.result();
        let trouble = if result["trouble"].is_null() { &result } else { &result["trouble"] };
        let why = trouble["why"].as_str().unwrap_or_default();
        let names_it = |text: &str| text.contains("os error");
        let may: &[i32] = match work {
            Work::Release | Work::Restart => &[0, 1, 13],
            _ => &[0],
        };
        let is_moved = matches!(work, Work::Release | Work::RollbackWarm | Work::RollbackCold);
        if !may.contains(&done.code()) {
            return Some(format!("exit {}: {result}", done.code()));
        }
        if done.code() != 0 && !names_it(why) {
            return Some(format!("does not say what stands in the way: {result}"));
        }
        if done.waits.as_ref().is_some_and(|waits| !names_it(waits)) {
            return Some(format!("waits, and does not say for what: {:?}", done.waits));
        }
        if work == Work::Stop {
            return (status["state"] != "stopped").then(|| format!("not stopped: {status}"));
        }
        if serving != good || status["state"] != "running" {
            return Some(format!("serves {serving}, and {good} is the last good: {status}"));
        }
        if is_moved && (done.code() == 0) == (serving == before) {
            return Some(format!("exit {}, and {serving} serves after {before}", done.code()));
        }
        let answers = self.world.answering();
        (answers != serving.as_u64()).then(|| format!("{answers:?} answers"))
    }

    /// Whether nothing is left behind by what failed.
    fn is_swept(&self) -> bool {
        ["staging", "incoming", "scratch"].into_iter().all(|dir| {
            std::fs::read_dir(self.world.service_path(dir)).is_ok_and(|dir| dir.count() == 0)
        })
    }
}

/// Each of so many places of a work, with each of the errors, once and from then on.
fn everywhere(work: Work) {
    let n_tries = std::env::var("HALLEY_TRIES").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let mut broken = Broken::new(work);
    broken.prepare(work);
    let n_calls = broken.perform(work, Fault::None).asked.len();
    let (mut complaints, mut n_lost, mut n_failed) = (Vec::new(), 0, 0);
    for n in 0..n_tries {
        let at = n / 2 * 2 * n_calls / n_tries;
        let error = ERRORS[(n + n / 2) % ERRORS.len()];
        let fault = if n % 2 == 0 { Fault::From(at, error) } else { Fault::Once(at, error) };
        broken.prepare(work);
        let before = broken.world.status()["serving"].clone();
        let goes_down = matches!(work, Work::Stop | Work::Start | Work::Boot);
        let load = (!goes_down).then(|| broken.world.load(Shape::Short));
        let done = broken.perform(work, fault);
        n_lost += load.map_or(0, |load| load.stop().n_lost());
        n_failed += usize::from(!done.failed.is_empty());
        if let Some(why) = broken.complaint(work, &before, &done) {
            complaints.push(format!("{fault:?} ({:?}): {why}", done.failed.first()));
        }
    }
    eprintln!("{work:?}: {n_calls} calls, {n_failed} of {n_tries} tries failed, {n_lost} lost");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert_eq!(n_lost, 0);
    assert!(n_failed * 3 > n_tries, "the disk has hardly failed");
    broken.prepare(Work::Release);
    broken.world.release(&[]).expect(0);
    broken.world.kill_supervisor();
    broken.world.wait("nothing is left behind", |_| broken.is_swept());
}

#[test]
fn a_release_on_a_disk_that_refuses_a_write_ends_with_the_disks_code_or_is_committed() {
    everywhere(Work::Release);
}

#[test]
fn a_warm_rollback_on_a_disk_that_refuses_a_write_works_or_names_it() {
    everywhere(Work::RollbackWarm);
}

#[test]
fn a_cold_rollback_on_a_disk_that_refuses_a_write_works_or_names_it() {
    everywhere(Work::RollbackCold);
}

#[test]
fn a_restart_on_a_disk_that_refuses_a_write_works_or_names_it() {
    everywhere(Work::Restart);
}

#[test]
fn a_stop_on_a_disk_that_refuses_a_write_works() {
    everywhere(Work::Stop);
}

#[test]
fn a_start_on_a_disk_that_refuses_a_write_works() {
    everywhere(Work::Start);
}

#[test]
fn a_boot_on_a_disk_that_refuses_a_write_works_or_names_it() {
    everywhere(Work::Boot);
}

#[test]
fn a_release_is_resumed_on_a_disk_that_refuses_a_write() {
    everywhere(Work::Resume);
}

#[test]
fn a_supervisor_comes_back_on_a_disk_that_refuses_a_write() {
    everywhere(Work::Return);
}

/// A release whose commit waits for a disk that takes nothing, and the client that has promoted it.
fn waits_for_its_commit() -> (Broken, std::process::Child) {
    let broken = Broken::baking_for("60s");
    let build = broken.world.build(&[]).to_string_lossy().into_owned();
    broken.world.cli(&["release", "web", &build, "--detach"]).expect(40);
    broken.world.wait("it is on trial", |world| world.status()["operation"]["phase"] == "bake");
    broken.disk.set(Fault::From(0, libc::EIO));
    let mut promote = broken.world.command(&["promote", "web", "--json"]);
    let promote = promote.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    broken.world.wait("its commit waits", |world| {
        world.status()["why"].to_string().contains("commit is tried again")
    });
    (broken, promote)
}

#[test]
fn a_commit_that_waits_for_the_disk_keeps_no_stop_out() {
    let (broken, promote) = waits_for_its_commit();
    let world = &broken.world;
    let stopped = world.cli(&["stop", "web", "--json"]).expect(0).result();
    assert!(stopped["warnings"].to_string().contains("a reboot would start it again"), "{stopped}");
    assert_eq!((world.status()["state"].as_str(), world.live_pid()), (Some("stopped"), 0));
    let told = promote.wait_with_output().unwrap();
    assert_eq!(told.status.code(), Some(0));
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("a reboot would start the release before: "), "{told}");
    broken.disk.set(Fault::None);
    world.cli(&["start", "web"]).expect(0);
    assert_eq!((world.answering(), world.status()["last_good"].as_u64()), (Some(2), Some(2)));
    // It is on the disk by now.
    world.kill_supervisor();
    world.wait("another supervisor", |world| world.cli(&["status"]).code == 0);
    assert_eq!(world.status()["last_good"], 2);
}

#[test]
fn a_commit_that_waits_for_the_disk_keeps_no_rollback_out() {
    for kill in [false, true] {
        let (broken, promote) = waits_for_its_commit();
        let world = &broken.world;
        let load = world.load(Shape::Short);
        let mut rollback = world.command(&["rollback", "web", "--json"]);
        let rollback = rollback.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        world.wait("the release before serves", |world| {
            let status = world.status();
            status["serving"] == 1 && status["why"].to_string().contains("os error 5")
        });
        assert_eq!(world.answering(), Some(1));
        // The release was committed, and left then.
        drop(promote.wait_with_output());
        broken.disk.set(Fault::None);
        assert_eq!(rollback.wait_with_output().unwrap().status.code(), Some(0));
        if kill {
            world.kill_supervisor();
            world.wait("it is settled", |world| {
                world.cli(&["status"]).code == 0 && world.status()["operation"].is_null()
            });
        }
        assert_eq!(world.status()["serving"], 1);
        let status = world.status();
        assert_eq!(status["serving"], status["last_good"], "{status}");
        assert_eq!(world.answering(), status["serving"].as_u64());
        let text = std::fs::read_to_string(world.path("halley.toml")).unwrap();
        world.reload(&text.replace("60s", "200ms"));
        world.release(&[]).expect(0);
        let ledger = load.stop();
        assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    }
}

/// What no file system in user space is asked for: everything is to be synced at once.
#[test]
fn a_release_whose_files_cannot_be_synced_at_once_ends_with_the_disks_code() {
    let mut world = World::asleep(free_address());
    world.configure(&config(world.address, ""));
    let mark = format!("HALLEY_TEST_WORLD={}", world.path("").display());
    let fails = ["-e", "trace=syncfs", "-e", "signal=none", "-e", "inject=syncfs:error=EIO"];
    let tracer = ["env", "-u", "HALLEY_TEST_WORLD", "strace", "-DD", "-f", "-qq"];
    world.wake_under(&[&tracer[..], &fails, &["-o", "/dev/null", "-E", &mark]].concat());
    for _ in 0..2 {
        let refused = world.release(&[]).expect(13);
        assert!(refused.why().contains("os error 5"), "{refused:?}");
    }
    assert!(world.status()["serving"].is_null());
}
