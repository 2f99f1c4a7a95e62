//! What of Halley's runs is called by its name in `ps`.

use std::fs;

use crate::world::World;

#[test]
fn every_process_of_halley_is_called_halley_sup() {
    let world = World::new();
    for pid in [world.keeper_pid(), world.supervisor_pid().unwrap()] {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        assert_eq!(comm.trim(), "halley-sup");
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        let program = line.split('\0').next().unwrap();
        assert_eq!(program.rsplit('/').next(), Some("halley-sup"), "{line:?}");
    }
}
