//! `[service.NAME.proxy]`: the outside reverse proxy that is a service's entry point.

pub mod caddy;
pub mod command;
mod fields;
pub mod haproxy;
pub mod nginx;

use super::kinds::{self, Keys, Kind, kinds};
use super::raw::Section;

pub use self::fields::Admin;

/// The kinds of proxies, one line each.
macro_rules! proxies {
    ($then:ident!($($with:tt)*)) => {
        $then! {
            ($($with)*)
            /// Caddy's admin API.
            Caddy(settings: caddy::Caddy) = caddy,
            /// HAProxy's runtime API.
            HaProxy(settings: haproxy::HaProxy) = haproxy,
            /// nginx: an include file.
            Nginx(settings: nginx::Nginx) = nginx,
            /// Any other, by command.
            Command(settings: command::Command) = command,
        }
    };
}
pub(crate) use proxies;

proxies!(kinds!(
    /// An outside reverse proxy that is the stable entry point.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Proxy {}
));

const ALL: &Keys = &Keys::new().and(&["kind"]).and_of(Proxy::KINDS);
/// The keys of the section.
pub(super) const KEYS: &[&str] = ALL.list();

/// Reads the section; none when something in it is wrong, which has been reported by then.
pub(super) fn read(section: &Section<'_>) -> Option<Proxy> {
    if !section.has("kind") {
        let names: Vec<_> = Proxy::KINDS.iter().map(|row| format!("{:?}", row.kind.name)).collect();
        let hint = format!("write kind = {}", kinds::one_of(&names));
        section.problem_with_hint("kind", "is not given", hint);
    }
    let row = kinds::named(section, "kind", Proxy::KINDS)?;
    refuse_keys_of_others(section, &row.kind);
    (row.read)(section)
}

fn refuse_keys_of_others(section: &Section<'_>, kind: &Kind) {
    let is_other = |key: &&str| *key != "kind" && !kind.keys.contains(key) && section.has(key);
    for key in KEYS.iter().copied().filter(is_other) {
        let of = Proxy::KINDS.iter().filter(|other| other.kind.keys.contains(&key));
        let of: Vec<_> = of.map(|other| other.kind.name).collect();
        let message = format!("is a key of {}, and kind is {}", of.join(" and "), kind.name);
        let keys = kind.keys.join(", ");
        section.problem_with_hint(key, message, format!("{} has {keys}", kind.name));
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

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
                Proxy::Caddy(caddy::Caddy { admin: tcp("127.0.0.1:2019"), id: "web".to_owned() }),
            ),
            (
                "kind = \"caddy\"\nadmin = \"unix:/run/x.sock\"\nid = \"web\"",
                Proxy::Caddy(caddy::Caddy { admin: unix(), id: "web".to_owned() }),
            ),
            (
                "kind = \"haproxy\"\nadmin = \"tcp://[::1]:9\"\nbackend = \"web\"\nserver = \"app\"",
                Proxy::HaProxy(haproxy::HaProxy { admin: tcp("[::1]:9"), backend, server }),
            ),
            (
                "kind = \"nginx\"\nfile = \"/a/b.conf\"",
                Proxy::Nginx(nginx::Nginx {
                    file: PathBuf::from("/a/b.conf"),
                    test: words(&["nginx", "-t"]),
                    reload: words(&["nginx", "-s", "reload"]),
                }),
            ),
            (
                "kind = \"nginx\"\nfile = \"/a/b.conf\"\ntest = [\"t\"]\nreload = [\"r\", \"x\"]",
                Proxy::Nginx(nginx::Nginx {
                    file: PathBuf::from("/a/b.conf"),
                    test: words(&["t"]),
                    reload: words(&["r", "x"]),
                }),
            ),
            (
                "kind = \"command\"\nflip = [\"f\", \"{upstreams}\"]",
                Proxy::Command(command::Command {
                    flip: words(&["f", "{upstreams}"]),
                    check: None,
                }),
            ),
            (
                "kind = \"command\"\nflip = [\"f\"]\ncheck = [\"c\"]",
                Proxy::Command(command::Command {
                    flip: words(&["f"]),
                    check: Some(words(&["c"])),
                }),
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
            "t.toml:1: p.admin: is missing: caddy needs it; write admin = \"http://127.0.0.1:2019\"",
            "t.toml:1: p.id: is missing: caddy needs it; write id = \"web\"",
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
                "3: p.admin: \"http://localhost:2019\" is not an admin address; \
                 write http://127.0.0.1:PORT or unix:/PATH (an IP address, no name)",
            ),
            (
                "id = \"a\"\nkind = \"caddy\"\nadmin = \"tcp://127.0.0.1:2019\"",
                "3: p.admin: \"tcp://127.0.0.1:2019\" is not an admin address; write http://",
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
                "1: p.server: is missing: haproxy needs it; write server = \"web\"",
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
