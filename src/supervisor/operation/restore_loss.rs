//! What a restore would lose: what there is more of now than in the backup.

use crate::core::ordered::Ordered as _;
use crate::supervisor::data::backup::{Counts, Hand, Site};
use crate::supervisor::data::error::DataError;
use crate::text;

/// Files that are new or were changed, and are named; of the others only the number is.
const N_SHOWN: usize = 20;

/// What would be lost.
#[derive(Debug)]
pub(crate) struct Loss {
    /// What was counted in the present data, or why it cannot be read.
    pub(crate) now: Result<Counts, DataError>,
    /// Of which there is more, and how much; a file that is new or was changed counts as one.
    more: Counts,
    /// For people.
    pub(crate) lines: Vec<String>,
    /// What it means when there are none.
    pub(crate) none: &'static str,
    /// What may be lost too, and is not seen.
    pub(crate) unseen: &'static str,
}

impl Loss {
    /// Counts the present data against a backup.
    pub(crate) async fn of(hand: &Hand<'_>, then: &Counts, id: &str) -> Self {
        let mut loss = match hand.inspect(&Site::Live).await {
            Ok(now) => Self::between(now, then),
            Err(why) => Self::unknown(why),
        };
        if loss.now.is_ok() {
            loss.note_changed(hand.changed(id).await.unwrap_or_default());
        }
        loss.note_unseen(hand);
        loss
    }

    /// Counts what a restore has displaced: what was committed after the count before, by one who held
    /// nothing open when that was looked at, is in it.
    pub(crate) async fn displaced(hand: &Hand<'_>, then: &Counts, id: &str) -> Self {
        match hand.displaced(id).await {
            Ok((now, changed)) => {
                let mut loss = Self::between(now, then);
                loss.note_changed(changed);
                loss.note_unseen(hand);
                loss
            }
            Err(why) => Self::unknown(why),
        }
    }

    fn unknown(why: DataError) -> Self {
        Self { now: Err(why), more: Counts::new(), lines: Vec::new(), none: "", unseen: "" }
    }

    fn between(now: Counts, then: &Counts) -> Self {
        let had = |name: &String| then.get(name).copied().unwrap_or(0);
        let more = now.iter().filter(|(name, n)| **n > had(name));
        let more = more.map(|(name, n)| (name.clone(), n - had(name))).into_map();
        let line = |(name, n): (&String, &u64)| {
            format!("{name}: {n} more now ({}, {} in the backup)", now[name], had(name))
        };
        let lines = more.iter().map(line).collect();
        Self { now: Ok(now), more, lines, none: "", unseen: "" }
    }

    fn note_unseen(&mut self, hand: &Hand<'_>) {
        self.none = hand.shows_no_loss();
        self.unseen = hand.sees_not();
    }

    /// What is new or was changed; a long list is cut.
    fn note_changed(&mut self, changed: Vec<String>) {
        self.lines.extend(changed.iter().take(N_SHOWN).cloned());
        if let Some(n) = changed.len().checked_sub(N_SHOWN).filter(|n| *n > 0) {
            self.lines.push(format!("{} more, new or changed since", text::count(n, "file")));
        }
        self.more.extend(changed.into_iter().map(|line| (line, 1)));
    }

    /// Whether nothing is lost that was not announced.
    pub(crate) fn is_within(&self, announced: &Self) -> bool {
        let known = |name: &String| announced.more.get(name).copied().unwrap_or(0);
        match (&self.now, &announced.now) {
            (_, Err(_)) => true,
            (Err(_), Ok(_)) => false,
            (Ok(_), Ok(_)) => self.more.iter().all(|(name, n)| *n <= known(name)),
        }
    }

    /// What it means when nothing is seen.
    pub(crate) fn nothing(&self) -> String {
        with(self.none, self.unseen)
    }

    /// In one line.
    pub(crate) fn text(&self) -> String {
        match (&self.now, self.lines.is_empty()) {
            (Err(why), _) => format!("unknown, the live data cannot be read: {why}"),
            (Ok(_), true) => self.nothing(),
            (Ok(_), false) => with(&self.lines.join("; "), self.unseen),
        }
    }
}

fn with(text: &str, unseen: &str) -> String {
    if unseen.is_empty() { text.to_owned() } else { format!("{text}; {unseen}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Counts {
        pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
    }

    #[test]
    fn what_is_newer_would_be_lost() {
        let (now, then) = (counts(&[("a", 9), ("b", 1), ("c", 2)]), counts(&[("a", 5), ("b", 3)]));
        assert_eq!(
            Loss::between(now, &then).lines,
            ["a: 4 more now (9, 5 in the backup)", "c: 2 more now (2, 0 in the backup)"]
        );
    }

    #[test]
    fn more_than_was_announced_is_seen() {
        let then = counts(&[("a", 5)]);
        let loss = |n| Loss::between(counts(&[("a", n)]), &then);
        assert!(loss(7).is_within(&loss(7)) && loss(4).is_within(&loss(7)));
        assert!(!loss(8).is_within(&loss(7)));
        assert!(!Loss::between(counts(&[("b", 1)]), &then).is_within(&loss(7)));
        let unknown = Loss::unknown(DataError::NoVersion);
        assert!(loss(8).is_within(&unknown) && !unknown.is_within(&loss(7)));
    }

    #[test]
    fn what_is_not_seen_is_said_after_a_list_too() {
        let mut loss = Loss::between(counts(&[("a", 7)]), &counts(&[("a", 5)]));
        loss.unseen = "rows that were changed are not seen";
        let text = loss.text();
        assert_eq!(text, "a: 2 more now (7, 5 in the backup); rows that were changed are not seen");
    }
}
