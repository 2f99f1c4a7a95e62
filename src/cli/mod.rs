//! The command line: one file a verb, one client, one place that prints.
//!
//! The command line asks the supervisor and prints the answer. It must never change what the
//! supervisor owns.

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
mod help;
mod history;
mod logs;
mod markdown;
mod notify;
pub mod out;
mod pager;
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

/// Supervises native programs and releases them without downtime.
#[derive(Debug, Parser)]
#[command(
    name = "halley-sup",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "halley-sup help lists the topics of the reference; halley-sup help TOPIC shows one."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Args)]
pub struct Common {
    /// Configuration file [default: $HALLEY_CONFIG, else /etc/halley/halley.toml]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print JSON, one object a line, the result last
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the stack in the foreground (the systemd unit starts this)
    Run(run::Run),
    /// Check the configuration and report all errors at once
    Check(check::Check),
    /// Make a new release live
    Release(release::Release),
    /// Go back to an earlier release
    Rollback(rollback::Rollback),
    /// Show services, processes and rollback readiness
    Status(status::Status),
    /// Show past operations
    History(history::History),
    /// Show the releases on disk
    Releases(releases::Releases),
    /// Show the log of a service
    Logs(logs::Logs),
    /// Start a stopped service
    Start(start::Start),
    /// Stop a service; it stays down, also after a reboot
    Stop(stop::Stop),
    /// Replace the processes by new ones of the same release, without losing a connection
    Restart(restart::Restart),
    /// Send a test notification
    Notify(notify::Notify),
    /// End a canary step, a bake or a hold as a success
    Promote(promote::Promote),
    /// End the running operation and go back to what served before
    Abort(abort::Abort),
    /// Refuse releases until thaw; rollbacks are always allowed
    Freeze(freeze::Freeze),
    /// Allow releases again
    Thaw(thaw::Thaw),
    /// Rehearse a rollback
    Drill(drill::Drill),
    /// Take a backup, restore it to scratch, check it
    Backup(backup::Backup),
    /// Restore a backup over the live data
    Restore(restore::Restore),
    /// Follow an operation to its result
    Watch(watch::Watch),
    /// Check kernel and host support
    Doctor(doctor::Doctor),
    /// Show a release and a rollback under load, on real processes
    Demo(demo::Demo),
    /// Show a topic of the reference, or the help of a command
    Help(help::Help),
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
        Verb::Help(verb) => verb.perform(),
    }
}
