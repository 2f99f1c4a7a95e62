//! Many releases one after another: what they take, they give back. `HALLEY_RELEASES` is their number.

use std::fs;
use std::path::Path;

use crate::world::{World, config, free_address};

/// What keeper, supervisor and disk have at rest between two releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub n_descriptors: usize,
    pub n_threads: usize,
    pub n_processes: usize,
    pub n_files: usize,
    pub memory_kib: u64,
}

/// Files below a directory, journals and the logs of failed releases aside: of those so many are kept.
fn n_files(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind)
            if kind.is_dir()
                && ["ops", "logs"].contains(&&*entry.file_name().to_string_lossy()) =>
        {
            0
        }
        Ok(kind) if kind.is_dir() => 1 + n_files(&entry.path()),
        _ => 1,
    };
    entries.map(of).sum()
}

impl Sample {
    /// Once everything is settled: what was replaced is gone, and so are the threads that helped.
    fn take(world: &World) -> Self {
        let own = [world.keeper_pid(), world.supervisor_pid().unwrap()];
        let count = |what: &str| {
            own.map(|pid| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count())
        };
        world.wait("what was replaced is gone", |world| {
            let gone = fs::read_dir(world.service_path("staging")).unwrap().count() == 0;
            gone && world.is_alone()
        });
        let rss = |pid: i32| -> u64 {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Self {
            n_descriptors: count("fd").iter().sum(),
            n_threads: count("task").iter().sum(),
            n_processes: world.left_behind().len(),
            n_files: n_files(&fs::canonicalize(world.path("root")).unwrap()),
            memory_kib: own.map(rss).iter().sum(),
        }
    }
}

/// The most that was seen of each in a part of the samples, and the least memory.
fn most(samples: &[Sample]) -> Sample {
    let of = |value: fn(&Sample) -> usize| samples.iter().map(value).max().unwrap();
    Sample {
        n_descriptors: of(|sample| sample.n_descriptors),
        n_threads: of(|sample| sample.n_threads),
        n_processes: of(|sample| sample.n_processes),
        n_files: of(|sample| sample.n_files),
        memory_kib: samples.iter().map(|sample| sample.memory_kib).min().unwrap(),
    }
}

/// So many releases: the first quarter of them, and the last.
pub fn quarters(n_releases: usize) -> [Sample; 2] {
    let mut world = World::asleep(free_address());
    let text = config(world.address, "[service.web.keep]\nreleases = 2\nstandby = \"0s\"");
    world.configure(
        &text
            .replace("for = \"200ms\"", "for = \"20ms\"")
            .replace("linger = \"200ms\"", "linger = \"10ms\"")
            .replace("min_healthy = \"60ms\"", "min_healthy = \"10ms\""),
    );
    world.wake();
    // What the first few leave for the later ones is no growth.
    for _ in 0..4 {
        world.release(&[]).expect(0);
    }
    let mut samples = Vec::new();
    for n in 0..n_releases {
        let build = world.build(&[]);
        world.release_path(&build).expect(0);
        if n % 4 == 3 {
            let bad = world.build(&["exit=1"]);
            world.release_path(&bad).expect(20);
            world.cli(&["rollback", "web", "--json"]).expect(0);
            fs::remove_dir_all(bad).unwrap();
        }
        fs::remove_dir_all(build).unwrap();
        samples.push(Sample::take(&world));
    }
    [most(&samples[..n_releases / 4]), most(&samples[n_releases - n_releases / 4..])]
}

#[test]
fn many_releases_leave_nothing_behind() {
    let n = std::env::var("HALLEY_RELEASES").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let [first, last] = quarters(n);
    // Two more slots, when more processes than ever before were there at once: those are used again. One
    // descriptor left behind by each release would be 20 at least.
    // Helping threads that have nothing more to do stay for some seconds.
    let is_flat = last.n_descriptors <= first.n_descriptors + 10
        && last.n_threads < first.n_threads + 10
        && last.n_processes <= first.n_processes
        && last.n_files <= first.n_files;
    assert!(is_flat, "{first:?}\n{last:?}");
    // An allocator keeps some of what it is given back.
    assert!(last.memory_kib < first.memory_kib + 4096, "{first:?}\n{last:?}");
}
