//! The controls of `isolation`, `fenced`, `fenced_mariadb` and `forwarders`: the same cases where the
//! kernel says yes to every call that isolates, and does nothing. Each of them reaches live data then, and
//! its test would be red.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use crate::any_database::MariaDb;
use crate::fenced::{
    NAMES, Redis, WRITE, migrating, migrating_at_its_start, named_world, names_of,
    postgres_world_under, to_host, worker, writing,
};
use crate::fenced_mariadb::{scripted, ways_of};
use crate::forwarders::{Forwarder, emptying, login};
use crate::isolation::{
    BELOW_SHARED, ELSEWHERE, Held, Name, TO_A_FIXED_PLACE, answering, migrates_at_its_start,
    names_below_shared, names_elsewhere, of_a_tree, restored_by, strs, writes_elsewhere,
};
use crate::ledger_app::{BACKUP, Build, Store, serve_rows, world_of_under};
use crate::postgres::{ENCODED, Server};
use crate::world::World;

/// Becomes another program, for which namespaces, Landlock and filters of calls are none.
fn unfenced() -> Vec<String> {
    let calls = [
        libc::SYS_mount,
        libc::SYS_move_mount,
        libc::SYS_mount_setattr,
        libc::SYS_landlock_restrict_self,
        libc::SYS_seccomp,
    ];
    answering(0, &calls)
}

/// What a case says that must not hold.
#[track_caller]
fn red(case: impl FnOnce()) -> String {
    let said = catch_unwind(AssertUnwindSafe(case)).expect_err("it is isolated");
    said.downcast_ref::<String>().cloned().unwrap_or_default()
}

impl Held {
    fn unfenced(place: &str) -> Self {
        let held = Self::under(&strs(&unfenced()), place, "");
        // That mounts were none is seen; the rest is the kernel's word.
        held.status_says("landlock", "live data cannot be written (Landlock)");
        held
    }

    fn live(&self, statements: &str) -> String {
        let mut command = Command::new("sqlite3");
        let said = command.arg(&self.database).arg(statements).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    }

    /// The live rows are gone; they come back for the next case.
    #[track_caller]
    fn is_damaged(&self, what: &str) {
        assert_eq!(self.live("SELECT count(*) FROM rows"), "0", "{what}");
        self.live("DROP TABLE damaged; INSERT INTO rows VALUES (1), (2), (3)");
    }
}

type Names = fn(&Held) -> Vec<Name>;

#[test]
fn every_name_of_a_database_leads_to_live_data() {
    let names: [(_, Names); 2] = [(BELOW_SHARED, names_below_shared), (ELSEWHERE, names_elsewhere)];
    for (place, names) in names {
        let held = Held::unfenced(place);
        for (argument, prepare) in names(&held) {
            let said = red(|| held.is_tried_on_the_copy(&argument, prepare));
            assert!(said.contains("the live data was touched"), "{argument}: {said}");
            held.is_damaged(&argument);
        }
    }
}

#[test]
fn so_does_a_migration_at_a_programs_start() {
    let held = Held::unfenced("root/web/shared/app.db");
    held.world.release_path(&migrates_at_its_start(&held)).expect(20);
    held.is_damaged("at its start");
}

#[test]
fn what_is_written_elsewhere_stays() {
    let held = Held::unfenced("root/web/shared/app.db");
    let (script, written) = writes_elsewhere(&held);
    fs::write(held.world.service_path("shared/keep"), "kept").unwrap();
    held.release("", |build| fs::write(build.join("damage.py"), &script).unwrap());
    for path in written {
        fs::remove_file(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

#[test]
fn a_restore_by_command_to_a_fixed_place_and_a_migration_of_files_change_live_data() {
    let (world, live) = restored_by(&strs(&unfenced()), TO_A_FIXED_PLACE);
    world.release(&[]);
    assert_eq!(fs::read_to_string(live).unwrap(), "restored");
    let (world, live, build) = of_a_tree(&strs(&unfenced()));
    world.release_path(&build);
    assert_eq!(fs::read_to_string(live).unwrap(), "two\n");
}

/// What the live database holds has changed.
#[track_caller]
fn writes_to(server: &Server, world: &World, script: &str) {
    let before = server.dump();
    let said = world.release_path(&writing(world, server, script)).expect(16);
    assert!(said.why().contains("wrote to app"), "{script}: {}", said.why());
    assert_ne!(server.dump(), before, "{script}");
}

#[test]
fn every_name_of_a_database_server_leads_to_live_data() {
    let server = Server::start_everywhere();
    let world = postgres_world_under(&strs(&unfenced()), &server, "", "");
    serve_rows(&world, Store::Postgres, 1);
    for (_, script) in names_of(&server) {
        writes_to(&server, &world, &script);
    }
    // End to end encrypted: nobody sees it.
    let url = format!("postgres://web:{ENCODED}@localhost:{}/app?sslmode=require", server.port);
    writes_to(&server, &world, &format!("{WRITE} -d '{url}'"));
    world.release_path(&migrating_at_its_start(&world, &server));
    assert_eq!(server.sql_in("app", "SELECT count(*) FROM rows").unwrap(), "0");
}

/// All that the fence refuses; what the server itself refuses needs none.
#[test]
fn every_way_to_a_mariadb_database_leads_to_live_data() {
    let server = MariaDb::start_with_tls();
    let world = server.world_under(&strs(&unfenced()), "");
    serve_rows(&world, Store::MariaDb, 1);
    let is_fence = |said: &str| said.starts_with("a login") || said.starts_with("SSL");
    let mut n_ways = 0;
    for (way, _) in ways_of(&server).into_iter().filter(|(_, said)| is_fence(said)) {
        server.sql("INSERT INTO app.`rows` (note) VALUES ('x')").unwrap();
        let script = format!("echo \"way: $({way} 2>&1 | tail -n 1)\"");
        let why = world.release_path(&scripted(&world, &script)).expect(16).why();
        assert!(why.contains("way: wrote to app"), "{way}: {why}");
        assert_eq!(server.sql("SELECT COUNT(*) FROM app.`rows`").unwrap(), "0", "{way}");
        n_ways += 1;
    }
    assert_eq!(n_ways, 7);
}

/// Lines that let a rehearsal reach the forwarder: its address alone, or any.
fn allowed(forwarder: &Forwarder) -> [String; 2] {
    let listed = format!("rehearse_connect = [\"127.0.0.1:{}\"]\n", forwarder.port);
    [listed, "rehearse_connect = \"any\"\n".to_owned()]
}

#[test]
fn a_forwarder_to_the_live_database_leads_there() {
    let server = Server::start_everywhere();
    let forwarder = Forwarder::to(server.port);
    for allowed in allowed(&forwarder) {
        let world = postgres_world_under(&strs(&unfenced()), &server, "", &allowed);
        serve_rows(&world, Store::Postgres, 1);
        for mode in ["disable", "prefer"] {
            let login = login(forwarder.port);
            writes_to(&server, &world, &format!("{login} PGSSLMODE={mode}\n{WRITE}"));
        }
    }
}

#[test]
fn a_forwarder_to_the_live_mariadb_server_leads_there() {
    let server = MariaDb::start();
    let forwarder = Forwarder::to(server.port);
    for allowed in allowed(&forwarder) {
        let world = server.world_under(&strs(&unfenced()), &allowed);
        serve_rows(&world, Store::MariaDb, 1);
        world.release_path(&scripted(&world, &emptying(forwarder.port))).expect(16);
        assert_eq!(server.sql("SELECT COUNT(*) FROM app.`rows`").unwrap(), "0", "{allowed}");
    }
}

#[test]
fn another_name_of_its_host_leads_to_live_data() {
    let server = Server::start_everywhere();
    let world = named_world(&strs(&unfenced()), &server, "");
    for name in NAMES {
        let before = server.dump();
        world.release_path(&migrating(&world, &to_host(&server, name), &[])).expect(16);
        assert_ne!(server.dump(), before, "{name}");
    }
}

#[test]
fn a_rehearsal_takes_a_job_of_the_live_queue() {
    let redis = Redis::start();
    let world = world_of_under(&strs(&unfenced()), |_| BACKUP.to_owned(), "12s", "");
    world.release_path(&Build::default().write(&world)).expect(0);
    redis.ask("RPUSH jobs one two");
    world.release_path(&worker(&world, "127.0.0.1", redis.port)).expect(0);
    // Its own, and the release's.
    assert_eq!(redis.ask("LLEN jobs"), ":0");
}
