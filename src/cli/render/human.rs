//! Arrows, one line a phase, a heartbeat; a progress bar only on a terminal.

use indicatif::{ProgressBar, ProgressStyle};

use crate::api::reload::Reload;
use crate::api::{Event, Outcome, PhaseState, Plan, Verb};
use crate::cli::out;
use crate::cli::render::seen::Seen;
use crate::cli::render::{status, tables};
use crate::core::exit::Exit;
use crate::core::operation::outcome::Word;
use crate::text;

/// Shows events to people.
#[derive(Debug)]
pub struct Human {
    seen: Seen,
    bar: Option<ProgressBar>,
    /// Quarters of the artifact whose receipt was printed, without a terminal.
    n_quarters: u64,
    follows_log: bool,
    /// In a set: the member whose phases follow, padded to the longest name.
    member: Option<String>,
    width: usize,
    /// The services whose log lines follow, when there are several.
    logs: Vec<String>,
    plan: Option<Plan>,
}

/// The last answer.
fn shown(text: String) -> Option<u8> {
    out::result(text);
    Some(0)
}

fn reloaded(reload: &Reload) -> Option<u8> {
    reload.changes.iter().for_each(out::result);
    reload.warnings.iter().for_each(|warning| out::say(format!("warning: {warning}")));
    out::say(match (reload.applied, reload.changes.is_empty()) {
        (_, true) => "the files say what is in use",
        (true, false) => "configuration reloaded",
        (false, false) => "nothing was changed; next: halley-sup reload",
    });
    Some(0)
}

impl Human {
    pub fn new(verb: &Verb) -> Self {
        let follows_log = matches!(verb, Verb::Logs(_));
        Self {
            seen: Seen::default(),
            bar: None,
            n_quarters: 0,
            follows_log,
            member: None,
            width: 0,
            logs: Vec::new(),
            plan: None,
        }
    }

    pub fn reconnected(&mut self) {
        self.seen.replay();
    }

    pub fn show(&mut self, event: &Event) -> Option<u8> {
        if !self.seen.is_new(event) {
            return None;
        }
        match event {
            Event::Operation { service, op, kind, release, actor, .. } => {
                let release = release.map_or(String::new(), |n| format!("  release {n}"));
                out::say(format!("-----> {service}  {kind} {op}{release}  (by {actor})"));
                self.n_quarters = 0;
                if self.width > 0 {
                    self.member = Some(format!("{service:<0$}  ", self.width));
                }
            }
            Event::Set { set, members, actor, .. } => {
                self.width = members.iter().map(String::len).max().unwrap_or(0);
                out::say(format!("=====> set {set}  {}  (by {actor})", members.join(", ")));
            }
            Event::Member(member) => {
                let why = member.why.as_deref().and_then(|why| why.lines().next());
                let why = why.map_or(String::new(), |why| format!(": {why}"));
                let outcome = member.outcome.name().replace('_', " ");
                out::say(format!("       {:<1$}  {outcome}{why}", member.service, self.width));
            }
            Event::Phase { phase, state, ms, detail } => self.phase(phase, *state, *ms, detail),
            Event::Progress { bytes, total, .. } => self.progress(*bytes, *total),
            Event::Heartbeat { phase, ms } => {
                let member = self.member.as_deref().unwrap_or_default();
                let length = text::whole_seconds(*ms);
                out::say(format!("       … {member}{} for {length}", text::phase(phase)));
            }
            Event::Plan(plan) => self.plan = Some((**plan).clone()),
            Event::Backup(backup) => {
                out::result(tables::backups(std::slice::from_ref(&**backup)));
            }
            Event::Env(surroundings) => {
                for (name, value) in &surroundings.variables {
                    out::verbatim(format!("{name}={}", text::in_one_line(value)));
                }
                return Some(0);
            }
            Event::Status(status) => return shown(status::status(status)),
            Event::History { operations } => return shown(tables::history(operations)),
            Event::Releases { releases } => return shown(tables::releases(releases)),
            Event::Backups { backups } => return shown(tables::backups(backups)),
            Event::Reload(reload) => return reloaded(reload),
            Event::Restore(plan) => out::result(tables::restore(plan)),
            Event::Repair(plan) => out::result(tables::repair(plan)),
            Event::Logs { services } => self.logs.clone_from(services),
            Event::Log { service, line, .. } => self.log_line(service, line),
            Event::Result(outcome) => return Some(self.result(outcome)),
            Event::Error(trouble) => {
                // "Nothing to do" is no error.
                let text = out::four_lines(trouble);
                out::say(if trouble.meaning() == Exit::Done { trouble.why.clone() } else { text });
                return Some(trouble.exit);
            }
        }
        None
    }

    /// A line of a log, behind its service's name when there are several.
    fn log_line(&self, service: &str, line: &str) {
        let Some(at) = self.logs.iter().position(|name| name == service) else {
            return out::verbatim(line);
        };
        let width = self.logs.iter().map(String::len).max().unwrap_or(0);
        let name = out::coloured(at, &format!("{service:<width$}"));
        out::verbatim(format_args!("{name}  {line}"));
    }

    fn phase(&mut self, phase: &str, state: PhaseState, ms: u64, detail: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let state = match state {
            PhaseState::Start | PhaseState::Skip => return,
            PhaseState::Ok => "ok",
            PhaseState::Fail => "FAILED",
        };
        let name = text::phase(phase);
        let detail = detail.lines().next().unwrap_or_default();
        let member = self.member.as_deref().unwrap_or_default();
        out::say(format!("       {member}{name:<18} {state:<7} {:>8}  {detail}", text::took(ms)));
    }

    fn progress(&mut self, bytes: u64, total: Option<u64>) {
        if out::is_terminal() {
            let bar = self.bar.get_or_insert_with(|| new_bar(total));
            bar.set_position(bytes);
            return;
        }
        let Some(total) = total.filter(|total| *total > 0) else { return };
        let quarters = bytes * 4 / total;
        if quarters > self.n_quarters {
            self.n_quarters = quarters;
            let size = text::size(bytes);
            out::say(format!("       receiving          {:>3} %  {size}", quarters * 25));
        }
    }

    fn result(&mut self, outcome: &Outcome) -> u8 {
        if let Some(kept) = &outcome.kept {
            out::say(super::kept::text(kept));
        }
        for warning in &outcome.warnings {
            out::say(format!(" !     {warning}"));
        }
        if self.follows_log {
            return outcome.exit;
        }
        if !outcome.members.is_empty() {
            out::result(tables::members(&outcome.members));
        }
        match &outcome.trouble {
            Some(trouble) => out::say(out::four_lines(trouble)),
            None if !outcome.members.is_empty() => {
                out::result(format!("set {}: all releases are live", outcome.op));
            }
            None if outcome.outcome == Word::BackedUp => {}
            None if outcome.outcome == Word::Planned => {
                if let Some(plan) = &self.plan {
                    out::result(tables::plan(plan));
                }
            }
            None => out::result(good(outcome)),
        }
        outcome.exit
    }
}

/// The one line of a success.
fn good(outcome: &Outcome) -> String {
    let name = &outcome.service;
    let release = |n: Option<u64>| n.map_or("no release".to_owned(), |n| format!("release {n}"));
    let undo = outcome.next.first().map_or(String::new(), |next| format!("; undo: {next}"));
    match outcome.outcome.known() {
        Some(Word::Frozen) => {
            format!("{name}: frozen; releases are refused until halley-sup thaw {name}")
        }
        Some(Word::Told) => format!("{name}: the test notification was delivered"),
        Some(Word::Upgraded) => format!("{name} is upgraded; all services run on"),
        Some(Word::Thawed) => format!("{name}: releases are allowed again"),
        Some(Word::Restored) => {
            format!("{name}: the backup is restored, {} runs on it", release(outcome.serving))
        }
        Some(Word::Repaired) => format!("{name}: what could be rebuilt is rebuilt"),
        Some(Word::Drilled) => format!("{name}: the rollback rehearsal passed"),
        Some(Word::Committed) => format!("{name}: {} is live{undo}", release(outcome.release)),
        Some(Word::RolledBack) => format!("{name}: rolled back to {}", release(outcome.serving)),
        Some(Word::Restarted) => {
            format!("{name}: {} is restarted", release(outcome.serving))
        }
        Some(Word::Started) => format!("{name}: {} is started", release(outcome.serving)),
        Some(Word::Stopped) => {
            format!("{name}: stopped until halley-sup start {name}")
        }
        _ => format!("{name}: {}", outcome.outcome),
    }
}

fn new_bar(total: Option<u64>) -> ProgressBar {
    let known = "       receiving {bar:30} {bytes}/{total_bytes} {eta}";
    let unknown = "       receiving {spinner} {bytes}";
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), known),
        None => (ProgressBar::new_spinner(), unknown),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
