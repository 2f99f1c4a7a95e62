//! A decoder at work: the process that reads an artifact, and our end of its pipe.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::decode::VERB;
use crate::keeper::protocol::{COMMAND, LaunchSpec};
use crate::os::clock;
use crate::supervisor::processes::child_tag::{Label, Purpose};
use crate::supervisor::processes::keeper_child::{KeeperChild, Waited};
use crate::supervisor::processes::keeper_client::{Link, LinkError};

/// From its start to its end, whatever it says meanwhile.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// A decoder at work. Dropped, it is killed.
pub(crate) struct Decoder(KeeperChild);

impl Decoder {
    /// Starts one for an open archive; what it says comes out of the descriptor.
    ///
    /// # Errors
    /// Why it was not started.
    pub(crate) async fn start(
        link: &Rc<Link>,
        service: &str,
        archive: &File,
    ) -> Result<(Self, OwnedFd), LinkError> {
        let (ours, its) = pipe_with(PipeFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let child = link.new_child();
        let kept = |what: &str| format!("{COMMAND}{service}/{}/{what}", child.0);
        let (input, output) = (kept("in"), kept("out"));
        let label = Label::command(service, clock::tick(), Purpose::Passing("decode".to_owned()));
        let spec = LaunchSpec {
            name: Some("halley-sup".to_owned()),
            // The launcher is this same binary, also when it has been replaced on the disk.
            program: "/proc/self/exe".to_owned(),
            args: vec![VERB.to_owned()],
            cwd: "/".to_owned(),
            input: Some(input.clone()),
            output: Some(output.clone()),
            no_new_privs: true,
            ..LaunchSpec::default()
        };
        let started = async {
            link.keep(input.clone(), archive.as_fd()).await?;
            link.keep(output.clone(), its.as_fd()).await?;
            KeeperChild::spawn(link, child, label.print(), spec).await
        };
        let started = started.await;
        for name in [input, output] {
            if let Err(error) = link.forget(name).await {
                tracing::warn!(%error, "closing a decoder's files");
            }
        }
        Ok((Self(started?), ours))
    }

    /// Waits for its end, or the deadline's; says how it ended.
    pub(crate) async fn ended(&mut self) -> String {
        match self.0.wait(DEADLINE).await {
            Waited::Ended(end) => end.to_string(),
            Waited::TooLate => "it took longer than 15 minutes".to_owned(),
        }
    }

    /// Kills it, if it is still there. Returns when it is gone.
    pub(crate) async fn kill(&mut self) {
        self.0.end().await;
    }
}
