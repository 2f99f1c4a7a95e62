//! What a verb of the command line is.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::api;

/// A verb that asks the supervisor one thing and shows the answer. The doc comment on the type is
/// its help.
pub(super) trait Ask: Args {
    /// What it asks.
    fn request(self) -> api::Verb;
}

/// A verb that does more than ask, or something else.
pub(super) trait Own: Args {
    /// Does it.
    fn perform(self) -> ExitCode;
}

// What every verb takes that talks to the supervisor. A doc comment would become the verb's help.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Configuration file [default: $HALLEY_CONFIG, else /etc/halley/halley.toml]
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
    /// Print JSON, one object a line, the result last
    #[arg(long, global = true)]
    pub(super) json: bool,
}
