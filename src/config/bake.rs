//! What a bake watches beside the health check: the section `[service.NAME.bake]`, read and
//! checked.
//!
//! These belong to a release's snapshot. What a snapshot does not name is not watched.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pattern::Pattern;
use super::raw::Section;
use super::selector::Selector;
use super::{duration, health, rate, size};
use crate::core::analysis::growth::Bound;
use crate::core::analysis::rate::Rate;
use crate::core::analysis::ratio::RatioBound;

pub(super) const KEYS: &[&str] = &[
    "for",
    "inconclusive",
    "min_samples",
    "warm_up",
    "max_rss",
    "max_rss_growth",
    "max_fd_growth",
    "max_thread_growth",
    "error_lines",
    "max_error_rate",
    "wanted",
    "command",
    "command_timeout",
    "metrics",
];
pub(super) const METRICS_KEYS: &[&str] = &["path", "bad", "total", "max_ratio", "min_total"];

/// The default limit for the rate of error lines.
const ERROR_RATE: Rate = Rate { n: 1, per_ms: 1000 };

/// The watch after the flip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bake {
    /// How long; zero commits at once.
    #[serde(rename = "for", with = "super::duration")]
    pub length: Duration,
    /// What an inconclusive verdict means.
    pub inconclusive: Inconclusive,
    /// Fewer probes than this by the end are inconclusive.
    pub min_samples: u32,
    /// At its beginning only ends, the health check and the file limit are judged, so long.
    #[serde(default, with = "super::duration")]
    pub warm_up: Duration,
    /// What is watched beside the health check.
    #[serde(default)]
    pub signals: Signals,
}

/// What to do when a bake could neither pass nor fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inconclusive {
    /// Commit.
    Promote,
    /// Wait for `promote` or `abort`.
    Hold,
    /// Roll back.
    Rollback,
}

/// Everything that is watched beside the health check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Signals {
    /// Greatest resident memory of an instance, its whole process tree, in bytes.
    pub max_rss_bytes: Option<u64>,
    /// How much that may grow.
    pub max_rss_growth: Option<MemoryGrowth>,
    /// How many more descriptors an instance may open.
    pub max_fd_growth: Option<u32>,
    /// How many more threads it may start.
    pub max_thread_growth: Option<u32>,
    /// Error lines in the log.
    pub error_lines: Option<ErrorLines>,
    /// Optional paths: failures are inconclusive.
    pub wanted: Vec<String>,
    /// A command that checks the instance.
    pub command: Option<Command>,
    /// What the program counts itself.
    pub metrics: Option<Metrics>,
}

/// How much resident memory may grow: `50%` or `64MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MemoryGrowth {
    /// By this part of what it was.
    Percent(u32),
    /// By so many bytes.
    Bytes(u64),
}

/// Error lines in the log, and the limit for their rate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorLines {
    /// What such a line has in it.
    pub pattern: Pattern,
    /// Of all instances together.
    #[serde(with = "super::rate")]
    pub max_rate: Rate,
}

/// A command that checks an instance; exit status 0 is good, 1 bad, 75 unclear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The command is killed after this, and its result is ignored.
    #[serde(with = "super::duration")]
    pub timeout: Duration,
}

/// What a program counts itself, in Prometheus' text format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// The path of the metrics.
    pub path: String,
    /// Bad events.
    pub bad: Selector,
    /// All events.
    pub total: Selector,
    /// The greatest part that may be bad, in millionths.
    pub max_ratio_ppm: u32,
    /// Fewer events are inconclusive.
    pub min_total: u32,
}

impl Metrics {
    /// The part that may be bad.
    #[must_use]
    pub fn bound(&self) -> RatioBound {
        RatioBound { max_ppm: self.max_ratio_ppm, min_total: self.min_total }
    }
}

impl MemoryGrowth {
    /// As a bound.
    #[must_use]
    pub fn bound(self) -> Bound {
        match self {
            Self::Percent(percent) => Bound::MorePercent(percent),
            Self::Bytes(bytes) => Bound::More(bytes),
        }
    }
}

/// Why a text is no growth.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a growth: {0:?} (write 50% or 64MiB)")]
pub struct BadGrowth(pub String);

impl TryFrom<String> for MemoryGrowth {
    type Error = BadGrowth;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let read = match text.strip_suffix('%') {
            Some(percent) if percent.bytes().all(|byte| byte.is_ascii_digit()) => {
                percent.parse().ok().map(Self::Percent)
            }
            Some(_) => None,
            None => size::parse(&text).ok().map(Self::Bytes),
        };
        read.ok_or(BadGrowth(text))
    }
}

impl From<MemoryGrowth> for String {
    fn from(growth: MemoryGrowth) -> Self {
        match growth {
            MemoryGrowth::Percent(percent) => format!("{percent}%"),
            MemoryGrowth::Bytes(bytes) => format!("{bytes}B"),
        }
    }
}

/// The bake of a service that does not configure one.
pub(super) fn default() -> Bake {
    let length = Duration::from_secs(30);
    Bake {
        length,
        inconclusive: Inconclusive::Promote,
        min_samples: 1,
        warm_up: warm_up_of(length),
        signals: Signals::default(),
    }
}

/// The default warm-up: a fifth of the bake.
fn warm_up_of(length: Duration) -> Duration {
    length / 5
}

/// The bake of the section laid over `base`.
pub(super) fn read(section: &Section<'_>, base: Bake, n_listen: usize) -> Bake {
    let verdicts = [
        ("promote", Inconclusive::Promote),
        ("hold", Inconclusive::Hold),
        ("rollback", Inconclusive::Rollback),
    ];
    let length = section.duration("for").unwrap_or(base.length);
    let warm_up = section.duration("warm_up");
    if !length.is_zero() && warm_up.is_some_and(|warm_up| warm_up >= length) {
        let hint = format!("the bake lasts {}", duration::print(length));
        section.problem_with_hint("warm_up", "is not shorter than `for`", hint);
    }
    Bake {
        length,
        inconclusive: section.word("inconclusive", &verdicts).unwrap_or(base.inconclusive),
        min_samples: section.number("min_samples", 0, u32::MAX).unwrap_or(base.min_samples),
        warm_up: warm_up.unwrap_or(warm_up_of(length)),
        signals: Signals {
            max_rss_bytes: section.size("max_rss"),
            max_rss_growth: memory_growth(section),
            max_fd_growth: section.number("max_fd_growth", 0, u32::MAX),
            max_thread_growth: section.number("max_thread_growth", 0, u32::MAX),
            error_lines: error_lines(section),
            wanted: wanted(section, n_listen),
            command: command(section),
            metrics: metrics(section, n_listen),
        },
    }
}

fn memory_growth(section: &Section<'_>) -> Option<MemoryGrowth> {
    let read = MemoryGrowth::try_from(section.text("max_rss_growth")?.value);
    read.map_err(|error| section.problem("max_rss_growth", error.to_string())).ok()
}

fn error_lines(section: &Section<'_>) -> Option<ErrorLines> {
    let max_rate = section.text("max_error_rate").and_then(|text| {
        let read = rate::parse(&text.value);
        read.map_err(|error| section.problem("max_error_rate", error.to_string())).ok()
    });
    if section.has("max_error_rate") && !section.has("error_lines") {
        let hint = "add error_lines, a regular expression";
        section.problem_with_hint("max_error_rate", "has no effect without error_lines", hint);
    }
    let pattern = pattern(section, "error_lines")?;
    Some(ErrorLines { pattern, max_rate: max_rate.unwrap_or(ERROR_RATE) })
}

fn pattern(section: &Section<'_>, key: &str) -> Option<Pattern> {
    let text = section.text(key)?.value;
    if text.is_empty() {
        section.problem(key, "is empty and would match every line");
        return None;
    }
    Pattern::anywhere(&text).map_err(|error| section.problem(key, error.to_string())).ok()
}

fn wanted(section: &Section<'_>, n_listen: usize) -> Vec<String> {
    let mut paths = Vec::new();
    for text in section.texts("wanted").unwrap_or_default() {
        if health::is_path(&text.value) {
            paths.push(text.value);
        } else {
            let problem = format!("{:?} is not a path", text.value);
            let (line, path) = (text.line, section.path("wanted"));
            section.report().add_with_hint(line, &path, problem, "write \"/slow\"");
        }
    }
    needs_listener(section, "wanted", n_listen);
    paths
}

fn needs_listener(section: &Section<'_>, key: &str, n_listen: usize) {
    if n_listen == 0 && section.has(key) {
        let hint = "use command, or give it an address in listen";
        section.problem_with_hint(key, "the service has no listener to send requests to", hint);
    }
}

fn command(section: &Section<'_>) -> Option<Command> {
    let timeout = section.positive_duration("command_timeout");
    if section.has("command_timeout") && !section.has("command") {
        section.problem_with_hint(
            "command_timeout",
            "has no effect without command",
            "leave it out",
        );
    }
    let command = section.command("command")?;
    Some(Command { command, timeout: timeout.unwrap_or(Duration::from_secs(10)) })
}

fn metrics(section: &Section<'_>, n_listen: usize) -> Option<Metrics> {
    needs_listener(section, "metrics", n_listen);
    let table = section.section("metrics", METRICS_KEYS)?;
    let path = table.text("path").map_or("/metrics".to_owned(), |text| text.value);
    if !health::is_path(&path) {
        table.problem_with_hint("path", format!("{path:?} is not a path"), "write \"/metrics\"");
    }
    let max_ratio_ppm = table.ratio_ppm("max_ratio").unwrap_or(50_000);
    let min_total = table.number("min_total", 0, u32::MAX).unwrap_or(50);
    let (bad, total) = (selector(&table, "bad"), selector(&table, "total"));
    Some(Metrics { path, bad: bad?, total: total?, max_ratio_ppm, min_total })
}

fn selector(table: &Section<'_>, key: &str) -> Option<Selector> {
    const HINT: &str = "write 'http_requests_total{code=~\"5..\"}'";
    let Some(text) = table.text(key) else {
        if !table.has(key) {
            table.problem_with_hint(key, "is missing", HINT);
        }
        return None;
    };
    let read = Selector::parse(&text.value);
    read.map_err(|error| table.problem_with_hint(key, error.to_string(), HINT)).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use toml::de::DeTable;

    use super::*;
    use crate::config::problem::Report;

    fn check(text: &str) -> (Bake, Vec<String>) {
        let table = DeTable::parse(text).unwrap();
        let report = Report::new(Path::new("t.toml"), text);
        let section = Section::of("bake", &(0..0), table.get_ref(), KEYS, &report);
        let bake = read(&section, default(), 1);
        drop(section);
        (bake, report.into_problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_signal_is_read_and_comes_back_from_its_snapshot() {
        let text = "for = \"10m\"\nwarm_up = \"1m\"\nmax_rss = \"512MiB\"\n\
                    max_rss_growth = \"50%\"\nmax_fd_growth = 10\nmax_thread_growth = 0\n\
                    error_lines = \"(?i)error\"\nmax_error_rate = \"30/m\"\nwanted = [\"/slow\"]\n\
                    command = [\"./smoke\", \"{probe_port}\"]\ncommand_timeout = \"1m\"\n\
                    [metrics]\nbad = 'n{code=~\"5..\"}'\ntotal = \"n\"\nmax_ratio = 0.02\n";
        let (bake, problems) = check(text);
        assert_eq!(problems, [""; 0]);
        let signals = &bake.signals;
        assert_eq!(bake.warm_up, Duration::from_secs(60));
        assert_eq!(signals.max_rss_bytes, Some(512 << 20));
        assert_eq!(signals.max_rss_growth, Some(MemoryGrowth::Percent(50)));
        assert_eq!((signals.max_fd_growth, signals.max_thread_growth), (Some(10), Some(0)));
        let rate = signals.error_lines.as_ref().map(|lines| lines.max_rate);
        assert_eq!(rate, Some(Rate { n: 30, per_ms: 60_000 }));
        assert_eq!(signals.command.as_ref().unwrap().timeout, Duration::from_secs(60));
        let metrics = signals.metrics.as_ref().unwrap();
        assert_eq!((metrics.path.as_str(), metrics.max_ratio_ppm), ("/metrics", 20_000));
        let snapshot = serde_json::to_string(&bake).unwrap();
        assert_eq!(serde_json::from_str::<Bake>(&snapshot).unwrap(), bake, "{snapshot}");
    }

    #[test]
    fn an_older_snapshot_watches_what_it_watched() {
        let text = r#"{"for":"30s","inconclusive":"promote","min_samples":1}"#;
        let bake: Bake = serde_json::from_str(text).unwrap();
        assert_eq!(bake.signals, Signals::default());
        assert!(bake.warm_up.is_zero());
    }

    #[test]
    fn the_warm_up_is_a_fifth_when_nobody_says() {
        assert_eq!(check("for = \"10s\"").0.warm_up, Duration::from_secs(2));
        assert_eq!(check("").0.warm_up, Duration::from_secs(6));
        assert!(check("warm_up = \"0\"").0.warm_up.is_zero());
    }

    #[test]
    fn growth_is_a_part_or_a_size() {
        for (text, growth) in [
            ("50%", Some(MemoryGrowth::Percent(50))),
            ("300%", Some(MemoryGrowth::Percent(300))),
            ("64MiB", Some(MemoryGrowth::Bytes(64 << 20))),
            ("64", None),
            ("%", None),
            ("-5%", None),
            ("0.5", None),
        ] {
            assert_eq!(MemoryGrowth::try_from(text.to_owned()).ok(), growth, "{text}");
        }
    }
}
