//! How new connections are split while an old and a new release are both there.

/// The part of the connections that the new release gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Of all connections, in hundredths of a percent.
    Share(u16),
    /// This many of its instances are in the place of as many old ones.
    Instances(u16),
}

/// The whole, in hundredths of a percent.
const WHOLE: u32 = 10_000;

/// Slots with their weights. Where one side has none, the other gets everything.
#[must_use]
pub fn shares<S: Copy>(old: &[S], new: &[S], part: Part) -> Vec<(S, u32)> {
    let evenly = |slots: &[S]| slots.iter().map(|slot| (*slot, 1)).collect();
    if old.is_empty() || new.is_empty() {
        return evenly(if old.is_empty() { new } else { old });
    }
    match part {
        Part::Share(share) => {
            let count = |slots: &[S]| u32::try_from(slots.len()).unwrap_or(u32::MAX);
            let share = u32::from(share).min(WHOLE);
            // Every slot's weight times the slots of its side is that side's share.
            let (of_old, of_new) = ((WHOLE - share) * count(new), share * count(old));
            let weighted =
                |slots: &[S], weight| slots.iter().map(|slot| (*slot, weight)).collect::<Vec<_>>();
            [weighted(old, of_old), weighted(new, of_new)].concat()
        }
        Part::Instances(n) => {
            let n = usize::from(n);
            let stay = old.get(n..).unwrap_or_default();
            [evenly(new.get(..n).unwrap_or(new)), evenly(stay)].concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(old: &str, new: &str, part: Part, expected: &[(char, u32)]) {
        let (old, new): (Vec<char>, Vec<char>) = (old.chars().collect(), new.chars().collect());
        assert_eq!(shares(&old, &new, part), expected, "{old:?} {new:?} {part:?}");
    }

    #[test]
    fn a_share_is_one_of_all_connections_whatever_the_number_of_instances() {
        check("a", "x", Part::Share(500), &[('a', 9500), ('x', 500)]);
        check("ab", "x", Part::Share(2500), &[('a', 7500), ('b', 7500), ('x', 5000)]);
        check("a", "xy", Part::Share(5000), &[('a', 10_000), ('x', 5000), ('y', 5000)]);
        check("a", "x", Part::Share(10_000), &[('a', 0), ('x', 10_000)]);
    }

    #[test]
    fn instances_take_each_others_places() {
        check("abc", "xyz", Part::Instances(1), &[('x', 1), ('b', 1), ('c', 1)]);
        check("abc", "xyz", Part::Instances(2), &[('x', 1), ('y', 1), ('c', 1)]);
        check("ab", "xyz", Part::Instances(2), &[('x', 1), ('y', 1)]);
        check("abcd", "x", Part::Instances(1), &[('x', 1), ('b', 1), ('c', 1), ('d', 1)]);
    }

    #[test]
    fn who_is_alone_gets_everything() {
        check("", "xy", Part::Share(100), &[('x', 1), ('y', 1)]);
        check("ab", "", Part::Instances(1), &[('a', 1), ('b', 1)]);
    }
}
