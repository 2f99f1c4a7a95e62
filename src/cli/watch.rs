//! `watch [SERVICE] OP`: follow an operation to its result; `watch --set SET`: a release set.

use std::process::ExitCode;

use clap::Args;

use crate::api;
use crate::api::Verb;
use crate::cli::client::{self, Stay};
use crate::cli::{Common, exit, out};

/// The arguments.
#[derive(Debug, Args)]
pub struct Watch {
    /// Number of the operation; its service first if several services have that number
    #[arg(required_unless_present = "set", num_args = 1..=2, value_name = "[SERVICE] OP")]
    words: Vec<String>,
    /// Number of a release set
    #[arg(long, value_name = "SET", conflicts_with = "words")]
    set: Option<u64>,
    #[command(flatten)]
    common: Common,
}

impl Watch {
    /// Does it.
    pub fn perform(mut self) -> ExitCode {
        if let Some(set) = self.set {
            return client::ask(
                &self.common,
                Verb::WatchSet(api::watch::SetArgs { set }),
                None,
                Stay::ToTheEnd,
            );
        }
        let op = self.words.pop().unwrap_or_default();
        let Ok(op) = op.parse() else {
            out::say(format!(
                "error: {op:?} is no operation's number: halley-sup watch SERVICE OP"
            ));
            return exit::code(exit::USAGE);
        };
        let verb = Verb::Watch(api::watch::Args { op, service: self.words.pop() });
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
