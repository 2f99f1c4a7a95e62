//! A command of the administrator's: it tests, reloads or flips a proxy, or sends a notification.
//!
//! It is a child of the supervisor, not of the keeper: it ends with the call, and a repeated call
//! runs it again. Its end is seen by a pidfd (Linux 5.3), so that nothing here handles `SIGCHLD`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::config::duration;
use crate::os::{proc, ready};
use crate::text;

/// Lines of a command's output that an error holds.
const N_LINES: usize = 8;
/// Bytes of it that are kept at all.
const SAID_BYTES_MAX: usize = 8 * 1024;

/// A command that did not end successfully.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{command}: {why}{}{said}", if said.is_empty() { "" } else { "\n" })]
pub(crate) struct ProgramError {
    /// The command.
    pub command: String,
    /// How it ended, or why it was not begun.
    pub why: String,
    /// The last lines of its output.
    pub said: String,
}

/// Runs a program without a shell; exit 0 is good. It reads `input`. When the limit is over, or the
/// wait for it is cancelled, it is killed with its process group.
///
/// # Errors
/// [`ProgramError`] with the last lines of its output.
pub(crate) async fn run(
    words: &[String],
    env: &[(&str, String)],
    input: &[u8],
    limit: Duration,
) -> Result<(), ProgramError> {
    let mut said = Said::default();
    let why = match begin(words, env, input) {
        Err(error) => format!("{}; is it installed?", text::system_error(&error)),
        Ok((running, output)) => {
            match tokio::time::timeout(limit, finish(running, output, &mut said)).await {
                Ok(Ok(status)) if status.success() => return Ok(()),
                Ok(Ok(status)) => end_text(status),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("killed: it ran longer than {}", duration::print(limit)),
            }
        }
    };
    Err(ProgramError { command: words.join(" "), why, said: said.last_lines() })
}

fn begin(
    words: &[String],
    env: &[(&str, String)],
    input: &[u8],
) -> io::Result<(Running, Receiver)> {
    let (program, args) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command.args(args).envs(env.iter().map(|(name, value)| (name, value)));
    // Its messages to the service manager are not about the supervisor.
    command.env_remove("NOTIFY_SOCKET").process_group(0);
    command.stdin(stdin(input)?).stdout(writer.try_clone()?).stderr(writer);
    // A repeated call runs the command again, and two must not run at a time.
    proc::die_with_parent(&mut command);
    let child = command.spawn()?;
    let running = Running(Some(child));
    Ok((running, Receiver::from_owned_fd(OwnedFd::from(reader))?))
}

/// Its input lies in memory: no process waits for another, and it is on no disk.
fn stdin(input: &[u8]) -> io::Result<Stdio> {
    if input.is_empty() {
        return Ok(Stdio::null());
    }
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("halley-input", flags)?);
    file.write_all(input)?;
    file.rewind()?;
    Ok(file.into())
}

/// Waits for the end, and reads meanwhile: a program that fills its pipe would wait for us. What
/// it leaves in the background may hold the pipe open, so the end of the output is not waited for.
async fn finish(
    mut running: Running,
    mut output: Receiver,
    said: &mut Said,
) -> io::Result<ExitStatus> {
    let ended = ready::readable(proc::pidfd(running.pid()?.as_raw_nonzero().get())?)?;
    let mut bytes = [0; 4096];
    let mut is_open = true;
    loop {
        tokio::select! {
            read = output.read(&mut bytes), if is_open => match read {
                Ok(n) if n > 0 => said.push(&bytes[..n]),
                _ => is_open = false,
            },
            ended = ended.readable() => {
                ended?.retain_ready();
                break;
            }
        }
    }
    while let Ok(n) = output.try_read(&mut bytes)
        && n > 0
    {
        said.push(&bytes[..n]);
    }
    running.reap()
}

/// A child that does not outlive its guard.
struct Running(Option<Child>);

impl Running {
    fn pid(&self) -> io::Result<Pid> {
        let id = self.0.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        id.and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound.into())
    }

    /// Takes the status of a child that has ended.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        let mut child = self.0.take().ok_or(io::ErrorKind::NotFound)?;
        child.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The child has not been waited for yet, so the number is still its own.
        if let Ok(pid) = self.pid() {
            kill_process_group(pid, Signal::KILL).ok();
        }
        if let Some(mut child) = self.0.take() {
            drop(tokio::task::spawn_blocking(move || child.wait()));
        }
    }
}

/// The end of a command's output.
#[derive(Default)]
struct Said(VecDeque<u8>);

impl Said {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let n_over = self.0.len().saturating_sub(SAID_BYTES_MAX);
        self.0.drain(..n_over);
    }

    fn last_lines(mut self) -> String {
        let text = String::from_utf8_lossy(self.0.make_contiguous()).into_owned();
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(N_LINES)..].join("\n")
    }
}

fn end_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, signal) => format!("ended by signal {}", signal.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    async fn sh(script: &str, limit: Duration) -> Result<(), String> {
        let words = ["sh", "-c", script].map(str::to_owned);
        let env = [("A", "one".to_owned())];
        let ended = run(&words, &env, b"in", limit).await.map_err(|error| error.to_string());
        ended.map_err(|text| text.replace(&format!("sh -c {script}"), "sh"))
    }

    #[tokio::test]
    async fn an_end_other_than_exit_0_is_told_with_the_last_lines() {
        let long = Duration::from_secs(10);
        for (script, expected) in [
            ("exit 0", Ok(())),
            ("test $A = one", Ok(())),
            ("test \"$(cat)\" = in", Ok(())),
            ("exit 3", Err("sh: exit 3")),
            ("kill -9 $$", Err("sh: ended by signal 9")),
            ("echo out; echo err >&2; exit 1", Err("sh: exit 1\nout\nerr")),
            ("seq 1 99999; exit 1", Err("sh: exit 1\n99992\n99993")),
        ] {
            let ended = sh(script, long).await;
            match (&ended, expected) {
                (Ok(()), Ok(())) => {}
                (Err(text), Err(start)) if text.starts_with(start) => {}
                _ => panic!("{script}: {ended:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error =
            run(&["/no/such".to_owned()], &[], &[], Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "/no/such: no such file or directory; is it installed?");
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_killed_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 77 & echo $! > {}; wait", file.display());
        let ended = sh(&script, Duration::from_millis(300)).await;
        assert_eq!(ended, Err("sh: killed: it ran longer than 300ms".to_owned()));
        let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        let begun = Instant::now();
        while proc::start_ticks(pid).is_ok() && !proc::is_zombie(pid) {
            assert!(begun.elapsed() < Duration::from_secs(10), "{pid} lives");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn what_it_leaves_in_the_background_is_not_waited_for() {
        let begun = Instant::now();
        sh("sleep 20 & exit 0", Duration::from_secs(10)).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
