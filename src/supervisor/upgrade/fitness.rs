//! Whether a program could take over: it is run, reads what it would be given, and says so.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config;
use crate::json;
use crate::keeper::estate::Estate;
use crate::keeper::protocol::REVISION;
use crate::os::{self, recover};
use crate::store::layout::{Layout, ServiceLayout};
use crate::store::state::State;
use crate::store::{journal, release, trial};
use crate::supervisor::processes::host_command::{self, HostCommand};
use crate::supervisor::processes::keeper_client::Link;

/// The argument in the place of the configuration's path.
pub(crate) const ASKED: &str = "--fit";

/// It has this long for its answer.
const LIMIT: Duration = Duration::from_secs(10);

/// What it answers, as the last line that it prints.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    /// Its version.
    halley_sup: String,
    /// What it knows of the keeper's protocol.
    revision: u16,
    /// What it cannot go on with.
    problems: Vec<String>,
}

/// Asks the program at a path, which is open as well.
///
/// # Errors
/// What stands against it.
pub(super) async fn of(link: &Rc<Link>, path: &str, program: &OwnedFd) -> Result<(), Vec<String>> {
    let one = |why: String| vec![format!("{path}: {why}")];
    let there = rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino));
    if there.ok() != recover::id_of(program).ok() {
        return Err(one(
            "it was replaced meanwhile, or is another one for the supervisor".to_owned()
        ));
    }
    let text = link
        .described()
        .map_err(|_| one("the keeper that runs is of an earlier version: restart it".to_owned()))?;
    let verb = link.setup().and_then(|setup| setup.supervisor_args.into_iter().next());
    let verb = verb.and_then(|verb| verb.into_string().ok()).unwrap_or_default();
    let words = [path.to_owned(), verb, ASKED.to_owned()];
    let mut command = HostCommand::of_host("", &words, &[], LIMIT);
    command.input = Some(text);
    let ended = host_command::run(link, command).await.map_err(|e| vec![e.to_string()])?;
    let answer =
        ended.output.lines().last().and_then(|line| json::from_slice(line.as_bytes()).ok());
    match answer {
        Some(Answer { revision, problems, .. }) if problems.is_empty() && revision >= REVISION => {
            Ok(())
        }
        Some(Answer { problems, .. }) if !problems.is_empty() => Err(problems),
        Some(Answer { halley_sup, .. }) => Err(one(format!("halley-sup {halley_sup} is too old"))),
        None => Err(one(format!("it is no halley-sup that can take over: {}", ended.why()))),
    }
}

/// The part of the program that is asked; `verb` starts a supervisor. What it would be given comes from its standard input.
pub(crate) fn main(verb: &str) -> ExitCode {
    let mut text = Vec::new();
    let read = io::stdin().read_to_end(&mut text);
    let mut problems = Vec::new();
    note(&mut problems, read);
    examine(&text, verb, &mut problems);
    let halley_sup = env!("CARGO_PKG_VERSION").to_owned();
    let answer = Answer { halley_sup, revision: REVISION, problems };
    let told = json::to_vec(&answer)
        .map_err(io::Error::from)
        .and_then(|line| io::stdout().write_all(&line));
    if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn note<T>(problems: &mut Vec<String>, read: Result<T, impl Display>) -> Option<T> {
    read.map_err(|error| problems.push(error.to_string())).ok()
}

fn examine(text: &[u8], own: &str, problems: &mut Vec<String>) {
    let Some(setup) = note(problems, Estate::setup_of(text)) else { return };
    let path = match setup.supervisor_args.as_slice() {
        [verb, path] if verb.as_os_str() == own => PathBuf::from(path),
        other => return problems.push(format!("a supervisor is not started by {other:?}")),
    };
    let config = match config::load_from(&path, os::kernel(), &config::Files::default()) {
        Ok(config) => config,
        Err(all) => return problems.extend(all.iter().map(ToString::to_string)),
    };
    let layout = Layout::new(&config.root);
    for name in config.services.keys() {
        examine_service(&layout.service(name), problems);
    }
}

fn examine_service(paths: &ServiceLayout, problems: &mut Vec<String>) {
    note(problems, journal::open_operation(paths));
    note(problems, trial::read(paths));
    let Some(state) = note(problems, State::load(paths)) else { return };
    if let Some(good) = state.last_good {
        note(problems, release::settings(paths, crate::core::ids::ReleaseId(good.release)));
    }
}
