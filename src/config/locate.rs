//! Which configuration file is meant.

use std::ffi::OsString;
use std::path::PathBuf;

/// The default path of the configuration.
pub const DEFAULT: &str = "/etc/halley/halley.toml";

/// The file of `--config`, else of `HALLEY_CONFIG`, else [`DEFAULT`].
#[must_use]
pub fn locate(option: Option<PathBuf>) -> PathBuf {
    choose(option, std::env::var_os("HALLEY_CONFIG"))
}

fn choose(option: Option<PathBuf>, variable: Option<OsString>) -> PathBuf {
    let variable = variable.filter(|text| !text.is_empty()).map(PathBuf::from);
    option.or(variable).unwrap_or_else(|| PathBuf::from(DEFAULT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_wins_over_the_variable_and_both_over_the_default() {
        for (option, variable, expected) in [
            (Some("a.toml"), Some("b.toml"), "a.toml"),
            (None, Some("b.toml"), "b.toml"),
            (None, Some(""), DEFAULT),
            (None, None, DEFAULT),
        ] {
            let chosen = choose(option.map(PathBuf::from), variable.map(OsString::from));
            assert_eq!(chosen, PathBuf::from(expected));
        }
    }
}
