//! `stop SERVICE`: stop a service; it stays down.

use std::process::ExitCode;

use clap::Args;

use crate::api;
use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
#[derive(Debug, Args)]
pub struct Stop {
    /// Name of the service
    service: String,
    #[command(flatten)]
    common: Common,
}

impl Stop {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::Stop(api::stop::Args { service: self.service });
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
