//! A set that is cut off wherever it is ends in all new or all old.

use std::process::Stdio;

use halley_sup::core::ids::SetId;
use halley_sup::store::layout::Layout;
use halley_sup::store::set::{self, Kind, Record, Step};
use serde_json::Value;

use crate::trio::{Trio, bakes, baking, members};

/// Kills the supervisor when a file has this text, and waits for the end of the set.
fn killed_when(trio: &Trio, behaviours: [&str; 3], what: &str, is_there: impl Fn(&Trio) -> bool) {
    let mut command = trio.command(behaviours);
    let client = command.stdout(Stdio::piped()).spawn().unwrap();
    trio.world.wait(what, |_| is_there(trio) || trio.journal(2).contains(r#""step":"done""#));
    trio.world.kill_supervisor();
    let output = client.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let last: Value = serde_json::from_str(text.lines().last().unwrap_or("null")).unwrap();
    trio.world.wait("the set is over", |_| trio.journal(2).contains(r#""step":"done""#));
    let serving = trio.serving();
    let all_new = serving == [2; 3];
    let may_be_new = behaviours == [""; 3];
    assert!(serving == [1; 3] || (all_new && may_be_new), "{what}: {serving:?} {text}");
    let exit = if all_new { 0 } else { last["exit"].as_u64().unwrap() };
    assert_eq!(last["exit"], exit, "{what}: {text}");
    assert!(all_new || [21, 23].contains(&exit), "{what}: {text}");
    let told: Vec<_> =
        members(&last).iter().map(|m| m.rsplit(' ').next().unwrap().to_owned()).collect();
    assert_eq!(told, serving.map(|n| n.to_string()), "{what}: {text}");
}

/// Lines of the set's journal that are met on the way to all new.
const FORWARD: [&str; 6] = [
    r#""step":"begin","index":0,"kind":"release""#,
    r#""step":"end","came":"committed","member":{"service":"core""#,
    r#""step":"begin","index":1,"kind":"release""#,
    r#""step":"end","came":"committed","member":{"service":"api""#,
    r#""step":"begin","index":2,"kind":"release""#,
    r#""step":"end","came":"committed","member":{"service":"web""#,
];

/// And on the way back.
const BACK: [&str; 5] = [
    r#""step":"back""#,
    r#""step":"begin","index":1,"kind":"rollback""#,
    r#""step":"end","came":"back","member":{"service":"api""#,
    r#""step":"begin","index":0,"kind":"rollback""#,
    r#""step":"end","came":"back","member":{"service":"core""#,
];

#[test]
fn a_supervisor_killed_on_the_way_ends_in_all_new_or_all_old() {
    for line in FORWARD {
        let trio = Trio::new().released();
        let loads = trio.loads();
        killed_when(&trio, [""; 3], line, |trio| trio.journal(2).contains(line));
        trio.nothing_was_lost(loads);
    }
}

#[test]
fn a_supervisor_killed_on_the_way_back_ends_in_all_old() {
    for line in BACK {
        let trio = Trio::new().released().impatient();
        let loads = trio.loads();
        killed_when(&trio, ["", "", "unhealthy"], line, |trio| trio.journal(2).contains(line));
        trio.nothing_was_lost(loads);
    }
}

#[test]
fn so_it_does_when_killed_in_a_members_phase() {
    for (name, phase) in [("api", "receive"), ("api", "gate"), ("web", "bake"), ("web", "commit")] {
        let trio = Trio::new().released();
        let loads = trio.loads();
        let line = format!(r#""phase":"{phase}","state":"start""#);
        killed_when(&trio, [""; 3], &format!("{name} {phase}"), |trio| {
            trio.op_journal(name, 2).contains(&line)
        });
        trio.nothing_was_lost(loads);
    }
}

/// The members after it are not begun without their artifacts: what was committed goes back, also
/// what the next supervisor has seen to its end.
#[test]
fn a_crash_in_a_member_is_followed_to_its_end_and_the_set_goes_back() {
    let trio = baking();
    trio.detach([""; 3]);
    bakes(&trio);
    let before = trio.world.supervisor_pid();
    trio.world.kill_supervisor();
    trio.world.wait("another supervisor", |world| {
        world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
            && world.cli(&["status"]).code == 0
    });
    bakes(&trio);
    let running = trio.running();
    assert_eq!((&running["set"], &running["member"]), (&2.into(), &"api".into()), "{running}");
    trio.world.cli(&["restart", "web"]).expect(9);
    trio.world.cli(&["promote", "api"]).expect(0);
    let said = trio.world.cli(&["watch", "--set", "2", "--json"]).expect(21).result();
    let expected = ["core rolled_back 21 1", "api rolled_back 21 1", "web not_begun null 1"];
    assert_eq!(members(&said), expected, "{said}");
    assert!(said["trouble"]["why"].as_str().unwrap().contains("went down during the set"));
    assert_eq!(trio.serving(), [1; 3]);
}

/// An abort is written down before the member hears of it: killed in between, the next supervisor tells it.
#[test]
fn an_abort_that_no_member_has_heard_of_yet_outlives_the_supervisor() {
    let trio = baking();
    trio.detach([""; 3]);
    bakes(&trio);
    let layout = Layout::new(&trio.world.path("root"));
    let (kind, aborted_by) = (Kind::Release, Some("ops".to_owned()));
    let begun = Record::new(Step::Begin { index: 1, kind, op: 2, aborted_by });
    set::reopen(&layout, SetId(2)).unwrap().announce(&begun).unwrap();
    trio.world.kill_supervisor();
    trio.world.wait("the set is over", |_| trio.journal(2).contains(r#""step":"done""#));
    let said = trio.world.cli(&["watch", "--set", "2", "--json"]).expect(21);
    let expected = ["core rolled_back 21 1", "api aborted 23 1", "web not_begun null 1"];
    assert_eq!(members(&said.result()), expected, "{}", said.stdout);
    let n_begun = said.stdout.matches(r#""event":"operation","service":"api""#).count();
    assert_eq!(n_begun, 1, "{}", said.stdout);
    assert_eq!(trio.serving(), [1; 3]);
}

#[test]
fn after_a_power_cut_all_are_old_again() {
    let mut trio = baking();
    trio.detach([""; 3]);
    bakes(&trio);
    assert_eq!(trio.world.status_of("core")["last_good"], 2);
    trio.world.power_cut();
    trio.world.wake();
    trio.world.wait("the set is over", |_| trio.journal(2).contains(r#""step":"done""#));
    assert_eq!(trio.serving(), [1; 3]);
    let said = trio.world.cli(&["watch", "--set", "2", "--json"]).expect(21).result();
    assert_eq!(members(&said)[0], "core rolled_back 21 1", "{said}");
}

#[test]
fn a_stack_that_is_stopped_in_the_middle_goes_back_at_its_next_start() {
    let mut trio = baking();
    trio.detach([""; 3]);
    bakes(&trio);
    assert!(trio.world.sleep());
    trio.world.wake();
    trio.world.wait("the set is over", |_| trio.journal(2).contains(r#""step":"done""#));
    assert_eq!(trio.serving(), [1; 3]);
}
