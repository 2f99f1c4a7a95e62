//! `releases SERVICE`: the releases on disk.

use std::process::ExitCode;

use clap::Args;

use crate::api;
use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
#[derive(Debug, Args)]
pub struct Releases {
    /// Name of the service
    service: String,
    #[command(flatten)]
    common: Common,
}

impl Releases {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::Releases(api::releases::Args { service: self.service });
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
