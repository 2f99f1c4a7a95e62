//! `logs SERVICE [-f]`: what its processes wrote.

use std::process::ExitCode;

use clap::Args;

use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
#[derive(Debug, Args)]
pub struct Logs {
    /// Which service
    service: String,
    /// Which release [default: the one that serves]
    #[arg(long, value_name = "RELEASE")]
    release: Option<u64>,
    /// How many of the last lines
    #[arg(short = 'n', long, default_value_t = 50)]
    tail: usize,
    /// Go on with each new line
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    common: Common,
}

impl Logs {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::Logs {
            service: self.service,
            release: self.release,
            tail: self.tail,
            follow: self.follow,
        };
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
