//! A configuration that was spoilt while the stack runs takes nothing away.

use crate::world::{World, config, kill};

#[test]
fn a_supervisor_comes_up_with_the_last_good_configuration_and_takes_the_mended_one_at_reload() {
    let world = World::new();
    let good = config(world.address, "[service.web.env]\nMENDED = \"1\"");
    world.release(&[]).expect(0);
    world.configure(&config(world.address, "[service.web.helth]\nhttp = \"/\"\n"));
    let before = world.supervisor_pid();
    world.kill_supervisor();
    world.wait("another supervisor answers", |world| {
        world.supervisor_pid().is_some_and(|pid| Some(pid) != before)
            && world.cli(&["status"]).code == 0
    });
    let warnings =
        |world: &World| world.cli(&["status", "--json"]).expect(0).result()["warnings"].to_string();
    assert!(warnings(&world).contains("helth"), "{}", warnings(&world));
    assert!(world.run_log().contains("the configuration cannot be used"), "{}", world.run_log());
    world.cli(&["check"]).expect(2);
    // It does all that it is there for.
    let pid = world.live_pid();
    kill(pid, libc::SIGKILL);
    assert_eq!(world.answering(), Some(1));
    world.wait("it was started again", |world| ![0, pid].contains(&world.live_pid()));
    world.release(&[]).expect(0);
    world.cli(&["rollback", "web"]).expect(0);
    world.reload(&good);
    let warnings = warnings(&world);
    assert!(
        !warnings.contains("helth") && warnings.contains("halley-sup restart web"),
        "{warnings}"
    );
}
