//! A service is taken down: its operation, its listeners, its processes.

use std::rc::Rc;

use crate::supervisor::instances::{ownership, retire};
use crate::supervisor::service::Service;
use crate::supervisor::spawn;

/// Stops a service: its operation, its listeners, its processes. New connections are refused from
/// the first moment on, those that are served are finished.
pub(crate) async fn take_down(service: &Rc<Service>) {
    let task = service.activity.take_task();
    if let Some(task) = task {
        task.abort();
        drop(task.await);
    }
    // What is just being started is seen, and stopped; nothing is started until all is down.
    let _turn = service.activity.starting().await;
    service.routing.clear();
    service.kept.end();
    let generations = service.fleet.all();
    let stops: Vec<_> = generations
        .into_iter()
        .map(|generation| {
            let service = Rc::clone(service);
            spawn::local(async move { retire::stop_now(&service, &generation).await })
        })
        .collect();
    service.slots.close(service.link()).await;
    for stop in stops {
        drop(stop.await);
    }
    service.slots.passers().end().await;
    service.condition.is_taken_down();
    ownership::reconcile(service).await;
}
