//! `release SERVICE SOURCE`: make a new release live; `release --set SERVICE=SOURCE,...`: several
//! services as one.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use clap::Args;

use crate::api::{self, Part, Trouble, Verb};
use crate::cli::client::{self, Stay};
use crate::cli::render;
use crate::cli::verb::{Common, Own};
use crate::core::exit::Exit;
use crate::core::ids::ServiceName;
use crate::os::scm;

/// Make a new release live
#[derive(Debug, Args)]
pub struct Release {
    /// Name of the service
    #[arg(required_unless_present = "set", conflicts_with = "set", requires = "source")]
    service: Option<String>,
    /// Directory, .tar, .tar.gz, .tar.zst, or - for stdin
    source: Option<String>,
    /// Release several services as one operation, in `after` order, all or none
    #[arg(long, value_name = "SERVICE=SOURCE,...")]
    set: Vec<String>,
    /// Release a frozen artifact again
    #[arg(long)]
    force: bool,
    /// Allow a release that cannot be rolled back; the reason is recorded
    #[arg(long, value_name = "REASON", conflicts_with = "set")]
    no_way_back: Option<String>,
    /// Check everything, print the plan, change nothing
    #[arg(long, conflicts_with_all = ["set", "detach"])]
    dry_run: bool,
    /// Return once the operation has begun, with exit 40
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    common: Common,
}

impl Own for Release {
    /// Opens the artifact with the rights of the user who runs the command, and sends the open
    /// descriptor to the supervisor.
    fn perform(mut self) -> ExitCode {
        match (self.service.take(), self.source.take()) {
            (Some(service), Some(source)) => self.one(service, source),
            _ => self.several(),
        }
    }
}

impl Release {
    fn stay(&self) -> Stay {
        if self.detach { Stay::Begun } else { Stay::ToTheEnd }
    }

    fn one(self, service: String, source: String) -> ExitCode {
        let opened = match open(&source) {
            Ok(opened) => opened,
            Err(error) => {
                let trouble = Trouble {
                    what: format!("{service}: nothing was released"),
                    why: error.to_string(),
                    still: "nothing was changed".to_owned(),
                    next: vec![format!("halley-sup release {service} SOURCE")],
                    exit: Exit::Usage.code(),
                };
                return render::refused(self.common.json, &trouble);
            }
        };
        let stay = self.stay();
        let (force, no_way_back, dry_run) = (self.force, self.no_way_back, self.dry_run);
        let verb =
            Verb::Release(api::release::Args { service, source, force, no_way_back, dry_run });
        client::ask(&self.common, verb, Some(opened), stay)
    }

    /// A source that cannot be opened is sent as its error: the supervisor lists all problems of a
    /// set in one answer.
    fn several(self) -> ExitCode {
        let json = self.common.json;
        let pairs = match pairs(&self.set) {
            Ok(pairs) if pairs.len() <= scm::N_FDS_MAX => pairs,
            Ok(_) => {
                return unclear(json, &format!("at most {} services in a set", scm::N_FDS_MAX));
            }
            Err(error) => return unclear(json, &error.to_string()),
        };
        let mut opened = Vec::new();
        let mut has_stdin = false;
        let mut members = Vec::new();
        for (service, source) in pairs {
            let taken = source == "-" && std::mem::replace(&mut has_stdin, true);
            let result = match taken {
                true => Err(OpenError::Taken),
                false => open(&source),
            };
            let missing = match result {
                Ok(fd) => {
                    opened.push(fd);
                    None
                }
                Err(error) => Some(error.to_string()),
            };
            members.push(Part { service, source, missing });
        }
        let verb = Verb::ReleaseSet(api::release_set::Args { members, force: self.force });
        client::ask_with(&self.common, verb, &opened, self.stay())
    }
}

fn unclear(json: bool, why: &str) -> ExitCode {
    let trouble = Trouble {
        what: "the set was not started".to_owned(),
        why: why.to_owned(),
        still: "nothing was changed".to_owned(),
        next: vec!["halley-sup release --set SERVICE=SOURCE,SERVICE=SOURCE".to_owned()],
        exit: Exit::Usage.code(),
    };
    render::refused(json, &trouble)
}

/// What is no service with its source.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not SERVICE=SOURCE")]
struct NoPair(String);

/// Services and sources. A comma begins another pair only when a name and `=` follow: a path may
/// hold commas.
fn pairs(arguments: &[String]) -> Result<Vec<(String, String)>, NoPair> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for argument in arguments {
        let mut is_first = true;
        for piece in argument.split(',') {
            let pair = piece.split_once('=');
            let named = pair.filter(|(name, _)| is_first || name.parse::<ServiceName>().is_ok());
            match (named, pairs.last_mut()) {
                (Some((name, source)), _) => pairs.push((name.to_owned(), source.to_owned())),
                (None, Some((_, source))) if !is_first => {
                    source.push(',');
                    source.push_str(piece);
                }
                (None, _) => return Err(NoPair(piece.to_owned())),
            }
            is_first = false;
        }
    }
    Ok(pairs)
}

/// Why there is nothing to send.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    /// Nobody would type an archive.
    #[error(
        "- reads the artifact from stdin, but stdin is a terminal: \
         tar c -C build . | halley-sup release SERVICE -"
    )]
    Terminal,
    /// It is another service's.
    #[error("- reads stdin, so it can be used for one service only")]
    Taken,
    /// The system's reason.
    #[error("{name}: {source}")]
    Io {
        /// The file.
        name: String,
        /// The error.
        #[source]
        source: io::Error,
    },
}

fn open(source: &str) -> Result<OwnedFd, OpenError> {
    let system = |name: &str| {
        let name = name.to_owned();
        move |source| OpenError::Io { name, source }
    };
    if source == "-" {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(OpenError::Terminal);
        }
        return stdin.as_fd().try_clone_to_owned().map_err(system("stdin"));
    }
    File::open(source).map(OwnedFd::from).map_err(system(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arguments: &[&str], expected: &str) {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let told = match pairs(&arguments) {
            Ok(pairs) => pairs.iter().map(|(name, source)| format!("{name}:{source} ")).collect(),
            Err(error) => error.to_string(),
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn pairs_come_in_one_argument_or_several() {
        check(&["web=a,api=b.tar", "db=-"], "web:a api:b.tar db:- ");
        check(&["web=a,b.tar,api=c"], "web:a,b.tar api:c ");
        check(&["web=a=b"], "web:a=b ");
        check(&["Web=a"], "Web:a ");
        check(&["web=a,B/c=d"], "web:a,B/c=d ");
        check(&["web"], "\"web\" is not SERVICE=SOURCE");
        check(&["web=a", "api"], "\"api\" is not SERVICE=SOURCE");
    }
}
