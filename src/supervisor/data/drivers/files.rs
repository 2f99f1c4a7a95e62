//! A tree of files: copied file by file. It is as consistent as its writers leave it: what changed
//! while it was copied is copied again, a few times; then it is an error.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::backup::files::Files;
use crate::core::ordered::Ordered as _;
use crate::os::beneath::{self, Copied, Dir, Met};
use crate::os::exchange::Exchange;
use crate::os::fs as durable;
use crate::store::seal::Hashes;
use crate::supervisor::data::context::{self, Context, on_thread};
use crate::supervisor::data::driver::{Counts, Done, Driver, Place, Taken, Undone};
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::site::Site;
use crate::text;

/// How often files that change while they are copied are copied again.
const N_ROUNDS: u32 = 3;
const TREE: &str = "tree";

impl Driver for Files {
    async fn take(&self, context: &Context<'_>, dir: &Path) -> Done<Taken> {
        let (from, to) = (context.path(&Site::Live, &self.path), dir.join(TREE));
        if !from.is_dir() {
            return Err(DataError::NoDirectory { path: from });
        }
        let copied = on_thread(move || {
            for _ in 0..N_ROUNDS {
                durable::remove_tree(&to)?;
                let before = stamps(&from)?;
                let (copied, hashes) = copy(&from, &to)?;
                let after = stamps(&from)?;
                if after == before || is_whole(&before, &after, &stamps(&to)?) {
                    let left_out = copied.skipped.iter().map(|path| text::path(path)).collect();
                    return Ok(Some(Taken { hashes, left_out }));
                }
            }
            Ok(None)
        });
        copied.await.map_err(DataError::Tree)?.ok_or(DataError::Unsteady)
    }

    fn hashes_what_it_copies(&self) -> bool {
        true
    }

    async fn restore(&self, context: &Context<'_>, from: &Path, site: &Site) -> Done<Hashes> {
        let (from, to) = (from.join(TREE), context.path(site, &self.path));
        let copied = on_thread(move || {
            if let Some(parent) = to.parent() {
                Dir::have(parent, 0o755)?;
            }
            durable::remove_tree(&to)?;
            copy(&from, &to).map(|(_, hashes)| hashes)
        });
        copied.await.map_err(DataError::Tree)
    }

    async fn replaceable(&self, context: &Context<'_>) -> Done {
        let live = context.path(&Site::Live, &self.path);
        if !live.exists() {
            return Ok(());
        }
        context::renamable(&live, &self.exchange(context)?)
    }

    async fn stage(&self, context: &Context<'_>, from: &Path) -> Done {
        self.replaceable(context).await?;
        let live = context.path(&Site::Live, &self.path);
        if let Some(parent) = live.parent() {
            Dir::have(parent, 0o755).map_err(DataError::at(parent))?;
        }
        let (exchange, from) = (self.exchange(context)?, from.join(TREE));
        let staged = on_thread(move || {
            exchange.remove_before()?;
            prepare(&from, &exchange)
        });
        staged.await.map_err(DataError::Tree)
    }

    fn shows_no_loss(&self) -> &'static str {
        "no file is new or was changed since"
    }

    fn sees_not(&self) -> &'static str {
        ""
    }

    async fn changed(&self, context: &Context<'_>, from: &Path) -> Done<Vec<String>> {
        let (live, from) = (context.path(&Site::Live, &self.path), from.join(TREE));
        on_thread(move || changed(&live, &from)).await.map_err(DataError::Tree)
    }

    async fn aside(&self, context: &Context<'_>) -> Done<Vec<PathBuf>> {
        let live = context.path(&Site::Live, &self.path);
        self.exchange(context)?.aside(&live).map(Vec::from_iter).map_err(DataError::at(&live))
    }

    async fn displaced(&self, context: &Context<'_>, from: &Path) -> Done<(Counts, Vec<String>)> {
        let Some(aside) = self.aside(context).await?.pop() else { return Ok(Default::default()) };
        let from = from.join(TREE);
        let counted = on_thread(move || Ok((counts(&aside)?, changed(&aside, &from)?)));
        counted.await.map_err(DataError::Tree)
    }

    async fn put(&self, context: &Context<'_>, _from: &Path) -> Done {
        self.exchange(context)?.put().map_err(DataError::Tree)
    }

    async fn take_back(&self, context: &Context<'_>, _from: &Path) -> Done<Undone> {
        self.exchange(context)?.take_back().map(Undone::from).map_err(DataError::Tree)
    }

    async fn let_go(&self, context: &Context<'_>) -> Done {
        let exchange = self.exchange(context)?;
        on_thread(move || exchange.remove_before()).await.map_err(DataError::Tree)
    }

    async fn unstage(&self, context: &Context<'_>, _from: &Path) -> Done {
        let exchange = self.exchange(context)?;
        on_thread(move || exchange.remove_staged()).await.map_err(DataError::Tree)
    }

    async fn inspect(&self, context: &Context<'_>, site: &Site) -> Done<Counts> {
        let dir = context.path(site, &self.path);
        on_thread(move || counts(&dir)).await.map_err(DataError::Tree)
    }

    fn may_be_empty(&self) -> bool {
        true
    }

    fn place(&self) -> Option<Place<'_>> {
        Some(Place::Directory(&self.path))
    }
}

/// A copy of a tree, durably; with the owner, mode and attributes of the directory whose place it is
/// to take.
fn prepare(from: &Path, exchange: &Exchange) -> io::Result<()> {
    let (dir, staged) = (exchange.dir(), exchange.staged());
    dir.remove_tree(&staged)?;
    Dir::open(from)?.copy_to(dir, &staged, None)?;
    match dir.dir(exchange.name()) {
        Ok(place) => beneath::liken(dir.dir(&staged)?, &place.metadata()?, &place)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    dir.sync_all()
}

impl Files {
    fn exchange(&self, context: &Context<'_>) -> Done<Exchange> {
        let live = context.path(&Site::Live, &self.path);
        Exchange::at(&live, &[]).map_err(DataError::at(&live))
    }
}

fn counts(dir: &Path) -> io::Result<Counts> {
    let files = stamps(dir)?;
    let bytes = files.iter().map(|(_, stamp)| stamp.2).sum();
    Ok(Counts::from([("files".to_owned(), files.len() as u64), ("bytes".to_owned(), bytes)]))
}

/// What a tree holds that is not, or not the same, in the other one. A number of files would not say it:
/// one may be gone and another one have come.
fn changed(live: &Path, backup: &Path) -> io::Result<Vec<String>> {
    let backup = Dir::open(backup)?;
    let mut changed = Vec::new();
    Dir::open(live)?.walk(&mut |met| {
        if let Some(what) = difference(met, &backup)? {
            changed.push(format!("{}: {what}", text::path(met.path)));
        }
        Ok(())
    })?;
    Ok(changed)
}

/// Without the same time contents are compared.
fn difference(met: &Met<'_>, backup: &Dir) -> io::Result<Option<&'static str>> {
    const NEW: &str = "new since";
    let is_same = if met.meta.is_dir() {
        true
    } else if met.meta.is_symlink() {
        let Ok(then) = backup.link_target(met.path) else { return Ok(Some(NEW)) };
        then == met.dir.target(met.name)?
    } else if met.meta.is_file() {
        let Ok(then) = backup.file(met.path) else { return Ok(Some(NEW)) };
        let meta = then.metadata()?;
        let time = |meta: &Metadata| (meta.mtime(), meta.mtime_nsec());
        meta.len() == met.meta.len()
            && (time(&meta) == time(met.meta) || are_equal(then, met.dir.file(met.name)?)?)
    } else {
        return Ok(Some("no backup holds it (FIFO, socket or device)"));
    };
    Ok((!is_same).then_some("changed since"))
}

fn are_equal(one: File, other: File) -> io::Result<bool> {
    let (mut one, mut other) = (BufReader::new(one), BufReader::new(other));
    loop {
        let (a, b) = (one.fill_buf()?, other.fill_buf()?);
        let n = a.len().min(b.len());
        if a[..n] != b[..n] || (n == 0 && a.len() != b.len()) {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
        one.consume(n);
        other.consume(n);
    }
}

/// Modification time in seconds and nanoseconds, size, change time, inode: what a write, or another
/// file in the place of this one, changes.
type Stamp = (i64, i64, u64, i64, i64, u64);

/// Every plain file with its stamp, by path.
fn stamps(dir: &Path) -> io::Result<Vec<(PathBuf, Stamp)>> {
    let mut stamps = Vec::new();
    Dir::open(dir)?.walk(&mut |met| {
        if met.meta.is_file() {
            stamps.push((met.path.to_owned(), stamp(met.meta)));
        }
        Ok(())
    })?;
    Ok(stamps)
}

/// Whether a copy that was made between two looks is one of files that did not change meanwhile. Files that
/// came or went are in it or not: temporary files, sessions. A renamed one may be in it under no name.
fn is_whole(
    before: &[(PathBuf, Stamp)],
    after: &[(PathBuf, Stamp)],
    copy: &[(PathBuf, Stamp)],
) -> bool {
    let name = |path: &Path| format!("{path:?}");
    let content = |stamp: &Stamp| format!("{} {} {}", stamp.0, stamp.1, stamp.2);
    let file = |stamp: &Stamp| format!("{} {}", content(stamp), stamp.5);
    let whole = |(path, stamp): &(PathBuf, Stamp)| (name(path), format!("{stamp:?}"));
    let then = before.iter().map(whole).into_map();
    let now = after.iter().map(whole).into_map();
    let copied = copy.iter().map(|(path, stamp)| (name(path), content(stamp))).into_map();
    let is_new = |(path, _): &&(PathBuf, Stamp)| !then.contains_key(&name(path));
    let came = after.iter().filter(is_new).map(|(_, stamp)| file(stamp)).into_set();
    let is_same = |(path, stamp): &(PathBuf, Stamp)| {
        let name = name(path);
        match then.get(&name) {
            Some(then) => Some(then) == now.get(&name),
            // Half of it may have been there when it was copied.
            None => copied.get(&name).is_none_or(|copied| *copied == content(stamp)),
        }
    };
    let is_renamed = |(path, stamp): &(PathBuf, Stamp)| {
        !now.contains_key(&name(path)) && came.contains(&file(stamp))
    };
    after.iter().all(is_same) && !before.iter().any(is_renamed)
}

fn stamp(meta: &Metadata) -> Stamp {
    let changed = (meta.ctime(), meta.ctime_nsec());
    (meta.mtime(), meta.mtime_nsec(), meta.len(), changed.0, changed.1, meta.ino())
}

/// Copies a directory as it is, and hashes what it copies. Sockets, pipes and devices are no data.
fn copy(from: &Path, to: &Path) -> io::Result<(Copied, Hashes)> {
    let (parent, name) = Dir::parent(to)?;
    let mut hashes = Hashes::default();
    let copied =
        Dir::open(from)?.copy_to(&parent, &name, Some(&mut |shown| hashes.see(TREE, &shown)))?;
    Ok((copied, hashes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_copy_of_a_tree_shows_that_the_tree_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::write(from.join("sub/a"), "x").unwrap();
        let before = stamps(&from).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(stamps(&from).unwrap(), before);
        fs::write(from.join("sub/a"), "y").unwrap();
        assert_eq!(fs::read_to_string(to.join("sub/a")).unwrap(), "x");
        assert_ne!(stamps(&from).unwrap(), before);
    }

    #[test]
    fn files_may_come_and_go_and_must_not_change_while_they_are_copied() {
        type Act = fn(&Path);
        let cases: [(&str, bool, Act, Act); 7] = [
            ("one goes", true, |_| {}, |from| fs::remove_file(from.join("a")).unwrap()),
            ("one comes", true, |_| {}, |from| fs::write(from.join("c"), "new").unwrap()),
            (
                "one comes, and is copied",
                true,
                |from| fs::write(from.join("c"), "c").unwrap(),
                |_| {},
            ),
            (
                "half of one is copied",
                false,
                |from| fs::write(from.join("c"), "c").unwrap(),
                |from| fs::write(from.join("c"), "cc").unwrap(),
            ),
            ("one changes", false, |_| {}, |from| fs::write(from.join("a"), "changed").unwrap()),
            (
                "another one takes its place",
                false,
                |_| {},
                |from| {
                    fs::write(from.join("c"), "other").unwrap();
                    fs::rename(from.join("c"), from.join("a")).unwrap();
                },
            ),
            (
                "one is renamed",
                false,
                |_| {},
                |from| fs::rename(from.join("a"), from.join("c")).unwrap(),
            ),
        ];
        for (what, is_good, between, later) in cases {
            let dir = tempfile::tempdir().unwrap();
            let (from, to) = (dir.path().join("from"), dir.path().join("to"));
            fs::create_dir_all(&from).unwrap();
            fs::write(from.join("a"), "one").unwrap();
            fs::write(from.join("b"), "two").unwrap();
            let before = stamps(&from).unwrap();
            between(&from);
            copy(&from, &to).unwrap();
            later(&from);
            let whole = is_whole(&before, &stamps(&from).unwrap(), &stamps(&to).unwrap());
            assert_eq!(whole, is_good, "{what}");
        }
    }
}
