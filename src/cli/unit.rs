//! What the unit of systemd allows, as far as `check` looks at it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::model::Config;
use crate::core::order;
use crate::text;

/// Where a unit lies and what is laid over it, the last one counts.
const FOLDERS: [&str; 3] = ["usr/lib/systemd/system", "lib/systemd/system", "etc/systemd/system"];
const UNIT: &str = "halley-sup.service";

/// A unit that allows less time for a stop than the services of a chain of `after` may take.
pub(super) fn too_short(config: &Config, root: &Path) -> Option<String> {
    let (allowed_ms, file) = stop_timeout(root)?;
    let after: Vec<_> = config
        .order
        .iter()
        .filter_map(|name| config.services.get(name))
        .map(|service| (service.after.clone(), text::ms(service.settings.stop.timeout)))
        .collect();
    let (after, own_ms): (Vec<_>, Vec<_>) = after.into_iter().unzip();
    let waits = order::stops(&order::starts(&config.order, &after));
    let needed_ms = order::longest_ms(&waits, &own_ms);
    (allowed_ms < needed_ms).then(|| {
        format!(
            "{}: TimeoutStopSec is {}, and the services may take {} to stop; Halley asks systemd for more time \
             (EXTEND_TIMEOUT_USEC), an older systemd than 236 kills them: systemctl edit halley-sup",
            file.display(),
            text::whole_seconds(allowed_ms),
            text::whole_seconds(needed_ms)
        )
    })
}

fn stop_timeout(root: &Path) -> Option<(u64, PathBuf)> {
    let mut files: Vec<PathBuf> =
        FOLDERS.iter().map(|folder| root.join(folder).join(UNIT)).collect();
    for folder in FOLDERS {
        let more = fs::read_dir(root.join(folder).join(format!("{UNIT}.d")));
        let mut more: Vec<_> = more.into_iter().flatten().flatten().map(|it| it.path()).collect();
        more.sort();
        files.extend(more);
    }
    let of = |file: PathBuf| {
        let text = fs::read_to_string(&file).ok()?;
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("TimeoutStopSec="));
        Some((lines.filter_map(timespan_ms).next_back()?, file))
    };
    files.into_iter().filter_map(of).next_back()
}

/// `90`, `2min 30s`, `infinity` (systemd.time(7)).
fn timespan_ms(text: &str) -> Option<u64> {
    if text.trim() == "infinity" {
        return Some(u64::MAX);
    }
    let mut total_ms = 0_u64;
    for part in text.split_ascii_whitespace() {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (number, unit) = part.split_at(digits);
        let unit_ms = match unit {
            "ms" => 1,
            "" | "s" | "sec" => 1_000,
            "m" | "min" => 60_000,
            "h" | "hr" => 3_600_000,
            _ => return None,
        };
        total_ms = total_ms.checked_add(number.parse::<u64>().ok()?.checked_mul(unit_ms)?)?;
    }
    Some(total_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_time_is_read_as_systemd_reads_it() {
        for (text, expected) in [
            ("120", Some(120_000)),
            ("2min 30s", Some(150_000)),
            ("500ms", Some(500)),
            ("infinity", Some(u64::MAX)),
            ("2 parsecs", None),
        ] {
            assert_eq!(timespan_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn a_unit_that_allows_less_than_a_chain_takes_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("halley.toml");
        let one = |name: &str, more: &str| {
            format!("[service.{name}]\ncommand = [\"x\"]\nstop.timeout = \"100s\"\n{more}")
        };
        let text = one("a", "") + &one("b", "after = [\"a\"]\n") + &one("c", "");
        fs::write(&file, format!("root = \"s\"\n{text}")).unwrap();
        let config = config::load(&file).unwrap();
        assert_eq!(too_short(&config, root.path()), None);
        let units = root.path().join("etc/systemd/system");
        fs::create_dir_all(units.join("halley-sup.service.d")).unwrap();
        fs::write(units.join(UNIT), "[Service]\nTimeoutStopSec=120\n").unwrap();
        let warning = too_short(&config, root.path()).unwrap();
        assert!(warning.contains("halley-sup.service: TimeoutStopSec is "), "{warning}");
        let over = units.join("halley-sup.service.d/override.conf");
        fs::write(over, "[Service]\nTimeoutStopSec=4min\n").unwrap();
        assert_eq!(too_short(&config, root.path()), None);
    }
}
