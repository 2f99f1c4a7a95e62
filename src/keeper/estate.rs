//! What a keeper leaves to the one that takes its place: descriptors, children, filters.
//!
//! It travels as a text in anonymous memory and a list of descriptors, in an order that the text
//! fixes. A keeper leaves it to the program that it becomes; a supervisor whose keeper has died has
//! a copy of all of it, and becomes the next keeper.

pub mod record;
pub mod remains;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::json;
use crate::keeper::protocol::{ChildId, Heir, Watched};
use crate::keeper::setup::Setup;
use crate::os::{handover, in_place, memory};

/// The hidden verb of a keeper that takes another one's place.
pub const VERB: &str = "keep-on";

/// A filter, and what calls of those who run under it are answered by.
#[derive(Debug)]
pub struct Filter {
    /// The child that was started under it. It may have ended: what it started has not.
    pub child: ChildId,
    /// The filter.
    pub fd: OwnedFd,
    /// The answers.
    pub watched: Watched,
}

/// What a child's filter is stored under by the service manager.
#[must_use]
pub fn stored_name(child: ChildId) -> String {
    format!("filter/{}", child.0)
}

/// All that a keeper has.
#[derive(Debug)]
pub struct Estate {
    /// How it was set up.
    pub setup: Setup,
    /// What it holds for life.
    pub held: Vec<OwnedFd>,
    /// Descriptors by their names.
    pub kept: Vec<(String, OwnedFd)>,
    /// Children.
    pub children: Vec<Heir>,
    /// Filters.
    pub filters: Vec<Filter>,
    /// What the rest of it is.
    pub state: State,
    /// The keeper is a new program.
    pub trial: Option<Trial>,
}

/// A new program as keeper: it answers the supervisor that asked for it, starts its own, and is replaced
/// by the program before when that is not ready in time.
#[derive(Debug)]
pub struct Trial {
    /// The program before.
    pub before: OwnedFd,
    /// The socket to its supervisor.
    pub supervisor: OwnedFd,
    /// The rest.
    pub terms: Terms,
}

/// Who asked for a new program, and how long it has.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Terms {
    /// The request.
    pub seq: u64,
    /// Whose it was.
    pub pid: i32,
    /// When that process began.
    pub start_ticks: u64,
    /// Its revision of the protocol.
    pub revision: u16,
    /// When the next supervisor has to be ready.
    pub ready_ms: u64,
}

/// What a keeper is at.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Tokens of processes that may have been begun and that nobody knows: they are ended.
    pub unborn: Vec<String>,
    /// Everything is being taken down.
    pub is_stopping: bool,
    /// systemd knows that it is ready.
    pub told_ready: bool,
    /// Nobody has started this keeper: the next `run` that somebody starts takes its place.
    pub stands_in: bool,
}

/// The text that goes with the descriptors.
#[derive(Debug, Serialize, Deserialize)]
struct Text {
    setup: Setup,
    n_held: usize,
    kept: Vec<String>,
    children: Vec<Heir>,
    filters: Vec<(ChildId, Watched)>,
    state: State,
    #[serde(default)]
    trial: Option<Terms>,
    /// Of descriptors that stay open while the process becomes another program.
    #[serde(default)]
    numbers: Vec<i32>,
}

impl Estate {
    /// Becomes the keeper that goes on with it. Returns only when that failed.
    pub fn keep_on(&self, program: &OsStr) -> io::Error {
        let fds = self.fds();
        let text = Text { numbers: in_place::numbers(&fds), ..self.text() };
        let text = json::to_vec(&text).map_err(io::Error::from);
        let memory = match text.and_then(|text| memory::filled("estate", &text)) {
            Ok(memory) => memory,
            Err(error) => return error,
        };
        let [number] = in_place::numbers(&[memory.as_fd()]).try_into().unwrap_or_default();
        let number = OsString::from(number.to_string());
        let mut fds = fds;
        fds.push(memory.as_fd());
        in_place::execute(program, &[OsStr::new(VERB), &number], &fds)
    }

    /// What the program before this one has left in the memory of this number.
    ///
    /// # Errors
    /// When it is not there, or not whole.
    pub fn found(number: i32) -> io::Result<Self> {
        let text = memory::text_at(number)?;
        let text: Text = json::from_slice(&text)?;
        let fds = in_place::take(&text.numbers)?;
        Self::put_together(text, fds).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Gives it to the process that has asked for it.
    ///
    /// # Errors
    /// When that does not take all of it.
    pub fn give(&self, to: &OwnedFd) -> io::Result<()> {
        handover::give(to, &self.described()?, &self.fds())
    }

    /// Asks the keeper that stands in for one that was killed for what it has.
    ///
    /// # Errors
    /// When there is none.
    pub fn ask_for(setup: Setup) -> io::Result<Self> {
        let (text, fds) = handover::take(&setup.handover)?;
        let estate = Self::put_together(json::from_slice(&text)?, fds);
        let mut estate = estate.ok_or(io::ErrorKind::InvalidData)?;
        estate.setup = setup;
        (estate.state.told_ready, estate.state.stands_in) = (false, false);
        Ok(estate)
    }

    /// How a keeper was set up whose text this is.
    ///
    /// # Errors
    /// When the text cannot be read.
    pub fn setup_of(text: &[u8]) -> io::Result<Setup> {
        Ok(json::from_slice::<Text>(text)?.setup)
    }

    /// The text that goes with the descriptors.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn described(&self) -> io::Result<Vec<u8>> {
        Ok(json::to_vec(&self.text())?)
    }

    fn text(&self) -> Text {
        Text {
            setup: self.setup.clone(),
            n_held: self.held.len(),
            kept: self.kept.iter().map(|(name, _)| name.clone()).collect(),
            children: self.children.clone(),
            filters: self.filters.iter().map(|one| (one.child, one.watched.clone())).collect(),
            state: self.state.clone(),
            trial: self.trial.as_ref().map(|trial| trial.terms.clone()),
            numbers: Vec::new(),
        }
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let held = self.held.iter().map(AsFd::as_fd);
        let kept = self.kept.iter().map(|(_, fd)| fd.as_fd());
        let trial = self.trial.iter().flat_map(|trial| [&trial.before, &trial.supervisor]);
        let filters = self.filters.iter().map(|filter| filter.fd.as_fd());
        held.chain(kept).chain(filters).chain(trial.map(AsFd::as_fd)).collect()
    }

    /// In the order of [`Self::fds`]; `None` when one is missing.
    fn put_together(text: Text, fds: Vec<OwnedFd>) -> Option<Self> {
        let mut fds = fds.into_iter();
        let held: Option<Vec<_>> = (0..text.n_held).map(|_| fds.next()).collect();
        let kept: Option<Vec<_>> =
            text.kept.into_iter().map(|name| Some((name, fds.next()?))).collect();
        let filter = |(child, watched)| Some(Filter { child, fd: fds.next()?, watched });
        let filters: Option<Vec<_>> = text.filters.into_iter().map(filter).collect();
        let trial = match text.trial {
            Some(terms) => Some(Trial { before: fds.next()?, supervisor: fds.next()?, terms }),
            None => None,
        };
        let (setup, children, state) = (text.setup, text.children, text.state);
        Some(Self { setup, held: held?, kept: kept?, children, filters: filters?, state, trial })
    }
}
