//! `freeze SERVICE`: no releases until it is thawed.

use std::process::ExitCode;

use clap::Args;

use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
#[derive(Debug, Args)]
pub struct Freeze {
    /// Which service
    service: String,
    /// Why, for whoever is refused
    #[arg(long, value_name = "REASON", default_value = "somebody said freeze")]
    why: String,
    #[command(flatten)]
    common: Common,
}

impl Freeze {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::Freeze { service: self.service, why: self.why };
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
