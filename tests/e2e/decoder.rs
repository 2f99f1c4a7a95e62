//! An artifact's decoder is a process of its own, and what becomes of it is none of the service's trouble.

use std::fs;
use std::path::PathBuf;

use flate2::{Compression, write::GzEncoder};
use halley_sup::os::proc;

use crate::world::{World, kill};

/// An archive that takes a while: a program, and zeros.
pub fn slow_archive(world: &World) -> PathBuf {
    let build = world.build(&[]);
    let path = world.path("slow.tar.gz");
    let gzip = GzEncoder::new(fs::File::create(&path).unwrap(), Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    tar.append_dir_all(".", build).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(256 << 20);
    header.set_mode(0o644);
    let zeros = std::io::Read::take(std::io::repeat(0), 256 << 20);
    tar.append_data(&mut header, "zeros", zeros).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    path
}

/// The decoder, stopped in the middle of its work.
pub fn stopped_decoder(world: &World) -> i32 {
    let is_decoder = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split('\0').nth(1) == Some("decode"))
    };
    let find = |world: &World| proc::tree(world.keeper_pid()).into_iter().find(is_decoder);
    world.wait("a decoder is at work", |world| find(world).is_some());
    let pid = find(world).unwrap();
    kill(pid, libc::SIGSTOP);
    pid
}

fn peak_kb(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn one_that_is_killed_ends_the_release_and_leaves_nothing() {
    let world = World::new();
    world.release(&[]).expect(0);
    let slow = slow_archive(&world).to_string_lossy().into_owned();
    world.cli(&["release", "web", &slow, "--detach"]).expect(40);
    kill(stopped_decoder(&world), libc::SIGKILL);
    let said = world.cli(&["watch", "web", "2", "--json"]).expect(11);
    let why = said.result()["trouble"]["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("its decoder ended before it did (killed by SIGKILL)"), "{why}");
    let leftovers = |name| fs::read_dir(world.service_path(name)).unwrap().count();
    assert_eq!((leftovers("staging"), leftovers("incoming")), (0, 0));
    assert_eq!(world.answering(), Some(1));
    let peak = peak_kb(world.supervisor_pid().unwrap());
    assert!(peak < 64 * 1024, "the supervisor took {peak} kB");
    world.release(&[]).expect(0);
}
