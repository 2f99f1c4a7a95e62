//! Keys about data and the way back: `rehearse`, `drill`, `migrate`, `schema`.

use std::time::Duration;

use super::model::{Migrate, Rehearse, Schema, SchemaKind};
use super::raw::Section;

pub(super) const MIGRATE_KEYS: &[&str] = &["command", "deadline", "probe"];
pub(super) const SCHEMA_KEYS: &[&str] = &["provides", "accepts", "kind"];

const DRILL: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const MIGRATE_DEADLINE: Duration = Duration::from_secs(10 * 60);
const VERSION_CHARS_MAX: usize = 128;

pub(super) fn rehearse(section: &Section<'_>) -> Rehearse {
    let words = [("full", Rehearse::Full), ("light", Rehearse::Light), ("off", Rehearse::Off)];
    section.word("rehearse", &words).unwrap_or(Rehearse::Full)
}

/// How often; `off` is never.
pub(super) fn drill(section: &Section<'_>) -> Option<Duration> {
    let every = if section.has("drill") { section.duration("drill")? } else { DRILL };
    (!every.is_zero()).then_some(every)
}

/// The section laid over `base`.
pub(super) fn migrate(section: &Section<'_>, base: Option<Migrate>) -> Option<Migrate> {
    let own = section.command("command");
    if own.is_none() && base.is_none() && !section.has("command") {
        section.problem_with_hint("command", "is missing", "write [\"./bin/migrate\"]");
    }
    let probe = section.command("probe");
    let deadline = section.positive_duration("deadline");
    let old = base.as_ref();
    Some(Migrate {
        command: own.or_else(|| old.map(|base| base.command.clone()))?,
        deadline: deadline.or(old.map(|base| base.deadline)).unwrap_or(MIGRATE_DEADLINE),
        probe: probe.or_else(|| old.and_then(|base| base.probe.clone())),
    })
}

pub(super) fn schema(section: &Section<'_>) -> Option<Schema> {
    let kinds = [("expand", SchemaKind::Expand), ("contract", SchemaKind::Contract)];
    let kind = section.word("kind", &kinds);
    if !section.has("provides") {
        let hint = "the version that the data has after this release's migration";
        section.problem_with_hint("provides", "is missing", hint);
    }
    let accepts: Vec<String> =
        section.texts("accepts").unwrap_or_default().into_iter().map(|text| text.value).collect();
    for version in accepts.iter().filter(|version| !is_version(version)) {
        section.problem("accepts", format!("{version:?} is not a version"));
    }
    let provides = section.text("provides")?.value;
    if !is_version(&provides) {
        section.problem("provides", format!("{provides:?} is not a version"));
    }
    let mut accepts = accepts;
    if !accepts.contains(&provides) {
        accepts.push(provides.clone());
    }
    Some(Schema { provides, accepts, kind: kind.unwrap_or(SchemaKind::Expand) })
}

/// What a probe can print on a line.
fn is_version(text: &str) -> bool {
    let plain = !text.is_empty() && text.trim() == text && !text.contains(char::is_control);
    plain && text.chars().count() <= VERSION_CHARS_MAX
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use toml::de::DeTable;

    use super::*;
    use crate::config::problem::Report;

    fn check<T>(text: &str, read: impl Fn(&Section<'_>) -> T) -> (T, Vec<String>) {
        let table = DeTable::parse(text).unwrap();
        let report = Report::new(Path::new("t.toml"), text);
        let top = Section::free("", &(0..0), table.get_ref(), &report);
        let value = read(&top);
        drop(top);
        (value, report.into_problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_rollback_is_rehearsed_unless_somebody_says_no() {
        let (rehearsed, _) = check("", rehearse);
        assert_eq!(rehearsed, Rehearse::Full);
        assert_eq!(check("", drill).0, Some(DRILL));
        assert_eq!(check("drill = \"off\"", drill).0, None);
        let (_, problems) = check("rehearse = \"half\"", rehearse);
        assert_eq!(problems, ["t.toml:1: rehearse: \"half\" is not one of full, light, off"]);
    }

    #[test]
    fn a_migration_is_laid_over_the_hosts() {
        let read = |base: Option<Migrate>| {
            move |top: &Section<'_>| {
                let table = top.section("migrate", MIGRATE_KEYS).unwrap();
                migrate(&table, base.clone())
            }
        };
        let (host, problems) =
            check("migrate = { command = [\"./m\"], probe = [\"./v\"] }", read(None));
        assert_eq!(problems, [""; 0]);
        let (own, _) = check("migrate = { deadline = \"5s\" }", read(host.clone()));
        let own = own.unwrap();
        assert_eq!((own.command.clone(), own.deadline.as_secs()), (vec!["./m".to_owned()], 5));
        assert_eq!(own.probe, host.unwrap().probe);
        let (none, problems) = check("migrate = { deadline = \"5s\" }", read(None));
        assert!(none.is_none() && problems[0].contains("command: is missing"), "{problems:?}");
    }

    #[test]
    fn a_schema_names_what_it_provides_and_accepts_it() {
        let read = |top: &Section<'_>| schema(&top.section("schema", SCHEMA_KEYS).unwrap());
        let (expand, problems) = check("schema = { provides = \"7\", accepts = [\"6\"] }", read);
        assert_eq!(problems, [""; 0]);
        let expand = expand.unwrap();
        assert_eq!(
            (expand.accepts, expand.kind),
            (vec!["6".into(), "7".into()], SchemaKind::Expand)
        );
        for (text, problem) in [
            ("schema = { accepts = [\"6\"] }", "schema.provides: is missing"),
            ("schema = { provides = \" 7\" }", "schema.provides: \" 7\" is not a version"),
            ("schema = { provides = \"7\", accepts = [\"\"] }", "\"\" is not a version"),
            ("schema = { provides = \"7\", kind = \"x\" }", "is not one of expand, contract"),
        ] {
            let (_, problems) = check(text, read);
            assert!(problems.iter().any(|p| p.contains(problem)), "{text}: {problems:?}");
        }
    }
}
