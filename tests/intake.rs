//! Archives, honest and hostile.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use halley_sup::core::ids::OpId;
use halley_sup::decode;
use halley_sup::store::intake::{self, Limits, Received, staging_dir};
use halley_sup::store::intake_error::IntakeError;
use halley_sup::store::layout::{Layout, ServiceLayout};
use tar::{Builder, EntryType, Header};

const CAP: u64 = 1 << 20;

struct Desk {
    dir: tempfile::TempDir,
    paths: ServiceLayout,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        paths.create().unwrap();
        Self { dir, paths }
    }

    /// Takes bytes in as a file would come.
    fn take(&self, bytes: &[u8]) -> Result<(), IntakeError> {
        let path = self.dir.path().join("artifact");
        fs::write(&path, bytes).unwrap();
        self.take_fd(File::open(path).unwrap().into())
    }

    fn take_fd(&self, source: OwnedFd) -> Result<(), IntakeError> {
        let cancelled = AtomicBool::new(false);
        let mut limits = Limits {
            cap_bytes: CAP,
            absolute_links: &[],
            cancelled: &cancelled,
            progress: &mut |_| {},
        };
        let received = intake::receive(source, &self.paths, OpId(1), &mut limits)?;
        let Received::Archive { path, .. } = received else { return Ok(()) };
        let archive = intake::archive(&path)?;
        let (said, says) = rustix::pipe::pipe().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(decode::say(archive, File::from(says))));
            intake::unpack(said, &path, &self.paths, OpId(1), &mut limits).map(drop)
        })
    }

    fn staged(&self, name: &str) -> std::path::PathBuf {
        staging_dir(&self.paths, OpId(1)).join(name)
    }
}

fn entry(kind: EntryType, name: &str, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    // Straight into the field: the builder would refuse what a hostile archive does not.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(size);
    header.set_mode(0o6777);
    header.set_cksum();
    header
}

fn link(kind: EntryType, name: &str, target: &str) -> Header {
    let mut header = entry(kind, name, 0);
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    header
}

/// An archive of these entries, each file with the content `x`.
fn archive(entries: &[Header]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for header in entries {
        let size = usize::try_from(header.size().unwrap()).unwrap();
        builder.append(header, vec![b'x'; size].as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn file(name: &str) -> Header {
    entry(EntryType::Regular, name, 1)
}

#[test]
fn an_honest_archive_comes_in_with_plain_modes() {
    let desk = Desk::new();
    desk.take(&archive(&[
        entry(EntryType::Directory, "./", 0),
        file("./bin/web"),
        link(EntryType::Symlink, "./web", "bin/web"),
        link(EntryType::Link, "./same", "./bin/web"),
    ]))
    .unwrap();
    let mode = fs::metadata(desk.staged("bin/web")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755, "no set-uid, nothing for the world to write");
    assert_eq!(fs::read_link(desk.staged("web")).unwrap(), Path::new("bin/web"));
    assert_eq!(fs::read(desk.staged("same")).unwrap(), b"x");
    assert_eq!(fs::read_dir(desk.paths.incoming()).unwrap().count(), 0);
}

#[test]
fn everything_that_may_not_be_is_refused_with_its_name() {
    let table: Vec<(Vec<Header>, &str)> = vec![
        (vec![file("../evil")], "its path has a .."),
        (vec![file("a/../../evil")], "its path has a .."),
        (vec![file("/tmp/evil")], "its path is absolute"),
        (vec![file("a\nb")], "a control character"),
        (vec![file("a"), file("a")], "it appears twice"),
        (vec![file("a"), file("a/b")], "its parents is not a directory"),
        (vec![entry(EntryType::Fifo, "pipe", 0)], "it is a FIFO"),
        (vec![entry(EntryType::Char, "tty", 0)], "it is a device"),
        (vec![entry(EntryType::Block, "sda", 0)], "it is a device"),
        (vec![link(EntryType::Symlink, "l", "/etc/passwd"), file("a")], "which is absolute"),
        (vec![link(EntryType::Symlink, "l", "../x"), file("a")], "leads out of the tree"),
        (vec![link(EntryType::Symlink, "l", "d"), file("l/x")], "its parents is not a directory"),
        (vec![file("l/x"), link(EntryType::Symlink, "l", "d")], "it appears twice"),
        (vec![link(EntryType::Link, "l", "/etc/passwd"), file("a")], "its path is absolute"),
        (vec![link(EntryType::Link, "l", "later"), file("later")], "which is not a file before it"),
    ];
    for (entries, words) in table {
        let desk = Desk::new();
        let error = desk.take(&archive(&entries)).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert_eq!(error.exit(), halley_sup::core::exit::Exit::ArtifactRejected);
        assert!(!desk.dir.path().join("evil").exists());
    }
}

#[test]
fn an_archive_cut_at_any_block_is_never_taken_for_a_whole_one() {
    let whole = archive(&[file("a"), file("b"), file("c")]);
    let desk = Desk::new();
    desk.take(&whole).unwrap();
    for n_blocks in 0..whole.len() / 512 - 1 {
        let cut = &whole[..n_blocks * 512];
        assert!(desk.take(cut).is_err(), "{n_blocks} blocks");
    }
    for n in [1, 511, 513, 700] {
        assert!(desk.take(&whole[..n]).is_err(), "{n} bytes");
    }
}

#[test]
fn a_file_of_zeros_at_the_end_is_no_end_of_an_archive() {
    let mut builder = Builder::new(Vec::new());
    let header = entry(EntryType::Regular, "zeros", 4096);
    builder.append(&header, [0_u8; 4096].as_slice()).unwrap();
    let whole = builder.into_inner().unwrap();
    let desk = Desk::new();
    desk.take(&whole).unwrap();
    assert!(matches!(desk.take(&whole[..512 + 4096]), Err(IntakeError::Cut { .. })));
}

#[test]
fn packed_archives_that_are_cut_or_padded_with_something_else_are_refused() {
    let whole = archive(&[file("a"), file("b")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&whole).unwrap();
    let gzip = gzip.finish().unwrap();
    let desk = Desk::new();
    desk.take(&gzip).unwrap();
    for n in 1..gzip.len() {
        assert!(desk.take(&gzip[..n]).is_err(), "{n} of {} bytes", gzip.len());
    }
    let mut more = whole.clone();
    more.extend_from_slice(&[b'x'; 512]);
    assert!(matches!(desk.take(&more), Err(IntakeError::Damaged { .. })));
}

#[test]
fn zstd_archives_come_in_also_in_several_frames_and_never_cut() {
    let whole = archive(&[file("a"), file("b")]);
    let frame = |bytes: &[u8]| {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    };
    let desk = Desk::new();
    desk.take(&frame(&whole)).unwrap();
    let (first, second) = whole.split_at(700);
    let mut frames = frame(first);
    frames.extend(frame(second));
    desk.take(&frames).unwrap();
    // A flipped bit in what a checksum covers is seen, wherever it does no harm to the format.
    let mut flipped = frame(&whole);
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    assert!(desk.take(&flipped).is_err(), "the frame's checksum is compared");
    let one = frame(&whole);
    for n in 1..one.len() - 4 {
        assert!(desk.take(&one[..n]).is_err(), "{n} of {} bytes", one.len());
    }
}

#[test]
fn the_cap_counts_what_is_unpacked_as_well() {
    let desk = Desk::new();
    let bomb = archive(&[entry(EntryType::Regular, "zeros", CAP + 1)]);
    assert!(matches!(desk.take(&bomb), Err(IntakeError::TooLarge { .. })));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&bomb).unwrap();
    let gzip = gzip.finish().unwrap();
    assert!((gzip.len() as u64) < CAP / 100);
    assert!(matches!(desk.take(&gzip), Err(IntakeError::TooLarge { .. })));
}

#[test]
fn a_directory_is_copied_by_the_same_rules() {
    let desk = Desk::new();
    let build = desk.dir.path().join("build");
    fs::create_dir_all(build.join("bin")).unwrap();
    fs::write(build.join("bin/web"), "web").unwrap();
    std::os::unix::fs::symlink("bin/web", build.join("web")).unwrap();
    let open = || OwnedFd::from(File::open(&build).unwrap());
    desk.take_fd(open()).unwrap();
    assert_eq!(fs::read(desk.staged("web")).unwrap(), b"web");
    std::os::unix::fs::symlink("../../etc", build.join("out")).unwrap();
    assert!(matches!(desk.take_fd(open()), Err(IntakeError::Refused { .. })));
    fs::remove_file(build.join("out")).unwrap();
    let empty = desk.dir.path().join("empty");
    fs::create_dir_all(empty.join("only/directories")).unwrap();
    let empty = File::open(&empty).unwrap().into();
    assert!(matches!(desk.take_fd(empty), Err(IntakeError::Empty)));
}

#[test]
fn an_intake_that_is_called_off_stops_at_a_stalled_pipe() {
    let desk = Desk::new();
    let (read, _write) = rustix::pipe::pipe().unwrap();
    let cancelled = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| {
            let mut limits = Limits {
                cap_bytes: CAP,
                absolute_links: &[],
                cancelled: &cancelled,
                progress: &mut |_| {},
            };
            intake::receive(read, &desk.paths, OpId(1), &mut limits)
        });
        cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(matches!(taken.join().unwrap(), Err(IntakeError::Cancelled)));
    });
}
