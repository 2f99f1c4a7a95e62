//! The one walk along a path: component by component, each opened in the one before it, each link
//! read and judged instead of being left to the kernel.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, open, openat, readlinkat};
use rustix::process::geteuid;

use super::dir::Dir;
use super::held::{give, through};

/// As many as the kernel follows (`path_resolution(7)`).
const N_LINKS_MAX: usize = 40;
const HELD: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Dir {
    /// The directory at a path. Links are followed that none but root could have put there; one of
    /// another user's leads into directories of that user, or nowhere.
    ///
    /// # Errors
    /// The system's; `PermissionDenied` for a link that leads elsewhere.
    pub fn open(path: &Path) -> io::Result<Self> {
        to_directory(path)
    }

    /// The directory that really holds the file at a path, and the file's name in it. The file may
    /// be missing. Links are followed as in [`Dir::open`], the last one too.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn holder(path: &Path) -> io::Result<(Self, OsString)> {
        to_holder(path)
    }

    /// The directory at a path; what is missing of it is made.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn have(path: &Path, mode: u32) -> io::Result<Self> {
        match (Self::open(path), path.parent(), path.file_name()) {
            (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
                Self::have(parent, mode)?.have_dir(name, mode)
            }
            (opened, ..) => opened,
        }
    }

    /// The directory of a path, with the path's last name: what is there is not looked at.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn parent(path: &Path) -> io::Result<(Self, OsString)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok((Self::open(parent.unwrap_or(Path::new(".")))?, name.to_owned()))
    }
}

/// Gives what has a path to a user and group, a link itself if it is one; see [`give`].
///
/// # Errors
/// As [`Dir::open`].
pub fn give_to(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let (dir, name) = Dir::parent(path)?;
    give(&dir.pin(&name)?.0, (Some(uid), Some(gid)))
}

/// A path as it is without links, followed as in [`Dir::holder`]. The last name may be missing.
///
/// # Errors
/// As [`Dir::open`].
pub fn real(path: &Path) -> io::Result<PathBuf> {
    if !matches!(path.components().next_back(), Some(Component::Normal(_))) {
        return std::fs::read_link(through(Dir::open(path)?.as_fd()));
    }
    let (dir, name) = Dir::holder(path)?;
    Ok(std::fs::read_link(through(dir.as_fd()))?.join(name))
}

struct Way {
    at: OwnedFd,
    left: VecDeque<OsString>,
    n_links: usize,
    /// The user who could have chosen where this leads.
    chosen_by: Option<u32>,
}

fn to_directory(path: &Path) -> io::Result<Dir> {
    let mut way = Way::begin(path)?;
    while let Some(name) = way.left.pop_front() {
        way.step(&name)?;
    }
    way.arrived()
}

fn to_holder(path: &Path) -> io::Result<(Dir, OsString)> {
    let mut way = Way::begin(path)?;
    while let Some(name) = way.left.pop_front() {
        if !way.left.is_empty() {
            way.step(&name)?;
            continue;
        }
        if matches!(name.as_encoded_bytes(), b"/" | b"..") {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match openat(&way.at, &name, HELD, Mode::empty()) {
            Ok(found) if is_link(&fstat(&found)?) => way.follow(&found)?,
            Ok(_) | Err(rustix::io::Errno::NOENT) => return Ok((way.arrived()?, name)),
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::ErrorKind::InvalidInput.into())
}

impl Way {
    fn begin(path: &Path) -> io::Result<Self> {
        let at = openat(CWD, ".", HELD | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { at, left: components(path), n_links: 0, chosen_by: None })
    }

    fn step(&mut self, name: &OsStr) -> io::Result<()> {
        if name == "/" {
            self.at = open("/", HELD | OFlags::DIRECTORY, Mode::empty())?;
            return Ok(());
        }
        let found = openat(&self.at, name, HELD, Mode::empty())?;
        match FileType::from_raw_mode(fstat(&found)?.st_mode) {
            FileType::Symlink => self.follow(&found)?,
            FileType::Directory => self.at = found,
            _ => return Err(rustix::io::Errno::NOTDIR.into()),
        }
        Ok(())
    }

    fn follow(&mut self, link: &OwnedFd) -> io::Result<()> {
        self.n_links += 1;
        if self.n_links > N_LINKS_MAX {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        // Whoever has the directory can rename another user's link to this name.
        let owners = [fstat(&self.at)?.st_uid, fstat(link)?.st_uid];
        if let Some(user) = owners.into_iter().find(|uid| !is_trusted(*uid)) {
            if self.chosen_by.is_some_and(|before| before != user) {
                return Err(refused(user, "a link of another user"));
            }
            self.chosen_by = Some(user);
        }
        let target =
            PathBuf::from(OsString::from_vec(readlinkat(link, "", Vec::new())?.into_bytes()));
        for name in components(&target).into_iter().rev() {
            self.left.push_front(name);
        }
        Ok(())
    }

    fn arrived(self) -> io::Result<Dir> {
        let owner = fstat(&self.at)?.st_uid;
        if let Some(user) = self.chosen_by.filter(|user| *user != owner) {
            return Err(refused(user, "a directory of another user"));
        }
        let read = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(&self.at, ".", read, Mode::empty()) {
            Err(rustix::io::Errno::ACCESS) => Ok(Dir(self.at)),
            opened => Ok(Dir(opened?)),
        }
    }
}

fn refused(user: u32, to: &str) -> io::Error {
    let text = format!("a link of user {user} leads to {to}");
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

fn is_link(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}

fn components(path: &Path) -> VecDeque<OsString> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.map(|part| part.as_os_str().to_owned()).collect()
}
