//! Order without the standard library's sort, which stands in the binary once for each type, 3.5
//! kilobytes each: for the few items that there are nearly everywhere.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;

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

/// A map of few entries, in the order of their keys: a list. The standard library's map is 5 kilobytes
/// for each pair of types that comes and goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Few<K, V>(Vec<(K, V)>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> Few<K, V> {
    fn place_of<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(other, _)| other.borrow().cmp(key))
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.place_of(key).ok().map(|at| &self.0[at].1)
    }

    /// Whether there is an entry of this key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.place_of(key).is_ok()
    }

    /// Puts in an entry; returns the value that the key had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place_of(&key) {
            Ok(at) => Some(mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// The value of a key, which is made where there is none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let at = self.place_of(&key).unwrap_or_else(|at| {
            self.0.insert(at, (key, make()));
            at
        });
        &mut self.0[at].1
    }

    /// Takes out the entry of a key; returns its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.place_of(key).ok().map(|at| self.0.remove(at).1)
    }

    /// Takes out what is not wanted.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| is_wanted(key, value));
    }

    /// Takes out all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes out all, one by one.
    pub fn drain(&mut self) -> impl Iterator<Item = (K, V)> {
        self.0.drain(..)
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All entries.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + Clone {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// All entries, their values to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// All keys.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.0.iter().map(|(key, _)| key)
    }

    /// All values.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        self.0.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> Extend<(K, V)> for Few<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, pairs: I) {
        for (key, value) in pairs {
            self.insert(key, value);
        }
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Few<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut few = Self::default();
        few.extend(pairs);
        few
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
    fn few_entries_are_as_in_the_map_of_the_standard_library() {
        let (mut few, mut map) = (Few::default(), BTreeMap::new());
        for n in (0..200_u32).map(|n| n * n % 23) {
            let key = n % 11;
            assert_eq!(few.contains_key(&key), map.contains_key(&key));
            if n % 3 == 0 {
                assert_eq!(few.remove(&key), map.remove(&key));
            } else {
                assert_eq!(few.insert(key, n), map.insert(key, n));
            }
            assert_eq!(few.get(&key), map.get(&key));
            assert_eq!(few.get_or_insert_with(key, || n), map.entry(key).or_insert(n));
            assert!(
                few.iter().eq(&map) && few.keys().eq(map.keys()) && few.values().eq(map.values())
            );
            assert_eq!((few.len(), few.is_empty()), (map.len(), map.is_empty()));
            assert_eq!(few, map.iter().rev().map(|(key, n)| (*key, *n)).collect());
        }
        assert!(few.drain().eq(map) && few.is_empty());
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
