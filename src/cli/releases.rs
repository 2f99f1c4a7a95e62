//! `releases SERVICE`: the releases on disk.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// Show the releases on disk
#[derive(Debug, Args)]
pub struct Releases {
    /// Name of the service
    service: String,
}

impl Ask for Releases {
    fn request(self) -> Verb {
        Verb::Releases(api::releases::Args { service: self.service })
    }
}
