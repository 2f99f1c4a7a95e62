//! `rollback SERVICE [--to N]`: bring an older release back.

use std::process::ExitCode;

use clap::Args;

use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
#[derive(Debug, Args)]
pub struct Rollback {
    /// Which service
    service: String,
    /// Which release [default: the newest good one before the one that serves]
    #[arg(long, value_name = "RELEASE")]
    to: Option<u64>,
    #[command(flatten)]
    common: Common,
}

impl Rollback {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::Rollback { service: self.service, to: self.to };
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
