//! `freeze SERVICE`: refuse releases until `thaw`.

use std::process::ExitCode;

use clap::Args;

use crate::api;
use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
#[derive(Debug, Args)]
pub struct Freeze {
    /// Name of the service
    service: String,
    /// Reason, shown when a release is refused
    #[arg(long, value_name = "REASON", default_value = "no reason given")]
    why: String,
    #[command(flatten)]
    common: Common,
}

impl Freeze {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::Freeze(api::freeze::Args { service: self.service, why: self.why });
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
