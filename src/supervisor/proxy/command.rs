//! Any other proxy, by command: without a shell, exit 0 is good.
//!
//! Whether a failed flip left the proxy as it was is the command's own affair.

use crate::config::proxy::command::Command;
use crate::supervisor::proxy::driver::{Driver, Host, Upstream, Work};
use crate::supervisor::proxy::error::EntryError;

/// Where a command finds the upstreams in its environment.
const VARIABLE: &str = "HALLEY_UPSTREAMS";
/// What stands for them in its arguments.
const PLACEHOLDER: &str = "{upstreams}";

impl Driver for Command {
    fn check<'a>(&'a self, _n_upstreams: usize, host: &'a dyn Host) -> Work<'a, String> {
        Box::pin(check(self.check.as_deref(), host))
    }

    fn flip<'a>(&'a self, upstreams: &'a [Upstream], host: &'a dyn Host) -> Work<'a, ()> {
        Box::pin(flip(&self.flip, upstreams, host))
    }
}

/// Runs the check, where there is one.
///
/// # Errors
/// [`EntryError::Command`].
async fn check(check: Option<&[String]>, host: &dyn Host) -> Result<String, EntryError> {
    let Some(words) = check else {
        return Ok("command: no check is configured".to_owned());
    };
    host.run(words, &[]).await?;
    Ok(format!("command: {} exited with 0", words.join(" ")))
}

/// Runs the flip.
///
/// # Errors
/// [`EntryError::Command`].
async fn flip(words: &[String], upstreams: &[Upstream], host: &dyn Host) -> Result<(), EntryError> {
    let list = upstreams.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    host.run(&filled(words, &list), &[(VARIABLE, list)]).await
}

/// The command's arguments with the upstreams filled in.
fn filled(words: &[String], list: &str) -> Vec<String> {
    words.iter().map(|word| word.replace(PLACEHOLDER, list)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::supervisor::proxy::test_host::TestHost;

    fn upstreams() -> [Upstream; 2] {
        let tcp = Upstream::Tcp("127.0.0.1:8001".parse().unwrap());
        [tcp, Upstream::Unix(PathBuf::from("/run/a.sock"))]
    }

    #[tokio::test]
    async fn the_upstreams_are_in_the_environment_and_in_the_arguments() {
        let list = "127.0.0.1:8001 unix:/run/a.sock";
        let script = format!("test \"$HALLEY_UPSTREAMS\" = '{list}' && test \"$0\" = 'to={list}'");
        let words = ["sh".to_owned(), "-c".to_owned(), script, "to={upstreams}".to_owned()];
        flip(&words, &upstreams(), &TestHost).await.unwrap();
    }

    #[tokio::test]
    async fn a_command_that_says_no_is_quoted() {
        let words = ["sh", "-c", "echo no such pool >&2; exit 4"].map(str::to_owned);
        let error = flip(&words, &upstreams(), &TestHost).await.unwrap_err().to_string();
        assert!(error.ends_with("exit 4: no such pool"), "{error}");
        let error = check(Some(&words), &TestHost).await.unwrap_err().to_string();
        assert!(error.ends_with("exit 4: no such pool"), "{error}");
        assert!(check(None, &TestHost).await.unwrap().contains("no check"));
    }
}
