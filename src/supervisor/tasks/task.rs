//! A command of a release, run once, to its end: a migration, a hook, a database's own tool.
//!
//! It has the service's user and environment and runs in the tree of its release.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::config::model::Settings;
use crate::core::ids::ReleaseId;
use crate::keeper::protocol::{Identity, LaunchSpec};
use crate::supervisor::processes::child_tag::Purpose;
use crate::supervisor::processes::host_command::{self, HostCommand, Output};
use crate::supervisor::processes::printed;
use crate::supervisor::service::Service;
use crate::supervisor::service::child_spec;
use crate::supervisor::service::confinement::Confinement;

pub(crate) use crate::supervisor::processes::host_command::{Background, CommandError, Ended};

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
    /// What becomes of what it leaves in the background.
    pub background: Background,
    /// What it reads.
    pub input: Option<Vec<u8>>,
    /// What it prints is added to this file as well.
    pub log: Option<PathBuf>,
}

/// Runs a command to its end. Cancelling the wait ends the command.
///
/// # Errors
/// [`CommandError`]; a command that ran and reported a failure is not one.
pub(crate) async fn run(service: &Rc<Service>, task: Task) -> Result<Ended, CommandError> {
    let purpose = Purpose::Passing(task.name.clone());
    run_with(service, task, &purpose, Output::Pipes, |_| ()).await
}

/// Runs a command that goes on when the supervisor dies: the next one joins it by its purpose. Whose
/// process it is, is told as soon as it runs.
///
/// # Errors
/// As [`run`].
pub(crate) async fn run_through(
    service: &Rc<Service>,
    task: Task,
    purpose: &Purpose,
    started: impl FnOnce(&Identity),
) -> Result<Ended, CommandError> {
    run_with(service, task, purpose, Output::Files(service.paths.oneshots()), started).await
}

/// Waits for a command that a supervisor before this one ran. `None`: the keeper knows of none.
///
/// # Errors
/// As [`run`]; its deadline begins again, once per supervisor.
pub(crate) async fn join(
    service: &Rc<Service>,
    task: &Task,
    purpose: &Purpose,
) -> Option<Result<Ended, CommandError>> {
    let child = service.activity.take_left_over(purpose)?;
    let (link, dir) = (&service.shared.link, service.paths.oneshots());
    let ended =
        host_command::join(link, child, &task.name, &dir, task.limit, task.background.clone())
            .await;
    record(service, task.log.as_deref(), &task.name, &ended);
    Some(ended)
}

/// Removes what commands of supervisors before this one have printed, but for those that are
/// still asked for.
pub(crate) fn sweep(service: &Service) {
    let dir = service.paths.oneshots();
    let wanted: Vec<_> =
        service.activity.left_over().into_iter().map(|child| printed::paths(&dir, child)).collect();
    let Ok(entries) = fs::read_dir(&dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if !wanted.iter().any(|(output, errors)| *output == path || *errors == path) {
            drop(fs::remove_file(path));
        }
    }
}

async fn run_with(
    service: &Rc<Service>,
    task: Task,
    purpose: &Purpose,
    output: Output,
    started: impl FnOnce(&Identity),
) -> Result<Ended, CommandError> {
    let mut env = child_spec::environment_of(service, task.release, &task.settings);
    env.extend(task.confinement.env.iter().cloned());
    env.extend(task.env);
    let user = child_spec::user_of(&task.settings)
        .map_err(|error| CommandError::Start { name: task.name.clone(), why: error.to_string() })?;
    let mut launch = LaunchSpec {
        env: env.into_iter().collect(),
        cwd: service.paths.release(task.release).to_string_lossy().into_owned(),
        sealed: Some(service.paths.release(task.release)),
        user,
        own_limits: task.settings.limits.clone(),
        ..LaunchSpec::default()
    };
    task.confinement.apply(&mut launch);
    let child = service.link().new_child();
    task.confinement.surround(service.link(), child, &mut launch);
    // What is only tried out leaves nothing behind.
    let is_tried = task.confinement.fenced.is_some();
    let background = match task.background {
        Background::GoesOn if is_tried => Background::Killed,
        wanted => wanted,
    };
    let command = HostCommand {
        name: task.name.clone(),
        words: task.words,
        launch,
        input: task.input,
        output,
        background,
        limit: task.limit,
        label: child_spec::oneshot_label(service, task.release, purpose),
    };
    let ended = host_command::run_telling(&service.shared.link, child, command, started).await;
    record(service, task.log.as_deref(), &task.name, &ended);
    ended
}

/// Adds what a command printed to its log.
fn record(service: &Service, log: Option<&Path>, name: &str, ended: &Result<Ended, CommandError>) {
    let printed = match ended {
        Ok(ended) => ended,
        Err(CommandError::Deadline { printed, .. } | CommandError::Background { printed, .. }) => {
            printed
        }
        Err(_) => return,
    };
    let Some(log) = log else { return };
    let text = [printed.output.as_str(), printed.errors.as_str()].concat();
    if let Err(error) = append(log, name, &text) {
        tracing::warn!(service = %service.name, path = %log.display(), %error, "recording output");
    }
}

fn append(log: &Path, name: &str, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = File::options().append(true).create(true).mode(0o600).open(log)?;
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    write!(file, "--- {name}\n{text}{gap}")
}
