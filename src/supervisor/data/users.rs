//! Who else uses the live data: processes that have its files open, clients that have a session on its
//! server. A restore takes the data away from under them: what they write later would be in the data
//! that is gone, and a journal of theirs could be played into the data that was restored.
//!
//! What is looked at is `/proc`, on a thread of its own, and the server.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::core::data_users::{By, Owner};
use crate::core::ordered::Ordered as _;
use crate::os::diag::{self, Wanted as Sockets};
use crate::os::holders::{self, Wanted};
use crate::os::{proc, stranger};
use crate::supervisor::data::backup::Hand;
use crate::supervisor::data::context::on_thread;
use crate::supervisor::data::driver::{Driver, JOURNALS, Place, Session};
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::site::Site;
use crate::supervisor::service::Service;
use crate::text;

/// The processes of a service.
#[derive(Debug, Clone)]
pub(crate) struct Staff {
    service: String,
    /// Those that everything it runs descends from.
    pids: Vec<i32>,
}

impl Staff {
    /// Those that a service has now.
    pub(crate) fn of(service: &Service) -> Self {
        let generations = service.fleet.all();
        let instances = generations.iter().flat_map(|generation| generation.instances());
        let runs = instances
            .flat_map(|instance| [instance.program.run(), instance.forwarder.run()])
            .flatten();
        Self { service: service.name.to_string(), pids: runs.map(|run| run.identity.pid).collect() }
    }
}

/// One who uses the data.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) owner: Owner,
    /// Who it is and what it has, for people.
    pub(crate) text: String,
    /// How to end it.
    pub(crate) end: String,
    /// The statement that ends its session, where it has one.
    session: Option<String>,
}

impl User {
    /// A client whose process is not known.
    fn unplaced(owner: Owner, session: Session) -> Self {
        let Session { text, end, by_hand, .. } = session;
        Self { owner, text, end: by_hand, session: Some(end) }
    }

    /// How it uses the data.
    pub(crate) fn by(&self) -> By {
        if self.session.is_some() { By::Session } else { By::Process }
    }
}

/// All who use the data, as far as that could be seen.
#[derive(Debug, Default)]
pub(crate) struct Users {
    pub(crate) found: Vec<User>,
    /// What could not be looked at.
    pub(crate) unseen: Vec<String>,
}

/// Looks for them. `staff`: that of the service whose data it is comes first.
///
/// # Errors
/// The system's and the server's.
pub(crate) async fn look(hand: &Hand<'_>, staff: Vec<Staff>) -> Result<Users, DataError> {
    let context = &hand.context;
    let sessions = hand.driver().sessions(context).await?;
    let used = hand.driver().used().into_iter().map(|path| context.path(&Site::Live, path));
    let used: Vec<PathBuf> = used.collect();
    let looked = on_thread(move || all(&used, sessions.unwrap_or_default(), &staff));
    let mut users = looked.await.map_err(DataError::Processes)?;
    if hand.is_by_command() {
        let unseen = "clients of a server that has the data are not known with the driver command";
        users.unseen.push(unseen.to_owned());
    }
    Ok(users)
}

/// Looks for those who had files open that a restore has displaced: they were opened after everybody was
/// looked for, and what is written to them is in no data any more.
///
/// # Errors
/// The system's.
pub(crate) async fn look_aside(hand: &Hand<'_>, staff: Vec<Staff>) -> Result<Users, DataError> {
    let aside = hand.driver().aside(&hand.context).await?;
    if aside.is_empty() {
        return Ok(Users::default());
    }
    let looked = on_thread(move || all(&aside, Vec::new(), &staff));
    looked.await.map_err(DataError::Processes)
}

/// Why live data in files is not where the configuration says, with what can be done about it: a program
/// that has it open has the only copy, until it ends.
///
/// # Errors
/// The system's.
pub(crate) async fn gone(hand: &Hand<'_>) -> Result<Option<(String, Vec<String>)>, DataError> {
    let Some(place) = hand.driver().place() else { return Ok(None) };
    let path = hand.context.path(&Site::Live, place.path());
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        _ => return Ok(None),
    }
    let mut why = match place {
        Place::File(_) => DataError::Missing { path: path.clone() },
        Place::Directory(_) => DataError::NoDirectory { path: path.clone() },
    }
    .to_string();
    let looked = on_thread(move || Ok(deleted(&path)));
    let (holders, copies) = looked.await.map_err(DataError::Processes)?;
    if !holders.is_empty() {
        why.push_str(&format!("; it is deleted, and still open: {}", holders.join(", ")));
    }
    Ok(Some((why, copies)))
}

/// Who has it, and the commands that copy it with its journals.
fn deleted(path: &Path) -> (Vec<String>, Vec<String>) {
    let mut holders = Vec::new();
    let copy = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        let (pid, link) = holders::deleted(Path::new(&name)).into_iter().next()?;
        holders.extend(Who::of(pid).map(|who| who.text));
        Some(format!("cp {} {}.saved{ending}", link.display(), path.display()))
    };
    let copies = ["", "-wal", "-journal"].into_iter().filter_map(copy).collect();
    holders.dedup();
    (holders, copies)
}

/// Ends the sessions of these on the server.
///
/// # Errors
/// The server's: only some roles may do that to others.
pub(crate) async fn end_sessions(hand: &Hand<'_>, users: &[User]) -> Result<(), DataError> {
    let ends: String = users.iter().filter_map(|user| user.session.as_deref()).collect();
    if ends.is_empty() {
        return Ok(());
    }
    hand.driver().end_sessions(&hand.context, &ends).await
}

fn all(used: &[PathBuf], sessions: Vec<Session>, staff: &[Staff]) -> io::Result<Users> {
    let mut users = Users::default();
    let census = Census::of(staff);
    for path in used {
        let wanted = if path.is_dir() { Wanted::below(path)? } else { of_database(path) };
        let seen = holders::look(&wanted);
        users.found.extend(seen.holders.into_iter().filter_map(|holder| {
            let who = Who::of(holder.pid)?;
            let owner = census.owner(holder.pid)?;
            let text = format!("{} has {}", who.text, holder.holds);
            Some(User { owner, text, end: who.end, session: None })
        }));
        if seen.n_hidden > 0 {
            let n = text::count(seen.n_hidden, "process");
            let unseen = format!("{n} of other users cannot be looked at, their locks can");
            if !users.unseen.contains(&unseen) {
                users.unseen.push(unseen);
            }
        }
    }
    let sockets = if sessions.is_empty() { BTreeMap::new() } else { self::sockets() };
    let clients = sessions.into_iter().map(|session| of_session(session, &census, &sockets));
    users.found.extend(clients);
    let unknown = users.found.iter().filter(|user| user.owner == Owner::Unknown);
    let unknown: Vec<&str> = unknown.map(|user| user.text.as_str()).collect();
    if !unknown.is_empty() {
        users.unseen.push(format!(
            "whether these are the service's own shows when it is stopped: {}",
            unknown.join(", ")
        ));
    }
    Ok(users)
}

/// A database in a file, with what SQLite keeps beside it.
fn of_database(path: &Path) -> Wanted {
    let beside = JOURNALS.map(|ending| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    });
    let all: Vec<PathBuf> = [path.to_owned()].into_iter().chain(beside).collect();
    Wanted::files(&all)
}

/// A client of a server, by its process where that is one of this host.
fn of_session(session: Session, census: &Census<'_>, sockets: &BTreeMap<u64, i32>) -> User {
    let Some(port) = session.port.or_else(|| port_by_backend(&session)) else {
        return User::unplaced(Owner::Unknown, session);
    };
    let wanted = Sockets {
        states: &diag::IN_USE,
        local_port: Some(port),
        remote_port: Some(session.server_port),
    };
    let holder = diag::rows(wanted).iter().find_map(|row| {
        let pid = *sockets.get(&row.inode)?;
        let (who, owner) = (Who::of(pid)?, census.owner(pid)?);
        let text = format!("{} has {}", who.text, session.text);
        Some(User { owner, text, end: who.end, session: Some(session.end.clone()) })
    });
    holder.unwrap_or_else(|| User::unplaced(Owner::Stranger, session))
}

/// The port of a client that the server does not show, by the socket of the server's process, where that
/// runs here.
fn port_by_backend(session: &Session) -> Option<u16> {
    let inodes = proc::socket_inodes(session.backend?);
    let local_port = Some(session.server_port);
    let wanted = Sockets { states: &diag::IN_USE, local_port, ..Sockets::default() };
    let row = diag::rows(wanted).into_iter().find(|row| inodes.contains(&row.inode))?;
    Some(row.remote.port())
}

/// Every socket of this host's processes, with one that has it.
fn sockets() -> BTreeMap<u64, i32> {
    let of = |pid: i32| proc::socket_inodes(pid).into_iter().map(move |inode| (inode, pid));
    proc::all().into_iter().flat_map(of).into_map()
}

/// A process, for people.
struct Who {
    text: String,
    end: String,
}

impl Who {
    /// `None` when it has ended.
    fn of(pid: i32) -> Option<Self> {
        let (name, user) = (proc::name(pid)?, proc::owner(pid)?);
        let end = match proc::unit(pid) {
            Some(unit) => format!("systemctl stop {unit}"),
            None => format!("kill {pid}"),
        };
        Some(Self { text: format!("{name} (pid {pid}, user {user})"), end })
    }
}

/// Whose processes there are.
struct Census<'a> {
    /// Each service with its processes; the one whose data it is comes first.
    trees: Vec<(&'a Staff, BTreeSet<i32>)>,
    /// The keeper, which marks all that it starts.
    keeper: i32,
}

impl<'a> Census<'a> {
    fn of(staff: &'a [Staff]) -> Self {
        let parents = proc::parents();
        let tree = |staff: &Staff| {
            staff.pids.iter().flat_map(|pid| proc::tree_in(&parents, *pid)).collect()
        };
        let trees = staff.iter().map(|staff| (staff, tree(staff))).collect();
        Self { trees, keeper: proc::own_parent() }
    }

    /// `None` for Halley itself.
    fn owner(&self, pid: i32) -> Option<Owner> {
        if pid == self.keeper {
            return None;
        }
        // Commands of this keeper, and what left its parents.
        let token = stranger::variable(pid, proc::TOKEN);
        let is_ours = token.is_some_and(|token| token.starts_with(&format!("{}-", self.keeper)));
        let named = is_ours.then(|| stranger::variable(pid, "HALLEY_SERVICE")).flatten();
        let is_its = |(staff, tree): &(&Staff, BTreeSet<i32>)| {
            tree.contains(&pid) || named.as_ref() == Some(&staff.service)
        };
        let place = self.trees.iter().position(is_its);
        Some(match place {
            Some(0) => Owner::Itself,
            Some(place) => Owner::Service(self.trees[place].0.service.clone()),
            None => Owner::Stranger,
        })
    }
}
