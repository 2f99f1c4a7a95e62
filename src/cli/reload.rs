//! `reload`: read the configuration again.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// Read the configuration again; what did not change is not touched
#[derive(Debug, Args)]
pub struct Reload {
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
}

impl Ask for Reload {
    fn request(self) -> Verb {
        Verb::Reload(api::reload::Args { dry_run: self.dry_run })
    }
}
