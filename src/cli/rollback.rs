//! `rollback SERVICE [--to N]`: go back to an earlier release.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// Go back to an earlier release
#[derive(Debug, Args)]
pub struct Rollback {
    /// Name of the service
    service: String,
    /// Release to go back to [default: the newest good one before the serving one]
    #[arg(long, value_name = "RELEASE")]
    to: Option<u64>,
}

impl Ask for Rollback {
    fn request(self) -> Verb {
        Verb::Rollback(api::rollback::Args { service: self.service, to: self.to })
    }
}
