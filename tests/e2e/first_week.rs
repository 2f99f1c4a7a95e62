//! What people meet in the first days with programs of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use halley_sup::demo::load::{Load, Shape};

use crate::broken_live::{breakable, breaks};
use crate::daemons::asleep_for;
use crate::handoffs;
use crate::modes;
use crate::world::{BINARY, NOBODY, Said, World, config, free_address, kill};

/// A build whose program is this Python.
fn python(world: &World, text: &str) -> PathBuf {
    let build = world.build_of(&["/usr/bin/python3", "app.py"]);
    fs::write(build.join("app.py"), text).unwrap();
    build
}

fn script(world: &World, text: &str) -> PathBuf {
    let build = world.build_of(&["./start.sh"]);
    fs::write(build.join("start.sh"), text).unwrap();
    fs::set_permissions(build.join("start.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    build
}

/// A world whose service has these keys, and these lines in other places.
fn with(keys: &str, others: &[(&str, &str)]) -> World {
    let mut world = World::asleep(free_address());
    world.configure(&text(&world, keys, others));
    world.wake();
    world
}

fn text(world: &World, keys: &str, others: &[(&str, &str)]) -> String {
    let keys = format!("{keys}\n[service.web.health]");
    let text = config(world.address, "").replacen("[service.web.health]", &keys, 1);
    others.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

#[test]
fn workers_that_wrote_over_their_environment_end_with_their_master() {
    let seconds = format!("4{}", std::process::id());
    let count = |world: &World, n: usize, what: &str| {
        world.wait(what, |_| asleep_for(&seconds).lines().count() == n);
    };
    let worker = format!("env -i /bin/sleep {seconds} & ");
    // In a session of their own they are known where Halley is root.
    let apart = format!("setsid env -i /bin/sleep {seconds} & ");
    for (wrapper, workers, n) in
        [(&[][..], format!("{worker}{apart}"), 2), (&NOBODY[..], worker.clone(), 1)]
    {
        let mut world = World::asleep(free_address());
        world.configure(&config(world.address, ""));
        world.wake_under(wrapper);
        let program = format!("{workers} exec {BINARY} demo-service");
        let build = world.build_of(&["/bin/sh", "-c", &program]);
        world.release_path(&build).expect(0);
        count(&world, n, "its workers run");
        let master = world.live_pid();
        kill(master, libc::SIGKILL);
        world.wait("it was started again", |world| ![0, master].contains(&world.live_pid()));
        count(&world, n, "those of the killed one are gone");
        world.cli(&["restart", "web"]).expect(0);
        count(&world, 2 * n, "both have theirs");
        world.cli(&["stop", "web"]).expect(0);
        count(&world, 0, "nothing is left");
    }
}

#[test]
fn a_wrapper_without_exec_costs_no_request() {
    let others = [("drain = \"10s\"", "drain = \"0s\"")];
    let listen =
        |world: &World| format!("listen = [\"tcp://{}\"]\nhandoff = \"intercept\"", world.address);
    let world = modes::world_with(listen, "", &others);
    let program = format!("#!/bin/sh\n{BINARY} demo-service bind={}\n", world.address);
    let build = script(&world, &program);
    world.release_path(&build).expect(0);
    // These are under way when the stop signal comes.
    let loads =
        [Shape::SlowDownload, Shape::Short].map(|shape| Load::start(world.address, shape, 2));
    for _ in 0..2 {
        world.release_path(&build).expect(0);
        assert!(loads.iter().all(|load| load.wait_for(5)));
    }
    world.cli(&["restart", "web"]).expect(0);
    world.wait("the old ones are gone", World::is_alone);
    for load in loads {
        let ledger = load.stop();
        assert_eq!(ledger.n_lost(), 0, "{}\n{}", ledger.losses(), world.run_log());
    }
}

#[test]
fn the_program_behind_a_wrapper_has_its_time_and_a_group_gets_the_signal_as_a_whole() {
    // Says that it was asked, and takes its time.
    let slow = "import os, signal, subprocess, sys, time\n\
        done = os.environ['HALLEY_SHARED'] + '/done'\n\
        def ask(*_):\n\
        \x20   time.sleep(0.3); open(done, 'w').close(); os._exit(0)\n\
        signal.signal(signal.SIGTERM, ask)\n\
        open(os.environ['HALLEY_SHARED'] + '/up', 'w').close()\n\
        while True: signal.pause()\n";
    for (keys, wrapper) in [
        ("", "#!/bin/sh\n/usr/bin/python3 app.py\n"),
        // It catches the signal, and waits for its child, which is not told.
        ("signal_to = \"group\"", "#!/bin/sh\ntrap : TERM\n/usr/bin/python3 app.py\n"),
    ] {
        let stop = format!("[service.web.stop]\n{keys}");
        let others = [("[service.web.stop]", stop.as_str()), ("http = \"/healthz\"", "")];
        let mut world = World::asleep(free_address());
        let listen = format!("listen = [\"tcp://{}\"]", world.address);
        world.configure(&text(&world, "", &others).replace(&listen, ""));
        world.wake();
        let build = script(&world, wrapper);
        fs::write(build.join("app.py"), slow).unwrap();
        world.release_path(&build).expect(0);
        world.wait("it is up", |world| world.service_path("shared/up").exists());
        world.cli(&["stop", "web"]).expect(0);
        assert!(world.service_path("shared/done").exists(), "{keys}: {}", world.run_log());
        assert!(!world.run_log().contains("SIGKILL"), "{}", world.run_log());
    }
}

/// Answers 150 headers to whoever asks as it wants to be asked.
fn particular(world: &World) -> PathBuf {
    let address = world.address;
    python(
        world,
        &format!(
            "from http.server import *\n\
             class H(BaseHTTPRequestHandler):\n\
             \x20   def answer(s):\n\
             \x20       if s.path == '/old': s.send_response(302); s.send_header('Location', 'http://app.example/new')\n\
             \x20       elif s.headers['Host'] != 'app.example' or s.headers['X-Probe'] != '1': s.send_response(400)\n\
             \x20       else: s.send_response(404)\n\
             \x20       for n in range(150): s.send_header(f'X-{{n}}', 'x')\n\
             \x20       s.end_headers(); s.wfile.write(b'all is fine')\n\
             \x20   do_POST = answer\n\
             \x20   def log_message(s, *a): pass\n\
             ThreadingHTTPServer(('{}', {}), H).serve_forever()\n",
            address.ip(),
            address.port()
        ),
    )
}

const TERMS: &str = "http = \"/old\"\nhost = \"app.example\"\nmethod = \"POST\"\n\
    headers = { X-Probe = \"1\" }\nexpect = [\"2xx\", \"404\"]\nbody = \"fine$\"\nredirects = 1";

#[test]
fn a_health_check_asks_as_the_program_wants_to_be_asked() {
    let of = |terms: &str| with("handoff = \"intercept\"", &[("http = \"/healthz\"", terms)]);
    let world = of(TERMS);
    world.release_path(&particular(&world)).expect(0);
    world.release_path(&particular(&world)).expect(0);
    drop(world);
    for (from, to, wanted) in [
        ("host = \"app.example\"\n", "", "POST /new answered 400"),
        ("method = \"POST\"\n", "", "GET /old answered 501"),
        ("\"404\"", "\"405\"", "POST /new answered 404"),
        ("fine$", "^fine", "the body does not match \"^fine\""),
        ("redirects = 1", "redirects = 0", "POST /old answered 302"),
    ] {
        let world = of(&TERMS.replace(from, to));
        let why = world.release_path(&particular(&world)).expect(20).why();
        assert!(why.contains(wanted), "{why}");
    }
}

#[test]
fn https_is_refused_with_a_check_that_is_accepted() {
    let mut world = World::asleep(free_address());
    let other = [("http = \"/healthz\"", "http = \"https://app.example:8443/up\"")];
    world.configure(&text(&world, "", &other));
    let said = world.cli(&["check"]).expect(2).stderr;
    let recipe = said.split("write ").nth(1).and_then(|text| text.split(", with").next()).unwrap();
    assert!(recipe.contains("curl") && recipe.contains("https://app.example:8443/up"), "{said}");
    world.configure(&text(&world, "", &[("http = \"/healthz\"", recipe)]));
    world.cli(&["check"]).expect(0);
    world.configure(&text(&world, "", &[("http = \"/healthz\"", "tcp = true\nbody = \"x\"")]));
    let said = world.cli(&["check"]).expect(2).stderr;
    assert!(said.contains("health.body: is only for http"), "{said}");
    world.sleep();
}

#[test]
fn a_program_that_says_why_it_cannot_start_is_answered_with_what_to_write() {
    let world = World::new();
    world.release(&[]).expect(0);
    let bind = format!(
        "import socket\nsocket.socket().bind(('{}', {}))\n",
        world.address.ip(),
        world.address.port()
    );
    let why = |said: Said| said.why();
    let said = why(world.release_path(&python(&world, &bind)).expect(20));
    assert!(said.contains("write handoff = \"intercept\""), "{said}");
    if nix::unistd::geteuid().is_root() {
        let said = why(world.release_path(&python(&world, "open('state.txt', 'w')\n")).expect(20));
        assert!(said.contains("its tree is read-only: write writable = "), "{said}");
    }
    let build = script(&world, "#!/bin/sh\necho 'web is already running (pid 7)'; exit 1\n");
    let said = why(world.release_path(&build).expect(20));
    assert!(said.contains("write strategy = \"hold\""), "{said}");
}

#[test]
fn a_crash_loop_goes_back_by_itself_where_that_is_wanted() {
    let world = with("on_crash_loop = \"rollback\"", &[]);
    world.release_path(&breakable(&world)).expect(0);
    world.release_path(&breakable(&world)).expect(0);
    breaks(&world, "crash-2");
    world.wait("the release before serves", |world| world.status()["last_good"] == 1);
    assert_eq!(world.answering(), Some(1));
    let history = world.cli(&["history", "web"]).stdout;
    assert!(history.contains("halley-sup (on_crash_loop"), "{history}");
}

#[test]
fn a_live_process_that_hangs_is_replaced_where_that_is_wanted() {
    let others = [
        ("rest_interval = \"off\"", "rest_interval = \"100ms\""),
        ("timeout = \"1s\"", "timeout = \"200ms\""),
    ];
    let world = with("on_unhealthy = \"restart\"", &others);
    world.release_path(&breakable(&world)).expect(0);
    world.release_path(&breakable(&world)).expect(0);
    let hung = world.live_pid();
    kill(hung, libc::SIGSTOP);
    world.wait("another process serves", |world| ![0, hung].contains(&world.live_pid()));
    assert_eq!(world.answering(), Some(2));
    world.wait("it is over", |world| world.status()["operation"].is_null());
    let going_back = text(&world, "on_unhealthy = \"rollback\"", &others);
    world.reload(&going_back);
    fs::write(world.service_path("shared/ill-2"), "").unwrap();
    kill(world.live_pid(), libc::SIGKILL);
    world.wait("the release before serves", |world| world.status()["last_good"] == 1);
    assert_eq!(world.answering(), Some(1));
}

#[test]
fn a_program_that_removes_the_public_path_at_its_end_takes_it_from_nobody() {
    let world = modes::world(
        |world| format!("listen = [\"unix:{}\"]", handoffs::public(world).display()),
        "",
    );
    let path = handoffs::public(&world);
    // As php-fpm does.
    let server = format!(
        "import os, signal, socket, sys\n\
         def end(*_):\n\
         \x20   os.unlink('{0}'); os._exit(0)\n\
         signal.signal(signal.SIGTERM, end)\n\
         s = socket.socket(fileno=3)\n\
         while True:\n\
         \x20   c, _ = s.accept(); c.recv(4096)\n\
         \x20   c.send(b'HTTP/1.0 200 OK\\r\\n\\r\\nrelease ' + os.environ['HALLEY_RELEASE'].encode()); c.close()\n",
        path.display()
    );
    let answers = |world: &World| {
        let path = handoffs::public(world);
        let args = ["-s", "--unix-socket", &path.to_string_lossy(), "http://localhost/"];
        let said = Command::new("curl").args(args).output().unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    for n in 1..4 {
        world.release_path(&python(&world, &server)).expect(0);
        world.wait("the old one is gone", World::is_alone);
        world.wait("it answers", |world| answers(world) == format!("release {n}"));
    }
    world.cli(&["rollback", "web"]).expect(0);
    world.wait("the old one is gone", World::is_alone);
    world.wait("it answers", |world| answers(world) == "release 2");
}

/// nginx behind whose answer something else is missing has workers, and is no wrapper.
#[test]
fn only_what_accepts_nothing_is_taken_for_a_wrapper() {
    let world = World::new();
    let workers = "import os, signal, socket\n\
         s = socket.socket(fileno=3)\n\
         os.fork()\n\
         while True:\n\
         \x20   c, _ = s.accept(); c.recv(4096)\n\
         \x20   c.send(b'HTTP/1.0 404 Not Found\\r\\n\\r\\n'); c.close()\n";
    let hint = "a wrapper started it";
    let said = world.release_path(&python(&world, workers)).expect(20);
    assert!(said.stdout.contains("404") && !said.stdout.contains(hint), "{}", said.stdout);
    let said = world.release_path(&script(&world, "#!/bin/sh\nsleep 1000\n:\n")).expect(20);
    assert!(said.stdout.contains(hint), "{}", said.stdout);
}
