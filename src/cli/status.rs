//! `status [SERVICE]`: services, processes, rollback readiness.

use std::process::ExitCode;

use clap::Args;

use crate::api;
use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
#[derive(Debug, Args)]
pub struct Status {
    /// Show only this service
    service: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl Status {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::Status(api::status::Args { service: self.service });
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
