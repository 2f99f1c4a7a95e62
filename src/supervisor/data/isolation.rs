//! What a process sees when it is tried out on a copy of the data: the copy lies over the live place,
//! so that every name leads to it; beside it everything is there, and what is written is thrown away.
//!
//! A layer over `shared/` and one over the directory of a database elsewhere take what is written; the
//! release's tree has one too, because programs write beside their code. What lies in no layer cannot
//! be written to.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::config::model::{Endpoint, RehearseConnect, Settings};
use crate::core::ids::ReleaseId;
use crate::core::ordered::Ordered as _;
use crate::os::apart;
use crate::os::beneath::{self, Dir};
use crate::os::diag;
use crate::os::fs;
use crate::os::isolate::{self, Isolation, Layer, Replaced};
use crate::supervisor::data::context::{Context, Env, on_thread};
use crate::supervisor::data::driver::{Done, Driver, JOURNALS, Place};
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::live_ports;
use crate::supervisor::data::site::{Means, Site};
use crate::supervisor::service::Service;
use crate::supervisor::service::confinement::{self, Confinement};

/// Directories for temporary files that every program may write to.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// What this kernel allows this user.
pub(crate) async fn means(service: &Rc<Service>) -> Means {
    let dir = service.paths.scratch().join("trial.work");
    let covered = [service.paths.shared()].into_iter().chain(beside(service));
    let covered = covered.chain(service.config().rehearse_write.clone());
    let covered: Vec<PathBuf> =
        covered.filter_map(|dir| real(&dir).ok()).filter(|dir| dir != Path::new("/")).collect();
    let tried = on_thread(move || {
        fs::remove_tree(&dir)?;
        fs::create_dir(&dir, 0o700)?;
        let tried = isolate::attempt(&dir, &covered);
        fs::remove_tree(&dir)?;
        Ok((tried, apart::has_landlock()))
    });
    match tried.await {
        Ok((Ok(()), _)) => Means::Mounts,
        Ok((Err(refused), true)) => Means::Landlock { why: refused.to_string() },
        Ok((Err(refused), false)) => Means::None { why: format!("{refused}; no Landlock") },
        Err(why) => Means::None { why: why.to_string() },
    }
}

/// The directory of a database in a file that is not in `shared/`.
fn beside(service: &Service) -> Option<PathBuf> {
    let config = service.config();
    match config.backup.as_ref()?.driver.place()? {
        Place::File(path) => {
            let (shared, live) =
                (real(&service.paths.shared()).ok()?, service.paths.shared().join(path));
            let dir = beneath::real(&live).ok()?.parent()?.to_owned();
            (!dir.starts_with(shared)).then_some(dir)
        }
        Place::Directory(_) => None,
    }
}

/// What programs of a release are kept to on a copy.
pub(crate) fn programs(
    context: &Context<'_>,
    driver: &impl Driver,
    site: &Site,
    release: ReleaseId,
    settings: &Settings,
) -> Done<Confinement> {
    let mut env = driver.variables(context, site, settings);
    env.push(variable());
    let Site::Scratch { dir, means } = site else { return Ok(Confinement::default()) };
    begin(context, dir)?;
    match means {
        Means::Mounts => {
            let mut isolation = common(context, dir, settings)?;
            let tree = context.service.paths.release(release);
            let upper = made(&work(dir).join(format!("tree-{release}")))?;
            context.give(&upper).map_err(DataError::at(&upper))?;
            isolation.layers.push(layer(&tree, &upper, &made(&work(dir).join("tree-work"))?));
            cover(context, driver.place(), dir, &mut isolation)?;
            let own = context.service.paths.writable(release);
            let own = own.is_dir().then_some(own);
            let config = context.service.config();
            for (n, at) in config.rehearse_write.iter().chain(&own).enumerate() {
                isolation.layers.extend(thrown_away(dir, n, at)?);
            }
            sockets(context.service, &mut isolation);
            // Each rehearsed process has a socket of its own there.
            isolation.writable.extend(real(&context.service.paths.sockets()).ok());
            Ok(Confinement { env, isolation: Some(isolation), ..Confinement::default() })
        }
        Means::Landlock { .. } | Means::None { .. } => {
            let mut writes = vec![dir.clone(), PathBuf::from("/dev"), temporary(dir, "tmp")?];
            writes.extend(real(&context.service.paths.sockets()).ok());
            let tmp = temporary(dir, "tmp")?.to_string_lossy().into_owned();
            let path = driver.place().map(Place::path);
            let mut env = context.env(site, settings, path, env);
            env.push(("TMPDIR".to_owned(), tmp));
            Ok(Confinement { writes: Some(writes), env, ..Confinement::default() })
        }
    }
}

/// What the driver's own commands are kept to on a copy. They see nothing in the place of `shared/` but
/// the copy: what they restore must come from the backup.
pub(crate) fn commands(context: &Context<'_>, site: &Site) -> Done<Confinement> {
    let Site::Scratch { dir, means } = site else { return Ok(Confinement::default()) };
    begin(context, dir)?;
    if *means != Means::Mounts {
        let writes = Some(vec![dir.clone(), PathBuf::from("/dev"), temporary(dir, "tmp")?]);
        let mut env = context.env(site, &context.settings, None, Env::new());
        env.push(variable());
        return Ok(Confinement { env, writes, ..Confinement::default() });
    }
    let mut isolation = common(context, dir, &context.settings)?;
    isolation.layers.clear();
    let at = real(&context.service.paths.shared())?;
    isolation.replaced.push(Replaced { at, by: dir.clone() });
    let env = vec![variable()];
    Ok(Confinement { env, isolation: Some(isolation), ..Confinement::default() })
}

fn variable() -> (String, String) {
    (confinement::VARIABLE.to_owned(), "1".to_owned())
}

/// The layer over `shared/`, and directories for temporary files.
fn common(context: &Context<'_>, dir: &Path, settings: &Settings) -> Done<Isolation> {
    let shared = real(&context.service.paths.shared())?;
    let mut isolation = Isolation {
        layers: vec![layer(&shared, dir, &made(&work(dir).join("shared-work"))?)],
        writable: vec![dir.to_owned()],
        ..Isolation::default()
    };
    for (at, name) in TEMPORARY.into_iter().zip(["tmp", "var-tmp"]) {
        let Ok(at) = real(at.as_ref()) else { continue };
        // Whoever keeps everything, or a program, below such a directory still gets to it.
        let root = real(context.service.shared.layout.root())?;
        let kept = programs_of(settings).map(Path::to_owned).chain([root]);
        let below = kept.filter_map(|path| Some(path.strip_prefix(&at).ok()?.to_owned()));
        let first = below.filter_map(|below| Some(at.join(below.components().next()?)));
        let first: BTreeSet<PathBuf> = first.filter(|first| first.is_dir()).into_set();
        isolation.visible.extend(first);
        isolation.temporary.push(Replaced { at, by: temporary(dir, name)? });
    }
    Ok(isolation)
}

/// Paths of the programs that a release starts.
fn programs_of(settings: &Settings) -> impl Iterator<Item = &Path> {
    let migrate = settings.migrate.iter();
    let migrate =
        migrate.flat_map(|migrate| migrate.command.iter().chain(migrate.probe.iter().flatten()));
    let words = settings.command.iter().chain(migrate).map(Path::new);
    words.filter(|path| path.is_absolute())
}

/// A layer over a directory of the host; nothing over one that is not there.
fn thrown_away(dir: &Path, n: usize, at: &Path) -> Done<Option<Layer>> {
    let Ok(at) = real(at) else { return Ok(None) };
    let upper = made(&work(dir).join(format!("written-{n}")))?;
    // Who may write there is who may write to what lies below.
    let like_below = || {
        let (meta, upper) = (Dir::open(&at)?.metadata()?, Dir::open(&upper)?);
        upper.give_to(meta.uid(), meta.gid())?;
        upper.set_mode(meta.mode())
    };
    like_below().map_err(DataError::at(&upper))?;
    let own = made(&work(dir).join(format!("written-{n}-work")))?;
    Ok(Some(layer(&at, &upper, &own)))
}

/// Lays the copy over the place that the driver keeps, wherever it is; there may be no data yet.
fn cover(
    context: &Context<'_>,
    place: Option<Place<'_>>,
    dir: &Path,
    isolation: &mut Isolation,
) -> Done {
    let site = Site::Scratch { dir: dir.to_owned(), means: Means::Mounts };
    match place {
        None => Ok(()),
        Some(Place::Directory(path)) => {
            let (at, by) = (context.path(&Site::Live, path), context.path(&site, path));
            if by != dir {
                isolation.replaced.extend(there(&at)?.map(|at| Replaced { at, by }));
            }
            Ok(())
        }
        Some(Place::File(path)) => {
            let (live, copy) = (context.path(&Site::Live, path), context.path(&site, path));
            let Some(parent) = live.parent() else { return Ok(()) };
            let Some(parent) = there(parent)? else { return Ok(()) };
            let hidden = JOURNALS.iter().map(|suffix| with_suffix(&live, suffix)).collect();
            if let Some(layer) = isolation.layers.iter_mut().find(|l| parent.starts_with(&l.at)) {
                layer.hidden = hidden;
                return Ok(());
            }
            let Some(upper) = copy.parent() else { return Ok(()) };
            if parent == Path::new("/") {
                return Err(DataError::AtTheRoot { path: live });
            }
            let own = layer(&parent, upper, &made(&work(dir).join("data-work"))?);
            isolation.layers.push(Layer { hidden, ..own });
            Ok(())
        }
    }
}

/// Sockets of the serving release are not there for a program that is tried, which may bind them. Those of
/// others that it may reach are no part of the copy.
fn sockets(service: &Service, isolation: &mut Isolation) {
    let real = |path: PathBuf| {
        let (parent, name) = (beneath::real(path.parent()?).ok()?, path.file_name()?);
        Some(parent.join(name))
    };
    let live: BTreeSet<PathBuf> =
        live_ports::paths(service).into_iter().filter_map(real).into_set();
    let is_allowed = |path: &PathBuf| match &service.config().rehearse_connect {
        RehearseConnect::Any => !live.contains(path),
        RehearseConnect::Listed(listed) => listed.iter().any(|endpoint| match endpoint {
            Endpoint::Unix(listed) => real(listed.clone()).as_ref() == Some(path),
            Endpoint::Host(..) => false,
        }),
    };
    let named = diag::named().into_iter().map(|(_, name)| PathBuf::from(name));
    let others = named.filter(|path| path.is_absolute()).filter_map(real).filter(is_allowed);
    isolation.sockets = others.into_set().into_iter().collect();
    for layer in &mut isolation.layers {
        layer.hidden.extend(live.iter().filter(|path| path.starts_with(&layer.at)).cloned());
    }
}

fn layer(at: &Path, upper: &Path, work: &Path) -> Layer {
    Layer { at: at.to_owned(), upper: upper.to_owned(), work: work.to_owned(), hidden: Vec::new() }
}

/// Where everything of a copy is that is not the copy itself.
fn work(dir: &Path) -> PathBuf {
    with_suffix(dir, ".work")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn real(path: &Path) -> Done<PathBuf> {
    let real = || {
        let real = beneath::real(path)?;
        Dir::open(&real).map(|_| real)
    };
    real().map_err(DataError::at(path))
}

/// The same of a directory that may not be there.
fn there(path: &Path) -> Done<Option<PathBuf>> {
    match real(path) {
        Ok(real) => Ok(Some(real)),
        Err(DataError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The service's user gets through it to its own; nobody else does.
fn begin(context: &Context<'_>, dir: &Path) -> Done {
    let work = work(dir);
    let closed = || {
        let held = Dir::have(&work, 0o710)?;
        let group = context.owner().map(|(_, group)| group);
        beneath::give(&held, (None, group))?;
        held.set_mode(0o710)
    };
    closed().map_err(DataError::at(&work))
}

fn made(dir: &Path) -> Done<PathBuf> {
    fs::create_dir(dir, 0o711).map_err(DataError::at(dir))?;
    Ok(dir.to_owned())
}

fn temporary(dir: &Path, name: &str) -> Done<PathBuf> {
    let dir = made(&work(dir).join(name))?;
    Dir::open(&dir).and_then(|dir| dir.set_mode(0o1777)).map_err(DataError::at(&dir))?;
    Ok(dir)
}

/// Removes a copy and all that was made for it.
pub(crate) fn discard(dir: &Path) -> io::Result<()> {
    fs::remove_tree(&work(dir))?;
    fs::remove_tree(dir)
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, metadata, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_planted_in_a_copy_is_not_followed_when_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, copy) = (dir.path().join("outside"), dir.path().join("copy"));
        create_dir_all(&outside).unwrap();
        set_permissions(&outside, PermissionsExt::from_mode(0o755)).unwrap();
        for planted in [work(&copy).join("tmp"), copy.clone()] {
            create_dir_all(&planted).unwrap();
            std::os::unix::fs::symlink(&outside, planted.join("work")).unwrap();
        }
        // The kernel leaves one that nobody may enter.
        let closed = work(&copy).join("shared-work/work");
        create_dir_all(closed.join("work")).unwrap();
        set_permissions(&closed, PermissionsExt::from_mode(0o000)).unwrap();
        discard(&copy).unwrap();
        assert_eq!(metadata(&outside).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(!copy.exists() && !work(&copy).exists());
    }
}
