//! What the files of a configuration say that others do not.
//!
//! It is written to the journal too, so variables of an environment and files that are not TOML, such as an
//! `env_file`, are named only, and of other values what looks like a secret is masked.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::files::Files;
use crate::core::secret;

/// Values by their dotted keys, as they were typed in.
type Keys = BTreeMap<String, String>;

/// A line a key: `+` it is new, `-` it is gone, `~` its value is another one.
#[must_use]
pub fn difference(main: &Path, before: &Files, after: &Files) -> Vec<String> {
    let (before, after) = (keys(main, before), keys(main, after));
    let mut lines = Vec::new();
    for (key, was) in &before {
        match after.get(key) {
            None => lines.push(format!("- {}", shown(key, was))),
            Some(is) if is != was && has_no_value(key) => lines.push(format!("~ {key}")),
            Some(is) if is != was => {
                let was = secret::masked(key, was);
                lines.push(format!("~ {} (was {was})", shown(key, is)));
            }
            Some(_) => {}
        }
    }
    let new = after.iter().filter(|(key, _)| !before.contains_key(*key));
    lines.extend(new.map(|(key, is)| format!("+ {}", shown(key, is))));
    // By key, whatever became of it.
    crate::core::ordered::sort(&mut lines, |a, b| a[2..] < b[2..]);
    lines
}

fn shown(key: &str, value: &str) -> String {
    match has_no_value(key) {
        true => key.to_owned(),
        false => format!("{key} = {}", secret::masked(key, value)),
    }
}

/// A file has none that is shown, and one of an environment may be a secret under any name.
fn has_no_value(key: &str) -> bool {
    key.starts_with('/') || key.contains(".env.")
}

fn keys(main: &Path, files: &Files) -> Keys {
    let folder = main.with_file_name("services.d");
    let mut keys = Keys::new();
    for (name, text) in files.texts() {
        let path = Path::new(&name);
        if path == main || path.parent() == Some(&folder) {
            let (table, _) = DeTable::parse_recoverable(&text);
            of_table("", table.get_ref(), &text, &mut keys);
        } else {
            keys.insert(name, text);
        }
    }
    keys
}

fn of_table(path: &str, table: &DeTable<'_>, text: &str, keys: &mut Keys) {
    for (name, value) in table {
        let name = name.get_ref();
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        of_value(path, value, text, keys);
    }
}

fn of_value(path: String, value: &Spanned<DeValue<'_>>, text: &str, keys: &mut Keys) {
    match value.get_ref() {
        DeValue::Table(table) => of_table(&path, table, text, keys),
        DeValue::Array(values)
            if values.iter().any(|value| matches!(value.get_ref(), DeValue::Table(_))) =>
        {
            for (n, value) in values.iter().enumerate() {
                of_value(format!("{path}.{}", n + 1), value, text, keys);
            }
        }
        _ => {
            let words = text.get(value.span()).unwrap_or_default().split_whitespace();
            keys.insert(path, words.collect::<Vec<_>>().join(" "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = "/etc/halley/halley.toml";
    const API: &str = "/etc/halley/services.d/api.toml";
    const ENV: &str = "/etc/halley/web.env";

    fn files(texts: &[(&str, &str)]) -> Files {
        Files::of(texts.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect())
    }

    #[test]
    fn what_changed_is_said_by_key_and_secrets_are_not() {
        let before = files(&[
            (
                MAIN,
                "[service.web]\nlisten = [\"tcp://127.0.0.1:1\"]\nenv = { A = \"1\", DB_PASSWORD = \"x\" }\nbake.for = \"1s\"\n",
            ),
            (API, "[service.api]\ncommand = [\"./api\"]\n"),
            (ENV, "SECRET=1\n"),
        ]);
        let after = files(&[
            (
                MAIN,
                "# said anew\n[service.web]\nlisten = [\n  \"tcp://127.0.0.1:2\" ]\n[service.web.env]\nB = \"2\"\nDB_PASSWORD = \"y\"\n[service.web.bake]\nfor = \"1s\"\n[[service.web.hook]]\nat = \"x\"\n",
            ),
            (ENV, "SECRET=2\n"),
        ]);
        let lines = difference(Path::new(MAIN), &before, &after);
        assert_eq!(
            lines,
            [
                "~ /etc/halley/web.env",
                "- service.api.command = [\"./api\"]",
                "- service.web.env.A",
                "+ service.web.env.B",
                "~ service.web.env.DB_PASSWORD",
                "+ service.web.hook.1.at = \"x\"",
                "~ service.web.listen = [ \"tcp://127.0.0.1:2\" ] (was [\"tcp://127.0.0.1:1\"])",
            ]
        );
        assert_eq!(difference(Path::new(MAIN), &after, &after), [""; 0]);
    }
}
