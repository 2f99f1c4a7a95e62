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
    /// Backup to restore [default: the newest of the state before the trouble]
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
    /// Restore even if more is lost by the time connections are held than was announced
    #[arg(long)]
    any_loss: bool,
    /// Stop services that use the same data for as long as it takes
    #[arg(long)]
    stop_users: bool,
    /// End sessions that other clients have on the database; they may come back after it
    #[arg(long)]
    end_sessions: bool,
    #[command(flatten)]
    common: Common,
}

impl Own for Restore {
    fn perform(self) -> ExitCode {
        let asks = !self.yes && !self.dry_run && io::stdin().is_terminal() && out::is_terminal();
        if !asks {
            return client::ask(&self.common, self.verb(), None, Stay::ToTheEnd);
        }
        let told = Verb::Restore(api::restore::Args { dry_run: true, ..self.args() });
        let (shown, plan) = client::ask_for_plan(&self.common, told);
        let Some(plan) = plan.filter(|_| shown == exit::code(Exit::Done)) else { return shown };
        out::say(format!("Restore it over the live data of {}? Type yes:", self.service));
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            // That backup, and that loss: there may be others by now.
            Ok(_) if line.trim() == "yes" => {
                let agreed = api::restore::Args {
                    backup: Some(plan.backup.id),
                    seen: Some(plan.lost),
                    yes: true,
                    ..self.args()
                };
                client::ask(&self.common, Verb::Restore(agreed), None, Stay::ToTheEnd)
            }
            _ => {
                out::say("nothing was changed");
                exit::code(Exit::Done)
            }
        }
    }
}

impl Restore {
    fn verb(&self) -> Verb {
        Verb::Restore(self.args())
    }

    fn args(&self) -> api::restore::Args {
        api::restore::Args {
            service: self.service.clone(),
            backup: self.backup.clone(),
            dry_run: self.dry_run,
            yes: self.yes,
            unsaved: self.unsaved,
            any_loss: self.any_loss,
            stop_users: self.stop_users,
            end_sessions: self.end_sessions,
            seen: None,
        }
    }
}
