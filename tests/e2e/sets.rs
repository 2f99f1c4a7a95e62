//! Several services as one: all new or all old.

use serde_json::Value;

use crate::trio::{NAMES, Trio, bakes, baking, members, promoted, story, strs};
use crate::world::World;

#[test]
fn three_services_go_live_one_after_the_other_and_lose_nothing() {
    let trio = Trio::new().released();
    let loads = trio.loads();
    let (arguments, _) = trio.arguments([""; 3]);
    let said = trio.world.cli(&strs(&arguments)).expect(0);
    let result = said.result();
    assert_eq!(
        members(&result),
        ["core committed 0 2", "api committed 0 2", "web committed 0 2"],
        "{result}"
    );
    assert_eq!((&result["outcome"], &result["op"]), (&"committed".into(), &2.into()));
    assert_eq!(result["service"], "core,api,web");
    let expected = [
        "release core",
        "committed core",
        "release api",
        "committed api",
        "release web",
        "committed web",
    ];
    assert_eq!(story(&said.stdout), expected);
    assert_eq!(trio.serving(), [2; 3]);
    trio.nothing_was_lost(loads);
    let history = trio.world.cli(&["history", "--json"]).expect(0).stdout;
    let sets: Vec<&str> = history.lines().filter(|line| line.contains(r#""kind":"set""#)).collect();
    assert_eq!(sets.len(), 2, "{history}");
    let own = trio.world.cli(&["history", "api", "--json"]).expect(0).stdout;
    assert_eq!(own.lines().count(), 4, "{own}");
    // Who watches afterwards sees the same.
    let later = trio.world.cli(&["watch", "--set", "2", "--json"]).expect(0);
    assert_eq!(story(&later.stdout), expected);
    assert_eq!(members(&later.result()), members(&result));
    let shown = trio.world.cli(&["watch", "--set", "2"]).expect(0);
    assert!(shown.stderr.contains("=====> set 2  core, api, web  (by tester)"), "{}", shown.stderr);
    assert!(shown.stderr.contains("\n       web   gate  "), "{}", shown.stderr);
    assert!(shown.stdout.contains("core     2   2        committed  0     2"), "{}", shown.stdout);
    assert!(shown.stdout.ends_with("set 2: all releases are live\n"), "{}", shown.stdout);
    trio.world.cli(&["watch", "--set", "9"]).expect(2);
}

#[test]
fn when_the_third_fails_its_gate_the_first_two_go_back_newest_first() {
    let trio = Trio::new().released();
    let loads = trio.loads();
    let (arguments, builds) = trio.arguments(["", "", "unhealthy"]);
    let said = trio.world.cli(&strs(&arguments)).expect(21);
    let result = said.result();
    let expected = ["core rolled_back 21 1", "api rolled_back 21 1", "web gate_failed 20 1"];
    assert_eq!(members(&result), expected, "{result}");
    assert_eq!(result["outcome"], "rolled_back");
    let story = story(&said.stdout);
    let back = ["rollback api", "rolled_back api", "rollback core", "rolled_back core"];
    assert_eq!(story[story.len() - 5], "gate_failed web");
    assert_eq!(story[story.len() - 4..], back);
    let trouble = &result["trouble"];
    assert!(trouble["why"].as_str().unwrap().starts_with("web: "), "{trouble}");
    assert_eq!(
        trouble["still"],
        "core: release 1 is serving\napi: release 1 is serving\nweb: release 1 is serving"
    );
    assert_eq!(trio.serving(), [1; 3]);
    trio.nothing_was_lost(loads);
    // What went back for another's sake is not frozen: the same builds go again.
    let mended = [&builds[..2], &[trio.world.build(&[])]].concat();
    let again = trio.world.cli(&strs(&trio.arguments_of(&mended))).expect(0);
    assert_eq!(again.result()["outcome"], "committed");
}

#[test]
fn when_the_third_turns_bad_in_its_bake_all_are_old_again() {
    // The rollback ends it early; a shorter bake may end on a busy machine before it has seen enough.
    let alter = |name: &str, text: String| match name {
        "web" => text.replace("for = \"200ms\"", "for = \"2s\""),
        _ => text,
    };
    let trio = Trio::with(&alter).released();
    let loads = trio.loads();
    let result = trio.set(["", "", "bad-after-times=3"]);
    let expected = ["core rolled_back 21 1", "api rolled_back 21 1", "web rolled_back 21 1"];
    assert_eq!(members(&result), expected, "{result}");
    assert_eq!((&result["exit"], &result["members"][2]["back"]), (&21.into(), &Value::Null));
    assert!(!result["members"][0]["back"].is_null());
    assert_eq!(trio.serving(), [1; 3]);
    trio.nothing_was_lost(loads);
}

#[test]
fn when_the_first_fails_nothing_was_flipped_and_its_own_code_is_told() {
    let trio = Trio::new().released();
    let result = trio.set(["exit=3", "", ""]);
    let expected = ["core gate_failed 20 1", "api not_begun null 1", "web not_begun null 1"];
    assert_eq!(members(&result), expected, "{result}");
    assert_eq!((&result["outcome"], &result["exit"]), (&"gate_failed".into(), &20.into()));
    assert_eq!(trio.serving(), [1; 3]);
    assert!(!trio.world.path("root/api/ops/0000002").exists());
}

#[test]
fn a_first_release_has_nothing_to_go_back_to_and_stays() {
    let trio = Trio::new();
    let result = trio.set(["", "", "exit=3"]);
    let expected = ["core kept 0 1", "api kept 0 1", "web gate_failed 20 null"];
    assert_eq!(members(&result), expected, "{result}");
    assert_eq!(result["exit"], 20);
    assert!(result["warnings"][0].as_str().unwrap().contains("core: release 1 stays live"));
    assert_eq!(World::answering_at(trio.addresses[1]), Some(1));
}

#[test]
fn what_can_be_known_before_is_refused_before_and_all_at_once() {
    let trio = Trio::new().released();
    let world = &trio.world;
    let build = world.build(&[]).display().to_string();
    world.cli(&["stop", "api"]).expect(0);
    let set = format!("wep={build},api={build},core={build},core=-,web=/no/such/build");
    let said = world.cli(&["release", "--json", "--set", &set]).expect(10).result();
    let why = said["why"].as_str().unwrap().to_owned();
    for line in [
        "there is no service wep; did you mean web?",
        "api: it is stopped",
        "core: named twice",
        "web: /no/such/build: No such file",
    ] {
        assert!(why.contains(line), "{why}");
    }
    assert_eq!(why.lines().count(), 4, "{why}");
    world.cli(&["start", "api"]).expect(0);
    let twice = format!("web={build},web={build}");
    world.cli(&["release", "--set", &twice]).expect(2);
    world.cli(&["release", "--set", "web"]).expect(2);
    world.cli(&["release", "--set", &twice, "web", &build]).expect(2);
    for name in NAMES {
        assert!(!world.path(&format!("root/{name}/ops/0000002")).exists(), "{name}");
    }
    assert!(!world.path("root/sets/0000002").exists());
    assert_eq!(trio.serving(), [1; 3]);
}

#[test]
fn members_of_a_running_set_are_nobody_elses() {
    let trio = baking();
    let world = &trio.world;
    trio.detach([""; 3]);
    bakes(&trio);
    let running = trio.running();
    assert_eq!((&running["set"], &running["member"]), (&2.into(), &"api".into()), "{running}");
    let shown = world.cli(&["status"]).stdout;
    assert!(shown.contains("set 2 (core, api, web by tester) has run since"), "{shown}");
    let build = world.build(&[]).display().to_string();
    for arguments in [
        ["release", "core", build.as_str()].as_slice(),
        &["rollback", "core"],
        &["restart", "web"],
        &["stop", "web"],
    ] {
        let said = world.cli(arguments).expect(9);
        assert!(said.stderr.contains("set 2 (core,api,web by tester)"), "{}", said.stderr);
        assert!(said.stderr.contains("halley-sup watch --set 2"), "{}", said.stderr);
    }
    let said = world.cli(&["release", "--set", &format!("web={build}"), "--json"]).expect(9);
    assert!(said.stdout.contains("only one set runs at a time"), "{}", said.stdout);
    promoted(&trio);
    let watched = world.cli(&["watch", "--set", "2", "--json"]).expect(0);
    assert_eq!(story(&watched.stdout).len(), 6, "{}", watched.stdout);
    assert_eq!(trio.serving(), [2; 3]);
    // They are free again.
    world.cli(&["rollback", "core"]).expect(0);
}

#[test]
fn a_member_of_a_running_operation_is_busy() {
    let trio = baking();
    let build = trio.world.build(&[]).display().to_string();
    trio.world.cli(&["release", "api", &build, "--detach"]).expect(40);
    bakes(&trio);
    let said = trio.set([""; 3]);
    assert_eq!(said["exit"], 9);
    assert!(said["why"].as_str().unwrap().starts_with("api: operation 2 (release by tester)"));
    trio.world.cli(&["abort", "api"]).expect(23);
    assert!(!trio.world.path("root/core/ops/0000002").exists());
}

#[test]
fn abort_of_any_member_takes_the_whole_set_back() {
    let trio = baking();
    for (set, member) in (2..).zip(NAMES) {
        let loads = trio.loads();
        trio.detach([""; 3]);
        bakes(&trio);
        // A rollback is refused, and names the way back that there is.
        let refused = trio.world.cli(&["rollback", member, "--json"]).expect(9).result();
        assert_eq!(refused["next"][1], format!("halley-sup abort {member}"), "{refused}");
        let said = trio.world.cli(&["abort", member, "--json"]).expect(21).result();
        let expected = ["core rolled_back 21 1", "api aborted 23 1", "web not_begun null 1"];
        assert_eq!(members(&said), expected, "{said}");
        // For a supervisor that comes after this one.
        let written =
            r#""op":OP,"aborted_by":"tester""#.replace("OP", &said["members"][1]["op"].to_string());
        assert!(trio.journal(set).contains(&written), "{}", trio.journal(set));
        assert_eq!(trio.serving(), [1; 3]);
        trio.nothing_was_lost(loads);
    }
}

/// It cannot be started, and it is not there at all.
#[test]
fn a_member_whose_rollback_fails_is_named_and_the_others_go_back() {
    for gone in ["meta/1/settings.json", "meta/1"] {
        without(gone);
    }
}

fn without(gone: &str) {
    let alter = |name: &str, text: String| match name {
        "core" => format!("{text}[service.core.keep]\nstandby = \"0s\"\n"),
        "web" => text.replace("for = \"200ms\"", "for = \"600s\""),
        _ => text,
    };
    let trio = Trio::with(&alter);
    let world = &trio.world;
    let web_bakes = || {
        world.wait("the third bakes", |world| {
            world.status_of("web")["operation"]["phase"] == "bake"
        });
    };
    trio.detach([""; 3]);
    web_bakes();
    world.cli(&["promote", "web"]).expect(0);
    world.wait("the set is over", |_| trio.running().is_null());
    let loads = trio.loads();
    trio.detach([""; 3]);
    web_bakes();
    // Nothing of the release before runs, and it cannot be started: there is no way back.
    world.wait("the old one is gone", |world| {
        world.status_of("core")["instances"].as_array().is_some_and(|all| all.len() == 1)
    });
    halley_sup::os::fs::remove_tree(&world.path("root/core").join(gone)).unwrap();
    let said = world.cli(&["abort", "web", "--json"]).expect(30).result();
    let expected = ["core rollback_failed 30 2", "api rolled_back 21 1", "web aborted 23 1"];
    assert_eq!(members(&said), expected, "{said}");
    assert_eq!(said["trouble"]["what"], "set 2: the rollback of core failed");
    let alarm = &world.status_of("core")["alarm"];
    assert_eq!(alarm["exit"], 30, "{alarm}");
    trio.nothing_was_lost(loads);
}

#[test]
fn a_member_that_waits_for_a_word_says_so_and_the_set_goes_on_after_it() {
    let alter = |name: &str, text: String| match name {
        "api" => text.replace(
            "for = \"200ms\"",
            "for = \"200ms\"\nmin_samples = 1000\ninconclusive = \"hold\"",
        ),
        _ => text,
    };
    let trio = Trio::with(&alter);
    let said = trio.set([""; 3]);
    assert_eq!((&said["exit"], &said["service"]), (&22.into(), &"api".into()), "{said}");
    assert_eq!(said["next"][0], "halley-sup promote api");
    trio.world.cli(&["promote", "api"]).expect(0);
    trio.world.wait("the set is over", |_| trio.running().is_null());
    assert_eq!(trio.serving(), [1; 3]);
}

#[test]
fn artifacts_come_from_stdin_too_once() {
    let trio = Trio::new();
    let build = trio.world.build(&[]).display().to_string();
    let tar = trio.world.path("core.tar");
    let mut pack = std::process::Command::new("tar");
    let packed = pack.args(["-C", &build, "-cf"]).arg(&tar).arg(".").status().unwrap();
    assert!(packed.success());
    let set = format!("web={build},core=-");
    let mut command = trio.world.command(&["release", "--json", "--set", &set]);
    let output = command.stdin(std::fs::File::open(tar).unwrap()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert_eq!(story(&text)[1..3], ["committed core", "release web"]);
    let said = trio.world.cli(&["release", "--json", "--set", "web=-,core=-"]).expect(2).result();
    assert!(
        said["why"].as_str().unwrap().contains("it can be used for one service only"),
        "{said}"
    );
}
