//! The configuration as a user meets it: files in a folder, and everything that is wrong at once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on must stop")]

use std::fs;
use std::path::{Path, PathBuf};

use halley_sup::config::model::{Check, Config, Listen};
use halley_sup::config::{load, locate};

/// A folder with `halley.toml` and whatever lies beside it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self) -> Result<Config, Vec<String>> {
        let prefix = format!("{}/", self.0.path().display());
        load(&self.path("halley.toml")).map_err(|problems| {
            problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
        })
    }

    fn problems(&self) -> Vec<String> {
        self.load().expect_err("problems")
    }
}

fn problems(text: &str) -> Vec<String> {
    Folder::new(&[("halley.toml", text)]).problems()
}

fn order(text: &str) -> Vec<String> {
    let config = Folder::new(&[("halley.toml", text)]).load().expect("a good file");
    config.order.iter().map(ToString::to_string).collect()
}

#[test]
fn each_recipe_of_the_reference_is_a_good_file() {
    let page =
        halley_sup::docs::TOPICS.iter().find(|topic| topic.name == "recipes").unwrap().text();
    let blocks: Vec<_> = page.split("`halley.toml`:\n\n```toml\n").skip(1).collect();
    assert!(blocks.len() > 15, "{}", blocks.len());
    for block in blocks {
        let file = block.split("```").next().unwrap();
        // Users of packages that are not here.
        let lines: String =
            file.split_inclusive('\n').filter(|line| !line.starts_with("user = ")).collect();
        let config = Folder::new(&[("halley.toml", &lines)]).load();
        assert!(config.is_ok_and(|config| !config.order.is_empty()), "{file}");
    }
}

#[test]
fn a_full_file_means_what_it_says() {
    let main = r#"
root = "state"
socket = "/run/halley.sock"

[service.web]
listen   = ["tcp://127.0.0.1:8080", "tcp://[::1]:8080"]
handoff  = "inherit"
strategy = "overlap"
command  = ["./bin/web", "--fast"]
instances = 2
after    = ["api"]
env      = { RUST_LOG = "info", BOTH = "toml" }
env_file = "web.env"
backlog  = 512
artifact_max = "1GiB"
pin      = ["command"]
[service.web.health]
http = "/healthz"
interval = "500ms"
rest_interval = "off"
[service.web.bake]
for = "0"
inconclusive = "hold"
[service.web.keep]
releases = 3
standby = "1h"
[service.web.stop]
signal = "SIGINT"
"#;
    let api = "[service.api]\nlisten = [\"tcp://127.0.0.1:9000\"]\n";
    let env = "# of the host\nSECRET='a b'\nBOTH=file\n";
    let folder = Folder::new(&[
        ("halley.toml", main),
        ("web.env", env),
        ("services.d/api.toml", api),
        ("services.d/.#api.toml", "not toml"),
        ("services.d/README", "not toml"),
    ]);
    let config = folder.load().expect("a good configuration");
    assert_eq!(config.root, folder.path("state"));
    assert_eq!(config.socket, Path::new("/run/halley.sock"));
    assert_eq!(config.order.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["api", "web"]);
    let web = &config.services[&"web".parse().expect("a name")];
    let addresses = ["127.0.0.1:8080", "[::1]:8080"];
    assert_eq!(web.listen, addresses.map(|text| Listen::Tcp(text.parse().expect("an address"))));
    assert_eq!((web.backlog, web.artifact_bytes_max, web.pinned.len()), (512, 1 << 30, 1));
    assert_eq!((web.keep.releases, web.keep.standby.as_secs()), (3, 3600));
    let settings = &web.settings;
    assert_eq!(settings.command, ["./bin/web", "--fast"]);
    let env: Vec<_> = settings.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(env, [("BOTH", "toml"), ("RUST_LOG", "info"), ("SECRET", "a b")]);
    assert_eq!(settings.health.check, Check::Http("/healthz".to_owned()));
    assert_eq!(settings.health.interval.as_millis(), 500);
    assert!(settings.health.rest_interval.is_zero() && settings.bake.length.is_zero());
    assert_eq!(settings.stop.signal, "INT");
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let main = r#"rooot = "x"
[service.web]
listen = ["tcp://0.0.0.0:80"]
instances = "two"
[service.web.health]
intervall = "1s"
http = "up"
[service.Bad]
[service.api]
listen = ["tcp://127.0.0.1:80"]
after = ["wbe"]
"#;
    let more = "root = \"/x\"\n[service.web]\n[service.db]\nafter = [\"db\"]\n";
    let folder = Folder::new(&[("halley.toml", main), ("services.d/db.toml", more)]);
    let expected = [
        "halley.toml:1: rooot: unknown key; did you mean root?",
        "halley.toml:4: service.web.instances: it is a text and should be a whole number",
        "halley.toml:6: service.web.health.intervall: unknown key; did you mean interval?",
        "halley.toml:7: service.web.health.http: \"up\" is not a path; \
         write \"/healthz\"; the request goes to the first listener",
        "halley.toml:8: service.Bad: a service's name is 1 to 63 of a-z, 0-9, - and _, \
         starting with a letter or digit, and not lock or sets: \"Bad\"",
        "services.d/db.toml:1: root: cannot be set in services.d; set it in the main file",
        "services.d/db.toml:2: service.web: there is a service of this name in halley.toml:2",
    ];
    let problems = folder.problems();
    assert_eq!(problems[..expected.len()], expected);
    let between = [
        "halley.toml:3: service.web.listen: tcp://0.0.0.0:80 is taken by service api \
         (tcp://127.0.0.1:80, halley.toml:10)",
        "halley.toml:11: service.api.after: there is no service wbe; did you mean web?",
        "services.d/db.toml:4: service.db.after: these services start after each other, in a circle: db",
    ];
    assert_eq!(problems[expected.len()..], between);
}

#[test]
fn what_is_not_toml_is_told_with_its_line_and_the_rest_is_still_read() {
    let text = "[service.web]\ncommand =\n[service.b]\nx = 1\nuser = web\n";
    let lines: Vec<_> = problems(text).iter().map(|problem| problem[..13].to_owned()).collect();
    assert_eq!(lines, ["halley.toml:2", "halley.toml:4", "halley.toml:5"]);
}

#[test]
fn a_list_left_open_is_one_problem() {
    let text = "[service.web]\ncommand = [\"a\"\ninstances = 99\n[service.b]\nx = 1\n";
    let problems = problems(text);
    assert!(problems[0].starts_with("halley.toml:3: missing comma"), "{problems:?}");
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn a_broken_file_does_not_make_its_services_unknown() {
    let folder = Folder::new(&[
        ("halley.toml", "[service.web]\nafter = [\"api\"]\n"),
        ("services.d/api.toml", ""),
    ]);
    fs::write(folder.path("services.d/api.toml"), b"[service.api]\n# \xff\n").unwrap();
    assert_eq!(folder.problems(), ["services.d/api.toml:2: is not UTF-8"]);
}

#[test]
fn a_key_twice_is_a_problem() {
    let problems = problems("[service.web]\ninstances = 1\ninstances = 2\n");
    assert_eq!(problems, ["halley.toml:3: duplicate key"]);
}

#[test]
fn bad_lines_of_an_environment_file_are_told_by_its_own_name_and_line() {
    let folder = Folder::new(&[
        ("halley.toml", "[service.web]\nenv_file = \"web.env\"\n"),
        ("web.env", "A=1\nhunter2\n"),
    ]);
    assert_eq!(folder.problems(), ["web.env:2: is not KEY=VALUE"]);
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let folder = Folder::new(&[]);
    let missing = "halley.toml: No such file or directory (os error 2); \
                   use another file with --config or HALLEY_CONFIG";
    assert_eq!(folder.problems(), [missing]);
    fs::write(folder.path("halley.toml"), b"root = \"/x\"\n# \xff\n").expect("a file");
    assert_eq!(folder.problems(), ["halley.toml:2: is not UTF-8"]);
}

#[test]
fn two_services_never_share_an_address() {
    for (one, other, shared) in [
        ("127.0.0.1:80", "127.0.0.1:80", true),
        ("0.0.0.0:80", "127.0.0.1:80", true),
        ("[::]:80", "0.0.0.0:80", true),
        ("[::]:80", "[::1]:80", true),
        ("127.0.0.1:80", "127.0.0.1:81", false),
        ("[::1]:80", "127.0.0.1:80", false),
    ] {
        let text = format!(
            "root = \"r\"\n[service.a]\nlisten = [\"tcp://{one}\"]\n\
             [service.b]\nlisten = [\"tcp://{other}\"]\n"
        );
        let result = Folder::new(&[("halley.toml", &text)]).load();
        assert_eq!(result.is_err(), shared, "{one} {other}");
        let problems = result.err().unwrap_or_default();
        assert!(problems.iter().all(|problem| problem.contains("is taken by service a (")));
    }
}

#[test]
fn one_service_cannot_listen_on_an_address_twice() {
    let problems = problems("[service.a]\nlisten = [\"tcp://0.0.0.0:80\", \"tcp://[::]:80\"]\n");
    assert_eq!(
        problems,
        ["halley.toml:2: service.a.listen: tcp://[::]:80 is taken by service a \
          (tcp://0.0.0.0:80, halley.toml:2)"]
    );
}

#[test]
fn services_start_after_those_they_name_and_by_name_otherwise() {
    assert_eq!(order("root = \"r\"\n[service.c]\n[service.a]\n[service.b]\n"), ["a", "b", "c"]);
    let text = "root = \"r\"\n[service.a]\nafter = [\"z\", \"m\"]\n[service.m]\nafter = [\"z\"]\n\
                [service.z]\n[service.b]\n";
    assert_eq!(order(text), ["b", "z", "m", "a"]);
}

#[test]
fn a_cycle_is_named() {
    let text = "[service.a]\n[service.b]\nafter = [\"c\"]\n[service.c]\nafter = [\"d\"]\n\
                [service.d]\nafter = [\"a\", \"b\"]\n";
    let expected = "halley.toml:3: service.b.after: these services start after each other, in a circle: b, c, d";
    assert_eq!(problems(text), [expected]);
}

#[test]
fn without_a_socket_it_lies_in_the_root() {
    let folder = Folder::new(&[("halley.toml", "root = \"state\"\n")]);
    let config = folder.load().expect("a good file");
    assert_eq!(config.socket, folder.path("state/control.sock"));
}

#[test]
fn a_socket_path_that_no_socket_can_have_is_told() {
    let text = format!("root = \"/{}\"\n", "x".repeat(100));
    let problems = problems(&text);
    assert!(problems[0].contains("has 114 bytes; a socket's path has at most 107"), "{problems:?}");
}

#[test]
fn a_home_directory_is_written_in_full() {
    let problems = problems("root = \"~/halley\"\n");
    assert_eq!(problems, ["halley.toml:1: root: ~ is not expanded; write the path in full"]);
}

#[test]
fn the_option_names_the_file() {
    assert_eq!(locate(Some(PathBuf::from("a.toml"))), Path::new("a.toml"));
}

#[test]
fn what_a_bake_watches_is_checked_to_the_last_value() {
    let listen = "[service.web]\nlisten = [\"tcp://127.0.0.1:80\"]\n[service.web.bake]\n";
    for (lines, problem) in [
        ("error_lines = \"(\"", "error_lines: not a regular expression: "),
        ("error_lines = \"\"", "error_lines: is empty and would match every line"),
        ("max_error_rate = \"1/s\"", "max_error_rate: has no effect without error_lines; add"),
        ("error_lines = \"E\"\nmax_error_rate = \"1\"", "max_error_rate: not a rate: \"1\" (write"),
        (
            "for = \"10s\"\nwarm_up = \"10s\"",
            "warm_up: is not shorter than `for`; the bake lasts 10s",
        ),
        ("max_rss = \"512\"", "max_rss: not a size: \"512\""),
        (
            "max_rss_growth = \"half\"",
            "max_rss_growth: not a growth: \"half\" (write 50% or 64MiB)",
        ),
        ("max_fd_growth = -1", "max_fd_growth: -1 is not between 0 and"),
        (
            "max_thread_growth = \"4\"",
            "max_thread_growth: it is a text and should be a whole number",
        ),
        ("wanted = [\"slow\"]", "wanted: \"slow\" is not a path; write \"/slow\""),
        ("command = []", "command: names no program"),
        (
            "command_timeout = \"1s\"",
            "command_timeout: has no effect without command; leave it out",
        ),
        ("metrics.total = \"n\"", "metrics.bad: is missing; write"),
        (
            "metrics.bad = \"n{\"\nmetrics.total = \"n\"",
            "metrics.bad: not a selector: \"n{\"; write",
        ),
        (
            "metrics.bad = 'n{a=~\"(\"}'\nmetrics.total = \"n\"",
            "metrics.bad: not a regular expression: ",
        ),
        (
            "metrics.bad = \"n\"\nmetrics.total = \"n\"\nmetrics.max_ratio = 2",
            "metrics.max_ratio: 2 is not between 0 and 1",
        ),
        (
            "metrics.bad = \"n\"\nmetrics.total = \"n\"\nmetrics.max_ratio = -0.1",
            "metrics.max_ratio: -0.1 is not between 0 and 1",
        ),
        (
            "metrics.bad = \"n\"\nmetrics.total = \"n\"\nmetrics.path = \"metrics\"",
            "metrics.path: \"metrics\" is not a path; write \"/metrics\"",
        ),
        ("metrics.rate = 1", "metrics.rate: unknown key"),
    ] {
        let problems = problems(&format!("{listen}{lines}\n"));
        let at = lines.lines().count() + 3;
        let wanted = format!("service.web.bake.{problem}");
        let found = problems.iter().any(|problem| {
            let (line, text) = problem.split_once(": ").expect("a place");
            let line: usize = line.trim_start_matches("halley.toml:").parse().expect("a line");
            text.starts_with(&wanted) && (4..=at).contains(&line)
        });
        assert!(found, "{lines}: {problems:?}");
        let n = if lines == "metrics.rate = 1" { 3 } else { 1 };
        assert_eq!(problems.len(), n, "{lines}: {problems:?}");
    }
    let problems = problems("[service.web]\nbake.wanted = [\"/x\"]\nbake.metrics.bad = \"n\"\n");
    assert!(
        problems
            .iter()
            .filter(|problem| problem.contains("no listener to send requests to"))
            .count()
            == 2
    );
}

#[test]
fn a_target_of_notifications_names_services_that_there_are() {
    let text = "root = \"r\"\n[service.web]\n[notify.pager]\ncommand = [\"./tell\"]\n\
                services = [\"web\"]\nevents = [\"committed\"]\n";
    let folder = Folder::new(&[("halley.toml", text)]);
    let config = folder.load().expect("a good file");
    let target = &config.notify[0];
    assert_eq!((target.name.as_str(), target.services[0].as_str()), ("pager", "web"));
    let message =
        "halley.toml:5: notify.pager.services: there is no service wev; did you mean web?";
    assert_eq!(problems(&text.replace("[\"web\"]", "[\"wev\"]")), [message]);
    let other = ("services.d/a.toml", "[notify.pager]\ncommand = [\"x\"]\n");
    let said = Folder::new(&[("halley.toml", text), other]).problems();
    let hint = "cannot be set in services.d; set it in the main file";
    assert_eq!(said, [format!("services.d/a.toml:1: notify: {hint}")]);
}

#[test]
fn hooks_are_read_and_what_they_cannot_be_is_told() {
    let text = "root = \"r\"\n[service.web.hooks]\nbefore_flip = [[\"./a\"], [\"b\"]]\n";
    let config = Folder::new(&[("halley.toml", text)]).load().expect("a good file");
    let web = &config.services[&"web".parse().expect("a name")];
    assert_eq!(web.settings.hooks.len(), 2);
    let said = problems(&text.replace("before_flip", "before_flop"));
    let message = "service.web.hooks.before_flop: unknown key; did you mean before_flip?";
    assert_eq!(said, [format!("halley.toml:3: {message}")]);
}
