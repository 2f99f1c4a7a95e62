//! The keeper's children: from their launch to the acknowledgement of their end.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::core::ordered::Few;
use crate::core::time::Tick;
use crate::keeper::own_listeners::Root;
use crate::keeper::protocol::{
    self, ChildId, End, Heir, Held, Identity, LaunchSpec, Reach, Watched,
};
use crate::os::launch::{self, LaunchError, Standard};
use crate::os::{cgroup, clock, mark, proc, stranger};

/// All children that are not forgotten.
#[derive(Debug)]
pub struct Children {
    by_id: Few<ChildId, Child>,
    /// Where groups of children are made.
    home: Option<PathBuf>,
}

/// One child.
#[derive(Debug)]
pub struct Child {
    /// The supervisor's label; never read here.
    pub label: String,
    /// The process's identity.
    pub identity: Identity,
    /// How it ended.
    pub end: Option<End>,
    token: String,
    mark: Option<String>,
    group: Option<PathBuf>,
    launch: Option<UnderWay>,
    watched: Watched,
    /// Another keeper's child, whose end this one sees but not how it ended.
    adopted: Option<OwnedFd>,
}

#[derive(Debug)]
struct UnderWay {
    seq: u64,
    since: Tick,
    errors: OwnedFd,
    filter: Option<OwnedFd>,
}

/// A launcher that takes longer hangs, in a directory that does not answer for one.
const LAUNCH_MS_MAX: u64 = 30_000;

/// A launch that came to its end, one way or the other.
#[derive(Debug)]
pub struct Launched {
    /// The request that asked for it.
    pub seq: u64,
    /// The child.
    pub child: ChildId,
    /// The process that runs, or why none does.
    pub result: Result<Identity, LaunchError>,
    /// What it runs under, when its calls are answered.
    pub filter: Option<(OwnedFd, Watched)>,
}

impl Children {
    /// None yet.
    pub fn new() -> Self {
        Self { by_id: Few::default(), home: cgroup::home() }
    }

    /// Begins a launch; its outcome comes through [`Self::settle`].
    ///
    /// # Errors
    /// When no launcher could be started.
    pub fn launch(
        &mut self,
        seq: u64,
        id: ChildId,
        label: String,
        mut spec: LaunchSpec,
        kept: &Few<String, OwnedFd>,
    ) -> Result<(), LaunchError> {
        let refuse = |step: &str, why: String| LaunchError { step: step.to_owned(), errno: 0, why };
        if self.by_id.contains_key(&id) {
            return Err(refuse("spawn", format!("child {} exists already", id.0)));
        }
        let find = |name: &String| {
            kept.get(name)
                .map(AsFd::as_fd)
                .ok_or_else(|| refuse("spawn", format!("no descriptor is kept as {name}")))
        };
        let listen: Vec<BorrowedFd<'_>> =
            spec.listen.iter().map(|fd| find(&fd.kept)).collect::<Result<_, _>>()?;
        let standard = Standard {
            input: spec.input.as_ref().map(find).transpose()?,
            output: spec.output.as_ref().map(find).transpose()?,
            errors: spec.errors.as_ref().map(find).transpose()?,
        };
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let token = protocol::token(own, id);
        spec.env.push((proc::TOKEN.to_owned(), token.clone()));
        let system = |error: io::Error| LaunchError {
            step: "starting a launcher".to_owned(),
            errno: error.raw_os_error().unwrap_or(0),
            why: error.to_string(),
        };
        spec.group = self.home.as_deref().and_then(|home| cgroup::make(home, &token));
        let mut begun = launch::begin(&spec, &listen, standard).map_err(system)?;
        let pid = i32::try_from(begun.process.id()).unwrap_or(0);
        let known = rustix::io::ioctl_fionbio(&begun.errors, true).map_err(io::Error::from);
        let identity = known.and_then(|()| proc::identity(pid)).map_err(|error| {
            // It would run, and be nobody's.
            drop(begun.process.kill());
            system(error)
        })?;
        let since = clock::tick();
        let launch = Some(UnderWay { seq, since, errors: begun.errors, filter: begun.filter });
        let root = Root { pid, token: token.clone() };
        let watched = Watched { intercept: spec.intercept, fence: spec.fence, root };
        let (mark, group) = (spec.mark, spec.group);
        let (end, adopted) = (None, None);
        let child = Child { label, identity, end, token, mark, group, launch, watched, adopted };
        self.by_id.insert(id, child);
        Ok(())
    }

    /// Takes over a child of the keeper before, which was this very process, or another one.
    pub fn adopt(&mut self, heir: Heir) {
        let Heir { child, label, identity, mut end, token, mark, group } = heir;
        let mut adopted = None;
        if end.is_none() && !is_own(identity.pid) {
            // Opened first and looked at then: it cannot be another process's.
            adopted = proc::pidfd(identity.pid).ok().filter(|_| identity.is_alive());
            end = adopted.is_none().then_some(End::Unknown);
        }
        let (launch, watched) = (None, Watched::default());
        let child_of = Child { label, identity, end, token, mark, group, launch, watched, adopted };
        self.by_id.insert(child, child_of);
    }

    /// Children whose launch is over, as the next keeper has to know them.
    pub fn heirs(&self) -> impl Iterator<Item = Heir> {
        self.by_id.iter().map(|(id, child)| child.heir(*id))
    }

    /// What the next keeper has to know of a child.
    pub fn heir(&self, id: ChildId) -> Option<Heir> {
        Some(self.by_id.get(&id)?.heir(id))
    }

    /// Descriptors of adopted children, to be polled.
    pub fn adopted(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let alive = self.by_id.values().filter(|child| child.end.is_none());
        alive.filter_map(|child| child.adopted.as_ref()).map(AsFd::as_fd)
    }

    /// Pipes of launches under way, to be polled.
    pub fn pipes(&self) -> Vec<BorrowedFd<'_>> {
        let under_way = self.by_id.values().filter_map(|child| child.launch.as_ref());
        under_way.map(|launch| launch.errors.as_fd()).collect()
    }

    /// When the first launch under way has taken too long.
    pub fn deadline(&self) -> Option<Tick> {
        let under_way = self.by_id.values().filter_map(|child| child.launch.as_ref());
        under_way.map(|launch| launch.since.after_ms(LAUNCH_MS_MAX)).min()
    }

    /// Ends launches that have taken too long. What is left of one that cannot even be killed is
    /// nobody's, and ends before it becomes a program.
    pub fn end_overdue(&mut self, now: Tick) -> Vec<Launched> {
        let mut ended = Vec::new();
        self.by_id.retain(|id, child| {
            let overdue = |launch: &&UnderWay| launch.since.after_ms(LAUNCH_MS_MAX) <= now;
            let Some(launch) = child.launch.as_ref().filter(overdue) else { return true };
            let Identity { pid, start_ticks, .. } = child.identity;
            if let Err(error) = proc::signal(pid, start_ticks, libc::SIGKILL) {
                tracing::error!(pid, %error, "ending a launcher that hangs");
            }
            let step = "starting a program".to_owned();
            let why = format!("it did not run within {} s", LAUNCH_MS_MAX / 1000);
            let result = Err(LaunchError { step, errno: libc::ETIMEDOUT, why });
            ended.push(Launched { seq: launch.seq, child: *id, result, filter: None });
            false
        });
        ended
    }

    /// Launches whose pipe has spoken or closed.
    pub fn settle(&mut self) -> Vec<Launched> {
        let mut launched = Vec::new();
        let mut unborn = Vec::new();
        for (id, child) in self.by_id.iter_mut() {
            let Some(under_way) = &child.launch else { continue };
            let mut result = match launch::outcome(&under_way.errors) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Ok(Some(error)) => Err(error),
                Ok(None) | Err(_) => Ok(child.identity.clone()),
            };
            let seq = under_way.seq;
            let filter = under_way.filter.as_ref().map(launch::filter_of);
            child.launch = None;
            let filter = match filter.transpose() {
                Ok(filter) => filter.map(|filter| (filter, std::mem::take(&mut child.watched))),
                Err(error) if result.is_ok() => {
                    let step = "taking the filter over".to_owned();
                    result = Err(LaunchError { step, errno: 0, why: error.to_string() });
                    None
                }
                Err(_) => None,
            };
            if result.is_err() {
                unborn.push(*id);
            }
            launched.push(Launched { seq, child: *id, result, filter });
        }
        for id in unborn {
            self.by_id.remove(&id);
        }
        launched
    }

    /// Takes in everything that has ended. Orphans that came here are let go silently. The
    /// supervisor's own end is the first part of the answer.
    pub fn reap(&mut self, supervisor: Option<i32>) -> (bool, Vec<(ChildId, End)>) {
        let mut ended = Vec::new();
        let mut supervisor_ended = false;
        loop {
            let (pid, end) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), End::Exited(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid.as_raw(), End::Killed(signal as i32))
                }
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => continue,
            };
            if supervisor == Some(pid) {
                supervisor_ended = true;
            }
            let child = self
                .by_id
                .iter_mut()
                .find(|(_, child)| child.identity.pid == pid && child.end.is_none());
            if let Some((id, child)) = child {
                child.end = Some(end);
                ended.push((*id, end));
            }
        }
        for (id, child) in self.by_id.iter_mut().filter(|(_, child)| child.end.is_none()) {
            if child.adopted.as_ref().is_some_and(proc::has_ended) {
                child.end = Some(End::Unknown);
                ended.push((*id, End::Unknown));
            }
        }
        (supervisor_ended, ended)
    }

    /// Children whose launch is over, in the order of their numbers.
    pub fn known(&self) -> impl Iterator<Item = (ChildId, &Child)> {
        self.by_id.iter().map(|(id, child)| (*id, child))
    }

    /// The same as a list.
    pub fn held(&self) -> Vec<Held> {
        let held = |(child, known): (ChildId, &Child)| Held {
            child,
            label: known.label.clone(),
            runs: known.end.is_none(),
        };
        self.known().map(held).collect()
    }

    /// Whether a child runs.
    pub fn is_alive(&self, id: ChildId) -> bool {
        self.by_id.get(&id).is_some_and(|child| child.end.is_none())
    }

    /// Children that run.
    pub fn alive(&self) -> Vec<ChildId> {
        self.by_id.iter().filter(|(_, child)| child.end.is_none()).map(|(id, _)| *id).collect()
    }

    /// Forgets a child that has ended.
    ///
    /// # Errors
    /// When it runs.
    pub fn forget(&mut self, id: ChildId) -> Result<(), &'static str> {
        if self.is_alive(id) {
            return Err("the child has not ended");
        }
        self.by_id.remove(&id);
        self.sweep();
        Ok(())
    }

    /// Removes the groups of children that are gone.
    pub fn sweep(&self) {
        if let Some(home) = &self.home {
            cgroup::sweep(home);
        }
    }

    /// Sends a signal; a child that has ended gets none, what it left behind does.
    ///
    /// # Errors
    /// The system's.
    pub fn signal(&self, id: ChildId, number: i32, reach: Reach) -> io::Result<()> {
        let Some(child) = self.by_id.get(&id) else { return Ok(()) };
        let identity = &child.identity;
        let alive = child.end.is_none();
        if alive {
            proc::signal(identity.pid, identity.start_ticks, number)?;
        }
        if reach == Reach::Tree {
            if let Some(group) = child.group.as_deref().filter(|_| number == libc::SIGKILL) {
                // Where it cannot be done at once, its members are killed one by one.
                drop(cgroup::kill(group));
            }
            let mut others = if alive { proc::tree(identity.pid) } else { BTreeSet::new() };
            others.extend(stranger::with_token(&child.token));
            // Many programs write over their environment.
            others.extend(proc::session(identity));
            others.extend(child.group.iter().flat_map(|group| cgroup::members(group)));
            others.extend(child.mark.iter().flat_map(|mark| mark::carriers(mark)));
            others.remove(&identity.pid);
            for pid in others {
                if let Ok(start_ticks) = proc::start_ticks(pid) {
                    proc::signal(pid, start_ticks, number)?;
                }
            }
        }
        Ok(())
    }
}

impl Child {
    fn heir(&self, child: ChildId) -> Heir {
        Heir {
            child,
            label: self.label.clone(),
            identity: self.identity.clone(),
            end: self.end,
            token: self.token.clone(),
            mark: self.mark.clone(),
            group: self.group.clone(),
        }
    }
}

/// Whether it is a child of this process, alive or not.
fn is_own(pid: i32) -> bool {
    proc::parent(pid).ok() == i32::try_from(std::process::id()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_that_hangs_is_ended_when_its_time_is_over() {
        let mut launcher = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let identity = proc::identity(i32::try_from(launcher.id()).unwrap()).unwrap();
        let (errors, _open) = io::pipe().unwrap();
        let since = clock::tick();
        let launch = UnderWay { seq: 7, since, errors: errors.into(), filter: None };
        let (label, token, mark) = (String::new(), String::new(), None);
        let watched = Watched::default();
        let launch = Some(launch);
        let (end, adopted) = (None, None);
        let child =
            Child { label, identity, end, token, mark, group: None, launch, watched, adopted };
        let mut children = Children::new();
        children.by_id.insert(ChildId(1), child);
        let due = children.deadline().unwrap();
        assert!(children.end_overdue(Tick(due.0 - 1)).is_empty());
        let ended = children.end_overdue(due);
        assert_eq!(
            (ended[0].seq, ended[0].result.as_ref().unwrap_err().errno),
            (7, libc::ETIMEDOUT)
        );
        assert!(!launcher.wait().unwrap().success());
        assert!(children.deadline().is_none() && !children.is_alive(ChildId(1)));
    }
}
