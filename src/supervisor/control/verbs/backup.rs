//! `backup SERVICE`: a backup without a release, restored to scratch and checked like any other.

use std::rc::Rc;

use crate::api::backup::{Args, BackupEntry};
use crate::api::{Event, PhaseState, Trouble};
use crate::os::clock;
use crate::store::receipt::{self, Receipt};
use crate::supervisor::control::client::Client;
use crate::supervisor::data::backup::Hand;
use crate::supervisor::operation::admission;
use crate::supervisor::service::Service;
use crate::supervisor::service::outcome;
use crate::supervisor::service::refusal;
use crate::supervisor::service::stack::Stack;
use crate::text;

/// A backup, as it is told.
#[must_use]
pub(crate) fn entry(receipt: Receipt) -> BackupEntry {
    let (rehearsed, counts) = match receipt.rehearsed {
        Some(rehearsed) => (Some(rehearsed.at), rehearsed.counts),
        None => (None, crate::supervisor::data::backup::Counts::new()),
    };
    BackupEntry {
        id: receipt.id,
        at: receipt.at,
        driver: receipt.driver,
        bytes: receipt.bytes,
        digest: receipt.digest,
        release: receipt.release,
        op: receipt.op,
        rehearsed,
        counts,
    }
}

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
    let backups = receipt::list(&service.paths).into_iter().map(entry).collect();
    client.tell(&Event::Backups { backups }).await;
}

/// Takes one, and rehearses it.
async fn take(service: &Rc<Service>, client: &mut Client) -> Result<(), Trouble> {
    let hand = hand(service, "backed up")?;
    let _busy = admission::occupy(service, "a backup")?;
    let begun = clock::tick();
    client.tell(&phase("backup", PhaseState::Start, begun, "")).await;
    let failed = |why: &str| refusal::refusal(service, "backed up", why, 15, &["status"]);
    let mut receipt = match crate::supervisor::data::backup::take(&hand, None).await {
        Ok(receipt) => receipt,
        Err(why) => {
            client.tell(&phase("backup", PhaseState::Fail, begun, &why)).await;
            return Err(failed(&why));
        }
    };
    let size = text::size(receipt.bytes);
    client.tell(&phase("backup", PhaseState::Ok, begun, &format!("{} {size}", receipt.id))).await;
    let begun = clock::tick();
    match crate::supervisor::data::backup::copy(&hand, &mut receipt).await {
        Ok(copied) => {
            let said = crate::supervisor::data::backup::summary(&copied.counts);
            crate::supervisor::data::backup::discard(&hand, copied).await;
            client.tell(&phase("restore_rehearsal", PhaseState::Ok, begun, &said)).await;
        }
        Err(why) => {
            client.tell(&phase("restore_rehearsal", PhaseState::Fail, begun, &why)).await;
            let why = format!("backup {} cannot be restored: {why}", receipt.id);
            return Err(failed(&why));
        }
    }
    crate::supervisor::data::backup::prune(&hand).await;
    client.tell(&Event::Backup(Box::new(entry(receipt)))).await;
    client.tell(&Event::Result(Box::new(outcome::outcome(service, "backed_up", 0)))).await;
    Ok(())
}

/// With what data is worked on by hand.
///
/// # Errors
/// When no backup is configured, or there is no data.
pub(crate) fn hand<'a>(service: &'a Rc<Service>, done: &str) -> Result<Hand<'a>, Trouble> {
    if service.config().backup.is_none() {
        let why = format!("[service.{}.backup] is not configured", service.name);
        return Err(refusal::refusal(service, done, &why, 2, &["status"]));
    }
    let none = || refusal::refusal(service, done, "no release has made any data yet", 31, &[]);
    Hand::of(service, service.paths.logs().join("backup.log")).ok_or_else(none)
}

/// A phase of what is done by hand.
#[must_use]
pub(crate) fn phase(
    name: &str,
    state: PhaseState,
    begun: crate::core::time::Tick,
    detail: &str,
) -> Event {
    let ms = clock::tick().since_ms(begun);
    Event::Phase { phase: name.to_owned(), state, ms, detail: detail.to_owned() }
}
