//! `start SERVICE`: start a stopped service.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// Start a stopped service
#[derive(Debug, Args)]
pub struct Start {
    /// Name of the service
    service: String,
}

impl Ask for Start {
    fn request(self) -> Verb {
        Verb::Start(api::start::Args { service: self.service })
    }
}
