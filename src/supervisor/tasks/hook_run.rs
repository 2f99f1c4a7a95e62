//! A point's commands, with the variables they are given.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::config::model::{Hook, Settings};
use crate::core::ids::{OpId, ReleaseId};
use crate::core::operation::machine::Kind;
use crate::core::operation::point::Point;
use crate::supervisor::service::Service;
use crate::supervisor::service::confinement::Confinement;
use crate::supervisor::tasks::hook_error::HookError;
use crate::supervisor::tasks::task::{self, Background, Task};

/// A point's hooks, ready to be run.
pub(crate) struct Call {
    pub(crate) point: Point,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) op: OpId,
    pub(crate) kind: Kind,
    /// In whose tree, with whose settings.
    pub(crate) release: ReleaseId,
    pub(crate) settings: Settings,
    /// What served before it.
    pub(crate) before: Option<ReleaseId>,
}

impl Call {
    /// None when the point has no hooks.
    pub(crate) fn new(
        op: OpId,
        kind: Kind,
        point: Point,
        of: (ReleaseId, Settings),
        before: Option<ReleaseId>,
    ) -> Option<Self> {
        let (release, settings) = of;
        let hooks = at(&settings, point);
        (!hooks.is_empty()).then_some(Self { point, hooks, op, kind, release, settings, before })
    }

    fn oneshot(&self, service: &Service, hook: &Hook, limit: Duration) -> Task {
        let before = self.before.map(|release| release.to_string()).unwrap_or_default();
        let env = [
            ("HALLEY_HOOK", self.point.name().to_owned()),
            ("HALLEY_OP", self.op.to_string()),
            ("HALLEY_OPERATION", self.kind.name().to_owned()),
            ("HALLEY_RELEASE_BEFORE", before),
        ];
        Task {
            name: format!("hook {}", self.point.name()),
            words: hook.command.clone(),
            confinement: Confinement::default(),
            env: env.map(|(name, value)| (name.to_owned(), value)).into(),
            release: self.release,
            settings: self.settings.clone(),
            limit,
            background: Background::GoesOn,
            input: None,
            log: Some(self.log(service)),
        }
    }

    fn log(&self, service: &Service) -> PathBuf {
        service.paths.output(self.op)
    }

    async fn run_one(
        &self,
        service: &Rc<Service>,
        hook: &Hook,
        limit: Duration,
    ) -> Result<(), HookError> {
        let oneshot = self.oneshot(service, hook, limit);
        let hook = format!("{} ({})", oneshot.name, hook.command.join(" "));
        let output = self.log(service);
        match task::run(service, oneshot).await {
            Ok(ended) if ended.is_good() => Ok(()),
            Ok(ended) => Err(HookError::Command { hook, ended, output }),
            Err(source) => Err(HookError::Task { source, output }),
        }
    }

    /// All of them, to the first that fails.
    pub(crate) async fn run_all(
        &self,
        service: &Rc<Service>,
        limit: impl Fn(Duration) -> Duration,
    ) -> Result<(), HookError> {
        for hook in &self.hooks {
            self.run_one(service, hook, limit(hook.deadline)).await?;
        }
        Ok(())
    }

    /// Each of them, whatever becomes of the others.
    pub(crate) async fn run_each(&self, service: &Rc<Service>) -> Result<(), HookError> {
        let mut errors = Vec::new();
        for hook in &self.hooks {
            errors.extend(self.run_one(service, hook, hook.deadline).await.err());
        }
        if errors.is_empty() { Ok(()) } else { Err(HookError::Several(errors)) }
    }

    pub(crate) fn commands(&self) -> String {
        let commands: Vec<String> = self.hooks.iter().map(|hook| hook.command.join(" ")).collect();
        commands.join("; ")
    }
}

/// A point's hooks in their order.
pub(crate) fn at(settings: &Settings, point: Point) -> Vec<Hook> {
    settings.hooks.iter().filter(|hook| hook.point == point).cloned().collect()
}
