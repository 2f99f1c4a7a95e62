//! What a user can write, and whether the README says what it means.

/// Keys that the README does not explain where their section is. In the table of the
/// configuration, a section's rows follow a row that names it: `**`[service.NAME.health]`**`.
pub fn missing_keys(readme: &str, keys: &[(&str, &[&str])]) -> Vec<String> {
    let table = body_of(readme, "## Configuration");
    let mut missing = Vec::new();
    for (section, keys) in keys {
        let body = match *section {
            "" => table.split("\n| **").next().unwrap_or_default(),
            "release.toml" => {
                let paragraph = table.lines().find(|line| line.contains("hold a `release.toml`"));
                paragraph.unwrap_or_default()
            }
            section => rows_of(table, section),
        };
        let absent = keys.iter().filter(|key| !names(body, key) && !has_section(table, key));
        missing.extend(absent.map(|key| format!("{section}: {key}")));
    }
    missing
}

/// Verbs of the binary's own help that the README does not name.
pub fn missing_verbs(readme: &str, help: &str) -> Vec<String> {
    let body = body_of(readme, "## Verbs");
    verbs(help).into_iter().filter(|verb| !names(body, verb)).map(str::to_owned).collect()
}

/// The verbs in a help text.
pub fn verbs(help: &str) -> Vec<&str> {
    let rows = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let rows = rows.take_while(|line| line.starts_with("  "));
    // A description that goes on in the next line is indented further.
    let rows = rows.filter(|line| !line.starts_with("   "));
    rows.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help").collect()
}

/// The text between a heading and the next one.
fn body_of<'a>(readme: &'a str, heading: &str) -> &'a str {
    let after = readme.split_once(&format!("\n{heading}\n")).map_or("", |(_, after)| after);
    after.split_once("\n#").map_or(after, |(body, _)| body)
}

/// The row that names a section and those after it, to the next such row.
fn rows_of<'a>(table: &'a str, section: &str) -> &'a str {
    let head = format!("| **`[{section}]`**");
    let after = table.split_once(&head).map_or("", |(_, after)| after);
    after.split("\n| **").next().unwrap_or_default()
}

/// Whether a table of this name has rows of its own.
fn has_section(table: &str, key: &str) -> bool {
    let names = [format!("| **`[service.NAME.{key}]`**"), format!("| **`[{key}.NAME]`**")];
    names.iter().any(|name| table.contains(name))
}

/// Whether a word stands in code marks, alone or before what is written after it.
fn names(body: &str, word: &str) -> bool {
    body.contains(&format!("`{word}`")) || body.contains(&format!("`{word} "))
}

#[test]
fn a_key_is_looked_for_in_its_own_section() {
    let readme = "\n## Configuration\n| `root` | x |\n| **`[service.NAME]`** | |\n| `user` | x |\n\
                  | **`[service.NAME.health]`** | `http = 1` |\n| `rise`, `fall` | x |\n\n## Next\n";
    let keys: &[(&str, &[&str])] = &[
        ("", &["root", "service", "user"]),
        ("service.NAME", &["user", "health", "rise"]),
        ("service.NAME.health", &["http", "rise", "fall", "root"]),
    ];
    let expected = [": user", "service.NAME: rise", "service.NAME.health: root"];
    assert_eq!(missing_keys(readme, keys), expected);
}

#[test]
fn a_verb_that_only_the_help_knows_is_missed() {
    let help = "Usage: x\n\nCommands:\n  run    Run\n  logs   L\n  dance  Dance\n         on\n  \
                help   H\n\nOptions:\n  -h\n";
    assert_eq!(verbs(help), ["run", "logs", "dance"]);
    let readme = "\n## Verbs\n\n`run` · `logs SERVICE`\n\n## Next\n`dance`\n";
    assert_eq!(missing_verbs(readme, help), ["dance"]);
}
