//! Archives as others pack them: taken in right, or refused with the way to pack them.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

use crate::world::World;

fn run(program: &str, args: &[&str]) {
    assert!(Command::new(program).args(args).status().unwrap().success(), "{program} {args:?}");
}

#[test]
fn a_sparse_file_is_refused_in_every_form() {
    let world = World::new();
    world.release(&[]).expect(0);
    let build = world.build(&[]);
    let mut data = fs::File::create(build.join("data")).unwrap();
    for at in [0, 1 << 20, 3 << 20] {
        data.seek(SeekFrom::Start(at)).unwrap();
        data.write_all(b"here").unwrap();
    }
    data.set_len(5 << 20).unwrap();
    let (dir, archive) = (build.to_string_lossy().into_owned(), world.path("sparse.tar"));
    let to = archive.to_string_lossy().into_owned();
    for form in ["gnu", "0.0", "0.1", "1.0"] {
        let version = format!("--sparse-version={form}");
        let how = if form == "gnu" { vec!["-H", "gnu"] } else { vec!["-H", "posix", &version] };
        let args = [&["-C", &dir, "--sparse"], &how[..], &["-cf", &to, "."]].concat();
        run("tar", &args);
        let why = world.release_path(&archive).expect(11).why();
        assert!(
            why.contains("data: it is a sparse file: pack it without --sparse"),
            "{form}: {why}"
        );
        assert_eq!(world.answering(), Some(1));
    }
    run("tar", &["-C", &dir, "-cf", &to, "."]);
    world.release_path(&archive).expect(0);
    let taken = fs::read(world.service_path("current/data")).unwrap();
    assert!(taken == fs::read(build.join("data")).unwrap());
}

#[test]
fn what_is_packed_in_another_way_is_refused_with_the_command_that_converts_it() {
    let world = World::new();
    let build = world.build(&[]);
    let (dir, tar) = (build.to_string_lossy().into_owned(), world.path("a.tar"));
    run("tar", &["-C", &dir, "-cf", &tar.to_string_lossy(), "."]);
    for (name, start, wanted) in [
        ("xz", &b"\xfd7zXZ\0"[..], "xz -dc FILE | halley-sup release web -"),
        ("bzip2", b"BZh9", "bzip2 -dc FILE | halley-sup release web -"),
        ("zip", b"PK\x03\x04", "unzip -q FILE -d \"$d\" && halley-sup release web \"$d\""),
        ("7z", b"7z\xbc\xaf\x27\x1c", "7z x -o\"$d\" FILE && "),
        ("lz4", b"\x04\x22\x4d\x18", "lz4 -dc FILE | "),
    ] {
        let file = world.path(&format!("packed.{name}"));
        fs::write(&file, [start, &[7; 600]].concat()).unwrap();
        let said = world.release_path(&file).expect(11);
        let why = said.why();
        assert!(why.contains(&format!("packed with {name}, which")), "{why}");
        let next = said.result()["next"][0].as_str().unwrap().to_owned();
        assert!(next.contains(&wanted.replace("FILE", &file.to_string_lossy())), "{next}");
    }
}

#[test]
fn files_of_macos_are_left_out_and_others_of_such_a_name_are_not() {
    let world = World::new();
    let build = world.build(&[]);
    fs::create_dir(build.join("sub")).unwrap();
    for name in ["._VERSION", "sub/._a"] {
        fs::write(build.join(name), b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X").unwrap();
    }
    fs::write(build.join("sub/._mine"), "x").unwrap();
    let tar = world.path("mac.tar");
    run("tar", &["-C", &build.to_string_lossy(), "-cf", &tar.to_string_lossy(), "."]);
    for source in [&build, &tar] {
        let said = world.release_path(source).expect(0).result();
        assert!(
            said["warnings"].to_string().contains("2 files of macOS (._NAME) left out"),
            "{said}"
        );
        let there = |name: &str| world.service_path("current").join(Path::new(name)).exists();
        assert_eq!(
            (there("._VERSION"), there("sub/._a"), there("sub/._mine")),
            (false, false, true)
        );
    }
}
