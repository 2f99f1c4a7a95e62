//! A power cut after every write: what the real binary asks of the kernel during two releases and a rollback is
//! recorded (`strace`), and replayed up to each call, with what was not synced there, dropped, or there in part.
//! Each disk that such a cut can leave loads, and its last good release is whole. Of a restore, its order of renames and
//! syncs is looked at: as long as each rename lasts before the next one, no cut leaves the data without a name.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use halley_sup::core::ids::ReleaseId;
use halley_sup::demo::service;
use halley_sup::store::layout::Layout;
use halley_sup::store::state::State;
use halley_sup::store::{journal, release, trial};

use crate::ledger_app::newest_backup;
use crate::world::{BINARY, World, config, free_address};

const CALLS: &str = "trace=openat,openat2,write,pwrite64,rename,renameat,renameat2,fsync,fdatasync,\
                     syncfs,symlink,symlinkat,mkdir,mkdirat,unlink,unlinkat,ftruncate";

/// One call, with what it names in the order of its arguments.
#[derive(Debug, Clone)]
struct Call {
    name: String,
    /// Texts: names and contents.
    texts: Vec<Vec<u8>>,
    /// The files behind its descriptors, the last one behind what it has returned.
    files: Vec<PathBuf>,
    text: String,
}

/// Reads `"\x2f\x61"` and `3<\x2f\x61>`.
fn hex(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

impl Call {
    fn parse(line: &str) -> Option<Self> {
        let (name, rest) = line.split_once('(')?;
        let (mut texts, mut files) = (Vec::new(), Vec::new());
        let mut left = rest;
        while let Some(at) = left.find(['"', '<']) {
            let (end, is_text) =
                (if left[at..].starts_with('"') { '"' } else { '>' }, left[at..].starts_with('"'));
            let inside = &left[at + 1..];
            let n = inside.find(end)?;
            if is_text {
                texts.push(hex(&inside[..n]));
            } else {
                files.push(PathBuf::from(String::from_utf8(hex(&inside[..n])).ok()?));
            }
            left = &inside[n + 1..];
        }
        let text = line.chars().filter(|c| *c != '\n').collect();
        Some(Self { name: name.to_owned(), texts, files, text })
    }

    /// The path that is named by a text, and the directory before it.
    fn path(&self, nth: usize) -> Option<PathBuf> {
        let name = String::from_utf8(self.texts.get(nth)?.clone()).ok()?;
        let dir = self.files.get(nth).cloned().unwrap_or_default();
        Some(dir.join(name))
    }

    fn has(&self, flag: &str) -> bool {
        self.text.contains(flag)
    }

    /// A number among the arguments that are no texts, from the end.
    fn last_number(&self) -> usize {
        let arguments = self.text.rsplit_once(')').map_or("", |(arguments, _)| arguments);
        arguments.rsplit(", ").next().and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// The calls of a log of several threads, those that failed left out.
fn calls(log: &str) -> Vec<Call> {
    let mut begun: BTreeMap<&str, String> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(first) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, first.to_owned());
            continue;
        }
        let whole = match rest.split_once(" resumed>") {
            Some((_, second)) => begun.remove(pid).unwrap_or_default() + second,
            None => rest.to_owned(),
        };
        let is_done = whole.rsplit_once(" = ").is_some_and(|(_, result)| !result.starts_with('-'));
        calls.extend(is_done.then(|| Call::parse(&whole)).flatten());
    }
    calls
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Node {
    Dir,
    Link(Vec<u8>),
    /// The number of its content.
    File(usize),
}

#[derive(Debug, Default, Clone)]
struct Content {
    written: Vec<u8>,
    synced: Vec<u8>,
}

/// A disk as programs see it, and as a power cut would leave it.
#[derive(Debug, Default, Clone)]
struct Disk {
    top: PathBuf,
    names: BTreeMap<PathBuf, Node>,
    lasting: BTreeMap<PathBuf, Node>,
    contents: Vec<Content>,
    is_synced_at_all: bool,
}

/// What a cut leaves of what was not synced.
#[derive(Debug, Clone, Copy)]
struct Left {
    names: bool,
    contents: bool,
}

const EACH: [Left; 4] = [
    Left { names: false, contents: false },
    Left { names: true, contents: false },
    Left { names: false, contents: true },
    Left { names: true, contents: true },
];

impl Disk {
    /// A path of the service; what is in a tree is one thing with the tree.
    fn own(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(&self.top).ok()?;
        let mut parts =
            below.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
        let first = parts.next().unwrap_or_default();
        let is_in_tree = ["releases", "staging", "incoming"].contains(&first.as_str());
        let is_noise = ["run", "logs", "scratch", "reserve"].contains(&first.as_str());
        (!(is_noise || is_in_tree && parts.count() > 1)).then(|| below.to_owned())
    }

    fn content(&mut self, path: Option<&PathBuf>) -> Option<&mut Content> {
        let path = self.own(path?)?;
        match self.names.get(&path)? {
            Node::File(number) => self.contents.get_mut(*number),
            Node::Dir | Node::Link(_) => None,
        }
    }

    fn perform(&mut self, call: &Call) -> Option<()> {
        match call.name.as_str() {
            "openat" | "openat2" if call.has("O_CREAT") => {
                let path = self.own(&call.path(0)?)?;
                if !self.names.contains_key(&path) {
                    self.contents.push(Content::default());
                    self.names.insert(path, Node::File(self.contents.len() - 1));
                }
            }
            "write" => {
                let bytes = call.texts.first()?.clone();
                self.content(call.files.first())?.written.extend(bytes);
            }
            "pwrite64" => {
                let (bytes, at) = (call.texts.first()?.clone(), call.last_number());
                let written = &mut self.content(call.files.first())?.written;
                written.resize(written.len().max(at + bytes.len()), 0);
                written[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            "ftruncate" => {
                let n = call.last_number();
                self.content(call.files.first())?.written.resize(n, 0);
            }
            "rename" | "renameat" | "renameat2" => {
                let (from, to) = (call.path(0)?, call.path(1)?);
                let node = self.own(&from).and_then(|from| self.names.remove(&from));
                let to = self.own(&to)?;
                self.names.insert(to, node.unwrap_or(Node::Dir));
            }
            "symlink" | "symlinkat" => {
                let name = String::from_utf8(call.texts.get(1)?.clone()).ok()?;
                let dir = call.files.first().cloned().unwrap_or_default();
                let path = self.own(&dir.join(name))?;
                self.names.insert(path, Node::Link(call.texts.first()?.clone()));
            }
            "mkdir" | "mkdirat" => {
                let path = self.own(&call.path(0)?)?;
                self.names.insert(path, Node::Dir);
            }
            "unlink" | "unlinkat" => {
                let path = self.own(&call.path(0)?)?;
                self.names.remove(&path);
            }
            "fsync" | "fdatasync" if self.is_synced_at_all => {
                let path = self.own(call.files.first()?)?;
                match self.names.get(&path) {
                    Some(Node::File(number)) => {
                        let content = &mut self.contents[*number];
                        content.synced.clone_from(&content.written);
                    }
                    _ => self.sync_names(&path),
                }
            }
            "syncfs" if self.is_synced_at_all => {
                self.lasting.clone_from(&self.names);
                self.contents.iter_mut().for_each(|it| it.synced.clone_from(&it.written));
            }
            _ => {}
        }
        Some(())
    }

    /// The names in one directory last.
    fn sync_names(&mut self, dir: &Path) {
        let is_in = |path: &PathBuf| path.parent() == Some(dir);
        self.lasting.retain(|path, _| !is_in(path));
        let own = self.names.iter().filter(|(path, _)| is_in(path));
        self.lasting.extend(own.map(|(path, node)| (path.clone(), node.clone())));
    }

    /// The disk after a cut: each name with its content.
    fn image(&self, left: Left) -> Vec<(PathBuf, Node, Vec<u8>)> {
        let names = if left.names { &self.names } else { &self.lasting };
        let is_reached = |path: &Path| {
            path.ancestors()
                .skip(1)
                .all(|dir| dir.as_os_str().is_empty() || names.contains_key(dir))
        };
        let content = |node: &Node| match node {
            Node::File(number) if left.contents => self.contents[*number].written.clone(),
            Node::File(number) => self.contents[*number].synced.clone(),
            Node::Dir | Node::Link(_) => Vec::new(),
        };
        // What is never read back makes no other disk.
        let counts = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_journal =
                !path.starts_with("ops") || name == "journal.ndjson" || path.extension().is_none();
            is_journal
                && !name.starts_with(".tmp")
                && !path.starts_with("staging")
                && !path.starts_with("incoming")
        };
        let all = names.iter().filter(|(path, _)| counts(path) && is_reached(path));
        all.map(|(path, node)| (path.clone(), node.clone(), content(node))).collect()
    }
}

/// What is wrong with a disk, if anything is; the last good release that it has.
fn loaded(image: &[(PathBuf, Node, Vec<u8>)]) -> Result<Option<u64>, String> {
    let dir = tempfile::tempdir().unwrap();
    let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
    fs::create_dir_all(paths.ops()).unwrap();
    for (path, node, content) in image {
        let path = paths.dir().join(path);
        match node {
            Node::Dir => fs::create_dir_all(&path).unwrap(),
            Node::Link(_) => {}
            Node::File(_) => fs::write(&path, content).unwrap(),
        }
    }
    let state = State::load(&paths).map_err(|error| error.to_string())?;
    journal::open_operation(&paths).map_err(|error| error.to_string())?;
    trial::read(&paths).map_err(|error| error.to_string())?;
    let Some(good) = state.last_good else { return Ok(None) };
    let id = ReleaseId(good.release);
    release::known(&paths, id).map_err(|error| error.to_string())?;
    release::settings(&paths, id).map_err(|error| error.to_string())?;
    release::damage(&paths, id).map_err(|error| error.to_string())?;
    if !paths.release(id).is_dir() {
        return Err(format!("release {id} is the last good one and has no tree"));
    }
    Ok(Some(good.release))
}

/// Cuts after each call, in each way. The last good releases that were seen, and how many disks there were.
fn cut_everywhere(top: &Path, calls: &[Call], synced: bool) -> Result<(Vec<u64>, usize), String> {
    let mut disk = Disk { top: top.to_owned(), is_synced_at_all: synced, ..Disk::default() };
    let (mut known, mut seen) = (HashSet::new(), Vec::new());
    for call in calls {
        if disk.perform(call).is_none() {
            continue;
        }
        for left in EACH {
            let image = disk.image(left);
            if !known.insert(image.clone()) {
                continue;
            }
            let good =
                loaded(&image).map_err(|why| format!("{why}, after {} ({left:?})", call.name))?;
            if seen.last() != good.as_ref() {
                seen.extend(good);
            }
        }
    }
    Ok((seen, known.len()))
}

/// A world whose supervisor's calls are recorded in the file that is returned.
fn recorded(more: &str) -> (World, PathBuf) {
    let mut world = World::asleep(free_address());
    world.configure(&config(world.address, more));
    let log = world.path("calls.log");
    let mark = format!("HALLEY_TEST_WORLD={}", world.path("").display());
    let tracer = [
        "env",
        "-u",
        "HALLEY_TEST_WORLD",
        "strace",
        "-DD",
        "-f",
        "-qq",
        "-y",
        "-xx",
        "-s",
        "1000000",
    ];
    let log_text = log.to_string_lossy().into_owned();
    world.wake_under(
        &[&tracer[..], &["-e", CALLS, "-e", "signal=none", "-o", &log_text, "-E", &mark]].concat(),
    );
    (world, log)
}

#[test]
fn a_power_cut_after_any_write_leaves_a_disk_that_loads() {
    let (mut world, log) = recorded("");
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    world.cli(&["rollback", "web"]).expect(0);
    assert!(world.sleep());
    let calls = calls(&fs::read_to_string(log).unwrap());
    let top = fs::canonicalize(world.path("root/web")).unwrap();
    let (seen, n_disks) = cut_everywhere(&top, &calls, true).unwrap();
    assert!(n_disks > 100, "{n_disks}");
    for release in [1, 2] {
        assert!(seen.contains(&release), "{seen:?}");
    }
    assert_eq!(seen.last(), Some(&1), "{seen:?}");
    // A disk that syncs nothing is caught.
    assert!(cut_everywhere(&top, &calls, false).is_err());
}

/// What is done to the names of an exchange in this directory, in order; several syncs in a row are one.
fn exchanged(calls: &[Call], dir: &Path) -> Vec<String> {
    let [live, staged, before] =
        ["data", ".data.restored", ".data.before-restore"].map(|name| dir.join(name));
    let name = |path: &Path| match path {
        path if path == live => Some("live"),
        path if path == staged => Some("staged"),
        path if path == before => Some("before"),
        _ => None,
    };
    let named = |call: &Call, nth: usize| call.path(nth).as_deref().and_then(name);
    let mut steps: Vec<String> = Vec::new();
    for call in calls {
        let file = call.files.first();
        let is_at = |path: &Path| file.is_some_and(|file| file == path);
        let step = match call.name.as_str() {
            "rename" | "renameat" | "renameat2" => {
                let (from, to) = (named(call, 0), named(call, 1));
                from.or(to).map(|_| format!("{} to {}", from.unwrap_or("?"), to.unwrap_or("?")))
            }
            "unlink" | "unlinkat" => named(call, 0).map(|name| format!("remove {name}")),
            "fsync" | "fdatasync" if is_at(dir) => Some("sync".to_owned()),
            "fsync" | "fdatasync" if is_at(&staged) => Some("sync staged".to_owned()),
            "syncfs" if is_at(dir) => {
                // All content and all names.
                steps.push("sync staged".to_owned());
                Some("sync".to_owned())
            }
            _ => None,
        };
        steps.extend(step.filter(|step| steps.last() != Some(step)));
    }
    steps
}

/// A tree, and a file as SQLite has it: what there is, and what adds to it.
const EXCHANGED: [(&str, &str, &str); 2] = [
    ("driver = \"files\"", "mkdir data; echo one > data/a", "echo two > data/b"),
    (
        "driver = \"sqlite\"",
        "sqlite3 data \"CREATE TABLE rows (note TEXT); INSERT INTO rows VALUES ('one')\"",
        "sqlite3 data \"INSERT INTO rows VALUES ('two')\"",
    ),
];

#[test]
fn each_rename_of_an_exchange_lasts_before_the_next_one() {
    for (driver, make, add) in EXCHANGED {
        let (mut world, log) =
            recorded(&format!("[service.web.backup]\n{driver}\npath = \"data\"\n"));
        let shared = world.service_path("shared");
        world.wait("shared", |_| shared.is_dir());
        let sh = |script: &str| {
            let said = Command::new("sh").args(["-ec", script]).current_dir(&shared).status();
            assert!(said.unwrap().success(), "{script}");
        };
        sh(make);
        world.release(&[]).expect(0);
        world.cli(&["backup", "web"]).expect(0);
        let words = ["restore", "web", "--backup", &newest_backup(&world), "--yes", "--json"];
        sh(add);
        world.cli(&words).expect(0);
        // A release that does not run on the backup: what was there comes back.
        sh(add);
        let needs =
            format!("grep -rq two \"$HALLEY_SHARED/data\"; exec {BINARY} {}", service::VERB);
        world.release_path(&world.build_of(&["/bin/sh", "-ec", &needs])).expect(0);
        let why = world.cli(&words).expect(20).why();
        assert!(why.contains("the previous data is back"), "{why}");
        sh("grep -rq two data");
        assert!(world.sleep());
        let shared = fs::canonicalize(&shared).unwrap();
        let steps = exchanged(&calls(&fs::read_to_string(log).unwrap()), &shared);
        // Before the first restore its directory was made.
        let steps: Vec<&str> =
            steps.iter().map(String::as_str).skip_while(|step| *step == "sync").collect();
        let put = ["sync staged", "sync", "live to before", "sync", "staged to live", "sync"];
        let back = ["live to staged", "sync", "before to live", "sync", "remove staged"];
        assert_eq!(steps, [&put[..], &["remove before"], &put, &back].concat(), "{driver}");
    }
}
