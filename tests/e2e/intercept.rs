//! Unmodified programs that bind for themselves get their slot by `handoff = "intercept"` and are
//! replaced under load.
//!
//! `scripts/test-needs.sh` installs them; a program that is not there fails its test.

use std::fs;
use std::path::PathBuf;

use halley_sup::demo::load::Shape;

use crate::real::{nginx_build, replaced_in, write};
use crate::world::{World, config, free_address};

/// A world in which programs bind for themselves, and connections may end by themselves: most of
/// these programs just end on their signal.
pub fn world(more: &str) -> World {
    let mut world = asleep(more);
    world.wake();
    world
}

/// The same before anything of it runs.
pub fn asleep(more: &str) -> World {
    let world = World::asleep(free_address());
    let top = format!("handoff = \"intercept\"\n{more}\n[service.web.health]");
    let text = config(world.address, "[service.web.keep]\nstandby = \"0s\"")
        .replace("[service.web.health]", &top)
        .replace("drain = \"0s\"", "drain = \"10s\"")
        .replace("deadline = \"5s\"", "deadline = \"20s\"")
        .replace("timeout = \"1s\"", "timeout = \"5s\"");
    world.configure(&text);
    world
}

fn replaced(build: impl Fn(&World, u64) -> PathBuf, shapes: &[Shape]) {
    replaced_in(world(""), build, shapes);
}

#[test]
fn python_http_server() {
    let build = |world: &World, release: u64| {
        let port = world.address.port().to_string();
        let command = ["python3", "-m", "http.server", "--bind", "127.0.0.1", &port];
        let dir = world.build_of(&command);
        for name in ["index.html", "healthz"] {
            write(&dir, name, &format!("release {release}\n"));
        }
        dir
    };
    replaced(build, &[Shape::Short]);
}

#[test]
fn node() {
    let build = |world: &World, release: u64| {
        let dir = world.build_of(&["node", "app.js"]);
        let port = world.address.port();
        let app = format!(
            "const s = require('http').createServer((q, r) => r.end('release {release}\\n'));\ns.listen({port}, '127.0.0.1');\nprocess.on('SIGTERM', () => {{ s.close(); s.closeIdleConnections(); }});\n"
        );
        write(&dir, "app.js", &app);
        dir
    };
    replaced(build, &[Shape::Short]);
}

/// Its workers are forked and share what it has bound.
#[test]
fn nginx() {
    replaced(|world, release| nginx_build(world, release, 2, ""), &[Shape::Short]);
}

/// A static program: no library of ours could be preloaded into it.
#[test]
fn caddy() {
    let build = |world: &World, release: u64| {
        let dir = world.build_of(&["caddy", "run", "--config", "caddy.json"]);
        let home = world.path(&format!("home{release}"));
        fs::create_dir_all(&home).unwrap();
        let text = fs::read_to_string(dir.join("release.toml")).unwrap();
        write(&dir, "release.toml", &format!("{text}env = {{ HOME = {home:?} }}\n"));
        let address = world.address;
        let json = format!(
            r#"{{"admin":{{"disabled":true}},"logging":{{"logs":{{"default":{{"level":"ERROR"}}}}}},"apps":{{"http":{{"grace_period":"5s","servers":{{"s":{{"listen":["{address}"],"routes":[{{"handle":[{{"handler":"static_response","body":"release {release}\n"}}]}}]}}}}}}}}}}"#
        );
        write(&dir, "caddy.json", &json);
        dir
    };
    replaced(build, &[Shape::Short]);
}

#[test]
fn php() {
    let build = |world: &World, release: u64| {
        let dir = world.build_of(&["php", "-S", &world.address.to_string(), "app.php"]);
        write(&dir, "app.php", &format!("<?php echo \"release {release}\\n\";\n"));
        dir
    };
    replaced(build, &[Shape::Short]);
}
