//! Anything else, by commands: `take` fills `HALLEY_BACKUP_DIR` or says by its exit code that there is
//! no data yet, `restore` brings it to
//! `HALLEY_SHARED`, in whose place a scratch directory is seen in a rehearsal, and `check` reports
//! whether the data there is whole.

use std::path::{Path, PathBuf};

use crate::config::backup::command::Command;
use crate::keeper::protocol::End;
use crate::os::beneath::Dir;
use crate::os::clock;
use crate::store::seal::Hashes;
use crate::supervisor::data::context::{Context, Env, on_thread};
use crate::supervisor::data::doors::{self, Around};
use crate::supervisor::data::driver::{Counts, Done, Driver, Taken, Undone};
use crate::supervisor::data::drivers::command_aside::{self, Aside};
use crate::supervisor::data::error::{DataError, NO_DATA};
use crate::supervisor::data::isolation;
use crate::supervisor::data::replacement;
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
        let Site::Scratch { dir, .. } = site else { return Ok(Hashes::default()) };
        if is_empty(dir) {
            return Err(DataError::Empty { tool: RESTORE.to_owned(), wrote: "nothing" });
        }
        let shared = context.path(&Site::Live, Path::new("."));
        for path in &self.paths {
            let is_within = context.path(&Site::Live, path).starts_with(&shared);
            if is_within && !context.path(site, path).exists() {
                return Err(DataError::NotBrought { path: path.display().to_string() });
            }
        }
        let copy = dir.clone();
        let brought = on_thread(move || command_aside::all_in(&copy));
        context.note_brought(from, brought.await.map_err(DataError::Tree)?);
        Ok(Hashes::default())
    }

    async fn replaceable(&self, context: &Context<'_>) -> Done {
        Aside::of(context, &self.paths).and_then(|aside| aside.renamable())
    }

    /// What its command does is unknown: it is done once, in the place of the live data.
    async fn stage(&self, context: &Context<'_>, _from: &Path) -> Done {
        let aside = Aside::of(context, &self.paths)?;
        aside.renamable()?;
        on_thread(move || aside.let_go()).await.map_err(DataError::Tree)
    }

    async fn put(&self, context: &Context<'_>, from: &Path) -> Done {
        let (aside, brought) = (Aside::of(context, &self.paths)?, context.brought(from));
        let mark = mark_of(context, from);
        let set = on_thread(move || aside.set(&brought, &mark).map(|()| (aside, brought)));
        let (aside, brought) = set.await.map_err(DataError::Tree)?;
        self.restore(context, from, &Site::Live).await?;
        let looked = on_thread(move || Ok(aside.lacks(&brought)));
        match looked.await.map_err(DataError::Tree)? {
            Some(path) => Err(DataError::NotBrought { path: path.display().to_string() }),
            None => Ok(()),
        }
    }

    /// What a supervisor before this one left of the command would write into what comes back.
    async fn take_back(&self, context: &Context<'_>, from: &Path) -> Done<Undone> {
        let tree = WholeTree { mark: mark_of_live(context), leader: None };
        tree.kill(ENDING).await;
        let left = tree.left();
        if !left.is_empty() {
            return Err(DataError::StillRestores { left: whole_tree::named(&left) });
        }
        let aside = Aside::of(context, &self.paths)?;
        let mark = mark_of(context, from);
        on_thread(move || aside.take_back(&mark)).await.map_err(DataError::Tree)
    }

    async fn aside(&self, context: &Context<'_>) -> Done<Vec<PathBuf>> {
        Aside::of(context, &self.paths)?.displaced().map_err(DataError::Tree)
    }

    /// What it was is known to its commands alone.
    async fn displaced(&self, _context: &Context<'_>, _from: &Path) -> Done<(Counts, Vec<String>)> {
        Ok(Default::default())
    }

    fn shows_no_loss(&self) -> &'static str {
        "not known with the driver command"
    }

    fn sees_not(&self) -> &'static str {
        ""
    }

    fn used(&self) -> Vec<&Path> {
        if self.paths.is_empty() {
            return vec![Path::new(".")];
        }
        self.paths.iter().map(PathBuf::as_path).collect()
    }

    fn not_taken_back(&self) -> Option<String> {
        let paths = self.paths.iter().map(|path| path.display().to_string());
        let paths: Vec<String> = paths.collect();
        let places = if paths.is_empty() { "shared/".to_owned() } else { paths.join(", ") };
        Some(format!("what backup.restore changes outside of {places}"))
    }

    async fn let_go(&self, context: &Context<'_>) -> Done {
        let aside = Aside::of(context, &self.paths)?;
        on_thread(move || aside.let_go()).await.map_err(DataError::Tree)
    }

    async fn unstage(&self, context: &Context<'_>, _from: &Path) -> Done {
        let aside = Aside::of(context, &self.paths)?;
        on_thread(move || aside.unstage()).await.map_err(DataError::Tree)
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

/// Where is noted what of the places of a restore was free before.
fn mark_of(context: &Context<'_>, from: &Path) -> PathBuf {
    let id = from.parent().and_then(Path::file_name).unwrap_or_default();
    replacement::mark(context.service, &id.to_string_lossy())
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
