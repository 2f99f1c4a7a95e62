//! What knows the live MariaDB database by heart: in a rehearsal it is refused, or gets the copy.

use std::fs;
use std::path::PathBuf;

use crate::any_database::{MariaDb, mariadb_build};
use crate::ledger_app::{Store, is_swept, serve_rows};
use crate::postgres::PASSWORD;
use crate::world::World;

/// A release whose migration is this script.
pub fn scripted(world: &World, script: &str) -> PathBuf {
    let dir = mariadb_build(0).write(world);
    let text = fs::read_to_string(dir.join("release.toml")).unwrap();
    let migrate = "[migrate]\ncommand = [\"/bin/sh\", \"-e\", \"migrate.sh\"]\n";
    fs::write(dir.join("release.toml"), format!("{text}{migrate}")).unwrap();
    fs::write(dir.join("migrate.sh"), format!("{script}\nexit 3\n")).unwrap();
    dir
}

/// Ways to the live database, and what each one says in a rehearsal.
pub fn ways_of(server: &MariaDb) -> Vec<(String, &'static str)> {
    let (port, socket) = (server.port, server.socket());
    let write = "-e \"DELETE FROM \\`rows\\`; SELECT CONCAT('wrote to ', DATABASE())\"";
    let client = "mariadb --no-defaults --batch --skip-column-names --protocol=tcp";
    let live = format!("export MYSQL_PWD='{PASSWORD}'\n{client} --port={port} --user=web");
    let copies =
        format!("export MYSQL_PWD=c0pies\n{client} --port={port} --user=copies --host=127.0.0.1");
    // A server that it trusts.
    let tls = format!("--ssl --ssl-verify-server-cert --ssl-ca={}", server.cert());
    let login = "a login as \"web\"";
    let change = "import os, pymysql, urllib.parse as u; url = u.urlsplit(os.environ['DATABASE_URL']); \
                  db = pymysql.connect(user=url.username, password=url.password, host=url.hostname, port=url.port); \
                  db._execute_command(0x11, b'web\\\\0\\\\0app\\\\0'); db._read_packet()";
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-venv/bin/python3");
    vec![
        (format!("{live} --host=127.0.0.1 app {write}"), login),
        (format!("{live} --host=::1 app {write}"), login),
        (format!("{live} --host=127.0.0.9 app {write}"), login),
        (format!("{live} --protocol=socket --socket={socket} app {write}"), login),
        (
            format!("{client} --host=127.0.0.1 --port={port} --user=root app {write}"),
            "a login as \"root\"",
        ),
        (format!("{live} --host=localhost {tls} app {write}"), "SSL is required"),
        (format!("{live} --host=127.0.0.1 --compress app {write}"), login),
        (format!("{copies} app {write}"), "denied"),
        (format!("{copies} -e 'DELETE FROM app.`rows`'"), "denied"),
        (format!("{copies} -e 'USE app'"), "denied"),
        (format!("{copies} -e 'DROP DATABASE app'"), "denied"),
        (format!("{python} -c \"{change}\""), "a change of the user"),
        // By the variables, whole and in parts, there is the copy.
        (
            format!(
                "MYSQL_PWD=$DB_PASSWORD {client} --host=127.0.0.1 --port=$DB_PORT --user=$DB_USER $DB_NAME {write}"
            ),
            "wrote to halley_scratch_",
        ),
    ]
}

#[test]
fn no_way_from_a_rehearsal_leads_to_the_live_mariadb_database() {
    let server = MariaDb::start_with_tls();
    let world = server.world();
    serve_rows(&world, Store::MariaDb, 1);
    // Whatever a program knows of the live database by heart, it is refused, or gets the copy.
    let before = server.dump();
    let ways = ways_of(&server);
    for some in ways.chunks(5) {
        let tries = some
            .iter()
            .enumerate()
            .map(|(n, (way, _))| format!("echo \"way {n}: $({way} 2>&1 | tail -n 1)\"\n"));
        let said = world.release_path(&scripted(&world, &tries.collect::<String>())).expect(16);
        let why = said.why();
        for (n, (way, expected)) in some.iter().enumerate() {
            let line = why.lines().find_map(|line| line.split_once(&format!("way {n}: ")));
            let (_, line) = line.unwrap_or_else(|| panic!("{way}: {why}"));
            assert!(line.contains(expected), "{way}: {why}");
            let hint = "Take the URL of the copy from DATABASE_URL";
            assert!(line.contains(hint) || !expected.contains("login"), "{way}: {why}");
        }
        assert_eq!(server.dump(), before, "{why}");
        assert!(is_swept(&world));
    }
    assert_eq!(server.databases(), "app");
    // Whoever could reach more is no user for copies.
    server.sql("GRANT SELECT ON app.* TO copies").unwrap();
    let said = world.release_path(&mariadb_build(0).write(&world));
    assert_ne!(said.code, 0);
    let expected = "the user in COPIES_URL can reach more than copies: database app";
    assert!(said.stdout.contains(expected), "{}", said.stdout);
}
