//! Caddy: what it loses at a flip is what the kernel resets when it closes its listening socket.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use halley_sup::config::proxy::caddy::Caddy;
use halley_sup::config::proxy::{Admin, Proxy};
use halley_sup::demo::load::Shape;
use halley_sup::supervisor::proxy::Upstream;

use crate::world::{World, check, flip, free_address, serve_unix};

/// Set for the process that runs a test in a network of its own.
const INSIDE: &str = "HALLEY_TEST_INSIDE";

#[test]
fn flips_lead_to_and_fro() {
    for mut world in [World::caddy(), World::caddy_on_a_socket()] {
        let text = world.check(1).unwrap();
        let leads = format!("web sends connections to {}", world.backends[0]);
        assert!(text.contains(&leads), "{text}");
        for number in [2, 2, 1, 2] {
            world.flip(&[number]).unwrap();
            world.wait_for(number as u64);
        }
        world.flip(&[1, 2]).unwrap();
        let socket = world.path("b.sock");
        serve_unix(&socket, 3);
        flip(&world.proxy, &[Upstream::Unix(socket)]).unwrap();
        world.wait_for(3);
    }
}

#[test]
fn nothing_but_what_waits_at_the_old_socket_is_lost() {
    let mut world = World::caddy();
    let (_, losses) = world.flip_under_load(Shape::Short, 50);
    let is_known = losses == "none" || losses.ends_with("Reset on Fresh");
    assert!(is_known && !losses.contains(','), "{losses}");
    // What happens to connections that are kept alive is Caddy's own; it is told, not held.
    world.flip_under_load(Shape::KeepAlive, 50);
    world.flip_under_load(Shape::KeepAliveBlind, 50);
}

/// Runs itself in a network namespace, where the kernel gives the queue of a closed listener to
/// the one beside it.
#[test]
fn no_fresh_connection_is_lost_where_the_kernel_migrates_them() {
    if std::env::var_os(INSIDE).is_none() {
        let name = "caddy::no_fresh_connection_is_lost_where_the_kernel_migrates_them";
        let ended = Command::new("unshare")
            .args(["--net", "--map-root-user"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        eprintln!("{said}");
        assert!(ended.status.success(), "{}\n{said}", String::from_utf8_lossy(&ended.stdout));
        return;
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(up.success(), "ip link set lo up");
    fs::write("/proc/sys/net/ipv4/tcp_migrate_req", "1").unwrap();
    let mut world = World::caddy();
    assert!(!world.check(1).unwrap().contains("tcp_migrate_req"));
    for (shape, n_flips) in [(Shape::Short, 50), (Shape::SlowRequest, 4)] {
        assert_eq!(world.flip_under_load(shape, n_flips), (0, "none".to_owned()));
    }
}

#[test]
fn what_is_wrong_is_told_and_nothing_is_changed() {
    let mut world = World::caddy();
    let two = world.upstreams(&[2]);
    let Proxy::Caddy(Caddy { admin: there, .. }) = world.proxy.clone() else { panic!("no caddy") };
    let nobody = || Admin::Tcp(free_address());
    let no_file = || Admin::Unix(PathBuf::from("/no/such.sock"));
    for (admin, id, texts) in [
        (there.clone(), "none", ["answered 404 Not Found about @id \"none\"", "unknown object ID"]),
        (
            there.clone(),
            "static",
            ["@id \"static\" is not a reverse_proxy handler", "curl http://"],
        ),
        (nobody(), "web", ["connection refused; is it running?", "(curl http://127.0.0.1:"]),
        (no_file(), "web", ["no such file or directory; is it", "(curl -H 'Host;' --unix-socket"]),
    ] {
        let proxy = Proxy::Caddy(Caddy { admin, id: id.to_owned() });
        for error in [check(&proxy, 1).unwrap_err(), flip(&proxy, &two).unwrap_err()] {
            assert!(error.starts_with("caddy at "), "{error}");
            assert!(texts.iter().all(|text| error.contains(text)), "{error}");
        }
    }
    world.wait_for(1);
    // Its own API at the wrong port: a server that is not Caddy.
    let proxy = Proxy::Caddy(Caddy { admin: Admin::Tcp(world.backends[0]), id: "web".to_owned() });
    let error = check(&proxy, 1).unwrap_err();
    assert!(error.contains("the answer is not JSON"), "{error}");
}
