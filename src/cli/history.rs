//! `history [SERVICE]`: past operations.

use std::process::ExitCode;

use clap::Args;

use crate::api;
use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
#[derive(Debug, Args)]
pub struct History {
    /// Show only this service
    service: Option<String>,
    /// Maximum number of operations, newest first
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    common: Common,
}

impl History {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::History(api::history::Args { service: self.service, limit: self.limit });
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
