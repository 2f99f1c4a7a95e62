//! A clock that jumps: what people read has the new time, and nothing that is decided depends on it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use halley_sup::demo::load::Shape;

use crate::world::{World, config, free_address};

/// What the clock of the wall says is moved by what a file says; the others are left alone.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    int done = syscall(SYS_clock_gettime, id, now);
    if (id == CLOCK_REALTIME && done == 0) {
        char text[32] = {0};
        int file = open(CLOCK_FILE, O_RDONLY | O_CLOEXEC);
        if (file >= 0) { read(file, text, sizeof text - 1); close(file); }
        now->tv_sec += atol(text);
    }
    return done;
}
"#;

const TEN_YEARS_S: i64 = 10 * 365 * 86_400;

/// A world whose clock is moved.
pub struct Jumping {
    pub world: World,
}

/// By how many seconds it is moved, as a file.
pub struct Clock(PathBuf);

impl Clock {
    /// In one step.
    pub fn jump(&self, by_years: i64) {
        fs::write(&self.0, (by_years * TEN_YEARS_S / 10).to_string()).unwrap();
    }
}

impl Jumping {
    pub fn new(more: &str) -> Self {
        let mut world = World::asleep(free_address());
        let (source, shim) = (world.path("clock.c"), world.path("clock.so"));
        fs::write(&source, SHIM).unwrap();
        let file = format!("-DCLOCK_FILE=\"{}\"", world.path("clock").display());
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-w", &file, "-o"])
            .args([&shim, &source])
            .status();
        assert!(built.is_ok_and(|status| status.success()));
        world.configure(&config(world.address, more));
        let preload = format!("LD_PRELOAD={}", shim.display());
        world.wake_under(&["env", &preload]);
        Self { world }
    }

    pub fn clock(&self) -> Clock {
        Clock(self.world.path("clock"))
    }

    /// The year that the last line of the history has.
    pub fn year(&self) -> i64 {
        let history = self.world.cli(&["history", "web", "--json"]).expect(0).stdout;
        let at = history.split("\"at\":\"").nth(1).unwrap();
        at[..4].parse().unwrap()
    }
}

#[test]
fn a_clock_that_jumps_ten_years_either_way_changes_nothing_but_what_people_read() {
    let jumping = Jumping::new("[service.web.keep]\nreleases = 3\nstandby = \"10m\"");
    let (world, clock) = (&jumping.world, jumping.clock());
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    let year = jumping.year();
    let load = world.load(Shape::Short);
    for by in [10, -10, 0, -10, 10, 0] {
        clock.jump(by);
        world.release(&[]).expect(0);
        let seen = jumping.year();
        assert!((seen - year - by).abs() <= 1, "{seen}, {by} years after {year}");
        // The one that served before runs still, whatever the year.
        let back = world.cli(&["rollback", "web", "--json"]).expect(0);
        assert!(back.stdout.contains("warm"), "{}", back.stdout);
        // In the middle of an operation too.
        let build = world.build(&[]).to_string_lossy().into_owned();
        world.cli(&["release", "web", &build, "--detach"]).expect(40);
        clock.jump(-by);
        if by < 0 {
            world.kill_supervisor();
        }
        world.wait("it is over", |world| {
            world.cli(&["status"]).code == 0 && world.status()["operation"].is_null()
        });
        let status = world.status();
        assert_eq!(status["serving"], status["last_good"], "{status}");
        assert_eq!(status["state"], "running", "{status}");
        world.cli(&["restart", "web", "--json"]).expect(0);
    }
    // No phase has taken ten years.
    let phases = longest_phase_ms(world);
    assert!((1..3_600_000).contains(&phases), "{phases}");
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    assert!(!world.run_log().contains("does not answer"), "{}", world.run_log());
}

fn longest_phase_ms(world: &World) -> u64 {
    let ops = fs::read_dir(world.service_path("ops")).unwrap();
    let journals = ops.map(|op| fs::read_to_string(op.unwrap().path().join("journal.ndjson")));
    let ms = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["ms"].as_u64();
    journals
        .flat_map(|text| text.unwrap().lines().filter_map(ms).collect::<Vec<_>>())
        .max()
        .unwrap()
}
