//! Order without the standard library's sort, which stands in the binary once for each type, 3.5
//! kilobytes each: for the few items that there are nearly everywhere.

use std::collections::{BTreeMap, BTreeSet};

/// What `collect()` is for others, which sorts all entries first.
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

/// Sorts a short list; what is equal stays in its order. Its time grows with the square of the length.
pub fn sort<T>(items: &mut [T], is_before: impl Fn(&T, &T) -> bool) {
    for n_sorted in 1..items.len() {
        let mut at = n_sorted;
        while at > 0 && is_before(&items[at], &items[at - 1]) {
            items.swap(at, at - 1);
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_what_collect_makes() {
        let pairs = [(3, 'c'), (1, 'a'), (3, 'd')];
        assert_eq!(pairs.into_iter().into_set(), pairs.into_iter().collect());
        assert_eq!(pairs.into_iter().into_map(), pairs.into_iter().collect());
    }

    #[test]
    fn a_short_list_is_sorted_as_by_the_standard_library() {
        let numbers = (0..64_u32).map(|n| n * n % 23);
        for length in 0..64 {
            let mut items: Vec<_> = numbers.clone().take(length).zip(0..).collect();
            let mut expected = items.clone();
            sort(&mut items, |a, b| a.0 < b.0);
            expected.sort_by_key(|item| item.0);
            assert_eq!(items, expected);
        }
    }
}
