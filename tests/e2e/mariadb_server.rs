//! What a MariaDB server keeps beside tables, and what it goes on with when its clients are gone.

use std::fs;

use crate::any_database::{MariaDb, mariadb_build};
use crate::ledger_app::{Build, Store, get, serve_rows};
use crate::world::World;

/// A release whose migration is one statement that works for eight seconds on the live data, and is
/// killed after three.
fn slow(world: &World, at: &str) -> std::path::PathBuf {
    let build = Build { deadline: "3s", ..mariadb_build(1) }.write(world);
    let script = format!(
        "import db, os\n\
         wait = 0 if 'HALLEY_REHEARSAL' in os.environ else 8\n\
         {at}\n\
         db.run(f'BEGIN NOT ATOMIC DO SLEEP({{wait}}); ALTER TABLE rows ADD COLUMN c1 TEXT; \
         INSERT INTO schema_version VALUES (1); COMMIT; END')\n"
    );
    fs::write(build.join("migrate.py"), script).unwrap();
    build
}

const WORKS: &str = "SELECT COUNT(*) FROM information_schema.processlist WHERE INFO LIKE '%SLEEP(8)%' \
                     AND ID <> CONNECTION_ID()";

#[test]
fn a_statement_of_a_migration_that_was_killed_commits_nothing_later() {
    let server = MariaDb::start();
    let world = server.world();
    serve_rows(&world, Store::MariaDb, 1);
    let before = server.dump();
    let said = world.release_path(&slow(&world, "")).expect(16);
    assert!(said.why().contains("killed: it ran longer than 3s"), "{}", said.why());
    assert!(said.why().contains("the schema is 0, as before, and the counts"), "{}", said.why());
    world.wait("the server is at rest", |_| server.sql(WORKS).unwrap() == "0");
    assert_eq!(server.dump(), before);
    assert_eq!(get(world.address, "/count").unwrap(), "1");
}

/// By a socket's path nobody sees whose client is gone.
#[test]
fn a_statement_whose_client_may_be_gone_is_waited_for() {
    let server = MariaDb::start();
    let world = server.world();
    serve_rows(&world, Store::MariaDb, 1);
    let at = format!("db.LOGIN[0], db.SOCKET = None, b{:?}", server.socket());
    let said = world.release_path(&slow(&world, &at)).expect(17);
    assert!(said.why().contains("killed: it ran longer than 3s"), "{}", said.why());
    assert!(said.why().contains("the data has schema 1"), "{}", said.why());
    assert_eq!(server.sql(WORKS).unwrap(), "0");
}

/// What runs on a copy has the rights of the user of copies, whose password is the server's.
#[test]
fn what_a_migration_does_to_the_user_of_copies_is_said() {
    let server = MariaDb::start();
    let world = server.world();
    serve_rows(&world, Store::MariaDb, 1);
    let build = mariadb_build(1).write(&world);
    let migrate = fs::read_to_string(build.join("migrate.py")).unwrap();
    let on_copy = |more: &str| {
        let more =
            format!("import os\nif 'HALLEY_REHEARSAL' in os.environ:\n    db.run({more:?})\n");
        fs::write(build.join("migrate.py"), format!("{migrate}\n{more}")).unwrap();
    };
    let databases = "SELECT GROUP_CONCAT(SCHEMA_NAME) FROM information_schema.schemata WHERE SCHEMA_NAME \
                     LIKE 'halley%'";
    on_copy("CREATE DATABASE halley_scratch_mine");
    world.release_path(&build).expect(0);
    assert_eq!(server.sql(databases).unwrap(), "NULL");
    let build = mariadb_build(2).write(&world);
    fs::write(
        build.join("migrate.py"),
        "import db, os\nif 'HALLEY_REHEARSAL' in os.environ: \
        db.run(\"SET PASSWORD = PASSWORD('other')\")\n",
    )
    .unwrap();
    let said = world.release_path(&build);
    assert_ne!(said.code, 0);
    for part in
        ["the user in COPIES_URL is let in no more", "SET PASSWORD", "drop halley_scratch_web_"]
    {
        assert!(said.stdout.contains(part), "{part}: {}", said.stdout);
    }
}

#[test]
fn a_table_whose_name_has_a_newline_is_restored() {
    let server = MariaDb::start();
    let world = server.world();
    serve_rows(&world, Store::MariaDb, 1);
    let odd = "CREATE TABLE app.`new\nli``ne` (i INT); INSERT INTO app.`new\nli``ne` VALUES (7); CREATE \
               DEFINER=web@'%' VIEW app.`a\nview` AS SELECT i FROM app.`new\nli``ne`";
    server.sql(odd).unwrap();
    world.cli(&["backup", "web"]).expect(0);
    let before = server.dump();
    server.sql("DELETE FROM app.`new\nli``ne`").unwrap();
    for _ in 0..2 {
        world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
        assert_eq!(server.dump(), before);
        assert_eq!(server.sql("SELECT i FROM app.`new\nli``ne`").unwrap(), "7");
    }
}

#[test]
fn rights_on_routines_and_the_character_set_outlive_a_restore() {
    let server = MariaDb::start();
    let more = "ALTER DATABASE app CHARACTER SET latin1 COLLATE latin1_german2_ci; CREATE USER reader; USE \
                app;\nDELIMITER //\nCREATE DEFINER=web@'%' PROCEDURE three() BEGIN SELECT 3; END//\n\
                CREATE DEFINER=web@'%' FUNCTION four() RETURNS INT RETURN 4//\nDELIMITER ;\n";
    let world = server.world();
    serve_rows(&world, Store::MariaDb, 1);
    server.sql(more).unwrap();
    let grants = "GRANT EXECUTE ON PROCEDURE app.three TO reader; GRANT EXECUTE ON FUNCTION app.four TO \
                  reader; GRANT SELECT ON app.`rows` TO reader";
    server.sql(grants).unwrap();
    let rights = || server.sql("SHOW GRANTS FOR reader").unwrap();
    let charset = || {
        let query =
            "SELECT DEFAULT_COLLATION_NAME FROM information_schema.schemata WHERE SCHEMA_NAME = ";
        server.sql(&format!("{query}'app'")).unwrap()
    };
    let (before, dump) = (rights(), server.dump());
    assert!(before.contains("three") && before.contains("four"), "{before}");
    world.cli(&["backup", "web"]).expect(0);
    server
        .sql(
            "CREATE OR REPLACE DEFINER=web@'%' PROCEDURE app.three() SELECT 33; CREATE \
             DEFINER=web@'%' PROCEDURE app.more() SELECT 5",
        )
        .unwrap();
    for _ in 0..2 {
        world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
        assert_eq!((rights(), charset().as_str()), (before.clone(), "latin1_german2_ci"));
        let routines = "SELECT GROUP_CONCAT(ROUTINE_NAME ORDER BY 1) FROM \
                        information_schema.routines WHERE ROUTINE_SCHEMA = 'app'";
        assert_eq!(server.sql(routines).unwrap(), "four,three");
        let definition = "SHOW CREATE PROCEDURE app.three";
        let shown = server.sql(definition).unwrap();
        assert!(shown.contains("SELECT 3") && shown.contains("`web`@`%`"), "{shown}");
    }
    assert!(dump.contains("SELECT 3"));
    // The whole database is gone.
    server.sql("DROP DATABASE app").unwrap();
    world.cli(&["restore", "web", "--yes", "--unsaved", "--json"]).expect(0);
    assert_eq!(charset(), "latin1_german2_ci");
    assert_eq!(get(world.address, "/count").unwrap(), "1");
}
