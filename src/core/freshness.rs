//! Whether a backup that is there already may stand for one that would be taken now.
//!
//! The clock of people may be put back or forward at any time, so it alone makes no backup young: the
//! age is the greater one of two clocks, and when the two contradict each other there is none.

use std::time::Duration;

use super::time::Tick;

/// A moment, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment<'a> {
    /// Seconds of the clock of people, since 1970.
    pub wall_s: i64,
    /// The clock of a boot.
    pub tick: Tick,
    /// The boot.
    pub boot: &'a str,
}

/// How long ago something was, at least; nothing when that cannot be told.
#[must_use]
pub fn age(then: Moment<'_>, now: Moment<'_>) -> Option<Duration> {
    let by_wall = Duration::from_secs(u64::try_from(now.wall_s.checked_sub(then.wall_s)?).ok()?);
    if then.boot == now.boot {
        let ms = now.tick.0.checked_sub(then.tick.0)?;
        return Some(by_wall.max(Duration::from_millis(ms)));
    }
    // It was before this boot.
    let uptime = Duration::from_millis(now.tick.0);
    (by_wall >= uptime).then_some(by_wall)
}

/// What decides about a backup, beside its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Its place in the order of all.
    pub seq: u64,
    /// The version of the schema it has, where it is known.
    pub schema: Option<&'a str>,
    /// What it was taken of, and by what.
    pub source: Option<&'a str>,
    /// It was restored to scratch, and checked.
    pub is_rehearsed: bool,
}

/// What the data is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present<'a> {
    /// A migration or a restore came after all backups up to this one.
    pub replaced_after: u64,
    /// The version of its schema, where it is known.
    pub schema: Option<&'a str>,
    /// What a backup would be taken of, and by what.
    pub source: &'a str,
}

/// Whether a backup of this age may be used where this age is allowed.
#[must_use]
pub fn may_be_used(
    backup: Facts<'_>,
    present: Present<'_>,
    age: Option<Duration>,
    max_age: Duration,
) -> bool {
    backup.is_rehearsed
        && backup.seq > present.replaced_after
        && backup.schema == present.schema
        && backup.source == Some(present.source)
        && age.is_some_and(|age| age <= max_age)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_S: i64 = 3_600;

    fn moment(wall_s: i64, boot: &str, uptime_s: u64) -> Moment<'_> {
        Moment { wall_s, tick: Tick(uptime_s * 1000), boot }
    }

    fn check(then: Moment<'_>, now: Moment<'_>, expected: Option<u64>) {
        assert_eq!(age(then, now), expected.map(Duration::from_secs), "{then:?} {now:?}");
    }

    #[test]
    fn no_clock_alone_makes_a_backup_young() {
        let then = moment(100 * HOUR_S, "a", 50);
        check(then, moment(100 * HOUR_S + 60, "a", 110), Some(60));
        // The clock was put back, by less and by more than what has passed; and forward.
        check(then, moment(100 * HOUR_S + 60, "a", 7_250), Some(7_200));
        check(then, moment(90 * HOUR_S, "a", 7_250), None);
        check(then, moment(200 * HOUR_S, "a", 110), Some(100 * 3_600));
        // After a reboot.
        check(then, moment(101 * HOUR_S, "b", 600), Some(3_600));
        check(then, moment(99 * HOUR_S, "b", 600), None);
        // It would have been taken in this boot.
        check(then, moment(100 * HOUR_S + 60, "b", 600), None);
        check(then, moment(100 * HOUR_S + 60, "a", 10), None);
        check(moment(i64::MIN, "a", 1), moment(i64::MAX, "a", 1), None);
    }

    #[test]
    fn only_a_backup_of_the_present_data_is_used() {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3_600));
        let present = Present { replaced_after: 4, schema: Some("7"), source: "app.db" };
        let good = Facts { seq: 5, schema: Some("7"), source: Some("app.db"), is_rehearsed: true };
        assert!(may_be_used(good, present, Some(minute), hour));
        assert!(may_be_used(good, present, Some(hour), hour));
        for (age, allowed) in [(Some(hour), minute), (None, hour)] {
            assert!(!may_be_used(good, present, age, allowed));
        }
        for bad in [
            Facts { seq: 4, ..good },
            Facts { schema: Some("8"), ..good },
            Facts { schema: None, ..good },
            Facts { source: Some("other.db"), ..good },
            Facts { source: None, ..good },
            Facts { is_rehearsed: false, ..good },
        ] {
            assert!(!may_be_used(bad, present, Some(minute), hour), "{bad:?}");
        }
    }
}
