//! What a request may have changed by the time its connection breaks: the supervisor has it then, and
//! whoever asked cannot know how far it came. "Nothing was changed" is said of what only asks.

use std::io;
use std::path::Path;

use crate::api::{Trouble, Verb};
use crate::core::exit::Exit;

/// What may have been changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stake {
    /// The verb, for people.
    verb: &'static str,
    /// Of one service; none for a set and a target of notifications.
    service: Option<String>,
}

impl Stake {
    /// `None` for a verb that changes nothing.
    pub fn of(verb: &Verb) -> Option<Self> {
        let (name, service) = match verb {
            Verb::Watch(_) | Verb::WatchSet(_) | Verb::Status(_) => return None,
            Verb::History(_) | Verb::Releases(_) | Verb::Env(_) | Verb::Logs(_) => return None,
            Verb::Release(args) if args.dry_run => return None,
            Verb::Backup(args) if args.list => return None,
            Verb::Restore(args) if args.dry_run || !args.yes => return None,
            Verb::Repair(args) if !args.yes => return None,
            Verb::Reload(args) if args.dry_run => return None,
            Verb::Reload(_) => ("reload", None),
            Verb::Repair(args) => ("repair", Some(&args.service)),
            Verb::Release(args) => ("release", Some(&args.service)),
            Verb::ReleaseSet(_) => ("release --set", None),
            Verb::Rollback(args) => ("rollback", Some(&args.service)),
            Verb::Start(args) => ("start", Some(&args.service)),
            Verb::Stop(args) => ("stop", Some(&args.service)),
            Verb::Restart(args) => ("restart", Some(&args.service)),
            Verb::Freeze(args) => ("freeze", Some(&args.service)),
            Verb::Thaw(args) => ("thaw", Some(&args.service)),
            Verb::Drill(args) => ("drill", Some(&args.service)),
            Verb::Backup(args) => ("backup", Some(&args.service)),
            Verb::Restore(args) => ("restore", Some(&args.service)),
            Verb::Notify(_) => ("notify", None),
            Verb::Upgrade(_) => ("upgrade", None),
            Verb::Promote(args) => ("promote", Some(&args.service)),
            Verb::Abort(args) => ("abort", Some(&args.service)),
        };
        Some(Self { verb: name, service: service.cloned() })
    }

    /// What is said when the connection broke. `watch`: the command for an operation that is known to have
    /// begun.
    pub fn unknown(&self, socket: &Path, error: &io::Error, watch: Option<String>) -> Trouble {
        let (name, verb) = (self.service.as_deref().unwrap_or("halley-sup"), self.verb);
        let still = match (&watch, verb) {
            (Some(_), _) => {
                "running services keep serving; the operation continues from its journal once \
                 halley-sup runs"
            }
            (None, "restore") => {
                "what it had begun is undone before anything is started, unless the release was \
                 already proven on the restored data"
            }
            (None, _) => {
                "running services keep serving; it may have been done, in part, or not at all"
            }
        };
        Trouble {
            what: format!("{name}: how {verb} has ended is not known"),
            why: format!(
                "{}: the connection broke after it was asked for: {error}",
                socket.display()
            ),
            still: still.to_owned(),
            next: watch.into_iter().chain(self.next()).collect(),
            exit: Exit::Detached.code(),
        }
    }

    /// The line that is printed when the client leaves.
    pub fn farewell(&self) -> String {
        format!("{} continues if it has begun; {}", self.verb, self.next().join(", "))
    }

    fn next(&self) -> Vec<String> {
        let of = self.service.iter().map(|name| format!(" {name}")).collect::<String>();
        ["status", "history"].map(|verb| format!("halley-sup {verb}{of}")).into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::json;

    /// Every verb of the protocol, by its name on the wire.
    const ASKING: [&str; 6] = ["watch", "watch_set", "status", "history", "releases", "logs"];
    const CHANGING: [&str; 16] = [
        "release",
        "release_set",
        "rollback",
        "start",
        "stop",
        "restart",
        "freeze",
        "thaw",
        "drill",
        "backup",
        "restore",
        "repair",
        "notify",
        "upgrade",
        "promote",
        "abort",
    ];

    fn stake(verb: &str, more: Value) -> Option<Stake> {
        let mut all = json!({
            "verb": verb, "service": "web", "op": 1, "set": 1, "source": "s", "force": false,
            "members": [], "why": "w", "target": "t", "list": false, "dry_run": false, "yes": true,
            "unsaved": false, "follow": false, "n": 1, "program": "p", "deadline_ms": 1, "limit": 1, "tail": 1,
        });
        let fields = more.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(fields);
        Stake::of(&json::from_value(all).unwrap())
    }

    #[test]
    fn nobody_who_asked_for_a_change_is_told_that_nothing_was_changed() {
        let error = io::Error::from(io::ErrorKind::ConnectionReset);
        for verb in CHANGING {
            let stake = stake(verb, json!({})).unwrap_or_else(|| panic!("{verb}"));
            let trouble = stake.unknown(Path::new("/s"), &error, None);
            assert!(!trouble.still.contains("nothing was changed"), "{verb}");
            assert!(trouble.what.contains("is not known"), "{verb}");
            assert!(trouble.next.iter().any(|next| next.starts_with("halley-sup status")));
            assert_eq!(trouble.exit, Exit::Detached.code());
        }
        for verb in ASKING {
            assert_eq!(stake(verb, json!({})), None, "{verb}");
        }
        let dry_run = json!({"dry_run": true, "yes": false});
        assert_eq!(stake("restore", dry_run.clone()), None);
        assert_eq!(stake("release", dry_run), None);
        assert_eq!(stake("backup", json!({"list": true})), None);
    }

    #[test]
    fn an_operation_that_has_begun_is_named_with_the_way_to_watch_it() {
        let error = io::Error::from(io::ErrorKind::ConnectionReset);
        let stake = stake("rollback", json!({})).unwrap();
        let watch = "halley-sup watch web 7".to_owned();
        let trouble = stake.unknown(Path::new("/s"), &error, Some(watch));
        assert_eq!(trouble.next[0], "halley-sup watch web 7");
        assert!(trouble.still.contains("continues from its journal"), "{}", trouble.still);
    }
}
