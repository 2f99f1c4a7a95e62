//! Mounts below the data's directory: another file system for uploads, a database on a disk of its own.

use std::fs;

use crate::isolation::{Held, NOBODY};

/// Becomes `halley-sup run` where this script has mounted something.
fn mounting(script: &str) -> Vec<String> {
    let script = format!(
        "cd $HALLEY_TEST_WORLD && mkdir -p root/web/shared/data files/nested && {script} && \
         cd / && exec \"$@\""
    );
    let wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", &script, "sh"];
    wrapper.map(str::to_owned).into()
}

fn held(wrapper: &[String], more: &str) -> Held {
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    Held::under(&wrapper, "root/web/shared/data/app.db", more)
}

const UPLOADS: &str = "mkdir 'root/web/shared/data/up loads' && echo seen > files/a && \
                       mount --bind files 'root/web/shared/data/up loads' && \
                       mount -t tmpfs none 'root/web/shared/data/up loads/nested' && \
                       echo deep > 'root/web/shared/data/up loads/nested/b'";

/// Reads what is mounted, tries to change it, and says what came of it.
const CHANGE: &str = r#"
import os, sys
at = os.environ["HALLEY_SHARED"] + "/data/up loads"
said = open(at + "/a").read() + open(at + "/nested/b").read()
for change in [lambda: open(at + "/a", "w"), lambda: open(at + "/nested/b", "a"),
               lambda: os.remove(at + "/a"), lambda: os.rmdir(at + "/nested"), lambda: os.rmdir(at)]:
    try: change(); said += "changed "
    except OSError as error: said += f"{error.errno} "
sys.exit(said.replace("\n", " "))
"#;

#[test]
fn what_is_mounted_below_the_data_is_seen_in_a_rehearsal_and_stays_as_it_is() {
    let held = held(&mounting(UPLOADS), "");
    let try_it = || {
        let said = held.release("", |build| fs::write(build.join("damage.py"), CHANGE).unwrap());
        said.expect(16).result()["trouble"]["why"].as_str().unwrap().to_owned()
    };
    let why = try_it();
    let (read_only, busy) = (libc::EROFS, libc::EBUSY);
    let expected = format!("seen deep {read_only} {read_only} {read_only} {read_only} {busy}");
    assert!(why.contains(&expected), "{why}");
    assert_eq!(fs::read_to_string(held.world.path("files/a")).unwrap(), "seen\n");
    // As any other directory of the host, it can be one in which what is written is thrown away.
    let at = held.database.with_file_name("up loads");
    let text = fs::read_to_string(held.world.path("halley.toml")).unwrap();
    let line = format!("rehearse_write = [{:?}]\n[service.web.health]", at.to_string_lossy());
    held.world.reload(&text.replace("[service.web.health]", &line));
    let why = try_it();
    let expected = format!("seen deep changed {read_only} changed {busy} {busy}");
    assert!(why.contains(&expected), "{why}");
    assert_eq!(fs::read_to_string(held.world.path("files/a")).unwrap(), "seen\n");
}

#[test]
fn a_database_on_a_mount_of_its_own_below_shared_is_rehearsed_on_the_copy() {
    let data = "root/web/shared/data";
    let held = held(&mounting(&format!("mount --bind {data} {data}")), "");
    let live = held.database.to_string_lossy().into_owned();
    held.is_tried_on_the_copy(&live, |_| {});
    // What lies beside it is there too.
    fs::write(held.database.with_file_name("name"), &live).unwrap();
    let beside = format!("file={}", held.database.with_file_name("name").display());
    held.is_tried_on_the_copy(&beside, |_| {});
    held.status_says("mounts", "rehearsals on a copy: isolated by mounts,");
}

#[test]
fn a_user_namespace_that_may_not_cover_a_mount_leaves_it_to_landlock() {
    let nobody: Vec<String> = NOBODY.map(str::to_owned).into();
    let held = held(&[mounting(UPLOADS), nobody].concat(), "");
    held.status_says("landlock", "live data cannot be written (Landlock)");
    let script = "import os, sys\n\
                  at = LIVE + '/up loads'\n\
                  try: open(at + '/a', 'w')\n\
                  except OSError as error: sys.exit(f'{open(at + \"/a\").read()}{error.errno}')\n";
    let live = held.database.parent().unwrap().to_string_lossy().into_owned();
    let script = script.replace("LIVE", &format!("{live:?}"));
    let said = held.release("", |build| fs::write(build.join("damage.py"), &script).unwrap());
    let why = said.expect(16).result()["trouble"]["why"].as_str().unwrap().to_owned();
    assert!(why.contains(&format!("seen\n{}", libc::EACCES)), "{why}");
    assert_eq!(fs::read_to_string(held.world.path("files/a")).unwrap(), "seen\n");
}
