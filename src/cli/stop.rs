//! `stop SERVICE`: stop a service; it stays down.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// Stop a service; it stays down, also after a reboot
#[derive(Debug, Args)]
pub struct Stop {
    /// Name of the service
    service: String,
}

impl Ask for Stop {
    fn request(self) -> Verb {
        Verb::Stop(api::stop::Args { service: self.service })
    }
}
