//! A real proxy of a test's own: its configuration in a directory, free loopback ports, two tiny
//! backends, and nothing left behind.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use halley_sup::config::proxy::caddy::Caddy;
use halley_sup::config::proxy::haproxy::HaProxy;
use halley_sup::config::proxy::nginx::Nginx;
use halley_sup::config::proxy::{Admin, Proxy};
use halley_sup::demo::load::{Load, Shape};
use halley_sup::supervisor::proxy::driver::Work;
use halley_sup::supervisor::proxy::{self, EntryError, Host, Upstream};
use rustix::process::{Pid, Signal, kill_process};

/// How long a condition may take to come true.
const BUDGET: Duration = Duration::from_secs(20);

/// A proxy that runs, and the backends behind it: the first answers 1, the second 2.
pub struct World {
    pub dir: tempfile::TempDir,
    pub address: SocketAddr,
    pub proxy: Proxy,
    pub backends: [SocketAddr; 2],
    child: Option<Child>,
}

impl World {
    /// A directory, ports and backends; nothing runs yet.
    fn empty(proxy: Proxy) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let backends = [1, 2].map(serve_tcp);
        Self { dir, address: free_address(), proxy, backends, child: None }
    }

    /// Caddy with its API on TCP.
    pub fn caddy() -> Self {
        let admin = free_address();
        Self::caddy_at(Admin::Tcp(admin), &admin.to_string())
    }

    /// Caddy with its API on a unix socket.
    pub fn caddy_on_a_socket() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let mut world =
            Self::caddy_at(Admin::Unix(path.clone()), &format!("unix/{}", path.display()));
        // The socket's directory lives as long as the world's.
        fs::write(world.path("sockets"), dir.keep().display().to_string()).unwrap();
        world.wait_for(1);
        world
    }

    fn caddy_at(admin: Admin, listen: &str) -> Self {
        let mut world = Self::empty(Proxy::Caddy(Caddy { admin, id: "web".to_owned() }));
        let config = serde_json::json!({
            "admin": { "listen": listen, "config": { "persist": false } },
            "logging": { "logs": { "default": { "level": "ERROR" } } },
            "apps": { "http": { "servers": { "s": {
                "listen": [world.address.to_string()],
                "automatic_https": { "disable": true },
                "routes": [
                    { "match": [{ "path": ["/static"] }],
                      "handle": [{ "@id": "static", "handler": "static_response" }] },
                    { "handle": [{ "@id": "web", "handler": "reverse_proxy",
                                   "upstreams": [{ "dial": world.backends[0].to_string() }] }] }
                ],
            } } } },
        });
        fs::write(world.path("caddy.json"), config.to_string()).unwrap();
        let config = world.path("caddy.json");
        world.start("caddy", &["run", "--config", &config.display().to_string()]);
        world
    }

    /// HAProxy with these servers in backend `web` (`{a}` is the first backend's address), its API
    /// on a unix socket.
    pub fn haproxy(servers: &str) -> Self {
        let sockets = tempfile::tempdir().unwrap().keep();
        let admin = Admin::Unix(sockets.join("admin.sock"));
        let proxy =
            Proxy::HaProxy(HaProxy { admin, backend: "web".to_owned(), server: "app".to_owned() });
        let mut world = Self::empty(proxy);
        fs::write(world.path("sockets"), sockets.display().to_string()).unwrap();
        let servers = servers.replace("{a}", &world.backends[0].to_string());
        let config = format!(
            "global\n  stats socket {0}/admin.sock level admin\n  \
             stats socket {0}/operator.sock level operator\n\
             defaults\n  mode http\n  timeout connect 2s\n  timeout client 20s\n  \
             timeout server 20s\n\
             frontend f\n  bind {1}\n  default_backend web\n\
             backend web\n{servers}\n",
            sockets.display(),
            world.address
        );
        fs::write(world.path("haproxy.cfg"), config).unwrap();
        let config = world.path("haproxy.cfg").display().to_string();
        world.start("haproxy", &["-db", "-f", &config]);
        world
    }

    /// nginx with an include file.
    pub fn nginx() -> Self {
        let empty =
            Proxy::Nginx(Nginx { file: PathBuf::new(), test: Vec::new(), reload: Vec::new() });
        let mut world = Self::empty(empty);
        let dir = world.dir.path().display().to_string();
        let temps: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("  {kind}_temp_path {dir}/{kind};\n"))
            .concat();
        let config = format!(
            "daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n{temps}  access_log off;\n  upstream web {{ include {dir}/web.conf; }}\n  \
             server {{ listen {}; location / {{ proxy_pass http://web; }} }}\n}}\n",
            world.address
        );
        fs::write(world.path("nginx.conf"), config).unwrap();
        fs::write(world.path("web.conf"), format!("server {};\n", world.backends[0])).unwrap();
        let config = world.path("nginx.conf").display().to_string();
        let program = program("nginx").display().to_string();
        let command = |more: &[&str]| {
            let words = [&[program.as_str(), "-p", &dir, "-c", &config], more].concat();
            words.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        world.proxy = Proxy::Nginx(Nginx {
            file: world.path("web.conf"),
            test: command(&["-t"]),
            reload: command(&["-s", "reload"]),
        });
        world.start("nginx", &["-p", &dir, "-c", &config]);
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&mut self, name: &str, args: &[&str]) {
        let log = fs::File::create(self.path("output")).unwrap();
        let child = Command::new(program(name))
            .args(args)
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
        self.wait_for(1);
    }

    /// Waits until requests are answered by this backend.
    #[track_caller]
    pub fn wait_for(&mut self, number: u64) {
        let begun = Instant::now();
        let mut answer = None;
        while answer != Some(number) {
            let output = fs::read_to_string(self.path("output")).unwrap_or_default();
            assert!(begun.elapsed() < BUDGET, "answered by {answer:?}, not {number}:\n{output}");
            let child = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(child.is_none(), "the proxy ended:\n{output}");
            answer = ask(self.address);
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// The backends as upstreams, by their numbers.
    pub fn upstreams(&self, numbers: &[usize]) -> Vec<Upstream> {
        numbers.iter().map(|number| Upstream::Tcp(self.backends[number - 1])).collect()
    }

    pub fn check(&self, n_upstreams: usize) -> Result<String, String> {
        check(&self.proxy, n_upstreams)
    }

    pub fn flip(&self, numbers: &[usize]) -> Result<(), String> {
        flip(&self.proxy, &self.upstreams(numbers))
    }

    /// Flips to and fro under load, and says what was lost.
    pub fn flip_under_load(&mut self, shape: Shape, n_flips: usize) -> (u64, String) {
        let load = Load::start(self.address, shape, 4);
        for n in 0..n_flips {
            assert!(load.wait_for(10), "the load stands still");
            self.flip(&[2 - n % 2]).unwrap();
        }
        self.wait_for(if n_flips.is_multiple_of(2) { 1 } else { 2 });
        let ledger = load.stop();
        assert!(ledger.by_release().contains_key(&2), "nothing was answered by the second");
        let n = ledger.n_requests();
        eprintln!("{shape:?}, {n_flips} flips: {n} requests, lost: {}", ledger.losses());
        (ledger.n_lost(), ledger.losses())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // nginx's workers go with it when it is asked to, and not when it is killed.
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            pid.map(|pid| kill_process(pid, Signal::TERM).ok());
            child.wait().ok();
        }
        if let Ok(sockets) = fs::read_to_string(self.path("sockets")) {
            fs::remove_dir_all(sockets).ok();
        }
    }
}

/// [`proxy::check`] on the supervisor's kind of runtime.
pub fn check(proxy: &Proxy, n_upstreams: usize) -> Result<String, String> {
    run(proxy::check(proxy, n_upstreams, &Here)).map_err(|error| error.to_string())
}

/// [`proxy::flip`] on the supervisor's kind of runtime.
pub fn flip(proxy: &Proxy, upstreams: &[Upstream]) -> Result<(), String> {
    run(proxy::flip(proxy, upstreams, &Here)).map_err(|error| error.to_string())
}

/// Runs a proxy's commands as children of the test: no keeper runs here.
struct Here;

impl Host for Here {
    fn run<'a>(&'a self, words: &'a [String], env: &'a [(&'a str, String)]) -> Work<'a, ()> {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(env.iter().map(|(name, value)| (name, value)));
        let failure = match command.output() {
            Ok(output) if output.status.success() => None,
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                Some(format!("exit {}: {said}", output.status.code().unwrap_or(-1)))
            }
            Err(error) => Some(error.to_string()),
        };
        let failure = failure.map(|why| format!("{}: {why}", words.join(" ")));
        Box::pin(async move { failure.map_or(Ok(()), |text| Err(EntryError::Command(text))) })
    }
}

fn run<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, what)
}

fn program(name: &str) -> PathBuf {
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is missing; scripts/test-needs.sh installs it"))
}

/// A port that is free: found by binding, given back at once.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A backend on a unix socket.
pub fn serve_unix(path: &Path, number: u64) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let other = stream.try_clone().unwrap();
            std::thread::spawn(move || answer(BufReader::new(other), stream, number));
        }
    });
}

fn serve_tcp(number: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_nodelay(true).ok();
            let other = stream.try_clone().unwrap();
            std::thread::spawn(move || answer(BufReader::new(other), stream, number));
        }
    });
    address
}

/// Answers every request of a connection.
fn answer(mut reader: impl BufRead, mut writer: impl Write, number: u64) {
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
        let head = line.trim_end().to_ascii_lowercase();
        line.clear();
        if let Some(value) = head.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if head.is_empty() {
            let mut body = vec![0; std::mem::take(&mut length)];
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nrelease {number}\n");
            if reader.read_exact(&mut body).is_err() || writer.write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// Who answers a request.
pub fn ask(address: SocketAddr) -> Option<u64> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(BUDGET)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split_once("release ")?.1.trim().parse().ok()
}
