//! Programs that nobody here wrote take their socket and are replaced under load: no new connection
//! is lost. What they do with connections they keep is their own affair: Debian's gunicorn, nginx,
//! uvicorn and Node close some in the face of a request; ours does not.
//!
//! `scripts/test-needs.sh` installs them; a program that is not there fails its test.

use std::fs;
use std::path::{Path, PathBuf};

use halley_sup::demo::load::Shape;

use crate::world::{World, config};

/// A world for a real program: a standby of none, so that its own shutdown is under test as well.
fn world() -> World {
    let mut world = World::asleep(crate::world::free_address());
    let text = config(world.address, "[service.web.keep]\nstandby = \"0s\"")
        .replace("deadline = \"5s\"", "deadline = \"20s\"")
        .replace("timeout = \"1s\"", "timeout = \"5s\"");
    world.configure(&text);
    world.wake();
    world
}

fn replaced(write: impl Fn(&World, u64) -> PathBuf, shapes: &[Shape]) {
    replaced_in(world(), write, shapes);
}

/// Three releases of a program under load, and a rollback.
#[track_caller]
pub fn replaced_in(world: World, write: impl Fn(&World, u64) -> PathBuf, shapes: &[Shape]) {
    world.release_path(&write(&world, 1)).expect(0);
    assert_eq!(world.answering(), Some(1));
    let loads: Vec<_> = shapes.iter().map(|shape| world.load(*shape)).collect();
    for release in [2, 3] {
        world.release_path(&write(&world, release)).expect(0);
        world.wait("the old one is gone", World::is_alone);
        assert!(loads.iter().all(|load| load.wait_for(20)));
    }
    let said = world.cli(&["rollback", "web", "--json"]).expect(0).result();
    assert_eq!(said["serving"], 2);
    world.wait("the old one is gone", World::is_alone);
    assert!(loads.iter().all(|load| load.wait_for(20)));
    for (shape, load) in shapes.iter().zip(loads) {
        let ledger = load.stop();
        assert_eq!(ledger.n_lost(), 0, "{shape:?}: {}", ledger.losses());
        assert!(ledger.by_release().len() >= 3, "{:?}", ledger.by_release());
    }
}

pub fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

#[test]
fn gunicorn() {
    let build = |world: &World, release: u64| {
        let dir = world.build_of(&["/usr/bin/gunicorn", "-w", "2", "-k", "gthread", "app:app"]);
        let app = format!(
            "def app(env, start):\n    start('200 OK', [('Content-Length', '10')])\n    return [b'release {release}\\n']\n"
        );
        write(&dir, "app.py", &app);
        dir
    };
    replaced(build, &[Shape::Short]);
}

#[test]
fn uvicorn() {
    let uvicorn = concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-venv/bin/uvicorn");
    let build = |world: &World, release: u64| {
        let dir = world.build_of(&[uvicorn, "--fd", "3", "--log-level", "warning", "app:app"]);
        let app = format!(
            "async def app(scope, receive, send):\n    if scope['type'] != 'http':\n        return\n    await send({{'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'10')]}})\n    await send({{'type': 'http.response.body', 'body': b'release {release}\\n'}})\n"
        );
        write(&dir, "app.py", &app);
        dir
    };
    replaced(build, &[Shape::Short]);
}

#[test]
fn node() {
    let build = |world: &World, release: u64| {
        let dir = world.build_of(&["node", "app.js"]);
        let app = format!(
            "const s = require('http').createServer((q, r) => r.end('release {release}\\n'));\ns.listen({{fd: 3}});\nprocess.on('SIGTERM', () => {{ s.close(); s.closeIdleConnections(); }});\n"
        );
        write(&dir, "app.js", &app);
        dir
    };
    replaced(build, &[Shape::Short]);
}

/// nginx with its own port in its configuration, and these lines in its `release.toml`.
pub fn nginx_build(world: &World, release: u64, n_workers: u32, lines: &str) -> PathBuf {
    let port = world.address.port();
    let dir = world.build_of(&["/usr/sbin/nginx", "-p", ".", "-c", "nginx.conf"]);
    // It stops gracefully on QUIT.
    let text = fs::read_to_string(dir.join("release.toml")).unwrap();
    write(&dir, "release.toml", &format!("{text}{lines}[stop]\nsignal = \"QUIT\"\n"));
    let scratch = world.path(&format!("scratch{release}"));
    fs::create_dir_all(&scratch).unwrap();
    let scratch = scratch.to_string_lossy().into_owned();
    let conf = format!(
        "daemon off; worker_processes {n_workers}; pid {scratch}/pid; error_log stderr warn;\nevents {{}}\nhttp {{ access_log off; client_body_temp_path {scratch}/b; proxy_temp_path {scratch}/p; fastcgi_temp_path {scratch}/f; uwsgi_temp_path {scratch}/u; scgi_temp_path {scratch}/s;\nserver {{ listen 127.0.0.1:{port}; location / {{ return 200 'release {release}\\n'; }} }} }}\n"
    );
    write(&dir, "nginx.conf", &conf);
    dir
}

#[test]
fn nginx() {
    // It takes inherited sockets by its own variable.
    let lines = "env = { NGINX = \"3;\" }\n";
    replaced(|world, release| nginx_build(world, release, 1, lines), &[Shape::Short]);
}

#[test]
fn a_rust_program() {
    let build = |world: &World, _| world.build(&[]);
    replaced(build, &[Shape::Short, Shape::KeepAlive, Shape::KeepAliveBlind]);
}
