//! The one place that reads clocks.

use rustix::time::{ClockId, clock_gettime};

use crate::core::time::Tick;

/// Milliseconds since boot, suspend included (`CLOCK_BOOTTIME`, Linux 2.6.39).
#[must_use]
pub fn tick() -> Tick {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let ms = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000;
    Tick(seconds * 1000 + ms)
}

/// Nanoseconds of the monotonic clock: for measuring a flip.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Wall-clock time as `2026-11-23T12:00:00Z`: for people, never for what a release depends on.
#[must_use]
pub fn now_rfc3339() -> String {
    format!("{:.0}", jiff::Timestamp::now())
}

/// Seconds since 1970, by the wall clock.
#[must_use]
pub fn now_unix_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// An RFC 3339 time as seconds since 1970.
#[must_use]
pub fn unix_s(at: &str) -> Option<i64> {
    Some(at.parse::<jiff::Timestamp>().ok()?.as_second())
}

/// How long ago an RFC 3339 time was, by the wall clock: nothing when it lies ahead.
#[must_use]
pub fn age(at: &str) -> Option<std::time::Duration> {
    let at: jiff::Timestamp = at.parse().ok()?;
    Some(jiff::Timestamp::now().duration_since(at).try_into().unwrap_or_default())
}

/// A wall-clock time of this form `ms` milliseconds earlier, as log lines have it: for reading
/// logs. `None` when it is no such time.
#[must_use]
pub fn earlier(at: &str, ms: u64) -> Option<String> {
    let at: jiff::Timestamp = at.parse().ok()?;
    let earlier = at.checked_sub(std::time::Duration::from_millis(ms)).ok()?;
    Some(format!("{earlier:.3}"))
}

/// Wall-clock time as `2026-11-23T12:00:00.123Z`: for log lines.
#[must_use]
pub fn now_rfc3339_ms() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_as_many_digits_whatever_they_are() {
        let at = "2026-11-23T12:00:00.500Z";
        for (ms, text) in [
            (0, at),
            (1, "2026-11-23T12:00:00.499Z"),
            (500, "2026-11-23T12:00:00.000Z"),
            (501, "2026-11-23T11:59:59.999Z"),
        ] {
            assert_eq!(earlier(at, ms).as_deref(), Some(text));
        }
        assert_eq!(now_rfc3339_ms().len(), at.len());
        assert_eq!(now_rfc3339().len(), "2026-11-23T12:00:00Z".len());
    }

    /// No clock that can be put forward or back.
    #[test]
    fn ticks_are_of_the_time_since_boot() {
        let uptime_ms = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            let (seconds, rest) = text.split_once(' ').unwrap().0.split_once('.').unwrap();
            seconds.parse::<u64>().unwrap() * 1000 + rest.parse::<u64>().unwrap() * 10
        };
        // The file has hundredths.
        let (before, now, after) = (uptime_ms(), tick().0, uptime_ms() + 10);
        assert!((before..=after).contains(&now), "{before}, {now}, {after}");
    }

    #[test]
    fn a_time_that_was_written_is_read() {
        let at = now_rfc3339();
        assert!(now_unix_s() - unix_s(&at).unwrap() <= 1);
        assert_eq!(unix_s("2026-11-23T12:00:00Z"), Some(1_795_435_200));
    }
}
