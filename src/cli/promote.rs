//! `promote SERVICE`: end a step, a bake or a hold as a success.

use std::process::ExitCode;

use clap::Args;

use crate::api;
use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
#[derive(Debug, Args)]
pub struct Promote {
    /// Name of the service
    service: String,
    #[command(flatten)]
    common: Common,
}

impl Promote {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::Promote(api::promote::Args { service: self.service });
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
