//! Tables for people.

use comfy_table::{ContentArrangement, Table, presets};

use crate::api::{BackupEntry, HistoryEntry, Member, Plan, ReleaseEntry, RepairPlan, RestorePlan};
use crate::os::clock;
use crate::text::{self, size};

/// What became of a set's members.
pub fn members(members: &[Member]) -> String {
    let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    let mut table = table(&["service", "op", "release", "outcome", "exit", "serving"]);
    for member in members {
        let ops = [member.op, member.back].into_iter().flatten().map(|op| op.to_string());
        let ops: Vec<String> = ops.collect();
        table.add_row([
            member.service.clone(),
            if ops.is_empty() { "-".to_owned() } else { ops.join(", ") },
            number(member.release),
            member.outcome.to_string(),
            number(member.exit.map(u64::from)),
            number(member.serving),
        ]);
    }
    trimmed(&table)
}

pub(super) fn ago(at: &str) -> String {
    text::ago(clock::age(at).unwrap_or_default())
}

/// What a release is going to do.
pub fn plan(plan: &Plan) -> String {
    let mut table = table(&["phase", "what", "size", "took before"]);
    for step in &plan.steps {
        table.add_row([
            text::phase(&step.phase),
            step.what.clone(),
            step.bytes.map_or(String::new(), size),
            step.ms.map_or(String::new(), text::tenths),
        ]);
    }
    let verdict = match (plan.rollback, plan.rollback_to) {
        (true, Some(to)) => format!("after this release, rollback to {to}: yes"),
        _ => "after this release, rollback: no".to_owned(),
    };
    format!(
        "{}: plan of release {}\n{}\n{verdict}, because {}",
        plan.service,
        plan.release,
        trimmed(&table),
        plan.because
    )
}

/// Backups, newest first.
pub fn backups(backups: &[BackupEntry]) -> String {
    let mut table =
        table(&["backup", "driver", "size", "release", "operation", "restored", "holds"]);
    for backup in backups {
        let holds: u64 = backup.counts.values().sum();
        let rows = backup.counts.len();
        table.add_row([
            match backup.pinned {
                Some(_) => format!("{} (pinned)", backup.id),
                None => backup.id.clone(),
            },
            backup.driver.clone(),
            size(backup.bytes),
            backup.release.map_or("-".to_owned(), |n| n.to_string()),
            backup.op.map_or("manual".to_owned(), |n| n.to_string()),
            backup.rehearsed.as_deref().map_or("never".to_owned(), ago),
            match (backup.counts.get("files"), rows) {
                (Some(files), 2) => text::count(files, "file"),
                (_, 0) => "-".to_owned(),
                _ => format!("{} in {}", text::count(holds, "row"), text::count(rows, "table")),
            },
        ]);
    }
    if backups.is_empty() { "no backups".to_owned() } else { trimmed(&table) }
}

/// What a restore would do, and what it would cost.
pub fn restore(plan: &RestorePlan) -> String {
    let lost = match (&plan.now, plan.lost.is_empty()) {
        (None, _) => {
            let why = plan.unread.as_deref().unwrap_or("no reason is given");
            format!("unknown: the live data cannot be read: {why}")
        }
        (Some(_), true) => plan.none.clone(),
        (Some(_), false) => {
            let unseen = Some(&plan.unseen).filter(|unseen| !unseen.is_empty());
            plan.lost.iter().chain(unseen).cloned().collect::<Vec<_>>().join("\n  ")
        }
    };
    let backup = &plan.backup;
    let release = backup.release.map_or("no release".to_owned(), |n| format!("release {n}"));
    let schema = backup.schema.as_ref().or(plan.schema.as_ref());
    let schema = schema.map_or("not known", String::as_str);
    let migration = plan.migration.iter().map(|text| format!("\nmigration: {text}"));
    let users = plan.users.iter().map(|text| format!("\nuses the data: {text}"));
    let warnings = plan.warnings.iter().map(|text| format!("\nwarning: {text}"));
    let more: String = migration.chain(users).chain(warnings).collect();
    format!(
        "{}: backup {} of {} ({}): {release}, schema {schema}, taken {}\nchosen: {}; it was \
         restored to scratch and checked{more}\nthis would be lost:\n  {lost}",
        plan.service,
        backup.id,
        backup.at,
        ago(&backup.at),
        backup.cause.as_deref().unwrap_or("for a reason not recorded"),
        plan.because,
    )
}

/// What is damaged, and what becomes of it.
pub fn repair(plan: &RepairPlan) -> String {
    let name = &plan.service;
    let mut lines = vec![format!("{name}: {} damaged", text::count(plan.steps.len(), "file"))];
    for step in &plan.steps {
        lines.push(format!("{}: {}", step.path, step.why));
        let kept = step.kept.iter().map(|kept| format!("; what was there is now {kept}"));
        lines.push(format!("  -> {}{}", step.fix, kept.collect::<String>()));
    }
    lines.extend(plan.notes.iter().map(|note| format!("note: {note}")));
    if !plan.done {
        lines.push(format!("nothing was changed; next: halley-sup repair {name} --yes"));
    }
    lines.join("\n")
}

/// Past operations, newest first.
pub fn history(operations: &[HistoryEntry]) -> String {
    let header = ["when", "service", "op", "what", "release", "outcome", "exit", "took", "by"];
    let mut table = table(&header);
    for entry in operations {
        table.add_row([
            entry.at.clone(),
            entry.service.clone(),
            entry.op.to_string(),
            entry.kind.clone(),
            entry.release.map_or("-".to_owned(), |n| n.to_string()),
            entry.outcome.clone(),
            entry.exit.to_string(),
            text::tenths(entry.ms),
            entry.actor.clone(),
        ]);
    }
    if operations.is_empty() { "nothing yet".to_owned() } else { trimmed(&table) }
}

/// The releases on disk, newest first.
pub fn releases(releases: &[ReleaseEntry]) -> String {
    let mut table = table(&["release", "verdict", "kept as", "version", "size", "staged", "tree"]);
    for entry in releases {
        table.add_row([
            entry.release.to_string(),
            entry.verdict.clone(),
            entry.roles.join(", "),
            entry.label.clone().unwrap_or_else(|| "-".to_owned()),
            size(entry.size_bytes),
            entry.at.clone(),
            entry.digest.chars().take(12).collect(),
        ]);
    }
    if releases.is_empty() { "none yet".to_owned() } else { trimmed(&table) }
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    table
}

pub(super) fn trimmed(table: &Table) -> String {
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

pub(super) fn first(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
