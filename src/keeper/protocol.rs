//! The messages between supervisor and keeper: one JSON message per packet of a `SOCK_SEQPACKET`
//! socketpair, descriptors beside it (`SCM_RIGHTS`).
//!
//! The keeper is the side that must not die, so it knows little: descriptors under names, children
//! under numbers. The supervisor chooses both. Every request is answered once, by `seq`.
//! A field may be added with a default; anything else is a new [`VERSION`]. Both sides say in their
//! greeting how many such additions they know ([`REVISION`]): a supervisor asks an older keeper for
//! nothing that it would leave out without a word, and is told nothing that it does not know.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use crate::keeper::own_listeners::Root;
pub use crate::keeper::setup::Setup;
pub use crate::os::fence::{ASKED_END, Door, Fence, Here, Otherwise, To, Via};
pub use crate::os::launch_spec::{Catch, CatchAt, LaunchSpec, ListenFd};
pub use crate::os::names::LaunchUser;
pub use crate::os::proc::Identity;

/// The version of this protocol. The keeper refuses a supervisor with another one.
pub const VERSION: u16 = 1;

/// What was added within the version, counted.
pub const REVISION: u16 = WORDS;
/// The first revision with [`LaunchSpec::fence`] and [`Tell::FencedOff`].
pub const FENCES: u16 = 1;
/// The first revision with [`Ask::Children`].
pub const LISTS: u16 = 2;
/// The first revision with [`Fence::given`].
pub const PORTS: u16 = 3;
/// The first revision with [`Tell::Ping`] and with lists in parts.
pub const PINGS: u16 = 4;
/// The first revision whose supervisors have a copy of all that the keeper has.
pub const HEIRS: u16 = 5;
/// The first revision with [`Via::Asked`].
pub const ASKS: u16 = 6;
/// The first revision with [`Ask::Upgrade`].
pub const UPGRADES: u16 = 7;
/// The first revision with [`Ask::Say`] and [`Ask::StopTime`].
pub const WORDS: u16 = 8;

/// What the name of a pipe begins with that a service writes its output to. Behind it the names of pipe and
/// spool are the same.
pub const OUTPUT: &str = "log/";
/// What the name of its spool begins with: what was read of it and is in no log yet.
pub const SPOOL: &str = "spool/";

/// What the names of a command's files begin with: they end with it, and a service manager stores none.
pub const COMMAND: &str = "oneshot/";

/// The number a supervisor gives a child; unique as long as the keeper lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChildId(pub u64);

/// Supervisor to keeper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the supervisor; comes back in the answer.
    pub seq: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What the supervisor asks of the keeper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "tag:ask", rename_all = "snake_case")]
pub enum Ask {
    /// First message of each supervisor. Answered by one [`Tell::Kept`] per descriptor, one
    /// [`Tell::Child`] per child, then [`Tell::Done`].
    Hello {
        /// [`VERSION`] of the supervisor.
        version: u16,
        /// Its [`REVISION`]; 0 when it does not say.
        #[serde(default)]
        revision: u16,
    },
    /// The supervisor is up: the keeper sends systemd `READY=1` the first time.
    Ready,
    /// How the stack is: what a service manager shows (`STATUS=`).
    Say {
        /// One line.
        text: String,
    },
    /// Keep the one descriptor that came with this message, under this name.
    /// `Failed` when the name is taken.
    Keep {
        /// Such as `slot/web/0/3`, `log/web/7/0`.
        name: String,
    },
    /// Close a kept descriptor. `Done` also when there is none.
    Drop {
        /// The name it was kept under.
        name: String,
    },
    /// Start a child. Answered by [`Tell::Spawned`] after its `execve` succeeded, or
    /// [`Tell::Failed`].
    Spawn {
        /// The child's number. `Failed` when it is taken.
        child: ChildId,
        /// Text the keeper stores and hands to the next supervisor; it never reads it.
        label: String,
        /// What to run.
        spec: Box<LaunchSpec>,
    },
    /// Send a signal, if every child of `only_if_alive` is alive at this instant; else
    /// [`Tell::Refused`]. `Done` also when the child is gone already.
    Signal {
        /// The child to signal.
        child: ChildId,
        /// The signal's number.
        signal: i32,
        /// How far it goes.
        reach: Reach,
        /// Children that must be alive for the signal to be sent (compare-and-act).
        only_if_alive: Vec<ChildId>,
    },
    /// The child's end is noted: forget it.
    Acknowledge {
        /// Whose end.
        child: ChildId,
    },
    /// Which children there are. Answered by [`Tell::Children`].
    Children,
    /// Become the program that comes with this message. That one answers `Done` and ends this supervisor;
    /// `Failed` when the keeper is what it was.
    Upgrade {
        /// The program's own supervisor has to be ready by then, or the one before returns.
        ready_ms: u64,
    },
    /// Answer to [`Tell::Ping`]: the event loop turns. It is not answered.
    Pong,
    /// Answer to [`Tell::Stop`]: how long it takes at most. It is not answered.
    StopTime {
        /// From the moment on at which the stop was asked for.
        ms: u64,
    },
    /// Answer to [`Tell::Stop`]: everything is down, the keeper may leave.
    Stopped,
}

/// How far a signal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// The child alone.
    Process,
    /// The child and every process that descends from it, also those that left its session or
    /// were orphaned (found by the token in their environment).
    Tree,
}

/// Keeper to supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "tag:tell", rename_all = "snake_case")]
pub enum Tell {
    /// A descriptor that the keeper holds; a duplicate comes with this message.
    Kept {
        /// The name it is kept under.
        name: String,
    },
    /// A child that the keeper has.
    Child {
        /// Its number.
        child: ChildId,
        /// The label it was started with.
        label: String,
        /// The process's identity.
        identity: Identity,
        /// Its end, when it has ended and was not acknowledged.
        end: Option<End>,
    },
    /// How the keeper was set up; what it holds for life comes with this message. This and the
    /// following two only to a supervisor of revision [`HEIRS`] or later.
    Setup {
        /// All of it, but for its descriptors.
        setup: Box<Setup>,
    },
    /// A child as the next keeper has to know it: of the list, or one that is about to be spawned.
    Heir {
        /// All of it.
        heir: Box<Heir>,
    },
    /// A filter, which comes with this message.
    Filter {
        /// The child that was started under it.
        child: ChildId,
        /// What calls are answered by.
        watched: Box<Watched>,
    },
    /// The request was carried out.
    Done {
        /// Which request.
        seq: u64,
        /// The keeper's [`REVISION`]; 0 when it does not say.
        #[serde(default)]
        revision: u16,
    },
    /// The child runs its program.
    Spawned {
        /// Which request.
        seq: u64,
        /// The process's identity.
        identity: Identity,
    },
    /// Not done, on purpose: a child that had to be alive is not.
    Refused {
        /// Which request.
        seq: u64,
        /// The first one found dead.
        dead: ChildId,
    },
    /// Not done: it could not be.
    Failed {
        /// Which request.
        seq: u64,
        /// The step that failed, such as `execve ./bin/web`.
        step: String,
        /// `errno`, 0 when the reason is not one of the kernel's.
        errno: i32,
        /// The reason in words.
        why: String,
    },
    /// The children that are not forgotten, at this instant.
    Children {
        /// Which request.
        seq: u64,
        /// All of them, in the order of their numbers, or a part.
        children: Vec<Held>,
        /// Others follow, with the same `seq`. Only to a supervisor of revision [`PINGS`] or later.
        #[serde(default)]
        more: bool,
    },
    /// A child has ended. Sent once to each supervisor, kept until acknowledged.
    Ended {
        /// Which child.
        child: ChildId,
        /// How.
        end: End,
    },
    /// A child's fence has kept it, or a process that it started, from an address. Sent once for
    /// each child and address, and only to a supervisor of revision [`FENCES`] or later.
    FencedOff {
        /// Which child.
        child: ChildId,
        /// What it was kept from.
        #[serde(rename = "flat:")]
        refused: Refused,
    },
    /// Nothing was heard of the supervisor for a while: does it live? Answered by [`Ask::Pong`].
    /// Only to a supervisor of revision [`PINGS`] or later.
    Ping,
    /// The keeper was asked to stop (`SIGTERM`, `SIGINT`): take everything down, then send
    /// [`Ask::Stopped`].
    Stop,
    /// The keeper was asked to reload (`SIGHUP`).
    Reload,
}

impl Tell {
    /// The request was carried out.
    #[must_use]
    pub fn done(seq: u64) -> Self {
        Self::Done { seq, revision: REVISION }
    }
}

/// A child as the keeper's list has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its number.
    pub child: ChildId,
    /// The label it was started with.
    pub label: String,
    /// It has not ended.
    pub runs: bool,
}

/// A child as it is handed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heir {
    /// Its number.
    pub child: ChildId,
    /// The label it was started with.
    pub label: String,
    /// The process's identity.
    pub identity: Identity,
    /// How it ended.
    pub end: Option<End>,
    /// What all its processes carry in their environment.
    pub token: String,
    /// What they are known by.
    pub mark: Option<String>,
    /// The control group that they are in.
    #[serde(default)]
    pub group: Option<PathBuf>,
}

/// What calls of a program are answered by.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Watched {
    /// Sockets that its own `bind()` gets.
    pub intercept: Vec<Catch>,
    /// What it may reach.
    pub fence: Option<Fence>,
    /// Whose own listeners it may reach as well.
    pub root: Root,
}

/// What all processes of a child carry in their environment.
#[must_use]
pub fn token(keeper: i32, child: ChildId) -> String {
    format!("{keeper}-{}", child.0)
}

/// An address that a fence kept a process from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The process.
    pub pid: i32,
    /// Its name.
    pub program: String,
    /// The address, as it is written in a configuration.
    pub to: String,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It returned this exit code.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
    /// It is gone, and how it ended could not be learned.
    Unknown,
}

/// `exit 3`, `killed by SIGKILL`.
impl End {
    /// Whether it ended by itself without an error, or was asked to stop.
    #[must_use]
    pub fn is_clean(self) -> bool {
        let asks = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGPIPE];
        match self {
            Self::Exited(code) => code == 0,
            Self::Killed(signal) => asks.contains(&signal),
            Self::Unknown => false,
        }
    }

    /// The same with what it usually means.
    #[must_use]
    pub fn explained(self) -> String {
        let meaning = match self {
            Self::Exited(126) => "not executable, or not made for this machine",
            Self::Exited(127) => "a command or a library was not found",
            Self::Exited(code @ 129..=159) => {
                return format!(
                    "{self} (a shell's code for: {})",
                    Self::Killed(code - 128).explained()
                );
            }
            Self::Killed(libc::SIGKILL) => "by hand, or because memory ran out",
            Self::Killed(libc::SIGSEGV) => "invalid memory access",
            Self::Killed(libc::SIGBUS) => "a mapped file was cut, or a memory access was invalid",
            Self::Killed(libc::SIGABRT) => "it gave up by itself",
            Self::Killed(libc::SIGILL) => "an instruction that this CPU does not have",
            Self::Killed(libc::SIGFPE) => "an arithmetic error, such as a division by zero",
            Self::Killed(libc::SIGSYS) => "a system call that is not allowed",
            Self::Killed(libc::SIGTERM | libc::SIGINT | libc::SIGHUP | libc::SIGQUIT) => {
                "it was asked to stop by others than Halley"
            }
            Self::Killed(libc::SIGXFSZ) => "a file became larger than it may",
            Self::Killed(libc::SIGXCPU) => "it used more CPU time than it may",
            Self::Exited(_) | Self::Killed(_) | Self::Unknown => return self.to_string(),
        };
        format!("{self} ({meaning})")
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit {code}"),
            Self::Killed(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {number}"),
            },
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn an_end_is_explained_where_it_usually_means_something() {
        for (end, expected) in [
            (End::Exited(3), "exit 3"),
            (End::Exited(127), "exit 127 (a command or a library was not found)"),
            (
                End::Exited(137),
                "exit 137 (a shell's code for: killed by SIGKILL (by hand, or because memory ran out))",
            ),
            (End::Killed(libc::SIGSEGV), "killed by SIGSEGV (invalid memory access)"),
            (End::Killed(libc::SIGUSR1), "killed by SIGUSR1"),
            (End::Unknown, "unknown"),
        ] {
            assert_eq!(end.explained(), expected);
        }
    }

    #[test]
    fn either_side_may_be_the_older_one() {
        let hello: Ask = json::from_slice(r#"{"ask":"hello","version":1}"#.as_bytes()).unwrap();
        assert_eq!(hello, Ask::Hello { version: 1, revision: 0 });
        let done: Tell = json::from_slice(r#"{"tell":"done","seq":3}"#.as_bytes()).unwrap();
        assert_eq!(done, Tell::Done { seq: 3, revision: 0 });
        // As they were before there was a revision.
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(rename = "tag:ask", rename_all = "snake_case")]
        enum Old {
            Hello { version: u16 },
        }
        let hello = json::to_vec(&Ask::Hello { version: 1, revision: REVISION }).unwrap();
        assert_eq!(json::from_slice::<Old>(&hello).unwrap(), Old::Hello { version: 1 });
    }
}
