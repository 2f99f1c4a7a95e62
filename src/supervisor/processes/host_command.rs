//! The runner of every command that Halley runs for the user: hooks, checks, migrations, backups,
//! and the commands of proxies and notifications.
//!
//! A command is a child of the keeper, in a session of its own, without a shell. At its deadline,
//! or when the wait for it is cancelled, it is killed with all that it has started. A supervisor
//! that dies leaves it running; the next one ends it ([`end_all`]) before it runs the same again,
//! or asks for its end ([`join`]).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::duration;
use crate::keeper::protocol::{COMMAND, ChildId, End, Identity, LaunchSpec};
use crate::os::clock;
use crate::supervisor::processes::child_tag::{Label, Purpose};
use crate::supervisor::processes::keeper_child::{KeeperChild, Waited};
use crate::supervisor::processes::keeper_client::{Link, LinkError};
use crate::supervisor::processes::printed::{Printed, last_lines};
use crate::supervisor::processes::whole_tree::{self, WholeTree};

/// Variables that are about the supervisor itself.
const OWN_VARIABLES: [&str; 2] = ["NOTIFY_SOCKET", "HALLEY_KEEPER_FD"];
/// Commands of a supervisor before this one are waited for so long: a killed process can hang in
/// the kernel, and the services must come up all the same.
pub(crate) const ENDING: Duration = Duration::from_secs(5);

/// A command to be run, all of it resolved.
pub(crate) struct HostCommand {
    /// What it is, for messages.
    pub name: String,
    /// Program and arguments.
    pub words: Vec<String>,
    /// Its environment, user and directory.
    pub launch: LaunchSpec,
    /// What it reads.
    pub input: Option<Vec<u8>>,
    /// Where it prints.
    pub output: Output,
    /// What becomes of processes that it leaves in the background.
    pub background: Background,
    /// It is killed after this.
    pub limit: Duration,
    /// What the next supervisor must know about it.
    pub label: Label,
}

/// Where a command prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// Into pipes that the supervisor reads; the end of the text is kept in memory.
    Pipes,
    /// Into files of this folder, for a command that goes on when the supervisor dies.
    Files(PathBuf),
    /// Where its [`LaunchSpec`] says.
    Launch,
}

/// What becomes of processes that a command leaves in the background when it ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Background {
    /// They go on. At the command's deadline, or when it is called off, they are killed with it.
    GoesOn,
    /// They are killed.
    Killed,
    /// They are waited for, and at the command's deadline killed. All of them are known by this
    /// mark, which no other command ever has.
    Awaited(String),
    /// The same where the command reports success; of one that failed they are killed.
    Completed(String),
}

/// A command that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// How.
    pub end: End,
    /// The end of what it wrote to its standard output.
    pub output: String,
    /// The end of what it wrote to its standard error.
    pub errors: String,
}

impl Ended {
    /// Whether it reports success.
    #[must_use]
    pub(crate) fn is_good(&self) -> bool {
        self.end == End::Exited(0)
    }

    /// How it ended, with its last lines.
    #[must_use]
    pub(crate) fn why(&self) -> String {
        let (end, last) = (&self.end, last_lines(&self.output, &self.errors));
        if last.is_empty() { end.to_string() } else { format!("{end}: {last}") }
    }

    /// Its last lines, on lines of their own.
    fn below(&self) -> String {
        let last = last_lines(&self.output, &self.errors);
        if last.is_empty() { last } else { format!("\n{last}") }
    }
}

/// Why a command did not come to a good end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// It could not be started.
    #[error("{name}: {why}")]
    Start {
        /// What it is.
        name: String,
        /// The step and the reason.
        why: String,
    },
    /// It was killed, with all that it had started.
    #[error("{name}: killed: it ran longer than {}{}", duration::print(*limit), printed.below())]
    Deadline {
        /// What it is.
        name: String,
        /// How long it had.
        limit: Duration,
        /// What it printed.
        printed: Box<Ended>,
    },
    /// It ended, and what it had left in the background was killed.
    #[error(
        "{name}: {left} went on in its background for longer than {}, and was killed: it has to wait \
         for what it starts{}",
        duration::print(*limit),
        printed.below()
    )]
    Background {
        /// What it is.
        name: String,
        /// What it had left.
        left: String,
        /// How long it had.
        limit: Duration,
        /// What it printed.
        printed: Box<Ended>,
    },
    /// It ran and reported a failure.
    #[error("{name}: {why}")]
    Failed {
        /// What it is.
        name: String,
        /// How it ended, with its last lines.
        why: String,
    },
    /// Its files.
    #[error("{path}: {source}")]
    System {
        /// Which.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
}

impl HostCommand {
    /// A command of the administrator's that is no part of a release: it has the supervisor's user,
    /// environment and directory. The service is empty for one that belongs to none.
    pub(crate) fn of_host(
        service: &str,
        words: &[String],
        env: &[(&str, String)],
        limit: Duration,
    ) -> Self {
        let text = |text: OsString| text.into_string().ok();
        let own = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
        let mut all: Vec<_> =
            own.filter(|(name, _)| !OWN_VARIABLES.contains(&name.as_str())).collect();
        all.extend(env.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let cwd = cwd.to_string_lossy().into_owned();
        let purpose = Purpose::Passing(words.join(" "));
        Self {
            name: words.join(" "),
            words: words.to_vec(),
            launch: LaunchSpec { env: all, cwd, ..LaunchSpec::default() },
            input: None,
            output: Output::Pipes,
            background: Background::GoesOn,
            limit,
            label: Label::command(service, clock::tick(), purpose),
        }
    }
}

/// Runs a command to its end. Cancelling the wait ends the command.
///
/// # Errors
/// [`CommandError`]; a command that ran and reported a failure is not one.
pub(crate) async fn run(link: &Rc<Link>, command: HostCommand) -> Result<Ended, CommandError> {
    run_as(link, link.new_child(), command).await
}

/// The same, under a number that the caller has taken; whose process it is, is told as soon as it runs.
///
/// # Errors
/// As [`run`].
pub(crate) async fn run_telling(
    link: &Rc<Link>,
    id: ChildId,
    command: HostCommand,
    started: impl FnOnce(&Identity),
) -> Result<Ended, CommandError> {
    let HostCommand { name, background, limit, .. } = &command;
    let (name, background, limit) = (name.clone(), background.clone(), *limit);
    let (child, printed) = begin(link, id, command).await?;
    if let Some(identity) = child.identity() {
        started(identity);
    }
    finish(child, printed, &name, limit, background).await
}

/// The same, under a number that the caller has taken for it.
///
/// # Errors
/// As [`run`].
pub(crate) async fn run_as(
    link: &Rc<Link>,
    id: ChildId,
    command: HostCommand,
) -> Result<Ended, CommandError> {
    let HostCommand { name, background, limit, .. } = &command;
    let (name, background, limit) = (name.clone(), background.clone(), *limit);
    let (child, printed) = begin(link, id, command).await?;
    finish(child, printed, &name, limit, background).await
}

/// Runs a command that has to end with exit code 0.
///
/// # Errors
/// [`CommandError`].
pub(crate) async fn succeed(link: &Rc<Link>, command: HostCommand) -> Result<(), CommandError> {
    let name = command.name.clone();
    let ended = run(link, command).await?;
    if ended.is_good() { Ok(()) } else { Err(CommandError::Failed { name, why: ended.why() }) }
}

/// Waits for a command that a supervisor before this one ran, with its output in files of `dir`.
///
/// # Errors
/// As [`run`]; its deadline begins again, once per supervisor.
pub(crate) async fn join(
    link: &Rc<Link>,
    child: ChildId,
    name: &str,
    dir: &Path,
    limit: Duration,
    background: Background,
) -> Result<Ended, CommandError> {
    let printed = Printed::found(dir, child);
    finish(KeeperChild::adopt(link, child), printed, name, limit, background).await
}

/// Ends commands that a supervisor before this one ran, with all that they started. Returns when
/// they are gone. What one that has ended by itself left in the background goes on.
pub(crate) async fn end_all(link: &Rc<Link>, commands: Vec<(ChildId, Option<End>)>) {
    let mut ending = tokio::task::JoinSet::new();
    for (id, end) in commands {
        let child = KeeperChild::adopt(link, id);
        ending.spawn_local(async move {
            match end {
                Some(_) => child.acknowledge().await,
                None => child.kill().await,
            }
        });
    }
    let all = async { while ending.join_next().await.is_some() {} };
    if tokio::time::timeout(ENDING, all).await.is_err() {
        tracing::error!("a killed command does not end");
        ending.detach_all();
    }
}

/// Whether the keeper holds this for a command of this service, or of none.
pub(crate) fn is_kept_for(name: &str, service: &str) -> bool {
    let rest = name.strip_prefix(COMMAND);
    rest.is_some_and(|rest| rest.split('/').next() == Some(service))
}

async fn begin(
    link: &Rc<Link>,
    id: ChildId,
    command: HostCommand,
) -> Result<(KeeperChild, Printed), CommandError> {
    let HostCommand { name, words, launch, input, output, label, background, .. } = command;
    let failed = |why: String| CommandError::Start { name: name.clone(), why };
    let no_keeper = |error: LinkError| failed(error.to_string());
    let (program, args) =
        words.split_first().ok_or_else(|| failed("it names no program".to_owned()))?;
    let mut spec = LaunchSpec { program: program.clone(), args: args.to_vec(), ..launch };
    spec.mark = match background {
        Background::Awaited(mark) | Background::Completed(mark) => {
            spec.env.push((whole_tree::MARK.to_owned(), mark.clone()));
            Some(mark)
        }
        Background::Killed | Background::GoesOn => {
            Some(format!("{}-{}-{}", std::process::id(), id.0, clock::tick().0))
        }
    };
    let (printed, writers) = Printed::open(&output, id)?;
    let mut kept = Vec::new();
    if let Some((output, errors)) = writers {
        let kept = &mut kept;
        spec.output = Some(keep(link, &label, id, "out", output, kept).await.map_err(no_keeper)?);
        spec.errors = Some(keep(link, &label, id, "err", errors, kept).await.map_err(no_keeper)?);
    }
    if let Some(input) = input {
        let file = in_memory(&input).map_err(|error| failed(error.to_string()))?;
        spec.input = Some(keep(link, &label, id, "in", file, &mut kept).await.map_err(no_keeper)?);
    }
    let spawned = KeeperChild::spawn(link, id, label.print(), spec).await;
    for name in kept {
        if let Err(error) = link.forget(name).await {
            tracing::warn!(%error, "closing a command's files");
        }
    }
    match spawned {
        Ok(child) => Ok((child, printed)),
        Err(error) => {
            printed.remove();
            Err(failed(start_text(&error)))
        }
    }
}

fn start_text(error: &LinkError) -> String {
    match error {
        LinkError::Failed { errno: libc::ENOENT, .. } => format!("{error}; is it installed?"),
        error => error.to_string(),
    }
}

/// Has the keeper hold a file of the command's until it is started.
async fn keep(
    link: &Link,
    label: &Label,
    id: ChildId,
    what: &str,
    file: impl AsFd,
    kept: &mut Vec<String>,
) -> Result<String, LinkError> {
    let name = format!("{COMMAND}{}/{}/{what}", label.service, id.0);
    link.keep(name.clone(), file.as_fd()).await?;
    kept.push(name.clone());
    Ok(name)
}

/// Its input lies in memory: no process waits for another, and it is on no disk.
fn in_memory(input: &[u8]) -> io::Result<File> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("halley-input", flags)?);
    file.write_all(input)?;
    file.rewind()?;
    Ok(file)
}

async fn finish(
    mut child: KeeperChild,
    mut printed: Printed,
    name: &str,
    limit: Duration,
    background: Background,
) -> Result<Ended, CommandError> {
    let begun = Instant::now();
    let waited = tokio::select! {
        waited = child.wait(limit) => waited,
        never = printed.read() => match never {},
    };
    let tree = match &background {
        Background::Awaited(mark) | Background::Completed(mark) => {
            Some(WholeTree { mark: mark.clone(), leader: child.identity().cloned() })
        }
        Background::GoesOn | Background::Killed => None,
    };
    let mut goes_on = match (waited, background) {
        (Waited::TooLate, _) | (_, Background::Killed) => false,
        (Waited::Ended(_), Background::GoesOn | Background::Awaited(_)) => true,
        (Waited::Ended(end), Background::Completed(_)) => end == End::Exited(0),
    };
    let mut left = None;
    if let (Some(tree), true) = (&tree, goes_on) {
        let rest = limit.saturating_sub(begun.elapsed());
        let over = tokio::select! {
            over = tree.over(rest) => over,
            never = printed.read() => match never {},
            never = child.hold_on() => match never {},
        };
        left = over.err().map(|left| whole_tree::named(&left));
        goes_on = left.is_none();
    }
    // Its whole tree is gone before anything acts on its result.
    if goes_on {
        child.acknowledge().await;
    } else {
        child.kill().await;
        if let Some(tree) = tree {
            tree.kill(ENDING).await;
        }
    }
    let (output, errors) = printed.take();
    if let (Some(left), Waited::Ended(end)) = (left, waited) {
        let printed = Box::new(Ended { end, output, errors });
        return Err(CommandError::Background { name: name.to_owned(), left, limit, printed });
    }
    match waited {
        Waited::Ended(end) => Ok(Ended { end, output, errors }),
        Waited::TooLate => {
            let printed = Box::new(Ended { end: End::Unknown, output, errors });
            Err(CommandError::Deadline { name: name.to_owned(), limit, printed })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(end: End, output: &str, errors: &str) -> String {
        Ended { end, output: output.to_owned(), errors: errors.to_owned() }.why()
    }

    #[test]
    fn a_reason_holds_the_last_lines_of_what_was_printed() {
        assert_eq!(why(End::Exited(3), "out", ""), "exit 3: out");
        assert_eq!(why(End::Exited(3), "out", "a\nb\n"), "exit 3: a\nb");
        assert_eq!(why(End::Killed(9), "", ""), "killed by SIGKILL");
        let many: String = (0..20).map(|n| format!("{n}\n")).collect();
        assert!(why(End::Exited(1), &many, "").starts_with("exit 1: 12\n"));
    }

    #[test]
    fn a_command_of_the_hosts_has_the_supervisors_environment_and_more() {
        let words = ["a".to_owned(), "b".to_owned()];
        let env = [("HALLEY_ID", "7".to_owned())];
        let command = HostCommand::of_host("web", &words, &env, Duration::from_secs(1));
        let value = |name: &str| {
            let found = command.launch.env.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone())
        };
        assert_eq!(value("PATH"), std::env::var("PATH").ok());
        assert_eq!(value("HALLEY_ID").as_deref(), Some("7"));
        assert!(OWN_VARIABLES.iter().all(|name| value(name).is_none()));
        assert_eq!((command.name.as_str(), command.label.service.as_str()), ("a b", "web"));
    }
}
