//! `start SERVICE`: start a stopped service.

use std::process::ExitCode;

use clap::Args;

use crate::api;
use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
#[derive(Debug, Args)]
pub struct Start {
    /// Name of the service
    service: String,
    #[command(flatten)]
    common: Common,
}

impl Start {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::Start(api::start::Args { service: self.service });
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
