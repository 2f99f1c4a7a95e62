//! Which known word was meant by a wrong one.

/// The known word that a wrong one is nearest to, when it is near enough to be a slip of the hand
/// or its beginning.
#[must_use]
pub fn nearest<'w>(wrong: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let n_edits_most = if wrong.len() <= 3 { 1 } else { 2 };
    known
        .map(|word| (strsim::osa_distance(wrong, word), word))
        .filter(|(n_edits, word)| *n_edits <= n_edits_most || is_beginning(wrong, word))
        .min()
        .map(|(_, word)| word)
}

fn is_beginning(wrong: &str, word: &str) -> bool {
    wrong.len() >= 3 && word.starts_with(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let known = ["interval", "timeout", "rise", "fall", "min_healthy"];
        for (word, meant) in [
            ("intervall", Some("interval")),
            ("tiemout", Some("timeout")),
            ("ris", Some("rise")),
            ("min-healthy", Some("min_healthy")),
            ("min", Some("min_healthy")),
            ("", None),
            ("colour", None),
            ("xyz", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), meant, "{word}");
        }
    }
}
