//! `repair SERVICE`: show what is damaged of Halley's own files and, with `--yes`, rebuild it.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// Show damaged files of a service, and rebuild them
#[derive(Debug, Args)]
pub struct Repair {
    /// Name of the service
    service: String,
    /// Rebuild them; otherwise nothing is changed
    #[arg(long)]
    yes: bool,
}

impl Ask for Repair {
    fn request(self) -> Verb {
        Verb::Repair(api::repair::Args { service: self.service, yes: self.yes })
    }
}
