//! The demo's script: each step one line, at the end a table.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::out;
use crate::demo::ledger::Ledger;
use crate::demo::load::{Load, Shape};
use crate::demo::service;
use crate::os::proc;
use crate::text;

/// Clients in the background.
const N_WORKERS: usize = 4;

/// Runs the demo: 0 when every step went as it should and nothing was lost.
#[must_use]
pub fn run() -> ExitCode {
    match Stage::set().and_then(|mut stage| stage.play()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            out::say(format!("error: the demo failed: {error}"));
            ExitCode::from(1)
        }
    }
}

/// A stack of its own, in a temporary root.
struct Stage {
    dir: tempfile::TempDir,
    program: PathBuf,
    address: SocketAddr,
    keeper: Child,
    flips_us: Vec<u64>,
    all_well: bool,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let pid = i32::try_from(self.keeper.id()).unwrap_or(0);
        if let Ok(start) = proc::start_ticks(pid) {
            drop(proc::signal(pid, start, libc::SIGTERM));
        }
        drop(self.keeper.wait());
        // Sealed trees are read-only: make room for their removal.
        drop(crate::os::fs::remove_tree(&self.dir.path().join("root")));
    }
}

impl Stage {
    fn set() -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let program = std::env::current_exe()?;
        // The port was free a moment earlier; no other program is expected to take it on loopback.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        fs::write(dir.path().join("halley.toml"), config(address))?;
        out::say(format!("the stage: {}, http://{address}/", dir.path().display()));
        let log = fs::File::create(dir.path().join("run.log"))?;
        let keeper = Command::new(&program)
            .args(["run", "--config"])
            .arg(dir.path().join("halley.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let stage = Self { dir, program, address, keeper, flips_us: Vec::new(), all_well: true };
        stage.wait_until_up()?;
        Ok(stage)
    }

    fn wait_until_up(&self) -> io::Result<()> {
        let begun = Instant::now();
        while self.cli(&["status", "--json"])?.status.code() != Some(0) {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err(io::Error::other("the supervisor does not start"));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    fn cli(&self, args: &[&str]) -> io::Result<Output> {
        Command::new(&self.program)
            .args(args)
            .arg("--config")
            .arg(self.dir.path().join("halley.toml"))
            .stdin(Stdio::null())
            .output()
    }

    fn play(&mut self) -> io::Result<bool> {
        self.release("release 1 goes live", &[], 0, "committed")?;
        let address = self.address.into();
        let load = Load::begin(&address, Shape::ShortFast, N_WORKERS)?;
        let keep_alive = Load::begin(&address, Shape::KeepAlive, N_WORKERS)?;
        self.release("release 2 replaces it", &[], 0, "committed")?;
        self.release("release 3 is never healthy", &["unhealthy"], 20, "gate_failed")?;
        self.release("release 4 fails after the flip", &["bad-after-ms=900"], 21, "rolled_back")?;
        let rollback = self.rollback()?;
        self.kill_supervisor(&load)?;
        self.release("release 5, by the new supervisor", &[], 0, "committed")?;
        let mut ledger = load.stop();
        ledger.merge(keep_alive.stop());
        self.table(&ledger, rollback);
        Ok(self.all_well && ledger.n_lost() == 0)
    }

    /// A release whose program behaves like this must end like that.
    fn release(
        &mut self,
        title: &str,
        behaviour: &[&str],
        exit: i32,
        outcome: &str,
    ) -> io::Result<()> {
        let build = self.dir.path().join("build");
        write_build(&build, &self.program, title, behaviour)?;
        let begun = Instant::now();
        let output = self.cli(&["release", "web", &build.to_string_lossy(), "--json"])?;
        self.step(title, begun, &output, exit, outcome);
        Ok(())
    }

    fn rollback(&mut self) -> io::Result<Duration> {
        let begun = Instant::now();
        let output = self.cli(&["rollback", "web", "--json"])?;
        let took = begun.elapsed();
        self.step("rollback to the standby", begun, &output, 0, "rolled_back");
        Ok(took)
    }

    fn kill_supervisor(&mut self, load: &Load) -> io::Result<()> {
        let begun = Instant::now();
        let keeper = i32::try_from(self.keeper.id()).unwrap_or(0);
        let is_supervisor = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split('\0').nth(1) == Some(crate::supervisor::VERB))
        };
        let found = proc::tree(keeper).into_iter().find(is_supervisor);
        let pid = found.ok_or_else(|| io::Error::other("there is no supervisor"))?;
        proc::signal(pid, proc::start_ticks(pid)?, libc::SIGKILL)?;
        let served = load.wait_for(200);
        self.wait_until_up()?;
        self.all_well &= served;
        let ms = begun.elapsed().as_millis();
        let word = if served { "ok" } else { "FAILED" };
        out::say(format!(
            "{word:<7} kill -9 of the supervisor: the service kept serving, new supervisor after {ms} ms"
        ));
        Ok(())
    }

    fn step(&mut self, title: &str, begun: Instant, output: &Output, exit: i32, outcome: &str) {
        let stdout = String::from_utf8_lossy(&output.stdout);
        let events: Vec<Value> =
            stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let result = events.last().cloned().unwrap_or(Value::Null);
        for event in &events {
            let detail = event["detail"].as_str().unwrap_or_default();
            let us: Option<u64> = detail
                .split_once("steered in ")
                .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
            self.flips_us.extend(us);
        }
        let well = output.status.code() == Some(exit) && result["outcome"] == outcome;
        self.all_well &= well;
        let word = if well { "ok" } else { "FAILED" };
        let why = result["trouble"]["why"].as_str().and_then(|why| why.lines().next());
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        out::say(format!(
            "{word:<7} {title}: {} (exit {}), release {} serves, {} ms{why}",
            result["outcome"].as_str().unwrap_or("no result"),
            output.status.code().unwrap_or(-1),
            result["serving"],
            begun.elapsed().as_millis()
        ));
        if !well {
            out::say(stdout);
            out::say(String::from_utf8_lossy(&output.stderr));
        }
    }

    fn table(&mut self, ledger: &Ledger, rollback: Duration) {
        self.flips_us.sort_unstable();
        let flip = self.flips_us.get(self.flips_us.len() / 2).copied().unwrap_or(0);
        let slowest = Duration::from_micros(ledger.latency_us(1000).into());
        let by_release: Vec<String> =
            ledger.by_release().iter().map(|(release, n)| format!("{release}: {n}")).collect();
        out::result(format!("requests          {}", ledger.n_requests()));
        out::result(format!("failures          {} ({})", ledger.n_lost(), ledger.losses()));
        out::result(format!("slowest request   {}", text::latency(slowest)));
        out::result(format!("flip              {flip} us (median of {})", self.flips_us.len()));
        out::result(format!(
            "rollback          {}, as the client sees it",
            text::latency(rollback)
        ));
        out::result(format!("answered by       {}", by_release.join(", ")));
    }
}

fn config(address: SocketAddr) -> String {
    format!(
        r#"root = "root"
[service.web]
listen = ["tcp://{address}"]
[service.web.health]
http = "/healthz"
interval = "50ms"
timeout = "1s"
rise = 2
fall = 2
min_healthy = "100ms"
deadline = "1500ms"
[service.web.bake]
for = "1500ms"
[service.web.stop]
linger = "300ms"
timeout = "10s"
"#
    )
}

/// A build as CI would bring it: here its command is this very binary.
fn write_build(dir: &Path, program: &Path, title: &str, behaviour: &[&str]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut command = vec![program.to_string_lossy().into_owned(), service::VERB.to_owned()];
    command.extend(behaviour.iter().map(|word| (*word).to_owned()));
    let command: Vec<String> = command.iter().map(|word| format!("{word:?}")).collect();
    // Another content is another artifact: what was rolled back is frozen.
    fs::write(dir.join("VERSION"), title)?;
    fs::write(dir.join("release.toml"), format!("command = [{}]\n", command.join(", ")))
}
