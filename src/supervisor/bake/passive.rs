//! What is seen of a watched release without sending a request: what its processes hold and what
//! they log, beside those of the old one.

use std::collections::BTreeMap;

use crate::config::bake::ErrorLines;
use crate::core::analysis::signal::Name;
use crate::core::ordered::Ordered as _;
use crate::core::time::Tick;
use crate::os::clock;
use crate::supervisor::bake::book::Book;
use crate::supervisor::bake::error_lines::{self, Lines};
use crate::supervisor::bake::finding::{Finding, Stage};
use crate::supervisor::bake::resources::{self, Held, Resources};
use crate::supervisor::bake::usage_history::Point;
use crate::supervisor::service::instances::Generation;

/// What one bake sees so.
#[derive(Debug)]
pub(super) struct Quiet {
    own: Resources,
    beside: Option<Resources>,
    lines: Option<Lines>,
}

impl Quiet {
    /// Begins with what is there now.
    pub(super) fn begin(book: &Book) -> Self {
        let signals = &book.generation.settings.bake.signals;
        let bounds = resources::bounds(signals);
        let beside = book.beside.as_ref().map(|beside| Resources::new(beside, bounds.clone()));
        Self {
            own: Resources::new(&book.generation, bounds),
            beside,
            lines: signals.error_lines.as_ref().map(|wanted| lines_of(book, wanted)),
        }
    }

    /// One look, noted in the book.
    pub(super) fn look(&mut self, book: &Book) {
        let now = clock::tick();
        let stage = book.stage(now);
        let found = self.lines.as_mut().and_then(|lines| lines.look(now, stage));
        let (held, beside) = (self.own.held(), self.beside.as_ref().map(Resources::held));
        self.draw(book, now, &held, beside.as_deref());
        let limit = self.own.near_limit(&held);
        let other = match (&self.beside, &beside) {
            (Some(resources), Some(held)) => resources.near_limit(held),
            _ => Finding::good(),
        };
        book.note(Name::FileLimit, limit.beside(&other));
        if let Some(finding) = found {
            book.note(Name::ErrorLines, finding);
        }
        if stage == Stage::WarmUp {
            return;
        }
        let others: BTreeMap<Name, Finding> = match (&mut self.beside, &beside) {
            (Some(resources), Some(held)) => resources.judge(held).into_iter().into_map(),
            _ => BTreeMap::new(),
        };
        for (name, finding) in self.own.judge(&held) {
            let other = others.get(&name).cloned().unwrap_or_else(Finding::good);
            book.note(name, finding.beside(&other));
        }
    }

    fn draw(&self, book: &Book, now: Tick, held: &[Held], beside: Option<&[Held]>) {
        let (n_own, n_beside) = self.lines.as_ref().map(Lines::n_seen).unzip();
        let mut curve = book.curve.borrow_mut();
        let mut push = |generation: &Generation, held: &[Held], n_error_lines| {
            for one in held {
                let point = Point { at: now, usage: one.usage, n_error_lines };
                curve.push(generation.release, one.index, point);
            }
        };
        push(&book.generation, held, n_own);
        if let (Some(generation), Some(held)) = (&book.beside, beside) {
            push(generation, held, n_beside);
        }
    }
}

fn lines_of(book: &Book, wanted: &ErrorLines) -> Lines {
    let own = book.service.logs.path(book.generation.release);
    // Two generations of one release share a log: its lines cannot be attributed to either.
    let beside = book.beside.as_ref().filter(|beside| beside.release != book.generation.release);
    let beside = beside.map(|beside| book.service.logs.path(beside.release));
    // The old one had all connections until the operation began; when that was, its journal knows.
    let began = book.service.activity.operation().map(|running| running.at.borrow().clone());
    let before = beside.as_deref().zip(began).and_then(|(path, began)| {
        let span_ms = wanted.max_rate.per_ms.max(book.until.since_ms(book.begun));
        error_lines::before(path, wanted, &began, span_ms)
    });
    Lines::new(wanted, &own, beside.as_deref(), before)
}
