//! A configuration to begin with, of a directory as it is found.

use std::fs;
use std::process::{Command, Output};

use crate::world::{BINARY, free_address};

fn halley(args: &[&str]) -> Output {
    Command::new(BINARY).args(args).env_remove("HALLEY_CONFIG").output().unwrap()
}

/// Files, and what is written of them.
const KINDS: &[(&[(&str, &str)], &str)] = &[
    (&[("package.json", r#"{"scripts":{"start":"node a.js"}}"#)], r#"["npm","start"]"#),
    (&[("package.json", r#"{"main":"my \"a.js"}"#)], r#"["node","my \"a.js"]"#),
    (&[("Gemfile", ""), ("bin/rails", "")], "writable = [\"tmp\",\"log\"]"),
    (&[("manage.py", ""), ("site/wsgi.py", ""), ("requirements.txt", "gunicorn")], "site.wsgi"),
    (&[("manage.py", ""), ("db.sqlite3", "")], "links    = [\"db.sqlite3\"]"),
    (&[("requirements.txt", "fastapi"), ("main.py", "")], r#""uvicorn","main:app","--fd","3""#),
    (&[("pyproject.toml", "dependencies = ['Flask']"), ("app.py", "")], "\"flask\""),
    (&[("go.mod", "module x")], "go build"),
    (&[("Cargo.toml", "[package]\nname = \"mine\"\n")], "[\"./mine\"]"),
    (&[("public/index.php", "")], r#""-t","public""#),
    (&[("index.html", "x")], "http.server"),
    (&[], "no kind of program"),
];

#[test]
fn every_kind_of_directory_gets_a_configuration_that_check_accepts() {
    for (files, expected) in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("My app.2");
        fs::create_dir(&dir).unwrap();
        for (name, text) in *files {
            fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
            fs::write(dir.join(name), text).unwrap();
        }
        let path = dir.to_string_lossy().into_owned();
        let wrote = halley(&["init", &path, "--json"]);
        let result: serde_json::Value = serde_json::from_slice(&wrote.stdout).unwrap();
        assert_eq!(
            (&result["service"], &result["outcome"]),
            (&"my-app-2".into(), &"written".into())
        );
        let text = fs::read_to_string(dir.join("halley.toml")).unwrap();
        assert!(text.contains(expected), "{expected}\n{text}");
        // As it stands.
        let check = result["next"][0].as_str().unwrap().replace("halley-sup", BINARY);
        let checked = Command::new("sh").args(["-c", &check]).output().unwrap();
        assert!(checked.status.success(), "{checked:?}\n{text}");
        let unit = fs::read_to_string(dir.join("halley-sup.service")).unwrap();
        assert!(unit.contains(&format!(" run --config \"{path}/halley.toml\"\n")), "{unit}");
        // What is there stays.
        fs::write(dir.join("halley.toml"), "mine").unwrap();
        assert_eq!(halley(&["init", &path]).status.code(), Some(2));
        assert_eq!(fs::read_to_string(dir.join("halley.toml")).unwrap(), "mine");
        fs::remove_file(dir.join("halley.toml")).unwrap();
        fs::write(dir.join("halley-sup.service"), "mine").unwrap();
        assert!(halley(&["init", &path]).status.success());
        assert_eq!(fs::read_to_string(dir.join("halley-sup.service")).unwrap(), "mine");
    }
}

#[test]
fn what_is_written_serves() {
    let mut world = crate::world::World::asleep(free_address());
    fs::write(world.path("index.html"), "hello").unwrap();
    let dir = world.path("").to_string_lossy().into_owned();
    assert!(halley(&["init", &dir, "--name", "web"]).status.success());
    let text = fs::read_to_string(world.path("halley.toml")).unwrap();
    let port = world.address.port().to_string();
    let text = text.replace("8080", &port).replace("\"30s\"", "\"200ms\"");
    world.configure(&format!("root = \"root\"\n{text}"));
    world.wake();
    let build = world.path("build");
    fs::create_dir(&build).unwrap();
    fs::copy(world.path("index.html"), build.join("index.html")).unwrap();
    world.release_path(&build).expect(0);
}
