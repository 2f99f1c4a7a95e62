//! `thaw SERVICE`: allow releases again.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// Allow releases again
#[derive(Debug, Args)]
pub struct Thaw {
    /// Name of the service
    service: String,
    /// Thaw the artifact of this release instead of the service
    #[arg(long, value_name = "N")]
    release: Option<u64>,
}

impl Ask for Thaw {
    fn request(self) -> Verb {
        Verb::Thaw(api::thaw::Args { service: self.service, release: self.release })
    }
}
