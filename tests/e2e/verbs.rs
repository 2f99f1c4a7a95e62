//! The verbs beside release and rollback.

use halley_sup::demo::load::Shape;

use crate::world::{World, config, kill};

/// A world whose bake lasts until somebody ends it.
fn baking() -> World {
    let mut world = World::asleep(crate::world::free_address());
    let text = config(world.address, "").replace("for = \"200ms\"", "for = \"60s\"");
    world.configure(&text);
    world.wake();
    detach(&world);
    world.cli(&["promote", "web"]).expect(0);
    world
}

fn detach(world: &World) {
    let build = world.build(&[]);
    let said = world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
    assert!(said.stderr.contains("detached: operation"), "{}", said.stderr);
    world.wait("it bakes", |world| world.status()["operation"]["phase"] == "bake");
}

#[test]
fn promote_ends_a_bake_well_and_abort_takes_it_back() {
    let world = baking();
    let load = world.load(Shape::Short);
    detach(&world);
    let said = world.cli(&["promote", "web", "--json"]).expect(0).result();
    assert_eq!((&said["outcome"], &said["serving"]), (&"committed".into(), &2.into()));
    detach(&world);
    let said = world.cli(&["abort", "web", "--json"]).expect(23).result();
    assert_eq!((&said["outcome"], &said["serving"]), (&"aborted".into(), &2.into()));
    assert_eq!(world.answering(), Some(2));
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
}

#[test]
fn a_second_release_is_told_who_is_at_it() {
    let world = baking();
    detach(&world);
    let said = world.release(&[]).expect(9).result();
    let why = said["why"].as_str().unwrap().to_owned();
    assert!(why.contains("operation 2 (release by tester) has run since"), "{why}");
    assert!(why.contains("in phase bake"), "{why}");
    world.cli(&["abort", "web"]).expect(23);
}

#[test]
fn a_watcher_sees_an_operation_from_its_beginning_while_it_runs_and_afterwards() {
    let world = baking();
    detach(&world);
    let watch = world
        .command(&["watch", "web", "2", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    world.cli(&["promote", "web"]).expect(0);
    let live = String::from_utf8(watch.wait_with_output().unwrap().stdout).unwrap();
    let phases = |text: &str| {
        let is_ok = |line: &&str| line.contains(r#""state":"ok""#);
        text.lines()
            .filter(is_ok)
            .map(|line| line.split('"').nth(7).unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(phases(&live).contains(&"gate".to_owned()), "{live}");
    assert!(live.lines().last().unwrap().contains(r#""outcome":"committed""#), "{live}");
    world.kill_supervisor();
    world.wait("the next supervisor", |world| world.cli(&["status"]).code == 0);
    let later = world.cli(&["watch", "web", "2", "--json"]).expect(0).stdout;
    assert_eq!(phases(&later), phases(&live));
    world.cli(&["watch", "web", "99"]).expect(2);
}

#[test]
fn restart_replaces_the_processes_and_loses_nothing() {
    let world = World::new();
    world.release(&[]).expect(0);
    let before = world.live_pid();
    let load = world.load(Shape::KeepAlive);
    let said = world.cli(&["restart", "web", "--json"]).expect(0).result();
    assert_eq!((&said["outcome"], &said["serving"]), (&"restarted".into(), &1.into()));
    assert_ne!(world.live_pid(), before);
    world.wait("the old process is gone", |_| halley_sup::os::proc::start_ticks(before).is_err());
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
}

#[test]
fn a_stopped_service_refuses_callers_and_stays_down_over_a_reboot() {
    let mut world = World::new();
    world.release(&[]).expect(0);
    world.cli(&["stop", "web"]).expect(0);
    let refused = |world: &World| std::net::TcpStream::connect(world.address).is_err();
    assert!(refused(&world));
    assert_eq!(world.status()["state"], "stopped");
    world.cli(&["restart", "web"]).expect(10);
    world.sleep();
    world.wake();
    assert!(refused(&world));
    world.cli(&["start", "web"]).expect(0);
    assert_eq!(world.answering(), Some(1));
}

#[test]
fn logs_show_what_was_written_and_follow_what_comes() {
    let world = World::new();
    world.release(&["lines=3"]).expect(0);
    world
        .wait("the lines are there", |world| world.cli(&["logs", "web"]).stdout.contains("line 2"));
    let said = world.cli(&["logs", "web", "-n", "2"]).expect(0);
    assert_eq!(said.stdout.lines().count(), 2);
    assert!(said.stdout.lines().next().unwrap().contains("Z 0 "), "{}", said.stdout);
    let mut follow =
        world.command(&["logs", "web", "-f"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().contains("release 1 starts"));
    kill(world.live_pid(), libc::SIGKILL);
    let told = lines.map_while(Result::ok).find(|line| line.contains("ended: killed by SIGKILL"));
    assert!(told.is_some());
    kill(i32::try_from(follow.id()).unwrap(), libc::SIGKILL);
    follow.wait().unwrap();
}

#[test]
fn a_rollback_without_a_target_says_so() {
    let world = World::new();
    world.release(&[]).expect(0);
    let said = world.cli(&["rollback", "web"]).expect(31);
    assert!(said.stderr.contains("no earlier good release exists"), "{}", said.stderr);
    world.release(&[]).expect(0);
    let said = world.cli(&["rollback", "web", "--to", "9"]).expect(31);
    assert!(said.stderr.contains("there is no release 9 on this disk"), "{}", said.stderr);
    assert_eq!(world.answering(), Some(2));
}

#[test]
fn a_cold_rollback_starts_the_release_with_the_settings_it_had() {
    let world = World::with("[service.web.keep]\nstandby = \"0s\"");
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    world.wait("the standby is gone", |world| {
        world.status()["instances"].as_array().unwrap().len() == 1
    });
    assert_eq!(world.status()["rollback"]["from"], "cold");
    let load = world.load(Shape::Short);
    let said = world.cli(&["rollback", "web", "--json"]).expect(0).result();
    assert_eq!(said["serving"], 1);
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
}

#[test]
fn ctrl_c_leaves_and_the_operation_goes_on() {
    let world = baking();
    let build = world.build(&[]);
    let mut command = world.command(&["release", "web", &build.to_string_lossy()]);
    let client = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    world.wait("it bakes", |world| world.status()["operation"]["phase"] == "bake");
    kill(i32::try_from(client.id()).unwrap(), libc::SIGINT);
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(40));
    let text = String::from_utf8_lossy(&output.stderr);
    let way = format!("halley-sup watch --config {} web 2", world.path("halley.toml").display());
    assert!(text.contains(&way), "{text}");
    world.cli(&["promote", "web"]).expect(0);
    assert_eq!(world.answering(), Some(2));
}

#[test]
fn several_instances_share_the_load_and_one_that_dies_is_started_again() {
    let world = World::with("[service.worker]\ncommand = [\"/bin/sleep\", \"1000\"]");
    world.reload(
        &config(world.address, "")
            .replace("[service.web.health]", "instances = 3\n[service.web.health]"),
    );
    world.release(&[]).expect(0);
    let live = |world: &World| world.status()["instances"].as_array().unwrap().len();
    assert_eq!(live(&world), 3);
    let pids: std::collections::BTreeSet<String> = (0..60)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(world.address).unwrap();
            std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
                .unwrap();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
            text.rsplit(' ').next().unwrap().to_owned()
        })
        .collect();
    assert_eq!(pids.len(), 3, "{pids:?}");
    let before = world.live_pid();
    kill(before, libc::SIGKILL);
    world.wait("three run again", |world| {
        world.status()["state"] == "running" && world.live_pid() != before
    });
    let said = world.release(&[]).expect(0).result();
    assert_eq!(said["serving"], 2);
}

#[test]
fn a_service_runs_as_its_user_and_writes_where_it_may() {
    let is_root = nix::unistd::geteuid().is_root();
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let user = if is_root { "nobody" } else { own.as_str() };
    let world = World::with("");
    // Others have to get through to the release and to the shared directory.
    std::fs::set_permissions(world.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let more = format!("user = \"{user}\"\nenv = {{ SECRET = \"s3cr3t\" }}\n[service.web.health]");
    // Its runtime may take a while to start.
    let text = config(world.address, "").replace("[service.web.health]", &more);
    world.reload(&text.replace("deadline = \"5s\"", "deadline = \"20s\""));
    let script = "id -un > \"$HALLEY_SHARED/who\"; touch ./denied; exec python3 -u app.py";
    let build = world.build_of(&["/bin/sh", "-c", script]);
    let app = "import http.server as h, socket
class H(h.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
s = h.HTTPServer(('', 0), H, False)
s.socket = socket.socket(fileno=3)
s.serve_forever()
";
    std::fs::write(build.join("app.py"), app).unwrap();
    world.release_path(&build).expect(0);
    let who = std::fs::read_to_string(world.service_path("shared/who")).unwrap();
    assert_eq!(who.trim(), user);
    assert!(!world.service_path("current/denied").exists(), "a release is sealed");
    // What is secret is in no file that others read, and in no argument.
    let mode = std::fs::metadata(world.service_path("meta/1/settings.json")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o077, 0);
    for pid in halley_sup::os::proc::tree(world.keeper_pid()) {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!line.contains("s3cr3t"), "{line}");
    }
    assert!(!world.run_log().contains("s3cr3t"));
}

#[test]
fn doctor_tries_steering_and_says_what_to_do() {
    let world = World::new();
    let said = world.cli(&["doctor"]).expect(0);
    assert!(said.stdout.contains("ok    steering works"), "{}", said.stdout);
    assert!(said.stdout.contains("ok    the supervisor can be reached"), "{}", said.stdout);
    let json = world.cli(&["doctor", "--json"]).expect(0).stdout;
    assert!(json.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn the_demo_goes_as_it_should() {
    let output = std::process::Command::new(crate::world::BINARY).arg("demo").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("failures          0 (none)"), "{text}");
}

#[test]
fn results_and_errors_have_their_words() {
    let world = World::new();
    let build = world.build(&[]);
    let said = world.cli(&["release", "web", &build.to_string_lossy()]).expect(0);
    assert_eq!(said.stdout, "web: release 1 is live\n");
    for line in [
        "-----> web  release 1  release 1  (by tester)",
        "gate               ok",
        "commit             ok",
    ] {
        assert!(said.stderr.contains(line), "{}", said.stderr);
    }
    let build = world.build(&["exit=3"]);
    let said = world.cli(&["release", "web", &build.to_string_lossy()]).expect(20);
    let error = said.stderr.split("error: ").nth(1).unwrap();
    let words: Vec<&str> = error.lines().map(|line| line.get(..8).unwrap_or(line).trim()).collect();
    assert!(error.starts_with("web: release 2 did not go live\n  why:   process "), "{error}");
    assert!(
        error.contains(
            "\n  still: release 1 is serving\n  next:  halley-sup logs web --release 2\n"
        ),
        "{error}"
    );
    assert_eq!(words.iter().filter(|word| ["why:", "still:", "next:"].contains(word)).count(), 3);
    let usage = world.cli(&["relase"]).expect(2);
    assert!(usage.stderr.contains("release"), "{}", usage.stderr);
}

#[test]
fn an_inconclusive_bake_does_what_the_configuration_says() {
    for (policy, code, outcome) in
        [("hold", 22, "holding"), ("promote", 0, "committed"), ("rollback", 21, "rolled_back")]
    {
        let mut world = World::asleep(crate::world::free_address());
        world.configure(&config(world.address, ""));
        world.wake();
        world.release(&[]).expect(0);
        let bake = format!("for = \"200ms\"\nmin_samples = 1000\ninconclusive = \"{policy}\"");
        world.reload(&config(world.address, "").replace("for = \"200ms\"", &bake));
        let said = world.release(&[]).expect(code).result();
        assert_eq!(said["outcome"], outcome, "{said}");
        if policy == "hold" {
            assert_eq!(world.status()["operation"]["phase"], "hold");
            assert_eq!(world.status()["instances"].as_array().unwrap().len(), 2, "both are alive");
            world.cli(&["promote", "web"]).expect(0);
            assert_eq!(world.status()["last_good"], 2);
        }
    }
}
