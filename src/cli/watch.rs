//! `watch [SERVICE] OP`: follow an operation to its result; `watch --set SET`: a release set.

use std::process::ExitCode;

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::client::{self, Stay};
use crate::cli::verb::{Common, Own};
use crate::cli::{exit, out};
use crate::core::exit::Exit;

/// Follow an operation to its result
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

impl Own for Watch {
    fn perform(mut self) -> ExitCode {
        let op = self.words.pop().unwrap_or_default();
        let verb = match (self.set, op.parse()) {
            (Some(set), _) => Verb::WatchSet(api::watch::SetArgs { set }),
            (None, Ok(op)) => Verb::Watch(api::watch::Args { op, service: self.words.pop() }),
            (None, Err(_)) => {
                let how = "halley-sup watch SERVICE OP";
                out::say(format!("error: {op:?} is not the number of an operation: {how}"));
                return exit::code(Exit::Usage);
            }
        };
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
