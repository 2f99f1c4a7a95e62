//! A service for tests, without listeners, with a keeper that starts nothing.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use crate::config;
use crate::core::duty::Duty;
use crate::core::ids::{GenerationId, InstanceIndex, ReleaseId};
use crate::core::time::Tick;
use crate::store::layout::Layout;
use crate::supervisor::notify::queue::Outbox;
use crate::supervisor::processes::test_keeper::TestKeeper;
use crate::supervisor::service::history_book::HistoryBook;
use crate::supervisor::service::instances::{Generation, Instance};
use crate::supervisor::service::last_config::LastConfig;
use crate::supervisor::service::{Service, Shared};

const CONFIG: &str = r#"
root = "root"
[service.web]
command = ["/bin/true"]
strategy = "replace"
[service.web.stop]
linger = "0s"
drain = "0s"
timeout = "5s"
"#;

/// A service, and the keeper that it talks to.
pub(crate) struct TestService {
    pub(crate) service: Rc<Service>,
    pub(crate) keeper: Rc<TestKeeper>,
    _dir: tempfile::TempDir,
}

/// Runs a test with a service of its own.
pub(crate) fn with<F: Future<Output = ()>>(test: impl FnOnce(Rc<TestService>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let world = Rc::new(TestService::new().await);
        test(world).await;
    });
}

impl TestService {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config_path = dir.path().join("halley.toml");
        std::fs::write(&config_path, CONFIG).unwrap();
        let mut config = config::load(&config_path).unwrap();
        let (keeper, link) = TestKeeper::new().await;
        let layout = Layout::new(&config.root);
        let shared = Rc::new(Shared {
            outbox: Outbox::open(&layout.outbox(), &[], Rc::clone(&link)),
            link,
            boot_id: "boot".to_owned(),
            config_path,
            history: HistoryBook::new(layout.history()),
            layout,
            last_config: LastConfig::default(),
            next_port: Cell::new(0),
            stopping: Cell::new(false),
        });
        let (_, settings) = config.services.pop_first().unwrap();
        let service = Service::load(shared, settings).unwrap();
        service.paths.create().unwrap();
        Self { service, keeper, _dir: dir }
    }

    /// A generation with instances that do not run yet.
    pub(crate) fn generation(
        &self,
        id: u64,
        duty: Duty,
        instances: Vec<Instance>,
    ) -> Rc<Generation> {
        let settings = self.service.config().settings.clone();
        let (id, release) = (GenerationId(id), ReleaseId(id));
        let generation = Generation::new(id, release, settings, Tick(0), duty);
        for instance in instances {
            generation.add(Rc::new(instance));
        }
        self.service.fleet.insert(Rc::clone(&generation));
        if duty == Duty::Live {
            self.service.routing.point_at(id);
        }
        generation
    }

    /// The live generation, with one instance.
    pub(crate) fn live(&self) -> (Rc<Generation>, Rc<Instance>) {
        let generation = self.generation(1, Duty::Live, vec![plain()]);
        let instance = generation.instances().remove(0);
        (generation, instance)
    }

    /// Lets other tasks go on until it is so.
    pub(crate) async fn wait(&self, what: &str, is_true: impl Fn(&Self) -> bool) {
        let all = async {
            while !is_true(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), all).await;
        assert!(waited.is_ok(), "never: {what}");
    }

    /// Lets other tasks do what they have to do, so that what must not happen would have happened.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// An instance that listens nowhere.
pub(crate) fn plain() -> Instance {
    Instance::new(InstanceIndex(0), Vec::new(), None)
}
