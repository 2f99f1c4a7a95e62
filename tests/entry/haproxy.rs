//! HAProxy: nothing is lost, on whatever connection.

use halley_sup::config::proxy::haproxy::HaProxy;
use halley_sup::config::proxy::{Admin, Proxy};
use halley_sup::demo::load::Shape;

use crate::world::{World, ask, check, flip, free_address};

/// The world's proxy with another API, backend or server.
fn other(world: &World, change: impl Fn(&mut Admin, &mut String, &mut String)) -> Proxy {
    let mut proxy = world.proxy.clone();
    if let Proxy::HaProxy(HaProxy { admin, backend, server }) = &mut proxy {
        change(admin, backend, server);
    }
    proxy
}

fn socket(world: &World, name: &str) -> Admin {
    let Proxy::HaProxy(HaProxy { admin: Admin::Unix(path), .. }) = &world.proxy else {
        panic!("no socket")
    };
    Admin::Unix(path.with_file_name(name))
}

#[test]
fn flips_lead_to_and_fro() {
    let mut world = World::haproxy("  server app {a}");
    let text = world.check(1).unwrap();
    assert!(text.ends_with("backend web has app"), "{text}");
    for number in [2, 2, 1, 2] {
        world.flip(&[number]).unwrap();
        // The very next request is the new one's.
        assert_eq!(ask(world.address), Some(number as u64));
    }
    world.flip(&[1]).unwrap();
    world.wait_for(1);
}

#[test]
fn no_request_is_lost_on_fresh_or_on_old_connections() {
    let mut world = World::haproxy("  server app {a}");
    for shape in [Shape::Short, Shape::KeepAlive, Shape::KeepAliveBlind] {
        assert_eq!(world.flip_under_load(shape, 50), (0, "none".to_owned()));
    }
    assert_eq!(world.flip_under_load(Shape::SlowRequest, 4), (0, "none".to_owned()));
}

#[test]
fn several_instances_have_a_server_each_and_the_rest_is_in_maintenance() {
    let mut world = World::haproxy(
        "  server app1 {a}\n  server app2 127.0.0.1:9 disabled\n  server app3 127.0.0.1:9 disabled",
    );
    let text = world.check(3).unwrap();
    assert!(text.ends_with("has app1, app2, app3"), "{text}");
    world.flip(&[1, 2]).unwrap();
    let mut seen: Vec<_> = (0..8).map(|_| ask(world.address)).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, [Some(1), Some(2)]);
    world.flip(&[2]).unwrap();
    assert!((0..8).all(|_| ask(world.address) == Some(2)));
    let error = world.check(4).unwrap_err();
    assert!(error.contains("has 3 of 4 servers app1, app2, …"), "{error}");
    world.wait_for(2);
}

#[test]
fn a_server_that_a_health_check_has_stopped_is_up_after_a_flip() {
    let mut world = World::haproxy("  server app {a} check inter 1h fastinter 1h downinter 1h");
    // A check every hour does not help: the flip does.
    world.flip(&[1]).unwrap();
    if let Proxy::HaProxy(HaProxy { admin: Admin::Unix(path), .. }) = &world.proxy {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
        stream.write_all(b"set server web/app health down\n").unwrap();
        stream.read_to_string(&mut String::new()).unwrap();
    }
    assert_eq!(ask(world.address), None);
    world.flip(&[2]).unwrap();
    world.wait_for(2);
}

#[test]
fn what_is_wrong_is_told_and_nothing_is_changed() {
    let mut world = World::haproxy("  server app {a}");
    let two = world.upstreams(&[2]);
    let nobody = free_address();
    for (proxy, texts) in [
        (
            other(&world, |_, backend, _| "none".clone_into(backend)),
            ["about backend none it answered: Can't find backend.", "show servers state none"],
        ),
        (
            other(&world, |_, _, server| "none".clone_into(server)),
            ["backend web has no server none", "add in haproxy.cfg: server none1"],
        ),
        (
            other(&world, |admin, _, _| *admin = Admin::Tcp(nobody)),
            ["connection refused; is it running?", "socat - TCP:127.0.0.1:"],
        ),
        (
            other(&world, |admin, _, _| *admin = socket(&world, "none.sock")),
            ["no such file or directory; is it running?", "socat - /"],
        ),
    ] {
        for error in [check(&proxy, 1).unwrap_err(), flip(&proxy, &two).unwrap_err()] {
            assert!(error.starts_with("haproxy at "), "{error}");
            assert!(texts.iter().all(|text| error.contains(text)), "{error}");
        }
    }
    let operator = other(&world, |admin, _, _| *admin = socket(&world, "operator.sock"));
    let error = check(&operator, 1).unwrap_err();
    assert!(error.contains("the level there is operator (write level admin"), "{error}");
    let error = flip(&operator, &two).unwrap_err();
    assert!(error.contains("Permission denied (write level admin"), "{error}");
    world.wait_for(1);
}
