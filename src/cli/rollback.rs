//! `rollback SERVICE [--to N]`: go back to an earlier release.

use std::process::ExitCode;

use clap::Args;

use crate::api;
use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
#[derive(Debug, Args)]
pub struct Rollback {
    /// Name of the service
    service: String,
    /// Release to go back to [default: the newest good one before the serving one]
    #[arg(long, value_name = "RELEASE")]
    to: Option<u64>,
    #[command(flatten)]
    common: Common,
}

impl Rollback {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::Rollback(api::rollback::Args { service: self.service, to: self.to });
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
