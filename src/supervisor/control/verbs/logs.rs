//! The verb `logs`: the lines that a service's processes wrote.

use crate::api::logs::Args;
use crate::api::{Event, Trouble};
use crate::core::exit::Exit;
use crate::core::ids::ReleaseId;
use crate::core::operation::outcome::Word;
use crate::supervisor::control::client::Client;
use crate::supervisor::processes::log_files::{Follow, tail};
use crate::supervisor::service::outcome::outcome;
use crate::supervisor::service::refusal;
use crate::supervisor::service::stack::Stack;

/// Sends the last lines, and with `follow` each new line until the client is gone.
///
/// # Errors
/// When that release has no log.
pub(crate) async fn perform(stack: &Stack, args: Args, client: &mut Client) -> Result<(), Trouble> {
    let service = &stack.find(&args.service)?;
    let release = args.release.map(ReleaseId).or(service.serving()).or(service.durable.last_good());
    let path = release.map(|release| (release, service.logs.path(release)));
    let Some((release, path)) = path.filter(|(_, path)| path.is_file()) else {
        let what = format!("{}: no log can be shown", service.name);
        let why = "there is no log of that release";
        let next = &["releases"];
        return Err(Trouble { what, ..refusal::refusal(service, "", why, Exit::Usage, next) });
    };
    let writer = service.logs.open_writer(release);
    let grew = writer.as_ref().map(|writer| writer.borrow().watch());
    let mut more = Follow::from_end(&path);
    for line in tail(&path, args.tail) {
        if !client.tell(&Event::Log { release: release.0, line }).await {
            return Ok(());
        }
    }
    drop(writer);
    let mut grew = grew.filter(|_| args.follow);
    while let Some(grew) = &mut grew {
        tokio::select! {
            changed = grew.changed() => if changed.is_err() { break },
            () = client.gone() => return Ok(()),
        }
        let mut lines = more.next_lines();
        while !lines.is_empty() {
            for line in lines {
                if !client.tell(&Event::Log { release: release.0, line }).await {
                    return Ok(());
                }
            }
            lines = more.next_lines();
        }
    }
    client.tell(&Event::Result(Box::new(outcome(service, Word::Read, 0)))).await;
    Ok(())
}
