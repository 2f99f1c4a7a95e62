//! All processes of one command, however far they ran: found by a mark that holds over the death of
//! the keeper, which root's cannot shed and which is in their environment too, and by the session that
//! the command began.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::os::proc::{self, Identity};
use crate::os::{mark, ready, stranger};

/// The environment name of the mark.
pub(crate) const MARK: &str = "HALLEY_TASK";
/// Before processes are looked for again when one of them cannot be watched.
const PAUSE: Duration = Duration::from_millis(20);
/// Processes that an error names.
const N_NAMED: usize = 3;

/// All processes of one command.
#[derive(Debug, Clone)]
pub(crate) struct WholeTree {
    /// The value of the mark; another one for each command there ever is.
    pub mark: String,
    /// The command's own process, where it is known.
    pub leader: Option<Identity>,
}

impl WholeTree {
    /// Those that have not ended.
    pub(crate) fn left(&self) -> BTreeSet<i32> {
        let mut left = mark::carriers(&self.mark);
        left.extend(stranger::with_variable(MARK, &self.mark));
        if let Some(leader) = &self.leader {
            left.extend(proc::session(leader));
        }
        let parents = proc::parents();
        let below: Vec<_> = left.iter().map(|pid| proc::tree_in(&parents, *pid)).collect();
        left.extend(below.into_iter().flatten());
        left.retain(|pid| !proc::is_zombie(*pid));
        left
    }

    /// Waits until all have ended, so long.
    ///
    /// # Errors
    /// Those that have not.
    pub(crate) async fn over(&self, limit: Duration) -> Result<(), BTreeSet<i32>> {
        let deadline = Instant::now() + limit;
        let mut n_empty = 0;
        loop {
            let left = self.left();
            match left.first() {
                // One may have been started while they were looked for.
                None if n_empty == 1 => return Ok(()),
                None => n_empty += 1,
                Some(pid) => {
                    n_empty = 0;
                    if tokio::time::timeout_at(deadline, ended(*pid)).await.is_err() {
                        return Err(left);
                    }
                }
            }
        }
    }

    /// Kills all of them. Returns when they are gone, or when they hang in the kernel for so long.
    pub(crate) async fn kill(&self, limit: Duration) {
        kill(|| self.left(), limit).await;
    }
}

/// Kills what is still tried out on the copy in this directory.
pub(crate) async fn kill_on_copy(dir: &Path, limit: Duration) {
    let left = || {
        let mut left = mark::on_copy(dir);
        left.retain(|pid| !proc::is_zombie(*pid));
        left
    };
    kill(left, limit).await;
}

async fn kill(find: impl Fn() -> BTreeSet<i32>, limit: Duration) {
    let deadline = Instant::now() + limit;
    loop {
        let left = find();
        for pid in &left {
            let killed =
                proc::start_ticks(*pid).and_then(|start| proc::signal(*pid, start, libc::SIGKILL));
            if let Err(error) = killed {
                tracing::warn!(pid, %error, "ending a process");
            }
        }
        if left.is_empty() || Instant::now() >= deadline {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for the end of a process.
async fn ended(pid: i32) {
    match proc::pidfd(pid).and_then(ready::readable) {
        Ok(process) => {
            if process.readable().await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Err(_) => tokio::time::sleep(PAUSE).await,
    }
}

/// Processes, for people.
pub(crate) fn named(pids: &BTreeSet<i32>) -> String {
    let name = |pid: &i32| format!("{} (pid {pid})", proc::name(*pid).unwrap_or_default());
    let mut names: Vec<String> = pids.iter().take(N_NAMED).map(name).collect();
    if pids.len() > N_NAMED {
        names.push("…".to_owned());
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_left_its_parents_is_waited_for_and_ended() {
        let tree = WholeTree { mark: format!("test-{}", std::process::id()), leader: None };
        assert_eq!(tree.over(Duration::ZERO).await, Ok(()));
        let script = "(setsid sleep 60 </dev/null >/dev/null 2>&1 &)";
        let mut sh = std::process::Command::new("sh");
        sh.args(["-c", script]).env(MARK, &tree.mark).status().unwrap();
        let left = tree.over(Duration::from_millis(50)).await.unwrap_err();
        assert!(named(&left).contains("(pid "), "{left:?}");
        tree.kill(Duration::from_secs(10)).await;
        assert_eq!(tree.over(Duration::from_secs(10)).await, Ok(()));
    }

    #[tokio::test]
    async fn a_process_without_the_mark_is_known_by_its_session() {
        let mut command = std::process::Command::new("setsid");
        command.args(["sh", "-c", "env -i sleep 60 & wait"]);
        let mut child = command.spawn().unwrap();
        let leader = proc::identity(i32::try_from(child.id()).unwrap()).unwrap();
        let tree = WholeTree { mark: "none".to_owned(), leader: Some(leader) };
        while tree.left().len() < 2 {
            tokio::time::sleep(PAUSE).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(tree.over(Duration::from_millis(50)).await.is_err());
        tree.kill(Duration::from_secs(10)).await;
        assert_eq!(tree.left(), BTreeSet::new());
    }
}
