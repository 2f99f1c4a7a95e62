//! `restart SERVICE`: new processes of the same release, without losing a connection.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// Replace the processes by new ones of the same release, without losing a connection
#[derive(Debug, Args)]
pub struct Restart {
    /// Name of the service
    service: String,
}

impl Ask for Restart {
    fn request(self) -> Verb {
        Verb::Restart(api::restart::Args { service: self.service })
    }
}
