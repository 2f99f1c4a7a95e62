//! A command beside one instance, for checks and for bakes.

use std::rc::Rc;
use std::time::Duration;

use crate::keeper::protocol::End;
use crate::supervisor::health::route::Route;
use crate::supervisor::processes::child_tag::Role;
use crate::supervisor::processes::host_command::{
    self, Background, CommandError, HostCommand, Output,
};
use crate::supervisor::service::Service;
use crate::supervisor::service::child_spec;
use crate::supervisor::service::instances::{Generation, Instance};

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
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
    command: &[String],
    limit: Duration,
    env: &[(String, String)],
) -> Ran {
    let output = child_spec::output_name(&service.name, generation.id, instance.index);
    let mut launch = match child_spec::spec_of(service, generation, instance, output) {
        Ok(spec) => spec,
        Err(error) => return Ran::NotRun(error.to_string()),
    };
    launch.env.extend_from_slice(env);
    launch.listen.clear();
    launch.intercept.clear();
    if launch.isolation.take().is_some() {
        launch.beside = instance.pid();
    }
    launch.env.retain(|(name, _)| name != "NOTIFY_SOCKET");
    let fill = |(n, arg): (usize, &String)| match &instance.place {
        Some(place) if n > 0 => place.fill(arg),
        _ => arg.clone(),
    };
    let child = service.link().new_child();
    let way = match Route::open(service, instance, child.0).await {
        Ok(way) => way,
        Err(error) => return Ran::NotRun(error.to_string()),
    };
    let mut words: Vec<String> = command.iter().enumerate().map(fill).collect();
    way.tell(&mut words, &mut launch.env);
    way.surround(&generation.confinement, service, child, &mut launch);
    let command = HostCommand {
        name: command.first().cloned().unwrap_or_default(),
        words,
        launch,
        input: None,
        output: Output::Launch,
        // A check's command never outlives its probe.
        background: Background::Killed,
        limit,
        label: child_spec::label_of(service, generation, instance, Role::Probe),
    };
    let ran = host_command::run_as(&service.shared.link, child, command).await;
    drop(way);
    match ran {
        Ok(ended) => Ran::Ended(ended.end),
        Err(CommandError::Deadline { .. }) => Ran::TooLate(limit),
        Err(CommandError::Start { why, .. }) => Ran::NotRun(why),
        Err(error) => Ran::NotRun(error.to_string()),
    }
}
