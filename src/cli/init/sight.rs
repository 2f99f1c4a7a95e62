//! What kind of program a directory holds, and what is written for it.

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use crate::cli::given::quoted;
use crate::json;
use crate::os::beneath::Dir;

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sight {
    /// For people: what it is taken for.
    pub kind: &'static str,
    command: Vec<String>,
    port: u16,
    /// Whether its program takes sockets by itself (`LISTEN_FDS`).
    inherits: bool,
    env: Vec<(&'static str, String)>,
    writable: Vec<&'static str>,
    links: Vec<&'static str>,
    /// How the directory is made that is released; the directory itself when there is nothing to make.
    build: Option<(String, &'static str)>,
}

impl Sight {
    fn new(kind: &'static str, command: &[&str], port: u16) -> Self {
        Self {
            kind,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            port,
            inherits: false,
            env: Vec::new(),
            writable: Vec::new(),
            links: Vec::new(),
            build: None,
        }
    }

    fn inheriting(self) -> Self {
        Self { inherits: true, ..self }
    }

    /// What is released.
    pub fn source(&self, dir: &Path) -> String {
        let below = self.build.as_ref().map_or("", |(_, below)| below);
        quoted(&dir.join(below).to_string_lossy())
    }

    /// The configuration.
    pub fn text(&self, name: &str) -> String {
        let list = |words: &[&str]| json::to_string(&words).unwrap_or_default();
        let command: Vec<&str> = self.command.iter().map(String::as_str).collect();
        let mut lines = vec![
            format!("# {}. Each key: halley-sup help config", self.kind),
            "# root = \"/var/lib/halley\"           # durable data".to_owned(),
            format!("[service.{name}]"),
            format!("listen  = [\"tcp://127.0.0.1:{}\"]", self.port),
            format!("command = {}", list(&command)),
        ];
        lines.push(match self.inherits {
            true => "# It takes its listening socket from Halley (LISTEN_FDS).".to_owned(),
            false => {
                "handoff = \"intercept\"              # it binds that port by itself".to_owned()
            }
        });
        lines.push("# user  = \"www-data\"               # as root: the user to run as".to_owned());
        if !self.writable.is_empty() {
            lines.push(format!("writable = {}   # a release's own", list(&self.writable)));
        }
        if !self.links.is_empty() {
            lines.push(format!(
                "links    = {}   # kept in shared/ over releases",
                list(&self.links)
            ));
        }
        if let Some((how, below)) = &self.build {
            lines.push(format!("# Release {below}/, which is made so: {how}"));
        }
        if !self.env.is_empty() {
            lines.push(format!("[service.{name}.env]"));
            let pair = |(key, value): &(&str, String)| {
                format!("{key} = {}", json::to_string(value).unwrap_or_default())
            };
            lines.extend(self.env.iter().map(pair));
        }
        lines.extend([
            format!("[service.{name}.health]"),
            "http = \"/\"                         # must answer 200 to 399".to_owned(),
            format!("[service.{name}.bake]"),
            "for = \"30s\"                        # how long a new release is watched".to_owned(),
        ]);
        lines.join("\n") + "\n"
    }
}

/// What a directory holds; the first that fits.
pub(super) fn look(dir: &Path, name: &str) -> Sight {
    let has = |file: &str| dir.join(file).exists();
    if has("manage.py") {
        return django(dir);
    }
    if has("package.json") {
        return node(dir);
    }
    if has("Gemfile") {
        return ruby(dir);
    }
    let binary = format!("./{name}");
    if has("go.mod") {
        let build = Some((format!("go build -o build/{name} ."), "build"));
        return Sight { build, ..Sight::new("a Go program", &[&binary], 8080) };
    }
    if has("Cargo.toml") {
        return rust(dir, name);
    }
    if ["requirements.txt", "pyproject.toml", "app.py", "main.py"].into_iter().any(has) {
        return python(dir);
    }
    let public =
        ["public", "web", "."].into_iter().find(|below| has(&format!("{below}/index.php")));
    if let Some(public) = public {
        let command = ["php", "-S", "127.0.0.1:8000", "-t", public];
        return Sight::new("a PHP program", &command, 8000);
    }
    if has("index.html") {
        let command = ["python3", "-u", "-m", "http.server", "8080"];
        return Sight::new("static files", &command, 8080);
    }
    Sight::new("no kind of program that is known here: write its command", &[&binary], 8080)
}

/// The text of a file; of none, nothing. Whoever owns the directory may not be the one who looks.
fn text(dir: &Path, file: &str) -> String {
    let mut text = String::new();
    let read = Dir::open(dir).and_then(|dir| dir.file(file)?.read_to_string(&mut text));
    read.map_or_else(|_| String::new(), |_| text)
}

fn read(dir: &Path, file: &str) -> String {
    text(dir, file).to_ascii_lowercase()
}

/// The interpreter of the project's own environment, where it has one.
fn python_of(dir: &Path) -> &'static str {
    let own = [("venv", "venv/bin/python3"), (".venv", ".venv/bin/python3")];
    own.iter().find(|(venv, _)| dir.join(venv).is_dir()).map_or("python3", |(_, path)| path)
}

fn django(dir: &Path) -> Sight {
    let names = Dir::open(dir).and_then(|dir| dir.names()).unwrap_or_default();
    let mut projects: Vec<String> = names
        .into_iter()
        .filter(|name| dir.join(name).join("wsgi.py").is_file())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    projects.sort();
    let python = python_of(dir);
    let wants = read(dir, "requirements.txt") + &read(dir, "pyproject.toml");
    let sight = match projects.first().filter(|_| wants.contains("gunicorn")) {
        Some(project) => {
            let module = format!("{project}.wsgi");
            Sight::new("a Django project", &[python, "-m", "gunicorn", &module], 8000).inheriting()
        }
        None => {
            let command = [python, "-u", "manage.py", "runserver", "--noreload", "8000"];
            Sight::new("a Django project", &command, 8000)
        }
    };
    let has_file = dir.join("db.sqlite3").exists();
    Sight { links: if has_file { vec!["db.sqlite3"] } else { Vec::new() }, ..sight }
}

fn python(dir: &Path) -> Sight {
    let wants = read(dir, "requirements.txt") + &read(dir, "pyproject.toml");
    let file = ["main.py", "app.py", "server.py"].into_iter().find(|file| dir.join(file).exists());
    let module = file.unwrap_or("main.py").trim_end_matches(".py");
    let (python, app) = (python_of(dir), format!("{module}:app"));
    if wants.contains("uvicorn") || wants.contains("fastapi") {
        let command = [python, "-m", "uvicorn", &app, "--fd", "3"];
        return Sight::new("a Python program (ASGI)", &command, 8000).inheriting();
    }
    if wants.contains("gunicorn") {
        return Sight::new("a Python program (WSGI)", &[python, "-m", "gunicorn", &app], 8000)
            .inheriting();
    }
    if wants.contains("flask") {
        let command = [python, "-m", "flask", "--app", module, "run", "--port", "5000"];
        return Sight::new("a Flask program", &command, 5000);
    }
    Sight::new("a Python program", &[python, "-u", file.unwrap_or("main.py")], 8000)
}

fn node(dir: &Path) -> Sight {
    let text = text(dir, "package.json");
    let package: Value = json::from_slice(text.as_bytes()).unwrap_or_default();
    let start = &package["scripts"]["start"];
    let sight = match (start.is_string(), package["main"].as_str()) {
        (true, _) => Sight::new("a Node program", &["npm", "start"], 3000),
        (false, main) => Sight::new("a Node program", &["node", main.unwrap_or("index.js")], 3000),
    };
    let env = vec![("NODE_ENV", "production".to_owned()), ("PORT", "3000".to_owned())];
    Sight { env, ..sight }
}

fn ruby(dir: &Path) -> Sight {
    let command = ["bundle", "exec", "puma", "-b", "tcp://127.0.0.1:3000"];
    if dir.join("bin/rails").exists() {
        let env = vec![("RAILS_ENV", "production".to_owned())];
        let (writable, links) = (vec!["tmp", "log"], vec!["storage"]);
        return Sight { env, writable, links, ..Sight::new("a Rails program", &command, 3000) }
            .inheriting();
    }
    Sight::new("a Ruby program", &command, 3000).inheriting()
}

fn rust(dir: &Path, name: &str) -> Sight {
    let text = text(dir, "Cargo.toml");
    let own = text.lines().find_map(|line| line.strip_prefix("name")?.trim().strip_prefix('='));
    let own = own.map_or(name, |own| own.trim().trim_matches('"'));
    let how = format!("cargo build --release && install -D target/release/{own} build/{own}");
    let build = Some((how, "build"));
    Sight { build, ..Sight::new("a Rust program", &[&format!("./{own}")], 8080) }
}
