//! The watchdog: a program that has to say `WATCHDOG=1` again and again, and does not, hangs. It is ended, and
//! started again like one that crashed.

use std::rc::Rc;
use std::time::Duration;

use crate::core::watchdog::Watchdog;
use crate::keeper::protocol::{ChildId, Reach};
use crate::os::clock;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::{Generation, Instance};
use crate::supervisor::spawn;
use crate::text;

/// From `ABRT`, which may write a core, to `KILL`.
const ABORTED: Duration = Duration::from_secs(5);

/// Watches a process until its end. Without a watchdog there is no task, and nothing wakes up.
pub(crate) fn attend(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
    child: ChildId,
) {
    let limit = generation.settings.health.watchdog;
    if limit.is_zero() {
        return;
    }
    instance.heard.watch(Watchdog::begin(clock::tick(), text::ms(limit)));
    let (service, instance) = (Rc::clone(service), Rc::clone(instance));
    spawn::local(async move {
        let mut end = service.link().end_of(child);
        let over = async { drop(end.wait_for(Option::is_some).await) };
        tokio::pin!(over);
        loop {
            let left = instance.heard.watchdog().map(|dog| dog.left_ms(clock::tick()));
            tokio::select! {
                () = &mut over => return,
                () = instance.heard.stirred(left.map_or(limit, Duration::from_millis)) => {}
            }
            let is_hung =
                instance.heard.watchdog().is_some_and(|dog| dog.left_ms(clock::tick()) == 0);
            // One that is being stopped has a deadline of its own.
            if is_hung && !instance.was_asked_to_stop() {
                break;
            }
            if is_hung {
                return over.await;
            }
        }
        let text =
            format!("no WATCHDOG=1 for {}: it is ended", text::whole_seconds(text::ms(limit)));
        tracing::error!(service = %service.name, child = child.0, "{text}");
        end_it(&service, child, libc::SIGABRT, Reach::Process).await;
        if tokio::time::timeout(ABORTED, over).await.is_err() {
            end_it(&service, child, libc::SIGKILL, Reach::Tree).await;
        }
    });
}

async fn end_it(service: &Service, child: ChildId, signal: i32, reach: Reach) {
    if let Err(error) = service.link().signal(child, signal, reach, Vec::new()).await {
        tracing::error!(service = %service.name, %error, "ending a program that hangs");
    }
}
