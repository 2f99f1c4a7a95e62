//! All that a running operation owns. [`runner`](super::runner) holds it, and hands each phase the
//! values that the phase reads or writes. It must never be passed whole: its fields are its own.

use std::rc::Rc;

use crate::core::operation::machine::{Kind, Machine, Outcome};
use crate::core::operation::phase::Phase;
use crate::core::operation::point::Point;
use crate::core::time::Tick;
use crate::store::journal::Journal;
use crate::store::receipt::Receipt;
use crate::supervisor::data::migration;
use crate::supervisor::operation::alarm;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::operation::cold_rungs::ColdRungs;
use crate::supervisor::operation::conclude;
use crate::supervisor::operation::findings::Findings;
use crate::supervisor::operation::hooks;
use crate::supervisor::operation::intake::Intake;
use crate::supervisor::operation::phases::{
    backup, bake, candidate, commit, flip, hold, in_turn, preflight, receive, rollback,
    rollout_step, undo,
};
use crate::supervisor::operation::watching::Watching;
use crate::supervisor::rollback_readiness::{rehearsal, schema};
use crate::supervisor::service::Service;
use crate::supervisor::service::operation::Operation;
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::tasks::hook_state::{HookState, Noting};

/// All that a running operation owns.
#[derive(Debug)]
pub(crate) struct Job {
    assignment: Assignment,
    intake: Intake,
    /// The backup that was taken.
    receipt: Option<Receipt>,
    /// Since when connections wait.
    parked: Option<Tick>,
    rungs: ColdRungs,
    watching: Watching,
    hooks: HookState,
    findings: Findings,
}

impl Job {
    /// A new operation's.
    pub(crate) fn new(assignment: Assignment, intake: Intake, warnings: Vec<String>) -> Self {
        let (rungs, hooks) = Default::default();
        let findings = Findings { warnings, ..Findings::default() };
        Self { intake, ..Self::resumed(assignment, rungs, hooks, findings) }
    }

    /// The job of an operation that a supervisor before this one began, as far as its journal has it.
    pub(crate) fn resumed(
        assignment: Assignment,
        rungs: ColdRungs,
        hooks: HookState,
        findings: Findings,
    ) -> Self {
        Self {
            assignment,
            intake: Intake::default(),
            receipt: None,
            parked: None,
            rungs,
            watching: Watching::default(),
            hooks,
            findings,
        }
    }

    /// Sets aside what a phase needs and its announcement must name: a cold rung's generation.
    pub(super) fn prepare(&mut self, service: &Service, phase: Phase) {
        if matches!(phase, Phase::BackStart(_)) {
            self.rungs.advance(service.fleet.next_generation());
        }
    }

    /// What the journal must know about a phase beside its name.
    pub(super) fn number(&self, phase: Phase) -> Option<u64> {
        self.rungs.number(phase)
    }

    /// Performs the machine's phase, with the values that are its own.
    pub(super) async fn perform(
        &mut self,
        service: &Rc<Service>,
        operation: &Rc<Operation>,
        machine: &Machine,
        journal: &mut Journal,
    ) -> PhaseResult {
        let Self { assignment, intake, receipt, parked, rungs, watching, hooks, findings } = self;
        let (assignment, plan) = (&*assignment, machine.plan());
        let (offered, held) = (assignment.candidate(), receipt.as_ref());
        let generation = |rungs: &ColdRungs, rung| rungs.generation(service, assignment, rung);
        let transcript = &mut watching.transcript;
        match machine.phase() {
            Phase::Receive => receive::receive(service, operation, intake).await,
            Phase::Verify => receive::verify(service, operation, assignment, intake).await,
            Phase::Preflight => {
                let staged = intake.staged.as_ref();
                preflight::preflight(service, operation, assignment, staged).await
            }
            Phase::Stage => receive::stage(service, assignment, intake).await,
            Phase::RehearseOld => rehearsal::old(service, &offered, transcript).await,
            Phase::Backup => backup::take(service, &offered, receipt).await,
            Phase::RestoreRehearsal => backup::rehearse(service, &offered, held, transcript).await,
            Phase::Migrate => migration::perform(service, &offered, held, transcript).await,
            Phase::Hook(point) => {
                let mut noting = Noting::new(operation, journal, hooks);
                hooks::at(service, &mut noting, assignment, (plan.kind, point), *parked).await
            }
            Phase::Park => in_turn::park(service, parked).await,
            Phase::StopOld => in_turn::stop_old(service, parked).await,
            Phase::Start => candidate::start(service, assignment).await,
            Phase::Gate => candidate::gate(service, assignment, *parked, transcript).await,
            Phase::Step(step) => {
                rollout_step::perform(service, assignment, plan, step, watching).await
            }
            Phase::Flip => flip::flip(service, assignment, plan.kind, *parked).await,
            Phase::Bake => {
                let bake = bake::bake(service, assignment, plan, watching);
                if plan.kind != Kind::Release {
                    return bake.await;
                }
                let mut noting = Noting::new(operation, journal, hooks);
                let warnings = &mut findings.warnings;
                hooks::beside_bake(service, &mut noting, assignment, bake, warnings).await
            }
            Phase::StepHold(_) | Phase::Hold => hold::hold(service, assignment, machine).await,
            Phase::Commit => commit::commit(service, operation, assignment, machine.cause()),
            Phase::Undo => {
                let reason = findings.reason();
                undo::undo(service, assignment, plan.succession, intake, reason).await
            }
            Phase::BackStart(rung) => {
                rollback::start(service, assignment, rung, rungs, plan.succession, parked).await
            }
            Phase::BackGate(rung) => {
                rollback::gate(service, generation(rungs, rung), rung, transcript).await
            }
            Phase::BackFlip(rung) => {
                rollback::flip(service, generation(rungs, rung), *parked).await
            }
            Phase::BackVerify(rung) => rollback::verify(service, generation(rungs, rung)).await,
            Phase::BackCommit(rung) => {
                let reason = findings.reason();
                let (generation, cause) = (generation(rungs, rung), machine.cause());
                rollback::commit(service, operation, assignment, generation, cause, reason)
            }
            Phase::Stranded => rollback::stranded(service, assignment.op, rungs, findings).await,
            Phase::Done(_) => PhaseResult::skip(""),
        }
    }

    /// Notes what came of a phase.
    pub(super) fn note(&mut self, result: &PhaseResult) {
        self.findings.note(result);
    }

    /// Leaves the way forward for this reason, whatever else was found.
    pub(super) fn abort(&mut self, why: String) {
        self.findings.why = why;
    }

    /// Why what fails from here on cannot be taken back; it is a warning, too.
    pub(super) fn no_way_back(&mut self, service: &Service) -> Option<String> {
        let why = schema::no_way_back(service, &self.assignment.candidate())?;
        self.findings.warnings.push(format!("it is not rolled back by itself: {why}"));
        Some(why)
    }

    /// What failed is held: nobody must overlook it.
    pub(super) fn raise_held(&self, service: &Rc<Service>) {
        alarm::raise_held(service, &self.assignment, &self.findings);
    }

    /// `abort` does not wait for hooks after the end.
    pub(super) fn abort_hook(
        &mut self,
        operation: &Operation,
        journal: &mut Journal,
        point: Point,
    ) {
        hooks::abort(&mut Noting::new(operation, journal, &mut self.hooks), point);
    }

    /// Ends the operation.
    pub(super) async fn conclude(
        self,
        service: &Rc<Service>,
        operation: &Rc<Operation>,
        journal: &mut Journal,
        ended: Outcome,
    ) {
        let Self { assignment, watching, hooks, mut findings, .. } = self;
        findings.warnings.extend(hooks.warnings());
        conclude::finish(service, operation, journal, &assignment, &findings, &watching, ended)
            .await;
    }
}
