//! Archives that somebody made to do harm, from a generator with a seed: each is refused as an artifact or
//! is harmless, touches nothing outside of staging, leaves nothing, and costs little memory.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::AtomicBool;

use flate2::{Compression, write::GzEncoder};
use halley_sup::config::release::overlay;
use halley_sup::core::exit::Exit;
use halley_sup::core::ids::{OpId, ReleaseId};
use halley_sup::decode;
use halley_sup::store::intake::{self, Limits, Received};
use halley_sup::store::intake_error::IntakeError;
use halley_sup::store::layout::{Layout, ServiceLayout};
use halley_sup::store::release::{self, Manifest};
use halley_sup::store::seal::{self, Hashes};

const CAP_BYTES: u64 = 32 << 20;
const N_ARCHIVES: u64 = 320;
/// Of an answer, a journal's line, a report.
const TEXT_BYTES_MAX: usize = 16 * 1024;
const MEMORY_KB_MAX: u64 = 64 * 1024;
const N_ENTRIES: u64 = 50_000;

/// xorshift: the same archives each time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    fn size(&mut self) -> u64 {
        let sizes = [0, 1, 511, 513, 4096, 5000, 70_000, 200_000, 8 << 20];
        sizes[usize::try_from(self.below(sizes.len() as u64)).unwrap()]
    }
}

/// A packed archive while it is written.
struct Hostile(GzEncoder<Vec<u8>>);

impl Hostile {
    fn header(&mut self, kind: u8, name: &[u8], link: &[u8], size: &[u8]) {
        let mut block = [0_u8; 512];
        block[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
        block[100..107].copy_from_slice(b"0000755");
        block[124..124 + size.len()].copy_from_slice(size);
        block[156] = kind;
        block[157..157 + link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
        block[257..265].copy_from_slice(b"ustar  \0");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.write_all(&block).unwrap();
    }

    fn filled(&mut self, byte: u8, n: u64) {
        let chunk = vec![byte; 1 << 16];
        for from in (0..n).step_by(chunk.len()) {
            let n = usize::try_from((n - from).min(chunk.len() as u64)).unwrap();
            self.0.write_all(&chunk[..n]).unwrap();
        }
    }

    fn entry(&mut self, kind: u8, name: &[u8], link: &[u8], byte: u8, n: u64) {
        self.header(kind, name, link, format!("{n:011o}").as_bytes());
        self.filled(byte, n.div_ceil(512) * 512);
    }

    fn text(&mut self, kind: u8, name: &[u8], text: &[u8]) {
        self.header(kind, name, b"", format!("{:011o}", text.len()).as_bytes());
        self.0.write_all(text).unwrap();
        self.filled(0, text.len().next_multiple_of(512) as u64 - text.len() as u64);
    }

    fn end(mut self) -> Vec<u8> {
        self.filled(0, 1024);
        self.0.finish().unwrap()
    }
}

fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut n = rest.len();
    while n != rest.len() + n.to_string().len() {
        n = rest.len() + n.to_string().len();
    }
    format!("{n}{rest}").into_bytes()
}

fn settings(random: &mut Random) -> Vec<u8> {
    let n = usize::try_from(random.size()).unwrap();
    let line =
        random.pick(&["\n", "=\n", "x", "[", "a.", "[[a]]\n", "\"", "k\u{e9}=1\n", "{", "\\"]);
    let start =
        random.pick(&["", "command = [\"./web\"]\n", "version = \"", "env.A = ", "hooks = "]);
    let mut text = format!("{start}{}", line.repeat(n / line.len()));
    if random.below(2) == 0 {
        text.extend((0..2000).map(|n| format!("\nunknown{n} = {n}")));
    }
    text.into_bytes()
}

fn names(random: &mut Random) -> Vec<u8> {
    let part = random.pick::<[u8]>(&[
        b"../",
        b"/",
        b"./",
        b"a/",
        b"\xff/",
        b"\x1b[2J",
        b"\n",
        b"..",
        b"bin/web/",
        b"l/",
    ]);
    part.repeat(usize::try_from(random.below(40)).unwrap() + 1)
}

/// One more thing that should not be.
fn harm(hostile: &mut Hostile, random: &mut Random) {
    let size = random.size();
    match random.below(14) {
        0 => hostile.entry(b'L', b"././@LongLink", b"", b'n', size),
        1 => hostile.entry(b'K', b"././@LongLink", b"", b'n', size),
        2 => hostile.text(b'x', b"pax", &pax("path", &"p/".repeat(size as usize / 2 + 1))),
        3 => hostile.text(b'x', b"pax", &pax(random.pick(&["size", "linkpath", "uid"]), "9999999")),
        4 => (0..random.below(1500)).for_each(|_| hostile.text(b'g', b"g", &pax("comment", "x"))),
        5 => hostile.entry(
            random.pick::<[u8]>(&[b"5", b"2", b"1", b"g", b"x"])[0],
            b"d",
            b"bin/web",
            b'x',
            size,
        ),
        6 => {
            hostile.header(b'0', b"big", b"", &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])
        }
        7 => hostile.header(
            b'0',
            b"odd",
            b"",
            random.pick(&[&b"77777777777"[..], b"-1", b"9z", b"\xff"]),
        ),
        8 => hostile.entry(
            random.pick::<[u8]>(&[b"3", b"4", b"6", b"7", b"S", b"Z", b"V"])[0],
            b"odd",
            b"",
            0,
            0,
        ),
        9 => {
            let link = names(random);
            hostile.entry(b'2', b"l", &link, 0, 0);
            hostile.entry(b'0', b"l/x", b"", b'x', 1);
        }
        10 => {
            hostile.entry(b'0', b"one", b"", b'1', 1 << 20);
            let name = |n| format!("links/{n}").into_bytes();
            (0..2000).for_each(|n| hostile.entry(b'1', &name(n), b"one", 0, 0));
        }
        11 => hostile.text(b'0', b"release.toml", &settings(random)),
        12 => hostile.filled(0, random.below(2) * (24 << 20) + 512),
        _ => {
            let name = names(random);
            hostile.entry(b'0', &name, b"", b'x', random.below(2000));
        }
    }
}

fn archive(seed: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut hostile = Hostile(GzEncoder::new(Vec::new(), Compression::fast()));
    hostile.entry(b'0', b"bin/web", b"", b'w', 100);
    for _ in 0..=random.below(3) {
        harm(&mut hostile, &mut random);
    }
    let mut bytes = hostile.end();
    match random.below(8) {
        // Cut, or with bits that fell over.
        0 => bytes.truncate(usize::try_from(random.below(bytes.len() as u64)).unwrap()),
        1 => (0..4).for_each(|_| {
            let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
            bytes[at] ^= 1 << random.below(8);
        }),
        2 => bytes = [bytes.clone(), bytes].concat(),
        3 => bytes.splice(..0, *b"\x28\xb5\x2f\xfd").for_each(drop),
        _ => {}
    }
    bytes
}

/// A decoder of our own binary, as the supervisor has one.
fn decoder(archive: File) -> (Child, OwnedFd) {
    let (said, says) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_halley-sup"));
    command.arg(decode::VERB).stdin(archive).stdout(says);
    (command.spawn().unwrap(), said)
}

/// All that happens to an artifact before it is a release; the text that is told.
fn take(paths: &ServiceLayout, path: &Path) -> Result<String, IntakeError> {
    let off = AtomicBool::new(false);
    let mut limits = Limits {
        cap_bytes: CAP_BYTES,
        absolute_links: &[],
        cancelled: &off,
        progress: &mut |_| {},
    };
    let source = File::open(path).unwrap();
    let received = intake::receive(source.into(), paths, OpId(1), &mut limits)?;
    let Received::Archive { path, .. } = received else { unreachable!("it is a file") };
    let (mut child, said) = decoder(intake::archive(&path)?);
    let dir = intake::unpack(said, &path, paths, OpId(1), &mut limits);
    // Of one that is refused, the rest is heard by nobody: that is no failure.
    let ended = child.wait().unwrap();
    assert!(ended.success(), "the decoder: {ended}, {dir:?}");
    assert!(!matches!(dir, Err(IntakeError::Undecoded { .. })), "{dir:?}");
    let dir = dir?;
    seal::list_unless(&dir.0, &Hashes::default(), &off).unwrap();
    let text = match intake::settings_text(&dir.0) {
        Ok(text) => text.unwrap_or_default(),
        Err(error) => return Ok(error.to_string()),
    };
    let name = Path::new("release.toml");
    let problems = overlay(&base(), &[], true, name, &text).err().unwrap_or_default();
    Ok(problems.iter().map(|problem| format!("{problem}\n")).collect())
}

fn base() -> halley_sup::config::model::Settings {
    let text = "[service.web]\ncommand = [\"./bin/web\"]\nlisten = [\"tcp://127.0.0.1:1\"]\n";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("halley.toml");
    fs::write(&file, text).unwrap();
    let config = halley_sup::config::load(&file).unwrap();
    config.services.into_values().next().unwrap().settings
}

fn files_of(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        found.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            files_of(&entry.path(), found);
        }
    }
}

/// Of the largest decoder that has ended.
fn decoders_peak_kb() -> u64 {
    use nix::sys::resource::{UsageWho, getrusage};
    u64::try_from(getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss()).unwrap()
}

fn peak_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn no_generated_archive_gets_out_or_costs_much() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
    paths.create().unwrap();
    fs::write(paths.shared().join("data"), "precious").unwrap();
    let artifact = dir.path().join("artifact");
    let seen = || {
        let mut found = Vec::new();
        files_of(dir.path(), &mut found);
        found.sort();
        found
    };
    fs::write(&artifact, archive(0)).unwrap();
    let before = seen();
    let (mut n_refused, mut n_harmless, peak) = (0, 0, peak_kb());
    for seed in 0..N_ARCHIVES {
        fs::write(&artifact, archive(seed)).unwrap();
        let text = match take(&paths, &artifact) {
            Ok(text) => {
                n_harmless += 1;
                text
            }
            Err(error) => {
                assert_eq!(error.exit(), Exit::ArtifactRejected, "seed {seed}: {error}");
                n_refused += 1;
                error.to_string()
            }
        };
        assert!(text.len() < TEXT_BYTES_MAX, "seed {seed}: {} bytes of text", text.len());
        intake::discard(&paths, OpId(1)).unwrap();
        assert_eq!(seen(), before, "seed {seed}");
        let grown = peak_kb() - peak;
        assert!(grown < MEMORY_KB_MAX, "seed {seed}: {grown} kB");
        let decoders = decoders_peak_kb();
        assert!(decoders < MEMORY_KB_MAX, "seed {seed}: a decoder of {decoders} kB");
    }
    assert_eq!(fs::read_to_string(paths.shared().join("data")).unwrap(), "precious");
    assert!(n_refused > 100 && n_harmless > 20, "{n_refused} refused, {n_harmless} harmless");
}

#[test]
fn what_is_called_off_is_not_hashed_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "x").unwrap();
    let listed = seal::list_unless(dir.path(), &Hashes::default(), &AtomicBool::new(true));
    assert!(listed.unwrap_err().to_string().contains("aborted"));
}

#[test]
fn a_name_of_a_hundred_megabytes_is_not_read_into_memory() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
    paths.create().unwrap();
    let artifact = dir.path().join("artifact");
    for kind in *b"LKx" {
        let mut hostile = Hostile(GzEncoder::new(Vec::new(), Compression::fast()));
        hostile.entry(kind, b"long", b"", b'n', 100 << 20);
        hostile.entry(b'0', b"bin/web", b"", b'w', 100);
        fs::write(&artifact, hostile.end()).unwrap();
        let peak = peak_kb();
        let error = take(&paths, &artifact).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
        assert!(peak_kb() - peak < MEMORY_KB_MAX / 4, "{}", char::from(kind));
    }
}

/// What a decoder of 100 MB and more would need is refused before it takes it.
#[test]
fn a_zstd_window_that_is_too_large_is_refused_in_clear_words() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
    paths.create().unwrap();
    let artifact = dir.path().join("artifact");
    // A frame with a window of 128 MiB, and of 96 MiB: a raw block of 32 zeros, more to come.
    for window in [17 << 3, 16 << 3 | 4] {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window, 0, 1, 0];
        frame.extend([0; 32]);
        fs::write(&artifact, frame).unwrap();
        let error = take(&paths, &artifact).unwrap_err();
        assert!(error.to_string().contains("pack it with zstd -19"), "{error}");
        assert_eq!(error.exit(), Exit::ArtifactRejected);
    }
    // As large as it may be, and filled: 40 MiB of one byte, in blocks that repeat it.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 14 << 3];
    for n in 0..320_u32 {
        let head = u32::from(n == 319) | 1 << 1 | (128 << 10) << 3;
        frame.extend([&head.to_le_bytes()[..3], b"x"].concat());
    }
    fs::write(&artifact, frame).unwrap();
    let error = take(&paths, &artifact).unwrap_err();
    assert!(matches!(error, IntakeError::Damaged { .. }), "{error}");
    let peak = decoders_peak_kb();
    assert!((20 << 10..MEMORY_KB_MAX).contains(&peak), "{peak} kB");
}

/// It is looked at while it waits for an archive that does not come.
#[test]
fn a_decoder_has_no_rights() {
    let (archive, held) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let (mut child, _said) = decoder(File::from(archive));
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let status = || fs::read_to_string(proc.join("status")).unwrap();
    let begun = std::time::Instant::now();
    while !status().contains("Seccomp:\t2") {
        assert!(begun.elapsed().as_secs() < 30, "{}", status());
        std::thread::yield_now();
    }
    let status = status();
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "Threads:\t1", "CapEff:\t0000000000000000"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    if rustix::process::geteuid().is_root() {
        assert!(status.contains("Uid:\t65534\t65534\t65534\t65534"), "{status}");
        assert!(status.contains("Gid:\t65534\t65534\t65534\t65534"), "{status}");
    }
    let limits = fs::read_to_string(proc.join("limits")).unwrap();
    let line_of = |limit: &str| limits.lines().find(|line| line.starts_with(limit)).unwrap();
    for limit in ["Max file size", "Max processes", "Max open files", "Max core file size"] {
        let line = line_of(limit);
        assert!(line.split_whitespace().any(|word| word == "0"), "{line}");
    }
    let most = line_of("Max address space").split_whitespace().nth(4).unwrap();
    assert!(most.parse::<u64>().is_ok_and(|most| most < 1 << 30), "{most} bytes of memory");
    drop(held);
    assert!(child.wait().unwrap().success());
}

/// Of an archive that is refused, whatever it would have said next.
#[test]
fn a_decoder_that_nobody_hears_has_not_failed() {
    for bytes in [&b"no archive"[..], &archive(0)] {
        let (archive, mut held) = std::io::pipe().unwrap();
        let (mut child, said) = decoder(File::from(OwnedFd::from(archive)));
        drop(said);
        held.write_all(bytes).unwrap();
        drop(held);
        assert!(child.wait().unwrap().success());
    }
}

/// To whoever hears it, a decoder that is killed is one whose words end somewhere.
#[test]
fn a_decoder_that_is_killed_at_any_moment_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
    paths.create().unwrap();
    let artifact = dir.path().join("artifact");
    let mut honest = Hostile(GzEncoder::new(Vec::new(), Compression::fast()));
    honest.entry(b'0', b"bin/web", b"", b'w', 30);
    honest.entry(b'2', b"web", b"bin/web", 0, 0);
    honest.entry(b'1', b"same", b"bin/web", 0, 0);
    fs::write(&artifact, honest.end()).unwrap();
    let mut words = Vec::new();
    let (mut child, said) = decoder(File::open(&artifact).unwrap());
    File::from(said).read_to_end(&mut words).unwrap();
    assert!(child.wait().unwrap().success());
    let off = AtomicBool::new(false);
    for n in 0..=words.len() {
        let mut limits = Limits {
            cap_bytes: CAP_BYTES,
            absolute_links: &[],
            cancelled: &off,
            progress: &mut |_| {},
        };
        let part = paths.incoming().join("1.part");
        fs::write(&part, "packed").unwrap();
        let (said, says) = rustix::pipe::pipe().unwrap();
        File::from(says).write_all(&words[..n]).unwrap();
        let unpacked = intake::unpack(said, &part, &paths, OpId(1), &mut limits);
        if n == words.len() {
            assert!(unpacked.is_ok(), "{unpacked:?}");
            continue;
        }
        let error = unpacked.unwrap_err();
        assert!(matches!(error, IntakeError::Undecoded { .. }), "{n} bytes: {error}");
        assert_eq!(error.exit(), Exit::ArtifactRejected);
        intake::discard(&paths, OpId(1)).unwrap();
        for dir in [paths.staging(), paths.incoming()] {
            assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "{n} bytes: {}", dir.display());
        }
    }
}

/// A quarter of the entries that may be, and of the memory.
#[test]
fn many_entries_cost_little_memory() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
    paths.create().unwrap();
    let artifact = dir.path().join("artifact");
    let mut hostile = Hostile(GzEncoder::new(Vec::new(), Compression::fast()));
    hostile.entry(b'0', b"bin/web", b"", b'w', 100);
    for n in 0..N_ENTRIES {
        hostile.entry(b'1', format!("l/{n:060}").as_bytes(), b"bin/web", 0, 0);
    }
    fs::write(&artifact, hostile.end()).unwrap();
    let peak = peak_kb();
    take(&paths, &artifact).unwrap();
    let staged = intake::staging_dir(&paths, OpId(1));
    let listing = seal::list(&staged).unwrap();
    let manifest = Manifest {
        version: 1,
        digest: listing.digest.clone(),
        n_files: 1,
        size_bytes: 1,
        at: String::new(),
        source: String::new(),
        actor: String::new(),
        label: None,
    };
    let release_id = ReleaseId(1);
    release::write(&paths, release_id, &manifest, &listing, &base()).unwrap();
    drop(listing);
    fs::rename(staged, paths.release(release_id)).unwrap();
    assert_eq!(release::damage(&paths, release_id).unwrap(), [""; 0]);
    fs::remove_file(paths.release(release_id).join("bin/web")).unwrap();
    assert_eq!(release::damage(&paths, release_id).unwrap(), ["bin/web"]);
    let grown = peak_kb() - peak;
    assert!(grown < MEMORY_KB_MAX / 4, "{grown} kB");
    let decoders = decoders_peak_kb();
    assert!(decoders < MEMORY_KB_MAX, "a decoder of {decoders} kB");
}
