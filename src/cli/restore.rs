//! `restore SERVICE`: restore a backup over the live data. On a terminal the command shows what
//! would be lost and asks for confirmation; elsewhere it needs `--yes`.

use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::client::{self, Stay};
use crate::cli::verb::{Common, Own};
use crate::cli::{exit, out};
use crate::core::exit::Exit;

/// Restore a backup over the live data
#[derive(Debug, Args)]
pub struct Restore {
    /// Name of the service
    service: String,
    /// Backup to restore [default: the newest]
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    /// Restore to scratch, check, say what would be lost, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Restore even if the live data cannot be backed up first
    #[arg(long)]
    unsaved: bool,
    #[command(flatten)]
    common: Common,
}

impl Own for Restore {
    fn perform(self) -> ExitCode {
        let asks = !self.yes && !self.dry_run && io::stdin().is_terminal() && out::is_terminal();
        if !asks {
            return self.ask(self.dry_run, self.yes);
        }
        let shown = self.ask(true, false);
        if shown != exit::code(Exit::Done) {
            return shown;
        }
        out::say(format!("Restore it over the live data of {}? Type yes:", self.service));
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            Ok(_) if line.trim() == "yes" => self.ask(false, true),
            _ => {
                out::say("nothing was changed");
                exit::code(Exit::Done)
            }
        }
    }
}

impl Restore {
    fn ask(&self, dry_run: bool, yes: bool) -> ExitCode {
        let verb = Verb::Restore(api::restore::Args {
            service: self.service.clone(),
            backup: self.backup.clone(),
            dry_run,
            yes,
            unsaved: self.unsaved,
        });
        client::ask(&self.common, verb, None, Stay::ToTheEnd)
    }
}
