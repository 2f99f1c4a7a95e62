//! What a configuration asks of the kernel, and what to do where it cannot be had.

use std::path::Path;

use super::model::{Config, Handoff, Service, Strategy};
use super::problem::Problem;
use crate::core::kernel::Kernel;

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
            let message = format!(
                "the queue cannot hold {backlog} connections: net.core.somaxconn is {most}"
            );
            let hint = format!("sysctl -w net.core.somaxconn={backlog}, or use a shorter backlog");
            problems.push(problem("backlog", message, &hint));
        }
        problems
    };
    config.services.values().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &str, kernel: Kernel) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("halley.toml");
        let text = format!("[service.web]\nlisten = [\"tcp://127.0.0.1:80\"]\n{lines}");
        std::fs::write(&file, text).unwrap();
        let config = crate::config::load(&file).unwrap();
        let told = problems(&config, Path::new("halley.toml"), kernel);
        told.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_kernel_cannot_do_is_refused_with_what_it_can() {
        let old = Kernel { can_intercept: false, somaxconn: 128 };
        let new = Kernel { can_intercept: true, somaxconn: 4096 };
        let intercept = check("handoff = \"intercept\"", old);
        assert!(intercept[0].contains("service.web.handoff: this kernel does not report bind()"));
        assert!(intercept[0].contains("use inherit"), "{intercept:?}");
        let hold = check("strategy = \"hold\"", old);
        assert!(
            hold[0].contains("service.web.backlog: the queue cannot hold 1024 connections"),
            "{hold:?}"
        );
        for lines in ["handoff = \"intercept\"", "strategy = \"hold\"", ""] {
            assert_eq!(check(lines, new), [""; 0], "{lines}");
        }
        assert_eq!(check("handoff = \"inherit\"", old), [""; 0]);
    }
}
