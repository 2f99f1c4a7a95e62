//! What was counted in live data before a migration, and after one that failed: a schema that is
//! unchanged says nothing of the rows.

use std::collections::BTreeSet;

use crate::core::ordered::Ordered as _;
use crate::store::migration::Migration;
use crate::supervisor::data::backup::{Counts, Hand, Site};

/// What the counts say of data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Census {
    /// They are as before.
    Same,
    /// They are not, in these places.
    Differs(Vec<String>),
    /// They could not be taken, for this reason.
    Unknown(String),
    /// There was nothing to count, or no backup is configured.
    Absent,
}

impl Census {
    /// For people, after a text on the schema.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Same => {
                ", and the counts of the data are (changed values are not seen)".to_owned()
            }
            Self::Differs(places) => format!("; the data is not: {}", places.join("; ")),
            Self::Unknown(why) => format!("; whether the data is, is unknown: {why}"),
            Self::Absent => "; the data was not counted".to_owned(),
        }
    }

    /// What is gone, or may be, for people.
    pub(super) fn losses(&self) -> String {
        match self {
            Self::Differs(places) => {
                let is_lost =
                    |place: &&String| place.contains(" fewer (") || place.contains(": gone (");
                places.iter().filter(is_lost).cloned().collect::<Vec<_>>().join("; ")
            }
            Self::Unknown(why) => format!("what is gone is unknown: {why}"),
            Self::Same | Self::Absent => String::new(),
        }
    }

    /// Whether data may have been changed that nobody meant to change.
    pub(super) fn is_alarming(&self) -> bool {
        matches!(self, Self::Differs(_) | Self::Unknown(_))
    }
}

/// Counts again what was counted before a migration.
pub(crate) async fn compare(hand: Option<&Hand<'_>>, begun: &Migration) -> Census {
    let (Some(hand), true) = (hand, begun.backup.is_some()) else { return Census::Absent };
    let Some(before) = &begun.counts else {
        return Census::Unknown("it could not be counted before the migration".to_owned());
    };
    match hand.inspect(&Site::Live).await {
        Ok(after) => {
            let places = differences(before, &after);
            if places.is_empty() { Census::Same } else { Census::Differs(places) }
        }
        Err(why) => Census::Unknown(why.to_string()),
    }
}

/// Where two counts differ.
pub(crate) fn differences(before: &Counts, after: &Counts) -> Vec<String> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).into_set();
    let told = |name: &String| match (before.get(name), after.get(name)) {
        (Some(before), Some(after)) if after < before => {
            Some(format!("{name}: {} fewer ({before} before, {after} now)", before - after))
        }
        (Some(before), Some(after)) if after > before => {
            Some(format!("{name}: {} more ({before} before, {after} now)", after - before))
        }
        (Some(before), None) => Some(format!("{name}: gone ({before} before)")),
        (None, Some(after)) => Some(format!("{name}: new ({after} now)")),
        _ => None,
    };
    names.into_iter().filter_map(told).collect()
}

/// Of these differences, those in which something is gone.
pub(crate) fn losses(before: &Counts, after: &Counts) -> Vec<String> {
    let is_lost = |name: &str| {
        let had = before.get(name);
        had.is_some_and(|had| after.get(name).is_none_or(|has| has < had))
    };
    let name = |place: &String| place.split(": ").next().unwrap_or_default().to_owned();
    differences(before, after).into_iter().filter(|place| is_lost(&name(place))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_that_differs_is_told() {
        let counts = |pairs: &[(&str, u64)]| -> Counts {
            pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
        };
        let before = counts(&[("a", 5), ("b", 2), ("c", 7), ("d", 1)]);
        let after = counts(&[("a", 3), ("b", 4), ("d", 1), ("e", 0)]);
        assert_eq!(
            differences(&before, &after),
            [
                "a: 2 fewer (5 before, 3 now)",
                "b: 2 more (2 before, 4 now)",
                "c: gone (7 before)",
                "e: new (0 now)"
            ]
        );
        assert_eq!(losses(&before, &after).len(), 2);
        assert_eq!(differences(&before, &before), [""; 0]);
    }
}
