//! `demo`: the main job on real processes.

use std::process::ExitCode;

use clap::Args;

use crate::cli::verb::Own;
use crate::demo;

/// Show a release and a rollback under load, on real processes
#[derive(Debug, Args)]
pub struct Demo {}

impl Own for Demo {
    fn perform(self) -> ExitCode {
        demo::run()
    }
}
