//! Ordered collections, filled entry by entry.
//!
//! `collect()` sorts all entries first, and the standard library's sort stands in the binary once for each
//! type, 3.5 kilobytes each; here there are never many.

use std::collections::{BTreeMap, BTreeSet};

/// What `collect()` is for others.
pub trait Ordered: Iterator + Sized {
    /// A set of the items.
    fn into_set(self) -> BTreeSet<Self::Item>
    where
        Self::Item: Ord,
    {
        let mut set = BTreeSet::new();
        set.extend(self);
        set
    }

    /// A map of the pairs; of equal keys the last one counts.
    fn into_map<K: Ord, V>(self) -> BTreeMap<K, V>
    where
        Self: Iterator<Item = (K, V)>,
    {
        let mut map = BTreeMap::new();
        map.extend(self);
        map
    }
}

impl<I: Iterator> Ordered for I {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_what_collect_makes() {
        let pairs = [(3, 'c'), (1, 'a'), (3, 'd')];
        assert_eq!(pairs.into_iter().into_set(), pairs.into_iter().collect());
        assert_eq!(pairs.into_iter().into_map(), pairs.into_iter().collect());
    }
}
