//! `backup SERVICE`: take a backup, restore it to scratch, check it; `--list` lists them.

use std::process::ExitCode;

use clap::Args;

use crate::api;
use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
#[derive(Debug, Args)]
pub struct Backup {
    /// Name of the service
    service: String,
    /// List the backups instead
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    common: Common,
}

impl Backup {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::Backup(api::backup::Args { service: self.service, list: self.list });
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
