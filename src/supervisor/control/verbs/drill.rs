//! The verb `drill`: a rollback is rehearsed now.

use crate::api::drill::Args;
use crate::api::{Event, PhaseState, Trouble};
use crate::core::exit::Exit;
use crate::core::operation::outcome::Word;
use crate::core::status::NOTHING_OLDER;
use crate::os::clock;
use crate::supervisor::control::client::Client;
use crate::supervisor::rollback_readiness::drill::{self, DrillError};
use crate::supervisor::rollback_readiness::readiness;
use crate::supervisor::service::outcome;
use crate::supervisor::service::refusal;
use crate::supervisor::service::stack::Stack;

/// Rehearses a rollback now.
///
/// # Errors
/// Why a rollback would fail, exit 14; or why it was not tried.
pub(crate) async fn perform(stack: &Stack, args: Args, client: &mut Client) -> Result<(), Trouble> {
    let service = &stack.find(&args.service)?;
    let running = service.activity.operation();
    if let Some(running) = running {
        return Err(refusal::busy(service, &running));
    }
    let none = || {
        let what = format!("{}: no rollback can be rehearsed", service.name);
        let none = NOTHING_OLDER;
        Trouble { what, ..refusal::refusal(service, "", none, Exit::NoTarget, &["releases"]) }
    };
    let target = readiness::target(service).ok_or_else(none)?;
    let phase = |state, ms, detail: &str| Event::Phase {
        phase: "drill".to_owned(),
        state,
        ms,
        detail: detail.to_owned(),
    };
    let begun = clock::tick();
    client.tell(&phase(PhaseState::Start, 0, "")).await;
    let tried = drill::run(service, target).await;
    let ms = clock::tick().since_ms(begun);
    match tried {
        Ok(detail) => {
            client.tell(&phase(PhaseState::Ok, ms, &detail)).await;
            client
                .tell(&Event::Result(Box::new(outcome::outcome(service, Word::Drilled, 0))))
                .await;
            Ok(())
        }
        Err(error) => {
            client.tell(&phase(PhaseState::Fail, ms, &error.to_string())).await;
            let exit = match error {
                DrillError::Superseded => Exit::Aborted,
                DrillError::Failed(_) => Exit::RehearsalFailed,
            };
            let why = format!("release {target}: {error}");
            let what = format!("{}: the rollback rehearsal failed", service.name);
            let next = &["releases", "status"];
            Err(Trouble { what, ..refusal::refusal(service, "", &why, exit, next) })
        }
    }
}
