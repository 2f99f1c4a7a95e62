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
mod env;
mod exec;
mod exit;
mod freeze;
mod given;
mod help;
mod history;
mod init;
mod logs;
mod markdown;
mod notify;
pub mod out;
mod pager;
mod promote;
mod release;
mod releases;
mod reload;
mod render;
mod repair;
mod restart;
mod restore;
mod rollback;
mod run;
mod sources;
mod stake;
mod start;
mod status;
mod stop;
mod thaw;
mod unit;
mod upgrade;
mod verb;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};

use crate::api::Trouble;
use crate::cli::client::Stay;
use crate::cli::verb::{Ask, Common, Own};
use crate::config;
use crate::core::exit::Exit;

/// Every verb, in the order of the help.
const VERBS: &[Row] = &[
    own::<run::Run>("run"),
    own::<check::Check>("check"),
    own::<init::Init>("init"),
    asks::<reload::Reload>("reload"),
    own::<release::Release>("release"),
    asks::<rollback::Rollback>("rollback"),
    asks::<status::Status>("status"),
    asks::<history::History>("history"),
    asks::<releases::Releases>("releases"),
    asks::<logs::Logs>("logs"),
    asks::<env::Env>("env"),
    own::<exec::Exec>("exec"),
    asks::<start::Start>("start"),
    asks::<stop::Stop>("stop"),
    asks::<restart::Restart>("restart"),
    asks::<notify::Notify>("notify"),
    asks::<promote::Promote>("promote"),
    asks::<abort::Abort>("abort"),
    asks::<freeze::Freeze>("freeze"),
    asks::<thaw::Thaw>("thaw"),
    asks::<drill::Drill>("drill"),
    asks::<backup::Backup>("backup"),
    own::<restore::Restore>("restore"),
    asks::<repair::Repair>("repair"),
    own::<watch::Watch>("watch"),
    own::<upgrade::Upgrade>("upgrade"),
    own::<doctor::Doctor>("doctor"),
    own::<demo::Demo>("demo"),
    own::<help::Help>("help"),
];

/// One verb of the command line.
struct Row {
    name: &'static str,
    arguments: fn(Command) -> Command,
    perform: fn(&ArgMatches) -> Result<ExitCode, clap::Error>,
}

const fn asks<V: Ask>(name: &'static str) -> Row {
    let perform = |matches: &ArgMatches| {
        let common = Common::from_arg_matches(matches)?;
        let verb = V::from_arg_matches(matches)?.request();
        Ok(client::ask(&common, verb, None, Stay::ToTheEnd))
    };
    Row { name, arguments: |command| Common::augment_args(V::augment_args(command)), perform }
}

const fn own<V: Own>(name: &'static str) -> Row {
    let perform = |matches: &ArgMatches| Ok(V::from_arg_matches(matches)?.perform());
    Row { name, arguments: V::augment_args, perform }
}

/// The command line as a whole.
fn command() -> Command {
    let verbs = VERBS.iter().map(|row| (row.arguments)(Command::new(row.name)));
    Command::new("halley-sup")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Supervises native programs and releases them without downtime")
        .after_help(
            "halley-sup help lists the topics of the reference; halley-sup help TOPIC shows one.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommands(verbs)
}

/// The command line's `main`.
#[must_use]
pub fn main() -> ExitCode {
    let done = command().try_get_matches().and_then(|matches| perform(&matches));
    done.unwrap_or_else(|error| match error.use_stderr() && wants_json(std::env::args_os()) {
        true => misused(&error),
        false => out::usage(&error),
    })
}

/// Whether the command line asks for JSON, also one that was not understood.
fn wants_json(args: std::env::ArgsOs) -> bool {
    args.take_while(|arg| arg != "--").any(|arg| arg == "--json")
}

/// Wrong usage, for machines.
fn misused(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    let why = text.lines().next().unwrap_or_default();
    let trouble = Trouble {
        what: "the command line was not understood".to_owned(),
        why: why.strip_prefix("error: ").unwrap_or(why).to_owned(),
        still: "nothing was changed".to_owned(),
        next: vec!["halley-sup help verbs".to_owned()],
        exit: Exit::Usage.code(),
    };
    render::refused(true, &trouble)
}

fn perform(matches: &ArgMatches) -> Result<ExitCode, clap::Error> {
    let known = matches.subcommand().and_then(|(name, matches)| {
        let row = VERBS.iter().find(|row| row.name == name)?;
        let option = matches.try_get_one::<PathBuf>("config").ok().flatten();
        if let Some(config) = config::given(option.cloned()) {
            given::note(&config, |verb| {
                !["help", "demo", "init"].contains(&verb)
                    && VERBS.iter().any(|row| row.name == verb)
            });
        }
        Some((row.perform)(matches))
    });
    // A command without a verb was refused before.
    known.unwrap_or_else(|| Ok(exit::code(Exit::Usage)))
}
