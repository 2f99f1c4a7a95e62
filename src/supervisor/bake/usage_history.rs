//! What the processes held while they were watched: kept for the report of an operation.
//!
//! However long a bake is, a curve stays small: when it is full, every second point goes, and from
//! then on only every second one is taken. It is kept in memory and nothing depends on it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use crate::core::ids::{InstanceIndex, ReleaseId};
use crate::core::time::Tick;
use crate::os::usage::Usage;
use crate::text::{count, seconds, size};

/// Points that a process has at most.
const N_POINTS_MAX: usize = 120;
/// Processes that have a curve at most.
const N_PROCESSES_MAX: usize = 32;
/// Width of a drawn curve.
const N_COLUMNS: usize = 24;

/// A curve that an operation's job and its bake share.
pub(crate) type SharedCurve = Rc<RefCell<Curve>>;

/// The curves of all processes that were watched.
#[derive(Debug, Default)]
pub(crate) struct Curve(BTreeMap<(ReleaseId, InstanceIndex), Series>);

/// What a process held at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    /// When.
    pub at: Tick,
    /// What it held.
    pub usage: Usage,
    /// Error lines of its release so far; absent when error lines are not watched.
    pub n_error_lines: Option<u64>,
}

#[derive(Debug)]
struct Series {
    points: Vec<Point>,
    /// Every so many are kept.
    stride: usize,
    n_seen: usize,
}

impl Curve {
    /// Takes a point in.
    pub(crate) fn push(&mut self, release: ReleaseId, instance: InstanceIndex, point: Point) {
        let is_known = self.0.contains_key(&(release, instance));
        if !is_known && self.0.len() >= N_PROCESSES_MAX {
            return;
        }
        let new = || Series { points: Vec::new(), stride: 1, n_seen: 0 };
        let series = self.0.entry((release, instance)).or_insert_with(new);
        if series.n_seen.is_multiple_of(series.stride) {
            series.points.push(point);
        }
        series.n_seen += 1;
        if series.points.len() > N_POINTS_MAX {
            let mut n = 0_usize;
            series.points.retain(|_| {
                n += 1;
                n % 2 == 1
            });
            series.stride *= 2;
        }
    }

    /// A small table of each process, as text; empty when nothing was seen.
    #[must_use]
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for ((release, instance), series) in &self.0 {
            let (Some(first), Some(last)) = (series.points.first(), series.points.last()) else {
                continue;
            };
            let span = seconds(first.at, last.at);
            let n = count(series.n_seen, "sample");
            // Writing to a String cannot go wrong.
            let _ = writeln!(text, "release {release} instance {instance}, {n} in {span}");
            row(&mut text, "memory", series, size, |point| Some(point.usage.rss_bytes));
            row(&mut text, "descriptors", series, plain, |point| point.usage.n_fds);
            row(&mut text, "threads", series, plain, |point| Some(point.usage.n_threads));
            row(&mut text, "error lines", series, plain, |point| point.n_error_lines);
        }
        text
    }
}

fn plain(n: u64) -> String {
    n.to_string()
}

fn row(
    text: &mut String,
    name: &str,
    series: &Series,
    unit: fn(u64) -> String,
    value: fn(&Point) -> Option<u64>,
) {
    let values: Vec<u64> = series.points.iter().filter_map(value).collect();
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return };
    let ends = format!("{} to {}", unit(*first), unit(*last));
    let _ = writeln!(text, "  {name:<12} {ends:<22} {}", drawn(&values));
}

/// Values as a row of bars, from nothing to the greatest of them.
fn drawn(values: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let greatest = values.iter().copied().max().unwrap_or(0).max(1);
    let n_columns = values.len().min(N_COLUMNS);
    let column = |n: usize| {
        let (from, to) = (n * values.len() / n_columns, (n + 1) * values.len() / n_columns);
        let high = values[from..to].iter().copied().max().unwrap_or(0);
        let step = u128::from(high) * (BARS.len() as u128 - 1) / u128::from(greatest);
        BARS[usize::try_from(step).unwrap_or(0).min(BARS.len() - 1)]
    };
    (0..n_columns).map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(n: u64) -> Point {
        let usage =
            Usage { rss_bytes: n * 1_000_000, n_fds: Some(7), n_threads: 2, ..Usage::default() };
        Point { at: Tick(n * 100), usage, n_error_lines: None }
    }

    #[test]
    fn it_stays_small_and_keeps_its_ends_apart() {
        let mut curve = Curve::default();
        for n in 0..10_000 {
            curve.push(ReleaseId(2), InstanceIndex(0), point(n));
        }
        let points = &curve.0[&(ReleaseId(2), InstanceIndex(0))].points;
        assert!((N_POINTS_MAX / 2 - 1..=N_POINTS_MAX).contains(&points.len()), "{}", points.len());
        let steps: Vec<u64> =
            points.windows(2).map(|pair| pair[1].at.since_ms(pair[0].at)).collect();
        assert!(steps.iter().all(|step| *step == steps[0]), "{steps:?}");
        assert_eq!(points[0].at, Tick(0));
        for n in 0..100 {
            curve.push(ReleaseId(3), InstanceIndex(n), point(1));
        }
        assert_eq!(curve.0.len(), N_PROCESSES_MAX);
    }

    #[test]
    fn it_is_drawn_with_its_numbers() {
        let mut curve = Curve::default();
        assert_eq!((curve.0.is_empty(), curve.render().as_str()), (true, ""));
        for n in 0..5 {
            curve.push(ReleaseId(2), InstanceIndex(1), point(n));
        }
        let expected = "release 2 instance 1, 5 samples in 0.4 s\n  \
                        memory       0 B to 4.0 MB          ▁▂▄▆█\n  \
                        descriptors  7 to 7                 █████\n  \
                        threads      2 to 2                 █████\n";
        assert_eq!(curve.render(), expected);
    }
}
