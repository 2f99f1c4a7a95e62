//! `notify TARGET`: a test notification, delivered at once.

use std::process::ExitCode;

use clap::Args;

use crate::api;
use crate::api::Verb;
use crate::cli::Common;
use crate::cli::client::{self, Stay};

/// The arguments.
#[derive(Debug, Args)]
pub struct Notify {
    /// Name of the target, as in [notify.NAME]
    target: String,
    #[command(flatten)]
    common: Common,
}

impl Notify {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        let verb = Verb::Notify(api::notify::Args { target: self.target });
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
