//! Sizes as people write them: `2GiB`, `500MB`, `64KiB`, `1024B`.

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a size: {0:?} (write 500MB, 64MiB or 2GiB)")]
pub struct BadSize(pub String);

/// Reads a whole number with `B`, `kB`, `MB`, `GB`, `TB` (powers of 1000) or `KiB`, `MiB`, `GiB`,
/// `TiB` (powers of 1024) into bytes.
///
/// # Errors
/// [`BadSize`] when it is none of these or does not fit.
pub fn parse(text: &str) -> Result<u64, BadSize> {
    let bad = || BadSize(text.to_owned());
    let n_digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(n_digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let unit_bytes = match unit.trim_start() {
        "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1000_u64.pow(2),
        "GB" => 1000_u64.pow(3),
        "TB" => 1000_u64.pow(4),
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(bad()),
    };
    number.checked_mul(unit_bytes).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_binary_units_differ() {
        for (text, bytes) in [
            ("1B", 1),
            ("1kB", 1000),
            ("1KiB", 1024),
            ("500MB", 500_000_000),
            ("64 MiB", 64 * 1024 * 1024),
            ("2GiB", 2_147_483_648),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_bare_number_a_fraction_and_what_does_not_fit_are_refused() {
        for text in ["", "5", "GB", "1.5GB", "-1MB", "1gb", "99999999999TiB"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
