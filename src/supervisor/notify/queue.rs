//! The outbox: notifications to targets, kept until they are delivered.
//!
//! [`Outbox::post`] writes a file for each target that subscribes to the notification and waits for
//! the disk, nothing else: a target that is slow or down delays no operation and no other target.
//! Each target has a task that delivers its own, oldest first, and sleeps while there are none.
//! After a crash or a reboot the next supervisor goes on with the files. A failure here is a
//! warning, never more.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::config::model::Target;
use crate::core::backoff::{self, Pauses};
use crate::core::notice::Notice;
use crate::core::time::Tick;
use crate::os::clock;
use crate::store::outbox::{self as store, Letter, Notification};
use crate::supervisor::notify::{deliver, message::Message};
use crate::supervisor::processes::keeper_client::Link;
use crate::supervisor::spawn;
use crate::text::count;

/// No pause is longer.
const LAST_MS: u64 = 15 * 60 * 1000;
/// The pauses after failed deliveries.
const PAUSES: Pauses = Pauses::doubling(500, LAST_MS);
/// A notification is not laid aside before it was tried so often.
const N_TRIES_MIN: u32 = 3;
/// More than this do not wait for one target.
const N_WAITING_MAX: usize = 1000;
/// Ids that were posted a moment ago.
const N_RECENT: usize = 256;

/// All targets, and what waits for them.
#[derive(Debug)]
pub(crate) struct Outbox {
    files: store::Outbox,
    link: Rc<Link>,
    host: String,
    /// What makes ids differ from those of another Halley.
    seed: String,
    lanes: RefCell<BTreeMap<String, Rc<Lane>>>,
    next: Cell<u64>,
    recent: RefCell<VecDeque<String>>,
}

/// What waits for one target, and the task that delivers it.
#[derive(Debug)]
struct Lane {
    target: RefCell<Rc<Target>>,
    waiting: RefCell<VecDeque<Waiting>>,
    /// There is more to do, or another way to do it.
    changed: Notify,
    /// Why the last delivery failed.
    trouble: RefCell<Option<String>>,
    task: RefCell<Option<JoinHandle<()>>>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    number: u64,
    /// Since when this supervisor knows of it. Boot time, because the wall clock of a small machine
    /// may be years off.
    since: Tick,
}

/// Why a test was not delivered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TestError {
    /// The configuration has no such target.
    #[error("there is no such target")]
    NoTarget,
    /// Its delivery failed.
    #[error(transparent)]
    Delivery(#[from] deliver::DeliverError),
}

impl Outbox {
    /// The outbox below a root, with what a supervisor before this one has left in it.
    pub(crate) fn open(dir: &Path, targets: &[Target], link: Rc<Link>) -> Rc<Self> {
        let files = store::Outbox::at(dir);
        if let Err(error) = files.prepare() {
            tracing::error!(path = %dir.display(), %error, "notifications cannot be stored");
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let outbox = Rc::new(Self {
            seed: format!("{host}\n{}", dir.display()),
            host,
            link,
            next: Cell::new(files.next_number()),
            lanes: RefCell::default(),
            recent: RefCell::default(),
            files,
        });
        outbox.configure(targets);
        for number in outbox.files.waiting() {
            outbox.take_in(number);
        }
        outbox
    }

    /// Other targets, or the same with another way. What waits for one that is gone is laid aside.
    pub(crate) fn configure(self: &Rc<Self>, targets: &[Target]) {
        let is_gone = |name: &String| !targets.iter().any(|target| target.name == *name);
        let gone: Vec<String> =
            self.lanes.borrow().keys().filter(|n| is_gone(n)).cloned().collect();
        for name in gone {
            let Some(lane) = self.lanes.borrow_mut().remove(&name) else { continue };
            if let Some(task) = lane.task.take() {
                task.abort();
            }
            for waiting in lane.waiting.take() {
                self.lay_aside(waiting.number, "its target is not in the configuration any more");
            }
        }
        for target in targets {
            let target = Rc::new(target.clone());
            let lane = self.lanes.borrow().get(&target.name).cloned();
            match lane {
                Some(lane) => {
                    lane.target.replace(target);
                    lane.changed.notify_one();
                }
                None => self.add(target),
            }
        }
    }

    fn add(self: &Rc<Self>, target: Rc<Target>) {
        let lane = Rc::new(Lane {
            target: RefCell::new(Rc::clone(&target)),
            waiting: RefCell::default(),
            changed: Notify::new(),
            trouble: RefCell::default(),
            task: RefCell::default(),
        });
        let (outbox, mine) = (Rc::clone(self), Rc::clone(&lane));
        let task = spawn::local(async move { outbox.deliver_all(&mine).await });
        lane.task.replace(Some(task));
        self.lanes.borrow_mut().insert(target.name.clone(), lane);
    }

    /// A file that a supervisor before this one wrote.
    fn take_in(&self, number: u64) {
        let letter = match self.files.get(number) {
            Ok(Some(letter)) => letter,
            Ok(None) => return,
            Err(error) => return self.lay_aside(number, &error.to_string()),
        };
        match self.lanes.borrow().get(&letter.target) {
            Some(lane) => {
                // A supervisor that died before it could record the post posts it again.
                self.is_new(&letter.notification.id);
                lane.push(number);
            }
            None => self.lay_aside(number, "its target is not in the configuration any more"),
        }
    }

    /// Ends all deliveries; what waits is for the next supervisor.
    pub(crate) fn stop(&self) {
        for lane in self.lanes.borrow().values() {
            if let Some(task) = lane.task.take() {
                task.abort();
            }
        }
    }

    /// Notifies every target that subscribes. When it returns the notification is on the disk, and
    /// its deliveries go on by themselves. What could not be written down is returned as warnings.
    pub(crate) fn post(&self, notice: Notice, message: Message) -> Vec<String> {
        let services: Vec<&str> = message.service.split(',').collect();
        let lanes: Vec<Rc<Lane>> = self.lanes.borrow().values().cloned().collect();
        let wants = |lane: &Rc<Lane>| lane.target.borrow().wants(notice, &services);
        let wanted: Vec<Rc<Lane>> = lanes.into_iter().filter(wants).collect();
        let notification = self.notification(notice, &message);
        if wanted.is_empty() || !self.is_new(&notification.id) {
            return Vec::new();
        }
        let mut warnings = Vec::new();
        for lane in wanted {
            let target = lane.target.borrow().name.clone();
            let notification = notification.clone();
            let letter = Letter { version: store::VERSION, target, notification };
            let number = self.next.get();
            self.next.set(number + 1);
            match self.files.put(number, &letter) {
                Ok(()) => {
                    self.make_room(&lane);
                    lane.push(number);
                }
                Err(error) => {
                    let name = &letter.target;
                    warnings.push(format!("notify {name}: {} is not sent: {error}", notice.name()));
                }
            }
        }
        warnings
    }

    /// Delivers a test at once, past the outbox.
    ///
    /// # Errors
    /// [`TestError`].
    pub(crate) async fn test(&self, name: &str) -> Result<(), TestError> {
        let lane = self.lanes.borrow().get(name).cloned();
        let target = lane.map(|lane| Rc::clone(&lane.target.borrow()));
        let target = target.ok_or(TestError::NoTarget)?;
        let notification = self.notification(Notice::Test, &Message::test(name));
        deliver::deliver(&self.link, &target, &notification).await.map_err(TestError::Delivery)
    }

    /// The targets' names.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.lanes.borrow().keys().cloned().collect()
    }

    /// The warnings that `status` shows.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let of = |(name, lane): (&String, &Rc<Lane>)| {
            let trouble = lane.trouble.borrow().clone()?;
            let n = lane.waiting.borrow().len();
            Some(format!(
                "notify {name}: {} waiting for delivery; last error: {trouble}",
                count(n, "notification")
            ))
        };
        let mut warnings: Vec<String> = self.lanes.borrow().iter().filter_map(of).collect();
        let n_dead = self.files.n_dead();
        if n_dead > 0 {
            let place = self.files.dead();
            let n_dead = count(n_dead, "notification");
            let text = format!("{n_dead} never delivered: {}", place.display());
            warnings.push(text);
        }
        warnings
    }

    async fn deliver_all(&self, lane: &Lane) {
        let mut n_tries = 0_u32;
        loop {
            let first = lane.waiting.borrow().front().copied();
            let Some(first) = first else {
                lane.changed.notified().await;
                continue;
            };
            let notification = match self.files.get(first.number) {
                Ok(Some(letter)) => letter.notification,
                // The file was removed by hand.
                Ok(None) => {
                    lane.done(first);
                    continue;
                }
                Err(error) => {
                    self.lay_aside(first.number, &error.to_string());
                    lane.done(first);
                    continue;
                }
            };
            let target = Rc::clone(&lane.target.borrow());
            match deliver::deliver(&self.link, &target, &notification).await {
                Ok(()) => {
                    if let Err(error) = self.files.remove(first.number) {
                        tracing::warn!(number = first.number, %error, "removing what was delivered");
                    }
                    lane.trouble.replace(None);
                    lane.done(first);
                    n_tries = 0;
                }
                Err(error) => {
                    n_tries += 1;
                    let why = error.to_string();
                    tracing::warn!(
                        target = target.name,
                        id = notification.id,
                        n_tries,
                        why,
                        "not delivered"
                    );
                    let age = Duration::from_millis(clock::tick().since_ms(first.since));
                    let is_hopeless = error.is_final() || age >= target.give_up;
                    lane.trouble.replace(Some(why.clone()));
                    if n_tries >= N_TRIES_MIN && is_hopeless {
                        self.lay_aside(first.number, &why);
                        lane.done(first);
                        n_tries = 0;
                        continue;
                    }
                    let pause = pause(n_tries, clock::monotonic_ns());
                    drop(tokio::time::timeout(pause, lane.another_way(&target)).await);
                }
            }
        }
    }

    fn lay_aside(&self, number: u64, why: &str) {
        tracing::error!(number, why, "a notification is given up");
        if let Err(error) = self.files.bury(number) {
            tracing::warn!(number, %error, "giving up a notification");
        }
    }

    /// The oldest but one gives way: the oldest may be on its way.
    fn make_room(&self, lane: &Lane) {
        let n = lane.waiting.borrow().len();
        let over = (n >= N_WAITING_MAX).then(|| lane.waiting.borrow_mut().remove(1)).flatten();
        if let Some(over) = over {
            self.lay_aside(over.number, "too many notifications wait");
        }
    }

    fn is_new(&self, id: &str) -> bool {
        let mut recent = self.recent.borrow_mut();
        if recent.iter().any(|known| known == id) {
            return false;
        }
        recent.push_front(id.to_owned());
        recent.truncate(N_RECENT);
        true
    }

    fn notification(&self, notice: Notice, message: &Message) -> Notification {
        Notification {
            version: store::VERSION,
            id: id(&self.seed, notice, message),
            at: clock::now_rfc3339(),
            host: self.host.clone(),
            event: notice.name().to_owned(),
            service: message.service.clone(),
            op: message.op,
            release: message.release,
            serving: message.serving,
            outcome: message.outcome.as_ref().map(ToString::to_string),
            exit: message.exit,
            what: message.what.clone(),
            why: message.why.clone(),
            still: message.still.clone(),
            next: message.next.clone(),
        }
    }
}

impl Lane {
    fn push(&self, number: u64) {
        self.waiting.borrow_mut().push_back(Waiting { number, since: clock::tick() });
        self.changed.notify_one();
    }

    fn done(&self, waiting: Waiting) {
        self.waiting.borrow_mut().retain(|other| other.number != waiting.number);
    }

    /// Resolves when the configuration has another way for it; more to deliver is no reason to
    /// try sooner.
    async fn another_way(&self, target: &Rc<Target>) {
        while **self.target.borrow() == **target {
            self.changed.notified().await;
        }
    }
}

/// The same for the same thing, also when a supervisor after a crash posts it again.
fn id(seed: &str, notice: Notice, message: &Message) -> String {
    let text = format!("{seed}\n{}\n{}\n{}", message.service, message.key, notice.name());
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn pause(n_tries: u32, chance: u64) -> Duration {
    let pause_ms = PAUSES.nth_ms(n_tries.saturating_sub(1));
    Duration::from_millis(backoff::spread(pause_ms, chance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_quarter_of_an_hour_and_differ() {
        for (n_tries, chance, ms) in
            [(1, 0, 250), (1, 999, 499), (2, 0, 500), (5, 0, 4000), (99, 0, 450_000)]
        {
            assert_eq!(pause(n_tries, chance).as_millis(), ms, "{n_tries}");
        }
        assert!(pause(99, 999).as_millis() < u128::from(LAST_MS));
    }

    #[test]
    fn an_id_is_the_same_for_the_same_thing() {
        let id = |notice, key: &str| {
            let message = Message { key: key.to_owned(), ..Message::test("x") };
            id("host", notice, &message)
        };
        assert_eq!(id(Notice::Failed, "1"), id(Notice::Failed, "1"));
        assert_ne!(id(Notice::Failed, "1"), id(Notice::Failed, "2"));
        assert_ne!(id(Notice::Failed, "1"), id(Notice::Held, "1"));
        assert_eq!(id(Notice::Failed, "1").len(), 32);
    }
}
