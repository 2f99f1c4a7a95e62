//! What is left when keeper and supervisor were killed: processes that still run, and what they have
//! of the descriptors that were kept.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::core::ordered::{Few, Ordered as _};
use crate::keeper::estate::record::Known;
use crate::keeper::estate::{Estate, Filter, State, stored_name};
use crate::keeper::setup::Setup;
use crate::os::notify;
use crate::os::recover::{self, FileId};

/// The keeper that goes on with what is left, if anything is. `stored` was kept elsewhere, by name.
#[must_use]
pub fn found(
    record: &Path,
    setup: &Setup,
    held: &mut Vec<OwnedFd>,
    stored: Vec<(String, OwnedFd)>,
) -> Option<Estate> {
    let known = Known::read(record);
    let mut stored: Few<String, OwnedFd> = stored.into_iter().collect();
    let Some(known) = known else {
        stored.keys().for_each(|name| notify::unstore(name));
        return None;
    };
    let filters = filters(&known, &mut stored);
    stored.retain(|name, _| {
        let is_known = known.kept.contains_key(name);
        if !is_known {
            notify::unstore(name);
        }
        is_known
    });
    let mut kept = stored;
    let mut wanted: Few<FileId, String> = Few::default();
    for (name, id) in known.kept.iter().filter(|(name, _)| !kept.contains_key(*name)) {
        wanted.insert(*id, name.clone());
    }
    let ids: BTreeSet<FileId> = wanted.keys().copied().into_set();
    for heir in known.heirs.values() {
        for (id, fd) in recover::descriptors(heir.identity.pid, &ids) {
            if let Some(name) = wanted.remove(&id) {
                kept.insert(name, fd);
            }
        }
    }
    let unborn: Vec<String> = known.unborn.values().cloned().collect();
    let children: Vec<_> = known.heirs.values().cloned().collect();
    if children.is_empty() && kept.is_empty() && unborn.is_empty() {
        return None;
    }
    let (n_children, n_kept) = (children.len(), kept.len());
    tracing::warn!(n_children, n_kept, "taking over what a killed keeper has left");
    Some(Estate {
        setup: setup.clone(),
        held: std::mem::take(held),
        kept: kept.drain().collect(),
        children,
        filters,
        state: State { unborn, ..State::default() },
        trial: None,
    })
}

/// Filters that were stored. Without one, calls that are to be answered fail (`ENOSYS`).
fn filters(known: &Known, stored: &mut Few<String, OwnedFd>) -> Vec<Filter> {
    let mut found = Vec::new();
    for (&child, watched) in known.watched.iter() {
        match (stored.remove(&stored_name(child)), known.heirs.get(&child)) {
            (Some(fd), _) => found.push(Filter { child, fd, watched: watched.clone() }),
            (None, Some(heir)) => {
                let pid = heir.identity.pid;
                tracing::warn!(pid, "its filter is lost: its bind() fails until it is restarted");
            }
            (None, None) => {}
        }
    }
    found
}
