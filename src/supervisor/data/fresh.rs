//! A backup that is there already and fresh enough (`backup.max_age`): a release uses it instead of
//! taking one.

use std::rc::Rc;
use std::time::Duration;

use crate::core::freshness::{self, Facts, Moment, Present};
use crate::core::ids::ReleaseId;
use crate::os::{clock, fs};
use crate::store::receipt::{self, Receipt};
use crate::store::state::StateError;
use crate::supervisor::data::backup::Hand;
use crate::supervisor::data::driver::Driver;
use crate::supervisor::service::Service;
use crate::text;

/// A backup that stands for one that would be taken now.
pub(crate) struct Fresh {
    pub(crate) receipt: Receipt,
    age: Duration,
}

impl Fresh {
    /// For people, after its name.
    pub(crate) fn text(&self) -> String {
        format!("taken {}, within backup.max_age: no new one", text::ago(self.age))
    }

    /// What a migration means for data that is no part of it.
    pub(crate) fn warning(&self) -> String {
        format!(
            "the backup before this migration was taken {}: should it be restored, what was written \
             since is lost",
            text::ago(self.age)
        )
    }
}

/// The newest backup that a release may use, if the configuration allows one at all.
pub(crate) fn of(hand: &Hand<'_>) -> Option<Fresh> {
    let max_age = hand.max_age()?;
    let service = hand.context.service;
    let state = service.durable.state();
    let source = hand.source();
    let present = Present {
        replaced_after: state.replaced_after,
        schema: state.schema.as_deref(),
        source: &source,
    };
    let now =
        Moment { wall_s: clock::now_unix_s(), tick: clock::tick(), boot: &service.shared.boot_id };
    receipt::list(&service.paths).into_iter().find_map(|receipt| {
        let age = freshness::age(moment(&receipt)?, now);
        let facts = Facts {
            seq: receipt.seq,
            schema: receipt.schema.as_deref(),
            source: receipt.source.as_deref(),
            is_rehearsed: receipt.rehearsed.is_some(),
        };
        let is_fit = freshness::may_be_used(facts, present, age, max_age);
        is_fit.then(|| age.map(|age| Fresh { receipt, age }))?
    })
}

/// The same for a plan.
pub(crate) fn foreseen(service: &Rc<Service>, candidate: ReleaseId) -> Option<Fresh> {
    of(&Hand::bringing(service, candidate, service.paths.logs().join("backup.log"))?)
}

/// Why there is no room for a backup and a copy of it.
#[must_use]
pub(crate) fn no_room(service: &Rc<Service>, candidate: ReleaseId) -> Option<String> {
    let backup = service.config().backup.clone()?;
    let last = receipt::list(&service.paths).first().map_or(0, |receipt| receipt.bytes);
    let now = backup.driver.live_bytes(&service.paths.shared());
    let bytes = now.unwrap_or(0).max(last);
    let free = fs::free(service.paths.dir()).ok()?.bytes;
    let n_copies = if foreseen(service, candidate).is_some() { 1 } else { 2 };
    let needed = bytes.saturating_mul(n_copies);
    (free < needed).then(|| {
        let (needed, free) = (text::size(needed), text::size(free));
        format!("a backup and a copy of it need {needed}, the disk has {free} left")
    })
}

/// No backup of before stands for the data any more: a migration or a restore is about to replace it.
///
/// # Errors
/// When that cannot be written down.
pub(crate) fn outdate(service: &Service) -> Result<(), StateError> {
    let newest = receipt::next_seq(&service.paths).saturating_sub(1);
    service.durable.save(|state| state.replaced_after = newest)
}

fn moment(receipt: &Receipt) -> Option<Moment<'_>> {
    let taken = receipt.taken.as_ref()?;
    let wall_s = clock::unix_s(&receipt.at)?;
    Some(Moment { wall_s, tick: taken.tick(), boot: &taken.boot_id })
}

impl Hand<'_> {
    /// What a backup is taken of, and by what, as one word that reveals nothing.
    pub(super) fn source(&self) -> String {
        let mut parts = vec![self.driver_name().to_owned()];
        parts.extend(self.driver().source(&self.context));
        receipt::fingerprint(&parts)
    }
}
