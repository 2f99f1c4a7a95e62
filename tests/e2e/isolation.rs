//! A rehearsal on a copy gets the copy, by whatever name a program reaches for its data: the live
//! data stays as it is, to the byte.
//!
//! Each migration here damages what it reaches in a rehearsal and says so, and then fails: what it
//! reached must have been the copy.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use crate::world::NOBODY;
use crate::world::{Said, World, config, free_address};

/// Opens the database it is told of, counts, deletes everything; in a rehearsal it fails then.
const DAMAGE: &str = r#"
import json, os, sqlite3, sys
path = sys.argv[1]
if path == "config": path = json.load(open("config.json"))["database"]
if path.startswith("file="): path = open(path[5:]).read().strip()
if path == "DATA_DIR": path = os.path.join(os.environ["DATA_DIR"], "app.db")
db = sqlite3.connect(path, timeout=20, isolation_level=None)
n = db.execute("SELECT count(*) FROM rows").fetchone()[0]
db.execute("DELETE FROM rows")
db.execute("CREATE TABLE damaged (x)")
n_now = db.execute("SELECT count(*) FROM rows").fetchone()[0]
db.close()
if "HALLEY_REHEARSAL" in os.environ: sys.exit(f"found {n} rows, left {n_now}")
"#;

/// A world with a database of three rows at this place, in WAL mode and held open by a writer, and
/// one release.
pub struct Held {
    pub world: World,
    pub database: PathBuf,
    /// The writer: what it wrote last is in the `-wal` file alone.
    pub writer: std::process::Child,
}

impl Held {
    pub fn new(place: &str, more: &str) -> Self {
        Self::under(&[], place, more)
    }

    pub fn under(wrapper: &[&str], place: &str, more: &str) -> Self {
        let mut world = World::asleep(free_address());
        let database = world.path(place);
        let text = format!(
            "{more}\n[service.web.backup]\ndriver = \"sqlite\"\npath = {:?}\n",
            database.to_string_lossy()
        );
        let text = config(world.address, &text).replace("deadline = \"5s\"", "deadline = \"20s\"");
        world.configure(&text);
        world.wake_under(wrapper);
        fs::create_dir_all(database.parent().unwrap()).unwrap();
        let script = "import sqlite3, sys\n\
                      db = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                      db.execute('PRAGMA journal_mode = WAL')\n\
                      db.execute('CREATE TABLE rows (id INTEGER PRIMARY KEY)')\n\
                      for n in range(3): db.execute('INSERT INTO rows DEFAULT VALUES')\n\
                      print('ready', flush=True)\n\
                      sys.stdin.read()\n";
        let writer = Command::new("/usr/bin/python3")
            .args(["-c", script])
            .arg(&database)
            .stdin(std::process::Stdio::piped())
            .stdout(fs::File::create(world.path("writer.out")).unwrap())
            .spawn()
            .unwrap();
        world.wait("the writer is ready", |world| {
            fs::read_to_string(world.path("writer.out")).unwrap().contains("ready")
        });
        // Whoever runs it owns its data.
        let owner = fs::metadata(world.path("root")).unwrap();
        let (user, group) = (Some(owner.uid()), Some(owner.gid()));
        for entry in fs::read_dir(database.parent().unwrap()).unwrap().flatten() {
            std::os::unix::fs::chown(entry.path(), user, group).unwrap();
        }
        std::os::unix::fs::chown(database.parent().unwrap(), user, group).unwrap();
        world.release(&[]).expect(0);
        Self { world, database, writer }
    }

    /// Everything that lies in the database's directory, to the byte.
    pub fn bytes(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let dir = fs::read_dir(self.database.parent().unwrap()).unwrap();
        let mut files: Vec<_> = dir
            .flatten()
            .map(|entry| entry.path())
            // Readers note themselves in the shared memory of the journal.
            .filter(|path| path.is_file() && !path.to_string_lossy().ends_with("-shm"))
            .map(|path| (path.clone(), fs::read(&path).unwrap()))
            .collect();
        files.sort();
        files
    }

    /// A release whose migration is this program with this argument.
    pub fn release(&self, argument: &str, prepare: impl Fn(&Path)) -> Said {
        let build = self.world.build(&[]);
        let migrate = ["/usr/bin/python3", "damage.py", argument];
        fs::write(build.join("damage.py"), DAMAGE).unwrap();
        append(&build, &format!("[migrate]\ncommand = {migrate:?}\ndeadline = \"60s\"\n"));
        prepare(&build);
        self.world.release_path(&build)
    }

    /// `status` says what a rehearsal is kept to here.
    #[track_caller]
    pub fn status_says(&self, isolation: &str, text: &str) {
        let status = self.world.status();
        let rehearsals = &status["rehearsals"];
        assert_eq!(rehearsals["isolation"], isolation, "{status}");
        assert_eq!(rehearsals["fence"], true, "{status}");
        assert_eq!(rehearsals["why"].is_null(), !matches!(isolation, "landlock" | "none"));
        let said = self.world.cli(&["status", "web"]).expect(0).stdout;
        assert!(said.contains(text), "{said}");
    }

    /// It is refused, it worked on the copy, and the live data is what it was.
    #[track_caller]
    pub fn is_tried_on_the_copy(&self, argument: &str, prepare: impl Fn(&Path)) {
        let before = self.bytes();
        let said = self.release(argument, prepare).expect(16);
        let why = said.result()["trouble"]["why"].to_string();
        assert!(why.contains("found 3 rows, left 0"), "{argument}: {why}");
        assert!(self.bytes() == before, "{argument}: the live data was touched");
        assert_eq!(fs::read_dir(self.world.service_path("scratch")).unwrap().count(), 0);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.writer.stdin.take());
        drop(self.writer.wait());
    }
}

pub fn append(build: &Path, lines: &str) {
    let text = fs::read_to_string(build.join("release.toml")).unwrap();
    fs::write(build.join("release.toml"), text + lines).unwrap();
}

/// How a migration names the database: its argument, and what its release needs for it.
pub type Name = (String, Box<dyn Fn(&Path)>);

fn plain(argument: impl Into<String>) -> Name {
    (argument.into(), Box::new(|_| {}))
}

pub const BELOW_SHARED: &str = "root/web/shared/data/app.db";
pub const ELSEWHERE: &str = "srv/app/app.db";

/// Every name of a database below `shared/`.
pub fn names_below_shared(held: &Held) -> Vec<Name> {
    let live = held.database.to_string_lossy().into_owned();
    let dir = live.trim_end_matches("/app.db").to_owned();
    // As an argument; with more slashes and dots; relative to the release.
    let dotted = live.replace("/data/", "//./data/../data//");
    let mut names = vec![plain(&live), plain(dotted), plain("../../shared/data/app.db")];
    // Through a link, of the file and of a directory above it.
    for (link, to, name) in [("link.db", &live, ""), ("dir", &dir, "/app.db")] {
        let link = held.world.path(link);
        std::os::unix::fs::symlink(to, &link).unwrap();
        names.push(plain(format!("{}{name}", link.display())));
    }
    // In a file of the release's tree, and in one of the host.
    let text = format!("{{\"database\": {live:?}}}");
    let file = move |build: &Path| fs::write(build.join("config.json"), &text).unwrap();
    names.push(("config".to_owned(), Box::new(file)));
    let etc = held.world.path("app.conf");
    fs::write(&etc, &live).unwrap();
    names.push(plain(format!("file={}", etc.display())));
    // By a variable that names the directory, and not letter by letter.
    let variable = move |build: &Path| {
        let text = fs::read_to_string(build.join("release.toml")).unwrap();
        let dir = dir.replace("/shared", "//shared");
        fs::write(build.join("release.toml"), format!("env.DATA_DIR = {dir:?}\n{text}")).unwrap();
    };
    names.push(("DATA_DIR".to_owned(), Box::new(variable)));
    names
}

/// Names of a database that lies anywhere.
pub fn names_elsewhere(held: &Held) -> Vec<Name> {
    let live = held.database.to_string_lossy().into_owned();
    let link = held.world.path("link.db");
    std::os::unix::fs::symlink(&live, &link).unwrap();
    // What lies beside it is there too.
    fs::write(held.database.with_file_name("name"), &live).unwrap();
    let beside = format!("file={}", held.database.with_file_name("name").display());
    vec![plain(live), plain(link.to_string_lossy()), plain(beside)]
}

#[test]
fn every_name_of_a_database_below_shared_leads_to_the_copy() {
    let held = Held::new(BELOW_SHARED, "");
    for (argument, prepare) in names_below_shared(&held) {
        held.is_tried_on_the_copy(&argument, prepare);
    }
}

#[test]
fn every_name_of_a_database_elsewhere_leads_to_the_copy() {
    let held = Held::new(ELSEWHERE, "");
    for (argument, prepare) in names_elsewhere(&held) {
        held.is_tried_on_the_copy(&argument, prepare);
    }
    held.status_says("mounts", "rehearsals on a copy: isolated by mounts,");
}

#[test]
fn a_database_that_is_configured_by_a_link_is_the_one_it_leads_to() {
    let held = Held::new("srv/app/app.db", "");
    let link = held.world.path("link.db");
    std::os::unix::fs::symlink(&held.database, &link).unwrap();
    let text = fs::read_to_string(held.world.path("halley.toml")).unwrap();
    let (live, by_link) = (held.database.to_string_lossy(), link.to_string_lossy());
    held.world.reload(&text.replace(live.as_ref(), by_link.as_ref()));
    held.is_tried_on_the_copy(&live, |_| {});
    held.is_tried_on_the_copy(&by_link, |_| {});
}

/// A release whose program migrates at its start, by the live path.
pub fn migrates_at_its_start(held: &Held) -> PathBuf {
    let build = held.world.build(&[]);
    let text = fs::read_to_string(build.join("release.toml")).unwrap();
    let command: Vec<String> =
        serde_json::from_str(text.trim().strip_prefix("command = ").unwrap()).unwrap();
    fs::write(build.join("damage.py"), DAMAGE).unwrap();
    let script = format!(
        "/usr/bin/python3 damage.py {} 2>> damage.log; exec {}",
        held.database.display(),
        command.join(" ")
    );
    // What happens on live data at its real start is its own affair: it fails before that.
    let script = format!("[ -n \"$HALLEY_REHEARSAL\" ] || exit 9; {script}");
    fs::write(build.join("release.toml"), format!("command = {:?}\n", ["/bin/sh", "-c", &script]))
        .unwrap();
    append(&build, "[migrate]\ncommand = [\"/bin/true\"]\n");
    build
}

#[test]
fn a_migration_at_a_programs_start_is_tried_on_the_copy() {
    let held = Held::new("root/web/shared/app.db", "");
    let before = held.bytes();
    let said = held.world.release_path(&migrates_at_its_start(&held));
    assert_eq!(said.code, 20, "{}", said.stdout);
    assert!(said.stdout.contains("the new release runs on it"), "{}", said.stdout);
    assert!(held.bytes() == before, "the live data was touched");
    // It wrote into its tree, and the tree is as it was sealed.
    let releases = held.world.service_path("releases");
    for release in fs::read_dir(releases).unwrap().flatten() {
        assert!(!release.path().join("damage.log").exists());
    }
}

/// A migration that writes elsewhere, and where: in temporary files, in shared memory, outside.
pub fn writes_elsewhere(held: &Held) -> (String, [PathBuf; 3]) {
    let outside = held.world.path("outside");
    fs::create_dir(&outside).unwrap();
    let name = held.world.path("").file_name().unwrap().to_string_lossy().into_owned();
    let tmp = std::env::temp_dir().join(format!("halley-rehearsal-{name}"));
    let memory = Path::new("/dev/shm").join(tmp.file_name().unwrap());
    let script = format!(
        "import os, sys\n\
         open({tmp:?}, 'w').write('x')\n\
         open({memory:?}, 'w').write('x')\n\
         number = 0\n\
         try: open('{outside}/x', 'w')\n\
         except OSError as error: number = error.errno\n\
         open(os.environ['HALLEY_SHARED'] + '/new', 'w').write('x')\n\
         os.remove(os.environ['HALLEY_SHARED'] + '/keep')\n\
         if number: sys.exit(f'refused: {{number}}')\n",
        outside = outside.display()
    );
    (script, [tmp, memory, outside.join("x")])
}

#[test]
fn what_a_rehearsal_writes_elsewhere_is_refused_or_thrown_away() {
    let held = Held::new("root/web/shared/app.db", "");
    let (script, written) = writes_elsewhere(&held);
    fs::write(held.world.service_path("shared/keep"), "kept").unwrap();
    let said = held.release("", |build| fs::write(build.join("damage.py"), &script).unwrap());
    let why = said.expect(16).result()["trouble"]["why"].to_string();
    assert!(why.contains(&format!("refused: {}", libc::EROFS)), "{why}");
    for path in written {
        assert!(!path.exists(), "{}", path.display());
    }
    assert!(!held.world.service_path("shared/new").exists());
    assert_eq!(fs::read_to_string(held.world.service_path("shared/keep")).unwrap(), "kept");
}

/// A world whose backup is restored by this command line, which knows the live place as `LIVE`.
pub fn restored_by(wrapper: &[&str], restore: &str) -> (World, PathBuf) {
    let mut world = World::asleep(free_address());
    let live = world.path("root/web/shared/app.txt");
    let restore = restore.replace("LIVE", &live.to_string_lossy());
    let text = format!(
        "[service.web.backup]\ndriver = \"command\"\n\
         take = [\"/bin/sh\", \"-c\", \"cp {live} $HALLEY_BACKUP_DIR/dump\"]\n\
         restore = [\"/bin/sh\", \"-c\", {restore:?}]\n",
        live = live.display()
    );
    world.configure(&config(world.address, &text));
    world.wake_under(wrapper);
    fs::write(&live, "precious").unwrap();
    (world, live)
}

pub const TO_A_FIXED_PLACE: &str = "sed s/precious/restored/ $HALLEY_BACKUP_DIR/dump > LIVE";

#[test]
fn a_restore_by_command_that_writes_to_a_fixed_place_is_tried_on_the_copy() {
    let with = |restore: &str| restored_by(&[], restore);
    let (world, live) = with(TO_A_FIXED_PLACE);
    // The first release, which finds data there already, and the next.
    for _ in 0..2 {
        world.release(&[]).expect(0);
        assert_eq!(fs::read_to_string(&live).unwrap(), "precious");
    }
    // One that restores nothing is none.
    let (world, live) = with("true");
    let why = world.release(&[]).expect(15).result()["trouble"]["why"].to_string();
    assert!(why.contains("backup.restore reported success, but wrote nothing"), "{why}");
    // Nor may it write elsewhere.
    let (other, _) = with(&format!("echo x > {}/gone", live.parent().unwrap().display()));
    other.release(&[]).expect(15);
    assert!(!live.with_file_name("gone").exists());
}

/// A world with a tree of one file, and a release that changes it and fails.
pub fn of_a_tree(wrapper: &[&str]) -> (World, PathBuf, PathBuf) {
    let mut world = World::asleep(free_address());
    let live = world.path("uploads");
    let text =
        format!("[service.web.backup]\ndriver = \"files\"\npath = {:?}\n", live.to_string_lossy());
    world.configure(&config(world.address, &text));
    world.wake_under(wrapper);
    fs::create_dir_all(&live).unwrap();
    fs::write(live.join("a"), "one").unwrap();
    world.release(&[]).expect(0);
    let build = world.build(&[]);
    let script =
        format!("cat {live}/a; echo two > {live}/a; cat {live}/a; exit 5", live = live.display());
    append(&build, &format!("[migrate]\ncommand = {:?}\n", ["/bin/sh", "-c", &script]));
    (world, live.join("a"), build)
}

#[test]
fn a_tree_of_files_is_rehearsed_on_its_copy() {
    let (world, live, build) = of_a_tree(&[]);
    let why = world.release_path(&build).expect(16).result()["trouble"]["why"].to_string();
    assert!(why.contains("exit 5: onetwo"), "{why}");
    assert_eq!(fs::read_to_string(live).unwrap(), "one");
}

/// Becomes another program for which the kernel does not perform these calls, and returns this error; 0 is
/// success.
const WITHOUT: &str = r#"
import ctypes, os, struct, sys
numbers = [int(n) for n in sys.argv[1].split(",")]
steps = [struct.pack("HBBI", 0x20, 0, 0, 0)]
for n, number in enumerate(numbers): steps.append(struct.pack("HBBI", 0x15, len(numbers) - n, 0, number))
steps += [struct.pack("HBBI", 0x06, 0, 0, 0x7fff0000), struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | int(sys.argv[2]))]
code = ctypes.create_string_buffer(b"".join(steps))
program = ctypes.create_string_buffer(struct.pack("H6xQ", len(steps), ctypes.addressof(code)))
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, program, 0, 0) == 0
os.execv(sys.argv[3], sys.argv[3:])
"#;

fn without(calls: &[libc::c_long]) -> Vec<String> {
    answering(libc::EPERM, calls)
}

pub fn answering(errno: i32, calls: &[libc::c_long]) -> Vec<String> {
    let numbers: Vec<String> = calls.iter().map(ToString::to_string).collect();
    ["/usr/bin/python3", "-c", WITHOUT, &numbers.join(","), &errno.to_string()]
        .map(str::to_owned)
        .to_vec()
}

pub fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn without_root_a_user_namespace_does_it() {
    let held = Held::under(&NOBODY, "root/web/shared/app.db", "");
    let live = held.database.to_string_lossy().into_owned();
    held.is_tried_on_the_copy(&live, |_| {});
    held.status_says("user_namespace", "isolated by mounts in a user namespace");
}

#[test]
fn without_mounts_landlock_keeps_live_data_from_being_written() {
    let words = without(&[libc::SYS_unshare]);
    let held = Held::under(&strs(&words), "root/web/shared/app.db", "");
    let before = held.bytes();
    let live = held.database.to_string_lossy().into_owned();
    let why = held.release(&live, |_| {}).expect(16).result()["trouble"]["why"].to_string();
    assert!(why.contains("readonly") || why.contains("unable to open"), "{why}");
    assert!(held.bytes() == before, "the live data was touched");
    // Who takes the place from the environment gets the copy.
    let said = held.release("DATA_DIR", |build| {
        let damage = DAMAGE.replace("DATA_DIR", "HALLEY_SHARED");
        fs::write(build.join("damage.py"), damage.replace("\"HALLEY_SHARED\":", "\"DATA_DIR\":"))
            .unwrap();
    });
    let why = said.expect(16).result()["trouble"]["why"].to_string();
    assert!(why.contains("found 3 rows, left 0"), "{why}");
    assert!(held.bytes() == before, "the live data was touched");
    held.status_says("landlock", "live data cannot be written (Landlock)");
}

#[test]
fn where_nothing_protects_live_data_nothing_is_started_on_a_copy() {
    let words = without(&[libc::SYS_unshare, libc::SYS_landlock_create_ruleset]);
    let held = Held::under(&strs(&words), "root/web/shared/app.db", "");
    let build = held.world.build(&[]);
    append(&build, "[migrate]\ncommand = [\"/bin/sh\", \"-c\", \"test -z $HALLEY_REHEARSAL\"]\n");
    let said = held.world.release_path(&build).expect(0).result();
    assert!(said["warnings"].to_string().contains("no program is tried on a copy"), "{said}");
    held.status_says("none", "rehearsals on a copy: no program is started");
}

#[test]
fn a_command_that_checks_a_rehearsed_program_sees_what_the_program_sees() {
    let mut world = World::asleep(free_address());
    let live = world.service_path("shared/app.txt");
    let check = format!("[ -z \"$HALLEY_REHEARSAL\" ] || grep -q migrated {}", live.display());
    let backup = "[service.web.backup]\ndriver = \"files\"\npath = \"app\"\n";
    let text = config(world.address, backup)
        .replace("http = \"/healthz\"", &format!("exec = {:?}", ["/bin/sh", "-c", &check]))
        // What is tried on live data is not what this is about.
        .replace("[service.web.health]", "rehearse = \"light\"\n[service.web.health]");
    world.configure(&text);
    world.wake();
    world.release(&[]).expect(0);
    fs::create_dir_all(world.service_path("shared/app")).unwrap();
    fs::write(world.service_path("shared/app/a"), "a").unwrap();
    fs::write(&live, "old").unwrap();
    let build = world.build(&[]);
    let migrate = format!("[ -z \"$HALLEY_REHEARSAL\" ] || echo migrated > {}", live.display());
    append(&build, &format!("[migrate]\ncommand = {:?}\n", ["/bin/sh", "-c", &migrate]));
    let said = world.release_path(&build);
    // On the copy both are migrated; the old release on live data is not, and says so.
    assert!(
        said.stdout.contains("the new release runs on it, so does release 1"),
        "{}",
        said.stdout
    );
    assert_eq!(fs::read_to_string(&live).unwrap(), "old");
}

#[test]
fn a_refused_write_is_told_with_the_line_that_throws_it_away() {
    let held = Held::new("root/web/shared/app.db", "");
    let logs = held.world.path("logs");
    fs::create_dir(&logs).unwrap();
    fs::write(logs.join("old"), "old").unwrap();
    let script = format!("open('{0}/new', 'w').write(open('{0}/old').read())\n", logs.display());
    let release = || held.release("", |build| fs::write(build.join("damage.py"), &script).unwrap());
    let why = release().expect(16).result()["trouble"]["why"].as_str().unwrap().to_owned();
    let line = format!("rehearse_write = [{:?}]", logs.to_string_lossy());
    assert!(why.contains(&line), "{why}");
    assert_eq!(fs::read_dir(&logs).unwrap().count(), 1);
    // As it says; what the migration of live data writes there stays.
    let text = fs::read_to_string(held.world.path("halley.toml")).unwrap();
    let allowed = text.replace("[service.web.health]", &format!("{line}\n[service.web.health]"));
    held.world.reload(&allowed);
    let kept = script.clone()
        + "import os, sys\n\
        if 'HALLEY_REHEARSAL' in os.environ: sys.exit('written: ' + open('LOGS/new').read())\n";
    let kept = kept.replace("LOGS", &logs.to_string_lossy());
    let said = held.release("", |build| fs::write(build.join("damage.py"), &kept).unwrap());
    let why = said.expect(16).result()["trouble"]["why"].to_string();
    assert!(why.contains("written: old"), "{why}");
    assert_eq!(fs::read_dir(&logs).unwrap().count(), 1, "it was thrown away");
}

#[test]
fn a_program_below_a_temporary_directory_is_found_in_a_rehearsal() {
    let held = Held::new("root/web/shared/app.db", "");
    let elsewhere = tempfile::tempdir().unwrap();
    fs::copy("/bin/true", elsewhere.path().join("true")).unwrap();
    let build = held.world.build(&[]);
    let program = elsewhere.path().join("true").to_string_lossy().into_owned();
    append(&build, &format!("[migrate]\ncommand = [{program:?}]\n"));
    held.world.release_path(&build).expect(0);
}
