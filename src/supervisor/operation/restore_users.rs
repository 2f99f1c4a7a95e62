//! Others that use the data of a restore: they are looked for before anything is stopped, and again when
//! all that was to be stopped is. Services of the stack can be stopped for the restore; as long as it is
//! written down, nothing starts them ([`crate::store::restoration`]), also after a crash.

use std::rc::Rc;
use std::time::Duration;

use crate::api::Trouble;
use crate::core::data_users::{Allowed, By, Owner, Verdict, When, judge};
use crate::core::exit::Exit;
use crate::core::ordered;
use crate::supervisor::data::backup::Hand;
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::users::{self, Staff, User, Users};
use crate::supervisor::instances::stop_all;
use crate::supervisor::operation::start_last_good;
use crate::supervisor::service::occupied::{self, Occupied};
use crate::supervisor::service::{Service, refusal};
use crate::supervisor::sockets::slots::SlotError;

/// The other services of the stack.
pub(crate) type Others = Vec<Rc<Service>>;

/// How often is looked before somebody counts: tools and clients that have just ended may still be seen.
const N_LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);
/// Users that are named.
const N_NAMED: usize = 5;

/// Who uses the data as long as the service runs.
pub(crate) struct Seen {
    /// For people: those who are not the service itself.
    pub(crate) lines: Vec<String>,
    /// What could not be looked at.
    pub(crate) unseen: Vec<String>,
    found: Vec<User>,
    verdict: Verdict,
    others: Others,
}

/// Looks for them before anything is stopped.
///
/// # Errors
/// When they cannot be looked for.
pub(crate) async fn planned(
    service: &Rc<Service>,
    hand: &Hand<'_>,
    others: &Others,
    allowed: Allowed,
) -> Result<Seen, Trouble> {
    let looked = look(service, hand, others, When::Planning, allowed).await;
    let (Users { found, unseen }, verdict) = looked.map_err(|error| {
        let why = error.to_string();
        refusal::refusal(service, "restored", &why, Exit::BackupFailed, &["status"])
    })?;
    let foreign = found.iter().filter(|user| is_foreign(user));
    let ended = |user: &User| allowed.sessions && is_session_of_stranger(user);
    let told = |user| format!("{}{}", line(user), if ended(user) { "; it is ended" } else { "" });
    let lines = foreign.map(told).collect();
    Ok(Seen { lines, unseen, found, verdict, others: others.clone() })
}

impl Seen {
    /// Services that are to be stopped.
    ///
    /// # Errors
    /// When somebody uses the data who is not.
    pub(crate) fn stopped_for(self, service: &Service, backup: &str) -> Result<Others, Trouble> {
        let suffices = match self.verdict {
            Verdict::Free => return Ok(Vec::new()),
            Verdict::Stops(names) => {
                let is_one = |other: &Rc<Service>| names.contains(other.name.as_str());
                return Ok(self.others.into_iter().filter(is_one).collect());
            }
            Verdict::Used { suffices } => suffices,
        };
        let foreign: Vec<&User> = self.found.iter().filter(|user| is_foreign(user)).collect();
        let why = used(&foreign);
        let exit = Exit::PreflightRefused;
        let mut trouble = refusal::refusal(service, "restored", &why, exit, &["status"]);
        trouble.next.splice(0..0, ways_out(service, backup, suffices, &foreign));
        Err(trouble)
    }
}

/// Keeps operations out of services that are to be stopped.
///
/// # Errors
/// When one is busy.
pub(crate) fn occupy(users: &Others) -> Result<Vec<Occupied>, Trouble> {
    users.iter().map(|user| occupied::occupy(user, "stopped", "a restore")).collect()
}

/// Stops them, while their connections wait.
///
/// # Errors
/// When connections cannot wait.
pub(crate) async fn stop(users: &Others) -> Result<(), SlotError> {
    for user in users {
        stop_all::clear(user).await?;
        user.routing.clear();
        if let Err(error) = user.durable.save(|state| state.standby = None) {
            tracing::warn!(service = %user.name, %error, "recording that there is no standby");
        }
    }
    Ok(())
}

/// Starts them again. Returns what went wrong.
pub(crate) async fn start(users: &Others) -> Vec<String> {
    let mut warnings = Vec::new();
    for user in users {
        start_last_good::bring_up_within_deadline(user).await;
        let why = user.condition.trouble();
        warnings.extend(why.map(|why| format!("{} is not up again: {why}", user.name)));
    }
    warnings
}

/// Looks again when all is stopped, and ends sessions where that is allowed. Returns why the data may not
/// be replaced, and what ends that.
///
/// # Errors
/// When they cannot be looked for, or sessions cannot be ended.
pub(crate) async fn left(
    service: &Rc<Service>,
    hand: &Hand<'_>,
    others: &Others,
    allowed: Allowed,
    backup: &str,
) -> Result<Option<(String, Option<String>)>, DataError> {
    let looked = look(service, hand, others, When::Held, allowed).await?;
    in_the_way(service, hand, looked, backup).await
}

/// The same for what is displaced, which somebody may have opened in the last moment.
///
/// # Errors
/// When they cannot be looked for.
pub(crate) async fn left_aside(
    service: &Rc<Service>,
    hand: &Hand<'_>,
    others: &Others,
    backup: &str,
) -> Result<Option<(String, Option<String>)>, DataError> {
    let users = users::look_aside(hand, staff(service, others)).await?;
    let of = users.found.iter().map(|user| (&user.owner, user.by()));
    let verdict = judge(of, When::Held, Allowed::default());
    in_the_way(service, hand, (users, verdict), backup).await
}

async fn in_the_way(
    service: &Service,
    hand: &Hand<'_>,
    looked: (Users, Verdict),
    backup: &str,
) -> Result<Option<(String, Option<String>)>, DataError> {
    let (Users { found, .. }, verdict) = looked;
    let Verdict::Used { suffices } = verdict else {
        users::end_sessions(hand, &found).await?;
        return Ok(None);
    };
    let foreign: Vec<&User> = found.iter().collect();
    let next = ways_out(service, backup, suffices, &foreign).into_iter().next();
    Ok(Some((used(&foreign), next)))
}

async fn look(
    service: &Rc<Service>,
    hand: &Hand<'_>,
    others: &Others,
    when: When,
    allowed: Allowed,
) -> Result<(Users, Verdict), DataError> {
    let mut n_looks = 0;
    loop {
        let users = users::look(hand, staff(service, others)).await?;
        let verdict = judge(users.found.iter().map(|user| (&user.owner, user.by())), when, allowed);
        n_looks += 1;
        if !matches!(verdict, Verdict::Used { .. }) || n_looks == N_LOOKS {
            return Ok((users, verdict));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn staff(service: &Rc<Service>, others: &Others) -> Vec<Staff> {
    [service].into_iter().chain(others).map(|of| Staff::of(of)).collect()
}

fn is_foreign(user: &User) -> bool {
    matches!(user.owner, Owner::Service(_) | Owner::Stranger)
}

fn is_session_of_stranger(user: &User) -> bool {
    user.owner == Owner::Stranger && user.by() == By::Session
}

fn line(user: &User) -> String {
    match &user.owner {
        Owner::Service(name) => format!("service {name}: {}", user.text),
        Owner::Itself | Owner::Stranger | Owner::Unknown => user.text.clone(),
    }
}

fn used(foreign: &[&User]) -> String {
    let mut lines: Vec<String> = foreign.iter().take(N_NAMED).map(|user| line(user)).collect();
    if let Some(n) = foreign.len().checked_sub(N_NAMED).filter(|n| *n > 0) {
        lines.push(format!("and {n} more"));
    }
    format!(
        "the data is in use, and what its users write after a restore would be lost or damage it: {}",
        lines.join("; ")
    )
}

/// With what flags a restore would begin, or what ends who is in its way.
fn ways_out(
    service: &Service,
    backup: &str,
    suffices: Option<Allowed>,
    foreign: &[&User],
) -> Vec<String> {
    let Some(allowed) = suffices else { return ends(foreign) };
    vec![format!("halley-sup restore {} --backup {backup}{}", service.name, allowed.options())]
}

/// What ends them, each once.
fn ends(foreign: &[&User]) -> Vec<String> {
    let end = |user: &&User| match &user.owner {
        Owner::Service(name) => format!("halley-sup stop {name}"),
        Owner::Itself | Owner::Stranger | Owner::Unknown => user.end.clone(),
    };
    let mut ends: Vec<String> = foreign.iter().map(end).collect();
    ordered::sort(&mut ends, |a, b| a < b);
    ends.dedup();
    ends.truncate(N_NAMED);
    ends
}
