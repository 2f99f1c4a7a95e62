//! Sealing: a staged tree is listed, hashed, made read-only, synced, and becomes `releases/N` by
//! one rename.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::core::ids::ReleaseId;
use crate::os::beneath::{Dir, Met, Shown, give};
use crate::os::fs as durable;
use crate::store::content::Content;
use crate::store::intake::hex;
use crate::store::layout::ServiceLayout;

/// A tree as it was staged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// sha256 over all entries: the name of this content, however it came in.
    pub digest: String,
    /// How many files.
    pub n_files: u64,
    /// Their bytes.
    pub size_bytes: u64,
    /// Every entry, by path.
    pub entries: Vec<Entry>,
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path within the tree.
    pub path: String,
    /// `file`, `program`, `directory` or `symlink`; `special` for what holds no content: a FIFO, a
    /// socket, a device.
    pub kind: Cow<'static, str>,
    /// sha256 of a file; a symlink's target.
    pub content: Content,
}

/// sha256 of files, by their paths in a tree: of bytes that somebody has copied anyway.
#[derive(Debug, Default)]
pub struct Hashes {
    known: BTreeMap<PathBuf, Content>,
    running: Sha256,
}

impl Hashes {
    /// Takes the next bytes of a file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.running.update(bytes);
    }

    /// All bytes of the file at this path were taken.
    pub fn whole(&mut self, path: PathBuf) {
        self.known.insert(path, Content::Hash(self.running.finalize_reset().into()));
    }

    /// Takes what is shown of a tree below `top`, while it is copied.
    pub fn see(&mut self, top: &str, shown: &Shown<'_>) {
        match *shown {
            Shown::Bytes(bytes) => self.update(bytes),
            Shown::Whole(path) => self.whole(Path::new(top).join(path)),
            Shown::Again(path, first) => {
                let same = self.known.get(&Path::new(top).join(first)).cloned();
                self.known.extend(same.map(|hash| (Path::new(top).join(path), hash)));
            }
        }
    }
}

/// Lists and hashes a tree.
///
/// # Errors
/// The system's.
pub fn list(dir: &Path) -> io::Result<Listing> {
    list_known(dir, &Hashes::default())
}

/// Lists a tree, and hashes what is not known.
///
/// # Errors
/// The system's.
pub fn list_known(dir: &Path, hashes: &Hashes) -> io::Result<Listing> {
    list_unless(dir, hashes, &AtomicBool::new(false))
}

/// The same, until it is called off.
///
/// # Errors
/// The system's; that it was called off.
pub fn list_unless(dir: &Path, hashes: &Hashes, off: &AtomicBool) -> io::Result<Listing> {
    let mut listing =
        Listing { digest: String::new(), n_files: 0, size_bytes: 0, entries: Vec::new() };
    let mut linked = BTreeMap::new();
    Dir::open(dir)?.walk(&mut |met| add(&mut listing, met, hashes, &mut linked, off))?;
    listing.entries.sort_by(|a, b| a.path.cmp(&b.path));
    let mut digest = Sha256::new();
    for entry in &listing.entries {
        for part in [&*entry.path, &*entry.kind, &*entry.content.text()] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    listing.digest = hex(&digest.finalize());
    Ok(listing)
}

/// Hashes of files that have several names, by device and inode: a file is read once.
type Linked = BTreeMap<(u64, u64), Content>;

fn add(
    listing: &mut Listing,
    met: &Met<'_>,
    hashes: &Hashes,
    linked: &mut Linked,
    off: &AtomicBool,
) -> io::Result<()> {
    let nothing = || Content::Text(Box::default());
    let (kind, content) = if met.meta.is_dir() {
        ("directory", nothing())
    } else if met.meta.is_symlink() {
        ("symlink", Content::from(met.dir.target(met.name)?.to_string_lossy()))
    } else if met.meta.is_file() {
        let mut file = met.dir.file(met.name)?;
        let meta = file.metadata()?;
        listing.n_files += 1;
        listing.size_bytes += meta.len();
        let same = (meta.dev(), meta.ino());
        let hash = match hashes.known.get(met.path).or_else(|| linked.get(&same)) {
            Some(known) => known.clone(),
            None => hash(&mut file, off)?,
        };
        if meta.nlink() > 1 {
            linked.insert(same, hash.clone());
        }
        let program = meta.permissions().mode() & 0o111 != 0;
        (if program { "program" } else { "file" }, hash)
    } else {
        ("special", nothing())
    };
    let path = met.path.to_string_lossy().into_owned();
    listing.entries.push(Entry { path, kind: kind.into(), content });
    Ok(())
}

fn hash(file: &mut fs::File, off: &AtomicBool) -> io::Result<Content> {
    let mut digest = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    while !off.load(Ordering::Relaxed) {
        match file.read(&mut chunk)? {
            0 => return Ok(Content::Hash(digest.finalize().into())),
            n => digest.update(&chunk[..n]),
        }
    }
    Err(io::Error::other("it was aborted"))
}

/// Makes a staged tree `releases/N`: read-only, open to a group, on the disk, then named.
///
/// # Errors
/// The system's; `releases/N` is not there then.
pub fn seal(
    staged: &Path,
    paths: &ServiceLayout,
    release: ReleaseId,
    group: Option<u32>,
) -> io::Result<()> {
    make_read_only(staged)?;
    group.map_or(Ok(()), |gid| open_to(staged, gid))?;
    durable::sync_all_of(staged)?;
    let target = paths.release(release);
    fs::rename(staged, &target)?;
    // Renaming a directory writes its `..`, so it is closed last.
    fs::set_permissions(&target, Permissions::from_mode(0o555))?;
    fs::File::open(&target)?.sync_all()?;
    durable::sync_dir(&paths.releases())
}

fn make_read_only(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            make_read_only(&entry.path())?;
        }
        if !meta.is_symlink() {
            let mode = meta.permissions().mode() & 0o555;
            fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// Lets the group of the service's user read what its owner can and others cannot. The top of a tree has
/// the group that the rest is open to. For others than root this is not possible and not needed.
///
/// # Errors
/// The system's.
pub fn open_to(tree: &Path, gid: u32) -> io::Result<()> {
    let top = Dir::open(tree)?;
    if top.metadata()?.gid() == gid || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    top.walk(&mut |met| {
        let mode = met.meta.mode();
        // What others can read is open already.
        if met.meta.is_symlink() || mode & 0o5 == (mode >> 6) & 0o5 {
            return Ok(());
        }
        let held = met.dir.pin(met.name)?;
        held.own((None, Some(gid)))?;
        held.set_mode(mode | (mode >> 3) & 0o050)
    })?;
    give(&top, (None, Some(gid)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::Layout;

    #[test]
    fn a_fifo_is_listed_and_nobody_waits_for_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "x").unwrap();
        let without = list(dir.path()).unwrap();
        durable::make_fifo(&dir.path().join("fifo"), 0o600).unwrap();
        let with = list(dir.path()).unwrap();
        assert_eq!((with.n_files, &*with.entries[1].kind), (1, "special"));
        assert_ne!(with.digest, without.digest);
    }

    /// A hash from a copy stands for what was copied, and for no other file.
    #[test]
    fn what_is_hashed_on_the_way_has_the_digest_of_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("data");
        fs::create_dir_all(top.join("tree/sub")).unwrap();
        fs::write(top.join("tree/sub/a"), "one").unwrap();
        fs::write(top.join("tree/b"), "").unwrap();
        let expected = list(&top).unwrap();
        let copy = |to: &str| {
            let mut hashes = Hashes::default();
            let to = std::ffi::OsStr::new(to);
            let from = Dir::open(&top.join("tree")).unwrap();
            let show = &mut |shown: Shown<'_>| hashes.see("tree", &shown);
            from.copy_to(&Dir::open(dir.path()).unwrap(), to, Some(show)).unwrap();
            hashes
        };
        let hashes = copy("good");
        assert_eq!(list_known(&top, &hashes).unwrap(), expected);
        // What is changed after the copy is none of the copy.
        fs::write(top.join("tree/sub/a"), "two").unwrap();
        assert_eq!(list_known(&top, &hashes).unwrap().digest, expected.digest);
        assert_ne!(list_known(&top, &copy("bad")).unwrap().digest, expected.digest);
        fs::write(top.join("tree/c"), "more").unwrap();
        assert_ne!(list_known(&top, &hashes).unwrap().digest, expected.digest);
    }

    #[test]
    fn the_digest_names_content_and_a_sealed_tree_is_read_only() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        paths.create().unwrap();
        let staged = paths.staging().join("1");
        fs::create_dir_all(staged.join("bin")).unwrap();
        fs::write(staged.join("bin/web"), "v1").unwrap();
        let first = list(&staged).unwrap();
        assert_eq!(first, list(&staged).unwrap());
        fs::set_permissions(staged.join("bin/web"), Permissions::from_mode(0o755)).unwrap();
        let program = list(&staged).unwrap();
        assert_ne!(first.digest, program.digest, "a mode that matters is content");
        fs::write(staged.join("key"), "secret").unwrap();
        fs::set_permissions(staged.join("key"), Permissions::from_mode(0o600)).unwrap();
        let program = Listing { n_files: 2, size_bytes: 8, ..list(&staged).unwrap() };
        seal(&staged, &paths, ReleaseId(1), None).unwrap();
        let mode = fs::metadata(paths.release(ReleaseId(1)).join("key")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o400, "no mode is widened");
        assert!(!staged.exists());
        let sealed = paths.release(ReleaseId(1));
        assert_eq!(list(&sealed).unwrap(), program);
        for path in [sealed.clone(), sealed.join("bin"), sealed.join("bin/web")] {
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o555, "{}", path.display());
        }
    }
}
