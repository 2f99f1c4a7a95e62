//! The order of starts and stops: which service waits for which, with all else side by side.

use super::ids::ServiceName;

/// For each service of `order` the places of those it waits for at its start. Only services before
/// it count, so that services never wait in a circle, whatever `after` says.
#[must_use]
pub fn starts(order: &[ServiceName], after: &[Vec<ServiceName>]) -> Vec<Vec<usize>> {
    let place = |name: &ServiceName| order.iter().position(|known| known == name);
    let of = |(own, names): (usize, &Vec<ServiceName>)| {
        names.iter().filter_map(place).filter(|place| *place < own).collect()
    };
    after.iter().enumerate().map(of).collect()
}

/// The same for the stop: each one waits for those that were started after it.
#[must_use]
pub fn stops(starts: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let waits_for = |own: usize| {
        let users = starts.iter().enumerate().filter(|(_, waits)| waits.contains(&own));
        users.map(|(user, _)| user).collect()
    };
    (0..starts.len()).map(waits_for).collect()
}

/// How long all of them take when each waits for those of `waits` and then takes its own time.
#[must_use]
pub fn longest_ms(waits: &[Vec<usize>], own_ms: &[u64]) -> u64 {
    // Who waits for whom has no circles: as many rounds as there are places reach the end.
    let mut ends_ms = own_ms.to_vec();
    for _ in waits {
        let before = ends_ms.clone();
        for (place, waits) in waits.iter().enumerate() {
            let begins = waits.iter().filter_map(|other| before.get(*other)).max();
            let own = own_ms.get(place).copied().unwrap_or_default();
            ends_ms[place] = begins.copied().unwrap_or_default().saturating_add(own);
        }
        if ends_ms == before {
            break;
        }
    }
    ends_ms.into_iter().max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<ServiceName> {
        text.split_ascii_whitespace().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn each_waits_for_its_own_and_stops_before_them() {
        let after = ["", "", "db", "api cache"].map(names);
        let waits = starts(&names("db cache api web"), &after);
        assert_eq!(waits, [vec![], vec![], vec![0], vec![2, 1]]);
        assert_eq!(stops(&waits), [vec![2], vec![3], vec![3], vec![]]);
    }

    #[test]
    fn a_chain_takes_the_sum_and_what_is_side_by_side_the_longest() {
        let check = |waits: &[Vec<usize>], own_ms: &[u64], expected| {
            assert_eq!(longest_ms(waits, own_ms), expected, "{waits:?} {own_ms:?}");
        };
        check(&[], &[], 0);
        check(&[vec![], vec![], vec![]], &[3, 30, 5], 30);
        check(&[vec![], vec![0], vec![1]], &[3, 30, 5], 38);
        check(&[vec![2], vec![2], vec![3], vec![]], &[1, 10, 100, 1000], 1110);
        check(&[vec![], vec![0]], &[u64::MAX, 5], u64::MAX);
    }

    #[test]
    fn nobody_waits_in_a_circle_nor_for_who_is_not_there() {
        let after = ["b", "a gone"].map(names);
        let waits = starts(&names("a b"), &after);
        assert_eq!(waits, [vec![], vec![0]]);
        assert_eq!(stops(&waits), [vec![1], vec![]]);
    }
}
