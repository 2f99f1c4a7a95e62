//! `exec SERVICE -- COMMAND`: a command of one's own where the service's programs run.

use std::io;
use std::process::ExitCode;

use clap::Args;

use crate::api::{self, Trouble, Verb};
use crate::cli::client;
use crate::cli::render;
use crate::cli::verb::{Common, Own};
use crate::core::exit::Exit;
use crate::json;
use crate::os::launch::{self, LaunchError};
use crate::os::launch_spec::LaunchSpec;
use crate::os::names::LaunchUser;

/// Run a command in a release's tree, as the service's user, with its environment
#[derive(Debug, Args)]
pub struct Exec {
    #[command(flatten)]
    common: Common,
    /// Name of the service
    service: String,
    /// In this release [default: the serving one]
    #[arg(long, value_name = "RELEASE")]
    release: Option<u64>,
    /// Program and arguments; a program with a `/` is relative to the release
    #[arg(last = true, required = true, value_name = "COMMAND")]
    words: Vec<String>,
}

impl Own for Exec {
    fn perform(self) -> ExitCode {
        let verb = Verb::Env(api::env::Args {
            service: self.service.clone(),
            release: self.release,
            show: true,
        });
        let surroundings = match client::ask_for_surroundings(&self.common, verb) {
            Ok(surroundings) => surroundings,
            Err(code) => return code,
        };
        let mut words = self.words.into_iter();
        let mut env = surroundings.variables;
        // The terminal is the caller's.
        env.extend(std::env::var("TERM").map(|term| ("TERM".to_owned(), term)));
        let own_limits = match surroundings.limits.map(json::from_value).transpose() {
            Ok(limits) => limits.unwrap_or_default(),
            Err(error) => {
                let error = LaunchError {
                    step: "reading the limits".to_owned(),
                    errno: 0,
                    why: error.to_string(),
                };
                return not_run(&self.common, &self.service, &error);
            }
        };
        let spec = LaunchSpec {
            own_limits,
            sealed: Some(surroundings.dir.clone().into()),
            program: words.next().unwrap_or_default(),
            args: words.collect(),
            env,
            cwd: surroundings.dir,
            user: surroundings.user.map(|user| LaunchUser {
                uid: user.uid,
                gid: user.gid,
                groups: user.groups,
            }),
            ..LaunchSpec::default()
        };
        // This process is the command from here on.
        not_run(&self.common, &self.service, &launch::become_here(&spec))
    }
}

fn not_run(common: &Common, service: &str, error: &LaunchError) -> ExitCode {
    let is_missing = io::Error::from_raw_os_error(error.errno).kind() == io::ErrorKind::NotFound;
    let next = is_missing.then(|| format!("halley-sup exec {service} -- ls"));
    let trouble = Trouble {
        what: format!("{service}: the command was not run"),
        why: format!("{}: {}", error.step, error.why),
        still: "nothing was changed".to_owned(),
        next: next.into_iter().collect(),
        exit: Exit::Usage.code(),
    };
    render::refused(common.json, &trouble)
}
