//! `abort SERVICE`: end the running operation and go back to what served before.

use std::process::ExitCode;

use clap::Args;

use crate::api;
use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
#[derive(Debug, Args)]
pub struct Abort {
    /// Name of the service
    service: String,
    #[command(flatten)]
    common: Common,
}

impl Abort {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::Abort(api::abort::Args { service: self.service });
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
