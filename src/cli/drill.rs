//! `drill SERVICE`: rehearse a rollback.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// Rehearse a rollback
#[derive(Debug, Args)]
pub struct Drill {
    /// Name of the service
    service: String,
}

impl Ask for Drill {
    fn request(self) -> Verb {
        Verb::Drill(api::drill::Args { service: self.service })
    }
}
