//! The `release.toml` of an artifact, laid over the host's settings.
//!
//! The host defines what a release may touch, the release defines how it runs. What a release may
//! not set is refused, never ignored: a `migrate` that never runs would be worse than none.

use std::path::Path;

use super::check::RELEASE_KEYS;
use super::model::{ReleaseKey, Settings};
use super::problem::{Problem, Report};
use super::raw::Section;
use super::sections::{KEYS, RELEASE};
use super::{data, document, health, hooks, settings};

/// The settings a release runs with.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlay {
    /// The host's settings with the release's laid over them.
    pub settings: Settings,
    /// The artifact's own `version`, for people.
    pub label: Option<String>,
    /// What is worth knowing and stops nothing.
    pub warnings: Vec<String>,
}

/// Lays the text of a `release.toml` over the host's settings, key by key: `env` variable by
/// variable, `health` and `stop` entry by entry.
///
/// # Errors
/// Every problem: unknown keys, keys that the host pins, bad values.
pub fn overlay(
    base: &Settings,
    pinned: &[ReleaseKey],
    has_listener: bool,
    file: &Path,
    text: &str,
) -> Result<Overlay, Vec<Problem>> {
    let report = Report::new(file, text).of_sections(KEYS);
    let table = document::parse(text, &report);
    let top = Section::of("", &(0..0), table.get_ref(), RELEASE, &report);
    refuse(&top, pinned);
    let overlay = read(&top, base, usize::from(has_listener));
    drop(top);
    let problems = report.into_problems();
    if problems.is_empty() { Ok(overlay) } else { Err(problems) }
}

fn refuse(top: &Section<'_>, pinned: &[ReleaseKey]) {
    for (key, pin) in RELEASE_KEYS {
        if pinned.contains(&pin) && top.has(key) {
            top.problem_with_hint(key, "is pinned on this host", "see `pin` in halley.toml");
        }
    }
}

fn read(top: &Section<'_>, base: &Settings, n_listen: usize) -> Overlay {
    let mut settings = base.clone();
    let mut warnings = Vec::new();
    if let Some(command) = top.command("command") {
        settings.command = command;
    }
    for (name, value) in settings::env(top) {
        let host = settings.env.insert(name.clone(), value.clone());
        if host.is_some_and(|host| host != value) {
            warnings.push(format!("env.{name}: the release's value replaces the host's"));
        }
    }
    if let Some(table) = top.section("health", health::KEYS) {
        settings.health = health::read(&table, settings.health, n_listen);
    }
    if let Some(stop) = top.section("stop", settings::STOP_KEYS) {
        settings.stop = settings::stop(&stop, settings.stop);
    }
    if let Some(table) = top.section("migrate", data::MIGRATE_KEYS) {
        settings.migrate = data::migrate(&table, settings.migrate);
    }
    if let Some(table) = top.section("schema", data::SCHEMA_KEYS) {
        settings.schema = data::schema(&table);
    }
    if let Some(table) = top.section("hooks", hooks::KEYS) {
        settings.hooks.extend(hooks::read(&table));
    }
    Overlay { settings, label: label(top), warnings }
}

fn label(top: &Section<'_>) -> Option<String> {
    let label = top.text("version")?.value;
    let plain = !label.is_empty() && label.len() <= 128 && !label.contains(char::is_control);
    if !plain {
        top.problem("version", "must have 1 to 128 characters, none of them control characters");
    }
    Some(label)
}

#[cfg(test)]
mod tests {
    use super::super::model::{Check, Handoff};
    use super::*;

    fn base() -> Settings {
        Settings {
            version: 1,
            command: vec!["./bin/web".to_owned()],
            user: None,
            group: None,
            groups: Vec::new(),
            limits: crate::os::limits::ProcessLimits::default(),
            instances: 2,
            env: [("A", "host"), ("B", "host")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            handoff: Handoff::Inherit,
            health: health::default(1),
            bake: crate::config::bake::default(),
            stop: settings::default_stop(),
            migrate: None,
            schema: None,
            hooks: Vec::new(),
        }
    }

    fn check(text: &str, pinned: &[ReleaseKey]) -> Result<Overlay, Vec<String>> {
        let overlay = overlay(&base(), pinned, true, Path::new("release.toml"), text);
        overlay.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn nothing_said_changes_nothing() {
        let overlay = check("", &[]).unwrap();
        assert_eq!(overlay, Overlay { settings: base(), label: None, warnings: vec![] });
    }

    #[test]
    fn what_is_said_is_laid_over_entry_by_entry() {
        let text = "version = \"1.4.2\"\ncommand = [\"./web\", \"-x\"]\n[env]\nA = \"new\"\n\
                    B = \"host\"\nC = \"new\"\n[health]\nhttp = \"/up\"\n[stop]\nlinger = \"1s\"\n";
        let overlay = check(text, &[]).unwrap();
        assert_eq!(overlay.label.as_deref(), Some("1.4.2"));
        assert_eq!(overlay.warnings, ["env.A: the release's value replaces the host's"]);
        let mut expected = base();
        expected.command = vec!["./web".to_owned(), "-x".to_owned()];
        expected.env.insert("A".to_owned(), "new".to_owned());
        expected.env.insert("C".to_owned(), "new".to_owned());
        expected.health.check = Check::Http("/up".to_owned());
        expected.stop.linger = std::time::Duration::from_secs(1);
        assert_eq!(overlay.settings, expected);
    }

    #[test]
    fn what_a_release_may_not_say_is_refused_with_its_line() {
        for (text, problem) in [
            ("\nmigrate = [\"./m\"]", "2: migrate: it is a list and should be a table"),
            ("hooks = 3", "1: hooks: it is a whole number and should be a table"),
            ("schema = 3", "1: schema: it is a whole number and should be a table"),
            ("[hooks]\nbefore_lunch = [\"x\"]", "2: hooks.before_lunch: unknown key"),
            ("user = \"root\"", "1: user: unknown key; it belongs in [service.NAME]"),
            ("comand = [\"x\"]", "1: comand: unknown key; did you mean command?"),
            ("version = \"a\\nb\"", "1: version: must have"),
            ("version = 1", "1: version: it is a whole number and should be a text"),
            ("command = []", "1: command: names no program"),
            ("health.deadline = \"1s\"", "1: health.deadline: is shorter than min_healthy"),
            ("x = ", "1:"),
        ] {
            let problems = check(text, &[]).unwrap_err();
            let wanted = format!("release.toml:{problem}");
            assert!(problems[0].starts_with(&wanted), "{problems:?}");
            assert_eq!(problems.len(), 1, "{problems:?}");
        }
    }

    #[test]
    fn a_pinned_key_is_refused_and_the_others_are_not() {
        let pinned = [ReleaseKey::Command, ReleaseKey::Env];
        let text = "command = [\"x\"]\nenv.A = \"b\"\nstop.linger = \"1s\"";
        let problems = check(text, &pinned).unwrap_err();
        assert_eq!(
            problems,
            [
                "release.toml:1: command: is pinned on this host; see `pin` in halley.toml",
                "release.toml:2: env: is pinned on this host; see `pin` in halley.toml",
            ]
        );
        assert!(check("stop.linger = \"1s\"", &pinned).is_ok());
    }
}
