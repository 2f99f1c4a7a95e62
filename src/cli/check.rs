//! `check`: all errors of the configuration, at once.

use std::process::ExitCode;

use clap::Args;

use crate::cli::verb::{Common, Own};
use crate::cli::{exit, out};
use crate::config;
use crate::core::exit::Exit;
use crate::os;
use crate::text;

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
                let n = text::count(config.services.len(), "service");
                out::result(format!("{}: ok, {n}", path.display()));
                exit::code(Exit::Done)
            }
            Err(problems) => {
                problems.iter().for_each(out::say);
                out::say(format!(
                    "{}; nothing was changed",
                    text::count(problems.len(), "problem")
                ));
                exit::code(Exit::Usage)
            }
        }
    }
}
