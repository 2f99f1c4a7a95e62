//! Backups, for people.

use crate::store::receipt::Receipt;
use crate::supervisor::data::driver::Counts;
use crate::text;

/// What was left out of a backup and is named; of the rest only the number is.
const N_LEFT_OUT_SHOWN: usize = 5;

/// Counts, for people.
#[must_use]
pub(crate) fn summary(counts: &Counts) -> String {
    match (counts.get("files"), counts.get("bytes")) {
        (Some(files), Some(bytes)) if counts.len() == 2 => {
            format!("{}, {}", text::count(files, "file"), text::size(*bytes))
        }
        _ if counts.is_empty() => "checked".to_owned(),
        _ => {
            let n: u64 = counts.values().sum();
            format!("{} in {}", text::count(n, "row"), text::count(counts.len(), "table"))
        }
    }
}

/// What is no part of a backup, after a text about the backup.
#[must_use]
pub(crate) fn left_out(receipt: &Receipt) -> String {
    if receipt.left_out.is_empty() {
        return String::new();
    }
    let which = text::first_of(&receipt.left_out, N_LEFT_OUT_SHOWN);
    format!("; left out (FIFO, socket or device): {which}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_as_what_they_are() {
        let counts = |pairs: &[(&str, u64)]| -> Counts {
            pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
        };
        assert_eq!(summary(&counts(&[("files", 2), ("bytes", 1500)])), "2 files, 1.5 kB");
        assert_eq!(summary(&counts(&[("a", 2), ("b", 3)])), "5 rows in 2 tables");
        assert_eq!(summary(&counts(&[("a", 2)])), "2 rows in 1 table");
        assert_eq!(summary(&counts(&[])), "checked");
    }
}
