//! A keeper takes another one's place, or gives its own away.

use crate::core::time::Tick;
use crate::keeper::KeeperError;
use crate::keeper::estate::{Estate, Filter, State};
use crate::keeper::keeping::{Keeper, Stop, store};
use crate::keeper::supervised::Supervised;
use crate::os::{handover, proc, stranger};

impl Keeper {
    /// Goes on with what the keeper before had.
    pub fn inherit(estate: Estate) -> Result<Self, KeeperError> {
        let Estate { setup, held, kept, children, filters, state, trial } = estate;
        let mut keeper = Self::new(setup, held)?;
        for token in &state.unborn {
            end_unborn(token);
        }
        keeper.kept.extend(kept);
        keeper.kept.iter().for_each(|(name, fd)| store(name, fd));
        children.into_iter().for_each(|heir| keeper.children.adopt(heir));
        for Filter { child, fd, watched } in filters {
            keeper.calls.add(child, fd, watched);
        }
        keeper.told_ready = state.told_ready;
        if state.stands_in {
            let offered = handover::offer_at(&keeper.setup.handover);
            keeper.offer =
                offered.inspect_err(|error| tracing::error!(%error, "offering to hand over")).ok();
        }
        if state.is_stopping {
            keeper.stop = keeper.asked_to_stop();
        }
        if let Some(trial) = trial {
            keeper.begin_trial(trial);
        }
        Ok(keeper)
    }

    /// Hands over to a `run` that somebody has started, if one asks. `true` when it is done. This is
    /// the one place where a keeper waits for another process, which is its next self, for two seconds
    /// a step at most; its own supervisor has ended by then.
    pub(super) fn hand_on(&mut self) -> bool {
        let Some(other) = self.offer.as_ref().and_then(handover::asked) else { return false };
        self.supervised.end();
        // Nobody waits for a launch under way.
        self.children.end_overdue(Tick(u64::MAX));
        let given = self.estate().and_then(|mut estate| {
            estate.state.stands_in = false;
            estate.give(&other)
        });
        match given {
            Ok(()) => return true,
            Err(error) => tracing::error!(%error, "handing over"),
        }
        self.supervised = Supervised::new();
        false
    }

    pub(super) fn estate(&self) -> std::io::Result<Estate> {
        let kept = self.kept.iter().map(|(name, fd)| Ok((name.clone(), fd.try_clone()?)));
        Ok(Estate {
            setup: self.setup.clone(),
            held: self.held.iter().map(|fd| fd.try_clone()).collect::<std::io::Result<_>>()?,
            kept: kept.collect::<std::io::Result<_>>()?,
            children: self.children.heirs().collect(),
            filters: self.calls.copies()?,
            state: State {
                unborn: Vec::new(),
                is_stopping: self.stop != Stop::No,
                told_ready: self.told_ready,
                stands_in: self.offer.is_some(),
            },
            trial: None,
        })
    }
}

/// Ends what the keeper before had begun to start, and did not come to tell of.
fn end_unborn(token: &str) {
    for pid in stranger::with_token(token) {
        let ended =
            proc::start_ticks(pid).and_then(|start| proc::signal(pid, start, libc::SIGKILL));
        if let Err(error) = ended {
            tracing::warn!(pid, %error, "ending a process that was being started");
        }
    }
}
