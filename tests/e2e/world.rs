//! A world of a test's own: a root, a configuration, the real binary, and nothing left behind.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use halley_sup::demo::load::{Load, Shape};
use halley_sup::demo::service;
use halley_sup::os::proc;
use serde_json::Value;

#[path = "said.rs"]
mod said;
pub use said::Said;

/// The binary under test.
pub const BINARY: &str = match option_env!("HALLEY_BINARY") {
    // The one that is shipped (scripts/test.sh static).
    Some(binary) => binary,
    None => env!("CARGO_BIN_EXE_halley-sup"),
};

/// How long a condition may take to come true.
const BUDGET: Duration = Duration::from_secs(30);

/// As nobody, who may make mounts in a namespace of its own users alone.
pub const NOBODY: [&str; 4] = [
    "sh",
    "-c",
    "chown -R 65534:65534 $HALLEY_TEST_WORLD && \
     exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"",
    "sh",
];

/// A stack of one or more services.
pub struct World {
    dir: tempfile::TempDir,
    pub address: SocketAddr,
    keeper: Option<Child>,
    /// The keeper that has taken the place of the one that was started.
    stand_in: Cell<Option<i32>>,
    n_builds: Cell<u32>,
}

/// The short times that tests live by; a test's own lines come behind it.
pub fn config(address: SocketAddr, more: &str) -> String {
    format!(
        r#"root = "root"
[service.web]
listen = ["tcp://{address}"]
[service.web.health]
http = "/healthz"
interval = "30ms"
rest_interval = "off"
timeout = "1s"
rise = 2
fall = 2
min_healthy = "60ms"
deadline = "5s"
[service.web.bake]
for = "200ms"
[service.web.stop]
linger = "200ms"
drain = "0s"
timeout = "5s"
{more}
"#
    )
}

impl World {
    /// One service, `web`, that nothing was released to yet.
    pub fn new() -> Self {
        Self::with("")
    }

    /// The same with more lines of configuration.
    pub fn with(more: &str) -> Self {
        Self::at(free_address(), more)
    }

    pub fn at(address: SocketAddr, more: &str) -> Self {
        let mut world = Self::asleep(address);
        world.configure(&config(address, more));
        world.wake();
        world
    }

    /// Nothing runs yet.
    pub fn asleep(address: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, address, keeper: None, stand_in: Cell::new(None), n_builds: Cell::new(0) }
    }

    pub fn configure(&self, text: &str) {
        fs::write(self.path("halley.toml"), text).unwrap();
    }

    /// Another configuration while it runs.
    pub fn reload(&self, text: &str) {
        let n_times = |world: &Self| world.run_log().matches("configuration reloaded").count();
        let before = n_times(self);
        self.configure(text);
        kill(self.keeper_pid(), libc::SIGHUP);
        self.wait("the configuration is reloaded", |world| n_times(world) > before);
    }

    /// Another time for the bake. What turns bad does so by its answers, not by its age: on a busy machine
    /// that is great in the gate already.
    pub fn bake(&self, from: &str, to: &str) {
        let of = |time: &str| format!("[service.web.bake]\nfor = \"{time}\"");
        let text = fs::read_to_string(self.path("halley.toml")).unwrap();
        self.reload(&text.replace(&of(from), &of(to)));
    }

    /// Starts `halley-sup run` and waits until it can be asked.
    pub fn wake(&mut self) {
        self.wake_under(&[]);
    }

    /// The same, started by another program that becomes it.
    pub fn wake_under(&mut self, wrapper: &[&str]) {
        self.begin_under(wrapper);
        self.wait("the supervisor answers", |world| world.cli(&["status"]).code == 0);
    }

    /// The same, without waiting for anything.
    pub fn begin_under(&mut self, wrapper: &[&str]) {
        let log = fs::File::options().append(true).create(true).open(self.path("run.log")).unwrap();
        let words = [wrapper, &[BINARY, "run", "--config"]].concat();
        let keeper = Command::new(words[0])
            .args(&words[1..])
            .arg(self.path("halley.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .env("HALLEY_TEST_WORLD", self.dir.path())
            .env("PATH", search_path())
            .spawn()
            .unwrap();
        self.keeper = Some(keeper);
    }

    /// Whether `halley-sup run` has left by itself.
    pub fn has_left(&mut self) -> bool {
        self.keeper.as_mut().is_none_or(|keeper| keeper.try_wait().unwrap().is_some())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn service_path(&self, name: &str) -> PathBuf {
        self.path("root/web").join(name)
    }

    pub fn run_log(&self) -> String {
        fs::read_to_string(self.path("run.log")).unwrap_or_default()
    }

    /// A client's command.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).arg("--config").arg(self.path("halley.toml"));
        command.stdin(Stdio::null()).env("USER", "tester").env_remove("LOGNAME");
        command.env_remove("SUDO_USER").env_remove("SSH_CONNECTION");
        command
    }

    /// The same, and what it prints, in whose commands this world's file is left out.
    pub fn cli(&self, args: &[&str]) -> Said {
        let given = format!(" --config {}", self.path("halley.toml").display());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&given, "");
        let output = self.command(args).output().unwrap();
        let code = output.status.code().unwrap_or(-1);
        Said { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// A build whose program behaves like this; each one is another artifact.
    pub fn build(&self, behaviour: &[&str]) -> PathBuf {
        let mut command = vec![BINARY, service::VERB];
        command.extend(behaviour);
        self.build_of(&command)
    }

    pub fn build_of(&self, command: &[&str]) -> PathBuf {
        let n = self.n_builds.get() + 1;
        self.n_builds.set(n);
        let dir = self.path(&format!("build{n}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("VERSION"), n.to_string()).unwrap();
        fs::write(dir.join("release.toml"), format!("command = {command:?}\n")).unwrap();
        dir
    }

    /// Releases a build and waits for its end.
    pub fn release(&self, behaviour: &[&str]) -> Said {
        let build = self.build(behaviour);
        self.release_path(&build)
    }

    pub fn release_path(&self, build: &Path) -> Said {
        self.cli(&["release", "web", &build.to_string_lossy(), "--json"])
    }

    /// `status --json` of `web`. A supervisor that goes down in the middle of its answer is asked
    /// again.
    pub fn status(&self) -> Value {
        let begun = Instant::now();
        loop {
            let said = self.cli(&["status", "--json"]);
            if said.code == 0 || begun.elapsed() > BUDGET {
                return said.expect(0).result()["services"][0].clone();
            }
        }
    }

    /// `status --json` of one service of several.
    pub fn status_of(&self, name: &str) -> Value {
        let begun = Instant::now();
        loop {
            let said = self.cli(&["status", name, "--json"]);
            if said.code == 0 || begun.elapsed() > BUDGET {
                return said.expect(0).result()["services"][0].clone();
            }
        }
    }

    pub fn load(&self, shape: Shape) -> Load {
        Load::start(self.address, shape, 4)
    }

    #[track_caller]
    pub fn wait(&self, what: &str, is_true: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !is_true(self) {
            assert!(begun.elapsed() < BUDGET, "never: {what}\n{}", self.run_log());
            // Most questions are a process each: what takes longer is asked for less often.
            let pause = if begun.elapsed() < Duration::from_millis(200) { 10 } else { 40 };
            std::thread::park_timeout(Duration::from_millis(pause));
        }
    }

    pub fn keeper_pid(&self) -> i32 {
        if let Some(pid) = self.stand_in.get() {
            return pid;
        }
        i32::try_from(self.keeper.as_ref().unwrap().id()).unwrap()
    }

    pub fn supervisor_pid(&self) -> Option<i32> {
        supervisor_of(self.keeper_pid())
    }

    /// `kill -9` of the supervisor, whatever it is at. Returns when it is gone with its sockets: a
    /// client that comes in between would be cut off.
    pub fn kill_supervisor(&self) {
        if let Some(pid) = self.supervisor_pid() {
            kill(pid, libc::SIGKILL);
            self.wait("the killed supervisor is gone", |_| is_gone(pid));
        }
    }

    /// `kill -9` of the keeper alone: its supervisor takes its place.
    pub fn kill_keeper(&self) {
        let (keeper, next) = (self.keeper_pid(), self.supervisor_pid().unwrap());
        kill(keeper, libc::SIGKILL);
        self.wait("the killed keeper is gone", |_| is_gone(keeper));
        self.replaced_keeper(next);
    }

    /// `kill -9` of keeper and supervisor; what they supervise goes on.
    pub fn kill_both(&mut self) {
        // Stopped it starts no other supervisor.
        let (keeper, supervisor) = (self.keeper_pid(), self.supervisor_pid());
        kill(keeper, libc::SIGSTOP);
        for pid in supervisor.into_iter().chain([keeper]) {
            kill(pid, libc::SIGKILL);
            self.wait("it is gone", |_| is_gone(pid));
        }
        self.stand_in.set(None);
        drop(self.keeper.take().map(|mut keeper| keeper.wait()));
    }

    /// The process that was the supervisor is the keeper.
    pub fn replaced_keeper(&self, next: i32) {
        self.stand_in.set(Some(next));
        self.wait("another supervisor", |world| {
            assert!(!is_gone(next), "the supervisor left with its keeper\n{}", world.run_log());
            world.supervisor_pid().is_some() && world.cli(&["status"]).code == 0
        });
    }

    /// Starts `halley-sup run` while another process stands in for the one that was killed.
    pub fn run_again(&mut self) {
        let before = self.stand_in.take().unwrap();
        drop(self.keeper.take().unwrap().wait());
        self.wake();
        self.wait("the other one has left", |_| is_gone(before));
    }

    /// The stack was stopped by a keeper that took another one's place.
    pub fn stand_in_left(&mut self) {
        let mut keeper = self.keeper.take().unwrap();
        drop(keeper.wait());
    }

    /// The live process.
    pub fn live_pid(&self) -> i32 {
        let status = self.status();
        let instances = status["instances"].as_array().cloned().unwrap_or_default();
        let live = instances.iter().find(|instance| instance["role"] == "live");
        live.and_then(|instance| instance["pid"].as_i64()).map_or(0, |pid| pid as i32)
    }

    /// Whether only one process is left of all that were started.
    pub fn is_alone(&self) -> bool {
        self.status()["instances"].as_array().is_some_and(|instances| instances.len() == 1)
    }

    /// Asks the service itself who it is.
    pub fn answering(&self) -> Option<u64> {
        Self::answering_at(self.address)
    }

    /// Asks whoever has this address.
    pub fn answering_at(address: SocketAddr) -> Option<u64> {
        let load = Load::start(address, Shape::Short, 1);
        if !load.wait_for(1) {
            return None;
        }
        load.stop().by_release().into_keys().next()
    }

    /// Ends the stack; `true` when it left by itself and in order.
    pub fn sleep(&mut self) -> bool {
        let Some(mut keeper) = self.keeper.take() else { return true };
        if let Some(stand_in) = self.stand_in.take() {
            drop(keeper.wait());
            kill(stand_in, libc::SIGTERM);
            self.wait("the keeper leaves", |_| is_gone(stand_in));
            return true;
        }
        kill(i32::try_from(keeper.id()).unwrap(), libc::SIGTERM);
        let begun = Instant::now();
        while begun.elapsed() < BUDGET {
            if let Some(status) = keeper.try_wait().unwrap() {
                return status.success();
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        kill(i32::try_from(keeper.id()).unwrap(), libc::SIGKILL);
        drop(keeper.wait());
        false
    }

    /// A power cut as processes see it: everything is gone at once.
    pub fn power_cut(&mut self) {
        self.power_cut_sparing(|_| false);
    }

    /// The same, but for processes whose command line is spared.
    pub fn power_cut_sparing(&mut self, is_spared: impl Fn(&str) -> bool) {
        let Some(mut keeper) = self.keeper.take() else { return };
        let is_spared = |pid: &i32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            is_spared(&line)
        };
        // All are stopped first: a supervisor whose keeper is gone would take its place.
        let first = i32::try_from(keeper.id()).unwrap();
        let mut all = BTreeSet::from([first]);
        loop {
            all.iter().for_each(|pid| kill(*pid, libc::SIGSTOP));
            let found = all.iter().flat_map(|pid| proc::tree(*pid));
            let found: BTreeSet<i32> = found.filter(|pid| !is_spared(pid)).collect();
            if found.is_subset(&all) {
                break;
            }
            all.extend(found);
        }
        // The keeper last: what is stopped goes on when its parent has gone (setpgid(2)).
        all.iter().filter(|pid| **pid != first).for_each(|pid| kill(*pid, libc::SIGKILL));
        kill(first, libc::SIGKILL);
        drop(keeper.wait());
        // One that was between its fork and its exec shows its mark only now.
        self.wait("everything is gone", |world| {
            let left: Vec<i32> =
                world.left_behind().into_iter().filter(|pid| !is_spared(pid)).collect();
            left.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
            // Its environment goes before its descriptors do, and with them the lock.
            left.is_empty() && all.iter().all(|pid| is_gone(*pid))
        });
    }

    /// Processes that carry this world's mark or live in its directory.
    pub fn left_behind(&self) -> BTreeSet<i32> {
        let mark = self.dir.path().to_string_lossy().into_owned();
        let marked = |pid: &i32| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|env| String::from_utf8_lossy(&env).contains(&mark))
                && !proc::is_zombie(*pid)
        };
        let own = i32::try_from(std::process::id()).unwrap();
        proc::all().into_iter().filter(|pid| *pid != own).filter(marked).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let in_order = self.sleep();
        let left = self.left_behind();
        for pid in &left {
            kill(*pid, libc::SIGKILL);
        }
        drop(halley_sup::os::fs::remove_tree(&self.path("root")));
        // Where it went while the root was read-only.
        let refuge = halley_sup::os::fs::refuge_of_socket(&self.path("root/control.sock"));
        drop(fs::remove_file(refuge));
        if !std::thread::panicking() {
            assert!(in_order, "the keeper did not leave in order\n{}", self.run_log());
            assert!(left.is_empty(), "left behind: {left:?}\n{}", self.run_log());
        } else {
            eprintln!("--- run.log\n{}", self.run_log());
        }
    }
}

/// With all its threads: the first of them can be a zombie while another one still has the files.
pub fn is_gone(pid: i32) -> bool {
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    proc::start_ticks(pid).is_err() || proc::is_zombie(pid) && threads() <= 1
}

/// Where the programs of PostgreSQL's newest version are. Those in the `PATH` of Debian are a wrapper
/// in Perl that chooses one, and takes five times as long as they do.
pub fn postgres_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    versions.map(|entry| entry.unwrap().path()).max().map(|newest| newest.join("bin"))
}

/// What a supervisor and its services search: those before their wrappers.
fn search_path() -> String {
    let before = std::env::var("PATH").unwrap();
    postgres_programs().map_or(before.clone(), |dir| format!("{}:{before}", dir.display()))
}

/// The supervisor that a keeper has.
pub fn supervisor_of(keeper: i32) -> Option<i32> {
    proc::tree(keeper).into_iter().find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split('\0').nth(1) == Some("supervisor"))
    })
}

/// A signal to exactly the process that has this pid now.
pub fn kill(pid: i32, signal: i32) {
    if let Ok(start) = proc::start_ticks(pid) {
        drop(proc::signal(pid, start, signal));
    }
}

/// A loopback address below the ephemeral range that nobody has, handed out once in this process
/// and, by the process id, hardly ever in two.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let n = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (std::process::id() * 37 + n) % 20_000;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
