//! `abort SERVICE`: end the running operation and go back to what served before.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// End the running operation and go back to what served before
#[derive(Debug, Args)]
pub struct Abort {
    /// Name of the service
    service: String,
}

impl Ask for Abort {
    fn request(self) -> Verb {
        Verb::Abort(api::abort::Args { service: self.service })
    }
}
