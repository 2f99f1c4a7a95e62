//! Every way a program can get its connections, with one program: releases and a rollback under
//! load of every shape, 0 lost.

use std::path::PathBuf;

use halley_sup::demo::load::{Load, Shape};
use halley_sup::demo::stream::Target;

use crate::world::{World, config, free_address};

const ALL: [Shape; 5] =
    [Shape::Short, Shape::KeepAlive, Shape::KeepAliveBlind, Shape::SlowDownload, Shape::LongTalk];

/// A world whose service has these lines instead of its `listen`.
pub fn world(listen: impl Fn(&World) -> String, more: &str) -> World {
    world_with(listen, more, &[])
}

/// The same, with other values in places.
pub fn world_with(listen: impl Fn(&World) -> String, more: &str, others: &[(&str, &str)]) -> World {
    let mut world = World::asleep(free_address());
    let address = world.address;
    let text = config(address, &format!("[service.web.keep]\nstandby = \"0s\"\n{more}"))
        .replace(&format!("listen = [\"tcp://{address}\"]"), &listen(&world))
        .replace("drain = \"0s\"", "drain = \"10s\"");
    let text = others.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    world.configure(&text);
    world.wake();
    world
}

#[track_caller]
fn replaced(world: &World, target: impl Into<Target>, behaviour: &[&str], shapes: &[Shape]) {
    let target = target.into();
    world.release(behaviour).expect(0);
    let loads: Vec<_> = shapes.iter().map(|shape| Load::start(target.clone(), *shape, 2)).collect();
    for _ in 0..2 {
        world.release(behaviour).expect(0);
        assert!(loads.iter().all(|load| load.wait_for(5)));
    }
    assert_eq!(world.cli(&["rollback", "web", "--json"]).expect(0).result()["serving"], 2);
    world.wait("the old ones are gone", World::is_alone);
    assert!(loads.iter().all(|load| load.wait_for(20)));
    for (shape, load) in shapes.iter().zip(loads) {
        let ledger = load.stop();
        assert_eq!(ledger.n_lost(), 0, "{shape:?}: {}\n{}", ledger.losses(), world.run_log());
        assert!(ledger.by_release().len() >= 2, "{shape:?} {:?}", ledger.by_release());
    }
}

fn tcp(handoff: &str) -> impl Fn(&World) -> String {
    move |world| format!("listen = [\"tcp://{}\"]\nhandoff = \"{handoff}\"", world.address)
}

fn unix(handoff: &str) -> impl Fn(&World) -> String {
    move |world| format!("listen = [\"unix:{}\"]\nhandoff = \"{handoff}\"", path(world).display())
}

fn path(world: &World) -> PathBuf {
    world.path("public/web.sock")
}

#[test]
fn inherit() {
    let world = world(tcp("inherit"), "");
    replaced(&world, world.address, &[], &ALL);
}

#[test]
fn intercept() {
    let world = world(tcp("intercept"), "");
    let bind = format!("bind={}", world.address);
    replaced(&world, world.address, &[&bind], &ALL);
}

#[test]
fn port() {
    let world = world(tcp("port"), "");
    replaced(&world, world.address, &[], &ALL);
}

#[test]
fn unix_inherit() {
    let world = world(unix("inherit"), "");
    replaced(&world, path(&world), &[], &ALL);
}

#[test]
fn unix_intercept() {
    let world = world(unix("intercept"), "");
    let bind = format!("bind=unix:{}", path(&world).display());
    replaced(&world, path(&world), &[&bind], &ALL);
}

/// The program is told a socket's path of its own; callers come by port.
#[test]
fn port_by_socket() {
    let world = world(tcp("port"), "[service.web.env]\nWHERE = \"{socket}\"");
    replaced(&world, world.address, &[], &ALL);
}
