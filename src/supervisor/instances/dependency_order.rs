//! Many tasks in an order: each begins when those it waits for are done, the others side by side.

use std::future::Future;

use tokio::sync::watch;

use crate::supervisor::spawn;

/// Runs a task for each place of `waits`, which names the places that it waits for. Returns when
/// all are done.
pub(crate) async fn run<F>(waits: &[Vec<usize>], task: impl Fn(usize) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let done: Vec<watch::Sender<bool>> = waits.iter().map(|_| watch::channel(false).0).collect();
    let mut ends: Vec<_> = done.iter().map(watch::Sender::subscribe).collect();
    for (place, is_done) in done.into_iter().enumerate() {
        let before: Vec<_> =
            waits[place].iter().filter_map(|other| ends.get(*other).cloned()).collect();
        let task = task(place);
        spawn::local(async move {
            for mut other in before {
                // A service whose start broke off counts as done too.
                drop(other.wait_for(|is_done| *is_done).await);
            }
            task.await;
            is_done.send_replace(true);
        });
    }
    for end in &mut ends {
        drop(end.wait_for(|is_done| *is_done).await);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// Two in the middle that each wait for the other's beginning: side by side or never.
    #[test]
    fn who_waits_begins_afterwards_and_the_others_run_side_by_side() {
        let waits = [vec![], vec![0], vec![0], vec![1, 2]];
        let log: Rc<RefCell<Vec<usize>>> = Rc::default();
        let both = Rc::new(tokio::sync::Barrier::new(2));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let own = Rc::clone(&log);
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            run(&waits, |place| {
                let (log, both) = (Rc::clone(&own), Rc::clone(&both));
                async move {
                    if place == 1 || place == 2 {
                        both.wait().await;
                    }
                    log.borrow_mut().push(place);
                }
            })
            .await;
        });
        let mut order = log.borrow().clone();
        order[1..3].sort_unstable();
        assert_eq!(order, [0, 1, 2, 3]);
    }
}
