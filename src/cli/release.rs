//! `release SERVICE SOURCE`: bring a new release live.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use clap::Args;

use crate::cli::client::{self, Stay};
use crate::cli::{Common, exit, out};
use crate::supervisor::protocol::{Trouble, Verb};

/// The arguments.
#[derive(Debug, Args)]
pub struct Release {
    /// Which service
    service: String,
    /// A directory, .tar, .tar.gz, .tar.zst, or - for stdin
    source: String,
    /// Release it though the artifact is frozen
    #[arg(long)]
    force: bool,
    /// Come back as soon as it has begun; exit 40
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    common: Common,
}

impl Release {
    /// Does it. The artifact is opened here, with the rights of who asks, and handed over open.
    pub fn perform(self) -> ExitCode {
        let source = match open(&self.source) {
            Ok(source) => source,
            Err(why) => {
                return out::trouble(&Trouble {
                    what: format!("{}: nothing was released", self.service),
                    why,
                    still: "nothing was changed".to_owned(),
                    next: vec![format!("halley-sup release {} SOURCE", self.service)],
                    exit: exit::USAGE,
                });
            }
        };
        let stay = if self.detach { Stay::Begun } else { Stay::ToTheEnd };
        let verb = Verb::Release { service: self.service, source: self.source, force: self.force };
        client::ask(&self.common, verb, Some(source), stay)
    }
}

fn open(source: &str) -> Result<OwnedFd, String> {
    if source == "-" {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            let how = "tar c -C build . | halley-sup release SERVICE -";
            return Err(format!("- reads the artifact from stdin, and that is a terminal: {how}"));
        }
        return stdin.as_fd().try_clone_to_owned().map_err(|error| format!("stdin: {error}"));
    }
    File::open(source).map(OwnedFd::from).map_err(|error| format!("{source}: {error}"))
}
