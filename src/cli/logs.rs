//! `logs SERVICE [-f]`: what its processes wrote.

use std::process::ExitCode;

use clap::Args;

use crate::api;
use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
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
    #[command(flatten)]
    common: Common,
}

impl Logs {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::Logs(api::logs::Args {
            service: self.service,
            release: self.release,
            tail: self.tail,
            follow: self.follow,
        });
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
