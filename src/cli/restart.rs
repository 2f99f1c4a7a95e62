//! `restart SERVICE`: new processes of the same release, without losing a connection.

use std::process::ExitCode;

use clap::Args;

use crate::api;
use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
#[derive(Debug, Args)]
pub struct Restart {
    /// Name of the service
    service: String,
    #[command(flatten)]
    common: Common,
}

impl Restart {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::Restart(api::restart::Args { service: self.service });
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
