//! What clients and supervisors of version 1 wrote to each other must be read and written for ever.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::*;
use crate::json;

/// Loads and prints each line of a fixture; returns how many different tags there are.
fn round_trip<T: Serialize + DeserializeOwned + Debug>(fixture: &str, tag: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(fixture);
    let mut tags = BTreeSet::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let loaded: T = json::from_slice(line.as_bytes()).unwrap();
        assert_eq!(json::to_string(&loaded).unwrap(), line, "{loaded:?}");
        let value: serde_json::Value = json::from_slice(line.as_bytes()).unwrap();
        tags.insert(value[tag].as_str().unwrap().to_owned());
    }
    tags.len()
}

#[test]
fn every_verb_of_version_1_is_read_and_written_to_the_letter() {
    assert_eq!(round_trip::<Request>("requests-v1.ndjson", "verb"), 24);
}

#[test]
fn every_event_of_version_1_is_read_and_written_to_the_letter() {
    assert_eq!(round_trip::<Event>("events-v1.ndjson", "event"), 20);
}

#[test]
fn keys_that_were_added_later_may_be_absent() {
    let release =
        r#"{"version":1,"actor":"ci","verb":"release","service":"web","source":"-","force":false}"#;
    let request: Request = json::from_slice(release.as_bytes()).unwrap();
    let printed = json::to_string(&request).unwrap();
    assert!(printed.ends_with(r#""no_way_back":null,"dry_run":false}"#), "{printed}");
    let status = r#"{"event":"status","version":"0.1.0","services":[]}"#;
    let event: Event = json::from_slice(status.as_bytes()).unwrap();
    let printed = json::to_string(&event).unwrap();
    assert_eq!(printed, r#"{"event":"status","version":"0.1.0","services":[],"set":null}"#);
}
