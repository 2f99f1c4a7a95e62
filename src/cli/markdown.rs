//! The Markdown of the reference on a terminal: headings bold, paragraphs and tables folded to its
//! width. Only what the reference uses: headings, paragraphs, lists, tables, blocks of code, links.

use comfy_table::{ContentArrangement, Table, presets};

const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// The text for a terminal of so many columns.
pub fn render(text: &str, n_columns: usize) -> String {
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            for code in lines.by_ref().take_while(|line| !line.starts_with("```")) {
                out.push_str(&format!("    {code}\n"));
            }
        } else if line.starts_with('#') {
            let heading = line.trim_start_matches('#').trim_start().replace('`', "");
            out.push_str(&format!("{BOLD}{heading}{PLAIN}\n"));
        } else if line.starts_with('|') {
            let mut rows = vec![line];
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(row);
            }
            out.push_str(&table(&rows, n_columns));
        } else if line.is_empty() {
            out.push('\n');
        } else {
            let mut paragraph = line.to_owned();
            let goes_on = |line: &&str| !line.is_empty() && marker(line) == 0 && !is_block(line);
            while let Some(line) = lines.next_if(goes_on) {
                paragraph.push(' ');
                paragraph.push_str(line.trim_start());
            }
            out.push_str(&fold(&links(&paragraph), marker(line), n_columns));
        }
    }
    out
}

fn is_block(line: &str) -> bool {
    line.starts_with(['|', '#']) || line.starts_with("```")
}

/// Length of a list's marker: `- `, `12. `.
fn marker(line: &str) -> usize {
    let n_digits = line.bytes().take_while(u8::is_ascii_digit).count();
    match (n_digits, &line[n_digits..]) {
        (0, rest) if rest.starts_with("- ") => 2,
        (1.., rest) if rest.starts_with(". ") => n_digits + 2,
        _ => 0,
    }
}

/// Words in lines of at most `n_columns`; those after the first are indented.
fn fold(text: &str, n_indent: usize, n_columns: usize) -> String {
    let mut out = String::new();
    let mut width = 0;
    for word in text.split_whitespace() {
        let n_chars = word.chars().count();
        if width > 0 && width + 1 + n_chars > n_columns {
            out.push_str(&format!("\n{:n_indent$}", ""));
            width = n_indent;
        } else if width > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += n_chars;
    }
    out.push('\n');
    out
}

fn table(rows: &[&str], n_columns: usize) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(n_columns).unwrap_or(u16::MAX));
    for (index, row) in rows.iter().enumerate() {
        let cells = row.trim_matches('|').split('|').map(|cell| links(cell.trim()));
        match index {
            0 => drop(table.set_header(cells)),
            // The line of dashes.
            1 => {}
            _ => drop(table.add_row(cells)),
        }
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// `[a](b)` as `a (b)`.
fn links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        let (Some((head, words)), Some((target, tail))) =
            (before.rsplit_once('['), after.split_once(')'))
        else {
            break;
        };
        out.push_str(&format!("{head}{words} ({target})"));
        rest = tail;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, n_columns: usize, expected: &str) {
        assert_eq!(render(text, n_columns), expected);
    }

    #[test]
    fn paragraphs_and_lists_are_folded_and_code_is_not() {
        check("a b\nc d e\n\nf\n", 5, "a b c\nd e\n\nf\n");
        check("- a b\n  c\n- d\n1. e f g", 5, "- a b\n  c\n- d\n1. e\n   f\n   g\n");
        check("```sh\na b c d e f\n```\ng", 5, "    a b c d e f\ng\n");
        check("# A `b`\n", 80, "\x1b[1mA b\x1b[0m\n");
        check("x [a](b) y [c] (d)", 80, "x a (b) y [c] (d)\n");
    }

    #[test]
    fn tables_are_folded_to_the_width() {
        let text = "| key | meaning |\n|---|---|\n| `a` | one two three four five six |\n";
        let shown = render(text, 24);
        assert!(shown.lines().all(|line| line.chars().count() <= 24), "{shown}");
        assert!(shown.contains("`a`") && !shown.contains("---|"), "{shown}");
        assert!(shown.lines().count() > 4, "{shown}");
    }

    #[test]
    fn every_topic_fits_a_narrow_terminal() {
        for topic in crate::docs::TOPICS {
            let shown = render(&topic.text(), 60).replace(BOLD, "").replace(PLAIN, "");
            let folded = shown.lines().filter(|line| !line.starts_with("    "));
            let wide: Vec<_> = folded.filter(|line| line.chars().count() > 60).collect();
            assert!(wide.is_empty() && !shown.contains("```"), "{}: {wide:?}", topic.name);
        }
    }
}
