//! The `before_stop` hooks of a release that was replaced.

use std::rc::Rc;

use crate::core::ids::OpId;
use crate::core::operation::machine::Kind;
use crate::core::operation::point::Point;
use crate::core::retention::Verdict;
use crate::store::release;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::Generation;
use crate::supervisor::tasks::hook_run::{Call, at};

/// Before a release that was replaced is asked to stop: its own hooks, once. It is retired whatever
/// their result. None are run of a release that turned bad, and none at a restart.
pub(crate) async fn run(service: &Rc<Service>, generation: &Generation) {
    let hooks = at(&generation.settings, Point::BeforeStop);
    let is_restart = service.serving() == Some(generation.release);
    if hooks.is_empty() || is_restart || generation.tell_to_stop() {
        return;
    }
    let known = release::known(&service.paths, generation.release);
    let Some(good) = service.durable.state().last_good else { return };
    if known.is_ok_and(|known| known.verdict == Verdict::Good) {
        let call = Call {
            point: Point::BeforeStop,
            hooks,
            op: OpId(good.op),
            kind: Kind::Release,
            release: generation.release,
            settings: generation.settings.clone(),
            before: None,
        };
        if let Err(error) = call.run_each(service).await {
            tracing::warn!(service = %service.name, release = %generation.release, why = %error, "stopped all the same");
        }
    }
}
