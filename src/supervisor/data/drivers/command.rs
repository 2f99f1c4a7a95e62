//! Anything else, by commands: `take` fills `HALLEY_BACKUP_DIR` or says by its exit code that there is
//! no data yet, `restore` brings it to
//! `HALLEY_SHARED`, in whose place a scratch directory is seen in a rehearsal, and `check` reports
//! whether the data there is whole.

use std::path::Path;

use crate::config::backup::command::Command;
use crate::keeper::protocol::End;
use crate::os::beneath::Dir;
use crate::os::clock;
use crate::store::seal::Hashes;
use crate::supervisor::data::context::{Context, Env};
use crate::supervisor::data::doors::{self, Around};
use crate::supervisor::data::driver::{Counts, Done, Driver, Taken, Undone};
use crate::supervisor::data::error::{DataError, NO_DATA};
use crate::supervisor::data::isolation;
use crate::supervisor::data::site::Site;
use crate::supervisor::processes::host_command::ENDING;
use crate::supervisor::processes::whole_tree::{self, WholeTree};

const DIR: &str = "HALLEY_BACKUP_DIR";
const RESTORE: &str = "backup.restore";

impl Driver for Command {
    fn source(&self, _context: &Context<'_>) -> Vec<String> {
        self.take.iter().chain(&self.restore).cloned().collect()
    }

    async fn take(&self, context: &Context<'_>, dir: &Path) -> Done<Taken> {
        let env = vec![variable(dir)];
        match run(context, "backup.take", &self.take, &Site::Live, env).await {
            Err(DataError::Command { ended, .. }) if ended.end == End::Exited(NO_DATA) => {
                Err(DataError::SaidNone)
            }
            taken => taken.map(|()| Taken::default()),
        }
    }

    async fn restore(&self, context: &Context<'_>, from: &Path, site: &Site) -> Done<Hashes> {
        run(context, RESTORE, &self.restore, site, vec![variable(from)]).await?;
        let live = context.service.paths.shared();
        let dir = match site {
            Site::Scratch { dir, .. } => dir,
            Site::Live => &live,
        };
        if is_empty(dir) {
            return Err(DataError::Empty { tool: RESTORE.to_owned(), wrote: "nothing" });
        }
        Ok(Hashes::default())
    }

    /// What its command does is unknown: it is done once, in the place of the live data.
    async fn stage(&self, _context: &Context<'_>, _from: &Path) -> Done {
        Ok(())
    }

    async fn put(&self, context: &Context<'_>, from: &Path) -> Done {
        self.restore(context, from, &Site::Live).await.map(drop)
    }

    /// What a supervisor before this one left of the command would replace what comes back.
    async fn take_back(&self, context: &Context<'_>, _from: &Path) -> Done<Undone> {
        let tree = WholeTree { mark: mark_of_live(context), leader: None };
        tree.kill(ENDING).await;
        let left = tree.left();
        if left.is_empty() {
            return Ok(Undone::Overwritten);
        }
        Err(DataError::StillRestores { left: whole_tree::named(&left) })
    }

    /// Its command has written over it.
    async fn displaced(&self, _context: &Context<'_>, _from: &Path) -> Done<(Counts, Vec<String>)> {
        Ok(Default::default())
    }

    fn shows_no_loss(&self) -> &'static str {
        "not known with the driver command"
    }

    fn undoes_by_itself(&self) -> bool {
        false
    }

    async fn let_go(&self, _context: &Context<'_>) -> Done {
        Ok(())
    }

    async fn unstage(&self, _context: &Context<'_>, _from: &Path) -> Done {
        Ok(())
    }

    async fn inspect(&self, context: &Context<'_>, site: &Site) -> Done<Counts> {
        if let Some(words) = &self.check {
            run(context, "backup.check", words, site, Env::new()).await?;
        }
        Ok(Counts::new())
    }
}

/// On a copy a command reaches no server that `rehearse_connect` does not name: the one that it would
/// restore to is live.
async fn run(context: &Context<'_>, name: &str, words: &[String], site: &Site, env: Env) -> Done {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let confinement = isolation::commands(context, site)?;
    let mark = match site {
        Site::Live if name == RESTORE => mark_of_live(context),
        Site::Live | Site::Scratch { .. } => {
            format!("{}/{name}/{}", context.service.paths.dir().display(), clock::now_rfc3339_ms())
        }
    };
    let mark = mark.as_str();
    if let Site::Live = site {
        return context.run_confined(name, &words, env, mark, confinement).await.map(drop);
    }
    if let Err(why) = doors::fence_is_possible(context.service) {
        context.note_kept_from(vec![format!("{name} may have reached what is live: {why}")]);
        return context.run_confined(name, &words, env, mark, confinement).await.map(drop);
    }
    let fence = Around::put_up(context.service).await;
    let ran = context.run_confined(name, &words, env, mark, fence.around(confinement)).await;
    let kept_from: Vec<String> =
        fence.report().into_iter().map(|line| format!("{name}: {line}")).collect();
    match ran {
        Err(error) if !kept_from.is_empty() => {
            Err(DataError::KeptFrom { source: Box::new(error), kept_from: kept_from.join("\n") })
        }
        ran => {
            context.note_kept_from(kept_from);
            ran.map(drop)
        }
    }
}

/// The only command that replaces live data is found by this, whoever is killed.
fn mark_of_live(context: &Context<'_>) -> String {
    format!("{}/{RESTORE}/live", context.service.paths.dir().display())
}

fn is_empty(dir: &Path) -> bool {
    Dir::open(dir).and_then(|dir| dir.names()).is_ok_and(|names| names.is_empty())
}

fn variable(dir: &Path) -> (String, String) {
    (DIR.to_owned(), dir.to_string_lossy().into_owned())
}
