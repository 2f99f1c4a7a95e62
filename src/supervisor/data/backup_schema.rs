//! The schema of a backup against the contract of the release that is to run on it. Where the release
//! does not accept it, its own migration is tried on the restored copy, before anything live is
//! touched; a restore runs it again on the restored data, before the first connection.

use crate::config::model::{Migrate, Schema};
use crate::core::ids::ReleaseId;
use crate::core::operation::machine::Succession;
use crate::core::schema::{Contract, Fit, fit};
use crate::os::clock;
use crate::store::receipt::Receipt;
use crate::supervisor::data::backup::{Copied, Hand, Means};
use crate::supervisor::data::doors;
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::fencing::Fencing;
use crate::supervisor::data::migration;
use crate::supervisor::data::trial_migration::{self, OnCopy};
use crate::supervisor::health::probe::Transcript;
use crate::supervisor::rollback_readiness::rehearsal;
use crate::supervisor::service::Service;
use crate::supervisor::service::confinement::Confinement;
use crate::supervisor::tasks::task::{self, Background, Task};
use crate::text;

/// What was found of a backup's schema.
#[derive(Debug)]
pub(crate) struct BackupSchema {
    /// The schema of the backup, where it is known.
    pub(crate) has: Option<String>,
    /// The schema that the data has when the release runs on it.
    pub(crate) becomes: Option<String>,
    /// The migration that leads there, for people; none is needed when absent.
    pub(crate) migration: Option<String>,
    /// What could not be tried or looked at.
    pub(crate) warnings: Vec<String>,
}

/// Why a release cannot run on a backup.
#[derive(Debug)]
pub(crate) struct Missed {
    /// The schema of the backup.
    pub(crate) has: String,
    /// Why it is not accepted, and not made to be.
    pub(crate) why: String,
}

/// Why a backup is not restored.
#[derive(Debug)]
pub(crate) enum NotTried {
    /// By the contract.
    Missed(Missed),
    /// What it takes to try it does not work.
    Data(DataError),
}

impl From<DataError> for NotTried {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

/// Compares a backup, restored to a copy, with the contract of the release that is to run on it, and
/// tries what is needed on the copy.
///
/// # Errors
/// Why the release would not run on it.
pub(crate) async fn try_on(
    hand: &Hand<'_>,
    copied: &Copied,
    receipt: &Receipt,
) -> Result<BackupSchema, NotTried> {
    let known = receipt.schema.clone();
    let Some(schema) = hand.context.settings.schema.clone() else {
        return Ok(BackupSchema::as_it_is(known, Vec::new()));
    };
    let trial = Trial { hand, schema: &schema };
    if let Some(why) = not_possible(hand.context.service, copied) {
        return trial.by_receipt(known, &why);
    }
    let fencing = Fencing::open(hand.context.service, hand, copied).await?;
    let confinement = copied.confinement(hand, hand.release(), &hand.context.settings)?;
    let tried = trial.on_copy(known, &fencing.around(confinement)).await;
    match (tried, fencing.breach()) {
        (Ok(_), Some(breach)) => Err(trial.missed(receipt.schema.clone(), &breach)),
        (Err(NotTried::Missed(mut missed)), breach) => {
            let lines = breach.into_iter().chain(fencing.report());
            missed.why = [missed.why].into_iter().chain(lines).collect::<Vec<_>>().join("\n");
            Err(NotTried::Missed(missed))
        }
        (tried, _) => tried,
    }
}

/// Why no program can be tried on a copy.
fn not_possible(service: &Service, copied: &Copied) -> Option<String> {
    let not_fenced = doors::fence_is_possible(service).err().map(str::to_owned);
    not_fenced.or_else(|| match copied.means() {
        Means::None { why } => Some(why.clone()),
        Means::Mounts | Means::Landlock { .. } => None,
    })
}

impl BackupSchema {
    fn as_it_is(has: Option<String>, warnings: Vec<String>) -> Self {
        Self { becomes: has.clone(), has, migration: None, warnings }
    }
}

/// A backup that is compared with a contract.
struct Trial<'a> {
    hand: &'a Hand<'a>,
    schema: &'a Schema,
}

impl Trial<'_> {
    fn fit(&self, has: Option<&String>) -> Fit {
        let migrates = self.hand.context.settings.migrate.is_some();
        let contract = Contract { accepts: &self.schema.accepts, migrates };
        fit(has.map(String::as_str), Some(contract))
    }

    /// Where no program can be tried on the copy.
    fn by_receipt(&self, known: Option<String>, why: &str) -> Result<BackupSchema, NotTried> {
        let warnings = vec![format!("no program is tried on a copy of the data here: {why}")];
        match self.fit(known.as_ref()) {
            Fit::Runs => Ok(BackupSchema::as_it_is(known, warnings)),
            Fit::NeedsMigration => Ok(self.migrated(known, warnings)),
            Fit::Misses => Err(self.missed(known, "it has no migration")),
        }
    }

    async fn on_copy(
        &self,
        known: Option<String>,
        confinement: &Confinement,
    ) -> Result<BackupSchema, NotTried> {
        let context = &self.hand.context;
        let (service, release) = (context.service, context.release);
        let mut warnings = Vec::new();
        let probed = migration::version(service, release, &context.settings, confinement).await;
        let has = match probed {
            Ok(probed) => probed.or(known),
            Err(error) => {
                warnings.push(format!("the schema of the backup cannot be looked at: {error}"));
                known
            }
        };
        match self.fit(has.as_ref()) {
            Fit::Runs => return Ok(BackupSchema::as_it_is(has, warnings)),
            Fit::Misses => return Err(self.missed(has, "it has no migration")),
            Fit::NeedsMigration => {}
        }
        let id = clock::now_rfc3339_ms();
        let run = OnCopy {
            service,
            release,
            settings: &context.settings,
            confinement,
            log: context.log.clone(),
            mark: format!("{}/restore/{id}/copy", service.paths.dir().display()),
        };
        if let Err(error) = trial_migration::migrate_copy(&run).await {
            let why = format!("its migration does not lead there, tried on a copy: {error}");
            return Err(self.missed(has, &why));
        }
        // Whether a program that allows only one instance runs on another copy is unknown.
        if service.succession() == Succession::Overlap {
            let settings = context.settings.clone();
            let transcript = &mut Transcript::default();
            let ran = rehearsal::run(service, release, settings, confinement, transcript).await;
            if let Err(why) = ran {
                let why = format!("it does not run on a migrated copy of the backup: {why}");
                return Err(self.missed(has, &why));
            }
        }
        Ok(self.migrated(has, warnings))
    }

    fn migrated(&self, has: Option<String>, warnings: Vec<String>) -> BackupSchema {
        let (from, to) = (has.as_deref().unwrap_or_default(), &self.schema.provides);
        let migration =
            format!("schema {from} is migrated to {to} by release {}", self.hand.release());
        BackupSchema { becomes: Some(to.clone()), has, migration: Some(migration), warnings }
    }

    fn missed(&self, has: Option<String>, why: &str) -> NotTried {
        let has = has.unwrap_or_else(|| "unknown".to_owned());
        let (release, accepts) = (self.hand.release(), self.schema.accepts.join(", "));
        let why =
            format!("the backup has schema {has}, release {release} accepts {accepts}, and {why}");
        NotTried::Missed(Missed { has, why })
    }
}

/// The migration of restored data, which a restore runs before the release is started on it.
pub(crate) struct Upgrade<'a> {
    pub(crate) hand: &'a Hand<'a>,
    /// By what its processes are known, whoever is killed.
    pub(crate) mark: String,
}

impl Upgrade<'_> {
    /// Runs it. Returns how long it took.
    ///
    /// # Errors
    /// Why the data does not have the schema that the release provides: what was there before must
    /// come back.
    pub(crate) async fn run(&self) -> Result<String, DataError> {
        let context = &self.hand.context;
        let (settings, service) = (&context.settings, context.service);
        let Some(migrate) = &settings.migrate else { return Ok(String::new()) };
        let begun = clock::tick();
        let ended = task::run(service, self.task(migrate)).await;
        // Also of one that failed: what it leaves in a server would commit later.
        let settled = self.hand.settle(&client(service)).await;
        DataError::unless_good("migrate", ended?)?;
        settled?;
        let open = Confinement::default();
        let after = migration::version(service, context.release, settings, &open).await?;
        let wanted = settings.schema.as_ref().map(|schema| schema.provides.clone());
        if let (Some(after), Some(wanted)) = (after, wanted)
            && after != wanted
        {
            return Err(DataError::WrongSchema { after, wanted });
        }
        Ok(text::seconds(begun, clock::tick()))
    }

    fn task(&self, migrate: &Migrate) -> Task {
        let context = &self.hand.context;
        Task {
            name: "migrate".to_owned(),
            words: migrate.command.clone(),
            env: self.hand.signature(&client(context.service)),
            confinement: Confinement::default(),
            release: self.release(),
            settings: context.settings.clone(),
            limit: migrate.deadline,
            background: Background::Awaited(self.mark.clone()),
            input: None,
            log: Some(context.log.clone()),
        }
    }

    fn release(&self) -> ReleaseId {
        self.hand.release()
    }
}

/// By what name a server knows the clients of such a migration.
pub(crate) fn client(service: &Service) -> String {
    migration::client_name(service, "restore")
}
