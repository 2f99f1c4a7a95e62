//! The command line: one file a verb, one client, one place that prints.

mod abort;
mod actor;
mod backup;
mod check;
mod client;
mod demo;
mod doctor;
mod drill;
mod exit;
mod freeze;
mod history;
mod logs;
mod notify;
pub mod out;
mod promote;
mod release;
mod releases;
mod render;
mod restart;
mod restore;
mod rollback;
mod run;
mod start;
mod status;
mod stop;
mod thaw;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Supervises bare processes and releases them without downtime.
#[derive(Debug, Parser)]
#[command(name = "halley-sup", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Args)]
pub struct Common {
    /// The configuration [default: $HALLEY_CONFIG, else /etc/halley/halley.toml]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print JSON, one object a line; the last is the result
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the stack (the service manager's own command)
    Run(run::Run),
    /// Check the configuration
    Check(check::Check),
    /// Bring a new release live: a directory, .tar, .tar.gz, .tar.zst, or - for stdin
    Release(release::Release),
    /// Bring an older release back
    Rollback(rollback::Rollback),
    /// Show how things stand
    Status(status::Status),
    /// Show past operations
    History(history::History),
    /// Show the releases on disk
    Releases(releases::Releases),
    /// Show a service's log
    Logs(logs::Logs),
    /// Start a stopped service
    Start(start::Start),
    /// Stop a service; it stays down
    Stop(stop::Stop),
    /// Replace running processes by new ones of the same release, without loss
    Restart(restart::Restart),
    /// Send a test to a target of notifications
    Notify(notify::Notify),
    /// End a bake or a hold well
    Promote(promote::Promote),
    /// End an operation and go back to what served before
    Abort(abort::Abort),
    /// No releases of a service until it is thawed; rollbacks always go
    Freeze(freeze::Freeze),
    /// Allow releases again
    Thaw(thaw::Thaw),
    /// Rehearse a rollback
    Drill(drill::Drill),
    /// Take a backup, restored to scratch and checked
    Backup(backup::Backup),
    /// Put a backup in the place of the present data
    Restore(restore::Restore),
    /// Follow an operation
    Watch(watch::Watch),
    /// Tell what this machine allows, and what to do otherwise
    Doctor(doctor::Doctor),
    /// Show the main job on real processes
    Demo(demo::Demo),
}

/// The command line's `main`.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return out::usage(&error),
    };
    match cli.verb {
        Verb::Run(verb) => verb.perform(),
        Verb::Check(verb) => verb.perform(),
        Verb::Release(verb) => verb.perform(),
        Verb::Rollback(verb) => verb.perform(),
        Verb::Status(verb) => verb.perform(),
        Verb::History(verb) => verb.perform(),
        Verb::Releases(verb) => verb.perform(),
        Verb::Logs(verb) => verb.perform(),
        Verb::Start(verb) => verb.perform(),
        Verb::Stop(verb) => verb.perform(),
        Verb::Restart(verb) => verb.perform(),
        Verb::Notify(verb) => verb.perform(),
        Verb::Promote(verb) => verb.perform(),
        Verb::Abort(verb) => verb.perform(),
        Verb::Freeze(verb) => verb.perform(),
        Verb::Thaw(verb) => verb.perform(),
        Verb::Drill(verb) => verb.perform(),
        Verb::Backup(verb) => verb.perform(),
        Verb::Restore(verb) => verb.perform(),
        Verb::Watch(verb) => verb.perform(),
        Verb::Doctor(verb) => verb.perform(),
        Verb::Demo(verb) => verb.perform(),
    }
}
