//! What an operation carries from phase to phase, and what comes of a phase.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::config::model::Settings;
use crate::core::ids::{Generation, OpId, ReleaseId};
use crate::core::operation::machine::Event as Step;
use crate::core::operation::phase::Phase;
use crate::core::time::Tick;
use crate::store::intake::Received;
use crate::store::receipt::Receipt;
use crate::store::seal::Listing;
use crate::supervisor::bake::usage_history::SharedCurve;
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::service::Service;
use crate::supervisor::tasks::hook_state::Marks;

/// What an operation carries from phase to phase.
#[derive(Debug)]
pub struct Job {
    /// The operation's number.
    pub op: OpId,
    /// Who asked.
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
    /// Since when callers wait.
    pub parked: Option<Tick>,
    /// How far its hooks have come.
    pub hooks: Marks,
    /// The last probes.
    pub transcript: Transcript,
    /// What the processes held while they were watched; it outlives a bake that is cut short.
    pub curve: SharedCurve,
    /// Why it left its way forward, for people.
    pub why: String,
    /// The exit code of a refusal before the start.
    pub exit: Option<u8>,
    /// Things that went wrong without changing the outcome.
    pub warnings: Vec<String>,
}

/// On what terms a release is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Also when it is frozen.
    pub force: Force,
    /// Why nobody will want to go back from it.
    pub no_way_back: Option<String>,
    /// How far it goes.
    pub extent: Extent,
}

impl Terms {
    /// The usual ones, but for frozen artifacts.
    #[must_use]
    pub fn with(force: Force) -> Self {
        Self { force, ..Self::default() }
    }
}

/// How far a release goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extent {
    /// To its end.
    #[default]
    Whole,
    /// To its plan: nothing is changed.
    Plan,
}

/// Whether a frozen artifact may be released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Force {
    /// It may not.
    #[default]
    No,
    /// Somebody said `--force`.
    Yes,
}

/// A tree in `staging/`, with what it says of itself.
#[derive(Debug)]
pub struct Staged {
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
pub struct Intake {
    /// Set to call it off.
    pub cancelled: Arc<AtomicBool>,
    /// Done when it has let go of its files.
    pub idle: Arc<tokio::sync::Mutex<()>>,
}

/// What came of a phase.
#[derive(Debug)]
pub struct Performed {
    /// For the machine.
    pub step: Step,
    /// For people.
    pub detail: String,
    kind: Done,
}

#[derive(Debug, PartialEq, Eq)]
enum Done {
    It,
    Nothing,
}

impl Performed {
    /// It was performed.
    pub fn ok(detail: impl Into<String>) -> Self {
        Self { step: Step::Ok, detail: detail.into(), kind: Done::It }
    }

    /// There was nothing to do.
    pub fn skip(detail: impl Into<String>) -> Self {
        Self { step: Step::Ok, detail: detail.into(), kind: Done::Nothing }
    }

    /// It went otherwise.
    pub fn not(step: Step, detail: impl Into<String>) -> Self {
        Self { step, detail: detail.into(), kind: Done::It }
    }

    /// Whether there was nothing to do.
    pub fn skipped(&self) -> bool {
        self.kind == Done::Nothing
    }
}

impl Job {
    /// What the journal must know about a phase beside its name.
    pub fn notes(&self, phase: Phase) -> Option<u64> {
        phase.rung().filter(|rung| *rung > 0).and(self.rung).map(|generation| generation.0)
    }

    /// Sets aside what a phase needs and its announcement must name: a cold rung's generation.
    pub fn prepare(&mut self, service: &Service, phase: Phase) {
        if matches!(phase, Phase::BackStart(_)) {
            self.left_rung = self.rung.take();
            self.rung = Some(service.fleet.next_generation());
        }
    }

    /// Notes why the operation leaves its way forward; the first reason is the one.
    pub fn blame(&mut self, why: impl Into<String>) {
        if self.why.is_empty() {
            self.why = why.into();
        }
    }
}

/// The operation ends here, before anything was started.
pub fn refuse(job: &mut Job, exit: u8, why: &str) -> Performed {
    job.exit.get_or_insert(exit);
    job.blame(why);
    Performed::not(Step::Failed, why)
}
