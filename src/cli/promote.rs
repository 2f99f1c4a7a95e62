//! `promote SERVICE`: end a step, a bake or a hold as a success.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// End a canary step, a bake or a hold as a success
#[derive(Debug, Args)]
pub struct Promote {
    /// Name of the service
    service: String,
}

impl Ask for Promote {
    fn request(self) -> Verb {
        Verb::Promote(api::promote::Args { service: self.service })
    }
}
