//! The migration of live data: once per operation, from the new release's tree, under its own
//! deadline. It goes on when the supervisor dies, and the next one asks how it ended; when the keeper
//! dies too, its processes are found, and waited for or ended. It is never run a second time blindly:
//! the schema's probe decides, or a human.

use std::fmt::Display;
use std::rc::Rc;

use crate::config::duration;
use crate::config::model::{Migrate, Settings};
use crate::core::exit::Exit;
use crate::core::ids::{OpId, ReleaseId};
use crate::keeper::protocol::End;
use crate::os::clock;
use crate::os::proc::Identity;
use crate::store::migration::{self, Migration, Process};
use crate::store::receipt::Receipt;
use crate::store::release;
use crate::supervisor::data::aftermath::{self, Aftermath, Left};
use crate::supervisor::data::backup::{Hand, Site};
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::fresh;
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::processes::child_tag::Purpose;
use crate::supervisor::processes::host_command::ENDING;
use crate::supervisor::processes::whole_tree::{self, WholeTree};
use crate::supervisor::service::Service;
use crate::supervisor::service::candidate::{BegunBy, Candidate};
use crate::supervisor::service::confinement::Confinement;
use crate::supervisor::service::phase_result::PhaseResult;
use crate::supervisor::tasks::task::{self, Background, Task};
use crate::text;

/// Bytes of a name that PostgreSQL does not cut.
const CLIENT_BYTES_MAX: usize = 63;

/// Performs it, or finds out what became of it. `receipt` is of the backup before it.
pub(crate) async fn perform(
    service: &Rc<Service>,
    candidate: &Candidate,
    receipt: Option<&Receipt>,
    transcript: &mut Transcript,
) -> PhaseResult {
    let settings = match release::settings(&service.paths, candidate.release) {
        Ok(settings) => settings,
        Err(error) => return PhaseResult::refused(Exit::PreflightRefused, error.to_string()),
    };
    let Some(migrate) = settings.migrate.clone() else {
        return PhaseResult::skip("none declared").with_warnings(aftermath::left_before(service));
    };
    let begun = match migration::read(&service.paths, candidate.op) {
        Ok(begun) => begun,
        Err(error) => {
            return PhaseResult::refused(
                Exit::OldUnproven,
                format!("the record of the migration cannot be read: {error}"),
            );
        }
    };
    let hand = Hand::bringing(service, candidate.release, service.paths.output(candidate.op));
    let work = Work { service, candidate, settings, migrate, hand };
    let started = clock::tick();
    let (begun, left) = match begun {
        Some(begun) => {
            let left = work.found(&begun).await;
            (begun, left)
        }
        None if candidate.begun_by == BegunBy::Predecessor => {
            return PhaseResult::refused(
                Exit::Aborted,
                "the supervisor went down before the migration began",
            );
        }
        None => match work.begin(receipt).await {
            Start::Begun(begun) => {
                let left = work.run(&begun).await;
                (*begun, left)
            }
            Start::Not(result) => return result,
        },
    };
    let took = text::seconds(started, clock::tick());
    let hand = work.hand.as_ref();
    let warnings = Vec::new();
    let aftermath = Aftermath { service, candidate, hand, begun: &begun, transcript, warnings };
    aftermath.conclude(left, &took).await
}

/// Why a migration is found that was begun before.
const KILLED: &str = "Halley was killed during the migration";
const WENT_ON: &str = "which went on to its end";

/// A migration of live data.
struct Work<'a> {
    service: &'a Rc<Service>,
    candidate: &'a Candidate,
    settings: Settings,
    migrate: Migrate,
    /// What looks after the data; nothing where no backup is configured.
    hand: Option<Hand<'a>>,
}

/// Whether a migration is begun.
enum Start {
    /// It is written down.
    Begun(Box<Migration>),
    /// It is not, and nothing was touched.
    Not(PhaseResult),
}

impl Work<'_> {
    /// Writes down that it begins, with what the data is like before it.
    async fn begin(&self, receipt: Option<&Receipt>) -> Start {
        let nothing = |exit, why: String| {
            Start::Not(PhaseResult::refused(exit, format!("nothing was migrated: {why}")))
        };
        let before = match self.version().await {
            Ok(before) => before,
            Err(why) => return nothing(Exit::MigrationFailed, why.to_string()),
        };
        if before.is_some() && before.as_ref() == provided(&self.settings) {
            let mut warnings = aftermath::left_before(self.service);
            warnings.extend(aftermath::note_schema(self.service, before.as_deref()));
            let has = before.unwrap_or_default();
            let skipped = PhaseResult::skip(format!("the data has schema {has} already"));
            return Start::Not(skipped.with_warnings(warnings));
        }
        // Without data to back up there is none to count, and some drivers would make it.
        let counts = match (&self.hand, receipt) {
            (Some(hand), Some(_)) => hand.count(&Site::Live).await.ok(),
            _ => None,
        };
        let begun = Migration {
            version: 1,
            at: clock::now_rfc3339(),
            before,
            backup: receipt.map(|receipt| receipt.id.clone()),
            counts,
            process: None,
        };
        if let Err(error) = fresh::outdate(self.service) {
            return nothing(Exit::NoSpace, error.to_string());
        }
        match migration::begin(&self.service.paths, self.candidate.op, &begun) {
            Ok(()) => Start::Begun(Box::new(begun)),
            Err(error) => nothing(Exit::NoSpace, error.to_string()),
        }
    }

    async fn run(&self, begun: &Migration) -> Left {
        let note = |process: &Identity| {
            let process = Process {
                pid: process.pid,
                start_ticks: process.start_ticks,
                boot_id: process.boot_id.clone(),
            };
            let begun = Migration { process: Some(process), ..begun.clone() };
            let (service, op) = (self.service, self.candidate.op);
            if let Err(error) = migration::begin(&service.paths, op, &begun) {
                tracing::warn!(service = %service.name, %error, "recording a migration's process");
            }
        };
        let ended = task::run_through(self.service, self.command(), &self.purpose(), note).await;
        let failed = ended.map_or_else(|error| Some(error.to_string()), |ended| failure(&ended));
        self.judge(begun, failed).await
    }

    fn purpose(&self) -> Purpose {
        Purpose::Migration(self.candidate.op)
    }

    fn command(&self) -> Task {
        let client = client_name(self.service, self.candidate.op);
        Task {
            name: "migrate".to_owned(),
            words: self.migrate.command.clone(),
            env: self.hand.as_ref().map(|hand| hand.signature(&client)).unwrap_or_default(),
            confinement: Confinement::default(),
            release: self.candidate.release,
            settings: self.settings.clone(),
            limit: self.migrate.deadline,
            background: Background::Awaited(mark(self.service, self.candidate.op, "live")),
            input: None,
            log: Some(self.service.paths.output(self.candidate.op)),
        }
    }

    /// A supervisor before this one began it.
    async fn found(&self, begun: &Migration) -> Left {
        let why = match task::join(self.service, &self.command(), &self.purpose()).await {
            None => self.orphans_over(begun).await,
            // Its keeper was killed as well: what it came to is to be seen in the data alone.
            Some(Ok(ended)) if ended.end == End::Unknown => format!("{KILLED}, {WENT_ON}"),
            Some(Ok(ended)) => return self.judge(begun, failure(&ended)).await,
            Some(Err(error)) => return self.judge(begun, Some(format!("{KILLED}; {error}"))).await,
        };
        if let Err(error) = self.settled().await {
            return Left::Changed { why: format!("{why}; {error}") };
        }
        match self.version().await {
            Ok(Some(after)) if Some(&after) == provided(&self.settings) => {
                Left::Migrated { after: Some(after) }
            }
            Ok(Some(after)) if Some(&after) == begun.before.as_ref() => Left::Unchanged { why },
            Ok(after) => Left::Changed { why: format!("{why}{}", schema_text(after.as_deref())) },
            Err(error) => Left::Changed { why: format!("{why}; {error}") },
        }
    }

    /// Waits for what goes on without a keeper, or ends it at its deadline, which begins again.
    /// Returns what happened.
    async fn orphans_over(&self, begun: &Migration) -> String {
        let boot = &self.service.shared.boot_id;
        let leader = begun.process.clone().filter(|process| process.boot_id == *boot);
        let is_same_boot = leader.is_some();
        let leader = leader.map(|process| Identity {
            pid: process.pid,
            start_ticks: process.start_ticks,
            boot_id: process.boot_id,
        });
        let leader = leader.filter(Identity::is_alive);
        let tree = WholeTree { mark: mark(self.service, self.candidate.op, "live"), leader };
        let left = tree.left();
        if left.is_empty() {
            let what =
                if is_same_boot { KILLED } else { "the machine went down during the migration" };
            return format!("{what}, and it is not run again");
        }
        tracing::warn!(service = %self.service.name, processes = whole_tree::named(&left),
            "a migration of before is still running");
        match tree.over(self.migrate.deadline).await {
            Ok(()) => format!("{KILLED}, {WENT_ON}"),
            Err(left) => {
                let (limit, left) =
                    (duration::print(self.migrate.deadline), whole_tree::named(&left));
                tree.kill(ENDING).await;
                format!("{KILLED}; {left} ran longer than {limit}")
            }
        }
    }

    /// What a migration that is over has left; `failed` is why it is no success.
    async fn judge(&self, begun: &Migration, failed: Option<String>) -> Left {
        match (&failed, self.settled().await) {
            (Some(why), Err(error)) => return Left::Changed { why: format!("{why}; {error}") },
            (None, Err(error)) => {
                tracing::warn!(service = %self.service.name, %error, "looking for statements");
            }
            (_, Ok(())) => {}
        }
        match (failed, self.version().await) {
            (None, Ok(after)) => match (provided(&self.settings), &after) {
                (Some(wanted), Some(has)) if wanted != has => {
                    let why =
                        format!("migrate reported success, but the schema is {has}, not {wanted}");
                    if after == begun.before {
                        Left::Unchanged { why }
                    } else {
                        Left::Changed { why }
                    }
                }
                _ => Left::Migrated { after },
            },
            (None, Err(probe)) => Left::Changed { why: probe.to_string() },
            (Some(why), Ok(after)) if after.is_some() && after == begun.before => {
                Left::Unchanged { why }
            }
            (Some(why), Ok(after)) => {
                Left::Changed { why: format!("{why}{}", schema_text(after.as_deref())) }
            }
            (Some(why), Err(probe)) => Left::Changed { why: format!("{why}; {probe}") },
        }
    }

    /// Ends what a server still does for the migration's clients.
    async fn settled(&self) -> Result<(), DataError> {
        match &self.hand {
            Some(hand) => hand.settle(&client_name(self.service, self.candidate.op)).await,
            None => Ok(()),
        }
    }

    async fn version(&self) -> Result<Option<String>, DataError> {
        let open = Confinement::default();
        version(self.service, self.candidate.release, &self.settings, &open).await
    }
}

fn failure(ended: &task::Ended) -> Option<String> {
    (!ended.is_good()).then(|| format!("migrate: {}", ended.why()))
}

/// By what processes of an operation's migration are known.
pub(super) fn mark(service: &Service, op: OpId, on: &str) -> String {
    format!("{}/{on}", service.paths.op(op).display())
}

/// By what name a server knows the migration's clients.
pub(super) fn client_name(service: &Service, what: impl Display) -> String {
    let mut name = format!("halley-migrate-{what}-{}", service.name);
    name.truncate(CLIENT_BYTES_MAX);
    name
}

fn provided(settings: &Settings) -> Option<&String> {
    settings.schema.as_ref().map(|schema| &schema.provides)
}

fn schema_text(after: Option<&str>) -> String {
    match after {
        Some(after) => format!("; the data has schema {after}"),
        None => "; without migrate.probe the schema of the data is unknown".to_owned(),
    }
}

/// What the schema's probe prints, kept to what is given. `None` without a probe.
///
/// # Errors
/// When the probe fails or does not print exactly one line.
pub(crate) async fn version(
    service: &Rc<Service>,
    release: ReleaseId,
    settings: &Settings,
    confinement: &Confinement,
) -> Result<Option<String>, DataError> {
    let Some(migrate) = &settings.migrate else { return Ok(None) };
    let Some(words) = &migrate.probe else { return Ok(None) };
    let probe = Task {
        name: "migrate.probe".to_owned(),
        words: words.clone(),
        env: Vec::new(),
        confinement: confinement.clone(),
        release,
        settings: settings.clone(),
        limit: migrate.deadline,
        background: Background::Killed,
        input: None,
        log: None,
    };
    let ended = DataError::unless_good("migrate.probe", task::run(service, probe).await?)?;
    match ended.output.trim() {
        "" => Err(DataError::NoVersion),
        version if version.lines().count() > 1 => Err(DataError::ManyVersions),
        version => Ok(Some(version.to_owned())),
    }
}
