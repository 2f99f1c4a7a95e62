//! Where a driver finds the data: what the service works on, or a copy.

use std::path::PathBuf;

/// Where a driver finds the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Site {
    /// What the service works on.
    Live,
    /// A copy, with a directory in the place of `shared/`. The directory's name is the backup's, and
    /// makes the names of whatever else a driver needs for the copy.
    Scratch {
        /// The directory.
        dir: PathBuf,
        /// By what programs are kept to it.
        means: Means,
    },
}

/// By what the kernel keeps a process to a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Means {
    /// Its own mounts: every name leads to the copy.
    Mounts,
    /// Landlock: variables lead to the copy, and nothing else can be written.
    Landlock {
        /// Why not by mounts.
        why: String,
    },
    /// Nothing: programs cannot be tried on a copy.
    None {
        /// Why not.
        why: String,
    },
}

impl Means {
    /// For people.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Mounts => "isolated by mounts".to_owned(),
            Self::Landlock { why } => {
                format!("isolated by Landlock: the live data cannot be written ({why})")
            }
            Self::None { why } => format!("not isolated: nothing is started on it ({why})"),
        }
    }
}
