//! What an operation carries from phase to phase, and what comes of a phase.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::config::model::Settings;
use crate::core::exit::Exit;
use crate::core::ids::{Generation, OpId, ReleaseId};
use crate::supervisor::service::candidate::{BegunBy, Candidate, WayBack};
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::service::terms::Terms;

use crate::core::operation::phase::Phase;
use crate::core::time::Tick;
use crate::store::intake::Received;
use crate::store::receipt::Receipt;
use crate::store::seal::Listing;
use crate::supervisor::bake::usage_history::SharedCurve;
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::service::Service;
use crate::supervisor::tasks::hook_state::HookState;

/// What an operation carries from phase to phase.
#[derive(Debug)]
pub(crate) struct Job {
    /// The operation's number.
    pub op: OpId,
    /// The actor that requested it.
    pub actor: String,
    /// The release it is about.
    pub release: ReleaseId,
    /// The candidate's generation.
    pub generation: Generation,
    /// The artifact, until it is received.
    pub source: Option<OwnedFd>,
    /// What was named as the artifact.
    pub source_name: String,
    /// On what terms it is wanted.
    pub terms: Terms,
    /// A supervisor before this one began it.
    pub is_resumed: bool,
    /// The generation that served when it began.
    pub old: Option<Generation>,
    /// The generation that is rung 0 of the way back.
    pub warm: Option<Generation>,
    /// Releases to start cold on the way back.
    pub ladder: Vec<ReleaseId>,
    /// The generation of the present rung, when it is started cold.
    pub rung: Option<Generation>,
    /// The rung before, which did not hold.
    pub left_rung: Option<Generation>,
    /// What came in.
    pub received: Option<Received>,
    /// The staged tree.
    pub staged: Option<Staged>,
    /// The backup that was taken.
    pub receipt: Option<Receipt>,
    /// The thread that takes the artifact in.
    pub intake: Intake,
    /// Since when connections wait.
    pub parked: Option<Tick>,
    /// How far its hooks have come.
    pub hooks: HookState,
    /// The last probes.
    pub transcript: Transcript,
    /// What the processes held while they were watched; it outlives a bake that is cut short.
    pub curve: SharedCurve,
    /// Why it left its way forward, for people.
    pub why: String,
    /// The exit code of a refusal before the start.
    pub exit: Option<Exit>,
    /// Things that went wrong without changing the outcome.
    pub warnings: Vec<String>,
}

/// A tree in `staging/`, with its listing and what its `release.toml` sets.
#[derive(Debug)]
pub(crate) struct Staged {
    /// Where it is.
    pub dir: PathBuf,
    /// What is in it.
    pub listing: Listing,
    /// The settings it will run with.
    pub settings: Settings,
    /// Its own version.
    pub label: Option<String>,
}

/// The thread of an intake and how to call it off.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    /// Set to call it off.
    pub cancelled: Arc<AtomicBool>,
    /// Done when it has let go of its files.
    pub idle: Arc<tokio::sync::Mutex<()>>,
}

impl Job {
    /// What the journal must know about a phase beside its name.
    pub(crate) fn notes(&self, phase: Phase) -> Option<u64> {
        phase.rung().filter(|rung| *rung > 0).and(self.rung).map(|generation| generation.0)
    }

    /// Sets aside what a phase needs and its announcement must name: a cold rung's generation.
    pub(crate) fn prepare(&mut self, service: &Service, phase: Phase) {
        if matches!(phase, Phase::BackStart(_)) {
            self.left_rung = self.rung.take();
            self.rung = Some(service.fleet.next_generation());
        }
    }

    /// What lower rooms must know of the release.
    pub(crate) fn candidate(&self) -> Candidate {
        Candidate {
            op: self.op,
            release: self.release,
            back_to: self.ladder.first().copied(),
            way_back: match self.terms.no_way_back {
                Some(_) => WayBack::Waived,
                None => WayBack::Required,
            },
            begun_by: if self.is_resumed { BegunBy::Predecessor } else { BegunBy::Us },
        }
    }

    /// Notes what came of a phase: the first exit code and the first reason count.
    pub(crate) fn note(&mut self, result: &PhaseResult) {
        if let Some(exit) = result.exit {
            self.exit.get_or_insert(exit);
        }
        if let Some(why) = &result.why {
            self.blame(why.clone());
        }
        self.warnings.extend(result.warnings.iter().cloned());
    }

    /// Notes why the operation leaves its way forward; the first reason is the one.
    pub(crate) fn blame(&mut self, why: impl Into<String>) {
        if self.why.is_empty() {
            self.why = why.into();
        }
    }
}
