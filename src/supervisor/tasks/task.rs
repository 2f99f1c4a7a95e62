//! A command that is run once, to its end: a migration, a hook, a database's own tool.
//!
//! It is a child of the keeper, with the service's user and environment, without a shell. It writes
//! into files, so that it is not disturbed when its output is not read for a while: a supervisor
//! that dies leaves it running, and the next one either asks for its end ([`join`]) or ends it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::config::duration;
use crate::config::model::Settings;
use crate::core::ids::ReleaseId;
use crate::keeper::protocol::{ChildId, End, LaunchSpec};
use crate::supervisor::processes::child_tag::Purpose;
use crate::supervisor::processes::keeper_child::{KeeperChild, Waited};
use crate::supervisor::service::child_spec;

use crate::supervisor::processes::keeper_client::LinkError;
use crate::supervisor::service::Service;
use crate::supervisor::service::child_spec::SpecError;
use crate::supervisor::service::confinement::Confinement;

/// Bytes of what it printed that are looked at: counts of many tables are long.
const SAID_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Lines of it that a reason holds.
const N_LINES: usize = 8;

/// A command to be run.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// What it is, for messages: `migrate`, `hook before_flip`.
    pub name: String,
    /// Program and arguments; a program with a `/` is relative to the release.
    pub words: Vec<String>,
    /// Laid over the environment of the settings.
    pub env: Vec<(String, String)>,
    /// What it is kept to.
    pub confinement: Confinement,
    /// In whose tree it runs.
    pub release: ReleaseId,
    /// Whose user and environment it gets.
    pub settings: Settings,
    /// It is killed after this.
    pub limit: Duration,
    /// What it reads.
    pub input: Option<Vec<u8>>,
    /// What it prints is added to this file as well.
    pub log: Option<PathBuf>,
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
        let said = if self.errors.trim().is_empty() { &self.output } else { &self.errors };
        let lines: Vec<&str> = said.trim().lines().collect();
        let last = lines[lines.len().saturating_sub(N_LINES)..].join("\n");
        let end = self.end.to_string();
        if last.is_empty() { end } else { format!("{end}: {last}") }
    }
}

/// Why a command did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    /// It could not be started.
    #[error("{name}: {why}")]
    Start {
        /// What it is.
        name: String,
        /// The step and the reason.
        why: String,
    },
    /// It was killed, with all that it had started.
    #[error("{name}: killed: it ran longer than {limit}{said}")]
    Deadline {
        /// What it is.
        name: String,
        /// How long it had.
        limit: String,
        /// Its last lines, on lines of their own.
        said: String,
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

/// Runs a command to its end. Cancelling the wait ends the command.
///
/// # Errors
/// [`TaskError`]; a command that ran and reported a failure is not one.
pub(crate) async fn run(service: &Rc<Service>, oneshot: Task) -> Result<Ended, TaskError> {
    let purpose = Purpose::Passing(oneshot.name.clone());
    run_through(service, oneshot, &purpose).await
}

/// Runs a command that goes on when the supervisor dies: the next one joins it by its purpose.
///
/// # Errors
/// As [`run`].
pub(crate) async fn run_through(
    service: &Rc<Service>,
    oneshot: Task,
    purpose: &Purpose,
) -> Result<Ended, TaskError> {
    let begun = begin(service, &oneshot, purpose).await?;
    finish(service, &oneshot, begun).await
}

/// Waits for a command that a supervisor before this one ran. `None`: the keeper knows of none.
///
/// # Errors
/// As [`run`]; its deadline begins again, once per supervisor.
pub(crate) async fn join(
    service: &Rc<Service>,
    oneshot: &Task,
    purpose: &Purpose,
) -> Option<Result<Ended, TaskError>> {
    let child = service.activity.take_left_over(purpose)?;
    let files = Files::of(service, child);
    let begun = Begun { child: KeeperChild::adopt(&service.shared.link, child), files };
    Some(finish(service, oneshot, begun).await)
}

/// Removes what commands of supervisors before this one have printed, but for those that are
/// still asked for.
pub(crate) fn sweep(service: &Service) {
    let wanted: Vec<Files> =
        service.activity.left_over().into_iter().map(|child| Files::of(service, child)).collect();
    let Ok(entries) = fs::read_dir(service.paths.oneshots()) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if !wanted.iter().any(|files| files.output == path || files.errors == path) {
            drop(fs::remove_file(path));
        }
    }
}

struct Begun {
    child: KeeperChild,
    files: Files,
}

/// What it prints into.
struct Files {
    output: PathBuf,
    errors: PathBuf,
}

impl Files {
    fn of(service: &Service, child: ChildId) -> Self {
        let dir = service.paths.oneshots();
        Self {
            output: dir.join(format!("{}.out", child.0)),
            errors: dir.join(format!("{}.err", child.0)),
        }
    }
}

async fn begin(
    service: &Rc<Service>,
    oneshot: &Task,
    purpose: &Purpose,
) -> Result<Begun, TaskError> {
    let failed = |why: String| TaskError::Start { name: oneshot.name.clone(), why };
    let (program, args) =
        oneshot.words.split_first().ok_or_else(|| failed("it names no program".to_owned()))?;
    let child = service.link().new_child();
    let files = Files::of(service, child);
    let mut env = child_spec::environment_of(service, oneshot.release, &oneshot.settings);
    env.extend(oneshot.confinement.env.iter().cloned());
    env.extend(oneshot.env.iter().cloned());
    let user =
        child_spec::user_of(&oneshot.settings).map_err(|e: SpecError| failed(e.to_string()))?;
    let kept = |what: &str| format!("oneshot/{}/{}/{what}", service.name, child.0);
    let mut spec = LaunchSpec {
        program: program.clone(),
        args: args.to_vec(),
        env: env.into_iter().collect(),
        cwd: service.paths.release(oneshot.release).to_string_lossy().into_owned(),
        user,
        output: Some(kept("out")),
        errors: Some(kept("err")),
        input: oneshot.input.is_some().then(|| kept("in")),
        ..LaunchSpec::default()
    };
    oneshot.confinement.apply(&mut spec);
    let mut names = Vec::new();
    for (path, what) in [(&files.output, "out"), (&files.errors, "err")] {
        let file = File::options().append(true).create(true).truncate(false).open(path);
        let file = file.map_err(|source| TaskError::System { path: path.clone(), source })?;
        keep(service, kept(what), &file, &mut names).await.map_err(|e| failed(e.to_string()))?;
    }
    if let Some(input) = &oneshot.input {
        let file = tempfile::tempfile_in(service.paths.oneshots()).and_then(|mut file| {
            file.write_all(input)?;
            file.rewind()?;
            Ok(file)
        });
        let path = service.paths.oneshots();
        let file = file.map_err(|source| TaskError::System { path, source })?;
        keep(service, kept("in"), &file, &mut names).await.map_err(|e| failed(e.to_string()))?;
    }
    let label = child_spec::oneshot_label(service, oneshot.release, purpose).print();
    let spawned = KeeperChild::spawn(&service.shared.link, child, label, spec).await;
    for name in names {
        if let Err(error) = service.link().forget(name).await {
            tracing::warn!(service = %service.name, %error, "closing a command's files");
        }
    }
    match spawned {
        Ok(child) => Ok(Begun { child, files }),
        Err(error) => {
            remove(&files);
            Err(failed(error.to_string()))
        }
    }
}

async fn keep(
    service: &Service,
    name: String,
    file: &File,
    names: &mut Vec<String>,
) -> Result<(), LinkError> {
    service.link().keep(name.clone(), file.as_fd()).await?;
    names.push(name);
    Ok(())
}

async fn finish(
    service: &Rc<Service>,
    oneshot: &Task,
    mut begun: Begun,
) -> Result<Ended, TaskError> {
    let end = match begun.child.wait(oneshot.limit).await {
        Waited::Ended(end) => {
            begun.child.acknowledge().await;
            Some(end)
        }
        // Its whole tree is gone before anything acts on its result.
        Waited::TooLate => {
            begun.child.kill().await;
            None
        }
    };
    let said = |path: &Path| tail(path).unwrap_or_default();
    let (output, errors) = (said(&begun.files.output), said(&begun.files.errors));
    if let Some(log) = &oneshot.log {
        let text = [output.as_str(), errors.as_str()].concat();
        if let Err(error) = append(log, &oneshot.name, &text) {
            tracing::warn!(service = %service.name, path = %log.display(), %error, "recording output");
        }
    }
    remove(&begun.files);
    let ended = Ended { end: end.unwrap_or(End::Unknown), output, errors };
    if end.is_none() {
        let why = ended.why();
        let said = why.split_once(": ").map_or(String::new(), |(_, said)| format!("\n{said}"));
        let limit = duration::print(oneshot.limit);
        return Err(TaskError::Deadline { name: oneshot.name.clone(), limit, said });
    }
    Ok(ended)
}

/// The end of what a file holds.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let n_bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(n_bytes.saturating_sub(SAID_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(SAID_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn append(log: &Path, name: &str, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = File::options().append(true).create(true).mode(0o600).open(log)?;
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    write!(file, "--- {name}\n{text}{gap}")
}

fn remove(files: &Files) {
    for path in [&files.output, &files.errors] {
        drop(fs::remove_file(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(end: End, output: &str, errors: &str) -> String {
        Ended { end, output: output.to_owned(), errors: errors.to_owned() }.why()
    }

    #[test]
    fn a_reason_holds_the_last_lines_of_what_it_said() {
        assert_eq!(why(End::Exited(3), "out", ""), "exit 3: out");
        assert_eq!(why(End::Exited(3), "out", "a\nb\n"), "exit 3: a\nb");
        assert_eq!(why(End::Killed(9), "", ""), "killed by SIGKILL");
        let many: String = (0..20).map(|n| format!("{n}\n")).collect();
        assert!(why(End::Exited(1), &many, "").starts_with("exit 1: 12\n"));
    }
}
