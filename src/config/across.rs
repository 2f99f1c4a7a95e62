//! What can only be seen with all services in sight: names twice, addresses in each other's way,
//! and the order in which to start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::check::Draft;
use super::listen::overlap;
use super::problem::Problem;
use crate::core::ids::ServiceName;
use crate::core::ordered::Ordered as _;

/// A draft with the file it was read from.
pub(super) struct Placed {
    file: PathBuf,
    pub(super) draft: Draft,
}

impl Placed {
    pub(super) fn new(file: &Path, draft: Draft) -> Self {
        Self { file: file.to_owned(), draft }
    }

    fn name(&self) -> &ServiceName {
        &self.draft.service.name
    }

    fn problem(&self, line: usize, key: &str, message: String) -> Problem {
        let mut path = format!("service.{}", self.name());
        if !key.is_empty() {
            path = format!("{path}.{key}");
        }
        Problem { line: Some(line), key: Some(path), ..Problem::of_file(&self.file, message) }
    }
}

/// Every problem between services.
pub(super) fn problems(services: &[Placed]) -> Vec<Problem> {
    let mut problems = twice(services);
    problems.extend(shared_addresses(services));
    problems.extend(unknown_after(services));
    problems.extend(cycle(services));
    problems
}

/// The order to start in: each service after those named in its `after`, and by name where that
/// leaves a choice. Services on a cycle are left out.
pub(super) fn order(services: &[Placed]) -> Vec<ServiceName> {
    let mut waiting: BTreeMap<_, BTreeSet<_>> = services
        .iter()
        .map(|placed| (placed.name(), placed.draft.service.after.iter().into_set()))
        .into_map();
    let mut order: Vec<ServiceName> = Vec::new();
    while let Some(next) = waiting.iter().find(|(_, after)| after.is_empty()) {
        let next: &ServiceName = next.0;
        waiting.remove(next);
        for after in waiting.values_mut() {
            after.remove(next);
        }
        order.push(next.clone());
    }
    order
}

fn twice(services: &[Placed]) -> Vec<Problem> {
    let mut first: BTreeMap<&ServiceName, &Placed> = BTreeMap::new();
    let mut problems = Vec::new();
    for placed in services {
        if let Some(earlier) = first.get(placed.name()) {
            let place = format!("{}:{}", earlier.file.display(), earlier.draft.line);
            let message = format!("there is a service of this name in {place}");
            problems.push(placed.problem(placed.draft.line, "", message));
        } else {
            first.insert(placed.name(), placed);
        }
    }
    problems
}

fn shared_addresses(services: &[Placed]) -> Vec<Problem> {
    let all: Vec<_> = services
        .iter()
        .flat_map(|placed| placed.draft.listen.iter().map(move |listen| (placed, listen)))
        .collect();
    let mut problems = Vec::new();
    for (index, (placed, listen)) in all.iter().enumerate() {
        let earlier = all[..index].iter().find(|(_, other)| overlap(&other.value, &listen.value));
        if let Some((owner, other)) = earlier {
            let place = format!("{}:{}", owner.file.display(), other.line);
            let message = format!(
                "{} is taken by service {} ({}, {place})",
                listen.value,
                owner.name(),
                other.value
            );
            problems.push(placed.problem(listen.line, "listen", message));
        }
    }
    problems
}

fn unknown_after(services: &[Placed]) -> Vec<Problem> {
    let names: BTreeSet<_> = services.iter().map(Placed::name).into_set();
    let mut problems = Vec::new();
    for placed in services {
        for after in placed.draft.after.iter().filter(|after| !names.contains(&after.value)) {
            let known = names.iter().map(|name| name.as_str());
            let message = format!("there is no service {}", after.value);
            let problem = placed.problem(after.line, "after", message);
            let meant = super::suggest::nearest(after.value.as_str(), known);
            problems.push(match meant {
                Some(meant) => problem.hint(format!("did you mean {meant}?")),
                None => problem,
            });
        }
    }
    problems
}

/// One cycle, by name, reported at its first service.
fn cycle(services: &[Placed]) -> Option<Problem> {
    let by_name: BTreeMap<_, _> = services.iter().map(|placed| (placed.name(), placed)).into_map();
    let mut done: BTreeSet<&ServiceName> = BTreeSet::new();
    for start in by_name.keys() {
        let mut path: Vec<&ServiceName> = Vec::new();
        if let Some(cycle) = walk(start, &by_name, &mut path, &mut done) {
            let placed = by_name.get(cycle.first()?)?;
            let names: Vec<_> = cycle.iter().map(|name| name.as_str()).collect();
            let message =
                format!("these services start after each other, in a circle: {}", names.join(", "));
            let next = names.get(1).or(names.first())?;
            let line = placed.draft.after.iter().find(|after| after.value.as_str() == *next);
            let line = line.map_or(placed.draft.line, |after| after.line);
            return Some(placed.problem(line, "after", message));
        }
    }
    None
}

/// Follows `after` depth first; the path from the first name seen again is a cycle.
fn walk<'a>(
    at: &'a ServiceName,
    by_name: &BTreeMap<&'a ServiceName, &'a Placed>,
    path: &mut Vec<&'a ServiceName>,
    done: &mut BTreeSet<&'a ServiceName>,
) -> Option<Vec<&'a ServiceName>> {
    if let Some(first) = path.iter().position(|name| *name == at) {
        return Some(path[first..].to_vec());
    }
    let placed = by_name.get(at)?;
    if !done.insert(at) {
        return None;
    }
    path.push(at);
    let after = placed.draft.service.after.iter();
    let found = after.into_iter().find_map(|next| walk(next, by_name, path, done));
    path.pop();
    found
}
