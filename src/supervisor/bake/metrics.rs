//! What a program counts itself: the part of bad events since the warm-up, against its bound and
//! against the old release.

use std::rc::Rc;

use crate::config::bake::Metrics;
use crate::config::selector::Selector;
use crate::core::analysis::exposition::{self, BadLine, Series};
use crate::core::analysis::ratio::Increase;
use crate::core::health::Sample;
use crate::supervisor::bake::finding::Finding;
use crate::supervisor::health::connection::{self, TextError};
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::Generation;
use crate::text::count;

/// Why the counters of a generation cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetricsError {
    /// There is no text.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The text is not in the format.
    #[error("GET {path}: {source}")]
    Line {
        /// What was asked for.
        path: String,
        /// The first such line.
        #[source]
        source: BadLine,
    },
}

/// The counters of one generation.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    bad: Increase,
    total: Increase,
    /// As they stood at the last scrape, since the processes were started.
    life: (f64, f64),
}

impl Counters {
    /// Reads all instances, through their own slots.
    ///
    /// # Errors
    /// [`MetricsError`], of the first that could not be read; then nothing is counted.
    pub(crate) async fn read(
        &mut self,
        service: &Rc<Service>,
        generation: &Rc<Generation>,
        metrics: &Metrics,
    ) -> Result<(), MetricsError> {
        let (mut bad, mut total) = (Vec::new(), Vec::new());
        for instance in &generation.instances() {
            let text = connection::text_at(service, generation, instance, &metrics.path).await?;
            let process = format!("{}/{}", instance.index, instance.pid().unwrap_or(0));
            for series in exposition::parse(&text) {
                let series = series
                    .map_err(|source| MetricsError::Line { path: metrics.path.clone(), source })?;
                take(&mut bad, &metrics.bad, &process, &series);
                take(&mut total, &metrics.total, &process, &series);
            }
        }
        self.life = (sum(&bad), sum(&total));
        self.bad.observe(bad);
        self.total.observe(total);
        Ok(())
    }

    /// Bad events and all, since the first reading.
    fn since(&self) -> (f64, f64) {
        (self.bad.sum(), self.total.sum())
    }
}

fn take(into: &mut Vec<(String, f64)>, selector: &Selector, process: &str, series: &Series<'_>) {
    if selector.is_match(series) {
        into.push((format!("{process} {} {:?}", series.name, series.labels), series.value));
    }
}

fn sum(counters: &[(String, f64)]) -> f64 {
    counters.iter().map(|(_, value)| value).filter(|value| value.is_finite()).sum()
}

/// Judges the counters. A release that serves beside this one is compared over the same time; an
/// old one that gets no more requests, over its whole life.
pub(crate) fn judge(metrics: &Metrics, own: &Counters, beside: Option<&Counters>) -> Finding {
    let bound = metrics.bound();
    let (bad, total) = own.since();
    let sample = bound.judge(bad, total);
    let old = beside.map(|beside| {
        let (bad, total) = beside.since();
        let in_its_time = bound.judge(bad, total) != Sample::Unclear;
        if in_its_time { (bad, total) } else { beside.life }
    });
    let text = match sample {
        Sample::Good => return Finding::good(),
        Sample::Unclear => format!("{}, {} needed", count(total, "event"), metrics.min_total),
        Sample::Bad => {
            let most = f64::from(metrics.max_ratio_ppm) / 1e4;
            format!("{bad} of {total} are bad ({}), limit {most} %", percent(bad, total))
        }
    };
    let old_text = old.map(|(bad, total)| match total {
        0.0 => "; the old release has none".to_owned(),
        _ => format!("; the old release {}", percent(bad, total)),
    });
    let text = format!("{text}{}", old_text.unwrap_or_default());
    // What the old one does as badly is not the new one's fault.
    let is_same = old.is_some_and(|(bad, total)| bound.judge(bad, total) == Sample::Bad);
    Finding::new(if is_same { Sample::Unclear } else { sample }, text)
}

fn percent(part: f64, whole: f64) -> String {
    format!("{:.1} %", part / whole * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(first: (f64, f64), then: (f64, f64)) -> Counters {
        let mut counters = Counters::default();
        for (bad, total) in [first, then] {
            counters.bad.observe([(String::new(), bad)]);
            counters.total.observe([(String::new(), total)]);
        }
        counters.life = then;
        counters
    }

    fn check(own: (f64, f64), beside: Option<Counters>, expected: Sample, words: &str) {
        let metrics = Metrics {
            path: "/metrics".to_owned(),
            bad: Selector::parse("bad").unwrap(),
            total: Selector::parse("all").unwrap(),
            max_ratio_ppm: 20_000,
            min_total: 10,
        };
        // What it counted before the warm-up ended is not its own.
        let own = counters((50.0, 50.0), (50.0 + own.0, 50.0 + own.1));
        let found = judge(&metrics, &own, beside.as_ref());
        assert_eq!(found.sample, expected, "{}", found.why);
        assert!(found.why.contains(words), "{}", found.why);
    }

    #[test]
    fn a_part_beyond_the_bound_is_bad_unless_the_old_one_is_as_bad() {
        check((0.0, 5.0), None, Sample::Unclear, "5 events, 10 needed");
        check((1.0, 50.0), None, Sample::Good, "");
        check((10.0, 50.0), None, Sample::Bad, "10 of 50 are bad (20.0 %), limit 2 %");
        // An old release that gets no requests: its whole life counts.
        let quiet = |bad, total| Some(counters((bad, total), (bad, total)));
        check((10.0, 50.0), quiet(1.0, 1000.0), Sample::Bad, "the old release 0.1 %");
        check((10.0, 50.0), quiet(100.0, 1000.0), Sample::Unclear, "the old release 10.0 %");
        check((10.0, 50.0), quiet(3.0, 5.0), Sample::Bad, "the old release 60.0 %");
        check((10.0, 50.0), quiet(0.0, 0.0), Sample::Bad, "the old release has none");
        // One that serves beside it: the same time counts.
        let serves = Some(counters((100.0, 1000.0), (100.0, 1100.0)));
        check((10.0, 50.0), serves, Sample::Bad, "the old release 0.0 %");
        let suffers = Some(counters((0.0, 1000.0), (50.0, 1100.0)));
        check((10.0, 50.0), suffers, Sample::Unclear, "the old release 50.0 %");
    }
}
