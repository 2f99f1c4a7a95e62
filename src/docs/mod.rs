//! The reference as the binary carries it, one topic a file. This room holds texts. It must never
//! show them: that is done by the command line.
//!
//! A new topic is a file beside this one and a line in [`TOPICS`]; a test compares the two.

/// One topic of the reference.
#[derive(Debug, Clone, Copy)]
pub struct Topic {
    /// Its name on the command line, and of its file.
    pub name: &'static str,
    /// What it is about, in one line.
    pub about: &'static str,
    /// The whole text, packed (RFC 1951).
    packed: &'static [u8],
}

/// No topic is longer.
const BYTES_MAX: usize = 128 * 1024;

impl Topic {
    /// The whole text, as Markdown.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = Vec::with_capacity(BYTES_MAX);
        let unpacked = flate2::Decompress::new(false).decompress_vec(
            self.packed,
            &mut text,
            flate2::FlushDecompress::Finish,
        );
        debug_assert!(matches!(unpacked, Ok(flate2::Status::StreamEnd)), "{}", self.name);
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// A topic from the file of its name.
macro_rules! topic {
    ($name:literal, $about:literal) => {
        Topic {
            name: $name,
            about: $about,
            packed: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".deflate")),
        }
    };
}

/// Every topic, in the order of the list that people see.
pub const TOPICS: &[Topic] = &[
    topic!("verbs", "Every command with its options"),
    topic!("config", "Every key of the configuration and of release.toml"),
    topic!("phases", "What a release does, phase by phase"),
    topic!("strategies", "overlap, canary, hold, replace"),
    topic!("handoff", "How a program gets its socket: inherit, intercept, port"),
    topic!("bake", "Watching a release after the flip"),
    topic!("connections", "Connections that clients keep open, at a flip"),
    topic!("data", "Backups, restore, migrations, rollback rehearsals"),
    topic!("hooks", "Commands around a release"),
    topic!("sets", "Several services released as one"),
    topic!("notifications", "Results sent to a command or a webhook"),
    topic!("exit", "Exit codes"),
    topic!("json", "The shape of --json output"),
    topic!("recipes", "Configurations of real programs"),
    topic!("operations", "Installation, daily commands, what to do at 3 a.m."),
    topic!("limits", "What is guaranteed, what is not, kernel versions"),
    topic!("figures", "Measured: releases under load, latency, memory"),
    topic!("dependencies", "Libraries used, and why"),
    topic!("contributing", "Building, testing, style"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_is_its_file() {
        for topic in TOPICS {
            let path = format!("{}/src/docs/{}.md", env!("CARGO_MANIFEST_DIR"), topic.name);
            assert_eq!(topic.text(), std::fs::read_to_string(path).unwrap(), "{}", topic.name);
        }
    }
}
