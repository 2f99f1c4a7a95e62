//! The forwarder's command line.

use std::num::NonZeroUsize;

use clap::Parser;

use super::target::Target;

/// Forwards the connections of inherited listeners (`LISTEN_FDS`) to a backend
#[derive(Debug, Parser)]
#[command(name = "halley-sup forward", no_binary_name = true)]
pub struct Options {
    /// The backend: tcp://IP:PORT, unix:PATH, or called: where the connection itself wanted to go
    #[arg(long)]
    pub to: Target,
    /// Tell the backend the client's address (PROXY protocol, version 2)
    #[arg(long)]
    pub proxy_protocol: bool,
    /// Connections open at once; others wait in the kernel's queue [default: what descriptors allow]
    #[arg(long, value_name = "N")]
    pub max_clients: Option<NonZeroUsize>,
    /// Take the waiting connections, let the listeners go, and leave with the last connection
    #[arg(long)]
    pub until_empty: bool,
    /// Other processes of its user shall not look into it: one that Halley runs as another user
    #[arg(long)]
    pub private: bool,
    /// Worker threads [default: 2, or 1 on a single processor]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

impl Options {
    /// How many workers there are.
    pub fn n_threads(&self) -> usize {
        let n_processors = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.threads.map_or_else(|| n_processors().min(2), NonZeroUsize::get)
    }
}
