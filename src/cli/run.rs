//! `run`: the keeper, and through it the stack.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::api::Trouble;
use crate::cli::verb::{Common, Own};
use crate::cli::{exit, out};
use crate::config;
use crate::core::exit::Exit;
use crate::keeper::Setup;
use crate::os;
use crate::os::fs::{self, LockError};
use crate::os::launch_spec::Limits;
use crate::store::layout::Layout;
use crate::text;

/// Longer than any stop takes by default; the keeper ends by itself what is left then.
const STOP_DEADLINE: Duration = Duration::from_secs(85);

/// Run the stack in the foreground (the systemd unit starts this)
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    common: Common,
}

impl Own for Run {
    /// Does it; returns when the stack is down.
    fn perform(self) -> ExitCode {
        crate::os::log_to_stderr();
        if let Err(error) = os::keep_private() {
            out::say(format!("error: {error}"));
            return exit::code(Exit::Internal);
        }
        let path = config::locate(self.common.config);
        let path = std::path::absolute(&path).unwrap_or(path);
        let config = match config::load_from(&path, os::kernel(), &config::Files::default()) {
            Ok(config) => config,
            Err(problems) => {
                problems.iter().for_each(out::say);
                let Some(config) = crate::supervisor::last_config(&path) else {
                    return exit::code(Exit::Usage);
                };
                out::say("the last good configuration is used; next: halley-sup check");
                config
            }
        };
        let layout = Layout::new(&config.root);
        let holder = crate::keeper::holder();
        let locked = fs::create_dir(layout.root(), 0o755)
            .map_err(LockError::from)
            .and_then(|()| fs::lock(&layout.lock(), &holder));
        let setup = Setup {
            supervisor: None,
            supervisor_args: vec![crate::supervisor::VERB.into(), path.into()],
            program: std::env::current_exe().unwrap_or_default(),
            handover: layout.handover(),
            stop_deadline: STOP_DEADLINE,
            limits: Limits {
                n_files: os::proc::raise_file_limit(),
                oom_score_adj: os::proc::spare_from_oom(),
            },
        };
        let n = text::count(config.services.len(), "service");
        let socket = config.socket.display();
        let version = env!("CARGO_PKG_VERSION");
        let begun = format!("halley-sup {version}: {n}, control socket {socket}");
        let ended = match locked {
            Ok(lock) => {
                out::say(begun);
                crate::keeper::run(setup, vec![lock.into()], &layout.running())
            }
            Err(error) => {
                let is_held = matches!(error, LockError::Held { .. });
                match is_held.then(|| crate::keeper::take_over(setup)).flatten() {
                    Some(ended) => ended,
                    None => return out::trouble(&refused(&layout, &error)),
                }
            }
        };
        match ended {
            Ok(code) => code,
            Err(error) => {
                out::say(format!("error: {error}"));
                exit::code(Exit::Internal)
            }
        }
    }
}

fn refused(layout: &Layout, error: &LockError) -> Trouble {
    let exit = match error {
        LockError::Held { .. } => Exit::Busy,
        LockError::System(_) => Exit::Internal,
    };
    Trouble {
        what: "halley-sup run did not start".to_owned(),
        why: format!("{}: {error}", layout.lock().display()),
        still: "running processes keep running".to_owned(),
        next: vec!["halley-sup status".to_owned()],
        exit: exit.code(),
    }
}
