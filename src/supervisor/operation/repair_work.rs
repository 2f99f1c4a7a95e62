//! The work of a repair: what each damaged file becomes, and that it becomes so. A thread does it: trees are
//! hashed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::api::{Outcome, RepairPlan, RepairStep};
use crate::config::model::{self, Settings};
use crate::core::exit::Exit;
use crate::core::ids::{OpId, ReleaseId};
use crate::core::operation::machine::Kind;
use crate::core::operation::outcome::Word;
use crate::core::operation::phase::Phase;
use crate::core::retention::Verdict;
use crate::os::{clock, fs as durable};
use crate::store::damage::{self, Damage, Part};
use crate::store::journal::{self, Intent, Record};
use crate::store::layout::ServiceLayout;
use crate::store::rebuild::{Rebuilt, Traces};
use crate::store::release::{self, Manifest, ReleaseError};
use crate::store::salvage::{self, LOST, Salvage};
use crate::store::seal::{self, Listing};
use crate::store::state::{State, StateError};
use crate::store::trial::{self, Trial};
use crate::store::{migration, reserve};
use crate::supervisor::operation::phases::receive;

/// What is to be repaired.
pub(super) struct Work {
    /// Where.
    pub(super) paths: ServiceLayout,
    /// The service's configuration.
    pub(super) config: model::Service,
    /// The state of a service that is managed.
    pub(super) memory: Option<State>,
    /// Release and generation of each process that runs.
    pub(super) runs: Vec<(u64, u64)>,
    /// It is to be done, not only shown.
    pub(super) is_confirmed: bool,
}

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritten {
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// What belongs to a release.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// Anything else.
    #[error("{path}: {source}", path = path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
}

/// What a damaged file becomes.
enum Fix {
    Directory,
    State(Box<State>),
    Journal(OpId, Box<Salvage>),
    Trial(Trial),
    /// Only what is there is set aside.
    Gone,
    Current(ReleaseId),
    Manifest(ReleaseId, Box<Manifest>),
    Hashes(ReleaseId, Box<Listing>),
    Settings(ReleaseId, Box<Settings>),
    Verdict(ReleaseId, Verdict, Option<String>),
    /// It cannot be rebuilt.
    Lost,
}

/// What is known beside the damage.
struct Known {
    traces: Traces,
    rebuilt: Rebuilt,
    state: State,
}

impl Work {
    /// Finds what is damaged and, when that is confirmed, rebuilds it.
    ///
    /// # Errors
    /// When something cannot be written; what was rebuilt before stays so.
    pub(super) fn perform(&self) -> Result<RepairPlan, Unwritten> {
        let traces = Traces::of(&self.paths, self.runs.clone());
        let rebuilt = traces.state();
        let read = self.memory.clone().or_else(|| State::load(&self.paths).ok());
        let state = read.unwrap_or_else(|| rebuilt.state.clone());
        let known = Known { traces, rebuilt, state };
        let stamp = clock::now_rfc3339().replace([':', '-'], "");
        let mut plan = RepairPlan {
            service: self.config.name.to_string(),
            steps: Vec::new(),
            done: self.is_confirmed,
            notes: Vec::new(),
        };
        for damage in damage::find(&self.paths) {
            let (fix, text) = self.decide(&damage, &known);
            if matches!(fix, Fix::State(_)) && self.memory.is_none() {
                plan.notes.extend(known.rebuilt.notes.iter().cloned());
            }
            let lost = matches!(fix, Fix::Lost);
            let is_there = fs::symlink_metadata(&damage.path).is_ok();
            let kept = (!lost && is_there).then(|| set_aside(&damage.path, &stamp));
            if self.is_confirmed && !lost {
                if let Some(kept) = &kept {
                    self.spend(&damage.path, &mut || fs::rename(&damage.path, kept))?;
                }
                self.apply(&damage.path, fix)?;
            }
            plan.steps.push(RepairStep {
                path: damage.path.display().to_string(),
                why: damage.why,
                fix: text,
                lost,
                kept: kept.map(|kept| kept.display().to_string()),
            });
        }
        Ok(plan)
    }

    fn decide(&self, damage: &Damage, known: &Known) -> (Fix, String) {
        match damage.part {
            Part::Directory => (Fix::Directory, "an empty directory takes its place".to_owned()),
            Part::State => self.decide_state(known),
            Part::Journal(op) => self.decide_journal(op, known),
            Part::Trial => self.decide_trial(known),
            Part::Current => self.decide_current(known),
            Part::Manifest(release) => self.decide_manifest(release, known),
            Part::Hashes(release) => self.decide_hashes(release),
            Part::Settings(release) => self.decide_settings(release),
            Part::Verdict(release) => {
                let is_good = known.state.last_good.is_some_and(|good| good.release == release.0);
                let of_operations = known.traces.verdict(release.0);
                let (verdict, why) = if is_good { (Verdict::Good, None) } else { of_operations };
                let text = format!("{}, as its operations have ended", verdict.name());
                (Fix::Verdict(release, verdict, why), text)
            }
            Part::Tree(_) => (Fix::Lost, self.lost("the tree")),
        }
    }

    fn decide_state(&self, known: &Known) -> (Fix, String) {
        if let Some(state) = &self.memory {
            let text = "it is written again from the memory of the supervisor".to_owned();
            return (Fix::State(Box::new(state.clone())), text);
        }
        let Rebuilt { state, source, .. } = &known.rebuilt;
        let text = match state.last_good {
            Some(good) => format!("last good release {}, by {source}", good.release),
            None => format!("no last good release: {source}"),
        };
        (Fix::State(Box::new(state.clone())), text)
    }

    fn decide_journal(&self, op: OpId, known: &Known) -> (Fix, String) {
        let mut salvage = salvage::read(&self.paths, op);
        let n_lost = salvage.n_lost;
        if salvage.intent.is_none() {
            self.imagine(op, &mut salvage, known);
        }
        let text = match salvage.outcome().is_some() {
            true => format!("its whole lines are kept, {n_lost} are lost; operation {op} is over"),
            false => format!(
                "its whole lines are kept, {n_lost} are lost; operation {op} is closed: what serves \
                 stays, or a rollback leads to the last good release"
            ),
        };
        (Fix::Journal(op, Box::new(salvage)), text)
    }

    /// What an operation may have set out to do whose journal does not show it. It is never resumed.
    fn imagine(&self, op: OpId, salvage: &mut Salvage, known: &Known) {
        let good = known.state.last_good;
        let other = self.runs.iter().find(|run| good.is_none_or(|good| good.generation != run.1));
        let trial = trial::read(&self.paths).ok().flatten().map(|it| (it.release, it.generation));
        let release = trial.as_ref().or(other).copied();
        let old = good.map(|good| good.generation);
        let may_have_migrated = !matches!(migration::read(&self.paths, op), Ok(None));
        if may_have_migrated {
            salvage.records.push(Record::start(&Phase::Migrate.name(), "", None));
        }
        if release.is_none() && !may_have_migrated && salvage.outcome().is_none() {
            let name = self.config.name.as_str();
            let mut outcome = Outcome::new(Word::Interrupted.into(), name, op.0);
            outcome.last_good = good.map(|good| good.release);
            outcome.exit = Exit::Aborted.code();
            salvage.records.push(Record::result(outcome));
        }
        let (release, generation) = release.unwrap_or_default();
        salvage.intent = Some(Intent {
            version: journal::version(),
            op: op.0,
            kind: LOST.to_owned(),
            actor: String::new(),
            source: String::new(),
            at: clock::now_rfc3339(),
            boot_id: String::new(),
            release,
            generation,
            old,
            warm: old,
            left: None,
            ladder: Vec::new(),
            before: String::new(),
            inconclusive: String::new(),
            succession: String::new(),
            n_steps: 0,
            strategy: String::new(),
            shares: Vec::new(),
            max_gap_ms: None,
            force: false,
            no_way_back: None,
        });
    }

    fn decide_trial(&self, known: &Known) -> (Fix, String) {
        let open = known.traces.operations.first().filter(|(_, outcome)| outcome.is_none());
        let Some((intent, _)) = open else {
            return (Fix::Gone, "no operation is open, so no release is on trial".to_owned());
        };
        let (release, generation, op) = (intent.release, intent.generation, intent.op);
        let n_tries_left = trial::n_tries_left(&self.paths);
        let trial = Trial { version: 1, release, generation, op, n_tries_left };
        (Fix::Trial(trial), format!("release {release}, by the journal of operation {op}"))
    }

    fn decide_current(&self, known: &Known) -> (Fix, String) {
        let trial = trial::read(&self.paths).ok().flatten().map(|trial| trial.release);
        let good = known.state.last_good.map(|good| good.release);
        match trial.or(good) {
            Some(live) => (Fix::Current(ReleaseId(live)), format!("it points to release {live}")),
            None => (Fix::Gone, "no release is live".to_owned()),
        }
    }

    fn decide_manifest(&self, release: ReleaseId, known: &Known) -> (Fix, String) {
        let Ok(listing) = seal::list(&self.paths.release(release)) else {
            return (Fix::Lost, self.lost("the tree"));
        };
        let is_its =
            |intent: &Intent| intent.release == release.0 && intent.kind == Kind::Release.name();
        let intents = known.traces.operations.iter().map(|(intent, _)| intent);
        let intent = intents.clone().find(|intent| is_its(intent));
        let text = |get: fn(&Intent) -> &String| intent.map(get).cloned().unwrap_or_default();
        let manifest = Manifest {
            version: 1,
            digest: listing.digest,
            n_files: listing.n_files,
            size_bytes: listing.size_bytes,
            at: text(|intent| &intent.at),
            source: text(|intent| &intent.source),
            actor: text(|intent| &intent.actor),
            label: None,
        };
        let fix = Fix::Manifest(release, Box::new(manifest));
        (fix, "it is made from its tree and its journal".to_owned())
    }

    fn decide_hashes(&self, release: ReleaseId) -> (Fix, String) {
        let Ok(listing) = seal::list(&self.paths.release(release)) else {
            return (Fix::Lost, self.lost("the tree"));
        };
        let text = match release::manifest(&self.paths, release) {
            Ok(manifest) if manifest.digest != listing.digest => {
                let text = format!("the tree is not what was released: {}", self.lost("it"));
                return (Fix::Lost, text);
            }
            Ok(_) => "they are made from its tree, which is what was released",
            Err(_) => "they are made from its tree; whether it is what was released is not known",
        };
        (Fix::Hashes(release, Box::new(listing)), text.to_owned())
    }

    fn decide_settings(&self, release: ReleaseId) -> (Fix, String) {
        let Some(settings) = receive::settings_of(&self.config, &self.paths.release(release))
        else {
            return (Fix::Lost, self.lost("the settings"));
        };
        let text = "they are made from its release.toml and the configuration as it is now";
        (Fix::Settings(release, Box::new(settings)), text.to_owned())
    }

    fn lost(&self, what: &str) -> String {
        let name = &self.config.name;
        format!(
            "{what} cannot be rebuilt: halley-sup rollback {name} leads to another release \
             (halley-sup releases {name}), or release it again"
        )
    }

    fn apply(&self, path: &Path, fix: Fix) -> Result<(), Unwritten> {
        let paths = &self.paths;
        match fix {
            Fix::Lost | Fix::Gone => Ok(()),
            Fix::Directory => self.spend(path, &mut || paths.make(path)),
            // A managed one is saved by the thread that owns it.
            Fix::State(_) if self.memory.is_some() => Ok(()),
            Fix::State(state) => Ok(state.save(paths)?),
            Fix::Journal(op, left) => self.spend(path, &mut || salvage::write(paths, op, &left)),
            Fix::Trial(trial) => self.spend(path, &mut || trial::begin(paths, &trial)),
            Fix::Current(release) => {
                let target = Path::new("releases").join(release.to_string());
                self.spend(path, &mut || durable::swap_symlink(path, &target))
            }
            Fix::Manifest(release, manifest) => self
                .of(release, || release::write_part(paths, release, release::MANIFEST, &manifest)),
            Fix::Hashes(release, listing) => self.of(release, || {
                release::write_part(paths, release, release::HASHES, &listing.entries)
            }),
            Fix::Settings(release, settings) => self
                .of(release, || release::write_part(paths, release, release::SETTINGS, &settings)),
            Fix::Verdict(release, verdict, why) => {
                self.of(release, || release::set_verdict(paths, release, verdict, why))
            }
        }
    }

    /// A file about a release; its directory may be gone as a whole.
    fn of(
        &self,
        release: ReleaseId,
        write: impl FnOnce() -> Result<(), ReleaseError>,
    ) -> Result<(), Unwritten> {
        let dir = self.paths.meta(release);
        self.spend(&dir, &mut || durable::create_dir(&dir, 0o700))?;
        Ok(write()?)
    }

    fn spend(
        &self,
        path: &Path,
        write: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<(), Unwritten> {
        let written = reserve::spend(&self.paths.reserve(), write);
        written.map_err(|source| Unwritten::System { path: path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests;

/// The name that what is damaged has from here on.
fn set_aside(path: &Path, stamp: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{stamp}"));
    PathBuf::from(name)
}
