//! `upgrade [BINARY]`: Halley itself is replaced by another program, while everything runs on.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::api::{self, Trouble, Verb};
use crate::cli::client::{self, Stay};
use crate::cli::render;
use crate::cli::verb::{Common, Own};
use crate::config::duration::{self, BadDuration};
use crate::core::exit::Exit;

/// Replace the running halley-sup by another program; services run on
#[derive(Debug, Args)]
pub struct Upgrade {
    #[command(flatten)]
    common: Common,
    /// The program to run [default: this one]
    binary: Option<PathBuf>,
    /// How long it has to get ready before the present one returns
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = limit)]
    deadline: Duration,
}

fn limit(text: &str) -> Result<Duration, BadDuration> {
    duration::parse(text)
}

impl Own for Upgrade {
    fn perform(self) -> ExitCode {
        let path = self.binary.map_or_else(std::env::current_exe, std::path::absolute);
        let opened = path.and_then(|path| Ok((File::open(&path)?, path)));
        let (program, path) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let trouble = Trouble {
                    what: "halley-sup was not upgraded".to_owned(),
                    why: format!("the program cannot be opened: {error}"),
                    still: "nothing was changed".to_owned(),
                    next: vec!["halley-sup upgrade BINARY".to_owned()],
                    exit: Exit::Usage.code(),
                };
                return render::refused(self.common.json, &trouble);
            }
        };
        let verb = Verb::Upgrade(api::upgrade::Args {
            program: path.to_string_lossy().into_owned(),
            deadline_ms: u64::try_from(self.deadline.as_millis()).unwrap_or(u64::MAX),
        });
        client::ask(&self.common, verb, Some(program.into()), Stay::ToTheEnd)
    }
}
