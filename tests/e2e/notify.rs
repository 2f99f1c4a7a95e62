//! Notifications: everybody who wants to know is told, at least once, whatever goes down.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::world::{World, config, free_address, kill};

/// What a receiver got: the headers, and the notification.
type Got = Arc<Mutex<Vec<(String, Value)>>>;

/// A receiver of webhooks that answers as it is told.
struct Receiver {
    address: SocketAddr,
    got: Got,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// At this address; the last of these statuses is for all that follow.
    fn at(address: SocketAddr, statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let (got, over) = (Got::default(), Arc::new(AtomicBool::new(false)));
        let (mine, stop) = (Arc::clone(&got), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let n = mine.lock().unwrap().len();
                let status = statuses.get(n).or(statuses.last()).copied().unwrap_or(200);
                receive(stream, status, &mine);
            }
        });
        Self { address, got, over, thread: Some(thread) }
    }

    fn new(statuses: &'static [u16]) -> Self {
        Self::at(free_address(), statuses)
    }

    fn url(&self) -> String {
        format!("http://{}/hook?x=1", self.address)
    }

    fn all(&self) -> Vec<Value> {
        self.got.lock().unwrap().iter().map(|(_, body)| body.clone()).collect()
    }

    fn events(&self) -> Vec<String> {
        self.all().iter().map(|body| text(body, "event")).collect()
    }

    fn ids(&self) -> BTreeSet<String> {
        self.all().iter().map(|body| text(body, "id")).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn receive(mut stream: TcpStream, status: u16, got: &Got) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).is_ok_and(|n| n == 0) {
            return;
        }
    }
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
    });
    let mut body = vec![0; length.unwrap_or(0)];
    if reader.read_exact(&mut body).is_ok() {
        got.lock().unwrap().push((head, serde_json::from_slice(&body).unwrap()));
        drop(write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
    }
}

fn text(body: &Value, key: &str) -> String {
    body[key].as_str().unwrap_or_default().to_owned()
}

const EVENTS: &str = r#"events = ["committed", "failed", "rolled_back"]"#;

fn hook(receiver: &Receiver) -> String {
    format!("[notify.hook]\nhttp = \"{}\"\n{EVENTS}\n", receiver.url())
}

fn waiting(world: &World) -> usize {
    let entries = fs::read_dir(world.path("root/outbox")).unwrap();
    entries.flatten().filter(|e| e.file_name().to_string_lossy().ends_with(".json")).count()
}

fn warnings(world: &World) -> String {
    world.cli(&["status", "--json"]).result()["warnings"].to_string()
}

#[test]
fn the_end_of_an_operation_is_told_with_its_four_lines_and_no_secret() {
    let receiver = Receiver::new(&[200]);
    let mut world = World::asleep(free_address());
    let token = world.path("token");
    fs::write(&token, "Bearer hush\n").unwrap();
    let more = format!(
        "{}header_files.Authorization = \"token\"\nheaders.X-Site = \"pi\"\n\
         [notify.file]\ncommand = [\"/bin/sh\", \"-c\", \"cat >> {}\"]\n",
        hook(&receiver),
        world.path("told").display()
    );
    world.configure(
        &config(world.address, &more)
            .replace("[service.web.health]", "env = { SECRET = \"hush\" }\n[service.web.health]"),
    );
    world.wake();
    world.release(&[]).expect(0);
    world.release(&["exit=3"]).expect(20);
    world.cli(&["notify", "hook"]).expect(0);
    world.wait("both are told", |world| receiver.all().len() == 3 && waiting(world) == 0);
    let all = receiver.all();
    let events: Vec<String> = all.iter().map(|body| text(body, "event")).collect();
    assert_eq!(events.iter().filter(|e| *e == "test").count(), 1, "{events:?}");
    let good = all.iter().find(|body| body["event"] == "committed").unwrap();
    assert_eq!(
        (&good["op"], &good["release"], &good["serving"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!((&good["exit"], &good["outcome"]), (&0.into(), &"committed".into()));
    assert_eq!(good["what"], "web: release 1 is live");
    let bad = all.iter().find(|body| body["event"] == "failed").unwrap();
    assert_eq!(
        (&bad["version"], &bad["service"], &bad["op"]),
        (&1.into(), &"web".into(), &2.into())
    );
    assert_eq!((&bad["outcome"], &bad["exit"]), (&"gate_failed".into(), &20.into()));
    assert_eq!(bad["what"], "web: release 2 did not go live");
    assert!(text(bad, "why").contains("exit 3"), "{bad}");
    assert_eq!(bad["still"], "release 1 is serving");
    assert!(bad["next"][0].as_str().unwrap().starts_with("halley-sup "), "{bad}");
    assert!(!text(bad, "host").is_empty() && text(bad, "at").ends_with('Z'), "{bad}");
    let (head, _) = receiver.got.lock().unwrap()[0].clone();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /hook?x=1 http/1.1"), "{head}");
    for line in ["authorization: bearer hush", "x-site: pi", "content-type: application/json"] {
        assert!(head.contains(line), "{head}");
    }
    assert!(head.contains(&format!("idempotency-key: {}", text(&all[0], "id"))), "{head}");
    // The command wants the bad ones only.
    let told: Value = serde_json::from_slice(&fs::read(world.path("told")).unwrap()).unwrap();
    assert_eq!(&told, bad);
    assert!(!all.iter().any(|body| body.to_string().contains("hush")));
    assert!(!world.run_log().contains("hush"));
    let mode = fs::metadata(world.path("root/outbox")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_receiver_that_answers_500_is_told_again_with_the_same_id() {
    let receiver = Receiver::new(&[500, 503, 200]);
    let world = World::with(&hook(&receiver));
    world.release(&[]).expect(0);
    world.wait("it is told", |world| receiver.all().len() == 3 && waiting(world) == 0);
    assert_eq!(receiver.ids().len(), 1);
    world.release(&[]).expect(0);
    world.wait("the next one is told once", |_| receiver.all().len() == 4);
    assert_eq!(receiver.ids().len(), 2);
    assert_eq!(warnings(&world), "null");
}

/// Down, while the supervisor and then the machine go down: all is told in the end, in order, and
/// each has one id.
#[test]
fn what_waits_outlives_the_supervisor_and_the_machine() {
    let address = free_address();
    let url = format!("http://{address}/");
    let mut world = World::with(&format!("[notify.hook]\nhttp = \"{url}\"\n{EVENTS}\n"));
    world.release(&[]).expect(0);
    assert_eq!(waiting(&world), 1);
    let file = world.path("root/outbox/0000001.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    world.wait("it is said", |world| {
        warnings(world).contains("notify hook: 1 notification waiting")
    });
    world.kill_supervisor();
    world.wait("another supervisor", |world| world.cli(&["status"]).code == 0);
    assert_eq!(waiting(&world), 1);
    world.release(&["exit=3"]).expect(20);
    world.power_cut();
    world.wake();
    assert_eq!(waiting(&world), 2);
    let receiver = Receiver::at(address, &[200]);
    world.wait("all are told", |world| waiting(world) == 0);
    assert_eq!(receiver.events(), ["committed", "failed"]);
    assert_eq!(receiver.ids().len(), 2);
    world.wait("nothing is wrong any more", |world| warnings(world) == "null");
}

/// Killed when the file is written and the result is not told: the operation ends once more, and
/// what is told of it has the same id.
#[test]
fn a_supervisor_killed_before_the_delivery_tells_it_under_one_id() {
    let address = free_address();
    let url = format!("http://{address}/");
    let world = World::with(&format!("[notify.hook]\nhttp = \"{url}\"\n{EVENTS}\n"));
    for n in 1..=3 {
        let build = world.build(&[]);
        world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
        world.wait("it is written", |world| waiting(world) >= n);
        world.kill_supervisor();
        world.wait("it is over", |world| {
            let status = world.status();
            status["operation"].is_null() && status["last_good"] == n
        });
    }
    let receiver = Receiver::at(address, &[200]);
    world.wait("all are told", |world| waiting(world) == 0);
    assert_eq!(receiver.ids().len(), 3, "{:?}", receiver.all());
    assert_eq!(receiver.all().len(), 3, "none is told twice");
}

#[test]
fn what_is_never_taken_is_laid_aside_and_said() {
    let receiver = Receiver::new(&[400, 400, 400, 200]);
    let world = World::with(&hook(&receiver));
    world.release(&[]).expect(0);
    world.release(&[]).expect(0);
    world.wait("the second is told", |world| receiver.all().len() == 4 && waiting(world) == 0);
    assert_eq!(receiver.ids().len(), 2);
    assert!(world.path("root/outbox/dead/0000001.json").is_file());
    let said = world.cli(&["status"]).expect(0).stdout;
    assert!(said.contains("! 1 notification never delivered: "), "{said}");
    // Removed by hand, nothing is said any more.
    fs::remove_file(world.path("root/outbox/dead/0000001.json")).unwrap();
    assert_eq!(warnings(&world), "null");
}

#[test]
fn what_cannot_be_delivered_for_too_long_is_laid_aside() {
    let receiver = Receiver::new(&[500]);
    let world = World::with(&format!("{}give_up = \"1ms\"\n", hook(&receiver)));
    world.release(&[]).expect(0);
    world.wait("it is laid aside", |world| waiting(world) == 0);
    assert!(world.path("root/outbox/dead/0000001.json").is_file());
    assert_eq!(receiver.all().len(), 3);
}

/// A target that hangs holds nobody up: not the result, not another target.
#[test]
fn one_that_hangs_delays_nobody_and_is_killed_at_its_deadline() {
    let receiver = Receiver::new(&[200]);
    let hanging = |deadline: &str| {
        format!(
            "{}[notify.slow]\ncommand = [\"sleep\", \"1000\"]\n{EVENTS}\ndeadline = \"{deadline}\"",
            hook(&receiver)
        )
    };
    let world = World::with(&hanging("1h"));
    world.release(&[]).expect(0);
    world.wait("the other is told", |_| receiver.all().len() == 1);
    world.release(&[]).expect(0);
    world.wait("it is told again", |_| receiver.all().len() == 2);
    world.wait("the slow one is not", |world| waiting(world) == 2);
    drop(world);
    let world = World::with(&hanging("200ms"));
    world.release(&[]).expect(0);
    world.wait("it was killed", |world| {
        warnings(world).contains("sleep 1000: killed: it ran longer than 200ms")
    });
}

#[test]
fn an_outbox_that_cannot_be_written_is_a_warning() {
    let receiver = Receiver::new(&[200]);
    let world = World::with(&hook(&receiver));
    halley_sup::os::fs::remove_tree(&world.path("root/outbox")).unwrap();
    fs::write(world.path("root/outbox"), "in the way").unwrap();
    let said = world.release(&[]).expect(0).result();
    assert_eq!(said["outcome"], "committed");
    let warning = said["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.starts_with("notify hook: committed is not sent: "), "{said}");
}

#[test]
fn at_rest_what_gets_worse_is_told_once_and_when_it_is_well_again() {
    let receiver = Receiver::new(&[200]);
    let mut world = World::asleep(free_address());
    let well = world.path("well");
    fs::write(&well, "").unwrap();
    let events = r#"events = ["degraded", "recovered"]"#;
    let more = format!("[notify.hook]\nhttp = \"{}\"\n{events}\n", receiver.url());
    let check = format!("exec = [\"/usr/bin/test\", \"-e\", \"{}\"]", well.display());
    let text = config(world.address, &more)
        .replace("http = \"/healthz\"", &check)
        .replace("rest_interval = \"off\"", "rest_interval = \"50ms\"");
    world.configure(&text);
    world.wake();
    world.release(&[]).expect(0);
    fs::remove_file(&well).unwrap();
    world.wait("it is told", |world| receiver.events() == ["degraded"] && waiting(world) == 0);
    assert_eq!(receiver.all()[0]["what"], "web: degraded");
    assert!(text_of_why(&receiver).contains("exit 1"), "{:?}", receiver.all());
    world.kill_supervisor();
    world.wait("it is seen again", |world| world.status()["state"] == "degraded");
    fs::write(&well, "").unwrap();
    world.wait("it is well", |_| receiver.events().len() >= 2);
    assert_eq!(receiver.events(), ["degraded", "recovered"]);
    assert_eq!(receiver.ids().len(), 2);
}

fn text_of_why(receiver: &Receiver) -> String {
    text(&receiver.all()[0], "why")
}

#[test]
fn a_live_release_that_cannot_be_started_again_is_told() {
    let receiver = Receiver::new(&[200]);
    let world = World::with(&format!("[notify.hook]\nhttp = \"{}\"\n", receiver.url()));
    let build = world.build_of(&["./run"]);
    let script = format!("#!/bin/sh\nexec {} demo-service\n", crate::world::BINARY);
    fs::write(build.join("run"), script).unwrap();
    fs::set_permissions(build.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    world.release_path(&build).expect(0);
    let tree = world.service_path("releases/1");
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(tree.join("run")).unwrap();
    kill(world.live_pid(), libc::SIGKILL);
    world.wait("it is told", |_| receiver.events() == ["degraded"]);
    assert!(text_of_why(&receiver).contains("cannot be started again"), "{:?}", receiver.all());
}

#[test]
fn rollbacks_and_what_waits_for_a_word_are_told() {
    let receiver = Receiver::new(&[200]);
    let world = World::with(&format!("[notify.hook]\nhttp = \"{}\"\n", receiver.url()));
    let text = config(world.address, &format!("[notify.hook]\nhttp = \"{}\"\n", receiver.url()))
        .replace("for = \"200ms\"", "for = \"200ms\"\nmin_samples = 4000\ninconclusive = \"hold\"");
    world.release(&[]).expect(0);
    world.reload(&text);
    world.release(&[]).expect(22);
    world.wait("it is told", |_| receiver.events() == ["held"]);
    assert_eq!(receiver.all()[0]["next"][0], "halley-sup promote web");
    world.cli(&["abort", "web"]);
    world.wait("it is told", |_| receiver.events() == ["held", "failed"]);
    world.release_path(&world.build(&[])).expect(22);
    world.cli(&["promote", "web"]).expect(0);
    world.cli(&["rollback", "web"]).expect(0);
    world.wait("it is told", |_| receiver.events().last().is_some_and(|e| e == "rolled_back"));
    assert_eq!(receiver.all().last().unwrap()["what"], "web: rolled back to release 1");
}

#[test]
fn who_tries_a_target_out_hears_what_came_of_it() {
    let receiver = Receiver::new(&[200]);
    let down = free_address();
    let world =
        World::with(&format!("{}[notify.down]\nhttp = \"http://{down}/\"\n", hook(&receiver)));
    world.cli(&["notify", "hook"]).expect(0);
    assert_eq!(receiver.events(), ["test"]);
    let said = world.cli(&["notify", "down"]).expect(1).stderr;
    assert!(
        said.contains("the notification to down was not delivered") && said.contains("refused"),
        "{said}"
    );
    let said = world.cli(&["notify", "hok"]).expect(2).stderr;
    assert!(said.contains("did you mean hook?"), "{said}");
    assert_eq!(waiting(&world), 0);
}

/// A target whose command is this script.
fn scripted(name: &str, script: &str) -> String {
    format!("[notify.{name}]\ncommand = [\"/bin/sh\", \"-c\", {script:?}]\ndeadline = \"1s\"\n")
}

#[test]
fn how_a_command_ends_is_told_with_its_last_lines() {
    let scripts = [
        ("good", "grep -q '\"event\":\"test\"' && test $HALLEY_EVENT = test"),
        ("background", "sleep 1000 & exit 0"),
        ("code", "echo out; echo err >&2; exit 3"),
        ("signal", "kill -9 $$"),
        ("many", "seq 1 99999; exit 1"),
        ("endless", "yes"),
        ("hangs", "sleep 1001 & echo out; sleep 1001"),
    ];
    let mut more: String = scripts.iter().map(|(name, script)| scripted(name, script)).collect();
    more.push_str("[notify.absent]\ncommand = [\"/no/such\"]\n");
    let world = World::with(&more);
    let why = |name: &str, code: i32| {
        let said = world.cli(&["notify", name, "--json"]).expect(code).result();
        text(&said, "why")
    };
    assert_eq!((why("good", 0), why("background", 0)), (String::new(), String::new()));
    for (name, end) in [
        ("code", ": exit 3: err"),
        ("signal", ": killed by SIGKILL"),
        ("many", ": exit 1: 99992\n99993\n99994\n99995\n99996\n99997\n99998\n99999"),
        ("endless", ": killed: it ran longer than 1s\ny\ny\ny\ny\ny\ny\ny\ny"),
        ("hangs", ": killed: it ran longer than 1s\nout"),
        ("absent", "/no/such: no such file; is it installed?"),
    ] {
        let why = why(name, 1);
        assert!(why.ends_with(end), "{name}: {why}");
    }
    let sleeping = |seconds: &str| {
        let is_it = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|l| l.contains(seconds))
        };
        world.left_behind().into_iter().find(is_it)
    };
    assert_eq!(sleeping("1001"), None, "what hangs is killed with its children");
    // What a good command leaves in the background goes on.
    kill(sleeping("1000").unwrap(), libc::SIGKILL);
    world.wait("it is gone", |_| sleeping("1000").is_none());
}

#[test]
fn a_supervisor_killed_in_a_delivery_leaves_no_command_behind() {
    let mut world = World::asleep(free_address());
    let path = |name: &str| world.path(name).display().to_string();
    let (hang, told) = (path("hang"), path("told"));
    let script = format!(
        "cat >> {told}.begun; if rm {hang}; then sleep 1002 & sleep 1002; fi; echo $HALLEY_ID >> {told}"
    );
    let more = format!("[notify.x]\ncommand = [\"/bin/sh\", \"-c\", {script:?}]\n{EVENTS}\n");
    world.configure(&config(world.address, &more));
    world.wake();
    fs::write(world.path("hang"), "").unwrap();
    world.release(&[]).expect(0);
    world.wait("it hangs", |world| !world.path("hang").exists());
    world.kill_supervisor();
    world.wait("it is delivered again", |world| world.path("told").exists() && waiting(world) == 0);
    assert_eq!(fs::read_to_string(world.path("told")).unwrap().lines().count(), 1);
    let is_left = world.left_behind().into_iter().any(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("1002"))
    });
    assert!(!is_left, "a child of the command is left");
}
