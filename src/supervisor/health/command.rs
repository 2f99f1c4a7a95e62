//! A command beside one instance, for checks and for bakes.

use std::rc::Rc;
use std::time::Duration;

use crate::keeper::protocol::End;
use crate::supervisor::health::route::Route;
use crate::supervisor::processes::child_tag::Role;
use crate::supervisor::processes::keeper_child::{KeeperChild, Waited};
use crate::supervisor::service::Service;
use crate::supervisor::service::child_spec;
use crate::supervisor::service::instances::{Crew, Instance};

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ran {
    /// It ended by itself.
    Ended(End),
    /// It took longer than this.
    TooLate(Duration),
    /// It could not be run, because.
    NotRun(String),
}

/// Runs a command beside the instance: same tree, user, environment (and more of it) and log. It is
/// ended when it takes longer than `limit`, or when the wait for it is cancelled.
pub(crate) async fn run(
    service: &Rc<Service>,
    crew: &Rc<Crew>,
    instance: &Rc<Instance>,
    command: &[String],
    limit: Duration,
    env: &[(String, String)],
) -> Ran {
    let Some((program, args)) = command.split_first() else {
        return Ran::NotRun("there is no command".to_owned());
    };
    let output = child_spec::output_name(service, crew.generation, instance.index);
    let mut spec = match child_spec::spec_of(service, crew, instance, output) {
        Ok(spec) => spec,
        Err(error) => return Ran::NotRun(error.to_string()),
    };
    spec.env.extend_from_slice(env);
    spec.program.clone_from(program);
    let fill = |arg: &String| instance.place.as_ref().map_or(arg.clone(), |place| place.fill(arg));
    spec.args = args.iter().map(fill).collect();
    spec.listen.clear();
    spec.intercept.clear();
    if spec.isolation.take().is_some() {
        spec.beside = instance.run.borrow().as_ref().map(|run| run.identity.pid);
    }
    spec.env.retain(|(name, _)| name != "NOTIFY_SOCKET");
    let child = service.link().new_child();
    let way = match Route::open(service, instance, child.0).await {
        Ok(way) => way,
        Err(error) => return Ran::NotRun(error.to_string()),
    };
    way.tell(&mut spec);
    let label = child_spec::label_of(service, crew, instance, Role::Probe).print();
    // A check's command never outlives its probe, also when the probe is cancelled; what it left in
    // the background is ended with it.
    let mut child = match KeeperChild::spawn(&service.shared.link, child, label, spec).await {
        Ok(child) => child,
        Err(error) => return Ran::NotRun(error.to_string()),
    };
    let waited = child.wait(limit).await;
    drop(child);
    drop(way);
    match waited {
        Waited::Ended(end) => Ran::Ended(end),
        Waited::TooLate => Ran::TooLate(limit),
    }
}
