//! A keeper becomes another program, and the one before again when the supervisor of that does not come
//! up.

use std::os::fd::OwnedFd;

use crate::core::time::Tick;
use crate::keeper::estate::{Estate, Terms, Trial};
use crate::keeper::keeping::on_trial::OnTrial;
use crate::keeper::keeping::{Keeper, Stop};
use crate::keeper::protocol::Tell;
use crate::keeper::supervised::Supervised;
use crate::os::{clock, in_place, proc};

impl Keeper {
    /// Becomes the program that came with the request. Returns why it did not.
    pub(super) fn become_next(&mut self, seq: u64, ready_ms: u64, fds: Vec<OwnedFd>) -> String {
        let Some(program) = fds.into_iter().next() else {
            return "no program came with the request".to_owned();
        };
        let Some((running, supervisor)) = self.supervised.handed_on() else {
            return "the supervisor is gone".to_owned();
        };
        if self.stop != Stop::No || self.trial.is_some() {
            return "it is being stopped, or upgraded already".to_owned();
        }
        let before = match in_place::own_program() {
            Ok(before) => before,
            Err(error) => return error.to_string(),
        };
        let terms = Terms { seq, ready_ms, ..running };
        let trial = Some(Trial { before, supervisor, terms });
        self.become_program(&program, trial)
    }

    /// The new supervisor did not come up.
    pub(super) fn go_back(&mut self) {
        let Some(before) = self.trial.take().map(OnTrial::before) else { return };
        tracing::error!(
            "the supervisor of the new program does not come up; the program before returns"
        );
        self.supervised.end();
        let why = self.become_program(&before, None);
        tracing::error!(why, "going back to the program before");
        self.supervised = Supervised::new();
    }

    fn become_program(&mut self, program: &OwnedFd, trial: Option<Trial>) -> String {
        // Nobody waits for a launch under way.
        self.children.end_overdue(Tick(u64::MAX));
        // The next program hears them.
        proc::hold_signals();
        let error = match self.estate() {
            _ if self.signals.are_waiting() => "it is asked for something else".to_owned(),
            Ok(estate) => {
                Estate { trial, ..estate }.keep_on(&in_place::path_of(program)).to_string()
            }
            Err(error) => error.to_string(),
        };
        proc::let_signals_come();
        error
    }

    /// The program before this one has left its supervisor, which waits for this answer and has ended then.
    pub(super) fn begin_trial(&mut self, trial: Trial) {
        let Trial { before, supervisor, terms } = trial;
        let until = clock::tick().after_ms(terms.ready_ms);
        self.supervised = Supervised::taken_over(&terms, supervisor);
        self.supervised.tell(&Tell::done(terms.seq), &[]);
        self.supervised.kill();
        self.trial = Some(OnTrial::of(before, until));
    }
}
