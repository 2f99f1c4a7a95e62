//! A world with three services, released as one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use halley_sup::demo::load::{Load, Shape};
use serde_json::Value;

use crate::world::{World, config, free_address};

/// In the order of their releases, which is not that of their names.
pub const NAMES: [&str; 3] = ["core", "api", "web"];

/// Three services that call each other in a row.
pub struct Trio {
    pub world: World,
    pub addresses: [SocketAddr; 3],
}

impl Trio {
    pub fn new() -> Self {
        Self::with(&|_, text| text)
    }

    /// With each service's configuration as `alter` makes it.
    pub fn with(alter: &dyn Fn(&str, String) -> String) -> Self {
        let addresses = [free_address(), free_address(), free_address()];
        let mut world = World::asleep(addresses[2]);
        let mut text = "root = \"root\"\n".to_owned();
        for (place, name) in NAMES.iter().enumerate() {
            let own = config(addresses[place], "").replace("root = \"root\"\n", "");
            let own = own.replace("service.web", &format!("service.{name}"));
            let after = place.checked_sub(1).map_or("", |before| NAMES[before]);
            let after = format!(
                "after = [{}]\n",
                if after.is_empty() { String::new() } else { format!("{after:?}") }
            );
            let own = own.replacen("[service", "\n[service", 1);
            let head = format!("[service.{name}.health]");
            text.push_str(&alter(name, own.replace(&head, &format!("{after}{head}"))));
        }
        world.configure(&text);
        world.wake();
        Self { world, addresses }
    }

    /// With a first release of each.
    pub fn released(self) -> Self {
        let said = self.set(["", "", ""]);
        assert_eq!(said["exit"], 0, "{said}");
        self
    }

    /// The last member's next release has two seconds to become healthy: nothing more comes of a
    /// longer wait under load.
    pub fn impatient(self) -> Self {
        let text = std::fs::read_to_string(self.world.path("halley.toml")).unwrap();
        let (before, after) = text.rsplit_once("deadline = \"5s\"").unwrap();
        self.world.reload(&format!("{before}deadline = \"2s\"{after}"));
        self
    }

    /// `--set` of a build for each service that has a behaviour, in an order that is not theirs.
    pub fn arguments(&self, behaviours: [&str; 3]) -> (Vec<String>, Vec<PathBuf>) {
        let builds: Vec<PathBuf> =
            behaviours.map(|behaviour| self.world.build(&words(behaviour))).to_vec();
        (self.arguments_of(&builds), builds)
    }

    pub fn arguments_of(&self, builds: &[PathBuf]) -> Vec<String> {
        let pair = |place: usize| format!("{}={}", NAMES[place], builds[place].display());
        let both = format!("{},{}", pair(2), pair(0));
        ["release", "--json", "--set", &both, "--set", &pair(1)].map(str::to_owned).to_vec()
    }

    /// A command that releases all three.
    pub fn command(&self, behaviours: [&str; 3]) -> Command {
        let (arguments, _) = self.arguments(behaviours);
        self.world.command(&strs(&arguments))
    }

    /// The result of releasing all three.
    pub fn set(&self, behaviours: [&str; 3]) -> Value {
        let (arguments, _) = self.arguments(behaviours);
        let said = self.world.cli(&strs(&arguments));
        let result = said.result();
        assert_eq!(result["exit"], said.code, "{}{}", said.stdout, said.stderr);
        result
    }

    pub fn detach(&self, behaviours: [&str; 3]) {
        let (mut arguments, _) = self.arguments(behaviours);
        arguments.push("--detach".to_owned());
        let said = self.world.cli(&strs(&arguments)).expect(40);
        assert!(said.stderr.contains("continues; halley-sup watch --set "), "{}", said.stderr);
    }

    pub fn loads(&self) -> Vec<Load> {
        let loads: Vec<Load> =
            self.addresses.iter().map(|to| Load::start(*to, Shape::Short, 2)).collect();
        assert!(loads.iter().all(|load| load.wait_for(5)));
        loads
    }

    pub fn nothing_was_lost(&self, loads: Vec<Load>) {
        for (name, load) in NAMES.iter().zip(loads) {
            assert!(load.wait_for(5), "{name}");
            let ledger = load.stop();
            assert_eq!(ledger.n_lost(), 0, "{name}: {}\n{}", ledger.losses(), self.world.run_log());
        }
    }

    /// What serves and answers; it is the last good one, and nobody is at it.
    pub fn serving(&self) -> [u64; 3] {
        let mut all = [0; 3];
        for (place, name) in NAMES.iter().enumerate() {
            let status = self.world.status_of(name);
            assert_eq!(status["serving"], status["last_good"], "{status}");
            assert!(status["operation"].is_null() && status["trial"].is_null(), "{status}");
            all[place] = status["serving"].as_u64().unwrap_or(0);
            assert_eq!(World::answering_at(self.addresses[place]), Some(all[place]), "{name}");
        }
        all
    }

    pub fn running(&self) -> Value {
        self.world.cli(&["status", "--json"]).result()["set"].clone()
    }

    pub fn journal(&self, set: u64) -> String {
        let path = self.world.path(&format!("root/sets/{set:07}/journal.ndjson"));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    pub fn op_journal(&self, name: &str, op: u64) -> String {
        let path = self.world.path(&format!("root/{name}/ops/{op:07}/journal.ndjson"));
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

pub fn words(behaviour: &str) -> Vec<&str> {
    behaviour.split_ascii_whitespace().collect()
}

pub fn strs(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// `service outcome exit serving` of each member.
pub fn members(result: &Value) -> Vec<String> {
    let all = result["members"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.to_string().replace('"', "");
    let keys = ["service", "outcome", "exit", "serving"];
    all.iter().map(|member| keys.map(|key| text(&member[key])).join(" ")).collect()
}

/// What happened, in order: `release core`, `committed core`, `rollback core`, …
pub fn story(stdout: &str) -> Vec<String> {
    let told = |line: &str| {
        let event: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        match event["event"].as_str()? {
            "operation" => Some(format!("{} {}", text("kind"), text("service"))),
            "member" => Some(format!("{} {}", text("outcome"), text("service"))),
            _ => None,
        }
    };
    stdout.lines().filter_map(told).collect()
}

/// A trio whose second member bakes until somebody ends it.
pub fn baking() -> Trio {
    let alter = |name: &str, text: String| match name {
        "api" => text.replace("for = \"200ms\"", "for = \"600s\""),
        _ => text,
    };
    let trio = Trio::with(&alter);
    trio.detach([""; 3]);
    promoted(&trio);
    trio.world.wait("the set is over", |_| trio.running().is_null());
    assert_eq!(trio.serving(), [1; 3]);
    trio
}

pub fn bakes(trio: &Trio) {
    trio.world
        .wait("the second bakes", |world| world.status_of("api")["operation"]["phase"] == "bake");
}

pub fn promoted(trio: &Trio) {
    bakes(trio);
    trio.world.cli(&["promote", "api"]).expect(0);
}
