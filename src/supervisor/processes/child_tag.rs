//! The label a child carries at the keeper: what the next supervisor must know about it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::core::ids::{GenerationId, InstanceIndex, OpId, ReleaseId, ServiceName, SlotId};
use crate::core::time::Tick;
use crate::json;

/// What a child is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Label {
    /// Version of this format, now 1.
    pub version: u16,
    /// Whose process it is.
    pub service: String,
    /// Of which release.
    pub release: u64,
    /// Of which generation.
    pub generation: u64,
    /// Its place.
    pub instance: u16,
    /// Its slots, in the order of the listeners.
    pub slots: Vec<u16>,
    /// When it was started, in ticks of its boot.
    pub started_ms: u64,
    /// Starts after the first.
    pub restarts: u32,
    /// An instance, or a command that runs once.
    pub role: Role,
    /// How many instances its generation was to have; 0 when it was not recorded.
    #[serde(default)]
    pub instances: u16,
    /// A number for the settings that it was started with; 0 when it was not recorded.
    #[serde(default)]
    pub started_with: u64,
    /// The port it was given.
    #[serde(default)]
    pub port: Option<u16>,
    /// The socket's path it was given.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// What a command is run for.
    #[serde(default)]
    pub purpose: Option<Purpose>,
}

/// What a command, or an instance that does not serve, is run for. In a label it is a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(crate) enum Purpose {
    /// An instance is tried out: the next supervisor ends it.
    Rehearsal,
    /// The migration of this operation: it goes on when the supervisor dies, and the next one asks
    /// for its end.
    Migration(OpId),
    /// Anything that the next supervisor ends, by its name.
    Passing(String),
}

const REHEARSAL: &str = "rehearsal";
const MIGRATION: &str = "migrate/";

impl Purpose {
    /// Whether the next supervisor leaves it running.
    pub(crate) fn outlives_a_supervisor(&self) -> bool {
        match self {
            Self::Migration(_) => true,
            Self::Rehearsal | Self::Passing(_) => false,
        }
    }
}

impl From<String> for Purpose {
    fn from(text: String) -> Self {
        let op = text.strip_prefix(MIGRATION).and_then(|op| op.parse().ok());
        match op {
            Some(op) => Self::Migration(OpId(op)),
            None if text == REHEARSAL => Self::Rehearsal,
            None => Self::Passing(text),
        }
    }
}

impl From<Purpose> for String {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Rehearsal => REHEARSAL.to_owned(),
            Purpose::Migration(op) => format!("{MIGRATION}{op}"),
            Purpose::Passing(name) => name,
        }
    }
}

/// What a child is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// It serves.
    Instance,
    /// It is a probe's command.
    Probe,
    /// It passes connections on to an instance.
    Forwarder,
    /// It is a command that runs once, to its end.
    Oneshot,
    /// A relay for connections left waiting in a slot; it belongs to no generation.
    Passer,
    /// It lets kept connections follow the flip; it belongs to no generation.
    Follower,
}

impl Label {
    /// The label of a process that relays connections left waiting in a slot.
    pub(crate) fn passer(service: &ServiceName, now: Tick) -> Self {
        Self::outside(service.as_str(), now, Role::Passer)
    }

    /// The label of a process that lets kept connections follow.
    pub(crate) fn follower(service: &ServiceName, now: Tick) -> Self {
        Self::outside(service.as_str(), now, Role::Follower)
    }

    /// The label of a command that runs once, to its end. The service is empty for one that belongs
    /// to none.
    pub(crate) fn command(service: &str, now: Tick, purpose: Purpose) -> Self {
        Self { purpose: Some(purpose), ..Self::outside(service, now, Role::Oneshot) }
    }

    /// Whether it belongs to the stack, not to one of its services.
    pub(crate) fn is_of_no_service(&self) -> bool {
        self.service.is_empty()
    }

    /// A process that belongs to no generation.
    fn outside(service: &str, now: Tick, role: Role) -> Self {
        Self {
            version: 1,
            service: service.to_owned(),
            release: 0,
            generation: 0,
            instance: 0,
            slots: Vec::new(),
            started_ms: now.0,
            restarts: 0,
            role,
            instances: 0,
            started_with: 0,
            port: None,
            socket: None,
            purpose: None,
        }
    }

    /// As text.
    pub(crate) fn print(&self) -> String {
        json::to_string(self).unwrap_or_default()
    }

    /// From text; a label that cannot be parsed is `None`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        json::from_slice(text.as_bytes()).ok()
    }

    /// Its generation.
    pub(crate) fn generation(&self) -> GenerationId {
        GenerationId(self.generation)
    }

    /// Its release.
    pub(crate) fn release(&self) -> ReleaseId {
        ReleaseId(self.release)
    }

    /// Its place.
    pub(crate) fn index(&self) -> InstanceIndex {
        InstanceIndex(self.instance)
    }

    /// Its slots.
    pub(crate) fn slot_ids(&self) -> Vec<SlotId> {
        self.slots.iter().map(|slot| SlotId(*slot)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_of_version_1_loads_for_ever() {
        let text = r#"{"version":1,"service":"web","release":43,"generation":9,"instance":0,
            "slots":[2],"started_ms":5,"restarts":0,"role":"instance"}"#;
        let label = Label::read(text).unwrap();
        assert_eq!(Label::read(&label.print()), Some(label));
    }

    #[test]
    fn a_purpose_is_its_text() {
        for (text, expected, outlives) in [
            ("rehearsal", Purpose::Rehearsal, false),
            ("migrate/107", Purpose::Migration(OpId(107)), true),
            ("migrate/x", Purpose::Passing("migrate/x".to_owned()), false),
            ("hook before_flip", Purpose::Passing("hook before_flip".to_owned()), false),
        ] {
            let purpose = Purpose::from(text.to_owned());
            assert_eq!((&purpose, purpose.outlives_a_supervisor()), (&expected, outlives));
            assert_eq!(String::from(purpose), text);
        }
    }
}
