//! `check`: all errors of the configuration, at once.

use std::process::ExitCode;

use clap::Args;

use crate::cli::{Common, Own, exit, out};
use crate::config;
use crate::core::exit::Exit;
use crate::os;

/// Check the configuration and report all errors at once
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    common: Common,
}

impl Own for Check {
    fn perform(self) -> ExitCode {
        let path = config::locate(self.common.config);
        match config::load_for(&path, os::kernel()) {
            Ok(config) => {
                for warning in config::warnings(&config) {
                    out::say(format!("warning: {warning}"));
                }
                let n = config.services.len();
                out::result(format!("{}: ok, {n} services", path.display()));
                exit::code(Exit::Done)
            }
            Err(problems) => {
                problems.iter().for_each(out::say);
                out::say(format!("{} problems; nothing was changed", problems.len()));
                exit::code(Exit::Usage)
            }
        }
    }
}
