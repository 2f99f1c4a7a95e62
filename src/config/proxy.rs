//! `[service.NAME.proxy]`: the outside reverse proxy that is a service's entry point.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::model::{Admin, Proxy};
use super::raw::Section;

/// The keys of the section.
pub(super) const KEYS: &[&str] =
    &["kind", "admin", "id", "backend", "server", "file", "test", "reload", "flip", "check"];

/// Longest path of a unix socket: `sun_path` has 108 bytes and ends with a NUL (unix(7)).
const SOCKET_BYTES_MAX: usize = 107;

/// What stands in for a proxy in `kind`.
#[derive(Clone, Copy)]
enum Kind {
    Caddy,
    HaProxy,
    Nginx,
    Command,
}

const KINDS: [(&str, Kind); 4] = [
    ("caddy", Kind::Caddy),
    ("haproxy", Kind::HaProxy),
    ("nginx", Kind::Nginx),
    ("command", Kind::Command),
];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Caddy => "caddy",
            Self::HaProxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Command => "command",
        }
    }

    /// The keys beside `kind`: those it needs, and those it may have.
    fn keys(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Caddy => (&["admin", "id"], &[]),
            Self::HaProxy => (&["admin", "backend", "server"], &[]),
            Self::Nginx => (&["file"], &["test", "reload"]),
            Self::Command => (&["flip"], &["check"]),
        }
    }

    /// How `admin` is written for it.
    fn scheme(self) -> &'static str {
        if matches!(self, Self::Caddy) { "http://" } else { "tcp://" }
    }
}

/// Reads the section; none when something in it is wrong, which has been reported by then.
pub(super) fn read(section: &Section<'_>) -> Option<Proxy> {
    if !section.has("kind") {
        let hint = "write kind = \"caddy\", \"haproxy\", \"nginx\" or \"command\"";
        section.problem_with_hint("kind", "is not given", hint);
    }
    let kind = section.word("kind", &KINDS)?;
    refuse_keys_of_others(section, kind);
    require(section, kind);
    match kind {
        Kind::Caddy => {
            let (admin, id) = (admin(section, kind), name(section, "id"));
            Some(Proxy::Caddy { admin: admin?, id: id? })
        }
        Kind::HaProxy => {
            let admin = admin(section, kind);
            let (backend, server) = (name(section, "backend"), name(section, "server"));
            Some(Proxy::HaProxy { admin: admin?, backend: backend?, server: server? })
        }
        Kind::Nginx => {
            let file = file(section);
            let test = command_or(section, "test", &["nginx", "-t"]);
            let reload = command_or(section, "reload", &["nginx", "-s", "reload"]);
            Some(Proxy::Nginx { file: file?, test: test?, reload: reload? })
        }
        Kind::Command => {
            let (flip, check) = (section.command("flip"), section.command("check"));
            if section.has("check") && check.is_none() {
                return None;
            }
            Some(Proxy::Command { flip: flip?, check })
        }
    }
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

fn refuse_keys_of_others(section: &Section<'_>, kind: Kind) {
    let (needed, allowed) = kind.keys();
    let is_other = |key: &&str| {
        *key != "kind" && !needed.contains(key) && !allowed.contains(key) && section.has(key)
    };
    for key in KEYS.iter().copied().filter(is_other) {
        let of = KINDS.iter().filter(|(_, other)| {
            let (needed, allowed) = other.keys();
            needed.contains(&key) || allowed.contains(&key)
        });
        let of: Vec<_> = of.map(|(name, _)| *name).collect();
        let message = format!("is a key of {}, and kind is {}", of.join(" and "), kind.name());
        let keys = [needed, allowed].concat().join(", ");
        section.problem_with_hint(key, message, format!("{} has {keys}", kind.name()));
    }
}

fn require(section: &Section<'_>, kind: Kind) {
    for key in kind.keys().0.iter().filter(|key| !section.has(key)) {
        let example = match *key {
            "admin" if matches!(kind, Kind::Caddy) => "\"http://127.0.0.1:2019\"",
            "admin" => "\"unix:/run/haproxy/admin.sock\"",
            "file" => "\"/etc/nginx/halley/web.conf\"",
            "flip" => "[\"/usr/local/bin/flip\", \"{upstreams}\"]",
            _ => "\"web\"",
        };
        let message = format!("{} needs it", kind.name());
        section.problem_with_hint(key, message, format!("write {key} = {example}"));
    }
}

fn admin(section: &Section<'_>, kind: Kind) -> Option<Admin> {
    let text = section.text("admin")?.value;
    if let Some(path) = text.strip_prefix("unix:") {
        return socket(section, path).map(Admin::Unix);
    }
    let scheme = kind.scheme();
    let place = text.strip_prefix(scheme).map(|place| place.strip_suffix('/').unwrap_or(place));
    let address = place.and_then(|place| place.parse::<SocketAddr>().ok());
    let address = address.filter(|address| address.port() != 0);
    if address.is_none() {
        let hint = format!("write {scheme}127.0.0.1:PORT or unix:/PATH (an IP address, no name)");
        section.problem_with_hint("admin", format!("{text:?} is not where one listens"), hint);
    }
    address.map(Admin::Tcp)
}

fn socket(section: &Section<'_>, path: &str) -> Option<PathBuf> {
    if !path.starts_with('/') {
        let message = format!("{path:?} is not an absolute path");
        section.problem_with_hint("admin", message, "write unix:/run/x.sock");
        return None;
    }
    if path.len() > SOCKET_BYTES_MAX {
        let message = format!("{path} has {} bytes; a socket's path has at most 107", path.len());
        section.problem_with_hint("admin", message, "name a shorter one");
        return None;
    }
    Some(PathBuf::from(path))
}

/// A name that goes into a command or a path of the API as it is.
fn name(section: &Section<'_>, key: &str) -> Option<String> {
    let text = section.text(key)?.value;
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_good) {
        let hint = "only letters, digits and - _ . : may be in it";
        section.problem_with_hint(key, format!("{text:?} is not a name"), hint);
        return None;
    }
    Some(text)
}

fn file(section: &Section<'_>) -> Option<PathBuf> {
    let text = section.text("file")?.value;
    let path = PathBuf::from(&text);
    if !path.is_absolute() || path.file_name().is_none() {
        let hint = "write \"/etc/nginx/halley/web.conf\"";
        section.problem_with_hint("file", format!("{text:?} is not an absolute path"), hint);
        return None;
    }
    Some(path)
}

fn command_or(section: &Section<'_>, key: &str, default: &[&str]) -> Option<Vec<String>> {
    if section.has(key) {
        return section.command(key);
    }
    Some(default.iter().map(|word| (*word).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use toml::de::DeTable;

    use super::*;
    use crate::config::problem::Report;

    fn check(text: &str) -> (Option<Proxy>, Vec<String>) {
        let table = DeTable::parse(text).unwrap();
        let report = Report::new(Path::new("t.toml"), text);
        let section = Section::of("p", &(0..0), table.get_ref(), KEYS, &report);
        let proxy = read(&section);
        (proxy, report.into_problems().iter().map(ToString::to_string).collect())
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn each_kind_is_read() {
        let tcp = |text: &str| Admin::Tcp(text.parse().unwrap());
        let unix = || Admin::Unix(PathBuf::from("/run/x.sock"));
        let (backend, server) = ("web".to_owned(), "app".to_owned());
        for (text, expected) in [
            (
                "kind = \"caddy\"\nadmin = \"http://127.0.0.1:2019/\"\nid = \"web\"",
                Proxy::Caddy { admin: tcp("127.0.0.1:2019"), id: "web".to_owned() },
            ),
            (
                "kind = \"caddy\"\nadmin = \"unix:/run/x.sock\"\nid = \"web\"",
                Proxy::Caddy { admin: unix(), id: "web".to_owned() },
            ),
            (
                "kind = \"haproxy\"\nadmin = \"tcp://[::1]:9\"\nbackend = \"web\"\nserver = \"app\"",
                Proxy::HaProxy { admin: tcp("[::1]:9"), backend, server },
            ),
            (
                "kind = \"nginx\"\nfile = \"/a/b.conf\"",
                Proxy::Nginx {
                    file: PathBuf::from("/a/b.conf"),
                    test: words(&["nginx", "-t"]),
                    reload: words(&["nginx", "-s", "reload"]),
                },
            ),
            (
                "kind = \"nginx\"\nfile = \"/a/b.conf\"\ntest = [\"t\"]\nreload = [\"r\", \"x\"]",
                Proxy::Nginx {
                    file: PathBuf::from("/a/b.conf"),
                    test: words(&["t"]),
                    reload: words(&["r", "x"]),
                },
            ),
            (
                "kind = \"command\"\nflip = [\"f\", \"{upstreams}\"]",
                Proxy::Command { flip: words(&["f", "{upstreams}"]), check: None },
            ),
            (
                "kind = \"command\"\nflip = [\"f\"]\ncheck = [\"c\"]",
                Proxy::Command { flip: words(&["f"]), check: Some(words(&["c"])) },
            ),
        ] {
            let (proxy, problems) = check(text);
            assert_eq!(problems, [""; 0], "{text}");
            assert_eq!(proxy, Some(expected), "{text}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let (proxy, problems) = check("kind = \"caddy\"\nfile = \"/a\"\nserver = \"x\"\nmode = 1");
        assert_eq!(proxy, None);
        let expected = [
            "t.toml:1: p.admin: caddy needs it; write admin = \"http://127.0.0.1:2019\"",
            "t.toml:1: p.id: caddy needs it; write id = \"web\"",
            "t.toml:2: p.file: is a key of nginx, and kind is caddy; caddy has admin, id",
            "t.toml:3: p.server: is a key of haproxy, and kind is caddy; caddy has admin, id",
            "t.toml:4: p.mode: unknown key; known here: ",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.starts_with(expected), "{problem}");
        }
    }

    #[test]
    fn each_bad_value_is_answered() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (text, problem) in [
            ("", "1: p.kind: is not given; write kind = \"caddy\""),
            ("kind = \"traefik\"", "1: p.kind: \"traefik\" is not one of caddy, haproxy, nginx"),
            (
                "id = \"a\"\nkind = \"caddy\"\nadmin = \"http://localhost:2019\"",
                "3: p.admin: \"http://localhost:2019\" is not where one listens; \
                 write http://127.0.0.1:PORT or unix:/PATH (an IP address, no name)",
            ),
            (
                "id = \"a\"\nkind = \"caddy\"\nadmin = \"tcp://127.0.0.1:2019\"",
                "3: p.admin: \"tcp://127.0.0.1:2019\" is not where one listens; write http://",
            ),
            (
                "id = \"a\"\nkind = \"caddy\"\nadmin = \"unix:x.sock\"",
                "3: p.admin: \"x.sock\" is not an absolute path; write unix:/run/x.sock",
            ),
            (&format!("id = \"a\"\nkind = \"caddy\"\nadmin = \"{long}\""), "3: p.admin: /xxx"),
            (
                "id = \"a/b\"\nkind = \"caddy\"\nadmin = \"unix:/x\"",
                "1: p.id: \"a/b\" is not a name; only letters, digits and - _ . : may be in it",
            ),
            (
                "server = \"a;b\"\nkind = \"haproxy\"\nadmin = \"unix:/x\"\nbackend = \"b\"",
                "1: p.server: \"a;b\" is not a name",
            ),
            (
                "kind = \"haproxy\"\nadmin = \"unix:/x\"\nbackend = \"b\"",
                "1: p.server: haproxy needs it; write server = \"web\"",
            ),
            ("kind = \"nginx\"\nfile = \"a.conf\"", "2: p.file: \"a.conf\" is not an absolute"),
            ("kind = \"nginx\"\nfile = \"/a\"\ntest = []", "3: p.test: names no program"),
            ("kind = \"command\"\nflip = \"x\"", "2: p.flip: it is a text and should be a list"),
            ("kind = \"command\"\nflip = [\"x\"]\ncheck = []", "3: p.check: names no program"),
        ] {
            let (proxy, problems) = check(text);
            assert_eq!((proxy, problems.len()), (None, 1), "{text}: {problems:?}");
            assert!(problems[0].starts_with(&format!("t.toml:{problem}")), "{problems:?}");
        }
    }
}
