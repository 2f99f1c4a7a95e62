//! `demo`: the main job on real processes.

use std::process::ExitCode;

use clap::Args;

use crate::demo;

/// The arguments.
#[derive(Debug, Args)]
pub struct Demo {}

impl Demo {
    /// Does it.
    pub fn perform(self) -> ExitCode {
        demo::run()
    }
}
