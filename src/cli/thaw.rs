//! `thaw SERVICE`: allow releases again.

use std::process::ExitCode;

use clap::Args;

use crate::api;
use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
#[derive(Debug, Args)]
pub struct Thaw {
    /// Name of the service
    service: String,
    /// Thaw the artifact of this release instead of the service
    #[arg(long, value_name = "N")]
    release: Option<u64>,
    #[command(flatten)]
    common: Common,
}

impl Thaw {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::Thaw(api::thaw::Args { service: self.service, release: self.release });
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
