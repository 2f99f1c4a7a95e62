//! A PostgreSQL server of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::template;
use crate::world::{free_address, kill, postgres_programs};

pub const PASSWORD: &str = "s3cr@t";
pub const ENCODED: &str = "s3cr%40t";

/// How each server is made, and run: small, and with no work of its own.
const INIT: [&str; 4] = ["-U", "postgres", "-N", "--wal-segsize=1"];
const SETTINGS: [&str; 5] = [
    "fsync=off",
    "autovacuum=off",
    "shared_buffers=16MB",
    "max_prepared_transactions=4",
    "wal_level=logical",
];
const LOOPBACK: [&str; 4] = ["-h", "127.0.0.1", "-k", ""];

/// A key, and a certificate of localhost that it signs itself.
pub fn certify(key: &str, cert: &str) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-nodes", "-subj", "/CN=localhost", "-keyout", key, "-out", cert])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A server that ends with the test.
pub struct Server {
    child: Child,
    pub port: u16,
    home: Option<tempfile::TempDir>,
    _dir: tempfile::TempDir,
}

impl Server {
    /// One with logins that cost little: each request of the program is one.
    pub fn start() -> Self {
        Self::start_with("md5", &LOOPBACK)
    }

    /// One that is found by every address of this host, at a path, and by TLS.
    pub fn start_everywhere() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(dir.path(), open).unwrap();
        let [key, cert] = ["key", "cert"].map(|name| dir.path().join(name).display().to_string());
        certify(&key, &cert);
        let user = halley_sup::os::proc::user("postgres").unwrap();
        std::os::unix::fs::chown(&key, Some(user.uid), Some(user.gid)).unwrap();
        let secret = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&key, secret).unwrap();
        let [key, cert] = [format!("ssl_key_file={key}"), format!("ssl_cert_file={cert}")];
        let home = dir.path().to_string_lossy().into_owned();
        let args = ["-h", "*", "-k", &home, "-c", "ssl=on", "-c", &key, "-c", &cert];
        let mut server = Self::start_with("scram-sha-256", &args);
        server.home = Some(dir);
        server
    }

    /// The directory with its socket.
    pub fn home(&self) -> String {
        self.home.as_ref().unwrap().path().to_string_lossy().into_owned()
    }

    fn start_with(login: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(dir.path(), open).unwrap();
        let data = dir.path().join("data");
        let role = format!("CREATE ROLE web LOGIN CREATEDB PASSWORD '{PASSWORD}'");
        let database = "CREATE DATABASE app OWNER web";
        let make = |data: &Path| {
            Self::init(login, data);
            let server = Self::serve(tempfile::tempdir().unwrap(), data, &LOOPBACK);
            server.sql(&role).unwrap();
            server.sql(database).unwrap();
        };
        let depends_on = [&[login, &role, database], &INIT[..]].concat();
        template::copy(&Self::program("postgres"), &depends_on, make, &data);
        Self::serve(dir, &data, args)
    }

    fn init(login: &str, data: &Path) {
        fs::create_dir(data).unwrap();
        let secret = data.with_extension("secret");
        fs::write(&secret, "super").unwrap();
        let user = halley_sup::os::proc::user("postgres").unwrap();
        std::os::unix::fs::chown(data, Some(user.uid), Some(user.gid)).unwrap();
        let made = Self::as_postgres("initdb")
            .args(INIT)
            .args(["-A", login])
            .arg(format!("--pwfile={}", secret.display()))
            .arg("-D")
            .arg(data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn serve(dir: tempfile::TempDir, data: &Path, args: &[&str]) -> Self {
        let port = free_address().port();
        let child = Self::as_postgres("postgres")
            .arg("-D")
            .arg(data)
            .args(args)
            .args(["-p", &port.to_string()])
            .args(SETTINGS.iter().flat_map(|setting| ["-c", *setting]))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port, _dir: dir, home: None };
        let begun = std::time::Instant::now();
        while server.sql("SELECT 1").is_err() {
            assert!(begun.elapsed().as_secs() < 60, "the server never came up");
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        server
    }

    /// A program of the newest version itself.
    pub fn program(name: &str) -> PathBuf {
        postgres_programs().expect("postgresql is installed").join(name)
    }

    fn as_postgres(program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        command.arg(Self::program(program)).current_dir("/");
        command
    }

    /// What a query says, as the server's own user.
    pub fn sql(&self, query: &str) -> Result<String, String> {
        self.sql_in("postgres", query)
    }

    /// The same in another database.
    pub fn sql_in(&self, database: &str, query: &str) -> Result<String, String> {
        let said = Command::new(Self::program("psql"))
            .args(["-X", "-A", "-t", "-h", "127.0.0.1", "-U", "postgres", "-d", database])
            .args(["-p", &self.port.to_string(), "-c", query])
            .env("PGPASSWORD", "super")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if said.status.success() { Ok(text(&said.stdout)) } else { Err(text(&said.stderr)) }
    }

    pub fn databases(&self) -> String {
        self.sql("SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database").unwrap()
    }

    pub fn oid(&self, database: &str) -> String {
        self.sql(&format!("SELECT oid FROM pg_database WHERE datname = '{database}'")).unwrap()
    }

    /// Everything in the live database, as text.
    pub fn dump(&self) -> String {
        let said = Command::new(Self::program("pg_dump"))
            .args(["-h", "127.0.0.1", "-U", "postgres", "-d", "app", "-p", &self.port.to_string()])
            .env("PGPASSWORD", "super")
            .output()
            .unwrap();
        // Newer ones begin and end with a word of chance.
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        text.lines().filter(|line| !line.contains("restrict")).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        kill(i32::try_from(self.child.id()).unwrap(), libc::SIGINT);
        drop(self.child.wait());
    }
}
