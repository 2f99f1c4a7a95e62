//! An open operation whose journal has a word that this version does not know.
//!
//! What runs goes on serving. No operation begins until a human has closed the open one.

use crate::api::Trouble;
use crate::core::exit::Exit;
use crate::core::ids::OpId;
use crate::supervisor::service::Service;
use crate::supervisor::service::refusal::still;

/// An open operation that is not resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unresumed {
    /// Its number.
    pub op: OpId,
    /// The journal, the line and the word.
    pub why: String,
    /// Its migration was announced: what the data is like is not known.
    pub may_have_migrated: bool,
}

impl Unresumed {
    /// The alarm, and what every verb is refused with that would begin something.
    #[must_use]
    pub(crate) fn trouble(&self, service: &Service) -> Trouble {
        let name = &service.name;
        Trouble {
            what: format!("{name}: operation {} cannot be resumed", self.op),
            why: format!("{}; nothing is begun until that operation is closed", self.why),
            still: still(service),
            next: vec![format!("halley-sup abort {name}")],
            exit: Exit::Busy.code(),
        }
    }
}

/// Whether the last good release may be started when it does not run: with an operation that is not
/// resumed, only where nothing else runs and its data is as it was.
#[must_use]
pub(crate) fn may_start(service: &Service) -> bool {
    service.activity.unresumed().is_none_or(|unresumed| {
        !unresumed.may_have_migrated && !service.fleet.all().iter().any(|crew| crew.is_alive())
    })
}
