//! `backup SERVICE`: a backup without a release, restored to scratch and checked like any other.

use std::rc::Rc;

use crate::api::backup::Args;
use crate::api::{Event, PhaseState, Trouble};
use crate::core::exit::Exit;
use crate::core::operation::outcome::Word;
use crate::os::clock;
use crate::store::receipt::{self, Cause};
use crate::supervisor::control::client::Client;
use crate::supervisor::data::backup;
use crate::supervisor::service::Service;
use crate::supervisor::service::occupied::occupy;
use crate::supervisor::service::outcome;
use crate::supervisor::service::refusal;
use crate::supervisor::service::stack::Stack;
use crate::text;

/// Takes one, or lists them.
///
/// # Errors
/// Why there is none.
pub(crate) async fn perform(stack: &Stack, args: Args, client: &mut Client) -> Result<(), Trouble> {
    let service = stack.find(&args.service)?;
    if args.list {
        list(&service, client).await;
        return Ok(());
    }
    take(&service, client).await
}

async fn list(service: &Rc<Service>, client: &mut Client) {
    let backups = receipt::list(&service.paths).into_iter().map(receipt::entry).collect();
    client.tell(&Event::Backups { backups }).await;
}

/// Takes one, and rehearses it.
async fn take(service: &Rc<Service>, client: &mut Client) -> Result<(), Trouble> {
    let hand = backup::by_hand(service, "backed up")?;
    let _busy = occupy(service, "backed up", "a backup")?;
    let begun = clock::tick();
    client.tell(&outcome::phase_event("backup", PhaseState::Start, begun, "")).await;
    let failed =
        |why: &str| refusal::refusal(service, "backed up", why, Exit::BackupFailed, &["status"]);
    let mut receipt = match backup::take(&hand, None, Cause::Request).await {
        Ok(receipt) => receipt,
        Err(error) => {
            let why = error.to_string();
            client.tell(&outcome::phase_event("backup", PhaseState::Fail, begun, &why)).await;
            return Err(failed(&why));
        }
    };
    let size = text::size(receipt.bytes);
    client
        .tell(&outcome::phase_event(
            "backup",
            PhaseState::Ok,
            begun,
            &format!("{} {size}{}", receipt.id, backup::left_out(&receipt)),
        ))
        .await;
    let begun = clock::tick();
    match backup::copy(&hand, &mut receipt).await {
        Ok(copied) => {
            let lost = copied.lost_text().map(|lost| format!("; {lost}")).unwrap_or_default();
            let said = copied.summary() + &lost;
            let told = hand.kept_from();
            let left = backup::discard(&hand, copied).await;
            let told = told.into_iter().chain(left).map(|line| format!("; {line}"));
            let said = told.fold(said, |said, line| said + &line);
            client
                .tell(&outcome::phase_event("restore_rehearsal", PhaseState::Ok, begun, &said))
                .await;
        }
        Err(error) => {
            let why = error.to_string();
            client
                .tell(&outcome::phase_event("restore_rehearsal", PhaseState::Fail, begun, &why))
                .await;
            let why = format!("backup {} cannot be restored: {why}", receipt.id);
            return Err(failed(&why));
        }
    }
    backup::prune(&hand).await;
    client.tell(&Event::Backup(Box::new(receipt::entry(receipt)))).await;
    client.tell(&Event::Result(Box::new(outcome::outcome(service, Word::BackedUp, 0)))).await;
    Ok(())
}
