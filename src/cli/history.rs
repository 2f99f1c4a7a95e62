//! `history [SERVICE]`: past operations.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// Show past operations
#[derive(Debug, Args)]
pub struct History {
    /// Show only this service
    service: Option<String>,
    /// Maximum number of operations, newest first
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
}

impl Ask for History {
    fn request(self) -> Verb {
        Verb::History(api::history::Args { service: self.service, limit: self.limit })
    }
}
