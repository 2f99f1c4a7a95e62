//! nginx: no fresh connection is lost; idle ones are closed by the workers that leave.

use std::fs;
use std::path::PathBuf;

use halley_sup::config::proxy::Proxy;
use halley_sup::config::proxy::nginx::Nginx;
use halley_sup::demo::load::Shape;
use halley_sup::supervisor::proxy::Upstream;

use crate::world::{World, check, flip, serve_unix};

#[test]
fn flips_lead_to_and_fro() {
    let mut world = World::nginx();
    let text = world.check(1).unwrap();
    assert!(text.contains("web.conf may be written"), "{text}");
    for number in [2, 2, 1, 2] {
        world.flip(&[number]).unwrap();
        world.wait_for(number as u64);
    }
    let socket = world.path("b.sock");
    serve_unix(&socket, 3);
    // The workers run as another user, who must get at the socket.
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(world.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
    flip(&world.proxy, &[Upstream::Unix(socket)]).unwrap();
    world.wait_for(3);
}

#[test]
fn no_request_on_a_fresh_connection_is_lost() {
    let mut world = World::nginx();
    for (shape, n_flips) in [(Shape::Short, 50), (Shape::SlowRequest, 4)] {
        assert_eq!(world.flip_under_load(shape, n_flips), (0, "none".to_owned()));
    }
    // What happens to the others is nginx's own; it is told, not held.
    world.flip_under_load(Shape::KeepAlive, 50);
    world.flip_under_load(Shape::KeepAliveBlind, 50);
}

#[test]
fn a_broken_configuration_is_told_and_the_old_file_comes_back() {
    let mut world = World::nginx();
    let before = fs::read_to_string(world.path("web.conf")).unwrap();
    let config = fs::read_to_string(world.path("nginx.conf")).unwrap();
    fs::write(world.path("nginx.conf"), format!("{config}nonsense;\n")).unwrap();
    for error in [world.check(1).unwrap_err(), world.flip(&[2]).unwrap_err()] {
        assert!(error.contains("exit 1: "), "{error}");
        assert!(error.contains("unknown directive \"nonsense\""), "{error}");
    }
    assert_eq!(fs::read_to_string(world.path("web.conf")).unwrap(), before);
    world.wait_for(1);
    fs::write(world.path("nginx.conf"), config).unwrap();
    world.flip(&[2]).unwrap();
    world.wait_for(2);
}

#[test]
fn a_directory_that_is_not_there_and_an_nginx_that_is_not_are_told() {
    let mut world = World::nginx();
    let Proxy::Nginx(Nginx { file, test, .. }) = world.proxy.clone() else { panic!("no nginx") };
    let reload = vec!["/no/such/nginx".to_owned()];
    let proxy = Proxy::Nginx(Nginx { file: file.clone(), test: test.clone(), reload });
    let error = flip(&proxy, &world.upstreams(&[2])).unwrap_err();
    assert!(error.starts_with("/no/such/nginx: No such file or directory"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("server {};\n", world.backends[0]));
    let file = PathBuf::from("/no/such/web.conf");
    let proxy = Proxy::Nginx(Nginx { file, test, reload: vec!["true".to_owned()] });
    let error = check(&proxy, 1).unwrap_err();
    assert!(error.contains("/no/such: no such file or directory"), "{error}");
    world.wait_for(1);
}
