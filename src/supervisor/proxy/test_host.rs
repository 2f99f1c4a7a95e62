//! Commands of a proxy in the tests of its driver, where no keeper runs.

use std::process::Command;

use crate::supervisor::proxy::driver::{Host, Work};
use crate::supervisor::proxy::error::EntryError;

/// Runs them as children of the test.
pub(crate) struct TestHost;

impl Host for TestHost {
    fn run<'a>(&'a self, words: &'a [String], env: &'a [(&'a str, String)]) -> Work<'a, ()> {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(env.iter().map(|(name, value)| (name, value)));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let failure = format!("exit {}: {said}", output.status.code().unwrap());
        let is_good = output.status.success();
        Box::pin(async move { if is_good { Ok(()) } else { Err(EntryError::Command(failure)) } })
    }
}
