//! How much more something holds than it did when it had warmed up, and whether that is too much.

/// A bound on what a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bound {
    /// Never more than this.
    AtMost(u64),
    /// So much more than at first.
    More(u64),
    /// So many percent more than at first.
    MorePercent(u32),
}

impl Bound {
    /// The greatest value that is not over it.
    #[must_use]
    pub fn limit(self, base: u64) -> u64 {
        match self {
            Self::AtMost(limit) => limit,
            Self::More(more) => base.saturating_add(more),
            Self::MorePercent(percent) => {
                let more = u128::from(base) * u128::from(percent) / 100;
                base.saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
            }
        }
    }
}

/// What is over a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Over {
    /// The bound.
    pub bound: Bound,
    /// What it was at first.
    pub base: u64,
    /// What it is.
    pub value: u64,
}

/// One process's growth against its bounds; the first value is what later ones are held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    bounds: Vec<Bound>,
    base: Option<u64>,
}

impl Growth {
    /// Growth that begins with the next value.
    #[must_use]
    pub fn new(bounds: Vec<Bound>) -> Self {
        Self { bounds, base: None }
    }

    /// Takes a value in, and returns which bound it is over.
    pub fn observe(&mut self, value: u64) -> Option<Over> {
        let base = *self.base.get_or_insert(value);
        let over = self.bounds.iter().find(|bound| value > bound.limit(base));
        over.map(|bound| Over { bound: *bound, base, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bound: Bound, values: &[u64], expected: &[bool]) {
        let mut growth = Growth::new(vec![bound]);
        let over: Vec<_> = values.iter().map(|value| growth.observe(*value).is_some()).collect();
        assert_eq!(over, expected, "{bound:?} {values:?}");
    }

    #[test]
    fn it_is_held_against_the_first_value() {
        check(Bound::More(10), &[100, 110, 111, 105, 90], &[false, false, true, false, false]);
        check(Bound::MorePercent(50), &[100, 150, 151], &[false, false, true]);
        check(Bound::AtMost(100), &[101, 100], &[true, false]);
        check(Bound::More(0), &[5, 5, 6], &[false, false, true]);
    }

    #[test]
    fn great_numbers_do_not_overflow() {
        check(Bound::MorePercent(u32::MAX), &[u64::MAX, u64::MAX], &[false, false]);
        check(Bound::More(u64::MAX), &[1, u64::MAX], &[false, false]);
    }
}
