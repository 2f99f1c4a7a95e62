//! Which configuration file is meant.

use std::ffi::OsString;
use std::path::PathBuf;

/// The default path of the configuration.
pub const DEFAULT: &str = "/etc/halley/halley.toml";

/// The file of `--config`, else of `HALLEY_CONFIG`, else [`DEFAULT`].
#[must_use]
pub fn locate(option: Option<PathBuf>) -> PathBuf {
    given(option).unwrap_or_else(|| PathBuf::from(DEFAULT))
}

/// The file that was named, by the option or the variable.
#[must_use]
pub fn given(option: Option<PathBuf>) -> Option<PathBuf> {
    choose(option, std::env::var_os("HALLEY_CONFIG"))
}

fn choose(option: Option<PathBuf>, variable: Option<OsString>) -> Option<PathBuf> {
    let variable = variable.filter(|text| !text.is_empty()).map(PathBuf::from);
    option.or(variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_wins_over_the_variable() {
        for (option, variable, expected) in [
            (Some("a.toml"), Some("b.toml"), Some("a.toml")),
            (None, Some("b.toml"), Some("b.toml")),
            (None, Some(""), None),
            (None, None, None),
        ] {
            let chosen = choose(option.map(PathBuf::from), variable.map(OsString::from));
            assert_eq!(chosen, expected.map(PathBuf::from));
        }
    }
}
