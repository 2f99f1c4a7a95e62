//! The generation that is kept warm after a commit, as the state knows it.

use crate::core::ids::GenerationId;
use crate::core::operation::conclusion::Warm;
use crate::os::clock;
use crate::store::state::Standby;
use crate::supervisor::service::Service;
use crate::text;

/// The state's record of the generation that is kept warm.
pub(crate) fn record(service: &Service, warm: Warm, left: Option<GenerationId>) -> Option<Standby> {
    if warm == Warm::AsBefore {
        return service.durable.state().standby.clone();
    }
    let generation = service.fleet.get(left?).filter(|generation| generation.is_alive())?;
    let ms = text::ms(service.config().keep.standby);
    Some(Standby {
        release: generation.release.0,
        generation: generation.id.0,
        until_ms: clock::tick().after_ms(ms).0,
        boot_id: service.shared.boot_id.clone(),
    })
}
