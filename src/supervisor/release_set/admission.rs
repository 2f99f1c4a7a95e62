//! How a set begins: all that can be known before is refused before, and all of it at once; then
//! its journal and its task. Nothing is begun of a set that is refused.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::api::{Part, Trouble};
use crate::core::exit::Exit;
use crate::core::ordered;
use crate::core::release_set::Set as Machine;
use crate::store::set::{self as journal, Intent, Planned};
use crate::supervisor::release_set::progress::{Artifact, Course};
use crate::supervisor::release_set::runner;
use crate::supervisor::service::occupied;
use crate::supervisor::service::release_set::ReleaseSet;
use crate::supervisor::service::stack::Stack;
use crate::supervisor::service::terms::Force;

/// A member with its artifact.
type Taken = (Part, OwnedFd);

/// Begins a set.
///
/// # Errors
/// All that stands against it.
pub(crate) fn begin(
    stack: &Rc<Stack>,
    actor: &str,
    parts: Vec<Part>,
    fds: VecDeque<OwnedFd>,
    force: Force,
) -> Result<Rc<ReleaseSet>, Trouble> {
    let mut taken = refuse(stack, parts, fds, force)?;
    let order = stack.order.borrow().clone();
    let place = |part: &Part| order.iter().position(|name| name.as_str() == part.service);
    ordered::sort(&mut taken, |(a, _), (b, _)| place(a) < place(b));
    let layout = &stack.shared.layout;
    let planned = taken.iter().map(|(part, _)| Planned {
        service: part.service.clone(),
        source: part.source.clone(),
        before: stack
            .find(&part.service)
            .ok()
            .and_then(|service| service.durable.last_good())
            .map(|release| release.0),
    });
    let intent = Intent::new(journal::next(layout), actor, planned.collect());
    let written = journal::create(layout, &intent).map_err(|error| {
        trouble(vec![(Exit::NoSpace, error.to_string())], &["halley-sup status".into()])
    })?;
    let artifacts =
        taken.into_iter().map(|(part, fd)| Some(Artifact { source: fd, name: part.source, force }));
    let course = Course::new(&intent, Machine::begin(&intent.before()), written)
        .with_artifacts(artifacts.collect());
    let set = ReleaseSet::new(&intent);
    stack.hold_for(&set);
    runner::spawn(stack, &set, course);
    Ok(set)
}

/// Each member with its artifact, or all that stands against any of them.
fn refuse(
    stack: &Rc<Stack>,
    parts: Vec<Part>,
    mut fds: VecDeque<OwnedFd>,
    force: Force,
) -> Result<Vec<Taken>, Trouble> {
    let mut failures = Vec::new();
    let mut next = vec!["halley-sup status".to_owned()];
    if let Some(running) = stack.set.borrow().as_ref() {
        failures
            .push((Exit::Busy, format!("{}; only one set runs at a time", running.busy_text())));
        next.push(format!("halley-sup watch --set {}", running.id));
    } else if let Err(error) = journal::open(&stack.shared.layout) {
        failures
            .push((Exit::Internal, format!("the result of the last set cannot be read: {error}")));
    }
    if parts.is_empty() {
        failures.push((Exit::Usage, "no service was named".to_owned()));
    }
    let mut names = BTreeSet::new();
    let mut taken = Vec::new();
    for part in parts {
        let name = part.service.clone();
        if !names.insert(name.clone()) {
            failures.push((Exit::Usage, format!("{name}: named twice")));
        }
        match stack.find(&name) {
            Ok(service) => {
                let against = occupied::obstacle(&service, "released");
                failures.extend(against.map(|why| (why.meaning(), format!("{name}: {}", why.why))));
                let frozen = occupied::frozen(&service, force);
                failures.extend(frozen.map(|why| (Exit::Busy, format!("{name}: {why}"))));
            }
            Err(unknown) => failures.push((unknown.meaning(), unknown.what)),
        }
        match (&part.missing, part.missing.is_none().then(|| fds.pop_front()).flatten()) {
            (Some(why), _) => failures.push((Exit::Usage, format!("{name}: {why}"))),
            (None, None) => {
                failures.push((Exit::Usage, format!("{name}: the request has no artifact")))
            }
            (None, Some(fd)) => taken.push((part, fd)),
        }
    }
    if failures.is_empty() { Ok(taken) } else { Err(trouble(failures, &next)) }
}

/// All failures as one.
fn trouble(failures: Vec<(Exit, String)>, next: &[String]) -> Trouble {
    let exit = Exit::of_all(failures.iter().map(|(exit, _)| *exit));
    let texts: Vec<String> = failures.into_iter().map(|(_, why)| why).collect();
    Trouble {
        what: "the set was not started".to_owned(),
        why: texts.join("\n"),
        still: "nothing was changed".to_owned(),
        next: next.to_vec(),
        exit: exit.code(),
    }
}
