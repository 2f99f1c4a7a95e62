//! Archives that somebody made to do harm, from a generator with a seed: each is refused as an artifact or
//! is harmless, touches nothing outside of staging, leaves nothing, and costs little memory.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use flate2::{Compression, write::GzEncoder};
use halley_sup::config::release::overlay;
use halley_sup::core::exit::Exit;
use halley_sup::core::ids::OpId;
use halley_sup::store::intake::{self, IntakeError, Limits, Received};
use halley_sup::store::layout::{Layout, ServiceLayout};
use halley_sup::store::seal::{self, Hashes};

const CAP_BYTES: u64 = 32 << 20;
const N_ARCHIVES: u64 = 320;
/// Of an answer, a journal's line, a report.
const TEXT_BYTES_MAX: usize = 16 * 1024;
const MEMORY_KB_MAX: u64 = 64 * 1024;

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

/// All that happens to an artifact before it is a release; the text that is told.
fn take(paths: &ServiceLayout, path: &Path) -> Result<String, IntakeError> {
    let off = AtomicBool::new(false);
    let mut limits = Limits { cap_bytes: CAP_BYTES, cancelled: &off, progress: &mut |_, _| {} };
    let source = File::open(path).unwrap();
    let received: Received = intake::receive(source.into(), paths, OpId(1), &mut limits)?;
    let dir = intake::unpack(&received, paths, OpId(1), CAP_BYTES, &off)?;
    seal::list_unless(&dir, &Hashes::default(), &off).unwrap();
    let text = match intake::settings_text(&dir) {
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
