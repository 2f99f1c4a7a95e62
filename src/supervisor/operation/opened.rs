//! An open operation as its journal has it, in the core's types.
//!
//! A value that this version does not know is never a default: what the operation set out to do
//! cannot be guessed, and a guess may start twice what allows only one instance.

use std::fmt;

use crate::config::model::Strategy;
use crate::core::ids::GenerationId;
use crate::core::operation::machine::{Cause, Inconclusive, Kind, Machine, Plan, Succession};
use crate::core::operation::phase::{HOOK, Phase};
use crate::core::operation::point::Point;
use crate::core::operation::way_back::Before;
use crate::store::journal::{Intent, Record};
use crate::store::state_word::StateWord;

/// A value in a journal that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnknownWord {
    /// The line, from 1.
    line: usize,
    /// The key that the value belongs to.
    key: &'static str,
    word: String,
}

/// What an operation is to be gone on with from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opened {
    /// What the operation is about.
    pub(crate) plan: Plan,
    /// The phase that was announced last; the first one when there is none.
    pub(crate) last: Phase,
    /// Why the operation left its way forward.
    pub(crate) cause: Cause,
    /// How the release was that it replaces.
    pub(crate) before: Before,
    /// How the new one takes over. The first journals do not say.
    pub(crate) strategy: Option<Strategy>,
}

/// Reads an operation from its journal.
///
/// # Errors
/// The first unknown value.
pub(crate) fn read(intent: &Intent, records: &[Record]) -> Result<Opened, UnknownWord> {
    let of_intent = |key, word: &str| UnknownWord { line: 1, key, word: word.to_owned() };
    let kind = Kind::parse(&intent.kind).ok_or_else(|| of_intent("kind", &intent.kind))?;
    let inconclusive = Inconclusive::parse(&intent.inconclusive)
        .ok_or_else(|| of_intent("inconclusive", &intent.inconclusive))?;
    let succession = match intent.succession.as_str() {
        // The first journals had no such key, and no other way.
        "" => Succession::Overlap,
        word => Succession::parse(word).ok_or_else(|| of_intent("succession", word))?,
    };
    let before = match intent.before.as_str() {
        "" => Before::Answers,
        word => Before::parse(word).ok_or_else(|| of_intent("before", word))?,
    };
    let n_cold = u8::try_from(intent.ladder.len()).unwrap_or(u8::MAX);
    let plan = Plan { kind, n_cold, inconclusive, succession, n_steps: intent.n_steps };
    let asked = if kind == Kind::Rollback { Cause::Asked } else { Cause::Refused };
    let (mut last, mut cause) = (Machine::begin(plan).phase(), asked);
    let after_flip = format!("{HOOK}{}", Point::AfterFlip.name());
    for (index, record) in records.iter().enumerate() {
        let unknown = |key, word: &str| UnknownWord { line: index + 2, key, word: word.to_owned() };
        match Phase::parse(&record.phase) {
            Some(phase) => last = phase,
            // They run beside the bake, which is the phase.
            None if record.phase == after_flip => {}
            None => return Err(unknown("phase", &record.phase)),
        }
        if let Some(StateWord::Newer(word)) = &record.state {
            return Err(unknown("state", word));
        }
        if !record.cause.is_empty() {
            let word = &record.cause;
            cause = Cause::parse(word).ok_or_else(|| unknown("cause", word))?;
        }
    }
    Ok(Opened { plan, last, cause, before, strategy: strategy(intent)? })
}

/// A strategy as a journal has it: its name, and a canary's steps.
pub(crate) fn words(strategy: &Strategy) -> (&'static str, Vec<u16>) {
    match strategy {
        Strategy::Overlap => ("overlap", Vec::new()),
        Strategy::Canary(shares) => ("canary", shares.clone()),
        Strategy::Hold => ("hold", Vec::new()),
        Strategy::Replace => ("replace", Vec::new()),
    }
}

fn strategy(intent: &Intent) -> Result<Option<Strategy>, UnknownWord> {
    let known = match intent.strategy.as_str() {
        "" => return Ok(None),
        "overlap" => Strategy::Overlap,
        "canary" => Strategy::Canary(intent.shares.clone()),
        "hold" => Strategy::Hold,
        "replace" => Strategy::Replace,
        word => return Err(UnknownWord { line: 1, key: "strategy", word: word.to_owned() }),
    };
    Ok(Some(known))
}

/// The phases that were announced, as far as they are known, in their order.
pub(crate) fn phases(records: &[Record]) -> impl DoubleEndedIterator<Item = Phase> {
    records.iter().filter_map(|record| Phase::parse(&record.phase))
}

/// The generation of the rung that a phase is about, when that was started cold.
pub(crate) fn rung(records: &[Record], phase: Phase) -> Option<GenerationId> {
    let rung = phase.rung().filter(|rung| *rung > 0)?;
    let of_rung =
        |record: &&Record| Phase::parse(&record.phase).and_then(Phase::rung) == Some(rung);
    let found = records.iter().rev().filter(of_rung).find_map(|record| record.generation);
    found.map(GenerationId)
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, key, word } = self;
        write!(f, "line {line}: unknown {key} \"{word}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PhaseState;
    use crate::core::ids::OpId;
    use crate::store::journal;
    use crate::store::layout::Layout;
    use crate::supervisor::tasks::hook_state::HookState;

    fn intent(change: impl FnOnce(&mut Intent)) -> Intent {
        let intent = serde_json::json!({
            "version": 1, "op": 3, "kind": "release", "actor": "", "source": "", "at": "",
            "boot_id": "", "release": 2, "generation": 2, "old": 1, "warm": 1, "ladder": [1],
            "inconclusive": "hold", "succession": "in_turn",
        });
        let mut intent = serde_json::from_value(intent).unwrap();
        change(&mut intent);
        intent
    }

    fn check(change: impl FnOnce(&mut Intent), records: &[Record], expected: Result<Phase, &str>) {
        let read = read(&intent(change), records);
        let last = read.map(|opened| opened.last).map_err(|unknown| unknown.to_string());
        assert_eq!(last, expected.map_err(str::to_owned));
    }

    #[test]
    fn known_words_say_where_to_go_on() {
        check(|_| {}, &[], Ok(Phase::Receive));
        check(|intent| intent.kind = "restart".to_owned(), &[], Ok(Phase::Park));
        let records = [
            Record::start("gate", "refused", None),
            Record::start("hook:before_flip", "", None),
            Record::end("hook:before_flip", PhaseState::Ok, 1, String::new()),
            Record::start("bake", "gate", None),
            Record::start("hook:after_flip", "", None),
        ];
        check(|_| {}, &records, Ok(Phase::Bake));
        assert_eq!(read(&intent(|_| {}), &records).unwrap().cause, Cause::Gate);
    }

    #[test]
    fn the_first_journals_had_no_succession() {
        let old = intent(|intent| intent.succession = String::new());
        assert_eq!(read(&old, &[]).unwrap().plan.succession, Succession::Overlap);
    }

    /// Hooks had their lines inside those of the phase that they belong to.
    #[test]
    fn a_journal_with_hooks_inside_of_phases_loads_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        paths.create().unwrap();
        std::fs::create_dir(paths.op(OpId(107))).unwrap();
        let fixture = include_str!("../../../tests/data/journal-v1-hooks.ndjson");
        let lines: Vec<&str> = fixture.lines().collect();
        // A supervisor may have died after any of the lines.
        for (n_lines, last, n_hooks) in [
            (3, Phase::Hook(Point::BeforeMigrate), 1),
            (5, Phase::Migrate, 1),
            (7, Phase::Hook(Point::BeforeStart), 2),
            (9, Phase::Start, 2),
            (11, Phase::Hook(Point::BeforeFlip), 3),
            (13, Phase::Gate, 3),
            (15, Phase::Flip, 3),
            (17, Phase::Bake, 4),
        ] {
            let text = format!("{}\n", lines[..n_lines].join("\n"));
            std::fs::write(journal::path(&paths, OpId(107)), text).unwrap();
            let (intent, records) = journal::read(&paths, OpId(107)).unwrap().unwrap();
            assert_eq!(read(&intent, &records).unwrap().last, last, "{n_lines} lines");
            let hooks = HookState::of(&records);
            let n_known = Point::ALL.into_iter().filter(|point| hooks.get(*point).is_some());
            assert_eq!(n_known.count(), n_hooks, "{n_lines} lines");
        }
    }

    #[test]
    fn a_strategy_is_read_back() {
        let canary = Strategy::Canary(vec![100, 2500]);
        for strategy in [Strategy::Overlap, canary, Strategy::Hold, Strategy::Replace] {
            let (word, shares) = words(&strategy);
            let intent = intent(|intent| (intent.strategy, intent.shares) = (word.into(), shares));
            assert_eq!(read(&intent, &[]).unwrap().strategy, Some(strategy));
        }
        assert_eq!(read(&intent(|_| {}), &[]).unwrap().strategy, None);
    }

    #[test]
    fn no_unknown_word_is_a_default() {
        let odd = || "sideways".to_owned();
        check(|i| i.kind = odd(), &[], Err("line 1: unknown kind \"sideways\""));
        check(|i| i.inconclusive = odd(), &[], Err("line 1: unknown inconclusive \"sideways\""));
        check(|i| i.succession = odd(), &[], Err("line 1: unknown succession \"sideways\""));
        check(|i| i.before = odd(), &[], Err("line 1: unknown before \"sideways\""));
        check(|i| i.strategy = odd(), &[], Err("line 1: unknown strategy \"sideways\""));
        let start = Record::start("gate", "refused", None);
        let line = |phase: &str, cause: &str| [start.clone(), Record::start(phase, cause, None)];
        check(|_| {}, &line("teleport", ""), Err("line 3: unknown phase \"teleport\""));
        check(|_| {}, &line("hook:at_noon", ""), Err("line 3: unknown phase \"hook:at_noon\""));
        check(|_| {}, &line("done", ""), Err("line 3: unknown phase \"done\""));
        check(|_| {}, &line("bake", "envy"), Err("line 3: unknown cause \"envy\""));
        let state = Some(StateWord::Newer(odd()));
        let records = [start.clone(), Record { state, ..start.clone() }];
        check(|_| {}, &records, Err("line 3: unknown state \"sideways\""));
    }

    #[test]
    fn a_cold_rung_is_the_generation_that_its_lines_name() {
        let records = [
            Record::start("back_start:1", "bake", Some(5)),
            Record::start("back_start:2", "bake", Some(6)),
            Record::start("back_gate:2", "bake", None),
        ];
        assert_eq!(rung(&records, Phase::BackGate(2)), Some(GenerationId(6)));
        assert_eq!(rung(&records, Phase::BackGate(1)), Some(GenerationId(5)));
        assert_eq!(rung(&records, Phase::BackGate(0)), None);
    }
}
