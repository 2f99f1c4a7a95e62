//! What an unprivileged user tries: planted beforehand, or exchanged in a loop while root works.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, setgid, setgroups, setuid};
use rustix::fs::OFlags;

use super::names::has_changed;
use super::*;

/// A user that owns nothing on this machine.
pub(crate) const UID: u32 = 65_533;
/// How often root works while the user exchanges names.
pub(crate) const N_TRIES: usize = 300;

/// Files that a removal gone astray finds.
const N_OTHERS: usize = 100;

/// A process of the user's that lets two names change places for as long as it lives.
pub(crate) struct Exchanger(Pid);

impl Exchanger {
    pub(crate) fn of(dir: &Path, one: &str, other: &str) -> Self {
        let held = Dir::open(dir).unwrap();
        let (one, other) = (OsStr::new(one), OsStr::new(other));
        let before = held.look(one).unwrap().ino();
        let exchanger = Self::doing(|| drop(held.exchange(one, &held, other)));
        while held.look(one).is_ok_and(|meta| meta.ino() == before) {
            std::thread::yield_now();
        }
        exchanger
    }

    /// Does it as the user, for as long as it lives.
    pub(crate) fn doing(mut act: impl FnMut()) -> Self {
        // SAFETY: the child makes system calls and allocates, which glibc lets it do; it starts no
        // thread and returns to nobody.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => Self(child),
            ForkResult::Child => {
                let (uid, gid) = (Uid::from_raw(UID), Gid::from_raw(UID));
                let is_user = setgroups(&[]).and(setgid(gid)).and(setuid(uid)).is_ok();
                while is_user && nix::unistd::getppid().as_raw() > 1 {
                    act();
                }
                // SAFETY: ends this process at once.
                unsafe { libc::_exit(0) }
            }
        }
    }
}

impl Drop for Exchanger {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGKILL).unwrap();
        waitpid(self.0, None).unwrap();
    }
}

/// Two directories: one of root's, and one of the user's.
pub(crate) struct World {
    _dir: tempfile::TempDir,
    pub(crate) roots: PathBuf,
    pub(crate) users: PathBuf,
}

impl World {
    /// Nothing without root: there is no other user then.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let (roots, users) = (dir.path().join("roots"), dir.path().join("users"));
        fs::create_dir(&roots).unwrap();
        fs::create_dir(&users).unwrap();
        fs::write(roots.join("secret"), "secret").unwrap();
        fs::set_permissions(roots.join("secret"), Permissions::from_mode(0o600)).unwrap();
        let world = Self { _dir: dir, roots, users };
        world.given(&world.users);
        Some(world)
    }

    pub(crate) fn given(&self, path: &Path) {
        std::os::unix::fs::lchown(path, Some(UID), Some(UID)).unwrap();
    }

    /// A link of the user's.
    pub(crate) fn link(&self, name: &str, target: &Path) {
        symlink(target, self.users.join(name)).unwrap();
        self.given(&self.users.join(name));
    }

    pub(crate) fn is_untouched(&self) -> bool {
        let meta = fs::metadata(self.roots.join("secret")).unwrap();
        let whole = fs::read_to_string(self.roots.join("secret")).unwrap() == "secret";
        whole && (meta.uid(), meta.mode() & 0o7777) == (0, 0o600)
    }
}

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

#[test]
fn nothing_is_opened_through_a_symlink_or_outside() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    symlink("/etc", dir.path().join("out")).unwrap();
    let root = Dir::open(dir.path()).unwrap();
    let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
    open_beneath(&root, Path::new("in/file"), create, 0o644).unwrap();
    for path in ["../evil", "out/evil", "/tmp/evil"] {
        assert!(open_beneath(&root, Path::new(path), create, 0o644).is_err(), "{path}");
    }
    for bad in ["", ".", "..", "in/file", "/"] {
        assert!(root.create(name(bad), 0o600).is_err() && root.look(name(bad)).is_err(), "{bad}");
    }
}

#[test]
fn a_planted_name_is_never_written_through_or_given_away() {
    let Some(world) = World::new() else { return };
    world.link("file", &world.roots.join("secret"));
    world.link("dir", &world.roots);
    let users = Dir::open(&world.users).unwrap();
    assert!(users.create(name("file"), 0o666).is_err());
    assert!(users.file("file").is_err() && users.file("dir/secret").is_err());
    assert!(users.dir("dir").is_err() && users.have_dir(name("dir"), 0o777).is_err());
    let held = users.pin(name("file")).unwrap();
    held.own((Some(UID), Some(UID))).unwrap();
    assert!(held.set_mode(0o666).is_err() || world.is_untouched(), "a link has no mode");
    let (made, _) = users.create_unguessable(name(".x."), 0o600).unwrap();
    assert!(made.len() > 16 && users.create(&made, 0o600).is_err());
    assert!(world.is_untouched());
}

#[test]
fn a_fifo_blocks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    crate::os::fs::make_fifo(&dir.path().join("fifo"), 0o600).unwrap();
    let held = Dir::open(dir.path()).unwrap();
    let error = held.file("fifo").unwrap_err();
    assert!(has_changed(&error), "{error}");
}

#[test]
fn a_users_link_leads_to_directories_of_that_user_and_roots_leads_anywhere() {
    let Some(world) = World::new() else { return };
    let own = world.users.join("own");
    fs::create_dir(&own).unwrap();
    world.given(&own);
    world.link("inner", &own);
    world.link("outer", &world.roots);
    world.link("file", &world.roots.join("secret"));
    symlink(&world.roots, world.users.join("moved")).unwrap();
    symlink(&own, world.roots.join("kept")).unwrap();
    Dir::open(&world.users.join("inner")).unwrap();
    Dir::open(&world.roots.join("kept")).unwrap();
    // The user may have moved a link of root's there.
    for bad in ["outer", "moved"] {
        let error = Dir::open(&world.users.join(bad)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{bad}: {error}");
    }
    let error = Dir::holder(&world.users.join("file")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    // The name of the real file.
    symlink(own.join("a.db"), world.roots.join("db")).unwrap();
    let (dir, real) = Dir::holder(&world.roots.join("db")).unwrap();
    assert_eq!((real, dir.metadata().unwrap().uid()), ("a.db".into(), UID));
    world.link("loop", &world.users.join("loop"));
    assert!(Dir::open(&world.users.join("loop")).is_err());
}

#[test]
fn a_tree_is_copied_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    fs::create_dir_all(from.join("sub")).unwrap();
    fs::write(from.join("sub/a"), "x").unwrap();
    fs::set_permissions(from.join("sub/a"), Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(from.join("sub/a"), from.join("z")).unwrap();
    symlink("sub/a", from.join("link")).unwrap();
    let odd = OsStr::from_bytes(b"not\xffutf8");
    fs::write(from.join(odd), "odd").unwrap();
    let sparse = File::create(from.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", (64 << 20) - 3).unwrap();
    crate::os::fs::make_fifo(&from.join("fifo"), 0o600).unwrap();
    let old = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000);
    File::open(from.join("sub/a")).unwrap().set_modified(old).unwrap();
    File::open(from.join("sub")).unwrap().set_modified(old).unwrap();
    let has_attributes = rustix::fs::setxattr(
        from.join("z"),
        "user.kind",
        b"plain",
        rustix::fs::XattrFlags::empty(),
    );
    let copied =
        Dir::open(&from).unwrap().copy_to(&Dir::open(dir.path()).unwrap(), name("to"), None);
    let copied = copied.unwrap();
    assert_eq!(copied.skipped, [PathBuf::from("fifo")]);
    assert_eq!(copied.n_files, 3);
    let to = dir.path().join("to");
    assert_eq!(fs::read_to_string(to.join("link")).unwrap(), "x");
    assert!(fs::symlink_metadata(to.join("link")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(to.join(odd)).unwrap(), "odd");
    let meta = |path: &str| fs::metadata(to.join(path)).unwrap();
    assert_eq!(meta("sub/a").mode() & 0o777, 0o640);
    assert_eq!(meta("sub/a").ino(), meta("z").ino(), "two names of one file stay so");
    assert_eq!(meta("sub/a").modified().unwrap(), old);
    assert_eq!(meta("sub").modified().unwrap(), old);
    assert_eq!(meta("sparse").len(), 64 << 20);
    assert!(meta("sparse").blocks() < 1000, "holes are not filled");
    let read = fs::read(to.join("sparse")).unwrap();
    assert!(read.ends_with(b"end") && read[..1 << 20].iter().all(|byte| *byte == 0));
    if has_attributes.is_ok() {
        let mut value = [0; 16];
        let n = rustix::fs::getxattr(to.join("sub/a"), "user.kind", &mut value[..]).unwrap();
        assert_eq!(&value[..n], b"plain");
    }
    // Independent files: a write here is not seen there.
    fs::write(from.join("sub/a"), "y").unwrap();
    assert_eq!(fs::read_to_string(to.join("sub/a")).unwrap(), "x");
}

/// What is shown on the way is what is in the copy, holes and further names too.
#[test]
fn the_bytes_of_a_copy_are_shown_while_it_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("a"), "x").unwrap();
    fs::write(from.join("empty"), "").unwrap();
    fs::hard_link(from.join("a"), from.join("z")).unwrap();
    let large = File::create(from.join("large")).unwrap();
    for (at, text) in [(0, "begin"), (3 << 20, "middle"), ((5 << 20) - 7, "end")] {
        std::os::unix::fs::FileExt::write_at(&large, text.as_bytes(), at).unwrap();
    }
    large.set_len(6 << 20).unwrap();
    let (mut running, mut shown) = (Vec::new(), std::collections::BTreeMap::new());
    let held = Dir::open(dir.path()).unwrap();
    let copied = Dir::open(&from).unwrap().copy_to(
        &held,
        name("to"),
        Some(&mut |what: Shown<'_>| match what {
            Shown::Bytes(bytes) => running.extend_from_slice(bytes),
            Shown::Whole(path) => drop(shown.insert(path.to_owned(), std::mem::take(&mut running))),
            Shown::Again(path, first) => drop(shown.insert(path.to_owned(), shown[first].clone())),
        }),
    );
    assert_eq!(copied.unwrap().n_files, 3);
    let names: Vec<_> = shown.keys().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(names, ["a", "empty", "large", "z"]);
    for (path, bytes) in shown {
        assert!(bytes == fs::read(dir.path().join("to").join(&path)).unwrap(), "{path:?}");
    }
    let meta = fs::metadata(dir.path().join("to/large")).unwrap();
    assert!(meta.blocks() < 1000 && meta.len() == 6 << 20, "holes are not filled");
}

#[test]
fn a_file_that_is_exchanged_while_it_is_copied_reveals_nothing() {
    let Some(world) = World::new() else { return };
    fs::write(world.users.join("f"), "mine").unwrap();
    world.given(&world.users.join("f"));
    world.link("g", &world.roots.join("secret"));
    let (users, roots) = (Dir::open(&world.users).unwrap(), Dir::open(&world.roots).unwrap());
    let _exchanger = Exchanger::of(&world.users, "f", "g");
    let mut n_copied = 0;
    for n in 0..N_TRIES {
        let to = n.to_string();
        users.copy_to(&roots, name(&to), None).unwrap();
        for own in ["f", "g"] {
            let path = world.roots.join(&to).join(own);
            if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
                n_copied += 1;
                assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
            }
        }
    }
    assert!(n_copied > 0);
}

#[test]
fn a_directory_that_is_exchanged_while_its_tree_is_removed_saves_no_other() {
    let Some(world) = World::new() else { return };
    let keep = Dir::open(&world.users).unwrap();
    for n in 0..N_OTHERS {
        fs::write(world.roots.join(n.to_string()), "stays").unwrap();
    }
    for _ in 0..N_TRIES {
        let tree = world.users.join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/f"), "x").unwrap();
        for path in ["tree", "tree/a", "tree/a/b", "tree/a/b/f"] {
            world.given(&world.users.join(path));
        }
        world.link("tree/out", &world.roots);
        let exchanger = Exchanger::of(&tree, "a", "out");
        keep.remove_tree(name("tree")).unwrap();
        drop(exchanger);
        assert!(world.is_untouched() && !tree.exists());
        assert_eq!(fs::read_dir(&world.roots).unwrap().count(), N_OTHERS + 1);
    }
}

#[test]
fn a_sealed_tree_is_removed_and_what_its_links_point_at_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::write(&outside, "stays").unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(tree.join("a/b/f"), "x").unwrap();
    fs::write(tree.join("a/f"), "x").unwrap();
    symlink(&outside, tree.join("a/link")).unwrap();
    for path in ["a/b", "a"] {
        fs::set_permissions(tree.join(path), Permissions::from_mode(0o000)).unwrap();
    }
    remove_tree(&tree).unwrap();
    assert!(!tree.exists() && outside.exists());
    remove_tree(&tree).unwrap();
    remove_tree(&tree.join("below")).unwrap();
    symlink(&outside, &tree).unwrap();
    remove_tree(&tree).unwrap();
    assert!(fs::symlink_metadata(&tree).is_err() && outside.exists());
}

#[test]
fn a_tree_of_any_depth_is_removed_and_is_not_copied() {
    const DEPTH: usize = 1500;
    let dir = tempfile::tempdir().unwrap();
    let held = Dir::open(dir.path()).unwrap();
    let mut at = held.make_dir(name("tree"), 0o755).unwrap();
    for _ in 0..DEPTH {
        at = at.make_dir(name("d"), 0o755).unwrap();
    }
    let tree = held.dir("tree").unwrap();
    let error = tree.copy_to(&held, name("copy"), None).unwrap_err();
    assert!(error.to_string().contains("nested deeper"), "{error}");
    assert!(tree.walk(&mut |_| Ok(())).is_err());
    for tree in ["tree", "copy"] {
        held.remove_tree(name(tree)).unwrap();
    }
    assert_eq!(held.names().unwrap(), [""; 0]);
}
