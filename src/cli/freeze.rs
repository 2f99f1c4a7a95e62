//! `freeze SERVICE`: refuse releases until `thaw`.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// Refuse releases until thaw; rollbacks are always allowed
#[derive(Debug, Args)]
pub struct Freeze {
    /// Name of the service
    service: String,
    /// Reason, shown when a release is refused
    #[arg(long, value_name = "REASON", default_value = "no reason given")]
    why: String,
}

impl Ask for Freeze {
    fn request(self) -> Verb {
        Verb::Freeze(api::freeze::Args { service: self.service, why: self.why })
    }
}
