//! What a program on a copy can change of the live database itself without ever being connected to it:
//! `ALTER DATABASE`, `COMMENT`, `GRANT`. It is compared before and after, and put back. Values of
//! settings may be secrets: none of them is printed.

use crate::supervisor::data::context::Context;
use crate::supervisor::data::driver::{Done, Trait};
use crate::supervisor::data::drivers::postgres_tools::{psql_quiet, text};
use crate::supervisor::data::drivers::postgres_url::Url;

const LIVE: &str = include_str!("postgres_live.sql");
/// Between the parts of a trait, and after each: values may have more than one line.
const PART: char = '\u{1f}';
const END: char = '\u{1e}';

/// What the live database is like now; nothing where there is none.
pub(super) async fn traits(context: &Context<'_>, url: &Url) -> Done<Vec<Trait>> {
    let query = LIVE.replace("= LIVE", &format!("= {}", text(&url.database)));
    let script = format!("\\pset recordsep '\\x1e'\n{query}");
    let said = psql_quiet(context, url, url.maintenance(), "the live database", &script).await?;
    Ok(parsed(&said))
}

/// Makes it as it was. What the service's role may not do stays as it is.
pub(super) async fn put_back(context: &Context<'_>, url: &Url, before: &[Trait]) -> Done {
    let now = traits(context, url).await?;
    let script = format!("\\set ON_ERROR_STOP 0\n{}", undone(before, &now));
    psql_quiet(context, url, url.maintenance(), "putting back", &script).await.map(drop)
}

fn parsed(said: &str) -> Vec<Trait> {
    let one = |record: &str| {
        let mut parts = record.splitn(3, PART).map(str::to_owned);
        Some(Trait { name: parts.next()?, made: parts.next()?, taken: parts.next()? })
    };
    said.trim_end_matches('\n').split(END).filter_map(one).collect()
}

/// Statements that make it as it was before.
fn undone(before: &[Trait], now: &[Trait]) -> String {
    let is_new = |it: &&Trait| !before.iter().any(|other| other.name == it.name);
    let taken = now.iter().filter(is_new).map(|it| &it.taken);
    let made = before.iter().filter(|it| !now.contains(it)).map(|it| &it.made);
    taken.chain(made).map(|statement| format!("{statement};\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_undone() {
        let before =
            parsed("a\u{1f}MAKE a\n1\u{1f}\u{1e}b\u{1f}MAKE b\u{1f}TAKE b\u{1e}c\u{1f}C\u{1f}\n");
        assert_eq!(before.len(), 3);
        let now =
            parsed("a\u{1f}MAKE a\n2\u{1f}\u{1e}c\u{1f}C\u{1f}\u{1e}d\u{1f}MAKE d\u{1f}TAKE d\n");
        assert_eq!(undone(&before, &now), "TAKE d;\nMAKE a\n1;\nMAKE b;\n");
        assert_eq!(undone(&now, &now), "");
    }
}
