//! What a program has made under the user it ran as, when it is to run as another one. Its own directories
//! (`writable`) go over to the new user; `shared/` holds the user's data, so what is to be done there is
//! said and never done.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::os::beneath::Dir;
use crate::os::names::LaunchUser;
use crate::os::proc;
use crate::supervisor::service::Service;
use crate::text;

/// Files that are looked at before the start; more is not worth the wait.
const N_LOOKED_AT_MAX: u64 = 100_000;

/// Gives a release's own directories to the user that it is to run as. Only what belongs to their owner
/// so far goes over: a name in them may lead to anybody's file.
///
/// # Errors
/// The system's.
pub(super) fn give_writable(own: &Path, user: &LaunchUser) -> io::Result<()> {
    let top = match Dir::open(own) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    for name in top.names()? {
        let from = top.look(&name)?.uid();
        if from == user.uid || from == 0 {
            continue;
        }
        let give = |dir: &Dir, name: &std::ffi::OsStr| {
            let held = dir.pin(name)?;
            match held.metadata()?.uid() == from {
                true => held.own((Some(user.uid), Some(user.gid))),
                false => Ok(()),
            }
        };
        top.dir(&name)?.walk(&mut |met| give(met.dir, met.name))?;
        // Last: what was cut off is done again.
        give(&top, &name)?;
    }
    Ok(())
}

/// What of `shared/` belongs to the user of before, and the command that gives it to the next one.
pub(crate) fn left_in_shared(service: &Service, user: Option<&str>) -> Option<String> {
    let (name, user) = (user?, proc::user(user?)?);
    let before = service.live_generation()?.settings.user.clone()?;
    let from = proc::user(&before).filter(|from| from.uid != user.uid)?;
    let shared = service.paths.shared();
    let (mut n, mut n_looked_at) = (0_u64, 0);
    let walked = Dir::open(&shared).and_then(|dir| {
        dir.walk(&mut |met| {
            n_looked_at += 1;
            n += u64::from(met.meta.uid() == from.uid);
            if n_looked_at < N_LOOKED_AT_MAX { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
        })
    });
    let more = if walked.is_err() { " or more" } else { "" };
    let shared = shared.display();
    (n > 0).then(|| {
        format!(
            "{}{more} in {shared} still belong to {before}, and this release runs as {name}: \
             chown -R --from={before} {name}: {shared}",
            text::count(n, "file")
        )
    })
}
