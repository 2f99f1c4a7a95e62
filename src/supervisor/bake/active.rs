//! What is asked of a watched release beside its health check: paths that should be good, its
//! metrics, and a command's opinion of it.
//!
//! These loops never end by themselves; the bake's end ends them, whatever they wait for.

use std::convert::Infallible;
use std::rc::Rc;

use crate::config::bake::{Command, Metrics};
use crate::core::analysis::signal::Name;
use crate::core::health::Sample;
use crate::keeper::protocol::End;
use crate::supervisor::bake::book::Book;
use crate::supervisor::bake::finding::Finding;
use crate::supervisor::bake::metrics::{self, Counters};
use crate::supervisor::health::command::{self, Ran};
use crate::supervisor::health::connection;
use crate::supervisor::health::probe;
use crate::supervisor::service::instances::Generation;

/// `EX_TEMPFAIL` of sysexits.h: try again later.
const UNCLEAR: i32 = 75;

/// Asks the wanted paths and the metrics, one round after another.
pub(super) async fn paths(book: &Book) -> Infallible {
    let signals = &book.generation.settings.bake.signals;
    if signals.wanted.is_empty() && signals.metrics.is_none() {
        return std::future::pending().await;
    }
    book.warmed_up().await;
    let (mut own, mut beside) = (Counters::default(), Counters::default());
    loop {
        if let Some(metrics) = &signals.metrics {
            let finding = read(book, metrics, &mut own, &mut beside).await;
            book.note(Name::Metrics, finding);
        }
        if !signals.wanted.is_empty() {
            book.note(Name::Wanted, wanted(book, &signals.wanted).await);
        }
        tokio::time::sleep(book.interval()).await;
    }
}

/// Every path at every instance, until one is bad.
async fn wanted(book: &Book, paths: &[String]) -> Finding {
    for instance in &book.generation.instances() {
        for path in paths {
            let probe = connection::path_at(&book.service, &book.generation, instance, path).await;
            if let Some(why) = probe.why() {
                return Finding::new(Sample::Bad, format!("instance {}: {why}", instance.index));
            }
        }
    }
    Finding::good()
}

/// A failed scrape is no evidence about the release: the health check covers that.
async fn read(
    book: &Book,
    metrics: &Metrics,
    own: &mut Counters,
    beside: &mut Counters,
) -> Finding {
    if let Err(error) = own.read(&book.service, &book.generation, metrics).await {
        return Finding::new(Sample::Unclear, error.to_string());
    }
    let old = match book.beside.as_ref().filter(|beside| beside.is_alive()) {
        Some(generation) => {
            // An old release that cannot be read now is represented by its last counters.
            if let Err(error) = beside.read(&book.service, generation, metrics).await {
                tracing::debug!(service = %book.service.name, why = %error, "the old release's metrics");
            }
            Some(&*beside)
        }
        None => None,
    };
    metrics::judge(metrics, own, old)
}

/// Runs the command again and again.
pub(super) async fn command(book: &Book) -> Infallible {
    let Some(command) = &book.generation.settings.bake.signals.command else {
        return std::future::pending().await;
    };
    book.warmed_up().await;
    loop {
        let mut finding = run(book, &book.generation, command).await;
        let beside = book.beside.as_ref().filter(|beside| beside.is_alive());
        if let (Sample::Bad, Some(beside)) = (finding.sample, beside) {
            finding = finding.beside(&run(book, beside, command).await);
        }
        book.note(Name::Command, finding);
        tokio::time::sleep(book.interval()).await;
    }
}

/// Beside every instance, until one is not good.
async fn run(book: &Book, generation: &Rc<Generation>, command: &Command) -> Finding {
    let old = book.beside.as_ref().map(|beside| beside.release.to_string());
    let env: Vec<_> = old.map(|old| ("HALLEY_OLD_RELEASE".to_owned(), old)).into_iter().collect();
    for instance in &generation.instances() {
        let ran = command::run(
            &book.service,
            generation,
            instance,
            &command.command,
            command.timeout,
            &env,
        )
        .await;
        let is_odd = !matches!(ran, Ran::Ended(End::Exited(0 | 1 | UNCLEAR)));
        let finding = opinion(&command.command, ran);
        if is_odd {
            book.warnings.borrow_mut().insert(format!("the bake's command: {}", finding.why));
        }
        if finding.sample != Sample::Good {
            return finding;
        }
    }
    Finding::good()
}

/// The finding that follows from how a command ended.
fn opinion(command: &[String], ran: Ran) -> Finding {
    let program = command.first().map_or("", String::as_str);
    let (sample, why) = match ran {
        Ran::Ended(End::Exited(0)) => return Finding::good(),
        Ran::Ended(end @ End::Exited(1)) => (Sample::Bad, end.to_string()),
        Ran::Ended(end) => (Sample::Unclear, end.to_string()),
        Ran::TooLate(limit) => (Sample::Unclear, probe::too_late(limit)),
        Ran::NotRun(why) => (Sample::Unclear, why),
    };
    Finding::new(sample, format!("{program}: {why}"))
}
