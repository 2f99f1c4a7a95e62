//! `status [SERVICE]`: services, processes, rollback readiness.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// Show services, processes and rollback readiness
#[derive(Debug, Args)]
pub struct Status {
    /// Show only this service
    service: Option<String>,
}

impl Ask for Status {
    fn request(self) -> Verb {
        Verb::Status(api::status::Args { service: self.service })
    }
}
