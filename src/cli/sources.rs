//! The source that was named on the command line, in the commands that the answer names: they are to be run
//! as they stand.

use crate::api::{Event, Verb};
use crate::cli::given::quoted;

/// What stands for a source, and the source.
pub(super) struct Sources(Vec<(String, String)>);

impl Sources {
    /// Those of a release; what came from a pipe cannot be named again.
    pub(super) fn of(verb: &Verb) -> Self {
        let pair = |before: &str, source: &str| {
            let named = (source != "-").then(|| format!("{before}{}", quoted(source)));
            Some((format!("{before}SOURCE"), named?))
        };
        Self(match verb {
            Verb::Release(args) => pair(" ", &args.source).into_iter().collect(),
            Verb::ReleaseSet(args) => {
                let members = args.members.iter();
                members.filter_map(|one| pair(&format!("{}=", one.service), &one.source)).collect()
            }
            _ => Vec::new(),
        })
    }

    /// Puts it in its place.
    pub(super) fn fill(&self, event: &mut Event) {
        let (next, trouble) = match event {
            Event::Result(outcome) => (Some(&mut outcome.next), outcome.trouble.as_mut()),
            Event::Error(trouble) => (None, Some(trouble)),
            _ => return,
        };
        let all = next.into_iter().chain(trouble.map(|trouble| &mut trouble.next)).flatten();
        for command in all {
            for (placeholder, source) in &self.0 {
                *command = command.replacen(placeholder, source, 1);
            }
        }
    }
}
