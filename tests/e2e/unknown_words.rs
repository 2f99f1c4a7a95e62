//! A journal with a word that this version does not know: what runs goes on serving, the operation
//! is not resumed, and a human closes it.

use halley_sup::core::ids::OpId;
use halley_sup::demo::load::Shape;
use halley_sup::store::journal::{self, Intent, Journal, Record};
use halley_sup::store::layout::{Layout, ServiceLayout};
use halley_sup::store::state_word::StateWord;
use serde_json::Value;

use crate::world::{World, config, kill};

/// Two releases with a long bake; the second is in it.
fn baking() -> World {
    let mut world = World::asleep(crate::world::free_address());
    world.configure(&config(world.address, "").replace("for = \"200ms\"", "for = \"60s\""));
    world.wake();
    for _ in 0..2 {
        let build = world.build(&[]);
        world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
        world.wait("it bakes", |world| world.status()["operation"]["phase"] == "bake");
        if world.status()["operation"]["op"] == 1 {
            world.cli(&["promote", "web"]).expect(0);
        }
    }
    world
}

fn paths(world: &World) -> ServiceLayout {
    Layout::new(&world.path("root")).service(&"web".parse().unwrap())
}

/// Puts another journal in the place of the open operation's.
fn rewrite(world: &World, change: impl FnOnce(&mut Intent, &mut Vec<Record>)) {
    let paths = paths(world);
    let (mut intent, mut records) = journal::read(&paths, OpId(2)).unwrap().unwrap();
    change(&mut intent, &mut records);
    std::fs::rename(paths.op(OpId(2)), world.path("before")).unwrap();
    let mut journal = Journal::create(&paths, &intent).unwrap();
    records.iter().for_each(|record| journal.announce(record).unwrap());
}

/// Another supervisor comes up and finds what is left.
fn revived(world: &World) -> Value {
    let before = world.supervisor_pid();
    world.kill_supervisor();
    world.wait("another supervisor", |world| {
        world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
            && world.cli(&["status"]).code == 0
    });
    world.status()
}

fn pids(status: &Value) -> Vec<i64> {
    let instances = status["instances"].as_array().cloned().unwrap_or_default();
    let mut pids: Vec<i64> = instances.iter().filter_map(|i| i["pid"].as_i64()).collect();
    pids.sort_unstable();
    pids
}

/// Loud and at rest: the alarm names the journal and the word, and nothing runs but what ran.
#[track_caller]
fn left_open(world: &World, status: &Value, word: &str) {
    let journal = journal::path(&paths(world), OpId(2));
    assert_eq!(status["state"], "degraded", "{status}");
    assert_eq!(status["operation"], Value::Null, "{status}");
    let (what, why) = (&status["alarm"]["what"], status["alarm"]["why"].as_str().unwrap());
    assert_eq!(what, "web: operation 2 cannot be resumed");
    assert!(why.contains(&journal.display().to_string()), "{why}");
    assert!(why.contains(word), "{why}");
    assert_eq!(status["alarm"]["next"][0], "halley-sup abort web");
}

#[test]
fn an_operation_with_an_unknown_word_is_left_open_and_its_processes_serve_on() {
    let world = baking();
    let before = pids(&world.status());
    assert_eq!(before.len(), 2);
    let load = world.load(Shape::Short);
    rewrite(&world, |intent, _| intent.succession = "sideways".to_owned());
    for _ in 0..2 {
        let status = revived(&world);
        left_open(&world, &status, "line 1: unknown succession \"sideways\"");
        assert_eq!((&status["serving"], &status["last_good"]), (&2.into(), &1.into()), "{status}");
        assert_eq!(pids(&status), before, "{status}");
    }
    // Nothing is begun, in four lines that say the way out.
    for verb in [&["release", "web", "."][..], &["rollback", "web"], &["restart", "web"]] {
        let said = world.cli(verb).expect(9);
        let lines: Vec<&str> = said.stderr.lines().collect();
        let whole = lines.join("\n");
        assert!(lines[0].contains("web: operation 2 cannot be resumed"), "{whole}");
        assert!(lines[1].contains("line 1: unknown succession \"sideways\""), "{whole}");
        assert!(lines[2].contains("release 2 is serving"), "{whole}");
        assert!(lines[3].contains("halley-sup abort web"), "{whole}");
    }
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    // What serves is kept up meanwhile.
    let live = world.live_pid();
    kill(live, libc::SIGKILL);
    world.wait("it is started again", |world| ![0, live].contains(&world.live_pid()));
    assert_eq!(world.answering(), Some(2));
    let load = world.load(Shape::Short);
    // Closed, a rollback like any other leads to what served before.
    let said = world.cli(&["abort", "web", "--json"]).expect(0).result();
    assert_eq!((&said["outcome"], &said["op"]), (&"rolled_back".into(), &3.into()), "{said}");
    assert_eq!((&said["serving"], &said["last_good"]), (&1.into(), &1.into()), "{said}");
    let status = revived(&world);
    assert_eq!((&status["alarm"], &status["serving"]), (&Value::Null, &1.into()), "{status}");
    assert_eq!((&status["state"], &status["trial"]), (&"running".into(), &Value::Null));
    let history = world.cli(&["history", "web", "--json"]).stdout;
    assert_eq!(history.matches("\"outcome\":\"aborted\"").count(), 1, "{history}");
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    let build = world.build(&[]);
    world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
    world.wait("it bakes", |world| world.status()["operation"]["phase"] == "bake");
    world.cli(&["promote", "web"]).expect(0);
}

#[test]
fn no_word_of_a_journal_has_a_default() {
    let odd = || "sideways".to_owned();
    type Change = fn(&mut Intent, &mut Vec<Record>, String);
    let changes: [(&str, Change); 6] = [
        ("unknown kind \"sideways\"", |intent, _, odd| intent.kind = odd),
        ("unknown inconclusive \"sideways\"", |intent, _, odd| intent.inconclusive = odd),
        ("unknown before \"sideways\"", |intent, _, odd| intent.before = odd),
        ("unknown phase \"sideways\"", |_, records, odd| {
            records.push(Record::start(&odd, "", None));
        }),
        ("unknown cause \"sideways\"", |_, records, odd| records[0].cause = odd),
        ("unknown state \"sideways\"", |_, records, odd| {
            records[0].state = Some(StateWord::Newer(odd));
        }),
    ];
    let world = baking();
    let before = pids(&world.status());
    for (word, change) in changes {
        rewrite(&world, |intent, records| change(intent, records, odd()));
        let status = revived(&world);
        left_open(&world, &status, word);
        assert_eq!(status["serving"], 2, "{word}: {status}");
        assert_eq!(pids(&status), before, "{word}: {status}");
        // As it was: the next word is another one's.
        std::fs::remove_dir_all(paths(&world).op(OpId(2))).unwrap();
        std::fs::rename(world.path("before"), paths(&world).op(OpId(2))).unwrap();
    }
    // With its own journal it is gone on with.
    let status = revived(&world);
    assert_eq!(status["operation"]["op"], 2, "{status}");
    world.cli(&["promote", "web"]).expect(0);
}

/// One instance alone, before its gate: nothing serves, and nothing is started beside what runs.
#[test]
fn what_allows_only_one_instance_is_not_started_beside_another() {
    let mut world = World::asleep(crate::world::free_address());
    let text = config(world.address, "").replace("min_healthy = \"60ms\"", "min_healthy = \"20s\"");
    let hold = |text: &str| {
        text.replace("[service.web.health]", "strategy = \"hold\"\n[service.web.health]")
    };
    world.configure(&hold(&config(world.address, "")));
    world.wake();
    world.release(&["alone"]).expect(0);
    world.reload(&hold(&text.replace("deadline = \"5s\"", "deadline = \"30s\"")));
    let build = world.build(&["alone"]);
    world.cli(&["release", "web", &build.to_string_lossy(), "--detach"]).expect(40);
    world.wait("it is at its gate", |world| world.status()["operation"]["phase"] == "gate");
    let before = pids(&world.status());
    assert_eq!(before.len(), 1);
    let load = world.load(Shape::Short);
    rewrite(&world, |intent, _| intent.succession = "sideways".to_owned());
    let status = revived(&world);
    left_open(&world, &status, "unknown succession \"sideways\"");
    assert_eq!(status["serving"], Value::Null, "{status}");
    assert_eq!(pids(&status), before, "{status}");
    // Closed, the last good release comes back, alone, and connections have waited for it.
    world.cli(&["abort", "web"]).expect(23);
    world.wait("the last good one serves", |world| {
        world.status()["serving"] == 1 && world.is_alone()
    });
    assert!(load.wait_for(20));
    let ledger = load.stop();
    assert_eq!(ledger.n_lost(), 0, "{}", ledger.losses());
    assert_eq!(world.answering(), Some(1));
}
