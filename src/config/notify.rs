//! `[notify.NAME]`: notification targets and their events.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::problem::Problem;
use super::raw::{Found, Section};
use crate::core::ids::ServiceName;
use crate::core::notice::Notice;

/// The keys of the section.
pub(super) const KEYS: &[&str] =
    &["command", "http", "headers", "header_files", "events", "services", "deadline", "give_up"];
/// A delivery that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(10);
/// A notification that could not be delivered for so long is laid aside.
const GIVE_UP: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Longest name.
const NAME_BYTES_MAX: usize = 63;

/// A notification target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// How notifications are delivered to the target.
    pub way: Way,
    /// Events that are sent to the target.
    pub events: Vec<Notice>,
    /// About which services; all when empty.
    pub services: Vec<ServiceName>,
    /// A delivery that takes longer has failed.
    pub deadline: Duration,
    /// A notification that could not be delivered for so long is laid aside.
    pub give_up: Duration,
}

impl Target {
    /// Whether it wants to hear of this; a set has several services.
    #[must_use]
    pub fn wants(&self, notice: Notice, services: &[&str]) -> bool {
        let about = |name: &ServiceName| services.contains(&name.as_str());
        self.events.contains(&notice)
            && (self.services.is_empty() || self.services.iter().any(about))
    }
}

/// How notifications are delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A command that reads it from its standard input.
    Command(Vec<String>),
    /// A `POST` over plain HTTP.
    Http(Webhook),
}

/// Where a notification is posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// `host:port`, to connect to.
    pub place: String,
    /// As it stands in the URL, for `Host`.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Headers with their values.
    pub headers: BTreeMap<String, String>,
    /// Headers whose values are in files, read at each delivery: secrets.
    pub header_files: BTreeMap<String, PathBuf>,
}

/// A target with the line and the services that are looked up when all files are read.
pub(super) struct Draft {
    pub(super) target: Target,
    services: Vec<Found<ServiceName>>,
}

impl Draft {
    /// Reports services that are not configured.
    pub(super) fn problems(&self, file: &Path, known: &[&ServiceName]) -> Vec<Problem> {
        let unknown = self.services.iter().filter(|found| !known.contains(&&found.value));
        let problem = |found: &Found<ServiceName>| {
            let names = known.iter().map(|name| name.as_str());
            let meant = super::suggest::nearest(found.value.as_str(), names);
            let message = format!("there is no service {}", found.value);
            let hint = meant.map(|meant| format!("did you mean {meant}?"));
            let key = Some(format!("notify.{}.services", self.target.name));
            Problem { line: Some(found.line), key, hint, ..Problem::of_file(file, message) }
        };
        unknown.map(problem).collect()
    }
}

/// Reads every target of the main file; relative paths are taken from `base`.
pub(super) fn read(top: &Section<'_>, base: &Path) -> Vec<Draft> {
    let Some(table) = top.free_section("notify") else { return Vec::new() };
    let mut drafts = Vec::new();
    for name in table.keys() {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
            table.problem(name, "a target's name is 1 to 63 letters, digits, - and _");
        }
        let section = table.section(name, KEYS);
        drafts.extend(section.and_then(|section| target(name, &section, base)));
    }
    drafts
}

fn target(name: &str, section: &Section<'_>, base: &Path) -> Option<Draft> {
    let words = Notice::ALL.map(|notice| (notice.name(), notice));
    let events = section.words("events", &words);
    if events.as_ref().is_some_and(Vec::is_empty) {
        section.problem_with_hint("events", "is empty", "leave it out for the default events");
    }
    let mut services = Vec::new();
    for text in section.texts("services").unwrap_or_default() {
        match text.value.parse::<ServiceName>() {
            Ok(value) => services.push(Found { value, line: text.line }),
            Err(error) => {
                section.report().add(text.line, &section.path("services"), error.to_string());
            }
        }
    }
    let deadline = section.positive_duration("deadline").unwrap_or(DEADLINE);
    let give_up = section.positive_duration("give_up").unwrap_or(GIVE_UP);
    let target = Target {
        name: name.to_owned(),
        way: way(section, base)?,
        events: events.unwrap_or_else(|| Notice::BAD.to_vec()),
        services: services.iter().map(|found| found.value.clone()).collect(),
        deadline,
        give_up,
    };
    Some(Draft { target, services })
}

fn way(section: &Section<'_>, base: &Path) -> Option<Way> {
    match (section.has("command"), section.has("http")) {
        (true, true) => {
            let message = "a target has either command or http, and both are given";
            section.problem_with_hint("http", message, "keep one of command, http");
            None
        }
        (false, false) => {
            let hint = "write command = [\"./notify\"] or http = \"http://HOST:PORT/PATH\"";
            section.problem_with_hint("command", "is missing, and http is missing too", hint);
            None
        }
        (true, false) => {
            for key in ["headers", "header_files"].into_iter().filter(|key| section.has(key)) {
                section.problem(key, "is only for http");
            }
            let mut words = section.command("command")?;
            if words[0].contains('/') {
                words[0] = base.join(&words[0]).to_string_lossy().into_owned();
            }
            Some(Way::Command(words))
        }
        (false, true) => {
            let headers = headers(section, "headers");
            let files = headers_in(section, "header_files");
            let files = files.into_iter().map(|(name, path)| (name, base.join(path))).collect();
            let url = section.text("http")?.value;
            let Some((host, path)) = split(&url) else {
                let (message, hint) = wrong(&url);
                section.problem_with_hint("http", message, hint);
                return None;
            };
            let place = if has_port(host) { host.to_owned() } else { format!("{host}:80") };
            let host = host.to_owned();
            Some(Way::Http(Webhook { place, host, path, headers, header_files: files }))
        }
    }
}

/// Host and path of a plain URL.
fn split(url: &str) -> Option<(&str, String)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let fits = plain(host) && plain(path) && !host.contains(['@', '#', '?']) && !path.contains('#');
    fits.then(|| (host, path.to_owned()))
}

fn has_port(host: &str) -> bool {
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    after.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port != 0))
}

/// What is wrong with a URL. It may hold a secret, so it is not quoted.
fn wrong(url: &str) -> (&'static str, &'static str) {
    if url.starts_with("https://") {
        let hint = "use a command: [\"curl\", \"-fsS\", \"--json\", \"@-\", \"https://…\"]";
        return ("https is not supported", hint);
    }
    ("is not an http URL", "write \"http://HOST:PORT/PATH\"")
}

/// Headers with their values.
fn headers(section: &Section<'_>, key: &str) -> BTreeMap<String, String> {
    let plain = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let (good, bad): (BTreeMap<_, _>, BTreeMap<_, _>) =
        headers_in(section, key).into_iter().partition(|(_, value)| plain(value));
    for name in bad.keys() {
        section.problem(
            key,
            format!("the value of {name} has characters that a header must not have"),
        );
    }
    good
}

fn headers_in(section: &Section<'_>, key: &str) -> BTreeMap<String, String> {
    const OURS: [&str; 4] = ["host", "content-type", "content-length", "connection"];
    let Some(table) = section.free_section(key) else { return BTreeMap::new() };
    let mut headers = BTreeMap::new();
    for name in table.keys() {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || !name.bytes().all(plain) {
            table.problem(name, "is not the name of a header");
        } else if OURS.contains(&name.to_ascii_lowercase().as_str()) {
            table.problem(name, "is set by halley-sup");
        } else if let Some(found) = table.text(name) {
            headers.insert(name.to_owned(), found.value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;
    use crate::config::problem::Report;
    use crate::config::sections;

    fn check(text: &str) -> (Vec<Target>, Vec<String>) {
        let text = format!("[notify.pager]\n{text}");
        let table = DeTable::parse(&text).unwrap();
        let report = Report::new(Path::new("t.toml"), &text);
        let top = Section::of("", &(0..0), table.get_ref(), sections::TOP, &report);
        let drafts = read(&top, Path::new("/base"));
        drop(top);
        let targets = drafts.into_iter().map(|draft| draft.target).collect();
        (targets, report.into_problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn without_more_words_the_bad_ones_of_all_services_are_told() {
        let (targets, problems) = check("command = [\"./notify\"]");
        assert_eq!(problems, [""; 0]);
        let target = &targets[0];
        assert_eq!(target.way, Way::Command(vec!["/base/./notify".to_owned()]));
        assert!(target.wants(Notice::RolledBack, &["web"]));
        assert!(!target.wants(Notice::Committed, &["web"]));
        let (targets, _) = check(
            "command = [\"x\"]\nevents = [\"committed\"]\nservices = [\"web\"]\ngive_up = \"1h\"",
        );
        assert!(targets[0].wants(Notice::Committed, &["api", "web"]));
        assert!(!targets[0].wants(Notice::Committed, &["api"]));
        assert!(!targets[0].wants(Notice::RolledBack, &["web"]));
        assert_eq!(targets[0].give_up.as_secs(), 3600);
    }

    #[test]
    fn a_url_is_taken_apart() {
        for (url, place, host, path) in [
            ("http://a:81/x?y=1", "a:81", "a:81", "/x?y=1"),
            ("http://a", "a:80", "a", "/"),
            ("http://[::1]:9/", "[::1]:9", "[::1]:9", "/"),
            ("http://[::1]/", "[::1]:80", "[::1]", "/"),
        ] {
            let (targets, problems) =
                check(&format!("http = {url:?}\nheader_files.Authorization = \"token\""));
            assert_eq!(problems, [""; 0]);
            let Way::Http(hook) = &targets[0].way else { panic!("{targets:?}") };
            assert_eq!((&*hook.place, &*hook.host, &*hook.path), (place, host, path));
            assert_eq!(hook.header_files["Authorization"], Path::new("/base/token"));
        }
    }

    #[test]
    fn what_is_wrong_is_answered_at_its_line() {
        for (text, problem) in [
            ("", "1: notify.pager.command: is missing, and http is missing too"),
            (
                "command = [\"x\"]\nhttp = \"http://a\"",
                "3: notify.pager.http: a target has either command or http",
            ),
            ("command = [\"x\"]\nheaders.A = \"b\"", "3: notify.pager.headers: is only for http"),
            ("command = []", "2: notify.pager.command: names no program"),
            ("http = \"https://a\"", "2: notify.pager.http: https is not supported; use a command"),
            ("http = \"a:80\"", "2: notify.pager.http: is not an http URL"),
            ("http = \"http://u@a/\"", "2: notify.pager.http: is not an http URL"),
            ("http = \"http://a\"\nheaders.Host = \"x\"", "3: notify.pager.headers.Host: is set"),
            ("http = \"http://a\"\nheaders.A = \"\\n\"", "3: notify.pager.headers: the value of A"),
            ("command = [\"x\"]\nevents = [\"x\"]", "3: notify.pager.events: \"x\" is not one of"),
            ("command = [\"x\"]\nevents = []", "3: notify.pager.events: is empty"),
            ("command = [\"x\"]\nservices = [\"A b\"]", "3: notify.pager.services: a service's"),
            ("command = [\"x\"]\ndeadline = \"0\"", "3: notify.pager.deadline: must be greater"),
            ("comand = [\"x\"]\nhttp = \"http://a\"", "2: notify.pager.comand: unknown key"),
        ] {
            let (_, problems) = check(text);
            let wanted = format!("t.toml:{problem}");
            assert!(problems.iter().any(|told| told.starts_with(&wanted)), "{wanted} {problems:?}");
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        }
    }
}
