//! The README's five minutes, as they are written there; only the port and the length of the bake
//! are the test's own.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::world::{self, BINARY};

#[test]
fn the_five_minutes_of_the_readme_go_as_they_are_written() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, section) = readme.split_once("\n## Five minutes\n").unwrap();
    let port = world::free_address().port().to_string();
    let config = block(section, "toml").replace("8080", &port).replace("\"5s\"", "\"1s\"");
    let commands = block(section, "sh").replace("8080", &port);
    assert!(config.contains("\"1s\"") && commands.matches("curl").count() == 1, "{section}");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("halley.toml"), format!("root = \"root\"\n{config}")).unwrap();
    let bin = Path::new(BINARY).parent().unwrap().display();
    let script = format!(
        "set -eu\nPATH={bin}:$PATH\ntrap 'kill %1; wait %1' EXIT\n{commands}\n\
         curl -sS http://127.0.0.1:{port}/\n"
    );
    let output = Command::new("bash").arg("-c").arg(script).current_dir(dir.path()).output();
    let output = output.unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let wanted = [
        "ok, 1 service",
        "web: release 1 is live",
        "one",
        "web: release 2 is live",
        "1, warm",
        "web: rolled back to release 1",
        "GET / HTTP/1.1",
        "one",
    ];
    let mut rest = stdout.as_str();
    for line in wanted {
        let found = rest.split_once(line);
        rest = found.unwrap_or_else(|| panic!("no {line:?}\n{stdout}\n{stderr}")).1;
    }
}

/// The first block of this kind.
fn block<'a>(section: &'a str, kind: &str) -> &'a str {
    let (_, after) = section.split_once(&format!("```{kind}\n")).unwrap();
    after.split("```").next().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
