//! What the tools of a database print.

use crate::supervisor::data::driver::Done;
use crate::supervisor::data::error::DataError;

/// `table|rows`
pub(super) fn count(line: &str) -> Option<(String, u64)> {
    let (table, rows) = line.rsplit_once('|')?;
    Some((table.to_owned(), rows.trim().parse().ok()?))
}

/// The configured query must return a value that is not empty, 0 or false.
pub(super) fn answered(said: &str) -> Done {
    match said.trim() {
        said @ ("" | "0" | "f") => Err(DataError::Query { said: said.to_owned() }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_says_nothing_is_no_check() {
        assert!(answered("3\n").is_ok());
        for said in ["", "0\n", "f"] {
            assert!(answered(said).is_err());
        }
        assert_eq!(count("public.a|b|12"), Some(("public.a|b".to_owned(), 12)));
    }
}
