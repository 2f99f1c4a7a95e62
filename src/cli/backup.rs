//! `backup SERVICE`: take a backup, restore it to scratch, check it; `--list` lists them.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// Take a backup, restore it to scratch, check it
#[derive(Debug, Args)]
pub struct Backup {
    /// Name of the service
    service: String,
    /// List the backups instead
    #[arg(long)]
    list: bool,
}

impl Ask for Backup {
    fn request(self) -> Verb {
        Verb::Backup(api::backup::Args { service: self.service, list: self.list })
    }
}
