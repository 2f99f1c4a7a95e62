//! Whether a release runs on data that it did not leave there itself: its schema contract against the
//! schema of a backup.

/// What a release declares about the data.
#[derive(Debug, Clone, Copy)]
pub struct Contract<'a> {
    /// Schemas that it runs on.
    pub accepts: &'a [String],
    /// Whether it has a migration.
    pub migrates: bool,
}

/// What must happen to a backup before a release can run on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Nothing, as far as is declared and known.
    Runs,
    /// The release's migration.
    NeedsMigration,
    /// It cannot run there.
    Misses,
}

/// Compares the schema of a backup, where it is known, with a contract, where there is one.
#[must_use]
pub fn fit(backup: Option<&str>, contract: Option<Contract<'_>>) -> Fit {
    match (backup, contract) {
        (Some(has), Some(contract)) if !contract.accepts.iter().any(|schema| schema == has) => {
            if contract.migrates {
                Fit::NeedsMigration
            } else {
                Fit::Misses
            }
        }
        _ => Fit::Runs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(backup: Option<&str>, accepts: &[&str], migrates: bool, expected: Fit) {
        let accepts: Vec<String> = accepts.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(fit(backup, Some(Contract { accepts: &accepts, migrates })), expected);
    }

    #[test]
    fn only_what_is_not_accepted_is_migrated_or_refused() {
        check(Some("2"), &["1", "2"], false, Fit::Runs);
        check(Some("1"), &["1", "2"], true, Fit::Runs);
        check(Some("0"), &["1", "2"], true, Fit::NeedsMigration);
        check(Some("0"), &["1", "2"], false, Fit::Misses);
        // A newer one too: what a migration makes of it shows on the copy.
        check(Some("3"), &["1", "2"], true, Fit::NeedsMigration);
        check(None, &["2"], false, Fit::Runs);
        assert_eq!(fit(Some("0"), None), Fit::Runs);
    }
}
