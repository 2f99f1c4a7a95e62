//! `notify TARGET`: a test notification, delivered at once.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// Send a test notification
#[derive(Debug, Args)]
pub struct Notify {
    /// Name of the target, as in [notify.NAME]
    target: String,
}

impl Ask for Notify {
    fn request(self) -> Verb {
        Verb::Notify(api::notify::Args { target: self.target })
    }
}
