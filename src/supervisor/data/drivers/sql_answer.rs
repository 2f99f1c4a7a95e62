//! What the tools of a database print.

use crate::supervisor::data::driver::Done;
use crate::supervisor::data::error::DataError;

/// `table|rows`
pub(super) fn count(line: &str) -> Option<(String, u64)> {
    let (table, rows) = line.rsplit_once('|')?;
    Some((table.to_owned(), rows.trim().parse().ok()?))
}

/// A text that was printed by `hex()`.
pub(super) fn from_hex(hex: &str) -> Option<String> {
    let digits: Option<Vec<u32>> = hex.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    let bytes: Option<Vec<u8>> =
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect();
    Some(String::from_utf8_lossy(&bytes?).into_owned())
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
    fn a_name_comes_back_from_hex() {
        assert_eq!(from_hex("61220A").as_deref(), Some("a\"\n"));
        for odd in ["6", "zz", "+1"] {
            assert_eq!(from_hex(odd), None, "{odd}");
        }
        assert_eq!(from_hex("").as_deref(), Some(""));
    }

    #[test]
    fn a_query_that_says_nothing_is_no_check() {
        assert!(answered("3\n").is_ok());
        for said in ["", "0\n", "f"] {
            assert!(answered(said).is_err());
        }
        assert_eq!(count("public.a|b|12"), Some(("public.a|b".to_owned(), 12)));
    }
}
