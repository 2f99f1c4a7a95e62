//! Kept connections in one line, for people.

use crate::api::kept::KeptConnections;

/// `kept connections: 14 followed, 2 stay with release 41 (why)`.
pub(super) fn text(kept: &KeptConnections) -> String {
    let with = kept.release.map_or(String::new(), |release| format!(" with release {release}"));
    let why = kept.why.as_ref().map_or(String::new(), |why| format!(" ({why})"));
    let parts = [
        (kept.followed, "followed".to_owned()),
        (kept.closed, "closed while quiet".to_owned()),
        (kept.waiting, "to follow at their next requests".to_owned()),
        (kept.stay, format!("stay{with}{why}")),
    ];
    let parts = parts.into_iter().filter(|(n, _)| *n > 0);
    let parts: Vec<String> = parts.map(|(n, text)| format!("{n} {text}")).collect();
    format!("kept connections: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_there_is_is_said() {
        let none = KeptConnections {
            followed: 0,
            closed: 0,
            waiting: 0,
            stay: 0,
            release: None,
            why: None,
        };
        let all = KeptConnections { followed: 16, ..none.clone() };
        assert_eq!(text(&all), "kept connections: 16 followed");
        let some = KeptConnections {
            followed: 14,
            stay: 2,
            release: Some(41),
            why: Some("the program reads them in a blocking way".to_owned()),
            ..none
        };
        let expected = "kept connections: 14 followed, 2 stay with release 41 (the program reads them in a blocking way)";
        assert_eq!(text(&some), expected);
    }
}
