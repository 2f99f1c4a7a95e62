//! `env SERVICE`: what a program of the service gets.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;

/// Show the environment of a service's programs, secrets masked
#[derive(Debug, Args)]
pub struct Env {
    /// Name of the service
    service: String,
    /// Of this release [default: the serving one]
    #[arg(long, value_name = "RELEASE")]
    release: Option<u64>,
    /// Show values that look secret, too
    #[arg(long)]
    show: bool,
}

impl Ask for Env {
    fn request(self) -> Verb {
        let Self { service, release, show } = self;
        Verb::Env(api::env::Args { service, release, show })
    }
}
