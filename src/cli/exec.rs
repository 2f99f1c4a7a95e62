//! `exec SERVICE -- COMMAND`: a command of one's own where the service's programs run.

use std::io;
use std::process::ExitCode;

use clap::Args;

use crate::api::{self, Trouble, Verb};
use crate::cli::client;
use crate::cli::render;
use crate::cli::verb::{Common, Own};
use crate::core::exit::Exit;
use crate::os::launch;
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
        let spec = LaunchSpec {
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
        let error = launch::become_here(&spec);
        let is_missing =
            io::Error::from_raw_os_error(error.errno).kind() == io::ErrorKind::NotFound;
        let trouble = Trouble {
            what: format!("{}: the command was not run", self.service),
            why: format!("{}: {}", error.step, error.why),
            still: "nothing was changed".to_owned(),
            next: if is_missing {
                vec![format!("halley-sup exec {} -- ls", self.service)]
            } else {
                Vec::new()
            },
            exit: Exit::Usage.code(),
        };
        render::refused(self.common.json, &trouble)
    }
}
