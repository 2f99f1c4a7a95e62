//! `logs SERVICE [-f]`: what its processes wrote.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// Show the log of a service
#[derive(Debug, Args)]
pub struct Logs {
    /// Name of the service
    service: String,
    /// Release to show [default: the serving one]
    #[arg(long, value_name = "RELEASE")]
    release: Option<u64>,
    /// Number of last lines to show
    #[arg(short = 'n', long, default_value_t = 50)]
    tail: usize,
    /// Keep printing new lines
    #[arg(short, long)]
    follow: bool,
}

impl Ask for Logs {
    fn request(self) -> Verb {
        Verb::Logs(api::logs::Args {
            service: self.service,
            release: self.release,
            tail: self.tail,
            follow: self.follow,
        })
    }
}
