//! Keys of the configuration: each is in the table of its section.

/// Keys that no row of their section's table begins with.
pub fn missing(page: &str, keys: &[(&str, &[&str])]) -> Vec<String> {
    let mut missing = Vec::new();
    for (section, keys) in keys {
        let rows = rows_of(page, &heading(section));
        let absent = keys.iter().filter(|key| !is_in(&rows, key) && !has_section(page, key));
        missing.extend(absent.map(|key| format!("{section}: {key}")));
    }
    missing
}

fn heading(section: &str) -> String {
    match section {
        "" => "## Top level".to_owned(),
        "release.toml" => "## `release.toml`".to_owned(),
        section => match section.strip_prefix("release.toml.") {
            Some(below) => format!("## `[{below}]` in `release.toml`"),
            None => format!("## `[{section}]`"),
        },
    }
}

/// First cells of the rows below a heading, to the next heading.
fn rows_of<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let below = page.lines().skip_while(|line| *line != heading).skip(1);
    let below = below.take_while(|line| !line.starts_with("## "));
    below.filter_map(|line| line.strip_prefix("| ")?.split(" |").next()).collect()
}

fn is_in(rows: &[&str], key: &str) -> bool {
    rows.iter().any(|cell| cell.contains(&format!("`{key}`")))
}

/// Whether a section of this name has a table of its own.
fn has_section(page: &str, key: &str) -> bool {
    let names = [format!("## `[service.NAME.{key}]`"), format!("## `[{key}.NAME]`")];
    page.lines().any(|line| names.iter().any(|name| line == name))
}

#[test]
fn a_key_is_looked_for_in_the_table_of_its_own_section() {
    let page = "# C\n## Top level\n| `root` | x |\n## `[service.NAME]`\n| `user` | x |\n\
                ## `[service.NAME.health]`\nAlso `http`.\n| `rise`, `fall` | `root` |\n\
                ## `[schema]` in `release.toml`\n| `kind` | x |\n";
    let keys: &[(&str, &[&str])] = &[
        ("", &["root", "service", "user"]),
        ("service.NAME", &["user", "health", "rise"]),
        ("service.NAME.health", &["http", "rise", "fall", "root"]),
        ("release.toml.schema", &["kind"]),
        ("release.toml", &["env"]),
    ];
    let expected = [
        ": user",
        "service.NAME: rise",
        "service.NAME.health: http",
        "service.NAME.health: root",
        "release.toml: env",
    ];
    assert_eq!(missing(page, keys), expected);
}
