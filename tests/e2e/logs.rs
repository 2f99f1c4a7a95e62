//! `logs` of several services, from a time on, of lines that match.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use halley_sup::os::clock;
use serde_json::Value;

use crate::world::{BINARY, World, config, free_address, kill};

/// `web` and `gateway`, each with release 1, and one that was never released.
fn world() -> World {
    let mut world = World::asleep(free_address());
    let more = |name: &str| {
        let text = config(free_address(), "").replace("root = \"root\"", "");
        text.replace("service.web", &format!("service.{name}"))
    };
    world.configure(&(config(world.address, "") + &more("gateway") + &more("idle")));
    world.wake();
    world.release(&[]).expect(0);
    let build = world.build(&[]);
    world.cli(&["release", "gateway", &build.to_string_lossy()]).expect(0);
    world
}

/// Adds lines to the log of release 1: second and text. All are younger than what services wrote.
fn add(world: &World, service: &str, lines: &[(u8, &str)]) {
    let path = world.path(&format!("root/{service}/logs/1.log"));
    let mut log = fs::File::options().append(true).open(path).unwrap();
    for (second, text) in lines {
        writeln!(log, "2099-01-01T00:00:{second:02}.000Z 0 {text}").unwrap();
    }
}

/// The output without what the services and Halley wrote, and without times.
fn added(stdout: &str) -> Vec<String> {
    let lines = stdout.lines().filter(|line| line.contains("2099-"));
    lines.map(|line| line.replace("2099-01-01T00:00:", "").replace(".000Z 0", "")).collect()
}

fn shown(world: &World, args: &[&str]) -> Vec<String> {
    let args = [&["logs"], args].concat();
    added(&world.cli(&args).expect(0).stdout)
}

fn two_with_lines() -> World {
    let world = world();
    add(&world, "web", &[(1, "GET /a"), (3, "GET /b"), (5, "error in c")]);
    add(&world, "gateway", &[(2, "error: none"), (4, "the GET of d")]);
    world
}

#[test]
fn lines_of_several_services_are_interleaved_by_time_behind_their_names() {
    let world = two_with_lines();
    let all = [
        "web      01 GET /a",
        "gateway  02 error: none",
        "web      03 GET /b",
        "gateway  04 the GET of d",
        "web      05 error in c",
    ];
    // Without a name all, and the one without a log is no reason to show none.
    for args in [&["web", "gateway"][..], &["gateway", "web", "web"], &[]] {
        assert_eq!(shown(&world, args), all, "{args:?}");
    }
    // What the services themselves wrote is older.
    let said = world.cli(&["logs"]).expect(0);
    assert!(said.stdout.contains("Z 0 release 1 starts\n") && !said.stdout.contains('\x1b'));
    assert!(said.stderr.is_empty(), "{said:?}");
    assert_eq!(world.cli(&["logs", "-n", "3"]).expect(0).stdout.lines().count(), 3);
    assert_eq!(shown(&world, &["-n", "3"]), all[2..]);
    assert_eq!(shown(&world, &["web", "-n", "2"]), ["03 GET /b", "05 error in c"]);
}

#[test]
fn lines_are_counted_that_match_and_were_written_since() {
    let world = two_with_lines();
    let only = |args: &[&str], expected: &[&str]| {
        let args = [&["logs", "--json"], args].concat();
        let said = world.cli(&args).expect(0);
        let lines: Vec<Value> =
            said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (result, lines) = lines.split_last().unwrap();
        assert_eq!((&result["outcome"], &result["exit"]), (&"read".into(), &0.into()));
        let text = |line: &Value| {
            assert_eq!((&line["event"], &line["release"]), (&"log".into(), &1.into()), "{line}");
            let line_text = line["line"].as_str().unwrap().splitn(3, ' ').nth(2).unwrap();
            format!("{} {line_text}", line["service"].as_str().unwrap())
        };
        assert_eq!(lines.iter().map(text).collect::<Vec<_>>(), expected, "{args:?}");
    };
    only(&["--grep", "GET"], &["web GET /a", "web GET /b", "gateway the GET of d"]);
    // The text is what is matched, not the time and the instance before it.
    only(&["--grep", "^GET"], &["web GET /a", "web GET /b"]);
    only(&["--grep", "2099"], &[]);
    only(&["--grep", "(?i)ERROR", "-n", "1"], &["web error in c"]);
    only(&["gateway", "--grep", "(?i)ERROR", "-n", "1"], &["gateway error: none"]);
    let since = "2099-01-01T00:00:03Z";
    let last = ["web GET /b", "gateway the GET of d", "web error in c"];
    only(&["--since", since], &last);
    only(&["--since", "2099-01-01T02:00:03+02:00"], &last);
    only(&["--since", since, "-n", "1"], &last[2..]);
    only(&["web", "--since", since, "--grep", "error"], &last[2..]);
    // Without a number all of them; a duration is one ago.
    let many: Vec<(u8, &str)> = (0..70).map(|_| (9, "many")).collect();
    add(&world, "web", &many);
    only(
        &["web", "--since", since],
        &[&["web GET /b", "web error in c"][..], &["web many"; 70]].concat(),
    );
    assert_eq!(world.cli(&["logs", "web"]).expect(0).stdout.lines().count(), 50);
    let since = |time: &str| world.cli(&["logs", "web", "--since", time]).expect(0).stdout;
    let hour_ago = clock::earlier(&clock::now_rfc3339_ms(), 3_600_000).unwrap();
    let path = world.path("root/web/logs/1.log");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{hour_ago} 0 an hour ago\n{text}")).unwrap();
    assert!(since("2h").contains("an hour ago") && !since("10m").contains("an hour ago"));
    assert!(since("10m").contains("release 1 starts"));
}

#[test]
fn following_several_services_shows_what_each_writes_and_filters_it() {
    let world = two_with_lines();
    let mut follow =
        world.command(&["logs", "web", "gateway", "-f", "--grep", "GET|SIGKILL", "-n", "1"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut next = || lines.next().unwrap();
    assert!(next().starts_with("gateway  "), "the last one that matches");
    let pid_of = |name: &str| world.status_of(name)["instances"][0]["pid"].as_i64().unwrap();
    for name in ["gateway", "web"] {
        add(&world, name, &[(6, "not this one"), (7, "GET /e")]);
        kill(i32::try_from(pid_of(name)).unwrap(), libc::SIGKILL);
        let mut both = [next(), next()];
        both.sort();
        assert!(both.iter().all(|line| line.starts_with(&format!("{name:<7}  "))), "{both:?}");
        assert!(both[0].contains("killed by SIGKILL") && both[1].ends_with("GET /e"), "{both:?}");
    }
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[test]
fn names_have_colours_on_a_terminal_unless_they_are_not_wanted() {
    let world = two_with_lines();
    let on_terminal = |no_color: &str| {
        let line = format!("{BINARY} logs --config {}", world.path("halley.toml").display());
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env("NO_COLOR", no_color);
        let output = script.stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let coloured = on_terminal("");
    let of = |name: &str| {
        let line = coloured.lines().find(|line| line.contains(name)).unwrap();
        line.split_once(name).unwrap().0.to_owned()
    };
    assert!(of("web").starts_with("\x1b[") && of("gateway").starts_with("\x1b["), "{coloured:?}");
    assert_ne!(of("web"), of("gateway"));
    assert!(coloured.contains("web    \x1b[0m  2099-01-01T00:00:01.000Z 0 GET /a"), "{coloured:?}");
    assert!(!on_terminal("1").contains('\x1b'));
}

#[test]
fn values_that_cannot_be_used_are_refused_before_anything_is_shown() {
    let world = two_with_lines();
    for (args, why) in [
        (&["--since", "yesterday"][..], "RFC 3339"),
        (&["--since", "10"], "30s, 15m"),
        (&["--since", ""], "RFC 3339"),
        (&["--since", "2026-11-23T12:00:00"], "RFC 3339"),
        (&["--grep", "("], "not a regular expression"),
        (&["--grep", "a{3,2}"], "not a regular expression"),
        (&["-n", "-1"], "-1"),
        (&["wbe"], "there is no service wbe; did you mean web?"),
        (&["web", "wbe"], "there is no service wbe; did you mean web?"),
        (&["--release", "1"], "a release is one of one service"),
        (&["web", "gateway", "--release", "1"], "a release is one of one service"),
        (&["web", "--release", "9"], "there is no log of that release"),
        (&["web", "idle"], "idle: no log can be shown"),
    ] {
        let args = [&["logs"], args].concat();
        let said = world.cli(&args).expect(2);
        assert!(said.stdout.is_empty() && said.stderr.contains(why), "{args:?}: {said:?}");
        let said = world.cli(&[&args[..], &["--json"]].concat()).expect(2);
        let result = said.result();
        assert_eq!((&result["outcome"], &result["exit"]), (&"refused".into(), &2.into()));
        assert_eq!(said.stdout.lines().count(), 1, "{said:?}");
    }
}

/// Other clients than the command line send them, too.
#[test]
fn a_request_whose_filter_cannot_be_used_is_refused_by_the_supervisor() {
    let world = two_with_lines();
    for (more, why) in [
        (r#""service":null,"services":["web"],"since":"10m""#, "is not an RFC 3339 time"),
        (r#""service":"web","grep":"(""#, "not a regular expression"),
    ] {
        let socket = halley_sup::config::socket(&world.path("halley.toml")).unwrap();
        let mut stream = UnixStream::connect(socket).unwrap();
        let rest =
            r#""version":1,"actor":"a","verb":"logs","release":null,"tail":1,"follow":false"#;
        writeln!(stream, "{{{rest},{more}}}").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&event["event"], &event["exit"]), (&"error".into(), &2.into()), "{event}");
        assert!(event["why"].as_str().unwrap().contains(why), "{event}");
    }
}

/// A rotated file that is a FIFO: whoever opens it waits for a writer.
#[test]
fn while_a_log_is_read_nobody_else_waits() {
    let world = two_with_lines();
    let fifo = world.path("root/web/logs/1.log.1");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let supervisor = world.supervisor_pid().unwrap();
    let n_threads = || fs::read_dir(format!("/proc/{supervisor}/task")).unwrap().count();
    let at_rest = n_threads();
    let mut logs = world.command(&["logs", "--grep", "GET"]);
    let logs = logs.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    world.wait("a thread of its own reads", |_| n_threads() > at_rest);
    world.cli(&["status"]).expect(0);
    world.cli(&["restart", "web"]).expect(0);
    assert_eq!(world.supervisor_pid(), Some(supervisor), "it was replaced");
    drop(fs::File::options().write(true).open(&fifo).unwrap());
    let output = logs.wait_with_output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && added(&stdout).len() == 3, "{stdout}");
}
