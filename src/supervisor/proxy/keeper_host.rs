//! The commands of a proxy as children of the keeper.

use std::rc::Rc;

use crate::core::ids::ServiceName;
use crate::supervisor::processes::host_command::{self, HostCommand};
use crate::supervisor::processes::keeper_client::Link;
use crate::supervisor::proxy::driver::{Host, Work};
use crate::supervisor::proxy::error::DEADLINE;

/// Runs commands of the proxy of one service. The next supervisor ends what this one leaves, before
/// it flips again: two never run at a time.
#[derive(Debug)]
pub(crate) struct KeeperHost<'a> {
    /// The way to the keeper.
    pub link: &'a Rc<Link>,
    /// Whose proxy it is.
    pub service: &'a ServiceName,
}

impl Host for KeeperHost<'_> {
    fn run<'a>(&'a self, words: &'a [String], env: &'a [(&'a str, String)]) -> Work<'a, ()> {
        Box::pin(async move {
            let command = HostCommand::of_host(self.service.as_str(), words, env, DEADLINE);
            Ok(host_command::succeed(self.link, command).await?)
        })
    }
}
