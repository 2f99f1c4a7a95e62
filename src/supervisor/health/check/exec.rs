//! Health check by the exit status of a command in the release.

use crate::keeper::protocol::End;
use crate::supervisor::health::checker::{Answer, Checker, Target};
use crate::supervisor::health::command::{self, Ran};
use crate::supervisor::health::probe::{self, Probe};

/// The program and its arguments.
struct Exec<'c>(&'c [String]);

pub(super) fn checker(command: &[String]) -> impl Checker {
    Exec(command)
}

impl Checker for Exec<'_> {
    fn probe<'a>(&'a self, target: Target<'a>) -> Answer<'a> {
        Box::pin(exec(target, self.0))
    }
}

async fn exec(target: Target<'_>, words: &[String]) -> Probe {
    let Target { service, generation, instance } = target;
    let program = words.first().map_or("", String::as_str);
    match command::run(service, generation, instance, words, target.timeout(), &[]).await {
        Ran::Ended(End::Exited(0)) => Probe::good(),
        Ran::Ended(end) => Probe::bad(format!("{program}: {end}")),
        Ran::TooLate(limit) => Probe::bad(format!("{program}: {}", probe::too_late(limit))),
        Ran::NotRun(why) => Probe::bad(why),
    }
}
