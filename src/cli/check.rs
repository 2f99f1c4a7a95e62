//! `check`: all errors of the configuration, at once.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::api::{self, Verb};
use crate::cli::client::Stay;
use crate::cli::verb::{Common, Own};
use crate::cli::{client, exit, out, render, unit};
use crate::config;
use crate::core::exit::Exit;
use crate::os;
use crate::text;

/// Check the configuration and report all errors at once
#[derive(Debug, Args)]
pub struct Check {
    /// Then show what differs from the configuration that is in use
    #[arg(long)]
    diff: bool,
    #[command(flatten)]
    common: Common,
}

impl Own for Check {
    fn perform(self) -> ExitCode {
        let path = config::locate(self.common.config.clone());
        match config::load_for(&path, os::kernel()) {
            Ok(_) if self.diff => {
                let asked = Verb::Reload(api::reload::Args { dry_run: true });
                client::ask(&self.common, asked, None, Stay::ToTheEnd)
            }
            Ok(config) => {
                let mut warnings = config::warnings(&config);
                warnings.extend(unit::too_short(&config, Path::new("/")));
                let n = config.services.len();
                if self.common.json {
                    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
                    let path = path.display().to_string();
                    let more = json!({ "config": path, "services": n, "warnings": warnings });
                    render::checked(Exit::Done, more);
                    return exit::code(Exit::Done);
                }
                for warning in warnings {
                    out::say(format!("warning: {warning}"));
                }
                out::result(format!("{}: ok, {}", path.display(), text::count(n, "service")));
                exit::code(Exit::Done)
            }
            Err(problems) if self.common.json => {
                let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                let path = path.display().to_string();
                render::checked(Exit::Usage, json!({ "config": path, "problems": problems }));
                exit::code(Exit::Usage)
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
