//! Configuration: what was typed in, checked as a whole, valid by construction.
//!
//! [`load`] reads `halley.toml` and `services.d/*.toml` beside it and gives either a [`Config`] or
//! every problem there is. A file that is half right is never used. This room reads files, the
//! user database and the home directory. It must never start, stop or write anything.

pub mod backup;
pub mod bake;
pub mod connect;
pub mod duration;
pub mod env_file;
pub mod health;
pub mod host;
pub mod kernel;
pub mod listen;
pub mod locate;
pub mod model;
pub mod pattern;
pub mod proxy;
pub mod rate;
pub mod raw;
pub mod rehearse_write;
pub mod release;
mod rights;
pub mod selector;
pub mod size;
pub mod tree;

mod across;
mod check;
mod data;
mod difference;
mod document;
mod files;
mod hooks;
pub(crate) mod kinds;
mod limits;
mod notify;
mod place;
mod problem;
mod sections;
mod settings;
mod suggest;
mod takeover;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::core::kernel::Kernel;
use crate::core::ordered::{self, Ordered as _};

pub use self::difference::difference;
pub use self::files::Files;
pub use self::locate::{given, locate};
pub use self::problem::Problem;
pub use self::sections::KEYS;
pub use self::suggest::nearest;

use self::across::Placed;
use self::check::Draft;
use self::model::{Config, Service};
use self::problem::Report;
use self::raw::Section;

/// Reads and checks a whole configuration, and what it asks of this kernel.
///
/// # Errors
/// Every problem.
pub fn load_for(path: &Path, kernel: Kernel) -> Result<Config, Vec<Problem>> {
    fit(load(path)?, path, kernel)
}

/// The same, from these files, for a stack that is to run: an `env_file` that cannot be used is a matter of
/// its service alone ([`Service::no_env`]).
///
/// # Errors
/// Every problem.
pub fn load_from(path: &Path, kernel: Kernel, files: &Files) -> Result<Config, Vec<Problem>> {
    fit(read(Reading::of(files), path)?, path, kernel)
}

fn fit(config: Config, path: &Path, kernel: Kernel) -> Result<Config, Vec<Problem>> {
    let problems = kernel::problems(&config, path, kernel);
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// Reads and checks a whole configuration.
///
/// # Errors
/// Every problem of every file: file by file, by line, then what is wrong between services.
pub fn load(path: &Path) -> Result<Config, Vec<Problem>> {
    read(Reading { is_strict: true, ..Reading::of(&Files::default()) }, path)
}

/// The control socket that a configuration names, whatever else is wrong with it: the supervisor goes on
/// with the last good one. `None` when the file does not say it for certain.
#[must_use]
pub fn socket(path: &Path) -> Option<PathBuf> {
    let (base, files) = (place::directory_of(path), Files::default());
    let (mut place, mut is_given) = (None, false);
    let mut reading = Reading::of(&files);
    reading.file(path, |top| {
        place = place::read(top, &base);
        is_given = ["root", "socket"].iter().any(|key| top.has(key));
        Vec::new()
    });
    place.filter(|_| is_given || reading.broken.is_empty()).map(|place| place.socket)
}

/// Where a configuration's root may be, whatever is wrong with its file: what it says, also on a line
/// behind one that is broken, and the default.
#[must_use]
pub fn roots(path: &Path) -> Vec<PathBuf> {
    let base = place::directory_of(path);
    let files = Files::default();
    let mut roots = Vec::new();
    let text = files.read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter(|line| line.trim_start().starts_with("root"));
    for part in std::iter::once(&*text).chain(lines).chain([""]) {
        let report = Report::new(path, part);
        let table = document::parse(part, &report);
        let top = Section::free("", &(0..0), table.get_ref(), &report);
        roots.extend(place::read(&top, &base).map(|place| place.root));
    }
    roots
}

fn read(mut reading: Reading<'_>, path: &Path) -> Result<Config, Vec<Problem>> {
    let base = place::directory_of(path);
    let mut places = None;
    let mut targets = Vec::new();
    reading.file(path, |top| {
        places = place::read(top, &base);
        targets = notify::read(top, &base);
        check::services(top, &base)
    });
    for file in reading.more_files(path) {
        reading.file(&file, |top| {
            place::refuse(top);
            check::services(top, &base)
        });
    }
    let Reading { files, services, mut problems, broken, .. } = reading;
    // What a full disk or a power cut leaves of a file that was just edited; not even a comment.
    let is_blank =
        files.texts().get(&*path.to_string_lossy()).is_some_and(|text| text.trim().is_empty());
    if services.is_empty() && is_blank && problems.is_empty() {
        problems.push(Problem::of_file(path, "is empty, and there is no service in services.d"));
    }
    if broken.is_empty() {
        problems.extend(across::problems(&services));
        let known: Vec<_> = services.iter().map(|placed| &placed.draft.service.name).collect();
        problems.extend(targets.iter().flat_map(|draft| draft.problems(path, &known)));
    }
    let (Some(place), true) = (places, problems.is_empty()) else {
        return Err(problems);
    };
    let order = across::order(&services);
    let services = services.into_iter().map(|placed| placed.draft.service);
    let services = services.map(|service| (service.name.clone(), service)).into_map();
    let notify = targets.into_iter().map(|draft| draft.target).collect();
    Ok(Config { root: place.root, socket: place.socket, services, order, notify })
}

/// What works and is probably not meant, one sentence each.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    let somaxconn = fs::read_to_string("/proc/sys/net/core/somaxconn");
    let somaxconn = somaxconn.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(u32::MAX);
    let is_root = nix::unistd::geteuid().is_root();
    let services = config.services.values();
    services.flat_map(|service| service_warnings(service, somaxconn, is_root)).collect()
}

fn service_warnings(service: &Service, somaxconn: u32, is_root: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let name = &service.name;
    if !service.listen.is_empty() && service.backlog > somaxconn {
        warnings.push(format!(
            "service.{name}.backlog: the kernel cuts {} to net.core.somaxconn = {somaxconn}; \
             raise it: sysctl -w net.core.somaxconn={}",
            service.backlog, service.backlog
        ));
    }
    if is_root && service.settings.user.is_none() {
        warnings.push(format!("service.{name}.user: not given, so it runs as root"));
    }
    warnings.extend(rights::warnings(service));
    if service.keep.releases < 2 {
        warnings.push(format!(
            "service.{name}.keep.releases: with 1 there is no release to roll back to"
        ));
    }
    warnings
}

/// What has been read so far.
struct Reading<'a> {
    files: &'a Files,
    /// Whether a problem of one service is one of the whole.
    is_strict: bool,
    services: Vec<Placed>,
    problems: Vec<Problem>,
    /// Files that are not TOML or could not be read: services may be missing from `services`.
    broken: Vec<PathBuf>,
}

impl<'a> Reading<'a> {
    fn of(files: &'a Files) -> Self {
        let (services, problems, broken) = (Vec::new(), Vec::new(), Vec::new());
        Self { files, is_strict: false, services, problems, broken }
    }

    fn file(&mut self, path: &Path, read: impl FnOnce(&Section<'_>) -> Vec<Draft>) {
        let text = match document::read(path, self.files) {
            Ok(text) => text,
            Err(problem) => {
                self.problems.push(problem);
                self.broken.push(path.to_owned());
                return;
            }
        };
        let report = Report::new(path, &text).of_sections(KEYS).beside(self.files);
        let table = document::parse(&text, &report);
        let top = Section::of("", &(0..0), table.get_ref(), sections::TOP, &report);
        let drafts = read(&top);
        let own = drafts.iter().flat_map(|draft| &draft.of_env_file).filter(|_| self.is_strict);
        own.for_each(|problem| report.push(problem.clone()));
        if report.has_syntax_errors() {
            self.broken.push(path.to_owned());
        }
        self.problems.extend(report.into_problems());
        self.services.extend(drafts.into_iter().map(|draft| Placed::new(path, draft)));
    }

    /// `services.d/*.toml` beside the main file, by name.
    fn more_files(&mut self, path: &Path) -> Vec<PathBuf> {
        let folder = path.with_file_name("services.d");
        let mut files = match self.files.list(&folder) {
            Ok(files) => files,
            Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.problems.push(Problem::of_file(&folder, error.to_string()));
                self.broken.push(folder);
                return Vec::new();
            }
        };
        files.retain(|file| is_visible(file) && file.extension().is_some_and(|ext| ext == "toml"));
        ordered::sort(&mut files, |a, b| a < b);
        files
    }
}

/// Editors leave `.web.toml.swp` and the like.
fn is_visible(file: &Path) -> bool {
    file.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_probably_not_meant_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("halley.toml");
        let text = "root = \"s\"\n[service.web]\nlisten = [\"tcp://127.0.0.1:1\"]\n\
                    backlog = 9\nkeep.releases = 1\n";
        fs::write(&file, text).unwrap();
        let config = load(&file).unwrap();
        let service = config.services.values().next().unwrap();
        let root = "service.web.user: not given, so it runs as root";
        for (somaxconn, is_root, n_warnings) in [(9, false, 1), (8, false, 2), (8, true, 3)] {
            let warnings = service_warnings(service, somaxconn, is_root);
            assert_eq!(warnings.len(), n_warnings, "{warnings:?}");
            assert_eq!(warnings.iter().any(|warning| warning == root), is_root);
        }
    }
}
