//! What a configuration asks of the kernel, and what to do where it cannot be had.

use std::path::Path;

use super::model::{Config, Handoff, Service, Strategy};
use super::problem::Problem;

/// What the kernel allows, as far as a configuration depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// A program's `bind()` can be answered by us (Linux 5.9, and no sandbox that forbids it).
    pub can_intercept: bool,
    /// The longest accept queue (`net.core.somaxconn`).
    pub somaxconn: u32,
}

/// Everything that this kernel cannot do.
#[must_use]
pub fn problems(config: &Config, file: &Path, kernel: Kernel) -> Vec<Problem> {
    let of = |service: &Service| {
        let problem = |key: &str, message: String, hint: &str| {
            let key = Some(format!("service.{}.{key}", service.name));
            Problem { key, ..Problem::of_file(file, message) }.hint(hint.to_owned())
        };
        let mut problems = Vec::new();
        if service.settings.handoff == Handoff::Intercept && !kernel.can_intercept {
            let message = "this kernel does not report bind() (seccomp user notification, 5.9)";
            let hint = "use inherit where the program takes sockets (LISTEN_FDS), else port";
            problems.push(problem("handoff", message.to_owned(), hint));
        }
        if service.strategy == Strategy::Hold && service.backlog > kernel.somaxconn {
            let (backlog, most) = (service.backlog, kernel.somaxconn);
            let message = format!("{backlog} callers cannot be held, the kernel holds {most}");
            let hint = format!("sysctl -w net.core.somaxconn={backlog}, or a shorter backlog");
            problems.push(problem("backlog", message, &hint));
        }
        problems
    };
    config.services.values().flat_map(of).collect()
}
