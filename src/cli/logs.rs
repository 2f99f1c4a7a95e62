//! `logs [SERVICE...] [-f]`: what their processes wrote.

use clap::Args;

use crate::api::{self, Verb};
use crate::cli::verb::Ask;
use crate::config::duration;
use crate::config::pattern::{BadPattern, Pattern};
use crate::os::clock;
use crate::text;

/// Last lines that are shown, unless a number or a time is given.
const N_LINES: u64 = 50;

/// Show the logs of services
#[derive(Debug, Args)]
pub struct Logs {
    /// Names of the services [default: all]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Release to show, of one service [default: the serving one]
    #[arg(long, value_name = "RELEASE")]
    release: Option<u64>,
    /// Number of last lines to show [default: 50, with --since all]
    #[arg(short = 'n', long)]
    tail: Option<u64>,
    /// Show only lines from then on: a duration ago (10m) or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<String>,
    /// Show only lines whose text matches a regular expression
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    grep: Option<Pattern>,
    /// Keep printing new lines
    #[arg(short, long)]
    follow: bool,
}

/// Why a text is no time that lines can be shown from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "neither a duration (write 500ms, 30s, 15m, 2h or 7d) nor an RFC 3339 time (2026-11-23T12:00:00Z)"
)]
struct BadTime;

/// A time as log lines have it.
fn since(text: &str) -> Result<String, BadTime> {
    let ago = duration::parse(text).ok().filter(|_| text != "off");
    let since = match ago {
        Some(ago) => clock::earlier(&clock::now_rfc3339_ms(), text::ms(ago)),
        None => clock::earlier(text, 0),
    };
    since.ok_or(BadTime)
}

fn pattern(text: &str) -> Result<Pattern, BadPattern> {
    Pattern::anywhere(text)
}

impl Ask for Logs {
    fn request(mut self) -> Verb {
        let tail = self.tail.unwrap_or(if self.since.is_some() { u64::MAX } else { N_LINES });
        // A supervisor that was started before there were filters refuses what names no one service, where
        // it would pass over a filter.
        let is_old = self.services.len() == 1 && self.since.is_none() && self.grep.is_none();
        Verb::Logs(api::logs::Args {
            service: if is_old { self.services.pop() } else { None },
            release: self.release,
            tail,
            follow: self.follow,
            services: self.services,
            since: self.since,
            grep: self.grep.map(String::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_duration_ago_or_written_out_in_any_zone() {
        for (text, expected) in [
            ("2026-11-23T12:00:00Z", "2026-11-23T12:00:00.000Z"),
            ("2026-11-23T14:00:00.1234+02:00", "2026-11-23T12:00:00.123Z"),
        ] {
            assert_eq!(since(text).as_deref(), Ok(expected));
        }
        let now = clock::now_rfc3339_ms();
        assert!(since("1h").unwrap() < now && since("0").unwrap() >= now);
        for text in ["", "10", "10 m", "off", "yesterday", "12:00", "2026-11-23", "9999999999d"] {
            assert_eq!(since(text), Err(BadTime), "{text}");
        }
    }
}
