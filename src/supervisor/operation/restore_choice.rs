//! Which backup a restore takes when none is named: the newest of the state before the trouble. What
//! a restore has thrown away is never brought back by saying it again.

use std::collections::BTreeSet;

use crate::api::Trouble;
use crate::core::exit::Exit;
use crate::store::receipt::{self, Cause, Receipt};
use crate::supervisor::service::{Service, refusal};
use crate::text;

/// A backup, and why this one.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) receipt: Receipt,
    pub(crate) because: String,
}

/// The backup of this name, or the one to take.
///
/// # Errors
/// When there is none.
pub(crate) fn choose(service: &Service, id: Option<&str>) -> Result<Choice, Trouble> {
    let all = receipt::list(&service.paths);
    let refused =
        |why: &str| refusal::refusal(service, "restored", why, Exit::NoTarget, &["backup --list"]);
    let Some(id) = id else {
        let why = if all.is_empty() {
            "there is no backup"
        } else {
            "every backup holds what a restore has thrown away: name one with --backup"
        };
        return newest(all).ok_or_else(|| refused(why));
    };
    let named = all.into_iter().find(|receipt| receipt.id == id);
    let receipt = named.ok_or_else(|| refused(&format!("there is no backup {id}")))?;
    Ok(Choice { receipt, because: "it was named".to_owned() })
}

fn newest(newest_first: Vec<Receipt>) -> Option<Choice> {
    let thrown_away = thrown_away(&newest_first);
    let mut left = (0..newest_first.len()).filter(|place| !thrown_away.contains(place));
    let first = left.clone().next()?;
    let is_pinned = |place: &usize| newest_first[*place].pinned.is_some();
    let place = left.find(is_pinned).unwrap_or(first);
    let because = match (&newest_first[place].pinned, place) {
        (Some(why), _) => format!("it is of the state before the trouble: {why}"),
        (None, 0) => "it is the newest".to_owned(),
        (None, n) => format!("it is the newest but for {}", passed_over(&newest_first[..n])),
    };
    newest_first.into_iter().nth(place).map(|receipt| Choice { receipt, because })
}

/// Backups that are not taken though they are newer.
fn passed_over(newer: &[Receipt]) -> String {
    let came_to_nothing =
        |receipt: &&Receipt| matches!(receipt.cause, Some(Cause::Restore { undone: true, .. }));
    let n_undone = newer.iter().filter(came_to_nothing).count();
    let backups =
        |n: usize, what: &str| (n > 0).then(|| format!("{} {what}", text::count(n, "backup")));
    let replaced = backups(newer.len() - n_undone, "of what a restore has replaced");
    let undone = backups(n_undone, "that a restore took which came to nothing");
    replaced.into_iter().chain(undone).collect::<Vec<_>>().join(" and ")
}

/// The places of backups that hold what a restore has thrown away: the one that it took, and all back
/// to the one that it restored. What was restored afterwards is wanted again.
fn thrown_away(newest_first: &[Receipt]) -> BTreeSet<usize> {
    let mut away = BTreeSet::new();
    let mut wanted = BTreeSet::new();
    for (place, receipt) in newest_first.iter().enumerate() {
        let Some(Cause::Restore { instead, undone }) = &receipt.cause else { continue };
        if wanted.contains(&receipt.id) {
            continue;
        }
        away.insert(place);
        if *undone {
            continue;
        }
        wanted.insert(instead.clone());
        let restored = newest_first.iter().position(|other| other.id == *instead);
        away.extend(restored.into_iter().flat_map(|restored| place..restored));
    }
    away.retain(|place| !wanted.contains(&newest_first[*place].id));
    away
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Oldest first: a backup's name (`*`: pinned), and what was restored when a restore took it (`!`:
    /// undone).
    #[track_caller]
    fn check(oldest_first: &[(&str, &str)], expected: Option<&str>) {
        let receipt = |(id, instead): &(&str, &str)| Receipt {
            pinned: id.starts_with('*').then(|| "why".to_owned()),
            cause: (!instead.is_empty()).then(|| Cause::Restore {
                instead: instead.trim_end_matches('!').to_owned(),
                undone: instead.ends_with('!'),
            }),
            ..Receipt::example(id.trim_start_matches('*'))
        };
        let chosen = newest(oldest_first.iter().rev().map(receipt).collect());
        assert_eq!(chosen.map(|choice| choice.receipt.id).as_deref(), expected);
    }

    #[test]
    fn what_a_restore_took_that_failed_is_not_said_to_be_replaced() {
        let took = |id: &str, undone: bool| Receipt {
            cause: Some(Cause::Restore { instead: "a".to_owned(), undone }),
            ..Receipt::example(id)
        };
        let because = |all: Vec<Receipt>| newest(all).unwrap().because;
        assert_eq!(
            because(vec![took("c", true), took("b", true), Receipt::example("a")]),
            "it is the newest but for 2 backups that a restore took which came to nothing"
        );
        assert_eq!(
            because(vec![took("c", true), took("b", false), Receipt::example("a")]),
            "it is the newest but for 1 backup of what a restore has replaced and 1 backup that a \
             restore took which came to nothing"
        );
    }

    #[test]
    fn what_a_restore_has_thrown_away_is_not_brought_back() {
        check(&[], None);
        check(&[("a", ""), ("b", "")], Some("b"));
        // Said twice, or three times.
        check(&[("a", ""), ("b", "a")], Some("a"));
        check(&[("a", ""), ("b", "a"), ("c", "a")], Some("a"));
        // A backup of the damage, from before the restore.
        check(&[("a", ""), ("bad", ""), ("b", "a")], Some("a"));
        // What was taken since.
        check(&[("a", ""), ("bad", ""), ("b", "a"), ("c", "")], Some("c"));
        // A restore that was undone has thrown nothing away, but it took the trouble with it.
        check(&[("a", ""), ("c", ""), ("b", "a!")], Some("c"));
        // Somebody has gone back to what a restore had replaced.
        check(&[("a", ""), ("b", "a"), ("c", "b")], Some("b"));
        // Releases that were tried after the data was damaged took backups of the damage.
        check(&[("a", ""), ("*b", ""), ("bad", ""), ("worse", "")], Some("b"));
        check(&[("*b", ""), ("bad", ""), ("c", "b")], Some("b"));
        // What was restored is pruned.
        check(&[("b", "a")], None);
    }
}
