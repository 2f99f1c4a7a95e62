//! What belongs to a PostgreSQL database and is in no dump of it: settings, rights, owner, locale. It is
//! there on a copy and after a restore, or its loss is announced.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::ledger_app::{Store, get, is_swept, save_rows, serve_rows};
use crate::postgres::{Server, build, world};
use crate::world::World;

/// What the database is like, with all values.
const LIKE: &str = "SELECT concat_ws(' ', pg_get_userbyid(datdba), encoding, datlocprovider, datcollate, \
                    datctype, daticulocale, datconnlimit, datistemplate, (SELECT \
                    string_agg(a::text, ',' ORDER BY a::text) FROM unnest(datacl) a), \
                    shobj_description(oid, 'pg_database')) FROM pg_database WHERE datname = 'app' UNION \
                    ALL (SELECT concat_ws(' ', setrole::regrole, setconfig::text) FROM \
                    pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = 'app' \
                    ORDER BY 1)";
/// Who owns what is in it.
const OWNED: &str = "SELECT concat_ws(' ', oid::regclass, relowner::regrole, relacl::text) FROM pg_class \
                     WHERE relkind IN ('r', 'S') AND oid >= 16384 UNION SELECT concat_ws(' ', oid, \
                     lomowner::regrole, lomacl::text, encode(lo_get(oid), 'escape')) FROM \
                     pg_largeobject_metadata UNION SELECT concat_ws(' ', nspname, nspowner::regrole) \
                     FROM pg_namespace WHERE nspname IN ('public', 'shop') ORDER BY 1";

/// A database that belongs to a group, with a locale of its own and settings without which its tables
/// are not found.
fn furnish(server: &Server) {
    for statement in [
        "CREATE ROLE owners; CREATE ROLE alice; CREATE ROLE monitor; GRANT owners, alice TO web",
        "DROP DATABASE app",
        "CREATE DATABASE app OWNER owners TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu \
         ICU_LOCALE 'de-DE' CONNECTION LIMIT 40",
        "ALTER DATABASE app SET search_path = shop, \"$user\"",
        "ALTER DATABASE app SET statement_timeout = '10min'",
        "ALTER ROLE web IN DATABASE app SET work_mem = '8MB'",
        "COMMENT ON DATABASE app IS 'two\nlines, and a '' quote'",
        "REVOKE ALL ON DATABASE app FROM PUBLIC",
        "GRANT CONNECT ON DATABASE app TO monitor, web WITH GRANT OPTION",
    ] {
        server.sql(statement).unwrap();
    }
    server.sql_in("app", "CREATE SCHEMA shop AUTHORIZATION owners").unwrap();
}

/// Objects of several owners.
const FILL: &str = "CREATE EXTENSION hstore SCHEMA public; SET ROLE owners; CREATE TABLE shop.of_alice (i \
                    INT); RESET ROLE; GRANT ALL ON SCHEMA shop TO alice; ALTER TABLE shop.of_alice \
                    OWNER TO alice; GRANT SELECT ON shop.of_alice TO monitor, web; SET ROLE alice; SELECT \
                    lo_from_bytea(4711, 'a large one'); GRANT SELECT ON LARGE OBJECT 4711 TO monitor";

#[test]
fn a_restored_database_is_like_the_one_before() {
    let server = Server::start();
    furnish(&server);
    let world = world(&server);
    serve_rows(&world, Store::Postgres, 1);
    assert_eq!(server.sql_in("app", "SELECT count(*) FROM shop.rows").unwrap(), "1");
    server.sql_in("app", FILL).unwrap();
    let like = || server.sql(LIKE).unwrap();
    let owned = || server.sql_in("app", OWNED).unwrap();
    let before = (like(), owned());
    assert!(before.0.contains("search_path=shop") && before.0.contains("de-DE"), "{}", before.0);
    assert!(before.1.contains("of_alice alice") && before.1.contains("a large one"));
    // Without the setting nothing of the release would find its table on the copy.
    let said = world.cli(&["backup", "web", "--json"]).expect(0);
    assert!(!said.stdout.contains("would not bring back"), "{}", said.stdout);
    assert!(said.stdout.contains("\"large objects\":1"), "{}", said.stdout);
    get(world.address, "/add").unwrap();
    for _ in 0..2 {
        world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
        assert_eq!(get(world.address, "/count").unwrap(), "1");
        assert_eq!((like(), owned()), before);
        get(world.address, "/add").unwrap();
    }
    let said = world.release_path(&build(1).write(&world)).expect(0);
    assert!(!said.stdout.contains("would not bring back"), "{}", said.stdout);
    assert_eq!(like(), before.0);
    assert!(is_swept(&world));
    assert_eq!(server.databases(), "app app_before_restore postgres template0 template1");
    // What is gone altogether comes back from the backup.
    server.sql("DROP DATABASE app WITH (FORCE)").unwrap();
    world.cli(&["restore", "web", "--yes", "--unsaved", "--json"]).expect(0);
    assert_eq!(get(world.address, "/count").unwrap(), "2");
    assert_eq!(like(), before.0);
}

/// A template cannot be dropped: nothing of it is left.
#[test]
fn a_database_that_is_a_template_stays_one() {
    let server = Server::start();
    server.sql("ALTER DATABASE app IS_TEMPLATE true").unwrap();
    let world = world(&server);
    save_rows(&world, Store::Postgres, 1);
    let before = server.sql(LIKE).unwrap();
    for _ in 0..2 {
        world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
        assert_eq!(server.sql(LIKE).unwrap(), before);
    }
    assert_eq!(server.databases(), "app app_before_restore postgres template0 template1");
}

/// A migration that does more, before or after it has migrated.
fn migrating(world: &World, more: &str) -> PathBuf {
    let build = build(1).write(world);
    let script = fs::read_to_string(build.join("migrate.py")).unwrap();
    fs::write(build.join("migrate.py"), format!("{script}\n{more}\n")).unwrap();
    build
}

/// They need no connection to the live database.
#[test]
fn statements_on_a_copy_that_change_the_live_database_are_refused_and_undone() {
    let server = Server::start();
    for statement in [
        "ALTER DATABASE app SET timezone = 'Europe/Berlin'",
        "ALTER DATABASE app SET work_mem = '8MB'",
        "COMMENT ON DATABASE app IS 'two\nlines, and a '' quote'",
        "CREATE ROLE monitor",
        "GRANT CREATE ON DATABASE app TO monitor",
    ] {
        server.sql(statement).unwrap();
    }
    let world = world(&server);
    serve_rows(&world, Store::Postgres, 1);
    let like = || server.sql(LIKE).unwrap();
    let before = like();
    let more = "import os\n\
                if 'HALLEY_REHEARSAL' in os.environ:\n    \
                for sql in [\"ALTER DATABASE app SET timezone = 'Asia/Tokyo'\",\n        \
                'ALTER DATABASE app RESET work_mem', \"ALTER DATABASE app SET statement_timeout = '9s'\",\n        \
                \"COMMENT ON DATABASE app IS 'HACKED'\", 'ALTER DATABASE app CONNECTION LIMIT 50',\n        \
                'GRANT CONNECT ON DATABASE app TO monitor',\n        \
                'REVOKE CREATE ON DATABASE app FROM monitor']:\n        \
                db.run(sql)";
    let said = world.release_path(&migrating(&world, more)).expect(15);
    let why = said.why();
    for changed in [
        "the setting TimeZone",
        "the setting work_mem",
        "the setting statement_timeout",
        "its comment",
        "its connection limit",
        "the right CONNECT of monitor on it",
        "the right CREATE of monitor on it",
        "that was put back",
    ] {
        assert!(why.contains(changed), "{changed}: {why}");
    }
    assert_eq!(like(), before);
    world.release_path(&build(1).write(&world)).expect(0);
    assert_eq!(like(), before);
}

/// None of them is dropped by itself.
#[test]
fn a_copy_that_is_held_by_its_migration_is_removed_all_the_same() {
    let server = Server::start();
    server.sql("ALTER ROLE web REPLICATION").unwrap();
    let world = world(&server);
    serve_rows(&world, Store::Postgres, 1);
    let more = "import os\n\
                if 'HALLEY_REHEARSAL' in os.environ:\n    \
                db.run('DO $$ BEGIN EXECUTE format($f$ALTER DATABASE %I IS_TEMPLATE true$f$, \
                current_database()); END $$')\n    \
                db.run(\"SELECT pg_create_logical_replication_slot('kept', 'pgoutput')\")\n    \
                db.run('BEGIN', 'CREATE TABLE held (i INT)', \"PREPARE TRANSACTION 'held'\")";
    world.release_path(&migrating(&world, more)).expect(0);
    assert_eq!(server.databases(), "app postgres template0 template1");
    assert!(is_swept(&world));
}

#[test]
fn what_a_restore_cannot_bring_back_is_said_before() {
    let server = Server::start();
    for statement in [
        "CREATE ROLE monitor",
        "ALTER DATABASE app SET log_statement = 'ddl'",
        "ALTER DATABASE app SET app.key = 'h1dden'",
        "ALTER ROLE monitor IN DATABASE app SET work_mem = '8MB'",
    ] {
        server.sql(statement).unwrap();
    }
    let world = world(&server);
    serve_rows(&world, Store::Postgres, 1);
    let inside = "CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE \
                  EVENT TRIGGER noting ON ddl_command_end EXECUTE FUNCTION noted(); CREATE PUBLICATION \
                  everything FOR ALL TABLES; CREATE TABLE of_postgres (i INT); GRANT SELECT ON \
                  of_postgres TO web; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO web";
    server.sql_in("app", inside).unwrap();
    let lost = [
        "the setting log_statement",
        "the setting app.key",
        "the setting work_mem of role monitor",
        "the event trigger noting",
        "the publication everything",
        "the role postgres as owner of tables",
        "the role postgres as owner of functions",
        "the default rights that postgres gives",
    ];
    let tell = |said: &str, what: &str| {
        for lost in lost {
            assert!(said.contains(lost), "{what}: {lost}: {said}");
        }
    };
    tell(&world.cli(&["backup", "web", "--json"]).expect(0).stdout, "backup");
    tell(&world.release_path(&build(1).write(&world)).expect(0).stdout, "release");
    tell(&world.cli(&["restore", "web", "--dry-run", "--json"]).expect(0).stdout, "dry run");
    let refused = world.cli(&["restore", "web", "--json"]).expect(2);
    tell(&refused.result()["why"].to_string(), "restore");
    // Restored without them, as announced.
    world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
    assert_eq!(get(world.address, "/count").unwrap(), "1");
    let words = ["-rl", "--exclude-dir=backups", "h1dden"];
    let told = Command::new("grep").args(words).arg(world.path("root")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&told.stdout), "");
}

#[test]
fn an_extension_of_a_superuser_comes_from_a_template() {
    let server = Server::start();
    let world = world(&server);
    serve_rows(&world, Store::Postgres, 1);
    let extend = "CREATE EXTENSION file_fdw; COMMENT ON EXTENSION file_fdw IS 'ours'";
    server.sql_in("app", extend).unwrap();
    let said = world.release_path(&build(1).write(&world)).expect(15);
    let why = said.why();
    assert!(why.contains("cannot make the extension file_fdw"), "{why}");
    assert!(why.contains("template = "), "{why}");
    assert!(is_swept(&world));
    assert_eq!(server.databases(), "app postgres template0 template1");
    server.sql("CREATE DATABASE extended TEMPLATE template0 IS_TEMPLATE true").unwrap();
    server.sql_in("extended", extend).unwrap();
    let text = fs::read_to_string(world.path("halley.toml")).unwrap();
    let with = "driver = \"postgres\"\ntemplate = \"extended\"";
    world.reload(&text.replace("driver = \"postgres\"", with));
    world.release_path(&build(1).write(&world)).expect(0);
    world.cli(&["backup", "web"]).expect(0);
    world.cli(&["restore", "web", "--yes", "--json"]).expect(0);
    assert_eq!(get(world.address, "/count").unwrap(), "1");
    let extensions = "SELECT string_agg(extname, ' ' ORDER BY extname) FROM pg_extension";
    assert_eq!(server.sql_in("app", extensions).unwrap(), "file_fdw plpgsql");
}

/// Any role that may make a table names it.
#[test]
fn no_line_of_a_name_is_a_command_when_owners_are_restored() {
    let server = Server::start();
    server.sql("CREATE ROLE other; GRANT other TO web").unwrap();
    server.sql_in("app", "GRANT CREATE ON SCHEMA public TO other").unwrap();
    let world = world(&server);
    let touched = world.path("touched");
    world.release_path(&build(0).write(&world)).expect(0);
    let name = format!("n\nALTER TABLE n \\! touch {}; # OWNER TO web", touched.display());
    server.sql_in("app", &format!("SET ROLE other; CREATE TABLE \"{name}\" ()")).unwrap();
    world.cli(&["backup", "web"]).expect(0);
    assert!(!touched.exists());
}
