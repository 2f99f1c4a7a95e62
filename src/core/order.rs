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
    fn nobody_waits_in_a_circle_nor_for_who_is_not_there() {
        let after = ["b", "a gone"].map(names);
        let waits = starts(&names("a b"), &after);
        assert_eq!(waits, [vec![], vec![0]]);
        assert_eq!(stops(&waits), [vec![1], vec![]]);
    }
}
